"""ILIAS: objects, their positives by scale and clutter, and long lists of distractors."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

QUERIES = "cup/query/Q1.jpg,1\nball/query/Q0.jpg,1\n"
POSITIVES = """cup/pos/P1.jpg,0.07,17
ball/pos/P0.jpg,0.06880213760855042,18
cup/pos/P0.jpg,0.2729876723163842,53
cup/pos/P2.jpg,0.14,33
"""
DISTRACTORS = "000/b.jpg\n000/a.jpg\n001/c.jpg\n"


def written(root: Path, queries: str = QUERIES, positives: str = POSITIVES) -> Path:
    (root / "image_ids").mkdir(parents=True, exist_ok=True)
    (root / "image_ids/image_query_ids.txt").write_text(queries)
    (root / "image_ids/positive_ids.txt").write_text(positives)
    (root / "ilias_core").mkdir(exist_ok=True)
    return root


def with_distractors(root: Path, content: bytes = DISTRACTORS.encode()) -> Path:
    (root / "image_ids/distractor_ids.txt.gz").write_bytes(gzip.compress(content))
    return root


def refusal(path: Path, variant: str | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, "ilias", variant=variant)
    return str(caught.value)


def test_the_published_layout(tmp_path: Path) -> None:
    root = written(tmp_path / "ilias")
    judged = open_protocol(root)
    assert (judged.protocol, judged.name, judged.root) == ("ilias", "ILIAS (core)", root)
    assert judged.queries == ("ball/query/Q0.jpg", "cup/query/Q1.jpg")
    assert judged.gallery == (
        "ball/pos/P0.jpg",
        "cup/pos/P0.jpg",
        "cup/pos/P1.jpg",
        "cup/pos/P2.jpg",
    )
    assert judged.query_paths[0] == "ilias_core/ball/query/Q0.jpg"
    assert judged.gallery_paths[3] == "ilias_core/cup/pos/P2.jpg"
    assert [judged.positives.of_query(q).tolist() for q in (0, 1)] == [[0], [1, 2, 3]]
    assert judged.distractors == 0 and judged.own is None and judged.boxes == ()
    assert "no distractors" in judged.notes[0]


def test_groups_have_the_limits_of_the_authors(tmp_path: Path) -> None:
    groups = open_protocol(written(tmp_path)).groups
    # In the order of the positives: ball P0, cup P0, cup P1, cup P2. A limit belongs to the group
    # that it begins.
    assert groups["scale"] == ("0 to 0.069", "0.273 and more", "0.069 to 0.135", "0.135 to 0.273")
    assert groups["clutter"] == ("18 to 32", "53 and more", "0 to 17", "33 to 52")


def test_distractors_come_last(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path))
    (root / "yfcc100m").mkdir()
    assert open_protocol(root).distractors == 0
    judged = open_protocol(root, variant="full")
    assert judged.distractors == 3 and judged.notes == ()
    assert judged.gallery[4:] == ("000/b.jpg", "000/a.jpg", "001/c.jpg")
    assert judged.gallery_paths[3:5] == ("ilias_core/cup/pos/P2.jpg", "yfcc100m/000/b.jpg")
    assert [judged.positives.of_query(q).tolist() for q in (0, 1)] == [[0], [1, 2, 3]]


def test_the_mini_list(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path))
    assert 'no image_ids/list with "mini"' in refusal(root, "mini")
    mini = root / "image_ids/mini_distractor_ids.txt"
    mini.write_text("001/c\n")
    judged = open_protocol(root, variant="mini")
    assert judged.gallery[4:] == ("001/c",)
    assert judged.gallery_paths[4:] == ("001/c.jpg",)
    (root / "image_ids/ilias_mini.txt.gz").write_bytes(gzip.compress(b"001/c\n"))
    message = refusal(root, "mini")
    assert "2 lists" in message and "mini_distractor_ids.txt" in message and "keep one" in message


def test_other_paths_of_the_set(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path / "ilias"))
    assert open_protocol(root / "image_ids").root == root
    assert open_protocol(root / "ilias_core").root == root
    photos = tmp_path / "disk"
    photos.mkdir()
    judged = open_protocol(root, photos=photos, variant="full")
    assert judged.root == photos
    assert judged.gallery_paths == judged.gallery
    assert all(a is b for a, b in zip(judged.gallery, judged.gallery_paths, strict=True))


def test_long_lists_cost_no_more_than_their_ids(tmp_path: Path) -> None:
    number = 200_000
    content = "".join(f"{row:08d}/{row}.jpg\n" for row in range(number)).encode()
    root = with_distractors(written(tmp_path), content)
    ids = [f"{row:08d}/{row}.jpg" for row in range(number)]
    needed = sum(each.__sizeof__() for each in ids)
    tracemalloc.start()
    try:
        judged = open_protocol(root, variant="full")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert judged.distractors == number
    # Two tuples of eight bytes a photo besides.
    assert held < needed * 1.1 + 2 * 8 * number


def test_not_recognised(tmp_path: Path) -> None:
    root = written(tmp_path / "ilias")
    assert find_protocol(tmp_path) is None
    found = find_protocol(root)
    assert found is not None and found.name == "ilias"
    (root / "image_ids/positive_ids.txt").unlink()
    assert find_protocol(root) is None
    message = refusal(root)
    assert (
        "no image_ids/positive_ids.txt" in message and "Found: ilias_core/, image_ids/" in message
    )


def test_missing_distractors(tmp_path: Path) -> None:
    assert "no image_ids/distractor_ids.txt.gz" in refusal(written(tmp_path), "full")


@pytest.mark.parametrize(
    ("queries", "positives", "message"),
    [
        ("", POSITIVES, "image_query_ids.txt: no id"),
        (QUERIES, "\n\n", "positive_ids.txt: no id"),
        (QUERIES, POSITIVES + "cup/pos/P9.jpg,0.1\n", "line 5: 2 fields; wanted an id, a scale"),
        (QUERIES, POSITIVES + "cup/pos/P9.jpg,nan,3\n", "line 5: the scale 'nan'"),
        (QUERIES, POSITIVES + "cup/pos/P9.jpg,0.1,2.5\n", "the clutter '2.5'"),
        (QUERIES, POSITIVES + "cup/pos/P9.jpg,-0.1,2\n", "neither below 0"),
        (QUERIES, POSITIVES + "cup/pos/P1.jpg,0.1,2\n", "line 5: cup/pos/P1.jpg is already"),
        (QUERIES, POSITIVES + "P9.jpg,0.1,2\n", "line 5: the id 'P9.jpg'; wanted the object"),
        (QUERIES, POSITIVES + "/P9.jpg,0.1,2\n", "line 5: the id '/P9.jpg'"),
        (QUERIES + QUERIES, POSITIVES, "2 ids of the queries twice"),
        (QUERIES + "hat/query/Q2.jpg,1\n", POSITIVES, "the object of hat/query/Q2.jpg has no"),
        (QUERIES, POSITIVES + "cup/../../x.jpg,0.1,2\n", "leads out of the folder"),
        (QUERIES + "x" * 5000, POSITIVES, "line 3: longer than 4,096 bytes"),
    ],
)
def test_bad_lists(tmp_path: Path, queries: str, positives: str, message: str) -> None:
    assert message in refusal(written(tmp_path, queries, positives))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"000/a.jpg\n000/b.jpg\n000/a.jpg\n", "1 id of the distractors twice (000/a.jpg)"),
        (b"000/a.jpg\ncup/pos/P1.jpg\n", "line 2: cup/pos/P1.jpg is a positive too"),
        (b"000/a.jpg\n/etc/x.jpg\n", "the path '/etc/x.jpg' leads out"),
        (b"000/a.jpg\n../x.jpg\n", "the path '../x.jpg' leads out"),
        (b"000/a.jpg\n\xff\xfe\n", "line 2: not UTF-8"),
        (b"", "distractor_ids.txt.gz: no id"),
    ],
)
def test_bad_distractors(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(with_distractors(written(tmp_path), content), "full")


@pytest.mark.parametrize("damage", ["cut", "text", "flipped"])
def test_a_list_that_does_not_decompress(tmp_path: Path, damage: str) -> None:
    root = with_distractors(written(tmp_path), "".join(f"{i:x}/a\n" for i in range(9999)).encode())
    file = root / "image_ids/distractor_ids.txt.gz"
    packed = bytearray(file.read_bytes())
    if damage == "cut":
        del packed[-100:]
    elif damage == "text":
        packed = bytearray(DISTRACTORS.encode())
    else:
        packed[40:80] = b"\xff" * 40
    file.write_bytes(packed)
    message = refusal(root, "full")
    assert "not decompressed" in message and "fetch it again" in message
