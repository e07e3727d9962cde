"""Which worker does which block, and what happens if one of them fails.

A block whose worker ends, or that fails, is done again, on another machine if there is one. A block
that has ended its worker three times is given up, and the others are finished. A machine that has
gone takes its blocks with it: that says nothing about the blocks, so they may fail more often.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from veduta.errors import IndexDamaged, ServiceError
from veduta.index.shards import Shard
from veduta.ray_indexing.blocks import Block
from veduta.ray_indexing.pool import (
    Event,
    Failed,
    Finished,
    Joined,
    Lost,
    NotStarted,
    Pool,
    Progressed,
    SetAside,
)
from veduta.ray_indexing.report import FailedBlock
from veduta.text import count

__all__ = ["MAX_FAILURES", "MAX_LOST_MACHINES", "Done", "run_blocks"]

MAX_FAILURES = 3
MAX_LOST_MACHINES = 10
_MAX_FAILED_STARTS = 5
_PATIENCE_SECONDS = 30.0
"""How long no worker may be at work if all that came do not fit, or do not start."""
_NOTICE_SECONDS = 30.0
_WAIT_SECONDS = 1.0
_UNKNOWN = "a machine"


@dataclass(slots=True)
class Done:
    """What became of the blocks.

    Attributes:
        failed: those that were given up.
        encoded: photos that were read and encoded.
        runtime: what ran the network, and its precision; empty if no block was done.
        set_aside: why machines were not used, one sentence each.
    """

    failed: list[tuple[Block, FailedBlock]] = field(default_factory=list)
    encoded: int = 0
    runtime: str = ""
    set_aside: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Attempts:
    """What happened to a block."""

    failures: int = 0
    lost_machines: int = 0
    reasons: list[str] = field(default_factory=list)
    machines: set[str] = field(default_factory=set)  # Where it failed.


def run_blocks(
    blocks: Sequence[Block],
    pool: Pool,
    accept: Callable[[Block], None],
    *,
    on_progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Done:
    """Let workers do blocks until each is done or given up.

    Args:
        blocks: to be done.
        pool: of the workers.
        accept: called when a block is finished. If its part is not there as a whole, an
            `IndexDamaged` from here lets the block be done again.
        on_progress: called with the number of files that were read.
        say: called with what the user should know at once, a sentence.
        clock: returns the time in seconds.

    Returns:
        What became of them.

    Raises:
        ServiceError: no worker can be used.
        VedutaError: from `accept`.
    """
    run = _Run(blocks, pool, accept, say or (lambda _: None), clock)
    while run.is_at_work:
        pool.want(len(run.todo) + len(run.block_of))
        for event in pool.wait(_WAIT_SECONDS):
            run.note(event)
        run.give_blocks()
        run.require_workers()
        if on_progress:
            on_progress(run.files_done)
    return run.done


class _Run:
    def __init__(
        self,
        blocks: Sequence[Block],
        pool: Pool,
        accept: Callable[[Block], None],
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.todo = deque(blocks)
        self.block_of: dict[int, Block] = {}  # By worker.
        self.done = Done()
        self._pool = pool
        self._accept = accept
        self._say = say
        self._clock = clock
        self._machine_of: dict[int, str] = {}  # Of the workers that can be used.
        self._attempts: dict[Shard, _Attempts] = {}
        self._read: Counter[int] = Counter()  # Files of its block that a worker has read.
        self._finished_files = 0
        self._failed_starts: list[str] = []
        self._last_at_work = self._last_notice = clock()

    @property
    def is_at_work(self) -> bool:
        return bool(self.todo or self.block_of)

    @property
    def files_done(self) -> int:
        return self._finished_files + sum(self._read.values())

    def note(self, event: Event) -> None:
        match event:
            case Joined(worker, machine):
                self._machine_of[worker] = machine
                self._failed_starts.clear()
            case NotStarted(reason):
                self._failed_starts.append(reason)
            case SetAside(worker, machine, reason):
                self._machine_of.pop(worker, None)
                self._set_aside(f"{machine} is not used: {reason}.")
                if block := self._taken_from(worker):
                    self.todo.appendleft(block)
            case Progressed(worker, done):
                if worker in self.block_of:
                    self._read[worker] = done
            case Finished(worker, work):
                if block := self._taken_from(worker):
                    self._finish(block, worker)
                    self.done.encoded += work.encoded
                    self.done.runtime = work.runtime
            case Failed(worker, reason):
                if block := self._taken_from(worker):
                    self._again(block, self._machine_of.get(worker, _UNKNOWN), reason)
            case Lost(worker, reason, with_machine):
                machine = self._machine_of.pop(worker, _UNKNOWN)
                if block := self._taken_from(worker):
                    self._again(block, machine, reason, with_machine=with_machine)

    def _taken_from(self, worker: int) -> Block | None:
        self._read.pop(worker, None)
        return self.block_of.pop(worker, None)

    def _finish(self, block: Block, worker: int) -> None:
        try:
            self._accept(block)
        except IndexDamaged as error:
            self._again(block, self._machine_of.get(worker, _UNKNOWN), str(error))
        else:
            self._finished_files += len(block.files)

    def _again(
        self, block: Block, machine: str, reason: str, *, with_machine: bool = False
    ) -> None:
        """Do a block again, or give it up."""
        attempts = self._attempts.setdefault(block.shard, _Attempts())
        attempts.reasons.append(f"{machine}: {reason}")
        attempts.machines.add(machine)
        if with_machine:
            attempts.lost_machines += 1
        else:
            attempts.failures += 1
        if attempts.failures < MAX_FAILURES and attempts.lost_machines < MAX_LOST_MACHINES:
            self._say(f"Block {block.shard} is done again. {attempts.reasons[-1]}")
            self.todo.append(block)
            return
        failed = FailedBlock(str(block.shard), len(block.files), attempts.reasons)
        self.done.failed.append((block, failed))
        self._finished_files += len(block.files)
        self._say(
            f"Block {block.shard} of {count(len(block.files), 'photo')} is given up after "
            f"{count(len(attempts.reasons), 'attempt')}. {attempts.reasons[-1]}"
        )

    def _set_aside(self, sentence: str) -> None:
        if sentence not in self.done.set_aside:
            self.done.set_aside.append(sentence)
            self._say(sentence)

    def give_blocks(self) -> None:
        for worker, machine in self._machine_of.items():
            if worker not in self.block_of and (block := self._block_for(machine)):
                self.todo.remove(block)
                self.block_of[worker] = block
                self._pool.give(worker, block)

    def _block_for(self, machine: str) -> Block | None:
        """Return the next block for a machine: one that did not fail there, if others can do it."""
        machines = set(self._machine_of.values())
        for block in self.todo:
            attempts = self._attempts.get(block.shard)
            if attempts is None or machine not in attempts.machines:
                return block
            if machines <= attempts.machines:
                return block
        return None

    def require_workers(self) -> None:
        """Say that the run waits for workers; raise an error if those that came are of no use."""
        now = self._clock()
        if self._machine_of:
            self._last_at_work = self._last_notice = now
            return
        useless = self.done.set_aside or len(self._failed_starts) >= _MAX_FAILED_STARTS
        if useless and now - self._last_at_work >= _PATIENCE_SECONDS:
            reasons = [*self.done.set_aside, *self._failed_starts[-1:]]
            raise ServiceError(
                "No worker of the Ray cluster can be used. " + " ".join(reasons) + " What was "
                "finished is kept: run the same command again to continue."
            )
        if now - self._last_notice >= _NOTICE_SECONDS:
            self._last_notice = now
            self._say(f"Waiting for workers: {self._pool.state()}.")
