"""A creation that is cut off, or that another process makes at the same time, blocks no index."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder

from veduta import errors
from veduta.index import (
    Manifest,
    create_index,
    open_or_create_index,
    open_snapshot,
    open_table,
    repair_index,
    update_cached_index,
    update_index,
)

HERE = Path(__file__).parent
INDEX_FILES = {"index.json", "index-copy.json", "photos.lance", "writer.lock"}

# Kills itself before the step with the given number that changes the file system.
KILLED_CREATION = """
import os, signal, sys
from pathlib import Path
from tiny import TinyEncoder, TinyExtractor
from veduta.index import create_index
import filelock, lance

folder, last = sys.argv[1], int(sys.argv[2])
steps = 0

def stop(event, details):
    global steps
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree") or (
        event == "open" and isinstance(details[2], int) and details[2] & (os.O_CREAT | os.O_WRONLY)
    )
    if writes and any(folder in os.fsdecode(part) for part in details
                      if isinstance(part, (str, bytes))):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(stop)
create_index(Path(folder), TinyEncoder(), TinyExtractor())
print(steps)
"""


def killed_creation(folder: Path, step: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED_CREATION, str(folder), str(step)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photo_folder(folder, 3)
    return folder


def works(index_folder: Path, photos: Path) -> None:
    """The command that was cut off works now, and leaves nothing of the first try."""
    open_or_create_index(index_folder, TinyEncoder(), TinyExtractor())
    report = update_index(index_folder, [photos], TinyEncoder(), TinyExtractor(), graph=False)
    assert report.total == 3
    assert open_snapshot(index_folder).photos == 3
    names = {path.name for path in index_folder.iterdir()}
    assert names == INDEX_FILES | {"snapshot", "keypoints"}


@pytest.mark.slow
def test_a_creation_that_is_killed_at_any_step_is_done_again(photos: Path, tmp_path: Path) -> None:
    steps = int(killed_creation(tmp_path / "whole", 0).stdout)
    assert steps >= 8
    for step in range(1, steps + 1):
        index_folder = tmp_path / f"index{step}"
        assert killed_creation(index_folder, step).returncode == -9
        works(index_folder, photos)


def only(*parts: str) -> Callable[[Path], None]:
    """Return a function that leaves only these files of a new table."""

    def leave(table: Path) -> None:
        for path in sorted(table.rglob("*"), reverse=True):
            if path.is_file() and not path.name.endswith(parts):
                path.unlink()

    return leave


UNFINISHED: dict[str, Callable[[Path], object]] = {
    "an empty folder": lambda table: (shutil.rmtree(table), table.mkdir()),
    "folders without files": only("nothing"),
    "a transaction": only(".txn"),
    "a manifest": only(".txn", ".manifest"),
    "a manifest that is cut off": lambda table: [
        file.write_bytes(file.read_bytes()[:20]) for file in table.rglob("*.manifest")
    ],
    "all of the table": lambda table: None,
}


@pytest.fixture(params=UNFINISHED)
def unfinished(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder as a creation leaves it that is cut off before `index.json` is written."""
    index_folder = tmp_path / "an index"
    create_index(index_folder, TinyEncoder(), TinyExtractor())
    UNFINISHED[request.param](index_folder / "photos.lance")
    (index_folder / "index.json").unlink()
    (index_folder / "index-copy.json").unlink()
    draft = index_folder / ".draft-0123456789abcdef.json"
    draft.write_text("{")
    return index_folder


def test_an_unfinished_creation_is_done_again(unfinished: Path, photos: Path) -> None:
    works(unfinished, photos)
    assert not list(unfinished.glob(".*"))


def test_an_unfinished_cache_is_made_again(unfinished: Path, photos: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    encoder = TinyEncoder()
    assert update_cached_index(unfinished, files, encoder, None, graph=False).total == 3


def test_repair_of_an_unfinished_creation_names_what_works(unfinished: Path, photos: Path) -> None:
    with pytest.raises(errors.NotAnIndex) as caught:
        repair_index(unfinished)
    assert str(caught.value).endswith(f"veduta index FOLDER --index '{unfinished}'")
    works(unfinished, photos)


def test_an_index_with_rows_is_never_taken_for_unfinished(tmp_path: Path, photos: Path) -> None:
    index_folder = tmp_path / "index"
    create_index(index_folder, TinyEncoder())
    update_index(index_folder, [photos], TinyEncoder(), graph=False)
    (index_folder / "index.json").unlink()
    (index_folder / "index-copy.json").unlink()
    for create in (create_index, open_or_create_index):
        with pytest.raises(errors.IndexDamaged, match="it is gone"):
            create(index_folder, TinyEncoder())
    assert list((index_folder / "photos.lance/data").iterdir())


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("keep me")
    for create in (create_index, open_or_create_index):
        with pytest.raises(errors.CollectionError, match=r"not empty.*it holds letter\.txt"):
            create(mine, TinyEncoder())
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    with pytest.raises(errors.CollectionError, match=r"letter\.txt is not a folder"):
        create_index(mine / "letter.txt", TinyEncoder())
    with pytest.raises(errors.CollectionError, match="is not a folder"):
        create_index(mine / "letter.txt" / "index", TinyEncoder())


def test_an_index_is_not_created_twice(tmp_path: Path) -> None:
    create_index(tmp_path / "index", TinyEncoder())
    with pytest.raises(errors.CollectionError, match="it is an index already"):
        create_index(tmp_path / "index", TinyEncoder())
    other = TinyEncoder("other", "fedcba9876543210")
    assert open_or_create_index(tmp_path / "index", other).encoder["name"] == "tiny"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from veduta.index import manifest

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    index_folder = tmp_path / "index"
    monkeypatch.setattr(manifest, "write_bytes", fail)
    with pytest.raises(errors.StorageError, match="run the same command again"):
        create_index(index_folder, TinyEncoder(), TinyExtractor())
    assert {path.name for path in index_folder.iterdir()} <= {"writer.lock"}
    monkeypatch.undo()
    works(index_folder, photos)


@pytest.fixture
def limited_files() -> Iterator[Callable[[int], None]]:
    """Return `limit(n)`: no file of this process may be larger than n bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 500, 1000])
def test_a_limit_of_the_size_of_files_is_named(
    tmp_path: Path, photos: Path, limited_files: Callable[[int], None], size: int
) -> None:
    index_folder = tmp_path / "index"
    limited_files(size)
    try:
        with pytest.raises(errors.StorageError, match=r"ulimit -f"):
            create_index(index_folder, TinyEncoder(), TinyExtractor())
    finally:
        limited_files(resource.RLIM_INFINITY)
    works(index_folder, photos)


@pytest.mark.slow
def test_a_full_disk_at_any_step_of_the_creation(photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for pages in range(1, 14):
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"nr_blocks={pages}", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip("no permission to mount a small disk")
        try:
            try:
                create_index(disk / "index", TinyEncoder(), TinyExtractor())
            except errors.StorageFull as error:
                assert "the disk is full" in str(error)
                assert "run the same command again" in str(error)
            more = f"remount,nr_blocks={pages + 4000}"
            subprocess.run(["mount", "-o", more, str(disk)], check=True)
            works(disk / "index", photos)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


TWO_WRITERS = """
import sys, time
from pathlib import Path
from tiny import TinyEncoder, TinyExtractor
from veduta import errors
from veduta.index import open_or_create_index, update_cached_index, update_index
import filelock, lance

kind, index, photos = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
try:
    if kind == "cache":
        files = sorted(photos.rglob("*.png"))
        update_cached_index(index, files, TinyEncoder(), TinyExtractor(), graph=False)
    else:
        open_or_create_index(index, TinyEncoder(), TinyExtractor())
        update_index(index, [photos], TinyEncoder(), TinyExtractor(), graph=False)
    print("done")
except errors.VedutaError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["index", "cache"])
def test_of_two_first_writers_the_loser_hears_of_the_other(
    tmp_path: Path, kind: str, photos: Path
) -> None:
    heard = []
    for attempt in range(3):
        index_folder = tmp_path / f"index{attempt}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", TWO_WRITERS, kind, str(index_folder), str(photos)],
                env={**os.environ, "PYTHONPATH": str(HERE)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        heard.append([process.communicate()[0].strip() for process in processes])
        assert "done" in heard[-1], heard
        assert Manifest.read(index_folder).encoder["name"] == "tiny"
        assert open_snapshot(index_folder).photos == 3
    for answer in (answer for pair in heard for answer in pair if answer != "done"):
        assert answer.startswith("IndexLocked"), heard
        assert "another process is writing to this index" in answer


@pytest.mark.parametrize("name", [b"two\nlines", b"caf\xe9", b"tab\t", b"\x1b[31m", b"\xc2\x9b"])
def test_a_path_that_lance_does_not_take_is_refused_before_anything_is_made(
    tmp_path: Path, name: bytes
) -> None:
    index_folder = tmp_path / os.fsdecode(name)
    for create in (create_index, open_or_create_index):
        with pytest.raises(errors.CollectionError, match="must be UTF-8 without control"):
            create(index_folder, TinyEncoder())
    assert list(tmp_path.iterdir()) == []
    create_index(tmp_path / "index", TinyEncoder())
    (tmp_path / "index").rename(index_folder)
    with pytest.raises(errors.CollectionError, match="rename this one"):
        open_table(index_folder)


@pytest.mark.parametrize(
    "name", ["a:b", "s3:/x", "file:x", "a?b#c%20d", "-x", " ", "größe", "a\\b"]
)
def test_an_odd_relative_path_is_a_folder(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    index_folder = Path(name)
    works(index_folder, photos)
    assert (tmp_path / name / "index.json").is_file()
