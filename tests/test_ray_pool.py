"""What becomes of the answers of Ray, with something that stands in for Ray."""

from __future__ import annotations

import dis
import platform
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import veduta
from veduta.index.shards import Shard
from veduta.photos import Candidate
from veduta.ray_indexing import ray_pool
from veduta.ray_indexing.blocks import Block
from veduta.ray_indexing.pool import (
    Event,
    Failed,
    Finished,
    Joined,
    Lost,
    NotStarted,
    Progressed,
    SetAside,
)
from veduta.ray_indexing.ray_pool import RayPool, cluster_cores

BLOCK = Block(Shard(1, 2), (Candidate(b"/p/1", 1, 1),), "token")


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


DIED = RayError(
    "The actor died unexpectedly before finishing this task.\n\tclass_name: VedutaWorker\n"
    "The actor is dead because its worker process has died. Worker exit detail: End of file. "
    "Some common causes include: (1) the OOM killer"
)


class Reference:
    """What Ray gives for an answer that comes later."""

    def __init__(self, name: str) -> None:
        self.name = name


class FakeRay:
    """Actors answer what `answers` says, by the name of the method; an error is raised."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        facts = {
            "machine": "a (10.0.0.1)",
            "node": "node-a",
            "python": platform.python_version(),
            "veduta": veduta.__version__,
            "problem": "",
        }
        self.answers: dict[str, Any] = {
            "facts": facts,
            "begin": ("ready", ""),
            "index_block": ("done", {"encoded": 1, "runtime": "tiny"}),
            "progress": 7,
        }
        self.waiting: set[str] = set()  # Methods that do not answer yet.
        self.alive = True
        self.killed = 0
        self.started = 0

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options["num_cpus"] == 1 and options["max_restarts"] == 0
        return lambda _: SimpleNamespace(remote=self._start)

    def _start(self, _environment: Any) -> Any:
        self.started += 1

        def method(name: str) -> Any:
            return SimpleNamespace(remote=lambda *_: Reference(name))

        return SimpleNamespace(**{name: method(name) for name in self.answers})

    def wait(self, references: Sequence[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        ready = [one for one in references if one.name not in self.waiting]
        return ready, [one for one in references if one.name in self.waiting]

    def get(self, reference: Any) -> Any:
        answer = self.answers[reference.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, _handle: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed += 1

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "node-a", "Alive": self.alive}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


def events(pool: RayPool, times: int = 3) -> list[Event]:
    return [event for _ in range(times) for event in pool.wait(0)]


def pool_of(ray: FakeRay) -> RayPool:
    pool = RayPool(ray, settings=None)  # type: ignore[arg-type]
    pool.want(1)
    return pool


def test_a_worker_joins_and_does_a_block(ray: FakeRay) -> None:
    pool = pool_of(ray)
    assert events(pool) == [Joined(0, "a (10.0.0.1)")]
    pool.give(0, BLOCK)
    (finished,) = events(pool)
    assert isinstance(finished, Finished) and finished.work.encoded == 1
    ray.answers["index_block"] = ("failed", "it is broken")
    pool.give(0, BLOCK)
    assert events(pool) == [Failed(0, "it is broken")]
    assert cluster_cores(ray) == 8 and pool.state() == (
        "the cluster has 8 cores, of which 2 are free"
    )
    pool.stop()
    assert ray.killed == 1 and pool.wait(0) == []


def test_progress_is_asked_for_now_and_then(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(ray)
    events(pool)
    ray.waiting.add("index_block")
    pool.give(0, BLOCK)
    assert events(pool) == []
    monkeypatch.setattr(ray_pool, "_PROGRESS_SECONDS", -1.0)
    assert events(pool, 1) == [Progressed(0, 7)]


@pytest.mark.parametrize("alive", [True, False])
def test_a_worker_ends(ray: FakeRay, alive: bool) -> None:
    pool = pool_of(ray)
    events(pool)
    ray.answers["index_block"] = DIED
    ray.alive = alive
    pool.give(0, BLOCK)
    (lost,) = events(pool)
    assert isinstance(lost, Lost) and lost.with_machine != alive
    assert lost.reason == (
        "The actor is dead because its worker process has died. Worker exit detail: End of file"
    )
    pool.want(1)
    ray.answers["index_block"] = ("done", {"encoded": 1, "runtime": "tiny"})
    assert events(pool) == [Joined(1, "a (10.0.0.1)")]


def test_an_error_of_a_worker_names_its_cause(ray: FakeRay) -> None:
    error = RayError("ray::VedutaWorker.begin() (pid=1)\n  a long traceback")
    error.cause = ModuleNotFoundError("No module named 'lance'")  # type: ignore[attr-defined]
    ray.answers["begin"] = error
    (event,) = events(pool_of(ray))
    assert event == NotStarted(
        "a (10.0.0.1) did not start: ModuleNotFoundError: No module named 'lance'."
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"python": "3.99.1"}, "it has Python 3.99.1, and this machine"),
        ({"veduta": "9.8.7"}, "it has Veduta 9.8.7, and this machine"),
        (
            {"veduta": "", "problem": "ModuleNotFoundError: No module named 'veduta'"},
            "Veduta cannot be loaded there (ModuleNotFoundError",
        ),
    ],
)
def test_a_machine_that_is_unlike_is_set_aside(
    ray: FakeRay, facts: dict[str, str], words: str
) -> None:
    ray.answers["facts"] |= facts
    pool = pool_of(ray)
    (event,) = events(pool)
    assert isinstance(event, SetAside) and event.reason.startswith(words)
    assert "same" in event.reason or f"pip install 'veduta[ray]=={veduta.__version__}'" in (
        event.reason
    )
    pool.want(1)
    assert ray.started == 2 and ray.killed == 0, "it keeps its place, and another one is started"


def test_a_machine_that_becomes_unfit_during_a_block(ray: FakeRay) -> None:
    pool = pool_of(ray)
    events(pool)
    ray.answers["index_block"] = ("unfit", "the disk is full.")
    pool.give(0, BLOCK)
    assert events(pool) == [SetAside(0, "a (10.0.0.1)", "the disk is full")]


def test_no_more_workers_wait_than_are_of_use(ray: FakeRay) -> None:
    ray.waiting.add("facts")
    pool = RayPool(ray, settings=None)  # type: ignore[arg-type]
    pool.want(3)
    pool.want(3)
    assert ray.started == 3
    pool.want(1000)
    assert ray.started == 32


def test_the_class_of_an_actor_needs_nothing_of_veduta() -> None:
    """A machine without Veduta can load it, and says so."""
    made = ray_pool._actor_class()
    assert "<locals>" in made.__qualname__
    for name in ("__init__", "facts", "begin", "index_block", "progress"):
        method = getattr(made, name)
        used = {one.argval for one in dis.get_instructions(method) if one.opname == "LOAD_GLOBAL"}
        assert not used & set(method.__globals__), name
