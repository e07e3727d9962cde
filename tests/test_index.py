"""An index is never wrong about its own state, whatever happens to it or to the photos."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder, save

from veduta import errors
from veduta.index import (
    Manifest,
    StoredThumbnails,
    UpdateProgress,
    check_index,
    create_index,
    open_snapshot,
    read_status,
    repair_index,
    set_projection,
    update_index,
)
from veduta.index.table import newest_version, open_table
from veduta.index.updating import COMMIT_ROWS


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 12)
    return tmp_path / "photos"


@pytest.fixture
def encoder() -> TinyEncoder:
    return TinyEncoder()


@pytest.fixture
def index_folder(tmp_path: Path, photos: Path, encoder: TinyEncoder) -> Path:
    path = tmp_path / "index"
    create_index(path, encoder)
    update_index(path, [photos], encoder)
    return path


def paths(index_folder: Path) -> list[str]:
    snapshot = open_snapshot(index_folder)
    rows = snapshot.rows["path"].to_pylist()[: snapshot.photos]
    return sorted(os.fsdecode(path) for path in rows)


def on_disk(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def row(index_folder: Path, path: Path) -> dict[str, Any]:
    for found in open_snapshot(index_folder).rows.to_pylist():
        if found["path"] == os.fsencode(path):
            return found
    raise AssertionError(f"{path} has no row")


def test_each_photo_has_its_own_row(index_folder: Path, photos: Path, encoder: TinyEncoder) -> None:
    assert paths(index_folder) == on_disk(photos)
    snapshot = open_snapshot(index_folder)
    for found, stored in zip(snapshot.rows.to_pylist(), snapshot.descriptors, strict=True):
        from veduta.photos import content_hash, load

        pixels = load(found["path"]).pixels
        expected = encoder.encode([encoder.prepare(pixels)])[0]
        np.testing.assert_allclose(stored.astype(np.float32), expected, atol=1e-3)
        assert found["content"] == content_hash(Path(os.fsdecode(found["path"])).read_bytes())
        assert (found["width"], found["height"], found["format"]) == (48, 32, "PNG")


def test_second_run_does_nothing(index_folder: Path, photos: Path, encoder: TinyEncoder) -> None:
    before, version = encoder.encoded, newest_version(index_folder)
    report = update_index(index_folder, [photos], encoder)
    assert (report.unchanged, report.added, report.removed) == (12, 0, 0)
    assert encoder.encoded == before
    assert newest_version(index_folder) == version, "an idle run writes nothing"


def test_without_folders_the_known_ones_are_updated(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    save(photos / "new.png", 99)
    assert update_index(index_folder, [], encoder).added == 1
    assert paths(index_folder) == on_disk(photos)


def test_new_changed_deleted(index_folder: Path, photos: Path, encoder: TinyEncoder) -> None:
    kept = row(index_folder, photos / "class1/photo0001.png")
    save(photos / "class0/photo0000.png", 500)
    (photos / "class2/photo0002.png").unlink()
    save(photos / "class2/photo9000.jpg", 501)
    report = update_index(index_folder, [photos], encoder)
    assert (report.added, report.changed, report.removed, report.unchanged) == (1, 1, 1, 10)
    assert paths(index_folder) == on_disk(photos)
    assert row(index_folder, photos / "class1/photo0001.png") == kept
    assert list(check_index(index_folder)) == []


def test_moved_photo_is_not_encoded_again(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    before = encoder.encoded
    old = row(index_folder, photos / "class0/photo0000.png")
    shutil.move(photos / "class0", photos / "renamed")
    report = update_index(index_folder, [photos], encoder)
    assert (report.moved, report.added, report.removed, report.encoded) == (4, 0, 0, 0)
    assert encoder.encoded == before
    assert row(index_folder, photos / "renamed/photo0000.png")["id"] == old["id"]
    assert paths(index_folder) == on_disk(photos)


def test_photo_moved_out_of_the_folders_named(
    index_folder: Path, photos: Path, encoder: TinyEncoder, tmp_path: Path
) -> None:
    shutil.move(photos / "class0", tmp_path / "elsewhere")
    report = update_index(index_folder, [tmp_path / "elsewhere"], encoder)
    assert (report.moved, report.encoded) == (4, 0)
    assert paths(index_folder) == sorted(on_disk(photos) + on_disk(tmp_path / "elsewhere"))


def test_copies_are_rows_of_their_own_and_not_encoded(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    for name in ("copy1.png", "copy2.png"):
        shutil.copy(photos / "class0/photo0000.png", photos / name)
    report = update_index(index_folder, [photos], encoder)
    assert (report.copied, report.moved, report.encoded) == (2, 0, 0)
    assert paths(index_folder) == on_disk(photos)
    assert list(check_index(index_folder)) == []


def test_a_photo_moved_and_copied_at_once(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    shutil.copy(photos / "class0/photo0000.png", photos / "b.png")
    shutil.move(photos / "class0/photo0000.png", photos / "a.png")
    report = update_index(index_folder, [photos], encoder)
    assert (report.moved, report.copied, report.removed) == (1, 1, 0)
    assert update_index(index_folder, [photos], encoder).removed == 0
    assert paths(index_folder) == on_disk(photos)


@pytest.mark.parametrize("rows", [1, 512])
def test_two_photos_swap_names(
    index_folder: Path,
    photos: Path,
    encoder: TinyEncoder,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", rows)
    a, b = photos / "class0/photo0000.png", photos / "class1/photo0001.png"
    content_a, content_b = row(index_folder, a)["content"], row(index_folder, b)["content"]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    update_index(index_folder, [photos], encoder)
    assert row(index_folder, a)["content"] == content_b
    assert row(index_folder, b)["content"] == content_a
    assert list(check_index(index_folder)) == []


def test_touched_photo_is_not_encoded(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    before = encoder.encoded
    os.utime(photos / "class0/photo0000.png", (1, 1))
    report = update_index(index_folder, [photos], encoder)
    assert (report.unchanged, report.changed) == (12, 0)
    assert encoder.encoded == before
    assert row(index_folder, photos / "class0/photo0000.png")["mtime_ns"] == 10**9


def test_a_broken_photo_shifts_no_other(photos: Path, encoder: TinyEncoder, tmp_path: Path) -> None:
    (photos / "class0/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (photos / "class0/empty.jpg").write_bytes(b"")
    (photos / "page.jpg").write_text("<html></html>")
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    report = update_index(index_folder, [photos], encoder)
    assert report.added == 12
    assert sorted(Path(path).name for path, _ in report.unreadable) == [
        "broken.jpg",
        "empty.jpg",
        "page.jpg",
    ]
    assert all(reason for _, reason in report.unreadable)
    assert list(check_index(index_folder)) == []
    again = update_index(index_folder, [photos], encoder)
    assert again.unreadable and again.encoded == 0, "still reported, not tried again"
    save(photos / "class0/broken.jpg", 7)
    mended = update_index(index_folder, [photos], encoder)
    assert mended.changed == 1 and len(mended.unreadable) == 2
    assert open_snapshot(index_folder).photos == 13


def test_a_photo_that_breaks_leaves_the_search(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    (photos / "class0/photo0000.png").write_bytes(b"")
    report = update_index(index_folder, [photos], encoder)
    assert len(report.unreadable) == 1
    assert open_snapshot(index_folder).photos == 11


def test_odd_names(encoder: TinyEncoder, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = [b"a b.png", b"new\nline.png", "\N{CASTLE} Schloß.png".encode(), b"\xff\xfe.png"]
    for number, name in enumerate(names):
        target = photos / os.fsdecode(name)
        save(photos / "x.png", number).rename(target)
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    assert update_index(index_folder, [photos], encoder).added == 4
    found = {os.path.basename(p) for p in open_snapshot(index_folder).rows["path"].to_pylist()}
    assert found == set(names)
    assert list(check_index(index_folder)) == []


def test_links(encoder: TinyEncoder, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    save(photos / "real.png", 1)
    (photos / "broken.png").symlink_to(photos / "nowhere.png")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    (photos / "round").symlink_to(photos)
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    report = update_index(index_folder, [photos], encoder)
    assert report.added == 1
    assert {Path(path).name for path, _ in report.unreadable} == {"broken.png", "loop.png"}


def test_labels_from_folders_then_csv(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    assert row(index_folder, photos / "class1/photo0001.png")["label"] is None
    report = update_index(index_folder, [photos], encoder, labels="folders")
    assert report.relabelled == 12 and report.encoded == 0
    assert row(index_folder, photos / "class1/photo0001.png")["label"] == "class1"
    save(photos / "class2/new.png", 77)
    update_index(index_folder, [photos], encoder)
    assert row(index_folder, photos / "class2/new.png")["label"] == "class2", (
        "the rule is remembered"
    )
    table = photos / "labels.csv"
    table.write_text("path,label\nclass1/photo0001.png,tower\n")
    with pytest.raises(errors.DatasetError, match="12 of 13 labelled photos would lose"):
        update_index(index_folder, [photos], encoder, labels=table)
    assert row(index_folder, photos / "class1/photo0001.png")["label"] == "class1"
    report = update_index(index_folder, [photos], encoder, labels=table, allow_label_loss=True)
    assert report.unlabelled == 12
    assert row(index_folder, photos / "class1/photo0001.png")["label"] == "tower"
    assert row(index_folder, photos / "class1/photo0004.png")["label"] is None


def test_labels_stay_when_photos_move(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    table = photos / "labels.csv"
    table.write_text("path,label\nclass1/photo0001.png,tower\n")
    update_index(index_folder, [photos], encoder, labels=table)
    save(photos / "class1/photo0001.png", 300)
    update_index(index_folder, [photos], encoder)
    assert row(index_folder, photos / "class1/photo0001.png")["label"] == "tower"


def test_unmounted_disk_removes_nothing(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    rows = paths(index_folder)
    moved = photos.rename(photos.with_name("away"))
    with pytest.raises(errors.PhotoUnreadable, match="not there"):
        update_index(index_folder, [photos], encoder)
    photos.mkdir()  # an empty mount point
    with pytest.raises(errors.PhotoUnreadable, match="mounted"):
        update_index(index_folder, [photos], encoder)
    assert paths(index_folder) == rows
    assert update_index(index_folder, [photos], encoder, allow_empty=True).removed == 12
    assert paths(index_folder) == []
    assert moved.is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_folder_without_permission_keeps_its_rows(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    (photos / "class0").chmod(0)
    try:
        report = update_index(index_folder, [photos], encoder)
    finally:
        (photos / "class0").chmod(0o755)
    assert report.removed == 0
    assert len(paths(index_folder)) == 12


def test_unlistable_folder_keeps_its_rows(
    index_folder: Path, photos: Path, encoder: TinyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: Any) -> Any:
        if not isinstance(path, int) and os.path.basename(os.fsencode(path)) == b"class0":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = update_index(index_folder, [photos], encoder)
    assert report.removed == 0
    assert len(paths(index_folder)) == 12
    assert any("class0" in path for path, _ in report.unreadable)


def test_file_that_vanishes_between_listing_and_reading(
    photos: Path, encoder: TinyEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta import photos as room

    real = room.read_bytes

    def vanish(path: bytes) -> bytes:
        if path.endswith(b"photo0003.png"):
            Path(os.fsdecode(path)).unlink()
        return real(path)

    monkeypatch.setattr(room, "read_bytes", vanish)
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    report = update_index(index_folder, [photos], encoder)
    assert report.added == 11
    assert [Path(path).name for path, _ in report.unreadable] == ["photo0003.png"]
    monkeypatch.undo()
    assert update_index(index_folder, [photos], encoder).unreadable == []


def test_file_replaced_between_listing_and_reading(
    photos: Path, encoder: TinyEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta import photos as room

    real = room.read_bytes
    replaced = photos / "class0/photo0003.png"

    def replace(path: bytes) -> bytes:
        if path == os.fsencode(replaced):
            save(replaced, 4321)
        return real(path)

    monkeypatch.setattr(room, "read_bytes", replace)
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    update_index(index_folder, [photos], encoder)
    monkeypatch.undo()
    assert list(check_index(index_folder)) == [], "the row is of the bytes that were read"
    update_index(index_folder, [photos], encoder)
    status = replaced.stat()
    found = row(index_folder, replaced)
    assert (found["size"], found["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert list(check_index(index_folder)) == []


def test_empty_folder(tmp_path: Path, encoder: TinyEncoder) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").write_text("no photo")
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    report = update_index(index_folder, [tmp_path / "photos"], encoder)
    assert (report.total, report.unreadable) == (0, [])
    assert open_snapshot(index_folder).photos == 0


def test_another_encoder_is_refused(index_folder: Path, photos: Path) -> None:
    other = TinyEncoder("other", "fedcba9876543210")
    with pytest.raises(errors.EncoderMismatch, match=r"'tiny'.*'other'"):
        update_index(index_folder, [photos], other)


def test_keypoints_are_part_of_what_an_index_is(tmp_path: Path, encoder: TinyEncoder) -> None:
    plain = create_index(tmp_path / "plain", encoder)
    assert plain.keypoints is None
    plain.require_extractor(None, tmp_path)
    with pytest.raises(errors.EncoderMismatch, match=r"no keypoints.*'tiny' \(00000000feedbeef\)"):
        plain.require_extractor(TinyExtractor(), tmp_path)
    create_index(tmp_path / "with", encoder, TinyExtractor())
    manifest = Manifest.read(tmp_path / "with")
    assert manifest.keypoints == {"name": "tiny", "identity": "00000000feedbeef", "count": 60}
    manifest.require_extractor(TinyExtractor(), tmp_path)
    with pytest.raises(errors.EncoderMismatch, match=r"feedbeef\); this run uses: none"):
        manifest.require_extractor(None, tmp_path)
    with pytest.raises(errors.EncoderMismatch, match="another folder"):
        manifest.require_extractor(TinyExtractor("0123456789abcdef"), tmp_path)


def test_not_an_index(tmp_path: Path, encoder: TinyEncoder) -> None:
    with pytest.raises(errors.NotAnIndex, match="does not exist"):
        open_snapshot(tmp_path / "nothing")
    with pytest.raises(errors.NotAnIndex, match="is not an index"):
        open_snapshot(tmp_path)
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(errors.CollectionError, match="not empty"):
        create_index(tmp_path, encoder)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(
        errors.IndexDamaged, match=r"index\.json does not read \(not valid JSON.*another folder"
    ):
        open_snapshot(tmp_path)


def without_checksum(file: Path) -> dict[str, Any]:
    """Return the values of an `index.json` as Veduta 0.1.0 wrote it."""
    return {key: value for key, value in json.loads(file.read_text()).items() if key != "checksum"}


def test_index_of_a_newer_version_is_refused(index_folder: Path) -> None:
    file = index_folder / "index.json"
    file.write_text(json.dumps({**without_checksum(file), "format": 99}))
    with pytest.raises(errors.IndexDamaged, match=r"by a newer Veduta \(layout 99"):
        open_snapshot(index_folder)


def test_index_of_an_older_version_is_refused(index_folder: Path) -> None:
    file = index_folder / "index.json"
    fields = {**without_checksum(file), "format": 1}
    del fields["keypoints"]
    file.write_text(json.dumps(fields))
    with pytest.raises(errors.IndexDamaged, match=r"older.*reads 2.*another folder"):
        open_snapshot(index_folder)


def test_a_wrong_value_in_the_manifest_is_named(index_folder: Path) -> None:
    file = index_folder / "index.json"
    fields = without_checksum(file)
    for change, message in (
        ({"folders": None}, r"index\.json does not read \(folders: Expected.*veduta repair"),
        ({"encoder": {"name": "x", "identity": "y"}}, "encoder: .*missing required .*dimension"),
        ({"keypoints": {"name": "x"}}, "keypoints: .*missing required .*identity"),
        ({"approximate": "yes"}, "approximate: Expected `bool`"),
        ({"format": "2"}, "format: Expected `int`"),
    ):
        file.write_text(json.dumps({**fields, **change}))
        with pytest.raises(errors.IndexDamaged, match=message):
            open_snapshot(index_folder)
    file.write_text(json.dumps({**fields, "written_by": "another program"}))
    assert open_snapshot(index_folder).photos == 12, "an unknown key does no harm"


def newest_manifest(index_folder: Path) -> Path:
    return min((index_folder / "photos.lance/_versions").glob("*.manifest"))


@pytest.mark.parametrize("damage", ["empty", "garbage", "half"])
def test_damaged_manifest_falls_back_and_says_so(
    index_folder: Path, photos: Path, encoder: TinyEncoder, damage: str
) -> None:
    save(photos / "late.png", 44)
    update_index(index_folder, [photos], encoder)
    file = newest_manifest(index_folder)
    data = file.read_bytes()
    file.write_bytes({"empty": b"", "garbage": b"\0" * 500, "half": data[: len(data) // 2]}[damage])
    snapshot = open_snapshot(index_folder)
    assert snapshot.photos == 13, "its snapshot is whole"
    assert "Its snapshot is whole and is used" in (snapshot.notice or "")
    assert "veduta repair" in (snapshot.notice or "")
    shutil.rmtree(index_folder / "snapshot")
    snapshot = open_snapshot(index_folder)
    assert snapshot.photos == 12
    assert "last good version" in (snapshot.notice or "")
    assert "veduta repair" in (snapshot.notice or "")
    with pytest.raises(errors.IndexDamaged, match="veduta repair"):
        update_index(index_folder, [photos], encoder)
    assert repair_index(index_folder).went_back
    assert open_snapshot(index_folder).notice is None
    assert update_index(index_folder, [photos], encoder).added == 1
    assert paths(index_folder) == on_disk(photos)
    assert list(check_index(index_folder)) == []


def test_damaged_data_file_costs_only_its_rows(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    late = [save(photos / f"late{i}.png", 100 + i) for i in range(5)]
    update_index(index_folder, [photos], encoder)
    fragments = open_table(index_folder).dataset.get_fragments()
    assert len(fragments) == 2
    (file,) = fragments[1].data_files()
    with (index_folder / "photos.lance/data" / file.path).open("r+b") as stream:
        stream.truncate(100)
    shutil.rmtree(index_folder / "snapshot")
    with pytest.raises(errors.IndexDamaged, match="veduta repair"):
        open_snapshot(index_folder)
    repaired = repair_index(index_folder)
    assert (repaired.lost_fragments, repaired.photos) == (1, 12)
    assert update_index(index_folder, [photos], encoder).added == len(late)
    assert list(check_index(index_folder)) == []


def test_repair_finds_nothing_to_do(index_folder: Path) -> None:
    done = repair_index(index_folder)
    assert (done.went_back, done.lost_fragments, done.removed_rows) == (False, 0, 0)
    assert done.photos == 12


def test_all_versions_damaged(index_folder: Path) -> None:
    for file in (index_folder / "photos.lance/_versions").glob("*.manifest"):
        file.write_bytes(b"")
    assert open_snapshot(index_folder).photos == 12, "its snapshot is whole"
    shutil.rmtree(index_folder / "snapshot")
    with pytest.raises(errors.IndexDamaged, match="no version"):
        open_snapshot(index_folder)


def test_check_finds_each_kind(index_folder: Path, photos: Path) -> None:
    (photos / "class0/photo0000.png").unlink()
    save(photos / "class0/photo0003.png", 1234)
    table = open_table(index_folder)
    (found,) = table.take([5], ["descriptor", "path"])
    import pyarrow as pa

    wrong = pa.table(
        {
            "id": pa.array([5], pa.int64()),
            "checksum": pa.array([1], pa.uint32()),
        }
    )
    table.update(wrong)
    kinds = {finding.path: finding.kind for finding in check_index(index_folder)}
    assert kinds == {
        os.fsencode(photos / "class0/photo0000.png"): "photo missing",
        os.fsencode(photos / "class0/photo0003.png"): "photo changed",
        found["path"]: "descriptor damaged",
    }
    assert repair_index(index_folder).removed_rows == 1


def test_second_writer_is_refused_and_readers_are_not(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    code = (
        "import sys, pathlib\n"
        "from veduta.index.table import writer_lock\n"
        "with writer_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(index_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(errors.IndexLocked, match="another process"):
            update_index(index_folder, [photos], encoder)
        assert open_snapshot(index_folder).photos == 12
        assert read_status(index_folder)["locked"]
    finally:
        holder.kill()
        holder.communicate()
    assert update_index(index_folder, [photos], encoder).unchanged == 12, (
        "the lock went with its process"
    )


def test_snapshot_survives_being_cut_off_or_removed(index_folder: Path) -> None:
    for name in ("descriptors.f16", "rows.arrow", "snapshot.json"):
        (folder,) = (index_folder / "snapshot").iterdir()
        with (folder / name).open("r+b") as stream:
            stream.truncate(10)
        assert open_snapshot(index_folder).photos == 12
    shutil.rmtree(index_folder / "snapshot")
    assert open_snapshot(index_folder).photos == 12


def test_reader_keeps_its_snapshot_while_the_writer_moves_on(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    old = open_snapshot(index_folder)
    save(photos / "late.png", 44)
    update_index(index_folder, [photos], encoder)
    assert old.photos == 12
    assert float(np.abs(old.descriptors.astype(np.float32)).sum()) > 0
    assert open_snapshot(index_folder).photos == 13


def test_read_only_index_can_be_searched(
    index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(index_folder / "snapshot")
    real = Path.mkdir

    def refuse(self: Path, *args: Any, **options: Any) -> None:
        if self == index_folder / "snapshot":
            raise PermissionError(13, "Permission denied", str(self))
        real(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert open_snapshot(index_folder).photos == 12


@pytest.mark.usefixtures("interruptible")
def test_interrupt_keeps_what_was_read(photos: Path, tmp_path: Path) -> None:
    class Interrupting(TinyEncoder):
        def encode(self, prepared: Any) -> Any:
            if self.encoded == 100:
                import _thread

                _thread.interrupt_main()
            return super().encode(prepared)

    index_folder = tmp_path / "index"
    encoder = Interrupting()
    create_index(index_folder, encoder)
    photo_folder(photos, 200)
    report = update_index(index_folder, [photos], encoder, workers=1)
    assert report.interrupted
    assert 0 < report.total < 200
    assert list(check_index(index_folder)) == []
    quiet = TinyEncoder()
    done = update_index(index_folder, [photos], quiet)
    assert quiet.encoded == 200 - report.total
    assert done.total == 200


def test_progress_acknowledges_only_what_is_committed(
    photos: Path, encoder: TinyEncoder, tmp_path: Path
) -> None:
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    photo_folder(photos, COMMIT_ROWS + 50)
    acknowledged: set[bytes] = set()

    def note(state: UpdateProgress) -> None:
        if state.paths:
            acknowledged.update(state.paths)
            assert open_table(index_folder).count() == state.committed == len(acknowledged)

    update_index(index_folder, [photos], encoder, on_progress=note)
    assert len(acknowledged) == COMMIT_ROWS + 50


@pytest.mark.slow
def test_many_small_commits_do_not_pile_up(
    photos: Path, encoder: TinyEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", 1)
    index_folder = tmp_path / "index"
    create_index(index_folder, encoder)
    photo_folder(photos, 150)
    update_index(index_folder, [photos], encoder)
    assert len(open_table(index_folder).dataset.get_fragments()) < 80
    assert len(list((index_folder / "photos.lance/_versions").glob("*.manifest"))) < 80
    assert paths(index_folder) == on_disk(photos)
    assert list(check_index(index_folder)) == []


def test_projection_is_fitted_and_taken_away(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    photo_folder(photos, 60)
    update_index(index_folder, [photos], encoder)
    set_projection(index_folder, 16)
    snapshot = open_snapshot(index_folder)
    assert snapshot.descriptors.shape == (60, 16)
    lengths = np.linalg.norm(snapshot.descriptors.astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    save(photos / "late.png", 400)
    update_index(index_folder, [photos], encoder)
    assert open_snapshot(index_folder).descriptors.shape == (61, 16)
    set_projection(index_folder, None)
    assert open_snapshot(index_folder).dimension == 192
    assert not list(index_folder.glob("projection-*"))
    with pytest.raises(errors.EncoderError, match="too few"):
        set_projection(index_folder, 150)


def test_status(index_folder: Path, photos: Path, encoder: TinyEncoder) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    update_index(index_folder, [photos], encoder, labels="folders")
    state = read_status(index_folder)
    assert (state["photos"], state["classes"], state["labels"]) == (12, 3, "folders")
    assert [Path(bad["path"]).name for bad in state["unreadable"]] == ["broken.jpg"]
    assert not state["locked"]
    json.dumps(state)


def test_thumbnails_outlive_the_photos(index_folder: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    ids = open_snapshot(index_folder).rows["id"].to_pylist()
    thumbnails = StoredThumbnails(index_folder).read([*ids, 10**6])
    assert all(data.startswith(b"\xff\xd8") for data in thumbnails[:-1])
    assert thumbnails[-1] == b""


def test_open_thumbnails_follow_the_rows_of_a_new_version(
    index_folder: Path, photos: Path, encoder: TinyEncoder
) -> None:
    stored = StoredThumbnails(index_folder)

    def by_path() -> dict[str, bytes]:
        rows = open_snapshot(index_folder).rows
        ids = rows["id"].to_pylist()
        # In another order than that of the table.
        thumbnails = dict(zip(ids[::-1], stored.read(ids[::-1]), strict=True))
        return {
            path: thumbnails[row] for path, row in zip(rows["path"].to_pylist(), ids, strict=True)
        }

    before = by_path()
    assert len(set(before.values())) == len(before) == 12
    first = min(before)
    Path(os.fsdecode(first)).unlink()
    update_index(index_folder, [photos], encoder, labels="folders")
    assert by_path() == {path: data for path, data in before.items() if path != first}


def test_every_kind_of_finding_has_a_remedy() -> None:
    from veduta.cli.check import REMEDIES
    from veduta.cli.repair import REBUILT as SENTENCES
    from veduta.index.checking import REBUILT
    from veduta.index.findings import KINDS

    assert set(REMEDIES) == set(KINDS)
    assert len(REMEDIES) == 11
    assert set(SENTENCES) == set(REBUILT)
