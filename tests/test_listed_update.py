"""Updates in pieces: what an update would read, and updates of files that others have listed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from merged import files_of, indexed, rows_of
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import errors, photos
from veduta.index import (
    create_index,
    files_to_update,
    merge_indexes,
    open_snapshot,
    remove_photos,
    update_index,
)
from veduta.index.shards import RelativePaths, Shard, shard_number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        save_view(tmp_path / f"photos/scene{number % 2}/{number}.png", number)
    return tmp_path / "photos"


def new_index(index: Path) -> Path:
    create_index(index, CentredEncoder(), TinyExtractor())
    return index


def contents_of(index: Path) -> dict[str, bytes]:
    """Return the files of an index, without what is noted about reading them."""
    files = {name: data for name, (data, _) in files_of(index).items()}
    return {name: data for name, data in files.items() if not name.endswith("stamps.json")}


def update(index: Path, *folders: Path, **options: object) -> CentredEncoder:
    encoder = CentredEncoder()
    update_index(index, folders, encoder, TinyExtractor(), **options)  # type: ignore[arg-type]
    return encoder


def test_what_an_update_would_read_is_what_it_reads(folder: Path, tmp_path: Path) -> None:
    index = new_index(tmp_path / "index")
    files, folders = files_to_update(index, [folder])
    assert [one.path for one in files] == sorted(map(os.fsencode, folder.rglob("*.png")))
    assert folders == (str(folder),)
    update(index, folder)
    assert files_to_update(index, []) == ([], folders)
    gone, changed = folder / "scene0/0.png", save_view(folder / "scene1/1.png", 30)
    gone.unlink()
    remove_photos(index, [folder / "scene0/2.png"])
    new = save_view(folder / "scene2/new.png", 31)
    before = contents_of(index)
    files, _ = files_to_update(index, [], exclude=["3.png"])
    assert [one.path for one in files] == [os.fsencode(changed), os.fsencode(new)]
    files, _ = files_to_update(index, [], all_photos=True)
    assert len(files) == 3
    assert contents_of(index) == before


def test_labels_that_would_be_refused_are_refused_before_anything_is_read(
    folder: Path, tmp_path: Path
) -> None:
    index = new_index(tmp_path / "index")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nelsewhere.png,cat\n")
    with pytest.raises(errors.DatasetError, match=r"labels\.csv"):
        files_to_update(index, [folder], labels=table)
    update(index, folder, labels="folders")
    before = contents_of(index)
    table.write_text("path,label\nscene0/0.png,cat\n")
    with pytest.raises(errors.DatasetError):
        files_to_update(index, [], labels=table)
    files_to_update(index, [], labels=table, allow_label_loss=True)
    assert contents_of(index) == before


def test_files_that_others_listed_are_read_whatever_shard_they_are_of(
    folder: Path, tmp_path: Path
) -> None:
    listed = list(photos.find_photos([folder]))
    part = new_index(tmp_path / "part")
    encoder = update(part, folder, shard=Shard(1, 3), listed=listed[2:5], graph=False)
    assert encoder.encoded == 3
    assert set(rows_of(part)) == {one.path for one in listed[2:5]}
    # The part is continued with more of them, and without one that is gone.
    (folder / os.fsdecode(listed[2].path)).unlink()
    encoder = update(part, folder, shard=Shard(1, 3), listed=listed[3:7], allow_empty=True)
    assert encoder.encoded == 2
    assert set(rows_of(part)) == {one.path for one in listed[3:7]}


def test_contents_that_another_index_has_are_left_to_it(folder: Path, tmp_path: Path) -> None:
    whole = indexed(tmp_path / "whole", [folder / "scene0"])
    shutil.move(folder / "scene0/0.png", folder / "moved.png")
    contents = set(open_snapshot(whole).rows["content"].to_pylist())
    part = new_index(tmp_path / "part")
    encoder = update(part, folder, known_elsewhere=contents)
    assert encoder.encoded == 4 and len(rows_of(part)) == 4
    merge_indexes([part], whole, allow_missing=True, graph=False)
    encoder = update(whole, folder)
    assert encoder.encoded == 0
    assert rows_of(whole) == rows_of(indexed(tmp_path / "one", [folder]))


def test_a_file_may_be_left_for_later(folder: Path, tmp_path: Path) -> None:
    index = new_index(tmp_path / "index")
    names = [os.fsencode(folder / name) for name in ("scene0/0.png", "scene1/3.png")]
    encoder = update(index, folder, later=set(names))
    assert encoder.encoded == 6
    save_view(folder / "scene0/2.png", 50)
    old = rows_of(index)
    encoder = update(index, folder, later={*names, os.fsencode(folder / "scene0/2.png")})
    assert encoder.encoded == 0 and rows_of(index) == old
    assert update(index, folder).encoded == 3
    assert len(rows_of(index)) == 8


def test_each_file_has_one_shard() -> None:
    paths = RelativePaths(["/data/photos", "/data/photos/.hidden"])
    assert paths.of(b"/data/photos/.hidden/1.jpg") == b".hidden/1.jpg"
    assert paths.of(b"/elsewhere/1.jpg") == b"1.jpg"
    for name in (b"a/1.jpg", b"b.jpg"):
        number = shard_number(name, 7)
        assert [n for n in range(1, 8) if Shard(n, 7).holds(name)] == [number]


def test_only_files_that_a_merge_could_try_again_count_as_of_other_decoders(
    folder: Path, tmp_path: Path
) -> None:
    part = indexed(tmp_path / "part", [folder])
    empty = new_index(tmp_path / "empty")
    merge_indexes([part], empty)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert len(files_to_update(empty, [])[0]) == 1
    update(empty, folder)
    assert files_to_update(empty, [])[0] == []
