"""HDF5 files that cannot be written: one line, no crash of the library, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import environment, run_veduta
from tiny import save_view

from veduta.files import atomic_file
from veduta.interchange.descriptor_files import open_descriptors
from veduta.interchange.descriptor_writing import write_descriptors
from veduta.interchange.hdf5_writing import hdf5_writer

h5py = pytest.importorskip("h5py")

LIMITED = """
import resource, sys
from veduta.cli.main import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(run(sys.argv[2:]))
"""

SLOW = """
import sys, time
from pathlib import Path
from veduta.cli.main import run
from veduta.index.keypoint_files import StoredKeypoints

read = StoredKeypoints.read

def slow(self, row):
    if any(Path(sys.argv[-1]).parent.glob(".draft-*")):
        print("at work", flush=True)
        time.sleep(0.5)
    return read(self, row)

StoredKeypoints.read = slow
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index of a few photos."""
    home = tmp_path_factory.mktemp("hdf5")
    for number in range(6):
        save_view(home / f"photos/{number}.png", number // 3, number)
    done = run_veduta(home, "index", "photos", "--encoder", "fast")
    assert done.returncode == 0, done.stderr
    return home


def script(home: Path, *arguments: object) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-c", *map(str, arguments)],
        "cwd": home,
        "env": environment(home),
        "text": True,
    }


@pytest.mark.skipif(os.name == "nt", reason="needs limits of the system")
@pytest.mark.parametrize("output", ["keypoints", "matches", "descriptors"])
@pytest.mark.parametrize("limit", [0, 300, 5000])
def test_a_disk_that_is_full(home: Path, tmp_path: Path, output: str, limit: int) -> None:
    """The limit of the system on the size of a file stands for the end of a disk."""
    kept = tmp_path / "out.h5"
    kept.write_text("as before")
    words = script(home, LIMITED, limit, "export", f"--{output}", kept)
    done = subprocess.run(**words, capture_output=True, check=False)
    assert done.returncode == 3, (done.returncode, done.stderr[-2000:])
    assert done.stderr.endswith("out.h5: cannot be written: File too large\n")
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert kept.read_text() == "as before" and list(tmp_path.iterdir()) == [kept]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("output", ["keypoints", "matches"])
def test_ctrl_c_leaves_the_file_as_it_was(home: Path, tmp_path: Path, output: str) -> None:
    kept = tmp_path / "out.h5"
    kept.write_text("as before")
    words = script(home, SLOW, "export", f"--{output}", kept)
    with subprocess.Popen(**words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.strip() == "veduta: interrupted."
    assert kept.read_text() == "as before" and list(tmp_path.iterdir()) == [kept]


def test_ctrl_c_waits_for_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle of a group takes effect after it, and the file can be closed."""
    create = h5py.Group.create_dataset

    def interrupted(group: Any, name: str, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return create(group, name, **options)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    file = tmp_path / "x.h5"
    file.touch()
    try:
        with pytest.raises(KeyboardInterrupt), hdf5_writer(file) as writer:
            monkeypatch.setattr(h5py.Group, "create_dataset", interrupted)
            writer.add("a/b.jpg", {"one": np.arange(3), "two": np.arange(4)})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    with h5py.File(file) as source:
        assert source["a/b.jpg/two"][()].tolist() == [0, 1, 2, 3]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x.h5") as draft, hdf5_writer(draft) as writer:
        writer.add("a/b.jpg", {"k": np.zeros((0, 2), np.float32)}, {"k": {"uncertainty": 2.5}})
        writer.add("a", {"d": np.arange(4, dtype=np.float16)})
    with h5py.File(tmp_path / "x.h5") as source:
        assert source["a/b.jpg/k"].shape == (0, 2)
        assert source["a/b.jpg/k"].attrs["uncertainty"] == 2.5
        assert source["a/d"][()].tolist() == [0, 1, 2, 3]


def test_an_error_in_the_block_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        atomic_file(tmp_path / "x.h5") as draft,
        hdf5_writer(draft) as writer,
    ):
        writer.add("a.jpg", {"d": np.arange(3)})
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_many_descriptors(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    ids = [f"{number % 7}/{number}.jpg" for number in range(len(rows))]
    write_descriptors(tmp_path / "d.h5", ids, [rows])
    table = open_descriptors([tmp_path / "d.h5"])
    [(_, read)] = table.blocks(table.rows_of(ids), len(ids))
    assert np.array_equal(read, rows)
