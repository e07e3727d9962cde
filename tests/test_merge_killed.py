"""kill -9 at any moment of a merge: the index is as it was before, or whole."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pytest
from command_line import environment, run_veduta
from merged import indexed, rows_of, shards, state_of
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import errors
from veduta.index import check_index, edit_labels, merge_indexes, open_snapshot, update_index
from veduta.index.pending import PENDING_FOLDER
from veduta.index.table import open_table, writer_lock

COUNT = 3
MOMENTS = {
    "keypoints are copied": ("veduta.index.keypoint_files", "KeypointWriter.append", "after"),
    "rows are written": ("veduta.index.table", "Table.write_rows", "after"),
    "the small files wait": ("veduta.index.table", "Table.commit", "before"),
    "the rows are committed": ("veduta.index.table", "Table.commit", "after"),
    "one small file is in its place": ("pathlib", "Path.replace", "after"),
    "a manifest is written": ("veduta.index.manifest", "Manifest.write", "after"),
    "the draft waits for its name": ("veduta.index.merging", "_take_name", "before"),
    "the draft has its name": ("veduta.index.merging", "_take_name", "after"),
    "the small files are in their places": ("veduta.index.merging", "settle", "after"),
    "the snapshot is made": ("veduta.index.snapshot", "_build", "after"),
    "photos are linked": ("veduta.index.graph", "_write_graph", "before"),
}
_OF_DRAFTS = ("the draft waits for its name", "the draft has its name")
_OF_PENDING = (
    "the small files wait",
    "one small file is in its place",
    "the small files are in their places",
)
REACHED = {
    "new": [moment for moment in MOMENTS if moment not in _OF_PENDING],
    "two": [moment for moment in MOMENTS if moment not in _OF_DRAFTS],
}


def merge_and_die(parts: list[Path], whole: Path, place: str, name: str, when: str) -> None:
    """Merge, and die at a moment. In a process of its own."""
    module = __import__(place, fromlist=["x"])
    *holders, function = name.split(".")
    holder = getattr(module, holders[0]) if holders else module
    real: Callable[..., Any] = getattr(holder, function)

    def dying(*arguments: Any, **options: Any) -> Any:
        if place == "pathlib" and PENDING_FOLDER not in Path(arguments[0]).parts:
            return real(*arguments, **options)
        if when == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it is dead")

    setattr(holder, function, dying)
    merge_indexes(parts, whole, allow_missing=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, an index of the first two, and one of all photos."""
    home = tmp_path_factory.mktemp("killed")
    for scene in range(4):
        for number in range(4):
            save_view(home / f"photos/scene{scene}/{number}.png", scene, number)
    shutil.copy(home / "photos/scene0/0.png", home / "photos/scene1/copy.png")
    parts = shards(home, [home / "photos"], COUNT, labels="folders")
    ids = {row["path"]: row["id"] for row in open_snapshot(parts[2]).rows.to_pylist()}
    path, row_id = min(ids.items())
    edit_labels(parts[2], {row_id: "by hand"})
    merge_indexes(parts[:2], home / "two", allow_missing=True)
    one = indexed(home / "one", [home / "photos"], labels="folders")
    ids = {row["path"]: row["id"] for row in open_snapshot(one).rows.to_pylist()}
    edit_labels(one, {ids[path]: "by hand"})
    return home


@pytest.fixture(scope="module")
def wanted(home: Path) -> dict[str, Any]:
    """What the merged index must be."""
    return state_of(home / "one")


@pytest.fixture(scope="module")
def forking() -> Any:
    """A server that has loaded the modules, so that a process begins at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["merged"])
    return context


@pytest.mark.filterwarnings("ignore:.*fork:")
@pytest.mark.parametrize(("into", "moment"), [(i, m) for i in REACHED for m in REACHED[i]])
def test_a_killed_merge(
    home: Path, wanted: dict[str, Any], tmp_path: Path, forking: Any, moment: str, into: str
) -> None:
    whole = tmp_path / "whole"
    parts = [home / f"part{number}" for number in range(1, COUNT + 1)]
    before = None
    if into == "two":
        shutil.copytree(home / "two", whole)
        before = rows_of(whole)
        parts = parts[2:]
    process = forking.Process(target=merge_and_die, args=(parts, whole, *MOMENTS[moment]))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if whole.exists():
        assert list(check_index(whole)) == []
        assert rows_of(whole) in (before, wanted["rows"])
    else:
        assert before is None
    # A person may update the index before the merge is repeated.
    if whole.exists() and len(moment) % 2:
        encoder = CentredEncoder()
        update_index(whole, [], encoder, TinyExtractor())
        assert not (whole / PENDING_FOLDER).exists()
    merge_indexes(parts, whole, allow_missing=True)
    assert state_of(whole) == wanted
    assert list(check_index(whole)) == []
    used = {row["keypoints_file"] for row in open_snapshot(whole).rows.to_pylist()}
    assert {int(file.stem) for file in (whole / "keypoints").iterdir()} == used
    in_use = {
        file.path
        for version in open_table(whole).dataset.versions()
        for fragment in lance.dataset(
            str(whole / "photos.lance"), version=version["version"]
        ).get_fragments()
        for file in fragment.data_files()
    }
    assert {file.name for file in (whole / "photos.lance/data").iterdir()} == in_use
    assert not list(tmp_path.glob(".draft*")) and not (whole / PENDING_FOLDER).exists()


def test_two_merges_at_once(home: Path, wanted: dict[str, Any], tmp_path: Path) -> None:
    """The command: the second one is refused, and the first one may be killed."""
    parts = [str(home / f"part{number}") for number in range(1, COUNT + 1)]
    words = ["merge", *parts, "--index", str(tmp_path / "whole")]
    command = [sys.executable, "-m", "veduta", *words]
    table = tmp_path / ".draft-merge-whole/photos.lance"
    with subprocess.Popen(
        command, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        while not table.exists() and first.poll() is None:
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGSTOP)
        second = run_veduta(tmp_path, *words)
        first.kill()
    assert second.returncode == 4
    assert "whole: another process is merging into this index" in second.stderr
    assert not (tmp_path / "whole").exists()
    assert run_veduta(tmp_path, *words).returncode == 0
    # The command does not know the keypoints of these tests, so it links by descriptors alone.
    assert rows_of(tmp_path / "whole") == wanted["rows"]
    assert not list(tmp_path.glob(".draft*"))
    with writer_lock(tmp_path / "whole"), pytest.raises(errors.IndexLocked, match="whole"):
        merge_indexes([home / "one"], tmp_path / "whole")
