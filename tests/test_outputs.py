"""Output that cannot be written: one line with the name that the user gave, before any work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from command_line import run_veduta
from tiny import save_view

from veduta.cli.main import run
from veduta.errors import CannotWrite
from veduta.files import atomic_file, atomic_folder, check_writable, check_writable_folder

Capture = pytest.CaptureFixture[str]

# `DATA` is an empty folder. A command that does its work first would say that it has no photos.
FILES = (
    ("search", "q.jpg", "--html", ".html"),
    ("match", "q.jpg", "q.jpg", "--picture", ".png"),
    ("describe", "DATA", "--html", ".html"),
    ("evaluate", "DATA", "--html", ".html"),
    ("evaluate", "DATA", "--png", ".png"),
    ("evaluate", "DATA", "--task", "recognize", "--submission", ".csv"),
    ("clean", "DATA", "--out", ".csv"),
    ("clean", "DATA", "--out", ".parquet"),
    ("clean", "DATA", "--html", ".html"),
    ("split", "DATA", "--out", ".csv"),
    ("split", "DATA", "--check", "--html", ".html"),
    ("compare", "DATA", "DATA", "--csv", ".csv"),
    ("augment", "DATA", "--preview", ".png"),
    ("recognize", "--filter", "DATA", "--label", "a", "--list", ".txt"),
    ("review", "DATA", "--out", ".csv"),
)
FOLDERS = (
    ("augment", "DATA", "--out"),
    ("collect", "list.txt", "--out"),
    ("demo", "--photos", "DATA", "--out"),
    ("describe", "DATA", "--png"),
    ("evaluate", "DATA", "--report"),
    ("recognize", "--export"),
    ("split", "DATA", "--folders"),
    ("train", "cnn-1", "DATA", "--out"),
    ("tune", "cnn-1", "DATA", "--out"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "DATA").mkdir()
    (tmp_path / "list.txt").write_text("http://127.0.0.1:1/a.jpg\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(arguments: tuple[str, ...], place: str, capsys: Capture) -> str:
    """Return why a place is refused. Nothing but one line with its name is printed."""
    assert run([*arguments, place]) == 3
    printed = capsys.readouterr()
    start = f"veduta: {place}: cannot be written: "
    assert printed.out == "" and printed.err.startswith(start) and printed.err.count("\n") == 1
    return printed.err[len(start) :].rstrip()


@pytest.mark.parametrize("arguments", FILES, ids=" ".join)
class TestFiles:
    def test_a_missing_folder(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        *words, ending = arguments
        assert refused((*words,), f"absent/x{ending}", capsys) == "its folder does not exist"
        assert not (home / "absent").exists()

    def test_a_folder_in_its_place(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        *words, ending = arguments
        (home / f"taken{ending}").mkdir()
        assert refused((*words,), f"taken{ending}", capsys) == "Is a directory"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
    def test_a_place_that_takes_no_file(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        *words, ending = arguments
        assert refused((*words,), f"/proc/x{ending}", capsys) == "No such file or directory"

    def test_a_name_that_is_too_long(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        *words, ending = arguments
        assert refused((*words,), f"{'x' * 300}{ending}", capsys) == "File name too long"


@pytest.mark.parametrize("arguments", FOLDERS, ids=" ".join)
class TestFolders:
    def test_a_file_in_its_place(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        (home / "taken").write_text("x")
        assert refused(arguments, "taken", capsys) == "taken is not a folder"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
    def test_a_place_that_takes_no_folder(
        self, home: Path, arguments: tuple[str, ...], capsys: Capture
    ) -> None:
        assert refused(arguments, "/proc/x", capsys) == "No such file or directory"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small dataset, an index of it, and links to a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    home = tmp_path_factory.mktemp("outputs")
    for scene, name in enumerate(("a", "b")):
        for number in range(3):
            save_view(home / f"photos/{name}/{number}.png", scene, number)
    done = run_veduta(home, "index", "photos", "--encoder", "fast", "--labels", "folders")
    assert done.returncode == 0, done.stderr
    for ending in ("html", "png", "csv", "parquet", "txt"):
        (home / f"full.{ending}").symlink_to("/dev/full")
    return home


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "photos/a/0.png", "--html", "full.html"),
        ("match", "photos/a/0.png", "photos/a/1.png", "--picture", "full.png"),
        ("describe", "photos", "--no-photos", "--html", "full.html"),
        ("evaluate", "photos", "--encoder", "fast", "--rerank", "none", "--html", "full.html"),
        ("evaluate", "photos", "--encoder", "fast", "--rerank", "none", "--png", "full.png"),
        ("clean", "photos", "--only", "corrupt", "--out", "full.csv"),
        ("clean", "photos", "--only", "corrupt", "--out", "full.parquet"),
        ("clean", "photos", "--only", "corrupt", "--html", "full.html"),
        ("recognize", "--filter", "photos", "--label", "a", "--list", "full.txt"),
    ],
    ids=" ".join,
)
def test_a_full_disk(
    photos: Path, arguments: tuple[str, ...], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("VEDUTA_INDEX", str(photos / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos / "cache"))
    place = arguments[-1]
    assert run([*arguments]) == 3
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"veduta: {place}: cannot be written: No space left on device"
    assert (photos / place).is_symlink(), "the device is not replaced"


def test_a_pipe_receives_the_whole_file(tmp_path: Path) -> None:
    for scene, name in enumerate(("a", "b")):
        save_view(tmp_path / f"photos/{name}/0.png", scene, 0)
    command = ("describe", "photos", "--no-photos", "--json", "--html", "/dev/stderr")
    done = run_veduta(tmp_path, *command)
    assert done.returncode == 0
    assert done.stderr.startswith("<!doctype html>") and done.stderr.rstrip().endswith("</html>")


def test_split_folders_leaves_nothing_of_a_copy_that_failed(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.curate import write_split

    for name in ("a", "b"):
        for number in range(3):
            save_view(home / f"photos/{name}/{number}.png", number, 0)
    copied: list[str] = []

    def copy2(source: Path, target: Path) -> None:
        if len(copied) == 2:
            raise OSError(28, "No space left on device", os.fspath(source))
        copied.append(os.fspath(target))
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(write_split.shutil, "copy2", copy2)
    call = ["split", "photos", "--into", "train=0.5,test=0.5", "--no-find-copies"]
    assert run([*call, "--folders", "parts", "--copies"]) == 3
    assert capsys.readouterr().err.endswith(
        "veduta: parts: cannot be written: No space left on device\n"
    )
    assert sorted(path.name for path in home.iterdir()) == ["DATA", "list.txt", "photos"]


class TestFunctions:
    def test_a_draft_is_never_named(self, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        said = pytest.raises(CannotWrite, match="taken: cannot be written: Is a dir")
        with said as caught, atomic_file(tmp_path / "taken") as draft:
            draft.write_text("x")
        assert ".draft" not in str(caught.value) and caught.value.exit_code == 3

    def test_an_error_about_another_file_stays(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a"):
            (tmp_path / "absent").read_bytes()

    def test_what_can_be_written_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("x")
        check_writable(tmp_path / "old")
        check_writable(tmp_path / "new")
        check_writable_folder(tmp_path)
        check_writable_folder(tmp_path / "a/b/c")
        assert [path.name for path in tmp_path.iterdir()] == ["old"]

    @pytest.mark.parametrize("check", [check_writable, check_writable_folder])
    def test_a_name_with_nul(self, check: object) -> None:
        assert callable(check)
        with pytest.raises(CannotWrite, match="has a NUL character"):
            check("a\0b")

    def test_a_folder_names_itself(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        said = pytest.raises(CannotWrite, match="file/folder: cannot be written")
        with said, atomic_folder(tmp_path / "file/folder"):
            pass

    def test_a_pipe_is_written_in_place(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
            with atomic_file(tmp_path / "pipe") as draft:
                draft.write_bytes(b"whole")
            assert reader.communicate(timeout=10)[0] == b"whole"
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
