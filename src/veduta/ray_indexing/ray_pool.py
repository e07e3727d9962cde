"""Workers that Ray runs: one actor for each core, wherever the cluster has room.

An actor that waits for room is one that a machine which joins later will run. An actor is made
from a class that is sent by value and needs nothing but Python, so that a machine without Veduta,
or with another version, can say so. Errors that are expected come back as words, because some
classes of errors do not survive the way.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from veduta._version import __version__
from veduta.ray_indexing.block_work import BlockWork, WorkSettings
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
from veduta.ray_indexing.ray_cluster import CLUSTER_ENVIRONMENT

__all__ = ["RayPool", "cluster_cores"]

_MAX_WAITING = 32
"""Actors that wait for room. They show an autoscaler how many cores are wanted."""
_PROGRESS_SECONDS = 2.0
_GUESSES = "Some common causes include"
"""What follows in a message of Ray is the same for all ends of a process."""


def cluster_cores(ray: Any) -> int:
    """Return the number of cores of a cluster, at least 1.

    Args:
        ray: the module, connected.
    """
    return max(int(ray.cluster_resources().get("CPU", 0)), 1)


def _actor_class() -> type:
    """Return the class of an actor. A class inside a function is sent by value."""

    class VedutaWorker:
        def __init__(self, environment: dict[str, str | None]) -> None:
            import os

            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self.worker: Any = None

        def facts(self) -> dict[str, Any]:
            import platform
            import socket

            import ray

            try:
                import veduta

                version, problem = veduta.__version__, ""
            except ImportError as error:
                version, problem = "", f"{type(error).__name__}: {error}"
            context = ray.get_runtime_context()
            address = ray.util.get_node_ip_address()
            return {
                "machine": f"{socket.gethostname()} ({address})",
                "node": context.get_node_id(),
                "python": platform.python_version(),
                "veduta": version,
                "problem": problem,
            }

        def begin(self, settings: Any) -> tuple[str, str]:
            from veduta.ray_indexing.block_work import BlockWorker, MachineUnfit

            try:
                self.worker = BlockWorker(settings)
            except MachineUnfit as error:
                return "unfit", str(error)
            return "ready", ""

        def index_block(self, shard: Any, part: str, files: Any) -> tuple[str, Any]:
            from dataclasses import asdict

            from veduta.errors import VedutaError
            from veduta.ray_indexing.block_work import MachineUnfit

            try:
                return "done", asdict(self.worker.index_block(shard, part, files))
            except MachineUnfit as error:
                return "unfit", str(error)
            except VedutaError as error:
                return "failed", str(error)

        def progress(self) -> int:
            return int(self.worker.done)

    return VedutaWorker


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor, and what it is asked for.

    Attributes:
        number: of the worker.
        handle: of the actor.
        machine: for messages; empty until it is known.
        node: the id that Ray has for the machine; empty until it is known.
        is_ready: whether it can do blocks.
        asked: when its progress was asked for last.
    """

    number: int
    handle: Any
    machine: str = ""
    node: str = ""
    is_ready: bool = False
    asked: float = 0.0


class RayPool:
    """The workers of a run on a Ray cluster. It is a `veduta.ray_indexing.pool.Pool`."""

    def __init__(
        self, ray: Any, settings: WorkSettings, environment: Mapping[str, str | None] | None = None
    ) -> None:
        """Prepare for a run.

        Args:
            ray: the module, connected.
            settings: of all workers.
            environment: variables that each worker sets first; None takes one away.
        """
        self._ray = ray
        self._settings = ray.put(settings)
        self._class = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=2)(_actor_class())
        self._environment = dict(environment or {})
        self._actors: dict[int, _Actor] = {}
        self._useless: set[int] = set()  # They stay, so that no other actor comes to their place.
        self._asked: dict[Any, tuple[_Actor, str]] = {}  # What is asked for → the actor, and what.
        self._next = 0

    def want(self, workers: int) -> None:
        """Start actors until there are as many, or enough of them wait for room.

        Args:
            workers: how many would have a block.
        """
        actors = [one for one in self._actors.values() if one.number not in self._useless]
        waiting = sum(not one.node for one in actors)
        for _ in range(min(workers - len(actors), _MAX_WAITING - waiting)):
            actor = _Actor(self._next, self._class.remote(self._environment))
            self._next += 1
            self._actors[actor.number] = actor
            self._ask(actor, "facts", actor.handle.facts.remote())

    def give(self, worker: int, block: Block) -> None:
        """Let a worker that is ready do a block.

        Args:
            worker: its number.
            block: to be done.
        """
        actor = self._actors[worker]
        actor.asked = time.monotonic()
        reference = actor.handle.index_block.remote(block.shard, block.part, block.files)
        self._ask(actor, "block", reference)

    def wait(self, seconds: float) -> Sequence[Event]:
        """Return what has happened.

        Args:
            seconds: the longest time to wait for something.
        """
        self._ask_for_progress()
        references = list(self._asked)
        if not references:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready and len(references) > 1:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        events = [self._event(reference) for reference in ready]
        return [event for event in events if event is not None]

    def state(self) -> str:
        """Return how many cores the cluster has."""
        total = self._ray.cluster_resources().get("CPU", 0)
        free = self._ray.available_resources().get("CPU", 0)
        return f"the cluster has {total:g} cores, of which {free:g} are free"

    def stop(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle, no_restart=True)
        self._actors.clear()
        self._asked.clear()

    def _ask(self, actor: _Actor, what: str, reference: Any) -> None:
        self._asked[reference] = actor, what

    def _ask_for_progress(self) -> None:
        now = time.monotonic()
        asked = {actor.number for actor, what in self._asked.values() if what == "progress"}
        busy = [actor for actor, what in self._asked.values() if what == "block"]
        for actor in busy:
            if actor.number not in asked and now - actor.asked >= _PROGRESS_SECONDS:
                actor.asked = now
                self._ask(actor, "progress", actor.handle.progress.remote())

    def _event(self, reference: Any) -> Event | None:
        actor, what = self._asked.pop(reference)
        if actor.number not in self._actors:
            return None  # It has ended, and that was told.
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._lost(actor, error)
        match what:
            case "facts":
                return self._known(actor, answer)
            case "begin":
                return self._begun(actor, answer)
            case "progress":
                return Progressed(actor.number, answer)
            case _:
                return self._answered(actor, answer)

    def _known(self, actor: _Actor, facts: dict[str, Any]) -> Event | None:
        actor.machine, actor.node = facts["machine"], facts["node"]
        if reason := _why_unlike(facts):
            return self._put_aside(actor, reason)
        self._ask(actor, "begin", actor.handle.begin.remote(self._settings))
        return None

    def _begun(self, actor: _Actor, answer: tuple[str, str]) -> Event:
        state, reason = answer
        if state == "unfit":
            return self._put_aside(actor, reason)
        actor.is_ready = True
        return Joined(actor.number, actor.machine)

    def _answered(self, actor: _Actor, answer: tuple[str, Any]) -> Event:
        state, value = answer
        if state == "unfit":
            return self._put_aside(actor, value)
        if state == "failed":
            return Failed(actor.number, value)
        return Finished(actor.number, BlockWork(**value))

    def _put_aside(self, actor: _Actor, reason: str) -> Event:
        self._useless.add(actor.number)
        return SetAside(actor.number, actor.machine, reason.rstrip("."))

    def _lost(self, actor: _Actor, error: Exception) -> Event | None:
        # It may be there still, behind a network that has failed or after an error of its own.
        self._ray.kill(actor.handle, no_restart=True)
        del self._actors[actor.number]
        if actor.number in self._useless:
            return None
        reason = _in_words(error)
        if not actor.is_ready:
            return NotStarted(f"{actor.machine or 'A worker'} did not start: {reason}.")
        return Lost(actor.number, reason, with_machine=not self._is_there(actor.node))

    def _is_there(self, node: str) -> bool:
        return any(one["NodeID"] == node and one["Alive"] for one in self._ray.nodes())


def _why_unlike(facts: Mapping[str, Any]) -> str:
    """Return why the machine of an actor cannot work for this driver; empty if it can."""
    python, here = facts["python"], platform.python_version()
    if python.split(".")[:2] != here.split(".")[:2]:
        return f"it has Python {python}, and this machine {here}. Use the same on all machines"
    install = f"pip install 'veduta[ray]=={__version__}'"
    if facts["problem"]:
        return f"Veduta cannot be loaded there ({facts['problem']}). Install it there: {install}"
    if facts["veduta"] != __version__:
        return (
            f"it has Veduta {facts['veduta']}, and this machine {__version__}. Install the same "
            f"there: {install}"
        )
    return ""


def _in_words(error: Exception) -> str:
    """Return the cause of an error of Ray, or the line of it that says most."""
    if (cause := getattr(error, "cause", None)) is not None:
        return f"{type(cause).__name__}: {cause}".rstrip(".")
    # A title comes first, then indented facts about the actor, then what happened.
    lines = [line for line in str(error).splitlines() if line.strip() and line[0] != "\t"]
    line = (lines[1:2] or lines or [type(error).__name__])[0]
    return line.partition(_GUESSES)[0].strip().rstrip(".")


def worker_environment() -> dict[str, str | None]:
    """Return what a worker of a cluster that Veduta starts must have again as this process."""
    return {name: os.environ.get(name) for name in CLUSTER_ENVIRONMENT}
