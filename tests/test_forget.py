"""Folders that moved or are gone: an update goes on, or names a command that makes it go on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import TinyEncoder, photo_folder, save

from veduta import errors
from veduta.index import (
    Manifest,
    UpdateReport,
    create_index,
    forget_folders,
    open_snapshot,
    update_index,
)
from veduta.text import veduta_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 4)
    return tmp_path / "photos"


@pytest.fixture
def index_folder(tmp_path: Path) -> Path:
    create_index(tmp_path / "index", TinyEncoder())
    return tmp_path / "index"


def update(index_folder: Path, *folders: Path, **options: Any) -> UpdateReport:
    return update_index(index_folder, folders, TinyEncoder(), graph=False, **options)


def known(index_folder: Path) -> list[str]:
    return list(Manifest.read(index_folder).folders)


def paths(index_folder: Path) -> set[str]:
    return {os.fsdecode(path) for path in open_snapshot(index_folder).rows["path"].to_pylist()}


def test_a_moved_collection_is_updated_without_folders(index_folder: Path, folder: Path) -> None:
    update(index_folder, folder)
    moved = folder.rename(folder.with_name("moved"))
    report = update(index_folder, moved)
    assert (report.moved, report.encoded, report.removed) == (4, 0, 0)
    assert report.dropped_folders == [str(folder)]
    assert known(index_folder) == [str(moved)]
    report = update(index_folder)
    assert (report.unchanged, report.dropped_folders) == (4, [])


def test_an_index_of_an_older_version_drops_the_old_folder_too(
    index_folder: Path, folder: Path, tmp_path: Path
) -> None:
    """Version 0.1.0 remembered the old folder."""
    from dataclasses import replace

    update(index_folder, folder)
    manifest = Manifest.read(index_folder)
    gone = str(tmp_path / "gone")
    replace(manifest, folders=(gone, *manifest.folders)).write(index_folder)
    report = update(index_folder)
    assert (report.unchanged, report.dropped_folders) == (4, [gone])
    assert known(index_folder) == [str(folder)]


@pytest.fixture
def partly_moved(index_folder: Path, folder: Path) -> Path:
    """The folder that three of four photos moved to; the fourth was deleted."""
    update(index_folder, folder)
    moved = folder.rename(folder.with_name("moved"))
    next(moved.rglob("photo0003.png")).unlink()
    update(index_folder, moved)
    return moved


def test_a_folder_that_is_away_names_what_to_do(
    index_folder: Path, folder: Path, partly_moved: Path
) -> None:
    with pytest.raises(errors.PhotoUnreadable) as caught:
        update(index_folder)
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        f"{folder}: it is not there, but the index has 1 photo from it. If its disk is not "
        "connected, connect it and run the same command again. If the photos have moved, index "
        f"their new folder first: veduta index NEW_FOLDER --index {index_folder}. If they are gone "
        f"for good: veduta forget {folder} --index {index_folder}"
    )
    assert len(paths(index_folder)) == 4, "nothing was removed"


def test_the_disk_is_connected_again(index_folder: Path, folder: Path, partly_moved: Path) -> None:
    save(folder / "class0/photo0003.png", 3)
    report = update(index_folder)
    assert report.total == 4
    assert known(index_folder) == sorted([str(folder), str(partly_moved)])


def test_forgetting_the_old_folder(index_folder: Path, folder: Path, partly_moved: Path) -> None:
    report = forget_folders(index_folder, [folder])
    assert (report.removed, report.still_read) == (1, ())
    assert known(index_folder) == [str(partly_moved)]
    assert update(index_folder).unchanged == 3


def test_indexing_the_new_folder_of_what_is_left(
    index_folder: Path, folder: Path, partly_moved: Path, tmp_path: Path
) -> None:
    save(tmp_path / "third/photo.png", 3)
    assert update(index_folder, tmp_path / "third").dropped_folders == [str(folder)]
    assert update(index_folder).unchanged == 4


def test_forget_an_existing_folder_and_a_folder_in_it(index_folder: Path, folder: Path) -> None:
    update(index_folder, folder)
    report = forget_folders(index_folder, [folder / "class0"])
    assert (report.removed, report.still_read) == (2, (str(folder),))
    assert update(index_folder).added == 2, "as the report says"
    shutil.rmtree(folder / "class0")
    assert forget_folders(index_folder, [folder]).removed == 4
    assert (known(index_folder), paths(index_folder)) == ([], set())
    with pytest.raises(errors.CollectionError, match=r"no folder that is there. Name one: veduta "):
        update(index_folder)
    assert len(list(folder.rglob("*.png"))) == 2, "the files stay"


def test_an_unknown_folder_changes_nothing(
    index_folder: Path, folder: Path, tmp_path: Path
) -> None:
    update(index_folder, folder)
    with pytest.raises(errors.QueryError, match="does not know this folder") as caught:
        forget_folders(index_folder, [folder, tmp_path / "photo"])
    assert caught.value.exit_code == 3
    assert str(caught.value).endswith(f"It knows: {folder}")
    assert len(paths(index_folder)) == 4


def test_single_photos_are_updated_and_forgotten(index_folder: Path, folder: Path) -> None:
    first, second, third, _ = sorted(folder.rglob("*.png"))
    report = update(index_folder, first, second, third)
    assert (report.added, known(index_folder)) == (3, [])
    save(first, 4321)
    second.unlink()
    report = update(index_folder)
    assert (report.changed, report.removed, report.unchanged, report.total) == (1, 1, 1, 2)
    assert forget_folders(index_folder, [first]).removed == 1
    assert paths(index_folder) == {str(third)}
    folder.rename(folder.with_name("away"))
    assert update(index_folder).total == 1, "the disk may not be connected"
    folder.mkdir()
    assert update(index_folder).total == 1, "an empty mount point"


def test_a_known_folder_that_became_a_file_is_away(index_folder: Path, folder: Path) -> None:
    update(index_folder, folder)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(errors.PhotoUnreadable, match="it is not there"):
        update(index_folder)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (Path("plain/photo.jpg"), "plain/photo.jpg"),
        (Path("two words"), "'two words'"),
        (Path("it's"), "'it'\"'\"'s'"),
        (Path("$HOME;`x`"), "'$HOME;`x`'"),
        (Path("-dash"), "./-dash"),
        (b"caf\xe9 \\ '", r"$'caf\351 \134 \047'"),
        (Path("line\nbreak"), r"$'line\012break'"),
        (Path("größe"), "'größe'"),
        ("--index", "--index"),
        (Path(), "."),
    ],
)
def test_paths_in_commands_are_quoted(word: Any, text: str) -> None:
    assert veduta_command("index", word) == f"veduta index {text}"
