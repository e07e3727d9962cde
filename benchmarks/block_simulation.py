"""Simulate machines that take blocks of work from a queue, share a storage, and fail.

A machine downloads a block, computes, and uploads the result, one after the other. All transfers of
all machines share the bandwidth of one storage equally, and none is faster than the network of its
machine. A machine fails after an exponentially distributed time, whatever it does: its block goes
back to the queue, and after the restart it takes the next one.

The simulation steps from event to event. `simpy` (MIT, alive) has queues whose users wait for each
other, and none whose users share a bandwidth. That is the larger part of this file, so it needs
nothing but the standard library.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Block", "Machines", "Run", "expected_seconds_of_restarts", "simulate"]


@dataclass(frozen=True, slots=True)
class Block:
    """What one block needs.

    Attributes:
        download: MB to read before the work.
        compute: seconds of work of a machine.
        upload: MB to write after it.
    """

    download: float
    compute: float
    upload: float


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines and what they share.

    Attributes:
        number: of machines.
        network: MB/s of one machine, at most.
        storage: MB/s of all machines together.
        mean_seconds_to_failure: of one machine.
        restart_seconds: from a failure until the machine takes a block again.
    """

    number: int
    network: float = math.inf
    storage: float = math.inf
    mean_seconds_to_failure: float = math.inf
    restart_seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """What happened, in seconds summed over all machines unless stated otherwise.

    Attributes:
        seconds: from the start until the last block is done, by the clock.
        done: numbers of the blocks in the order in which they were done.
        downloading: of the attempts that succeeded.
        computing: of the attempts that succeeded.
        uploading: of the attempts that succeeded.
        lost: of the attempts that failed.
        restarting: after failures.
        failures: number of them, also those of machines without a block.
    """

    seconds: float = 0.0
    done: list[int] = field(default_factory=list)
    downloading: float = 0.0
    computing: float = 0.0
    uploading: float = 0.0
    lost: float = 0.0
    restarting: float = 0.0
    failures: int = 0


class _SharedStorage:
    """Transfers that share a bandwidth equally.

    All transfers get the same rate at the same time. So it is enough to know how much one that was
    there from the start would have got: `served`. A transfer ends when that has grown by its size.
    """

    def __init__(self, total: float, of_one: float) -> None:
        self.total, self.of_one = total, of_one
        self.served = 0.0
        self.at = 0.0
        self.ends: list[tuple[float, int, int]] = []  # (`served` at the end, number, machine)
        self.number = 0  # Of the last transfer.
        self.active: dict[int, int] = {}  # machine → number of its transfer

    def _rate(self) -> float:
        return min(self.of_one, self.total / len(self.active))

    def _advance(self, now: float) -> None:
        if self.active:
            self.served += self._rate() * (now - self.at)
        self.at = now

    def start(self, now: float, machine: int, size: float) -> None:
        self._advance(now)
        self.number += 1
        self.active[machine] = self.number
        heapq.heappush(self.ends, (self.served + size, self.number, machine))

    def stop(self, now: float, machine: int) -> None:
        """End the transfer of a machine, whether all of it is there or not."""
        self._advance(now)
        self.active.pop(machine, None)

    def next(self) -> tuple[float, int]:
        """Return when the next transfer ends and whose it is; infinity if there is none."""
        while self.ends and self.active.get(self.ends[0][2]) != self.ends[0][1]:
            heapq.heappop(self.ends)
        if not self.ends:
            return math.inf, -1
        end, _, machine = self.ends[0]
        return self.at + max(0.0, end - self.served) / self._rate(), machine


_MOST_MEANS = 20
"""A longer block, in mean times to a failure, is begun hundreds of millions of times."""

_READY, _COMPUTED, _FAILED = range(3)


def simulate(
    blocks: int, draw: Callable[[random.Random], Block], machines: Machines, seed: int
) -> Run:
    """Return what happens until all blocks are done.

    Args:
        blocks: number of blocks, at least 1.
        draw: what a block needs. A block that is done again is drawn again.
        machines: that do the work.
        seed: of all random numbers. The same seed gives the same run.

    Raises:
        ValueError: there is no block or no machine, or machines fail too often for a block.
    """
    if blocks < 1 or machines.number < 1:
        raise ValueError(f"{blocks} blocks and {machines.number} machines: wanted 1 of each")
    return _Simulation(blocks, draw, machines, seed).run()


class _Simulation:
    def __init__(
        self, blocks: int, draw: Callable[[random.Random], Block], machines: Machines, seed: int
    ) -> None:
        self.draw, self.machines = draw, machines
        # Numbers of their own, so that failures do not change what a block needs.
        self.of_blocks, self.of_failures = random.Random(seed), random.Random(seed + 1)
        self.blocks = blocks
        self.next_block = 0
        self.again: deque[int] = deque()
        self.result = Run()
        self.events: list[tuple[float, int, int, int, int]] = []
        self.order = 0  # Of events at the same time, the first that was planned comes first.
        self.storage = _SharedStorage(machines.storage, machines.network)
        # If the storage has enough for all networks, no transfer waits for another.
        self.waits_for_none = machines.number * machines.network <= machines.storage
        n = machines.number
        self.block_of = [-1] * n  # -1: the machine has none.
        self.needs: list[Block] = [Block(0, 0, 0)] * n
        self.started = [0.0] * n
        self.attempt = [0] * n  # Events of an attempt that failed are passed over.
        self.download_ended = [0.0] * n
        self.computed_at = [0.0] * n
        self.uploads = [False] * n
        self.idle: deque[int] = deque()

    def run(self) -> Run:
        for machine in range(self.machines.number):
            self._plan_failure(0.0, machine)
            self._take(0.0, machine)
        result = self.result
        while len(result.done) < self.blocks:
            at, machine = self.storage.next()
            if self.events and self.events[0][0] <= at:
                now, _, kind, machine, attempt = heapq.heappop(self.events)
                if kind == _FAILED:
                    self._fail(now, machine)
                elif kind == _READY:
                    self._plan_failure(now, machine)
                    self._take(now, machine)
                elif attempt == self.attempt[machine]:
                    self._end_of_compute(now, machine)
            else:
                self._end_of_transfer(at, machine)
        return result

    def _plan(self, at: float, kind: int, machine: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (at, self.order, kind, machine, self.attempt[machine]))

    def _plan_failure(self, now: float, machine: int) -> None:
        mean = self.machines.mean_seconds_to_failure
        if mean < math.inf:
            self._plan(now + self.of_failures.expovariate(1 / mean), _FAILED, machine)

    def _take(self, now: float, machine: int) -> None:
        if self.again:
            block = self.again.popleft()
        elif self.next_block < self.blocks:
            block = self.next_block
            self.next_block += 1
        else:
            self.idle.append(machine)
            return
        needs = self.draw(self.of_blocks)
        if needs.compute > _MOST_MEANS * self.machines.mean_seconds_to_failure:
            raise ValueError(
                f"a block of {needs.compute:,.0f} s never ends on machines that fail after "
                f"{self.machines.mean_seconds_to_failure:,.0f} s on average"
            )
        self.block_of[machine], self.needs[machine], self.started[machine] = block, needs, now
        self.uploads[machine] = False
        if self.waits_for_none:
            network = self.machines.network
            self.download_ended[machine] = now + needs.download / network
            self._plan(
                self.download_ended[machine] + needs.compute + needs.upload / network,
                _COMPUTED,
                machine,
            )
        else:
            self.storage.start(now, machine, needs.download)

    def _end_of_transfer(self, now: float, machine: int) -> None:
        self.storage.stop(now, machine)
        if self.uploads[machine]:
            self._done(now, machine)
        else:
            self.download_ended[machine] = now
            self._plan(now + self.needs[machine].compute, _COMPUTED, machine)

    def _end_of_compute(self, now: float, machine: int) -> None:
        if self.waits_for_none:  # The event is the end of the upload then.
            self.computed_at[machine] = now - self.needs[machine].upload / self.machines.network
            self._done(now, machine)
        else:
            self.computed_at[machine], self.uploads[machine] = now, True
            self.storage.start(now, machine, self.needs[machine].upload)

    def _done(self, now: float, machine: int) -> None:
        result = self.result
        result.downloading += self.download_ended[machine] - self.started[machine]
        result.computing += self.computed_at[machine] - self.download_ended[machine]
        result.uploading += now - self.computed_at[machine]
        result.done.append(self.block_of[machine])
        result.seconds = now
        self.attempt[machine] += 1
        self.block_of[machine] = -1
        self._take(now, machine)

    def _fail(self, now: float, machine: int) -> None:
        result = self.result
        result.failures += 1
        restart = self.machines.restart_seconds
        result.restarting += restart
        self.attempt[machine] += 1
        self.storage.stop(now, machine)
        if self.block_of[machine] >= 0:
            result.lost += now - self.started[machine]
            self.again.append(self.block_of[machine])
            self.block_of[machine] = -1
        else:
            self.idle.remove(machine)
        self._plan(now + restart, _READY, machine)
        if self.idle:  # Another machine takes the block at once.
            self._take(now, self.idle.popleft())


def expected_seconds_of_restarts(
    seconds: float, mean_seconds_to_failure: float, restart_seconds: float
) -> float:
    """Return how long a step takes that begins anew after each failure.

    Args:
        seconds: of the step without failures.
        mean_seconds_to_failure: of its machine, exponentially distributed.
        restart_seconds: from a failure until the step begins anew.

    Returns:
        The expected seconds; infinity if they are beyond any number.
    """
    if math.isinf(mean_seconds_to_failure):
        return seconds
    try:
        failures = math.expm1(seconds / mean_seconds_to_failure)
    except OverflowError:
        return math.inf
    return failures * (mean_seconds_to_failure + restart_seconds)
