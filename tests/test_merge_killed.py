"""A merge that is killed at any moment, and two merges at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from merged import indexed, rows_of, shards, state_of
from tiny import save_view

from veduta import errors
from veduta.index import check_index, holds_index, merge_indexes
from veduta.index.table import writer_lock

KILLED = """
import os, signal, sys
from pathlib import Path
from tiny import CentredEncoder  # noqa: F401  (the encoder of the parts)
from veduta.index import merge_indexes
from veduta.index.table import Table

at, whole, *parts = sys.argv[1:]
steps = 0

def step(real):
    def call(*values, **options):
        global steps
        steps += 1
        if steps == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*values, **options)
    return call

for name in ("rename", "replace", "fsync"):
    setattr(os, name, step(getattr(os, name)))
Table.commit = step(Table.commit)
merge_indexes([Path(part) for part in parts], Path(whole))
print(steps)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("killed")
    for scene in range(4):
        for view in range(4):
            save_view(home / f"photos/scene{scene}/{view}.png", 60 + scene, view, 0.3)
    shutil.copy(home / "photos/scene0/0.png", home / "photos/scene1/copy.png")
    shards(home, [home / "photos"], 3)
    indexed(home / "one", [home / "photos"])
    merge_indexes([home / "part1"], home / "there", allow_missing=True)
    return home


def merge(at: int, whole: Path, parts: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(at), str(whole), *map(str, parts)],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


@pytest.mark.parametrize("into", ["new", "there"])
def test_a_killed_merge_leaves_the_index_as_it_was_or_whole(
    home: Path, tmp_path: Path, into: str
) -> None:
    parts = [home / f"part{number}" for number in (1, 2, 3)]
    wanted = state_of(home / "one")
    before = rows_of(home / "there") if into == "there" else None

    def fresh(name: str) -> Path:
        whole = tmp_path / name
        if into == "there":
            shutil.copytree(home / "there", whole)
        return whole

    done = merge(0, fresh("counted"), parts)
    assert done.returncode == 0, done.stderr
    assert state_of(tmp_path / "counted") == wanted
    steps = int(done.stdout)
    outcomes = set()
    for place in (0.05, 0.4, 0.7, 1.0):
        whole = fresh(f"killed{place}")
        killed = merge(max(1, round(place * steps)), whole, parts)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        if holds_index(whole):
            # What a killed merge has left is put in order by the next process that writes.
            rows = rows_of(whole)
            assert rows in (before, wanted["rows"])
            outcomes.add(rows == wanted["rows"])
            assert not [one for one in check_index(whole) if one.kind != "graph damaged"]
        else:
            assert into == "new"
            outcomes.add(False)
        merge_indexes(parts, whole)
        assert state_of(whole) == wanted
        assert list(check_index(whole)) == []
    assert outcomes == {False, True}, "killed before and after the commit"
    assert not list(tmp_path.glob(".draft*"))


def test_two_merges_at_once(home: Path, tmp_path: Path) -> None:
    parts = [home / f"part{number}" for number in (1, 2, 3)]
    shutil.copytree(home / "there", tmp_path / "there")
    with (
        writer_lock(tmp_path / "there"),
        pytest.raises(errors.IndexLocked, match="another process"),
    ):
        merge_indexes(parts, tmp_path / "there")

    def second(stage: str, done: int, total: int) -> None:
        if not refused:
            with pytest.raises(errors.IndexLocked) as caught:
                merge_indexes(parts, tmp_path / "new")
            refused.append(str(caught.value))

    refused: list[str] = []
    merge_indexes(parts, tmp_path / "new", on_progress=second)
    assert "another process is merging into this index" in refused[0]
    assert state_of(tmp_path / "new") == state_of(home / "one")
