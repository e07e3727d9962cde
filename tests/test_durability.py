"""Nothing acknowledged is lost: kill -9 at any moment, and a disk that fills up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder

from veduta import errors
from veduta.index import (
    Manifest,
    UpdateProgress,
    check_index,
    create_index,
    open_snapshot,
    open_table,
    update_index,
)
from veduta.index.graph import graph_is_whole
from veduta.index.keypoint_files import StoredKeypoints
from veduta.photos import load

HERE = Path(__file__).parent
# Prints each path as soon as it is acknowledged.
INDEXER = """
import os, sys
from pathlib import Path
from tiny import TinyEncoder, TinyExtractor
from veduta.index import update_index, updating

updating.COMMIT_ROWS = 7
index_folder, photos = Path(sys.argv[1]), Path(sys.argv[2])

def print_paths(state):
    for path in state.paths:
        os.write(1, path + b"\\n")

update_index(index_folder, [photos], TinyEncoder(), TinyExtractor(), on_progress=print_paths)
os.write(1, b"done\\n")
"""


@pytest.mark.slow
def test_kill_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    photos, index_folder = tmp_path / "photos", tmp_path / "index"
    photo_folder(photos, 300)
    create_index(index_folder, TinyEncoder(), TinyExtractor())
    acknowledged: set[bytes] = set()
    rng = random.Random(0)
    kills = finished = 0
    while kills < 10:
        if finished:  # all is indexed: give it something to do again
            finished = 0
            for path in rng.sample(sorted(photos.rglob("*.png")), 60):
                acknowledged.discard(os.fsencode(path))
                path.write_bytes(path.read_bytes() + b"changed")
        with subprocess.Popen(
            [sys.executable, "-c", INDEXER, str(index_folder), str(photos)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()  # it is at work
            time.sleep(rng.random() * 0.25)
            process.kill()
            rest = process.stdout.read().splitlines()
        kills += 1
        finished = first == b"done\n" or b"done" in rest
        acknowledged.update(line for line in (first.strip(), *rest[:-1]) if line != b"done")
        snapshot = open_snapshot(index_folder)
        assert snapshot.notice is None
        stored = dict(
            zip(snapshot.rows["path"].to_pylist(), snapshot.rows["size"].to_pylist(), strict=True)
        )
        assert len(stored) == snapshot.rows.num_rows, "no path stands there twice"
        for path in acknowledged:
            assert stored[path] == os.stat(path).st_size
        keypoints_are_right(index_folder, acknowledged)
    update_index(index_folder, [photos], TinyEncoder(), TinyExtractor())
    assert open_snapshot(index_folder).photos == 300
    assert list(check_index(index_folder)) == []
    assert graph_is_whole(index_folder, Manifest.read(index_folder))
    keypoints_are_right(index_folder, set(map(os.fsencode, photos.rglob("*.png"))))


def keypoints_are_right(index_folder: Path, paths: set[bytes]) -> None:
    """The keypoints of each of these photos read back, and are those of what is there now."""
    snapshot = open_snapshot(index_folder)
    stored = StoredKeypoints(index_folder, snapshot)
    row_of = {path: row for row, path in enumerate(snapshot.rows["path"].to_pylist())}
    for path in paths:
        photo = load(path)
        expected = TinyExtractor().extract(photo.pixels, photo.width, photo.height)
        assert stored.read(row_of[path]).pack() == expected.pack()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB; needs the right to mount."""
    mount = tmp_path / "disk"
    mount.mkdir()
    index_folder = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if index_folder.returncode != 0:
        pytest.skip("no permission to mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.slow
def test_full_disk(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", 50)
    photos, index_folder = tmp_path / "photos", small_disk / "index"
    photo_folder(photos, 2000)
    encoder, extractor = TinyEncoder(), TinyExtractor()
    create_index(index_folder, encoder, extractor)
    committed = 0

    def note(state: UpdateProgress) -> None:
        nonlocal committed
        committed = state.committed

    with pytest.raises(errors.StorageFull, match="disk is full"):
        update_index(index_folder, [photos], encoder, extractor, on_progress=note)
    assert committed > 0
    assert open_table(index_folder).count() == committed, "what was acknowledged is there"
    assert open_snapshot(index_folder).photos == committed, "a search works on a full disk"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = update_index(index_folder, [photos], encoder, extractor)
    assert done.total == 2000 and done.unchanged == committed
    assert list(check_index(index_folder)) == []
