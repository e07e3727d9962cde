"""Indexes become one: the same as that of one run, whatever is in the parts."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merged import answers_of, files_of, graph_of, indexed, rows_of, shards, state_of
from tiny import CentredEncoder, TinyEncoder, TinyExtractor, save_view

import veduta
from veduta import errors
from veduta.cli.main import run
from veduta.encoders import Projection
from veduta.index import (
    Manifest,
    check_index,
    create_index,
    edit_labels,
    merge_indexes,
    open_snapshot,
    read_status,
    remove_photos,
    repair_index,
    set_projection,
    update_index,
)
from veduta.index.shards import Shard
from veduta.index.table import writer_lock

COUNT = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of six scenes in class folders, with copies and a broken file, and four shards."""
    home = tmp_path_factory.mktemp("merge")
    for scene in range(6):
        for number in range(5):
            save_view(home / f"photos/scene{scene}/{number}.png", scene, number)
    for number in range(5):
        shutil.copy(home / f"photos/scene0/{number}.png", home / f"photos/scene1/copy{number}.png")
    (home / "photos/scene2/broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    shards(home, [home / "photos"], COUNT, labels="folders")
    indexed(home / "one", [home / "photos"], labels="folders")
    return home


@pytest.fixture
def parts(home: Path, tmp_path: Path) -> list[Path]:
    """Return copies of the four shards."""
    return [
        Path(shutil.copytree(home / f"part{number}", tmp_path / f"part{number}"))
        for number in range(1, COUNT + 1)
    ]


def sound(index: Path) -> bool:
    """Tell whether nothing is damaged, and every photo is what was indexed."""
    return list(check_index(index)) == []


def test_merged_shards_answer_as_one_run(home: Path, parts: list[Path], tmp_path: Path) -> None:
    before = [files_of(part) for part in parts]
    report = merge_indexes(parts, tmp_path / "whole")
    assert [files_of(part) for part in parts] == before, "the parts are as they were"
    assert (report.added, report.total, report.unreadable) == (36, 35, 1)
    assert report.created and not report.notes and not report.missing_shards
    whole = state_of(tmp_path / "whole")
    assert whole == state_of(home / "one")
    assert whole["graph"] is not None and whole["shard"] is None and whole["needs"] == ()
    queries = sorted(home.rglob("photos/*/[03].png"))
    assert answers_of(tmp_path / "whole", queries) == answers_of(home / "one", queries)
    assert sound(tmp_path / "whole")
    encoder, extractor = CentredEncoder(), TinyExtractor()
    again = update_index(tmp_path / "whole", [], encoder, extractor)
    assert (encoder.encoded, again.unchanged, again.total) == (0, 35, 35)
    assert not [one.name for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_contents_of_several_parts_are_stored_once(parts: list[Path], tmp_path: Path) -> None:
    report = merge_indexes(parts, tmp_path / "whole")
    assert report.copies == 5
    rows = open_snapshot(tmp_path / "whole").rows.slice(0, 35).to_pylist()
    places = {(row["keypoints_file"], row["keypoints_at"]) for row in rows}
    assert len(places) == len({row["content"] for row in rows}) == 30
    sizes = {row["content"]: row["keypoints_size"] for row in rows}
    files = (tmp_path / "whole/keypoints").iterdir()
    assert sum(file.stat().st_size for file in files) == sum(sizes.values())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_more_parts_than_files_that_may_be_open(parts: list[Path], tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/dev/fd")))
    free = (number for number in count() if number not in taken)
    few = next(islice(free, len(parts), None))  # Each part has its lock open, and more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        merge_indexes(parts, tmp_path / "whole")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_parts_come_one_after_the_other(home: Path, parts: list[Path], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for part in parts:
        report = merge_indexes([part], whole, allow_missing=True)
        assert len(report.missing_shards) == COUNT - 1
    assert state_of(whole) == state_of(home / "one")
    again = merge_indexes(parts, whole)
    assert (again.added, again.changed, again.known, again.kept) == (0, 0, 36, 36)
    assert state_of(whole) == state_of(home / "one") and sound(whole)


def test_a_part_that_was_updated_has_several_keypoint_files(home: Path, tmp_path: Path) -> None:
    """Also if numbers of its files are those that the copies get."""
    photos = sorted((home / "photos").rglob("*.png"))
    for number, some in enumerate((photos[:6], photos[6:20])):
        part = indexed(tmp_path / "part", some)
        assert (part / f"keypoints/{number:08}.bin").exists()
    other = indexed(tmp_path / "other", photos[20:])
    one = indexed(tmp_path / "one", photos)
    merge_indexes([other, part], tmp_path / "whole")
    assert rows_of(tmp_path / "whole") == rows_of(one) and sound(tmp_path / "whole")
    merge_indexes([part], other)
    assert rows_of(other) == rows_of(one) and sound(other)


def test_ordinary_indexes_become_one(home: Path, tmp_path: Path) -> None:
    folders = sorted((home / "photos").iterdir())
    made = [indexed(tmp_path / f"{n}", [folder]) for n, folder in enumerate(folders)]
    merge_indexes(made, tmp_path / "whole")
    indexed(tmp_path / "one", folders)
    assert state_of(tmp_path / "whole") == state_of(tmp_path / "one")


@settings(max_examples=3)
@given(data=st.data())
def test_any_split_gives_the_same(
    data: st.DataObject, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Photos are in one part or in several, copies anywhere, the parts in any order."""
    place = tmp_path_factory.mktemp("split")
    files = sorted((home / "photos").glob("scene[012]/*.*"))
    chosen = [
        data.draw(st.sets(st.integers(0, 2), min_size=1, max_size=2), label=path.name)
        for path in files
    ]
    made = []
    for number in range(3):
        own = [path for path, parts in zip(files, chosen, strict=True) if number in parts]
        if own:
            made.append(indexed(place / f"{number}", own))
    into = data.draw(st.integers(0, len(made)))
    order = data.draw(st.permutations(made))
    if into and len(order) > into:
        merge_indexes(order[:into], place / "whole")
        merge_indexes(order[into:], place / "whole")
    else:
        merge_indexes(order, place / "whole")
    indexed(place / "one", files)
    assert rows_of(place / "whole") == rows_of(place / "one")
    assert graph_of(place / "whole") == graph_of(place / "one")
    shutil.rmtree(place)


def changed(path: Path, scene: int, seconds: int) -> Path:
    """Give a file another photo and a time."""
    save_view(path, scene, 9)
    os.utime(path, (seconds, seconds))
    return path


@pytest.mark.parametrize("into", [False, True], ids=["new", "into an index"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_the_newer_content_stays(tmp_path: Path, into: bool, newest_first: bool) -> None:
    photo, other = tmp_path / "photos/a.png", save_view(tmp_path / "photos/b.png", 3)
    changed(photo, 1, 1000)
    old = indexed(tmp_path / "old", [photo, other])
    changed(photo, 2, 2000)
    new = indexed(tmp_path / "new", [photo, other])
    expected = rows_of(new)
    order = [new, old] if newest_first else [old, new]
    if into:
        ids = {row["path"]: row["id"] for row in open_snapshot(order[0]).rows.to_pylist()}
        report = merge_indexes(order[1:], order[0])
        assert report.changed == (not newest_first)
        assert ids == {row["path"]: row["id"] for row in open_snapshot(order[0]).rows.to_pylist()}
    else:
        report = merge_indexes(order, tmp_path / "whole")
    assert (report.conflicts, report.known, report.total) == (1, 1, 2)
    whole = order[0] if into else tmp_path / "whole"
    assert rows_of(whole) == expected and sound(whole)
    files = {row["keypoints_file"] for row in open_snapshot(whole).rows.to_pylist()}
    assert {int(file.stem) for file in (whole / "keypoints").iterdir()} == files


def test_what_persons_decided_stays(home: Path, tmp_path: Path) -> None:
    photos = sorted((home / "photos").rglob("*.png"))
    a = indexed(tmp_path / "a", photos[:20], labels="none")
    b = indexed(tmp_path / "b", photos[10:], labels="none")
    ids = [
        {os.fsdecode(row["path"]): row["id"] for row in open_snapshot(index).rows.to_pylist()}
        for index in (a, b)
    ]
    one, both, gone, of_b = (str(photos[number]) for number in (0, 12, 15, 30))
    edit_labels(a, {ids[0][one]: "first", ids[0][both]: "of a"})
    edit_labels(b, {ids[1][both]: "of b", ids[1][of_b]: "last"})
    remove_photos(b, [gone])
    report = merge_indexes([a, b], tmp_path / "whole")
    labels = {path: row["label"] for path, row in rows_of(tmp_path / "whole").items()}
    assert labels[os.fsencode(one)] == "first" and labels[os.fsencode(of_b)] == "last"
    assert labels[os.fsencode(both)] == "of a" and os.fsencode(gone) not in labels
    assert (report.left_out, report.label_conflicts) == (1, 2)
    update_index(tmp_path / "whole", [], CentredEncoder(), TinyExtractor())
    assert {path: row["label"] for path, row in rows_of(tmp_path / "whole").items()} == labels
    assert read_status(tmp_path / "whole")["removed"] == 1
    # The same into an index that is there, which had the photo and another label.
    merge_indexes([b], a)
    assert {path: row["label"] for path, row in rows_of(a).items()} == labels
    assert sound(a)


def test_settings_of_all_parts_count(home: Path, tmp_path: Path) -> None:
    photos = home / "photos"
    a = indexed(tmp_path / "a", [photos / "scene0"], labels="folders", exclude=["4.png"])
    b = indexed(tmp_path / "b", [photos / "scene3"], exclude=["x/"])
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n0.png,null\n")
    c = indexed(tmp_path / "c", [photos / "scene5"], labels=table)
    report = merge_indexes([a, b, c], tmp_path / "whole")
    manifest = Manifest.read(tmp_path / "whole")
    assert manifest.folders == tuple(str(photos / f"scene{n}") for n in (0, 3, 5))
    assert manifest.exclude == ("4.png", "x/") and manifest.labels == "folders"
    assert len(report.notes) == 2 and report.total == 4 + 5 + 5
    assert rows_of(tmp_path / "whole")[os.fsencode(photos / "scene5/0.png")]["label"] == "null"


def test_a_projection_stays(home: Path, tmp_path: Path) -> None:
    photos = sorted((home / "photos").rglob("*.png"))
    whole = indexed(tmp_path / "one", photos)
    a, b = indexed(tmp_path / "a", photos[:20]), indexed(tmp_path / "b", photos[20:])
    set_projection(whole, 8)
    for part in (a, b):
        projection = Projection.load(whole / str(Manifest.read(whole).projection))
        set_projection(part, projection)
    merge_indexes([a, b], tmp_path / "whole")
    assert state_of(tmp_path / "whole") == state_of(whole)
    assert Manifest.read(tmp_path / "whole").projection == Manifest.read(whole).projection
    c = indexed(tmp_path / "c", photos[:3])
    with pytest.raises(errors.EncoderMismatch, match=r"c has another projection.*--project /"):
        merge_indexes([a, c], tmp_path / "no")


def unfinished(part: Path) -> None:
    replace(Manifest.read(part), unfinished=True).write(part)


def never_finished(part: Path) -> None:
    replace(Manifest.read(part).of_no_shard(), decoders="").write(part)


def renumbered(shard: Shard) -> Callable[[Path], None]:
    def change(part: Path) -> None:
        replace(Manifest.read(part), shard=shard).write(part)

    return change


def other_kind(**values: Any) -> Callable[[Path], None]:
    def change(part: Path) -> None:
        manifest = Manifest.read(part)
        for name, value in values.items():
            manifest = replace(manifest, **{name: {**getattr(manifest, name), **value}})
        manifest.write(part)

    return change


def other_layout(part: Path) -> None:
    values = json.loads((part / "index.json").read_text())
    del values["checksum"]
    (part / "index.json").write_text(json.dumps({**values, "format": 9}))


def one_bit(part: Path, folder: str) -> None:
    file = max((part / folder).iterdir(), key=lambda one: one.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


REFUSALS: dict[str, tuple[Callable[[Path], object], type[errors.VedutaError], str]] = {
    "not finished": (
        unfinished,
        errors.CollectionError,
        r"part3: the last run of shard 3/4 did not come to its end.*veduta index --index .*part3$",
    ),
    "never finished": (never_finished, errors.CollectionError, "part3: no run has come to its"),
    "twice": (
        renumbered(Shard(2, 4)),
        errors.CollectionError,
        "part3 and .*part2 are both shard 2",
    ),
    "other count": (
        renumbered(Shard(3, 5)),
        errors.CollectionError,
        "part3 is shard 3/5, but .*1/4",
    ),
    "another encoder": (
        other_kind(encoder={"identity": "other", "name": "cat"}),
        errors.EncoderMismatch,
        r"part3 has another encoder than .*part1: cat \(other\).*--encoder tiny",
    ),
    "other keypoints": (
        other_kind(keypoints={"count": 77}),
        errors.EncoderMismatch,
        "part3 has another kind of keypoints .*--keypoints tiny:60",
    ),
    "another layout": (
        other_layout,
        errors.IndexDamaged,
        r"part3 was written by a newer .*layout 9",
    ),
    "no index": (shutil.rmtree, errors.NotAnIndex, "part3 does not exist"),
    "damaged rows": (
        lambda part: one_bit(part, "photos.lance/data"),
        errors.IndexDamaged,
        "part3.*veduta repair --index .*part3",
    ),
    "damaged keypoints": (
        lambda part: one_bit(part, "keypoints"),
        errors.IndexDamaged,
        "part3.*the keypoints at.*veduta repair --index .*part3",
    ),
    "damaged manifest": (
        lambda part: (part / "index.json").write_text("{"),
        errors.IndexDamaged,
        "part3.*index.json does not read",
    ),
    "damaged edits": (
        lambda part: (part / "label-edits.json").write_text("{}"),
        errors.IndexDamaged,
        "part3.*label-edits.json is damaged",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_part_is_refused_and_named(parts: list[Path], tmp_path: Path, name: str) -> None:
    change, kind, message = REFUSALS[name]
    merge_indexes(parts[:1], tmp_path / "there", allow_missing=True)
    before = state_of(tmp_path / "there")
    change(parts[2])
    for whole in ("new", "there"):
        with pytest.raises(kind, match=message):
            merge_indexes(parts, tmp_path / whole)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
        {*(part.name for part in parts if part.exists()), "there"}
    )
    assert state_of(tmp_path / "there") == before and sound(tmp_path / "there")


def test_what_cannot_be_merged_is_refused(parts: list[Path], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with pytest.raises(errors.CollectionError, match=r"2 shards of 4 missing: 2-3\..*--allow"):
        merge_indexes([parts[0], parts[3]], whole)
    with pytest.raises(errors.QueryError, match="part1 is the index that the parts are"):
        merge_indexes(parts, tmp_path / "part2/../part1")
    with pytest.raises(errors.QueryError, match="part1 is named twice"):
        merge_indexes([*parts, parts[0]], whole)
    with pytest.raises(errors.CollectionError, match="part1 is shard 1/4"):
        merge_indexes(parts[1:], parts[0], allow_missing=True)
    with pytest.raises(errors.QueryError, match="Name the indexes"):
        merge_indexes([], whole)
    with writer_lock(parts[1]), pytest.raises(errors.IndexLocked, match="part2"):
        merge_indexes(parts, whole)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("mine")
    with pytest.raises(errors.CollectionError, match="full is not empty"):
        merge_indexes(parts, tmp_path / "full")
    assert not whole.exists() and not list(tmp_path.glob(".draft*"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.CollectionError, match="file is not a folder"):
        merge_indexes(parts, tmp_path / "file")
    whole.mkdir()
    assert merge_indexes(parts, whole).created, "an empty folder is no hindrance"


def test_a_damaged_part_that_is_repaired_is_merged(parts: list[Path], tmp_path: Path) -> None:
    one_bit(parts[2], "keypoints")
    assert repair_index(parts[2]).removed_rows == 1
    report = merge_indexes(parts, tmp_path / "whole")
    assert report.total == 34
    update_index(tmp_path / "whole", [], CentredEncoder(), TinyExtractor())
    assert open_snapshot(tmp_path / "whole").photos == 35


def test_interrupts_leave_the_index_as_it_was_or_whole(
    home: Path, parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_indexes(parts[:2], tmp_path / "there", allow_missing=True)
    before = state_of(tmp_path / "there")

    def interrupt_at(stage: str) -> Callable[[str, int, int], None]:
        def on_progress(now: str, done: int, total: int) -> None:
            if now == stage and done:
                raise KeyboardInterrupt

        return on_progress

    for whole in ("new", "there"):
        with pytest.raises(KeyboardInterrupt):
            merge_indexes(parts, tmp_path / whole, on_progress=interrupt_at("Copying"))
    assert state_of(tmp_path / "there") == before
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".draft*"))
    for whole in ("new", "there"):
        report = merge_indexes(parts, tmp_path / whole, on_progress=interrupt_at("Linking"))
        assert report.interrupted and report.total == 35
        assert rows_of(tmp_path / whole) == rows_of(home / "one")
        assert not merge_indexes(parts, tmp_path / whole).interrupted
        assert state_of(tmp_path / whole) == state_of(home / "one")


def test_parts_without_keypoints_and_with_other_columns(tmp_path: Path) -> None:
    a, b = save_view(tmp_path / "photos/a.png", 1), save_view(tmp_path / "photos/b.png", 2)
    shutil.copy(a, tmp_path / "photos/c.png")
    create_index(tmp_path / "a", TinyEncoder(), None, places=False)
    indexed(tmp_path / "a", [a], encoder=TinyEncoder(), extractor=None)
    indexed(tmp_path / "b", [b, tmp_path / "photos/c.png"], encoder=TinyEncoder(), extractor=None)
    report = merge_indexes([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    assert (report.copies, report.total) == (1, 3)
    assert any("no place" in note for note in report.notes)
    assert "latitude" in open_snapshot(tmp_path / "whole").rows.schema.names
    merge_indexes([tmp_path / "b"], tmp_path / "a")
    assert "latitude" not in open_snapshot(tmp_path / "a").rows.schema.names
    assert sound(tmp_path / "a") and sound(tmp_path / "whole")


def test_the_rows_are_written_in_small_pieces(
    home: Path, parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_ROWS_AT_A_TIME", 3), ("_KEYPOINT_PHOTOS_AT_A_TIME", 2)):
        monkeypatch.setattr(f"veduta.index.merge_rows.{name}", value)
    monkeypatch.setattr("veduta.index.merge_rows.MERGED_FRAGMENT_ROWS", 5)
    seen: list[tuple[str, int, int]] = []
    merge_indexes(parts, tmp_path / "whole", on_progress=lambda *one: seen.append(one))
    assert state_of(tmp_path / "whole") == state_of(home / "one")
    copying = [done for stage, done, total in seen if stage == "Copying" and total == 36]
    assert copying == sorted(copying) and copying[-1] == 36 and len(copying) > 12
    assert any(stage == "Linking" for stage, _, _ in seen)


def test_the_command(
    home: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(part) for part in parts]
    assert run(["merge", *names[1:], "--index", str(tmp_path / "whole")]) == 4
    assert "1 shard of 4 missing: 1." in capsys.readouterr().err
    partly = ["merge", *names[1:], "--index", str(tmp_path / "whole"), "--allow-missing"]
    assert run([*partly, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["missing_shards"] == [1] and answer["total"] + answer["unreadable"] < 36
    assert run(["merge", *names, "--index", str(tmp_path / "whole")]) == 0
    out = capsys.readouterr().out
    assert "4 parts merged" in out and "35 photos in " in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert run(["merge", "--index", str(tmp_path / "whole")]) == 2
    capsys.readouterr()


def test_from_python(parts: list[Path], tmp_path: Path) -> None:
    report = veduta.merge(*parts, index=tmp_path / "whole")
    assert isinstance(report, veduta.MergeReport)
    assert report.total == len(veduta.open(tmp_path / "whole")) == 35
    assert np.isfinite(report.seconds)
