"""Labels that a person gave stay, whatever later runs of the index read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import TinyEncoder, save

from veduta.errors import DatasetError, IndexDamaged, QueryError
from veduta.index import create_index, edit_labels, open_snapshot, update_index
from veduta.index.label_edits import LABEL_EDITS_FILE


@pytest.fixture
def index(tmp_path: Path) -> Path:
    for number, folder in enumerate(("dome", "dome", "tower")):
        save(tmp_path / f"photos/{folder}/{number}.png", number)
    create_index(tmp_path / "index", TinyEncoder())
    update(tmp_path / "index", labels="folders")
    return tmp_path / "index"


def update(index: Path, **options: object) -> None:
    options.setdefault("allow_label_loss", True)
    update_index(index, [index.parent / "photos"], TinyEncoder(), **options)  # type: ignore[arg-type]


def labels(index: Path) -> dict[str, str | None]:
    rows = open_snapshot(index).rows
    names = [Path(path.decode()).name for path in rows["path"].to_pylist()]
    return dict(zip(names, rows["label"].to_pylist(), strict=True))


def ids(index: Path) -> dict[str, int]:
    rows = open_snapshot(index).rows
    names = [Path(path.decode()).name for path in rows["path"].to_pylist()]
    return dict(zip(names, rows["id"].to_pylist(), strict=True))


def test_an_edit_says_what_it_changed_and_can_be_undone(index: Path) -> None:
    number = ids(index)
    changes = edit_labels(index, {number["2.png"]: " gate ", number["0.png"]: None})
    assert [(one.label, one.previous) for one in changes] == [("gate", "tower"), (None, "dome")]
    assert labels(index) == {"0.png": None, "1.png": "dome", "2.png": "gate"}
    edit_labels(index, {one.id: one.previous for one in changes})
    assert labels(index) == {"0.png": "dome", "1.png": "dome", "2.png": "tower"}


def test_edits_go_before_folders_in_later_runs(index: Path) -> None:
    edit_labels(index, {ids(index)["0.png"]: "gate", ids(index)["1.png"]: None})
    save(index.parent / "photos/tower/new.png", 9)
    update(index)
    assert labels(index) == {"0.png": "gate", "1.png": None, "2.png": "tower", "new.png": "tower"}
    update(index, labels="folders", reread=True)
    assert labels(index)["0.png"] == "gate"
    save(index.parent / "photos/dome/0.png", 77)  # another content
    update(index)
    assert labels(index)["0.png"] == "gate"


def test_an_edit_follows_a_moved_photo(index: Path) -> None:
    edit_labels(index, {ids(index)["0.png"]: "gate"})
    photos = index.parent / "photos"
    (photos / "dome/0.png").rename(photos / "tower/moved.png")
    update(index)
    update(index, reread=True)
    assert labels(index)["moved.png"] == "gate"
    save(photos / "dome/0.png", 50)  # Another photo in the old place has the label of the folder.
    update(index)
    assert labels(index)["0.png"] == "dome"


def test_labels_none_takes_edits_away_too(index: Path) -> None:
    edit_labels(index, {ids(index)["0.png"]: "gate"})
    with pytest.raises(DatasetError, match="Nothing was changed"):
        update(index, labels="none", allow_label_loss=False)
    assert labels(index)["0.png"] == "gate"
    assert (index / LABEL_EDITS_FILE).exists()
    update(index, labels="none")
    assert set(labels(index).values()) == {None}
    update(index, labels="folders")
    assert labels(index)["0.png"] == "dome"


def test_impossible_edits_change_nothing(index: Path) -> None:
    before = labels(index)
    with pytest.raises(QueryError, match="no photo number 999"):
        edit_labels(index, {ids(index)["0.png"]: "gate", 999: "x"})
    with pytest.raises(QueryError, match="at least one letter"):
        edit_labels(index, {ids(index)["0.png"]: "  "})
    assert labels(index) == before
    assert not (index / LABEL_EDITS_FILE).exists()


def test_a_damaged_file_is_told(index: Path) -> None:
    edit_labels(index, {ids(index)["0.png"]: "gate"})
    file = index / LABEL_EDITS_FILE
    stored = json.loads(file.read_text())
    stored["labels"] = dict.fromkeys(stored["labels"], "other")
    file.write_text(json.dumps(stored))
    with pytest.raises(IndexDamaged, match=r"label-edits\.json is damaged"):
        update(index)
    assert labels(index)["0.png"] == "gate"
