"""A damaged `index.json` is named, and the command that its message names mends the index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder

from veduta import errors
from veduta.index import (
    Manifest,
    create_index,
    open_snapshot,
    read_status,
    repair_index,
    update_index,
)
from veduta.index.manifest import MANIFEST_COPY, MANIFEST_FILE


@pytest.fixture(scope="module")
def sound_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of six photos; no test may change it."""
    home = tmp_path_factory.mktemp("manifest")
    photo_folder(home / "photos", 6)
    create_index(home / "index", TinyEncoder(), TinyExtractor())
    update_index(home / "index", [home / "photos"], TinyEncoder(), TinyExtractor(), graph=False)
    return home / "index"


@pytest.fixture
def index_folder(sound_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_index, tmp_path / "index"))


def updated(index_folder: Path) -> int:
    """Bring the index up to date and return the number of its photos."""
    report = update_index(index_folder, [], TinyEncoder(), TinyExtractor(), graph=False)
    assert report.encoded == 0, "the rows are still there"
    return report.total


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "not UTF-8": lambda file: file.write_bytes(file.read_bytes().replace(b"tiny", b"t\xffny")),
    "zeros": lambda file: file.write_bytes(bytes(500)),
    "nested deeply": lambda file: file.write_text("[" * 100_000),
    "nested in a value": lambda file: file.write_text(
        file.read_text().replace('"dimension": 192', '"dimension": 192, "more": ' + nested(900))
    ),
    "a list": lambda file: file.write_text("[]"),
    "null": lambda file: file.write_text("null"),
    "gone": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a broken link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "another folder": lambda file: file.write_text(file.read_text().replace("photos", "photoz")),
    "another encoder": lambda file: file.write_text(file.read_text().replace('"tiny"', '"tinz"')),
    "a number of 5,000 digits": lambda file: file.write_text(
        file.read_text().replace('"dimension": 192', '"dimension": ' + "9" * 5000)
    ),
}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_made_again_from_its_copy(index_folder: Path, damage: str) -> None:
    before = Manifest.read(index_folder)
    DAMAGES[damage](index_folder / MANIFEST_FILE)
    for use in (open_snapshot, read_status, updated):
        with pytest.raises(
            errors.IndexDamaged, match=r"index\.json does not read.*veduta repair --index"
        ) as caught:
            use(index_folder)
        assert caught.value.exit_code == 4
    report = repair_index(index_folder)
    assert (report.manifest_restored, report.removed_rows, report.photos) == (True, 0, 6)
    assert Manifest.read(index_folder) == before
    assert updated(index_folder) == 6
    assert not repair_index(index_folder).manifest_restored


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_written_again(index_folder: Path, damage: str) -> None:
    if damage == "a folder":
        pytest.skip("nothing makes a folder of the copy")
    sound = (index_folder / MANIFEST_FILE).read_bytes()
    DAMAGES[damage](index_folder / MANIFEST_COPY)
    assert updated(index_folder) == 6
    assert (index_folder / MANIFEST_COPY).read_bytes() == sound


def test_without_a_copy_the_message_names_another_folder(
    index_folder: Path, tmp_path: Path
) -> None:
    (index_folder / MANIFEST_COPY).unlink()
    (index_folder / MANIFEST_FILE).write_bytes(b"{")
    command = f"veduta index FOLDER --index {tmp_path}/index-new"
    for use in (open_snapshot, repair_index, read_status, updated):
        with pytest.raises(errors.IndexDamaged, match=r"no sound index-copy\.json") as caught:
            use(index_folder)
        assert str(caught.value).endswith(command)


def test_a_manifest_changed_by_hand_is_refused_until_a_repair(index_folder: Path) -> None:
    """The copy is what the index was. Without it, the change is what the user wants."""
    file = index_folder / MANIFEST_FILE
    by_hand = file.read_text().replace('"labels": null', '"labels": "folders"')
    file.write_text(by_hand)
    with pytest.raises(errors.IndexDamaged, match="changed after Veduta wrote it"):
        open_snapshot(index_folder)
    assert repair_index(index_folder).manifest_restored
    assert Manifest.read(index_folder).labels is None
    file.write_text(by_hand)
    (index_folder / MANIFEST_COPY).unlink()
    assert repair_index(index_folder).manifest_restored
    assert Manifest.read(index_folder).labels == "folders"
    assert updated(index_folder) == 6


def test_an_index_of_another_layout_is_not_repaired(index_folder: Path) -> None:
    for name in (MANIFEST_FILE, MANIFEST_COPY):
        values = json.loads((index_folder / name).read_text())
        del values["checksum"]
        (index_folder / name).write_text(json.dumps({**values, "format": 3}))
    with pytest.raises(errors.IndexDamaged, match=r"by a newer Veduta \(layout 3"):
        repair_index(index_folder)


WRONG_VALUES = (None, -1, 0, 2.5, "", "x", "\0", [], ["x", 3], {}, {"x": []}, True, float("nan"))


def edits(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each key, and each key within a value, with a wrong value for it."""
    for key, value in values.items():
        for wrong in (*WRONG_VALUES, float("inf"), 10**30, "../../etc/passwd"):
            yield key, wrong
            if isinstance(value, dict):
                for inner in value:
                    yield key, {**value, inner: wrong}


def test_wrong_values_never_raise_anything_else(sound_index: Path, tmp_path: Path) -> None:
    """The index of 0.1.0 has neither checksum nor copy, so each value is looked at."""
    index_folder = Path(shutil.copytree(sound_index, tmp_path / "index"))
    (index_folder / MANIFEST_COPY).unlink()
    file = index_folder / MANIFEST_FILE
    values = json.loads(file.read_text())
    del values["checksum"]
    refused = accepted = 0
    for key, wrong in edits(values):
        file.write_text(json.dumps({**values, key: wrong}))
        try:
            read_status(index_folder)
            accepted += 1
        except errors.CollectionError as error:
            assert "index.json" in str(error) or "another folder" in str(error)
            refused += 1
    assert refused + accepted > 200
    assert refused > 150


def test_nothing_is_written_if_nothing_changed(index_folder: Path) -> None:
    before = {
        name: (index_folder / name).stat().st_mtime_ns for name in (MANIFEST_FILE, MANIFEST_COPY)
    }
    updated(index_folder)
    updated(index_folder)
    assert before == {name: (index_folder / name).stat().st_mtime_ns for name in before}


@pytest.mark.parametrize("use", [updated, repair_index, open_snapshot])
def test_a_missing_index_is_named_and_not_made(
    tmp_path: Path, use: Callable[[Path], object]
) -> None:
    missing = tmp_path / "no such index"
    with pytest.raises(errors.NotAnIndex, match=r"does not exist") as caught:
        use(missing)
    assert str(caught.value).endswith(f"veduta index FOLDER --index '{missing}'")
    assert not missing.exists()
