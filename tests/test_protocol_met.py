"""The Met: queries of exhibits and of none, against the photos of all exhibits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

DATABASE = [
    {"id": 10, "path": "MET/10/0.jpg"},
    {"id": 20, "path": "MET/20/0.jpg"},
    {"id": 10, "path": "MET/10/1.jpg"},
]
TEST = [
    {"path": "test_met/0.jpg", "MET_id": 10},
    {"path": "test_other/0.jpg"},
    {"path": "test_noart/0.jpg", "MET_id": None},
    {"path": "test_met/1.jpg", "MET_id": 20},
]
VAL = [{"path": "val_met/0.jpg", "MET_id": 20}]


def written(root: Path, folder: str = "ground_truth", **changes: Any) -> Path:
    """Write the lists; a text is written as it is."""
    contents = {"MET_database": DATABASE, "testset": TEST, "valset": VAL} | changes
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (root / folder / f"{name}.json").write_text(text)
    return root


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, "met", **options)
    return str(caught.value)


def test_the_published_layout(tmp_path: Path) -> None:
    root = written(tmp_path / "met")
    judged = open_protocol(root)
    assert (judged.protocol, judged.name, judged.root) == ("met", "The Met (test)", root)
    assert judged.queries == judged.query_paths == tuple(str(row["path"]) for row in TEST)
    assert (
        judged.gallery == judged.gallery_paths == ("MET/10/0.jpg", "MET/20/0.jpg", "MET/10/1.jpg")
    )
    assert judged.query_labels == ("10", None, None, "20")
    assert judged.gallery_labels == ("10", "20", "10")
    assert [judged.positives.of_query(q).tolist() for q in range(4)] == [[0, 2], [], [], [1]]
    assert judged.own is None and judged.problems == ()


def test_the_other_paths_of_the_set(tmp_path: Path) -> None:
    root = written(tmp_path / "met")
    assert open_protocol(root / "ground_truth").root == root
    val = open_protocol(root / "ground_truth/valset.json")
    assert (val.name, val.root, val.queries) == ("The Met (val)", root, ("val_met/0.jpg",))
    flat = written(tmp_path / "flat", folder="")
    assert open_protocol(flat).root == flat
    assert open_protocol(root, photos=tmp_path / "disk").root == tmp_path / "disk"


def test_variants(tmp_path: Path) -> None:
    mini = [{"id": 20, "path": "MET/20/0.jpg"}, {"id": 30, "path": "MET/30/0.jpg"}]
    root = written(tmp_path, mini_MET_database=mini)
    assert open_protocol(root, variant="val").queries == ("val_met/0.jpg",)
    judged = open_protocol(root, variant="mini")
    assert judged.gallery_labels == ("20", "30")
    assert judged.query_labels == (None, None, None, "20")
    assert [judged.positives.of_query(q).tolist() for q in range(4)] == [[], [], [], [0]]
    assert judged.problems == (
        "1 query of an exhibit that mini_MET_database.json lacks (MET_id 10): counted as "
        "distractor queries",
    )
    val = open_protocol(root, variant="mini-val")
    assert (val.queries, val.gallery_labels) == (("val_met/0.jpg",), ("20", "30"))


def test_the_files_show_the_variant(tmp_path: Path) -> None:
    root = written(tmp_path, mini_MET_database=DATABASE)
    (root / "ground_truth/MET_database.json").unlink()
    assert open_protocol(root).name == "The Met (mini)"
    (root / "ground_truth/testset.json").unlink()
    assert open_protocol(root).name == "The Met (mini-val)"


def test_not_recognised(tmp_path: Path) -> None:
    root = written(tmp_path / "met")
    assert find_protocol(root / "ground_truth/MET_database.json") is None
    for name in ("testset", "valset"):
        (root / f"ground_truth/{name}.json").unlink()
    assert find_protocol(root) is None
    assert find_protocol(tmp_path) is None


def test_a_missing_file(tmp_path: Path) -> None:
    root = written(tmp_path)
    message = refusal(root, variant="mini")
    assert "no mini_MET_database.json" in message and "test_noart/" in message
    (root / "ground_truth/MET_database.json").unlink()
    assert "no MET_database.json" in refusal(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"testset": []}, "testset.json: the list is empty"),
        ({"MET_database": []}, "MET_database.json: the list is empty"),
        ({"testset": ""}, "testset.json: not valid JSON"),
        ({"testset": "[{"}, "testset.json: not valid JSON"),
        ({"testset": {"path": "a"}}, "testset.json: Expected `array`, got `object`; wanted a list"),
        ({"testset": [{"MET_id": 10}]}, "required field `path`"),
        ({"testset": [{"path": "a.jpg", "MET_id": 1.5}]}, "MET_id"),
        ({"MET_database": [{"path": "a.jpg"}]}, 'wanted a list of tables with "id" and "path"'),
        ({"MET_database": '[{"id": NaN, "path": "a.jpg"}]'}, "NaN is no finite number"),
        (
            {"MET_database": [*DATABASE, DATABASE[0]]},
            "MET_database.json: 1 id of the gallery photos twice (MET/10/0.jpg)",
        ),
        ({"testset": [TEST[0], TEST[0]]}, "1 id of the queries twice (test_met/0.jpg)"),
        (
            {"testset": [{"path": "test_met/0.jpg", "MET_id": 77}]},
            "1 query of an exhibit that MET_database.json lacks (MET_id 77); are both files",
        ),
        (
            {"testset": [TEST[0], {"path": "../x.jpg"}]},
            "testset.json, [1].path: the path '../x.jpg' leads out of the folder",
        ),
        (
            {"MET_database": [*DATABASE, {"id": 1, "path": "/etc/x.jpg"}]},
            "[3].path: the path '/etc/x.jpg'",
        ),
    ],
)
def test_bad_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refusal(written(tmp_path, **changes))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    root = written(tmp_path)
    (root / "ground_truth/testset.json").write_bytes(b'[{"path": "\xff\xff.jpg"}]')
    assert "testset.json: not valid JSON" in refusal(root)


def test_exhibits_named_by_texts(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        MET_database=[{"id": "10", "path": "a.jpg"}],
        testset=[{"path": "q.jpg", "MET_id": 10}],
    )
    assert open_protocol(root).positives.of_query(0).tolist() == [0]
