"""Writing files: whole or not at all, through errors, kill -9 and full disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from veduta import files
from veduta.errors import CannotWrite
from veduta.files import (
    AppendOnlyFile,
    atomic_file,
    atomic_files,
    atomic_folder,
    is_disk_full,
    is_draft,
    remove_drafts,
    sync,
    system_failure,
    write_bytes,
    write_text,
)


@pytest.fixture
def umask() -> Iterator[int]:
    """An unusual umask for the time of a test."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def drafts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_draft(path)]


class TestAtomicFile:
    def test_it_replaces_the_file_at_the_end(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_text("old")
        with atomic_file(file) as draft:
            assert draft.parent == tmp_path and draft.suffix == ".txt" and is_draft(draft)
            draft.write_text("new")
            assert file.read_text() == "old"
        assert file.read_text() == "new" and drafts(tmp_path) == []

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_leaves_the_old_file(self, tmp_path: Path, error: type[BaseException]) -> None:
        file = tmp_path / "a.txt"
        file.write_text("old")
        with pytest.raises(error), atomic_file(file) as draft:
            draft.write_text("half")
            raise error
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
        assert file.read_text() == "old"

    def test_an_error_makes_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError), atomic_file(tmp_path / "a") as draft:
            draft.write_text("half")
            raise ValueError
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.name != "posix", reason="needs umask")
    def test_the_rights_follow_the_umask(self, tmp_path: Path, umask: int) -> None:
        with atomic_file(tmp_path / "a") as draft:
            assert mode(draft) == 0o666 & ~umask
            draft.write_text("x")
        assert mode(tmp_path / "a") == 0o666 & ~umask

    def test_a_durable_file_syncs_the_content_then_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[tuple[bool, bool]] = []
        target = tmp_path / "a"

        def note(path: Path) -> None:
            synced.append((path == tmp_path, target.exists()))

        monkeypatch.setattr(files, "sync", note)
        write_bytes(target, b"x")
        assert synced == []
        target.unlink()
        write_bytes(target, b"x", durable=True)
        assert synced == [(False, False), (True, True)], "first the draft, at last the folder"

    def test_text_is_utf8_with_plain_line_ends(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a", "é\n")
        assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
        write_text(tmp_path / "b", (f"{i}\n" for i in range(3)))
        assert (tmp_path / "b").read_bytes() == b"0\n1\n2\n"

    def test_durable_text_is_complete_before_it_is_synced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        contents: list[bytes] = []

        def note(path: Path) -> None:
            contents.append(b"" if path.is_dir() else path.read_bytes())

        monkeypatch.setattr(files, "sync", note)
        write_text(tmp_path / "a", ["one", "two"], durable=True)
        assert contents == [b"onetwo", b""]

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "absent" / "a"
        with pytest.raises(CannotWrite) as caught:
            write_bytes(file, b"x")
        assert str(caught.value) == f"{file}: cannot be written: its folder does not exist"
        assert caught.value.errno == errno.ENOENT and caught.value.filename == str(file)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_a_durable_file_replaces_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "file")
        write_bytes(tmp_path / "file", b"x", durable=True)
        assert (tmp_path / "file").read_bytes() == b"x"


class TestAtomicFolder:
    def test_it_replaces_the_folder_at_the_end(self, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "folder"
        with atomic_folder(folder) as draft:
            (draft / "a").write_text("1")
            assert not folder.exists()
        with atomic_folder(folder) as draft:
            (draft / "b").write_text("2")
            assert (folder / "a").exists()
        assert [path.name for path in folder.iterdir()] == ["b"]
        assert drafts(folder.parent) == []

    def test_an_error_leaves_the_old_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        with atomic_folder(folder) as draft:
            (draft / "a").write_text("1")
        with pytest.raises(ValueError), atomic_folder(folder) as draft:
            (draft / "b").write_text("2")
            raise ValueError
        assert [path.name for path in folder.iterdir()] == ["a"]
        assert drafts(tmp_path) == []

    def test_a_failed_rename_puts_the_old_folder_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "folder"
        with atomic_folder(folder) as draft:
            (draft / "a").write_text("1")
        rename = Path.rename
        with pytest.raises(OSError, match="no"), atomic_folder(folder) as draft:
            own = draft

            def fail(path: Path, target: Path) -> Path:
                if path == own:
                    raise OSError("no")
                return rename(path, target)

            monkeypatch.setattr(Path, "rename", fail)
        assert (folder / "a").read_text() == "1"
        assert drafts(tmp_path) == []

    @pytest.mark.skipif(os.name != "posix", reason="needs umask")
    def test_the_rights_follow_the_umask(self, tmp_path: Path, umask: int) -> None:
        with atomic_folder(tmp_path / "folder"):
            pass
        assert mode(tmp_path / "folder") == 0o777 & ~umask

    @pytest.mark.skipif(os.name != "posix", reason="needs flock")
    def test_the_draft_of_a_killed_process_is_removed_and_one_in_use_stays(
        self, tmp_path: Path
    ) -> None:
        script = (
            "import os, sys\n"
            "from veduta.files import atomic_folder\n"
            "with atomic_folder(sys.argv[1]) as draft:\n"
            "    (draft / 'part').write_text('1')\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        for name in ("folder", "other"):
            call = [sys.executable, "-c", script, str(tmp_path / name)]
            assert subprocess.run(call, check=False).returncode == -9
        assert len(drafts(tmp_path)) == 2
        with atomic_folder(tmp_path / "folder") as outer:
            with atomic_folder(tmp_path / "folder") as draft:
                (draft / "whole").write_text("1")
            assert outer.exists() and len(drafts(tmp_path)) == 2  # This one, and that of "other".
        assert len(drafts(tmp_path)) == 1
        with atomic_folder(tmp_path / "other"):
            pass
        assert drafts(tmp_path) == []

    @pytest.mark.skipif(os.name != "posix", reason="needs links")
    def test_the_folder_above_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with atomic_folder(tmp_path / "link" / "folder"):
            pass
        assert (tmp_path / "real" / "folder").is_dir()

    def test_several_writers_of_one_folder(self, tmp_path: Path) -> None:
        """Each writes a whole folder. The last one keeps the name, and nobody fails."""
        folder = tmp_path / "folder"

        def write(number: int) -> None:
            for _ in range(40):
                with atomic_folder(folder) as draft:
                    (draft / "one").write_text(f"{number}")
                    (draft / "two").write_text(f"{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        assert (folder / "one").read_text() == (folder / "two").read_text()
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


class TestAtomicFiles:
    def test_the_last_entry_comes_with_all_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "model").write_text("old")
        (folder / "kept").write_text("kept")
        order: list[tuple[str, bool]] = []
        replace = Path.replace

        def note(path: Path, target: Path) -> Path:
            order.append((target.name, (folder / "model").exists()))
            return replace(path, target)

        with atomic_files(folder, last="model") as draft:
            for name in ("model", "z", "a"):
                (draft / name).write_text("new")
            assert (folder / "model").read_text() == "old"
            monkeypatch.setattr(Path, "replace", note)
        assert order == [("a", False), ("z", False), ("model", False)]
        assert {path.name: path.read_text() for path in folder.iterdir()} == {
            "a": "new",
            "kept": "kept",
            "model": "new",
            "z": "new",
        }

    def test_a_folder_entry_replaces_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "old").write_text("old")
        with atomic_files(tmp_path, last="model") as draft:
            (draft / "part").mkdir()
            (draft / "part" / "new").write_text("new")
            (draft / "model").write_text("new")
        assert [path.name for path in (tmp_path / "part").iterdir()] == ["new"]

    def test_an_error_moves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "model").write_text("old")
        with pytest.raises(ValueError), atomic_files(tmp_path, last="model") as draft:
            (draft / "model").write_text("new")
            raise ValueError
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert (tmp_path / "model").read_text() == "old"


KILLED = {
    "file": "with files.atomic_file(target) as draft:\n    draft.write_text('half')\n    wait()",
    "folder": "with files.atomic_folder(target) as draft:\n"
    "    (draft / 'a').write_text('half')\n    wait()",
    "files": "with files.atomic_files(target.parent, last=target.name) as draft:\n"
    "    (draft / target.name).write_text('half')\n    wait()",
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("kind", KILLED)
def test_kill_9_leaves_the_old_one(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
        (target / "a").write_text("old")
    else:
        target.write_text("old")
    script = (
        "import pathlib, sys, time\nfrom veduta import files\n"
        "target = pathlib.Path(sys.argv[1])\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n" + KILLED[kind]
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (target / "a" if kind == "folder" else target).read_text() == "old"
    (left,) = drafts(tmp_path)
    assert left.name.startswith(".draft-"), "and a hidden draft, which disturbs nothing"


class TestAppendOnlyFile:
    def test_entries_follow_each_other(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        with AppendOnlyFile(file) as journal:
            assert journal.end == 0
            journal.append(b"one")
            journal.append(b"two", durable=True)
            assert journal.end == 6 and journal.read(3, 100) == b"two"
        with AppendOnlyFile(file) as journal:
            journal.append(b"three")
        assert file.read_bytes() == b"onetwothree"

    def test_a_torn_end_is_cut_off(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        file.write_bytes(b"whole|ha")
        with AppendOnlyFile(file, end=6) as journal:
            assert file.read_bytes() == b"whole|"
            journal.append(b"next|")
            journal.cut(6)
            journal.append(b"other|")
            journal.sync()
        assert file.read_bytes() == b"whole|other|"

    @pytest.mark.parametrize("fails", ["write", "fsync"])
    def test_a_failed_append_is_cut_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
    ) -> None:
        file = tmp_path / "journal"
        full = OSError(errno.ENOSPC, "No space left on device")
        write, calls = os.write, []

        def half(descriptor: int, data: memoryview) -> int:
            """The first call writes a part, the second one meets a full disk."""
            calls.append(len(data))
            if len(calls) == 2:
                raise full
            return write(descriptor, data[:3])

        def fail(_: int) -> None:
            raise full

        with AppendOnlyFile(file) as journal:
            journal.append(b"whole|")
            with monkeypatch.context() as patch, pytest.raises(OSError, match="No space") as caught:
                patch.setattr(os, fails, half if fails == "write" else fail)
                journal.append(b"too long|", durable=True)
            assert caught.value.errno == errno.ENOSPC
            assert file.read_bytes() == b"whole|" and journal.end == 6
            journal.append(b"short|")
        assert file.read_bytes() == b"whole|short|"

    def test_partial_writes_are_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
        with AppendOnlyFile(tmp_path / "journal") as journal:
            journal.append(b"seven b")
        assert (tmp_path / "journal").read_bytes() == b"seven b"

    def test_a_folder_cannot_be_appended_to(self, tmp_path: Path) -> None:
        with pytest.raises(OSError):
            AppendOnlyFile(tmp_path)


def test_sync_takes_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    sync(tmp_path / "a")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "absent")


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom veduta.files import write_text\n"
        "for _ in range(200):\n    write_text(sys.argv[1], [sys.argv[2]] * 1000)\n"
    )
    target = tmp_path / "a"
    write_text(target, ["a"] * 1000)
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(target), letter]) for letter in "ab"
    ]
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        assert target.read_text() in {"a" * 1000, "b" * 1000}
    assert [writer.wait() for writer in writers] == [0, 0]
    assert drafts(tmp_path) == []


def test_a_full_disk_is_known_by_its_number_and_by_the_words_of_numpy() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert is_disk_full(OSError("57600 requested and 34816 written"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_disk_full(OSError("no file"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_numpy_on_a_full_disk() -> None:
    with (
        Path("/dev/full").open("wb") as stream,
        pytest.raises(OSError, match=r"written|space") as error,
    ):
        np.zeros(10**6).tofile(stream)
    assert is_disk_full(error.value)


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    old_file, old_folder = tmp_path / ".draft-00", tmp_path / ".draft-01"
    fresh_folder, mine = tmp_path / ".draft-02", tmp_path / "kept"
    old_file.write_text("x")
    for folder in (old_folder, fresh_folder):
        folder.mkdir()
        (folder / "part").write_text("x")
    mine.write_text("x")
    for path in (old_folder / "part", old_folder, old_file, fresh_folder):
        os.utime(path, (1000, 1000))
    remove_drafts(tmp_path, older_than_seconds=3600)
    assert {path.name for path in tmp_path.iterdir()} == {".draft-02", "kept"}
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}
    remove_drafts(tmp_path / "missing")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (OSError(errno.EDQUOT, "x"), "the user's share of the disk is full"),
        (OSError(errno.EFBIG, "x"), "a file would be larger than this user"),
        (OSError(errno.EROFS, "x"), "the file system is read-only"),
        (OSError(errno.EACCES, "x"), "no permission"),
        (OSError(errno.EMFILE, "x"), "too many files are open in this process"),
        (OSError(errno.ENFILE, "x"), "too many files are open on this machine"),
        (OSError(errno.ENAMETOOLONG, "x"), "a name is too long"),
        (OSError(errno.EIO, "x"), "the disk reports an error"),
        (OSError(errno.ESTALE, "x"), "the file system does not answer"),
        (OSError(errno.ENOTCONN, "x"), "the file system does not answer"),
        (OSError(errno.ENOLCK, "x"), "the file system has no locks"),
        (MemoryError(), "there is not enough memory"),
        (OSError("4096 requested and 512 written"), "the disk is full"),
        (OSError("LanceError(IO): No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("Too many open files (os error 24), x.rs:3"), "too many files are open in"),
        (ValueError("[Errno 30] Read-only file system: 'x'"), "the file system is read-only"),
    ],
)
def test_what_the_operating_system_could_not_do_is_named(error: Exception, reason: str) -> None:
    failure = system_failure(error)
    assert failure is not None
    assert failure.reason.startswith(reason)
    assert failure.is_full == ("full" in reason)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "x"), OSError("no number"), ValueError("error 28 rows")]
)
def test_other_errors_are_no_failures_of_the_system(error: Exception) -> None:
    assert system_failure(error) is None
