"""Photos move out of a dataset and back, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import errno
import json
import os
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


@settings(max_examples=80, deadline=None)
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
        ('{"veduta clean": 1, "root": "ROOT/none", "photos": 0}\n', "is not there"),
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
