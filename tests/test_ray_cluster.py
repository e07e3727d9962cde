"""With Ray itself: the command on a cluster of this machine, with workers that are killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import environment, run_veduta
from merged import graph_of, rows_of
from tiny import save_view

from veduta.index import check_index, open_snapshot

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None,
    reason="Ray is not installed (pip install 'veduta[ray]'); test_ray_run.py stands in for it",
)

PHOTOS = 160


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photos, and the index that one run makes of them."""
    home = tmp_path_factory.mktemp("cluster")
    for number in range(PHOTOS):
        save_view(home / f"photos/scene{number % 7}/{number}.png", number % 40, number)
    done = run_veduta(home, "index", "photos", "--encoder", "fast", "--index", "one")
    assert done.returncode == 0, done.stderr
    return home


def workers_of(driver: int) -> list[int]:
    """Return the processes of workers that read a block; Ray gives them their names."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes()
        except OSError:
            continue
        if (
            b"ray::VedutaWorker.index_block" in name
            and f"VEDUTA_TEST={driver}".encode() in variables
        ):
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc, to find a worker")
def test_a_worker_is_killed(home: Path) -> None:
    """The result is that of one run, and nothing was sent to another machine."""
    record = home / "calls.txt"
    tracing = ["strace", "-f", "--seccomp-bpf", "-o", str(record), "-e", "trace=connect,sendto"]
    command = [sys.executable, "-m", "veduta", "index", "photos", "--ray", "local", "--json"]
    command += ["--encoder", "fast", "--index", "whole"]
    variables = {**environment(home), "VEDUTA_TEST": str(os.getpid()), "TMPDIR": str(home)}
    del variables["PYTHONWARNINGS"]  # The programs of Ray do not start with it.
    with subprocess.Popen(
        [*(tracing if shutil.which("strace") else []), *command],
        cwd=home,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        deadline = time.monotonic() + 60
        while not (workers := workers_of(os.getpid())) and driver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for worker in workers[:1]:
            os.kill(worker, signal.SIGKILL)
        out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    report = json.loads(out)
    assert (report["added"], report["total"], report["failed_blocks"]) == (PHOTOS, PHOTOS, [])
    assert "is done again. " in err and "worker process has died" in err
    assert list(check_index(home / "whole")) == []
    assert rows_of(home / "whole") == rows_of(home / "one")
    assert graph_of(home / "whole") == graph_of(home / "one")
    left = {path.name for path in home.iterdir()} - {"photos", "one", "whole", "cache", record.name}
    assert not {name for name in left if not name.startswith("veduta-block-")}
    if record.exists():
        addresses = re.findall(
            r'sin_addr=inet_addr\("([^"]+)"\)', record.read_text("utf-8", "replace")
        )
        assert set(addresses) <= {"127.0.0.1"}


def test_a_cluster_that_is_not_there(home: Path) -> None:
    place = ("--index", "none", "--encoder", "fast", "--keypoints", "none")
    done = run_veduta(home, "index", "photos", "--ray", "127.0.0.1:1", *place)
    assert done.returncode == 3 and "'127.0.0.1:1' cannot be used" in done.stderr
    assert "--ray local" in done.stderr and not (home / "none.parts").exists()
    assert open_snapshot(home / "none").photos == 0
