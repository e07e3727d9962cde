"""Workers of a run with Ray, without Ray: they are in this process, and die as a test says."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tiny import CentredEncoder, TinyExtractor

from veduta.errors import VedutaError
from veduta.index import create_index, holds_index
from veduta.ray_indexing import RayAddress, RayReport, RunOptions, index_with_ray
from veduta.ray_indexing.block_work import BlockWork, BlockWorker, MachineUnfit, WorkSettings
from veduta.ray_indexing.blocks import Block
from veduta.ray_indexing.pool import (
    Event,
    Failed,
    Finished,
    Joined,
    Lost,
    Progressed,
    SetAside,
)

Fate = str
"""What becomes of a worker that gets a block: "done", "dies", "dies late", "machine", "fails",
"unfit" or "driver"."""

Fates = Callable[[str, Block, int], Fate]
"""Called with the machine, the block, and how often it was given before."""


class DriverKilled(BaseException):
    """The driver ends, as by kill -9: nothing of it runs any more."""


class FakePool:
    """A worker on each machine. Each block is done as soon as it is given."""

    def __init__(
        self, machines: Sequence[str], fates: Fates | None = None, settings: Any = None
    ) -> None:
        self.fates = fates or (lambda *_: "done")
        self.settings = settings
        self.machine_of = dict(enumerate(machines))
        self.events: deque[Event] = deque(Joined(*one) for one in self.machine_of.items())
        self.given: list[tuple[str, int]] = []
        self.times: dict[int, int] = defaultdict(int)
        self.wanted: list[int] = []
        self.stopped = False

    def want(self, workers: int) -> None:
        self.wanted.append(workers)

    def give(self, worker: int, block: Block) -> None:
        number, machine = block.shard.number, self.machine_of[worker]
        self.given.append((machine, number))
        fate = self.fates(machine, block, self.times[number])
        self.times[number] += 1
        if fate == "driver":
            raise DriverKilled
        if fate in ("done", "dies late"):
            work = BlockWork(len(block.files), "tiny")
            if self.settings is not None:
                work = BlockWorker(self.settings).index_block(block.shard, block.part, block.files)
            self.events.append(Progressed(worker, len(block.files)))
        if fate == "done":
            self.events.append(Finished(worker, work))
        elif fate == "fails":
            self.events.append(Failed(worker, "it is broken"))
        elif fate == "unfit":
            del self.machine_of[worker]
            self.events.append(SetAside(worker, machine, "it has no disk"))
        else:
            self._replace(worker, machine, with_machine=fate == "machine")

    def _replace(self, worker: int, machine: str, *, with_machine: bool) -> None:
        del self.machine_of[worker]
        self.events.append(Lost(worker, "its process ended", with_machine))
        if with_machine:
            machine = f"{machine}+"
        new = max([*self.machine_of, worker]) + 1
        self.machine_of[new] = machine
        self.events.append(Joined(new, machine))

    def wait(self, seconds: float) -> Sequence[Event]:
        events, self.events = list(self.events), deque()
        return events

    def state(self) -> str:
        return "there are no machines"

    def stop(self) -> None:
        self.stopped = True


class FakeCluster:
    """Stands in for Ray in `veduta.ray_indexing.run`.

    Attributes:
        pools: one of each run that needed workers.
        cores: what the cluster is said to have.
        settings: of the last run.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, machines: Sequence[str] = "AB", *, tiny: bool = True
    ) -> None:
        self.machines = machines
        self.pools: list[FakePool] = []
        self.cores = 2
        self.fates: Fates | None = None
        self.settings: WorkSettings | None = None
        self.encoder = CentredEncoder()
        run, work = "veduta.ray_indexing.run", "veduta.ray_indexing.block_work"
        for place in (run, "veduta.ray_indexing.ray_cluster"):
            monkeypatch.setattr(f"{place}.require_ray", lambda: None)
        monkeypatch.setattr(f"{run}.connected", lambda _: nullcontext(self))
        monkeypatch.setattr(f"{run}.cluster_cores", lambda _: self.cores)
        monkeypatch.setattr(f"{run}.RayPool", self._pool)
        monkeypatch.setattr("veduta.ray_indexing.blocks._MIN_FILES", 3)
        for place in (run, work) if tiny else ():
            monkeypatch.setattr(f"{place}.encoder_of", lambda *_, **__: self.encoder)
            monkeypatch.setattr(f"{place}.extractor_of", lambda *_, **__: TinyExtractor())

    def _pool(self, _ray: Any, settings: WorkSettings, _environment: Any) -> FakePool:
        self.settings = settings
        self.pools.append(FakePool(self.machines, self.fates, settings))
        return self.pools[-1]

    def run(self, index: Path, *folders: Path, url: str | None = None, **options: Any) -> RayReport:
        """Index folders; the index is made if it is missing."""
        if not holds_index(index):
            create_index(index, CentredEncoder(), TinyExtractor())
        address = RayAddress.parse("local")
        return index_with_ray(index, folders, address, RunOptions(**options), url=url)


def unfit(settings: WorkSettings) -> str:
    """Return why a machine is refused."""
    with pytest.raises(MachineUnfit) as caught:
        BlockWorker(settings)
    assert isinstance(caught.value, VedutaError)
    return str(caught.value)
