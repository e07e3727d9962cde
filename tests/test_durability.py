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

from veduta import errors, index
from veduta.index.graph import graph_is_whole
from veduta.index.keypoint_files import StoredKeypoints
from veduta.photos import load

HERE = Path(__file__).parent
# Prints each path as soon as it is acknowledged.
INDEXER = """
import os, sys
from pathlib import Path
from tiny import TinyEncoder, TinyExtractor
from veduta import index
from veduta.index import updating

updating.COMMIT_ROWS = 7
made, photos = Path(sys.argv[1]), Path(sys.argv[2])

def tell(state):
    for path in state.paths:
        os.write(1, path + b"\\n")

index.update_index(made, [photos], TinyEncoder(), TinyExtractor(), on_progress=tell)
os.write(1, b"done\\n")
"""


def test_kill_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    photos, made = tmp_path / "photos", tmp_path / "index"
    photo_folder(photos, 300)
    index.create_index(made, TinyEncoder(), TinyExtractor())
    acknowledged: set[bytes] = set()
    rng = random.Random(0)
    kills = finished = 0
    while kills < 20:
        if finished:  # all is indexed: give it something to do again
            finished = 0
            for path in rng.sample(sorted(photos.rglob("*.png")), 60):
                acknowledged.discard(os.fsencode(path))
                path.write_bytes(path.read_bytes() + b"changed")
        with subprocess.Popen(
            [sys.executable, "-c", INDEXER, str(made), str(photos)],
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
        snapshot = index.open_snapshot(made)
        assert snapshot.notice is None
        stored = dict(
            zip(snapshot.rows["path"].to_pylist(), snapshot.rows["size"].to_pylist(), strict=True)
        )
        assert len(stored) == snapshot.rows.num_rows, "no path stands there twice"
        for path in acknowledged:
            assert stored[path] == os.stat(path).st_size
        keypoints_are_right(made, acknowledged)
    index.update_index(made, [photos], TinyEncoder(), TinyExtractor())
    assert index.open_snapshot(made).photos == 300
    assert list(index.check_index(made)) == []
    assert graph_is_whole(made, index.Manifest.read(made))
    keypoints_are_right(made, set(map(os.fsencode, photos.rglob("*.png"))))


def keypoints_are_right(made: Path, paths: set[bytes]) -> None:
    """The keypoints of each of these photos read back, and are those of what is there now."""
    snapshot = index.open_snapshot(made)
    stored = StoredKeypoints(made, snapshot)
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
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no permission to mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_full_disk(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", 50)
    photos, made = tmp_path / "photos", small_disk / "index"
    photo_folder(photos, 2000)
    encoder, extractor = TinyEncoder(), TinyExtractor()
    index.create_index(made, encoder, extractor)
    committed = 0

    def note(state: index.UpdateProgress) -> None:
        nonlocal committed
        committed = state.committed

    with pytest.raises(errors.StorageFull, match="disk is full"):
        index.update_index(made, [photos], encoder, extractor, on_progress=note)
    assert committed > 0
    assert index.open_table(made).count() == committed, "what was acknowledged is there"
    with pytest.raises(errors.StorageFull):
        index.open_snapshot(made)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = index.update_index(made, [photos], encoder, extractor)
    assert done.total == 2000 and done.unchanged == committed
    assert list(index.check_index(made)) == []
