"""ILIAS: objects, their positives by scale and clutter, and long lists of distractors."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import DescribedEncoder, save_view, view

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError
from veduta.evaluation import evaluate_protocol, protocol_run

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


def tar(file: Path, **members: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def with_boxes(root: Path, **content: str) -> Path:
    """Write the boxes of the two queries, `Q0` and `Q1`."""
    for name, text in content.items():
        file = root / f"ilias_core/{'ball' if name == 'Q0' else 'cup'}/query/{name}_bbox.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: folder / "veduta")
    return folder / "veduta" / "evaluate" / "unpacked"


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
    mini = root / "image_ids/mini_ilias_yfcc100m_ids.txt"
    mini.write_text("001/c\n")
    judged = open_protocol(root, variant="mini")
    assert judged.gallery[4:] == ("001/c",)
    assert judged.gallery_paths[4:] == ("001/c.jpg",)
    (root / "image_ids/ilias_mini.txt.gz").write_bytes(gzip.compress(b"001/c\n"))
    message = refusal(root, "mini")
    assert (
        "2 lists" in message and "mini_ilias_yfcc100m_ids.txt" in message and "keep one" in message
    )


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


# Boxes


def test_queries_may_be_cut_to_their_boxes(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path))
    with_boxes(root, Q0="10 20 30 40\n", Q1="10 20\t30 40\n\n  5 30 10 5 \n-2 25 3 90\n")
    # (10, 20) to (40, 60), (5, 30) to (15, 35) and (-2, 25) to (1, 115).
    expected = ((10, 20, 30, 40), (-2, 20, 42, 95))
    judged = open_protocol(root, variant="core-boxes")
    assert judged.queries == ("ball/query/Q0.jpg", "cup/query/Q1.jpg")
    assert judged.boxes == expected
    assert judged.name == "ILIAS (core, queries cut to their boxes)"
    assert judged.notes == open_protocol(root).notes
    full = open_protocol(root, variant="full-boxes")
    assert (full.boxes, full.distractors) == (expected, 3)
    (root / "image_ids/mini.txt").write_text("a\n")
    assert open_protocol(root, variant="mini-boxes").boxes == expected
    assert open_protocol(root, variant="mini").boxes == ()


def test_missing_boxes_are_counted(tmp_path: Path) -> None:
    queries = "".join(f"cup/query/Q{number}.jpg,1\n" for number in range(7))
    root = with_boxes(written(tmp_path, queries), Q1="1 2 3 4")
    message = refusal(root, "core-boxes")
    assert "no file of boxes for 6 of 7 queries (ilias_core/cup/query/Q0_bbox.txt, " in message
    assert "Q5_bbox.txt, and 1 more); unpack ilias_core.tar again" in message
    assert open_protocol(root).boxes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no box"),
        (" \n\n", "no box"),
        ("1 2 3 4\n1 2 3\n", "line 2: '1 2 3'; wanted four whole numbers"),
        ("1 2 3 4 5\n", "line 1: '1 2 3 4 5'; wanted"),
        ("1 2 3 4.5\n", "line 1: '1 2 3 4.5'; wanted"),
        ("1,2,3,4\n", "line 1: '1,2,3,4'; wanted"),
        ("1 2 3 1_0\n", "line 1: '1 2 3 1_0'; wanted"),
        ("1 2 3 \u0664\n", "wanted four whole numbers"),
        ("nan 2 3 4\n", "line 1: 'nan 2 3 4'; wanted"),
        ("1 2 3 99999999999999999999\n", "wanted four whole numbers"),
        ("1 2 3 4\n1 2 -3 4\n", "line 2: the box (1, 2, -3, 4) is empty or outside"),
        ("1 2 3 0\n", "line 1: the box (1, 2, 3, 0) is empty or outside"),
        ("-5 2 5 9\n", "line 1: the box (-5, 2, 5, 9) is empty or outside its photo"),
        ("1 2 3 4" + " " * 9999, "line 1: longer than 4,096 bytes"),
    ],
)
def test_bad_boxes(tmp_path: Path, content: str, message: str) -> None:
    root = with_boxes(written(tmp_path), Q0="1 2 3 4", Q1=content)
    said = refusal(root, "core-boxes")
    assert message in said and "cup/query/Q1_bbox.txt" in said


# Distractors in tar files


def test_distractors_in_tar_files_are_unpacked(tmp_path: Path, cache: Path) -> None:
    root = written(tmp_path / "ilias")
    with_distractors(root, b"y_0.tar/a\ny_1.tar/a\ny_1.tar/none\n")
    tar(root / "yfcc100m/y_0.tar", a=b"0a", b=b"0b")
    tar(root / "yfcc100m/y_1.tar", a=b"1a", b=b"1b")
    assert open_protocol(root).unpack is None
    judged = open_protocol(root, variant="full")
    assert judged.root == root and not cache.exists()
    assert judged.gallery[4:] == ("y_0.tar/a", "y_1.tar/a", "y_1.tar/none")
    assert judged.query_paths[0] == "ilias_core/ball/query/Q0.jpg"
    assert judged.gallery_paths[3] == "ilias_core/cup/pos/P2.jpg"
    assert judged.unpack is not None
    judged.unpack(None)
    files = [Path(path) for path in judged.gallery_paths[4:]]
    assert {file.parents[1].parent for file in files} == {cache}
    assert [file.read_bytes() for file in files[:2]] == [b"0a", b"1a"]
    assert judged.missing_photos()[1][4:] == ["y_1.tar/none"]
    # Another state of the files is another folder.
    tar(root / "yfcc100m/y_2.tar")
    assert open_protocol(root, variant="full").gallery_paths[4] != judged.gallery_paths[4]


@pytest.mark.parametrize("folder", ["yfcc100m", "distractors", "."])
def test_the_mini_list_has_no_shards(tmp_path: Path, folder: str) -> None:
    root = written(tmp_path / "ilias")
    (root / "image_ids/mini_ilias_yfcc100m_ids.txt").write_text("b\nc\n")
    photos = tmp_path / "photos"
    tar(photos / folder / "y_0.tar", a=b"0a", b=b"0b")
    tar(photos / folder / "y_1.tar", c=b"1c")
    tar(photos / folder / "ilias_core.tar", b=b"not this one")
    judged = open_protocol(root, photos=photos, variant="mini")
    assert judged.unpack is not None
    judged.unpack(None)
    assert [Path(path).read_bytes() for path in judged.gallery_paths[4:]] == [b"0b", b"1c"]


def test_photos_that_are_unpacked_are_taken_as_they_are(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path / "ilias"), b"y_0.tar/a\ny_0.tar/b\n")
    tar(root / "yfcc100m/y_0.tar", a=b"0a")
    assert open_protocol(root, variant="full").unpack is not None
    (root / "yfcc100m/y_0").mkdir()
    (root / "yfcc100m/y_0/a.jpg").write_bytes(b"")
    judged = open_protocol(root, variant="full")
    assert judged.unpack is None
    assert judged.gallery[4:] == ("y_0.tar/a", "y_0.tar/b")
    assert judged.gallery_paths[4:] == ("yfcc100m/y_0/a.jpg", "yfcc100m/y_0/b.jpg")
    (root / "yfcc100m/y_0.tar").unlink()
    (root / "yfcc100m/y_0.tar").mkdir()
    (root / "yfcc100m/y_0.tar/a.jpg").write_bytes(b"")
    judged = open_protocol(root, variant="full")
    assert judged.gallery_paths[4:] == ("yfcc100m/y_0.tar/a.jpg", "yfcc100m/y_0.tar/b.jpg")


def test_without_the_core_photos_a_tar_file_of_them_is_none_of_distractors(tmp_path: Path) -> None:
    root = with_distractors(written(tmp_path))
    tar(root / "ilias_core.tar", a=b"")
    assert open_protocol(root, variant="full").unpack is None


# Whole evaluations


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two objects with photos, and two distractors in tar files of which one is in no list."""
    root = with_distractors(written(tmp_path / "ilias"), b"y_0.tar/a\ny_1.tar/a\n")
    for scene, (name, queries, positives) in enumerate(
        (("ball", ["Q0"], ["P0"]), ("cup", ["Q1"], ["P0", "P1", "P2"]))
    ):
        for number, query in enumerate(queries):
            save_view(root / f"ilias_core/{name}/query/{query}.jpg", scene, number)
        for number, positive in enumerate(positives, 1):
            save_view(root / f"ilias_core/{name}/pos/{positive}.jpg", scene, number)
    for shard in (0, 1):
        files = [save_view(tmp_path / f"{name}.jpg", 5 + shard, name == "b") for name in "ab"]
        members = {file.stem: file.read_bytes() for file in files}
        tar(root / f"yfcc100m/y_{shard}.tar", **members)
    encoder = DescribedEncoder()
    monkeypatch.setattr(protocol_run, "load_encoder", lambda *_, **__: encoder)
    return root


def map_of(found: Any) -> float:
    return dict(found.figures.figures)["map1000"].value


def measured(root: Path, variant: str, **options: Any) -> Any:
    return evaluate_protocol(root, variant=variant, encoder="tiny", **options)


def test_an_evaluation_unpacks_what_it_needs(photos: Path, cache: Path) -> None:
    stages: list[str] = []
    found = measured(photos, "full", on_progress=lambda stage, *_: stages.append(stage))
    assert map_of(found) == 1.0
    assert found.judged.distractors == 2 and found.problems == ()
    assert list(dict.fromkeys(stages))[:2] == ["Reading tar files", "Unpacking photos"]
    assert len([file for file in cache.rglob("*") if file.is_file()]) == 2
    assert {len(ranked) for ranked in found.ranked_lists().values()} == {6}
    again: list[str] = []
    measured(photos, "full", on_progress=lambda stage, *_: again.append(stage))
    assert "Unpacking photos" not in again


def test_distractors_that_no_tar_file_has_are_missing(photos: Path) -> None:
    with_distractors(photos, b"y_0.tar/a\ny_1.tar/z\n")
    with pytest.raises(DatasetError, match=r"missing: 1 of 6 gallery photos \(y_1.tar/z\)"):
        measured(photos, "full")
    found = measured(photos, "full", allow_missing=True)
    assert found.judged.distractors == 1
    assert "do not compare with published ones" in found.problems[0]


def test_a_query_is_cut_to_its_boxes(photos: Path) -> None:
    from PIL import Image

    # The query of the ball is a corner of a photo that shows a cup otherwise.
    whole = Image.fromarray(view(1, 7))
    width, height = whole.size
    ball = Image.fromarray(view(0, 0))
    whole = whole.resize((width * 2, height * 2))
    whole.paste(ball, (width, height))
    whole.save(photos / "ilias_core/ball/query/Q0.jpg", quality=95)
    with_boxes(photos, Q0=f"{width} {height} 9 9\n{width + 5} {height + 5} {width} {height}\n")
    with_boxes(photos, Q1=f"0 0 {width} {height}")
    cut = measured(photos, "core-boxes")
    assert map_of(cut) == 1.0
    # The second box leaves the photo by five pixels.
    (problem,) = cut.problems
    assert "Q0.jpg: the box" in problem and "cut to it" in problem
    assert map_of(measured(photos, "core")) < 1.0
    with_boxes(photos, Q1=f"{width * 3} 0 9 9")
    with pytest.raises(DatasetError, match=r"Q1.jpg: the box .* is empty or outside the photo"):
        measured(photos, "core-boxes")


def described(file: Path, **rows: list[float]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as target:
        target["index"] = np.array([each.encode() for each in rows])
        values = np.array(list(rows.values()), np.float16)
        target.create_dataset("features", data=values, compression="gzip")
    return file


@pytest.fixture
def given(tmp_path: Path) -> list[Path]:
    """Descriptors as the authors write them: queries, positives, and two files of distractors."""
    positives = {
        "ball/pos/P0.jpg": [1.0, 0.1, 0],
        "cup/pos/P0.jpg": [0, 1.0, 0],
        "cup/pos/P1.jpg": [0, 1.0, 0.1],
        "cup/pos/P2.jpg": [0, 0, -1.0],
    }
    return [
        described(
            tmp_path / "features_image_queries.hdf5",
            **{"ball/query/Q0.jpg": [1.0, 0, 0], "cup/query/Q1.jpg": [0, 1.0, 0]},
        ),
        described(tmp_path / "features_positives.hdf5", **positives),
        described(
            tmp_path / "features_distractors_00000.hdf5",
            **{"y_0.tar/0a": [1.0, 0, 0], "y_0.tar/0b": [0, 0, 1.0]},
        ),
        described(tmp_path / "features_distractors_00001.hdf5", **{"y_1.tar/1a": [0, 0.5, 0.5]}),
    ]


def test_descriptors_of_the_authors_in_several_files(
    tmp_path: Path, given: list[Path], cache: Path
) -> None:
    root = with_distractors(written(tmp_path / "ilias"), b"y_0.tar/0a\ny_0.tar/0b\ny_1.tar/1a\n")
    # Descriptors need no photo, so the tar files are not opened.
    (root / "yfcc100m").mkdir()
    (root / "yfcc100m/y_0.tar").write_bytes(b"damaged")
    found = evaluate_protocol(root, variant="full", descriptors=given)
    assert found.problems == () and not cache.exists()
    assert found.ranked_lists()["ball/query/Q0.jpg"][:2] == ["y_0.tar/0a", "ball/pos/P0.jpg"]
    # Ball: the only right photo is the second of all. Cup: two right photos, a distractor, and the
    # last one after all distractors, of which three have its score and come later.
    ball, cup = 1 / 2, (1 + 1 + 3 / 5) / 3
    assert found.ranked_lists()["cup/query/Q1.jpg"][2:5] == [
        "y_1.tar/1a",
        "ball/pos/P0.jpg",
        "cup/pos/P2.jpg",
    ]
    assert map_of(found) == pytest.approx((ball + cup) / 2)
    with pytest.raises(DatasetError, match=r"no descriptor for 1 of 7 photos \(y_1.tar/1a\)"):
        evaluate_protocol(root, variant="full", descriptors=given[:3])


def test_the_mini_list_takes_descriptors_that_name_shards(
    tmp_path: Path, given: list[Path]
) -> None:
    root = written(tmp_path / "ilias")
    (root / "image_ids/mini_ilias_yfcc100m_ids.txt").write_text("0a\n1a\n")
    found = evaluate_protocol(root, variant="mini", descriptors=given)
    assert found.ranked_lists()["ball/query/Q0.jpg"][:2] == ["0a", "ball/pos/P0.jpg"]
    assert found.problems == (
        "2 photos found by the last part of the path only, such as 0a as y_0.tar/0a.",
    )
