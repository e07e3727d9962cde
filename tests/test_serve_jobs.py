"""Indexing runs of a service whose server, process or machine ends in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_server import Server, made_index, serving
from tiny import save_view

import veduta
from veduta.index.table import is_locked, writer_lock
from veduta.web.index_jobs import ENDED, IndexJobs

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

MANY_PHOTOS = 200
"""More than a fast machine reads before a test has seen that a run is at work."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    made_index(tmp_path, scenes=1, views=2)
    for view in range(MANY_PHOTOS):
        save_view(tmp_path / f"more/{view}.png", 50 + view, 1, noise=0.3)
    yield tmp_path
    assert not is_locked(tmp_path / "places.veduta")


def running(server: Server, home: Path) -> str:
    """Start a run, wait until it has read photos, and return its number."""
    number: str = server.post("/jobs/index", {"folders": [str(home / "more")]}).json["id"]
    until(lambda: server.get(f"/jobs/{number}").json.get("done", 0) > 0)
    return number


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_server_leaves_an_index_that_the_next_one_shows(home: Path) -> None:
    index, copy = home / "places.veduta", home / "copy.veduta"
    with serving(index) as server:
        number = running(server, home)
        shutil.copytree(index, copy, ignore=shutil.ignore_patterns(".*"))
        server.process.kill()
    until(lambda: not is_locked(index / "jobs" / number))
    with serving(index, copy) as server:
        copied, ended = sorted(server.get("/jobs").json, key=lambda run: str(run["index"]))
        assert (ended["id"], ended["state"]) == (number, "cancelled")
        assert server.get(f"/jobs/{number}").json == ended
        assert "The server that started this run has ended." in ended["detail"]
        # Nobody works on a copy that was made during a run.
        assert (copied["index"], copied["state"]) == ("copy", "failed")
        assert "ended from outside" in copied["detail"]
        photos = server.get("/photos").json["total"]
        assert 2 <= photos < MANY_PHOTOS + 2
        assert server.post("/search", {"photo_id": 0, "limit": 2}).status == 200
        again = server.post("/jobs/index", {"folders": [str(home / "more")]}).json["id"]
        server.get(f"/jobs/{again}/events")
        assert server.get(f"/jobs/{again}").json["report"]["added"] == MANY_PHOTOS + 2 - photos
    assert veduta.open(index).status()["photos"] == MANY_PHOTOS + 2


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_run_and_who_watches_it_is_told(home: Path) -> None:
    with serving(home / "places.veduta") as server:
        number = running(server, home)
        seen: list[bytes] = []
        watcher = threading.Thread(
            target=lambda: seen.append(server.get(f"/jobs/{number}/events").body)
        )
        watcher.start()
        time.sleep(0.5)
        os.kill(server.process.pid, signal.SIGINT)
        assert server.process.wait(timeout=20) == 0
        watcher.join(10)
    assert seen and b'event: cancelled\ndata: {"state": "cancelled"' in seen[0]
    last = (home / "places.veduta/jobs" / number / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["state"] == "cancelled"


def made_run(index: Path, number: int, *events: dict[str, Any]) -> Path:
    job = index / f"jobs/{number:032x}"
    job.mkdir(parents=True)
    lines = [json.dumps(event) + "\n" for event in ({"state": "waiting"}, *events)]
    (job / "events.jsonl").write_text("".join(lines))
    (job / "job.json").write_text('{"started": "2026-12-01T10:00:00+00:00", "request": {}}')
    os.utime(job / "job.json", (1000 + number, 1000 + number))
    return job


def test_the_last_runs_are_remembered(tmp_path: Path) -> None:
    for number in range(25):
        made_run(tmp_path, number, {"state": "done", "words": ["x" * 70_000]})
    running = made_run(tmp_path, 25, {"state": "running"})
    jobs = IndexJobs({"a": tmp_path})
    assert [int(one["id"], 16) for one in jobs.all()] == list(range(25, -1, -1))
    assert jobs.all()[1]["words"] == ["x" * 70_000]
    with writer_lock(running):
        assert jobs.state(running.name)["state"] == "running"
    assert jobs.state(running.name)["state"] == "failed", "its process has gone"
    number = jobs.start("a", {"folders": []})
    assert len(jobs.all("a")) == 20
    until(lambda: jobs.state(number)["state"] in ENDED)
    assert jobs.state(number)["state"] == "failed", "the folder is no index"


@pytest.mark.parametrize("left", [b"", b"\0" * 4096, b"{\n", b'{"state": "waiting"}\n\0\0\n'])
def test_a_power_cut_leaves_a_run_that_failed(tmp_path: Path, left: bytes) -> None:
    job = made_run(tmp_path, 1)
    (job / "events.jsonl").write_bytes(left)
    (state,) = IndexJobs({"a": tmp_path}).all()
    assert state["state"] == "failed" and "machine stopped" in state["detail"]


def test_a_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    job = made_run(tmp_path, 1, {"state": "running", "done": 1})
    with (job / "events.jsonl").open("a") as file:
        file.write('{"state": "do')
    jobs = IndexJobs({"a": tmp_path})
    with writer_lock(job):
        state = jobs.state(job.name)
    assert (state["state"], state["done"]) == ("running", 1)
    assert state["position"] == len((job / "events.jsonl").read_bytes()) - 13
