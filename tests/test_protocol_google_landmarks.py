"""Google Landmarks v2 with its photos on disk: the lists become queries, a gallery and answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.datasets.protocols.google_landmarks import recognition_dataset
from veduta.errors import DatasetError

INDEX = "id\n0002b0\n0013a1\nfff999\n"
TEST = "id\n00aa11\n00bb22\n00cc33\n00dd44\n"
SOLUTION = """id,images,Usage
00aa11,fff999 0002b0,Public
00bb22,0013a1,Private
00cc33,None,Ignored
00dd44,None,Private
"""


def written(root: Path, index: str = INDEX, solution: str = SOLUTION, test: str = TEST) -> Path:
    root.mkdir(exist_ok=True)
    (root / "index.csv").write_text(index)
    (root / "test.csv").write_text(test)
    (root / "retrieval_solution_v2.1.csv").write_text(solution)
    return root


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, "google-landmarks", **options)
    return str(caught.value)


def test_the_published_layout(tmp_path: Path) -> None:
    root = written(tmp_path / "gld")
    judged = open_protocol(root)
    assert (judged.protocol, judged.root) == ("google-landmarks", root)
    assert judged.queries == ("00aa11", "00bb22", "00dd44")
    assert judged.gallery == ("0002b0", "0013a1", "fff999")
    assert judged.query_paths[0] == "test/0/0/a/00aa11.jpg"
    assert judged.gallery_paths[2] == "index/f/f/f/fff999.jpg"
    assert [judged.positives.of_query(q).tolist() for q in range(3)] == [[0, 2], [1], []]
    assert judged.own is None and judged.junk is None and judged.distractors == 0


@pytest.mark.parametrize(
    ("variant", "queries"),
    [
        ("all", ("00aa11", "00bb22", "00dd44")),
        ("public", ("00aa11",)),
        ("private", ("00bb22", "00dd44")),
    ],
)
def test_variants(tmp_path: Path, variant: str, queries: tuple[str, ...]) -> None:
    judged = open_protocol(written(tmp_path), variant=variant)
    assert judged.queries == queries
    assert variant in judged.name


def test_lists_in_the_folders_of_the_publishers(tmp_path: Path) -> None:
    root = written(tmp_path / "gld")
    (root / "metadata").mkdir()
    (root / "ground_truth").mkdir()
    for name in ("index.csv", "test.csv"):
        (root / name).rename(root / "metadata" / name)
    solution = root / "ground_truth" / "retrieval_solution_v2.1.csv"
    (root / "retrieval_solution_v2.1.csv").rename(solution)
    whole = open_protocol(root)
    assert whole.gallery == ("0002b0", "0013a1", "fff999")
    assert open_protocol(solution).root == root == open_protocol(root / "ground_truth").root
    assert open_protocol(solution).queries == whole.queries


def test_photos_elsewhere(tmp_path: Path) -> None:
    judged = open_protocol(written(tmp_path / "gld"), photos=tmp_path / "disk")
    assert judged.root == tmp_path / "disk"


def test_several_solutions_are_named(tmp_path: Path) -> None:
    root = written(tmp_path)
    older = root / "retrieval_solution_v2.csv"
    older.write_text("id,images,Usage\n00aa11,0002b0,Public\n")
    message = refusal(root)
    assert "2 solutions (retrieval_solution_v2.1.csv, retrieval_solution_v2.csv)" in message
    assert "name the file" in message
    assert open_protocol(older).queries == ("00aa11",)


def test_not_recognised(tmp_path: Path) -> None:
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "none") is None
    assert find_protocol(tmp_path / "a\0b") is None
    (tmp_path / "index.csv").write_text(INDEX)
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "index.csv") is None
    written(tmp_path)
    found = find_protocol(tmp_path)
    assert found is not None and found.name == "google-landmarks"


def test_a_missing_file(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "index.csv").unlink()
    message = refusal(tmp_path)
    assert "no index.csv" in message and "test/0/0/0/" in message and "Found: retrieval_" in message
    (tmp_path / "retrieval_solution_v2.1.csv").unlink()
    assert "no retrieval_solution*.csv" in refusal(tmp_path)


def test_the_list_of_test_photos_is_optional(tmp_path: Path) -> None:
    root = written(tmp_path)
    (root / "test.csv").unlink()
    assert len(open_protocol(root).queries) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "id\n0002b0\n0013a1\n"}, "query 00aa11: 1 unknown gallery photo (fff999)"),
        ({"test": "id\n00aa11\n"}, "compared with test.csv: 2 unknown ids (00bb22, 00dd44)"),
        ({"index": INDEX + "0002b0\n"}, "index.csv, line 5: 0002b0 is already on line 2"),
        ({"index": "id\n"}, "index.csv: no photo"),
        ({"index": "id\n../../x\n"}, "index.csv: no photo can have the id '../../x'"),
        ({"index": "id\nab\n"}, "at least three letters or digits"),
        (
            {"solution": "id,images,Usage\n00aa11,fff999 fff999,Public\n"},
            "query 00aa11: fff999 comes twice",
        ),
        ({"solution": "id,images,Usage\n00aa11,fff999,Secret\n"}, "line 2: unknown usage 'Secret'"),
        ({"solution": ""}, "line 1: no column 'id'"),
        ({"solution": "id,images,Usage\n00aa11,None,Ignored\n"}, "no query to score"),
    ],
)
def test_bad_lists(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    assert message in refusal(written(tmp_path, **changes))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "index.csv").write_bytes(b"id\n0002b0\n\xff\xfe\n")
    assert "index.csv, line 3: not UTF-8" in refusal(tmp_path)


def test_a_variant_without_queries(tmp_path: Path) -> None:
    root = written(tmp_path, solution="id,images,Usage\n00aa11,fff999,Public\n")
    assert "no query with the usage Private" in refusal(root, variant="private")


def test_the_photos_to_recognise(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("id,url,landmark_id\nabc1,u,7\nabc2,u,8\n")
    solution = tmp_path / "recognition_solution_v2.1.csv"
    solution.write_text("id,landmarks,Usage\nqqq1,7,Public\nqqq2,,Private\nqqq3,9 8,Private\n")
    read = recognition_dataset(tmp_path)
    assert read is not None
    assert read.paths == (
        "train/a/b/c/abc1.jpg",
        "train/a/b/c/abc2.jpg",
        "test/q/q/q/qqq1.jpg",
        "test/q/q/q/qqq2.jpg",
        "test/q/q/q/qqq3.jpg",
    )
    assert read.labels == ("7", "8", "7", None, "8")
    assert read.splits == ("gallery", "gallery", "query", "unknown", "query")
    assert read.problems == (
        "1 query with several landmarks: only one that the gallery has counts as right",
    )
    shutil.copy(solution, tmp_path / "recognition_solution_v2.0.csv")
    with pytest.raises(DatasetError, match="2 solutions"):
        recognition_dataset(tmp_path)


def test_a_folder_without_these_lists_is_not_recognised(tmp_path: Path) -> None:
    assert recognition_dataset(tmp_path) is None
    assert recognition_dataset(tmp_path / "nothing") is None
