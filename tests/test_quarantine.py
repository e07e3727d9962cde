"""Photos move out of a dataset and back, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cleaning import planted, tree

from veduta.cli.main import run
from veduta.curate import quarantine as moves
from veduta.curate.quarantine import UNDO_FILE, quarantine, undo
from veduta.errors import DatasetError

NAMES = ("a/1.jpg", "a/2.jpg", "b/c/3.jpg", "b/c/ü 4.jpg", "5.jpg", os.fsdecode(b"b/\xff.jpg"))


class Killed(BaseException):
    pass


@settings(max_examples=80)
@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.integers(0, 30),
    st.integers(0, 30),
    st.booleans(),
)
def test_killed_at_any_step_all_comes_back(
    chosen: set[str], first_death: int, second_death: int, other_disk: bool
) -> None:
    """Death before any call that changes the disk, in moving and in undoing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder, "data")
        planted(root, NAMES)
        (root / "a/link.jpg").symlink_to("1.jpg")
        before = tree(root)
        left = [10**6]

        def mortal(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*arguments, **options)

            return call

        for owner, name in ((os, "link"), (Path, "unlink"), (Path, "rename"), (os, "symlink")):
            patch.setattr(owner, name, mortal(getattr(owner, name)))
        if other_disk:

            def link(*_: object, **__: object) -> None:
                raise OSError(errno.EXDEV, "Invalid cross-device link")

            patch.setattr(os, "link", link)

        def mortally(steps: int, act: Callable[[], object]) -> None:
            left[0] = steps
            with contextlib.suppress(Killed):
                act()
            left[0] = 10**6

        drops = [*sorted(chosen), "a/link.jpg"]
        mortally(first_death, lambda: quarantine(root, drops))
        plan = Path(folder, "data.quarantine", UNDO_FILE)
        everything = [*tree(root).values(), *tree(plan.parent).values()]
        assert set(before.values()) <= set(everything), "each file is whole somewhere"
        mortally(second_death, lambda: undo(plan))
        if plan.exists():
            assert not undo(plan).left
        assert tree(root) == before
        assert not plan.parent.exists()


def test_killed_for_real_in_the_middle(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, [f"{n % 3}/{n}.jpg" for n in range(60)])
    before = tree(root)
    code = (
        "import os, time\nfrom pathlib import Path\nfrom veduta.curate import quarantine as q\n"
        "move = q._move\n"
        "def slow(a, b):\n    time.sleep(0.02); move(a, b)\n"
        "q._move = slow\n"
        f"root = Path({str(root)!r})\n"
        "q.quarantine(root, [f'{n % 3}/{n}.jpg' for n in range(60)])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    away = tmp_path / "data.quarantine"
    deadline = time.monotonic() + 10
    while len(list(away.rglob("*.jpg"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(list(away.rglob("*.jpg"))) < 60
    assert len(tree(root)) < 60
    assert run(["clean", "--undo", str(away / UNDO_FILE)]) == 0
    assert tree(root) == before and not away.exists()


def test_the_plan_is_on_disk_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    whole = []

    def look(_source: Path, target: Path) -> None:
        plan = next(tmp_path.glob("data.quarantine*")) / UNDO_FILE
        whole.append([json.loads(line).get("path") for line in plan.read_text().splitlines()])

    monkeypatch.setattr(moves, "_move", look)
    quarantine(root, NAMES[:3])
    assert whole == [[None, *NAMES[:3]]] * 3


def test_a_second_run_takes_a_new_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(root)
    first = quarantine(root, NAMES[:2])
    (root / "a").mkdir(exist_ok=True)
    (root / NAMES[0]).write_text("a new photo of that name", "utf-8")
    second = quarantine(root, NAMES[:1])
    assert first.undo_file.parent.name == "data.quarantine"
    assert second.undo_file.parent.name == "data.quarantine-2"
    assert not undo(second.undo_file).left
    clash = undo(first.undo_file)
    assert clash.moved == (NAMES[1],) and "another file is in its place" in clash.left[NAMES[0]]
    assert (root / NAMES[0]).read_text("utf-8") == "a new photo of that name"
    (root / NAMES[0]).unlink()
    assert undo(first.undo_file).moved == (NAMES[0],)
    assert tree(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_folders_that_are_links(tmp_path: Path) -> None:
    """A link is moved itself; what lies behind a linked folder outside is not ours to move."""
    outside, root = tmp_path / "outside", tmp_path / "data"
    planted(outside, ["x.jpg"])
    planted(root, ["a/1.jpg"])
    (root / "there").symlink_to(outside)
    (root / "a/alias.jpg").symlink_to("../there/x.jpg")
    (tmp_path / "door").symlink_to(root)
    done = quarantine(tmp_path / "door", ["there/x.jpg", "a/alias.jpg", "a/gone.jpg"])
    assert done.moved == ("a/alias.jpg",)
    assert "outside the dataset" in done.left["there/x.jpg"]
    assert "not there" in done.left["a/gone.jpg"]
    assert (outside / "x.jpg").exists() and done.undo_file.parent == tmp_path / "data.quarantine"
    undone = undo(done.undo_file)
    assert undone.moved == ("a/alias.jpg",)
    assert os.readlink(root / "a/alias.jpg") == "../there/x.jpg"
    assert set(undone.left) == {"there/x.jpg", "a/gone.jpg"} or not undone.left


def test_a_folder_that_may_not_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(root)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.parent == root / "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    done = quarantine(root, NAMES[:3])
    assert done.moved == ("b/c/3.jpg",)
    assert done.left == dict.fromkeys(NAMES[:2], "permission denied")
    assert {path.name for path in done.undo_file.parent.rglob("*.jpg")} == {"3.jpg"}
    monkeypatch.undo()
    assert not undo(done.undo_file).left
    assert tree(root) == before


def test_what_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(tmp_path)
    for path in ("../x.jpg", "/etc/passwd", "a/../../x.jpg", "a\0.jpg", ".", "", UNDO_FILE):
        with pytest.raises(DatasetError, match="no path inside the dataset"):
            quarantine(root, [path])
    with pytest.raises(DatasetError, match="inside the dataset"):
        quarantine(root, NAMES[:1], folder=root / "away")
    with pytest.raises(DatasetError, match="is there already"):
        quarantine(root, NAMES[:1], folder=tmp_path)
    with pytest.raises(DatasetError, match="cannot be made"):
        quarantine(root, NAMES[:1], folder=tmp_path / "no/such/folder")
    with pytest.raises(DatasetError, match="nothing can lie beside it"):
        quarantine(Path("/"), ["etc/passwd"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("", "cut off"),
        ("photo,score\n", "not an undo file"),
        ('{"veduta clean": 2, "root": "ROOT", "photos": 0}\n', "of this version"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 2}\n{"path": "a/1.jpg"}\n', "promises 2"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": "../x"}\n', "no path inside"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": "a', "cut off"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": ".."}\n', "no path inside"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": "/x"}\n', "no path inside"),
        ('{"veduta clean": 1, "root": "R", "photos": 1}\n{"path": "\\ud800"}\n', "no path inside"),
        ('{"veduta clean": 1, "root": "R", "photos": 0}\n{"path": "a/1.jpg"}\n', "and has more"),
        ('{"veduta clean": 1, "root": "R", "photos": -1}\n', "promises -1"),
        (f'{{"veduta clean": 1, "root": "R", "photos": 1{"0" * 5000}}}\n', "not an undo file"),
        (f"{'[' * 30_000}\n", "not an undo file"),
        (f'{{"veduta clean": 1, "root": "{"x" * 50_000}", "photos": 0}}\n', "longer than"),
        ("\0" * 10_000_000, "longer than"),
        ("[1]\n", "not an undo file"),
    ],
)
def test_a_file_that_is_no_plan_moves_nothing(tmp_path: Path, plan: str, why: str) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    file = tmp_path / "data.quarantine" / UNDO_FILE
    planted(file.parent, ["a/1.jpg", "a/9.jpg"])
    file.write_text(plan.replace("ROOT", str(root)), "utf-8")
    before = tree(tmp_path)
    with pytest.raises(DatasetError, match=why):
        undo(file)
    assert tree(tmp_path) == before


def test_a_full_disk_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="the disk is full"):
        quarantine(root, NAMES[:2])
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def planted_quarantine(
    folder: Path, root: object, paths: list[str], *, name: str = UNDO_FILE
) -> Path:
    """Write what a stranger may send: a quarantine with files, and an undo file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"veduta clean": 1, "root": str(root), "photos": len(paths)}]
    lines += [{"path": path} for path in paths]  # type: ignore[dict-item]
    file = folder / name
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return file


def test_the_undo_file_does_not_decide_where_photos_go(tmp_path: Path) -> None:
    """A stranger's file names a folder; the photos go to the dataset beside the quarantine."""
    victim, root, away = tmp_path / "victim", tmp_path / "data", tmp_path / "data.quarantine"
    planted(victim, ["photo.jpg.veduta-half", "old.jpg"])
    planted(root, ["kept.jpg"])
    planted(away, ["photo.jpg"])
    before = tree(victim)
    done = undo(planted_quarantine(away, victim, ["photo.jpg"]))
    assert done.root == root and done.moved == ("photo.jpg",)
    assert tree(victim) == before
    assert sorted(tree(root)) == ["kept.jpg", "photo.jpg"] and not away.exists()


@pytest.mark.parametrize("root", ["/", "x" * 5000, "\ud800", "\0", "../../..", "a\x1b[2J"])
def test_a_strange_root_in_the_undo_file_has_no_effect(tmp_path: Path, root: str) -> None:
    planted(tmp_path / "data", ["kept.jpg"])
    planted(tmp_path / "data.quarantine-7", ["a/1.jpg"])
    file = planted_quarantine(tmp_path / "data.quarantine-7", root, ["a/1.jpg"])
    assert run(["clean", "--undo", str(file)]) == 0
    assert sorted(tree(tmp_path)) == ["data/a/1.jpg", "data/kept.jpg"]


def test_a_moved_dataset_takes_its_photos_back(tmp_path: Path) -> None:
    root = tmp_path / "here" / "data"
    planted(root, NAMES)
    before = tree(root)
    quarantine(root, NAMES[:3])
    (tmp_path / "here").rename(tmp_path / "there")
    done = undo(tmp_path / "there" / "data.quarantine" / UNDO_FILE)
    assert set(done.moved) == set(NAMES[:3]) and tree(tmp_path / "there" / "data") == before


@pytest.mark.parametrize(
    "name", ["elsewhere", "gone.quarantine", ".ssh.quarantine", "door.quarantine"]
)
def test_without_a_dataset_beside_it_the_message_names_what_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The dataset is missing, hidden, a link, or the folder has another name."""
    planted(tmp_path / "data", ["kept.jpg"])
    planted(tmp_path / ".ssh", ["config"])
    planted(tmp_path / name, ["a/1.jpg"])
    (tmp_path / "door").symlink_to(".ssh")
    file = planted_quarantine(tmp_path / name, tmp_path / "data", ["a/1.jpg"])
    before = tree(tmp_path)
    assert run(["clean", "--undo", str(file)]) == 3
    message = capsys.readouterr().err
    assert tree(tmp_path) == before
    command = shlex.split(message.rpartition("name the dataset: ")[2])
    assert command == ["veduta", "clean", "DATASET", "--undo", str(file)]
    command[2] = str(tmp_path / "data")
    assert run(command[1:]) == 0
    assert (tmp_path / "data/a/1.jpg").exists() and not (tmp_path / name).exists()


def test_no_path_leaves_the_two_folders(tmp_path: Path) -> None:
    """Links in the middle of a path, on either side, lead nowhere; a linked folder is no photo."""
    secret, root, away = tmp_path / "secret", tmp_path / "data", tmp_path / "data.quarantine"
    planted(secret, ["key.jpg"])
    planted(root, ["kept.jpg"])
    planted(away, ["out/new.jpg"])
    (away / "in").symlink_to(secret)
    (root / "out").symlink_to(secret)
    (away / "link.jpg").symlink_to(secret)
    (away / "pipe").mkdir()
    os.mkfifo(away / "pipe/p.jpg")
    paths = ["in/key.jpg", "out/new.jpg", "link.jpg", "pipe/p.jpg"]
    before = tree(secret), tree(root)
    done = undo(planted_quarantine(away, root, paths))
    assert done.moved == () and (tree(secret), tree(root)) == before
    assert done.left == {
        "in/key.jpg": "it lies behind a linked folder, outside the quarantine",
        "out/new.jpg": "it lies behind a linked folder, outside the dataset",
        "link.jpg": "a link to a folder is no photo",
        "pipe/p.jpg": "not a regular file",
    }


def test_code_and_hidden_files_go_only_into_a_dataset_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, away = tmp_path / "data", tmp_path / "data.quarantine"
    paths = [".git/hooks/post-commit", "train.py", "labels.csv", "a/.x.jpg", "b/1.JPG"]
    planted(root, ["kept.jpg"])
    planted(away, paths)
    file = planted_quarantine(away, root, paths)
    assert run(["clean", "--undo", str(file), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["moved"] == ["b/1.JPG"] and set(answer["left"]) == set(paths[:4])
    assert all("veduta clean DATASET --undo FILE" in why for why in answer["left"].values())
    assert sorted(tree(root)) == ["b/1.JPG", "kept.jpg"]
    assert run(["clean", str(root), "--undo", str(file)]) == 0
    assert sorted(tree(root)) == sorted([*paths, "kept.jpg"])


def test_a_file_named_like_a_half_copy_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the beginning of the photo itself is a half copy; no other file is touched."""
    root, away = tmp_path / "data", tmp_path / "data.quarantine"
    planted(root, ["1.jpg.veduta-half", "kept.jpg"])
    (root / "2.jpg.veduta-half").write_bytes(b"2.j")
    (root / "3.jpg.veduta-half").symlink_to(root / "kept.jpg")
    planted(away, ["1.jpg", "2.jpg", "3.jpg"])
    before = tree(root)

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    done = undo(planted_quarantine(away, root, ["1.jpg", "2.jpg", "3.jpg"]))
    assert done.moved == ("2.jpg",)
    assert done.left["1.jpg"] == "a file named 1.jpg.veduta-half is in the way"
    assert done.left["3.jpg"] == "a file named 3.jpg.veduta-half is in the way"
    after = tree(root)
    assert after.pop("2.jpg") == b"2.jpg" and before.pop("2.jpg.veduta-half") == b"2.j"
    assert after == before


@pytest.mark.parametrize("file", ["/dev/zero", "/dev/null", "pipe", "folder", "none"])
def test_only_a_regular_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert run(["clean", "--undo", str(tmp_path / file)]) == 3
    assert "cannot be read (" in capsys.readouterr().err


def test_an_empty_folder_of_a_killed_process_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    (tmp_path / "data.quarantine").mkdir()
    (tmp_path / "data.quarantine/.draft-0123456789abcdef.jsonl").write_text("{", "utf-8")
    done = quarantine(root, NAMES[:1])
    assert done.undo_file.parent == tmp_path / "data.quarantine"
    assert sorted(tree(done.undo_file.parent)) == [NAMES[0], UNDO_FILE]


def test_where_nothing_moved_no_folder_stays(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    assert quarantine(root, ["none/1.jpg"]).left == {
        "none/1.jpg": "the file is not there (any more)"
    }
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_interrupt_before_the_first_photo_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moves, "write_undo_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quarantine(root, NAMES[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("folder", [None, "away"])
def test_the_command_that_puts_photos_back_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str | None
) -> None:
    """The command is printed for a folder beside the dataset and for one elsewhere."""
    root = tmp_path / "my data"
    planted(root, ["x/1.jpg"])
    before = tree(root)
    where = ["--quarantine", str(tmp_path / folder)] if folder else []
    assert run(["clean", str(root), "--only", "not-a-photo", "--apply", *where]) == 0
    assert not tree(root)
    command = capsys.readouterr().out.partition("To put them back: ")[2].splitlines()[0]
    assert run(shlex.split(command)[1:]) == 0
    assert tree(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["my data"]
