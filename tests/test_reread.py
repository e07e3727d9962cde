"""A refusal that has nothing to do with the bytes is not stored, and `--reread` reads all again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import TinyEncoder, TinyExtractor, photo_folder, save

from veduta import errors, photos
from veduta.index import (
    UpdateReport,
    check_index,
    create_index,
    open_snapshot,
    open_table,
    read_status,
    update_index,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 4)
    return tmp_path / "photos"


@pytest.fixture
def index_folder(tmp_path: Path, folder: Path) -> Path:
    create_index(tmp_path / "index", TinyEncoder())
    return tmp_path / "index"


def names(found: list[tuple[str, str]]) -> list[str]:
    return [Path(path).name for path, _ in found]


def update(index_folder: Path, *folders: Path, **options: Any) -> UpdateReport:
    encoder = options.pop("encoder", None) or TinyEncoder()
    return update_index(index_folder, folders, encoder, graph=False, **options)


def refuse(name: str, error: Exception) -> Callable[[Any], bytes]:
    """Return `read_bytes`, which raises an error for one photo."""
    real = photos.read_bytes

    def read_bytes(path: Any) -> bytes:
        if os.fsencode(path).endswith(name.encode()):
            raise error
        return real(path)

    return read_bytes


def system_error(number: int) -> errors.PhotoUnreadable:
    from veduta.photos.files import why_unreadable

    error = OSError(number, os.strerror(number))
    return errors.PhotoUnreadable("x", why_unreadable(error, "x"))


CAUSES = {
    "permission": system_error(errno.EACCES),
    "a disk error": system_error(errno.EIO),
    "too many open files": system_error(errno.EMFILE),
    "a share that was away": system_error(errno.ESTALE),
    "a share without a server": system_error(errno.ENOTCONN),
    "memory": MemoryError(),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_new_photo_is_read_when_the_cause_is_gone(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.setattr(photos, "read_bytes", refuse("photo0003.png", CAUSES[cause]))
    for _ in range(2):
        report = update(index_folder, folder)
        assert names(report.not_read) == names(report.unreadable) == ["photo0003.png"]
        assert report.not_read[0][1]
        assert report.total == 3
        assert read_status(index_folder)["unreadable"] == [], "no verdict is stored"
    monkeypatch.undo()
    report = update(index_folder)
    assert (report.added, report.total, report.unreadable, report.not_read) == (1, 4, [], [])


@pytest.mark.parametrize("cause", CAUSES)
def test_a_photo_that_the_index_has_keeps_its_row(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    update(index_folder, folder)
    before = {row["id"]: row for row in open_snapshot(index_folder).rows.to_pylist()}
    (changed,) = folder.rglob("photo0003.png")
    save(changed, 4321)
    monkeypatch.setattr(photos, "read_bytes", refuse("photo0003.png", CAUSES[cause]))
    assert names(update(index_folder).not_read) == ["photo0003.png"]
    assert {row["id"]: row for row in open_snapshot(index_folder).rows.to_pylist()} == before
    monkeypatch.undo()
    report = update(index_folder)
    assert (report.changed, report.unchanged, report.not_read) == (1, 3, [])
    assert list(check_index(index_folder)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_real_permission_heals(index_folder: Path, folder: Path) -> None:
    (photo,) = folder.rglob("photo0003.png")
    photo.chmod(0)
    assert names(update(index_folder, folder).not_read) == ["photo0003.png"]
    photo.chmod(0o644)
    assert update(index_folder).total == 4


def test_not_enough_memory_while_decoding_is_no_verdict(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = import_module("veduta.photos.decode")

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decode, "_decode_with_pillow", exhausted)
    report = update(index_folder, folder)
    assert len(report.not_read) == 4
    assert "memory" in report.not_read[0][1]
    monkeypatch.undo()
    assert update(index_folder).added == 4


def test_a_verdict_about_the_bytes_is_kept_until_the_file_changes(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "broken.jpg"
    broken.write_bytes(b"no photo")
    report = update(index_folder, folder)
    assert (names(report.unreadable), report.not_read) == (["broken.jpg"], [])
    monkeypatch.setattr(photos, "read_bytes", refuse("broken.jpg", AssertionError("read again")))
    report = update(index_folder)
    assert (names(report.unreadable), report.not_read) == (["broken.jpg"], [])
    assert [Path(bad["path"]).name for bad in read_status(index_folder)["unreadable"]] == [
        "broken.jpg"
    ]


def test_refused_photos_are_tried_again_with_other_decoders(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (refused,) = folder.rglob("photo0003.png")
    real = photos.decode

    def old_decoder(data: bytes, *, path: bytes, **options: Any) -> photos.Photo:
        if path == os.fsencode(refused):
            raise errors.UnsupportedFormat(os.fsdecode(path), "not known yet")
        return real(data, path=path, **options)

    monkeypatch.setattr(photos, "decode", old_decoder)
    monkeypatch.setattr(photos, "decoders", lambda: "veduta 0.1.0; 900 MB")
    assert names(update(index_folder, folder).unreadable) == ["photo0003.png"]
    monkeypatch.setattr(photos, "decode", real)
    assert names(update(index_folder).unreadable) == ["photo0003.png"], "the same decoders"
    monkeypatch.undo()
    report = update(index_folder)
    assert (report.changed, report.unreadable, report.total) == (1, [], 4)


def test_the_decoders_name_the_libraries_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from veduta import __version__

    assert photos.decoders().startswith(f"veduta {__version__}, ")
    assert "pillow" in photos.decoders()
    assert photos.decoders().endswith("; 900 MB")
    monkeypatch.setenv("VEDUTA_DECODE_MEMORY_MB", "2000")
    assert photos.decoders().endswith("; 2000 MB")


def test_a_second_try_that_changes_nothing_writes_nothing(index_folder: Path, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no photo")
    (folder / "copy.png").write_bytes(next(folder.rglob("photo0003.png")).read_bytes())
    update(index_folder, folder)
    version = open_table(index_folder).version
    encoder = TinyEncoder()
    report = update(index_folder, reread=True, encoder=encoder)
    assert (report.unchanged, names(report.unreadable)) == (5, ["broken.jpg"])
    assert (report.changed, report.copied, report.encoded, encoder.encoded) == (0, 0, 0, 0)
    assert open_table(index_folder).version == version


def test_reread_finds_a_change_that_kept_size_and_time(index_folder: Path, folder: Path) -> None:
    (photo,) = folder.rglob("photo0003.png")
    size = 20_000  # Bytes behind the end of a PNG do not matter.
    os.truncate(photo, size)
    update(index_folder, folder)
    status = photo.stat()
    save(photo, 4321)
    os.truncate(photo, size)
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [finding.kind for finding in check_index(index_folder)] == ["photo changed"]
    assert update(index_folder).changed == 0
    report = update(index_folder, reread=True)
    assert (report.changed, report.unchanged) == (1, 3)
    assert list(check_index(index_folder)) == []


class FailingEncoder(TinyEncoder):
    """Fails on photos that it is told to, as a network does that runs out of memory."""

    fails = True

    def encode(self, prepared: Any) -> Any:
        if self.fails:
            raise errors.EncoderError("tiny: the model gave undefined numbers")
        return super().encode(prepared)


def test_an_encoder_that_fails_on_all_is_blamed_and_not_the_photos(
    index_folder: Path, folder: Path
) -> None:
    with pytest.raises(errors.EncoderError, match="undefined numbers"):
        update(index_folder, folder, encoder=FailingEncoder())
    assert open_snapshot(index_folder).rows.num_rows == 0
    assert update(index_folder, folder).added == 4


def test_an_encoder_that_fails_on_one_photo_does_not_stop_the_run(
    index_folder: Path, folder: Path
) -> None:
    update(index_folder, folder)
    save(folder / "odd.png", 77)
    (next(folder.rglob("photo0002.png"))).unlink()
    report = update(index_folder, encoder=FailingEncoder())
    assert (names(report.not_read), report.removed, report.total) == (["odd.png"], 1, 3)
    assert update(index_folder).added == 1


def test_keypoints_of_later_photos_stay_right(tmp_path: Path, folder: Path) -> None:
    """A photo that is not read must not shift the keypoints of the others."""
    from test_durability import keypoints_are_right

    index_folder = tmp_path / "with keypoints"
    create_index(index_folder, TinyEncoder(), TinyExtractor())

    class FailsOnce(TinyEncoder):
        def encode(self, prepared: Any) -> Any:
            if self.encoded == 1:
                self.encoded += 1
                raise errors.EncoderError("not now")
            return super().encode(prepared)

    report = update_index(index_folder, [folder], FailsOnce(), TinyExtractor(), workers=1)
    assert len(report.not_read) == 1
    there = {os.fsencode(path) for path in folder.rglob("*.png")}
    failed = {os.fsencode(path) for path, _ in report.not_read}
    keypoints_are_right(index_folder, there - failed)


def test_dates_and_places_of_known_photos_are_read_again(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = Image.Exif()
    dated.get_ifd(0x8769)[0x9003] = "2020:05:06 07:08:09"
    dated.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (2.0, 15.0, 0.0)})
    for name in ("dated.jpg", "copy.jpg"):
        Image.new("RGB", (40, 30), "red").save(folder / name, exif=dated)
    decode = photos.decode

    def without_exif(*data: Any, **options: Any) -> photos.Photo:
        return replace(decode(*data, **options), taken=None, place=None)

    monkeypatch.setattr(photos, "decode", without_exif)  # As an older Veduta read it.
    update(index_folder, folder)
    monkeypatch.undo()
    assert update(index_folder).exif_changed == 0, "only if that is asked for"
    before = {row["path"]: row for row in open_snapshot(index_folder).rows.to_pylist()}
    for exif_changed in (2, 0):
        report = update(index_folder, reread=True)
        assert (report.exif_changed, report.unchanged, report.encoded) == (exif_changed, 6, 0)
    for path, row in before.items():
        if path.endswith((b"dated.jpg", b"copy.jpg")):
            row |= {"taken": datetime(2020, 5, 6, 7, 8, 9), "latitude": 48.5, "longitude": 2.25}
    after = {row["path"]: row for row in open_snapshot(index_folder).rows.to_pylist()}
    assert after == before
    assert list(check_index(index_folder)) == []


def test_a_photo_that_cannot_be_decoded_now_keeps_its_date(
    index_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(index_folder, folder)
    before = open_snapshot(index_folder).rows

    def refuse(*_: Any, **options: Any) -> None:
        raise errors.PhotoError(options["path"], "its decoder is missing")

    monkeypatch.setattr(photos, "decode", refuse)
    report = update(index_folder, reread=True)
    assert (report.unchanged, report.unreadable) == (4, [])
    assert open_snapshot(index_folder).rows == before
