"""A disk that is full or read-only, and the like, is named as such and never called damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from tiny import TinyEncoder, TinyExtractor, photo_folder, save

from veduta import errors
from veduta.index import (
    check_index,
    create_index,
    forget_folders,
    open_snapshot,
    read_status,
    repair_index,
    set_projection,
    update_index,
)
from veduta.search import Engine, SearchOptions

HERE = Path(__file__).parent
PHOTOS = 6


class Disk:
    """A small disk in memory with an index on it, and photos elsewhere."""

    def __init__(self, mount: Path, photos: Path) -> None:
        self.mount = mount
        self.photos = photos
        self.index = mount / "index"

    def fill(self) -> None:
        with (self.mount / "fill").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        (self.mount / "fill").unlink()

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.mount)], check=True)

    def update(self, *folders: Path) -> Any:
        return update_index(self.index, folders, TinyEncoder(), TinyExtractor())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 8 MB; needs the right to mount."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no permission to mount a small disk")
    try:
        photo_folder(tmp_path / "photos", PHOTOS)
        disk = Disk(mount, tmp_path / "photos")
        create_index(disk.index, TinyEncoder(), TinyExtractor())
        disk.update(disk.photos)
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def drafts(index_folder: Path) -> list[Path]:
    return list(index_folder.rglob(".draft-*"))


def answers(index_folder: Path) -> list[str]:
    """Search for a photo and return the names of the hits."""
    engine = Engine(index_folder, encoder=TinyEncoder())
    query = engine.encode_query([np.full((48, 32, 3), 99, np.uint8)], rerank="none")
    options = SearchOptions(k=PHOTOS, rerank="none")
    return [Path(hit.path).name for hit in engine.search(query, options)]


READS: dict[str, Callable[[Disk], object]] = {
    "search": lambda disk: answers(disk.index),
    "status": lambda disk: read_status(disk.index)["photos"] == PHOTOS,
    "check": lambda disk: list(check_index(disk.index)) == [],
    "snapshot": lambda disk: open_snapshot(disk.index).photos == PHOTOS,
}

WRITES: dict[str, Callable[[Disk], object]] = {
    "new photos": lambda disk: disk.update(disk.photos),
    "projection": lambda disk: set_projection(disk.index, 3),
    "forget": lambda disk: forget_folders(disk.index, [disk.photos / "class0"]),
}


@pytest.mark.parametrize("snapshot", ["there", "gone"])
@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("use", READS)
def test_reading_goes_on(disk: Disk, use: str, state: str, snapshot: str) -> None:
    expected = answers(disk.index)
    assert len(expected) == PHOTOS
    if snapshot == "gone":
        shutil.rmtree(disk.index / "snapshot")
    disk.fill() if state == "full" else disk.remount("ro")
    assert READS[use](disk)
    assert answers(disk.index) == expected
    assert not drafts(disk.index)


def test_nothing_to_do_needs_no_room(disk: Disk) -> None:
    disk.fill()
    assert disk.update().unchanged == PHOTOS
    assert disk.update(disk.photos).unchanged == PHOTOS
    assert not drafts(disk.index)


@pytest.mark.parametrize("use", WRITES)
def test_a_full_disk_is_named_and_the_same_command_works_later(disk: Disk, use: str) -> None:
    save(disk.photos / "late.png", 77)
    disk.fill()
    for _ in range(2):
        with pytest.raises(errors.StorageFull, match="the disk is full") as caught:
            WRITES[use](disk)
        assert "Free some space, and run the same command again" in str(caught.value)
        assert "repair" not in str(caught.value)
        assert not drafts(disk.index)
    disk.free()
    WRITES[use](disk)
    disk.update(disk.photos)
    assert open_snapshot(disk.index).photos == PHOTOS + 1
    assert list(check_index(disk.index)) == []


@pytest.mark.parametrize("use", [*WRITES, "creation", "repair"])
def test_a_read_only_disk_is_named(disk: Disk, use: str) -> None:
    save(disk.photos / "late.png", 77)
    disk.remount("ro")
    others: dict[str, Callable[[Disk], object]] = {
        "creation": lambda disk: create_index(disk.mount / "other", TinyEncoder()),
        "repair": lambda disk: repair_index(disk.index),
    }
    write = WRITES.get(use) or others[use]
    with pytest.raises(errors.StorageError, match="the file system is read-only") as caught:
        write(disk)
    assert "repair" not in str(caught.value)
    assert caught.value.exit_code == 4
    disk.remount("rw")
    write(disk)


def test_a_repair_on_a_full_disk_loses_nothing(disk: Disk) -> None:
    """It first removes what it makes again. Whether that is room enough depends on the disk."""
    disk.fill()
    try:
        repair_index(disk.index)
    except errors.StorageFull as error:
        assert "Free some space, and run the same command again" in str(error)
    assert open_snapshot(disk.index).photos == PHOTOS
    disk.free()
    assert repair_index(disk.index).photos == PHOTOS
    assert list(check_index(disk.index)) == []


def test_a_full_temporary_folder_is_named(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(disk.mount / "tmp"))
    (disk.mount / "tmp").mkdir()
    shutil.rmtree(disk.index / "snapshot")
    disk.fill()
    with pytest.raises(errors.StorageFull, match=f"{disk.mount}/tmp: the disk is full"):
        open_snapshot(disk.index)


def test_status_of_a_locked_index_on_a_read_only_disk(disk: Disk) -> None:
    from veduta.index.table import writer_lock

    with writer_lock(disk.index):
        assert read_status(disk.index)["locked"]
    disk.remount("ro")
    assert not read_status(disk.index)["locked"]


@pytest.mark.slow
def test_the_commands_on_a_read_only_disk(disk: Disk, tmp_path: Path) -> None:
    case = tmp_path / "case"
    photo_folder(case, 3)
    index = disk.mount / "real"
    done = run_veduta(tmp_path, "index", case, "--index", index, "--keypoints", "none")
    assert done.returncode == 0, done.stderr
    disk.remount("ro")
    status = run_veduta(tmp_path, "status", "--index", index)
    assert (status.returncode, status.stderr) == (0, "")
    assert "3 photos" in status.stdout and "writing     nobody" in status.stdout
    update = run_veduta(tmp_path, "index", "--index", index)
    assert update.returncode == 4
    assert "the file system is read-only" in update.stderr
    assert "repair" not in update.stderr


TOO_MANY_FILES = """
import os, resource, sys
from pathlib import Path
from tiny import TinyEncoder, TinyExtractor
from veduta import errors
from veduta.index import *
import filelock, lance, pyarrow.ipc

index, photos = Path(sys.argv[1]), Path(sys.argv[2])
uses = {
    "snapshot": lambda: open_snapshot(index),
    "status": lambda: read_status(index),
    "check": lambda: list(check_index(index)),
    "update": lambda: update_index(index, [photos], TinyEncoder(), TinyExtractor(), workers=1),
    "repair": lambda: repair_index(index),
}
for use in uses.values():
    use()  # Lance opens what it keeps open.
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
failed = 0
for name, use in uses.items():
    for more in range(12):
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
        try:
            use()
        except errors.VedutaError as error:
            failed += 1
            if "too many files are open" not in str(error) or "repair" in str(error):
                print(name, more, type(error).__name__, error)
        except OSError:
            import traceback
            print(name, more, traceback.format_exc())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
print("failed", failed)
"""


@pytest.mark.slow
def test_too_many_open_files_are_named(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", 3)
    index = tmp_path / "index"
    create_index(index, TinyEncoder(), TinyExtractor())
    update_index(index, [tmp_path / "photos"], TinyEncoder(), TinyExtractor())
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY_FILES, str(index), str(tmp_path / "photos")],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    (summary,) = done.stdout.splitlines()
    assert int(summary.removeprefix("failed ")) >= 5
    assert open_snapshot(index).photos == 3
    assert list(check_index(index)) == []


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    for use in (
        open_snapshot,
        read_status,
        repair_index,
        lambda path: create_index(path, TinyEncoder()),
    ):
        with pytest.raises(errors.StorageError, match="a name is too long"):
            use(long)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_missing_permission_is_named(tmp_path: Path) -> None:
    create_index(tmp_path / "index", TinyEncoder())
    (tmp_path / "index").chmod(0o555)
    try:
        assert read_status(tmp_path / "index")["photos"] == 0
        with pytest.raises(errors.StorageError, match="no permission"):
            update_index(tmp_path / "index", [tmp_path], TinyEncoder())
    finally:
        (tmp_path / "index").chmod(0o755)
