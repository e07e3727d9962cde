"""What the schedule needs of workers, wherever they run, and what they tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from veduta.ray_indexing.block_work import BlockWork
from veduta.ray_indexing.blocks import Block

__all__ = [
    "Event",
    "Failed",
    "Finished",
    "Joined",
    "Lost",
    "NotStarted",
    "Pool",
    "Progressed",
    "SetAside",
]


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready for a block.

    Attributes:
        worker: its number.
        machine: the machine that it runs on, for messages.
    """

    worker: int
    machine: str


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A worker ended before it was ready.

    Attributes:
        reason: why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A worker gets no further block, because its machine cannot do the work.

    Attributes:
        worker: its number.
        machine: the machine that it runs on.
        reason: why, with a remedy, without a full stop.
    """

    worker: int
    machine: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """A worker has read more files of its block.

    Attributes:
        worker: its number.
        done: files of the block that were read.
    """

    worker: int
    done: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker has delivered the part of its block.

    Attributes:
        worker: its number.
        work: what was done.
    """

    worker: int
    work: BlockWork


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker could not do its block, and is ready for another one.

    Attributes:
        worker: its number.
        reason: why.
    """

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker ended.

    Attributes:
        worker: its number.
        reason: why, as far as it is known.
        with_machine: whether its machine has gone, so that the block is not to blame.
    """

    worker: int
    reason: str
    with_machine: bool


Event = Joined | NotStarted | SetAside | Progressed | Finished | Failed | Lost


class Pool(Protocol):
    """Workers that come and go."""

    def want(self, workers: int) -> None:
        """Start workers until there are as many, or they wait for room in the cluster."""

    def give(self, worker: int, block: Block) -> None:
        """Let a worker that is ready do a block."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Return what has happened, after at most this time."""

    def state(self) -> str:
        """Return what the pool waits for, for a message: a sentence without a full stop."""
