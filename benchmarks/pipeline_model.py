"""Simulate `veduta index` on 1 to 256 workers, with failures, then merge and links.

Workers take blocks, read their photos from a shared storage, encode them with service times drawn
from the measured quantiles, and write parts (`benchmarks.block_simulation`). Merge, cells and links
follow on one machine, as they are today. The changed pipeline links ranges of cells on the workers,
copies no row and lists no file twice.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.block_simulation import (
    Block,
    Machines,
    Run,
    expected_seconds_of_restarts,
    simulate,
)
from benchmarks.pipeline_costs import BUSY
from benchmarks.pipeline_stages import Pipeline
from benchmarks.report import MAX_BUSY_PERCENT, format_number, parser, publish, table
from benchmarks.unit_costs import ASSUMPTIONS, COSTS, Assumptions, UnitCosts
from veduta.pages.charts import lines
from veduta.text import count

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PHOTOS = (10**6, 10**7, 10**9)
BLOCKS = (500, 2_000, 10_000, 50_000)
_HOUR = 3600.0
_DRAWN_BLOCKS = 256
"""Blocks whose photos are drawn one by one. The blocks of a simulation are drawn from these."""

STEPS = ("index", "merge", "cells", "links")
CHART = "pipeline-scaling.png"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulated pass of all photos.

    Attributes:
        workers: number of them.
        hours: until the last block is done.
        ideal_hours: that the same work takes without waiting, failures and stragglers.
        working: share of the time of all workers that is work of blocks.
        transferring: share that transfers take.
        lost: share that failures cost.
    """

    workers: int
    hours: float
    ideal_hours: float
    working: float
    transferring: float
    lost: float

    @property
    def efficiency(self) -> float:
        """Return the share of the workers' time that is work that counts."""
        return self.ideal_hours / self.hours

    @classmethod
    def of(cls, run: Run, workers: int, blocks: int, mean_compute: float) -> Scenario:
        """Return the figures of a run."""
        whole = run.seconds * workers
        return cls(
            workers,
            run.seconds / _HOUR,
            blocks * mean_compute / workers / _HOUR,
            run.computing / whole,
            (run.downloading + run.uploading) / whole,
            (run.lost + run.restarting) / whole,
        )


@dataclass(frozen=True, slots=True)
class Model:
    """Simulations of a pipeline.

    Attributes:
        pipeline: what each step needs.
        seed: of all simulations.
        known: what was simulated already.
    """

    pipeline: Pipeline
    seed: int = 1
    known: dict[tuple[object, ...], Scenario] = field(default_factory=dict, compare=False)

    def machines(self, workers: int, hours_to_failure: float) -> Machines:
        """Return the workers."""
        assumed = self.pipeline.assumed
        return Machines(
            workers,
            assumed.worker_network_mb_s,
            assumed.storage_mb_s,
            hours_to_failure * _HOUR,
            assumed.restart_seconds,
        )

    def indexing(
        self,
        photos: int,
        workers: int,
        hours_to_failure: float,
        *,
        block_photos: float | None = None,
        today: bool = False,
    ) -> Scenario:
        """Simulate reading and encoding.

        Args:
            photos: in the collection.
            workers: number of them.
            hours_to_failure: of a worker, the mean.
            block_photos: of a block; None: as assumed.
            today: a block is a shard, which lists all files, and cells are made later. There are
                as many shards as is best. Otherwise blocks are lists of files, and workers fill the
                cells, too.
        """
        line, assumed = self.pipeline, self.pipeline.assumed
        size = block_photos or assumed.block_photos
        blocks = line.shards(photos, workers) if today else line.blocks(photos, size)
        size = photos / blocks
        extra = line.start_seconds + size * line.commit_seconds
        if today:
            extra += line.listing_seconds(photos)
        else:
            extra += size * line.filling_seconds_a_photo(photos) / assumed.worker_cores
        spread = line.costs.spreads["all of these, ms"]
        compute = extra + _sums(spread.draw, size, self.seed) / 1e3 / assumed.worker_cores
        file = line.costs.spreads["file, kB"].mean
        return self._simulated(
            blocks,
            compute,
            size * file / 1e3,
            size * line.part_bytes / 1e6,
            workers,
            hours_to_failure,
        )

    def linking(self, photos: int, workers: int, hours_to_failure: float) -> Scenario:
        """Simulate links per range of cells, each on a worker."""
        line, assumed = self.pipeline, self.pipeline.assumed
        blocks = line.blocks(photos, assumed.link_block_photos)
        size = photos / blocks
        seconds = line.links_seconds(photos) / blocks / assumed.worker_cores
        return self._simulated(
            blocks,
            np.array([line.start_seconds + seconds]),
            size * assumed.link_halo * line.linked_bytes / 1e6,
            size * line.costs.figures["folder graph, bytes"] / 1e6,
            workers,
            hours_to_failure,
        )

    def _simulated(
        self,
        blocks: int,
        compute: np.ndarray,
        download: float,
        upload: float,
        workers: int,
        hours_to_failure: float,
    ) -> Scenario:
        assumed = self.pipeline.assumed
        share, factor = assumed.straggler_share, assumed.straggler_factor
        seconds = compute.tolist()

        def draw(rng: random.Random) -> Block:
            slow = factor if rng.random() < share else 1.0
            return Block(download, rng.choice(seconds) * slow, upload)

        mean = float(compute.mean())
        key = blocks, mean, download, upload, workers, hours_to_failure
        if key not in self.known:
            machines = self.machines(workers, hours_to_failure)
            run = simulate(blocks, draw, machines, self.seed)
            self.known[key] = Scenario.of(run, workers, blocks, mean)
        return self.known[key]

    def whole(self, photos: int, workers: int, *, today: bool) -> dict[str, float]:
        """Return step → hours until a collection is indexed and linked."""
        line, assumed = self.pipeline, self.pipeline.assumed
        mean = assumed.hours_to_failure
        indexing = self.indexing(photos, workers, mean, today=today).hours
        if today:
            merging = line.merge_seconds(photos, line.shards(photos, workers))
            return {
                "index": indexing,
                "merge": merging / _HOUR,
                "cells": line.cells_by_clock(photos) / _HOUR,
                "links": line.links_by_clock(photos) / _HOUR,
            }
        parts = line.blocks(photos, assumed.block_photos)
        cores = workers * assumed.worker_cores
        merging = line.opening_seconds(parts) + line.choice_seconds(photos) / cores
        asking = line.asking_seconds(photos) / cores
        on_one_machine = line.links_by_clock(photos) / _HOUR
        return {
            "index": indexing,
            "merge": merging / _HOUR,
            "cells": (line.training_seconds(photos) / assumed.driver_cores + asking) / _HOUR,
            "links": min(on_one_machine, self.linking(photos, workers, mean).hours),
        }


def _sums(
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray], size: float, seed: int
) -> np.ndarray:
    """Return the sums of the photos of some blocks."""
    rng = np.random.default_rng(seed)
    return np.array([draw(rng, (round(size),)).sum() for _ in range(_DRAWN_BLOCKS)])


def with_restarts(hours: dict[str, float], assumed: Assumptions) -> float:
    """Return the expected hours if each step of the one machine begins anew after a failure."""
    restart = assumed.restart_seconds / _HOUR
    serial = [hours[name] for name in ("merge", "cells", "links")]
    links = serial[1] + serial[2]  # Cells and links are written together.
    return hours["index"] + sum(
        expected_seconds_of_restarts(one, assumed.hours_to_failure, restart)
        for one in (serial[0], links)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and publish."""
    options = parser("pipeline_model", __doc__)
    add_sources(options)
    options.add_argument("--photos", nargs="+", type=int, default=PHOTOS)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    model = Model(pipeline_of(options, chosen), chosen.seed)
    photos = sorted(chosen.photos)
    totals, text = whole_pipeline(model, photos)
    parts = [
        scaling(model, photos),
        time_of_workers(model, photos[-1]),
        block_sizes(model, photos[-2:][0]),
        text,
    ]
    parts.append(sources_of(model.pipeline))
    publish("pipeline_model", "\n\n".join(parts), chosen.docs)
    if chosen.docs is not None:
        largest = max(chosen.photos)
        file = chosen.docs.parent / "images" / CHART
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(chart(totals[largest], largest))


def add_sources(options: argparse.ArgumentParser) -> None:
    """Add the options that name where unit costs and assumptions come from."""
    options.add_argument("--costs", type=Path, default=COSTS, help="CSV of measured unit costs")
    options.add_argument("--assumptions", type=Path, default=ASSUMPTIONS, help="TOML file")


def pipeline_of(options: argparse.ArgumentParser, chosen: argparse.Namespace) -> Pipeline:
    """Return the pipeline of the named files, or end the program with what is wrong with them."""
    try:
        return Pipeline(UnitCosts.read(chosen.costs), Assumptions.read(chosen.assumptions))
    except (OSError, ValueError) as error:
        options.error(str(error))


def sources_of(line: Pipeline) -> str:
    """Return where the figures come from, and whether they will be measured again."""
    busy = line.costs.figures[BUSY]
    notice = (
        f" **Provisional:** other programs used {busy:g} % of the processor when the unit costs "
        "were measured."
        if busy > MAX_BUSY_PERCENT
        else ""
    )
    return f"Unit costs: {line.costs.provenance}. Assumptions: {line.assumed.date}.{notice}"


def scaling(model: Model, photos: Sequence[int]) -> str:
    """Return the table of the first phase."""
    assumed = model.pipeline.assumed
    mild, harsh = assumed.hours_to_failure, assumed.harsh_hours_to_failure
    rows = []
    for workers in WORKERS:
        row: list[object] = [workers]
        for number in photos:
            run = model.indexing(number, workers, mild)
            row += [format_number(run.hours), f"{run.efficiency:.2f}"]
        hard = model.indexing(photos[-1], workers, harsh)
        row += [f"{run.lost:.1%}", f"{hard.lost:.1%}", format_number(hard.hours)]
        rows.append(row)
    head = ["workers"]
    for number in photos:
        head += [f"{number:,}: hours", "efficiency"]
    last = f"{photos[-1]:,}"
    head += [
        f"lost, a failure in {mild:g} h",
        f"lost, a failure in {harsh:g} h",
        f"{last}: hours then",
    ]
    return (
        f"Read, encode and write, in blocks of {assumed.block_photos:,.0f} photos. Efficiency is "
        "the ideal time, without transfers, failures and slow blocks, as a share of this one. The "
        f"last three columns are for {last} photos.\n\n{table(head, rows)}"
    )


def time_of_workers(model: Model, photos: int) -> str:
    """Return the table of what workers do."""
    workers, mean = WORKERS[-1], model.pipeline.assumed.hours_to_failure
    rows = []
    for name, run in (
        ("read, encode and write", model.indexing(photos, workers, mean)),
        ("link ranges of cells (changed)", model.linking(photos, workers, mean)),
    ):
        shares = run.working, run.transferring, run.lost
        rows.append([name, *(f"{share:.1%}" for share in (*shares, max(0.0, 1 - sum(shares))))])
    head = ["share of the time of workers", "work", "transfers", "failures", "nothing to do"]
    return f"{photos:,} photos on {workers} workers:\n\n{table(head, rows)}"


def block_sizes(model: Model, photos: int) -> str:
    """Return the table of the sizes of a block."""
    assumed, workers = model.pipeline.assumed, WORKERS[-1]
    rows = []
    for size in BLOCKS:
        mild, harsh = (
            model.indexing(photos, workers, hours, block_photos=size)
            for hours in (assumed.hours_to_failure, assumed.harsh_hours_to_failure)
        )
        rows.append(
            [f"{size:,}"]
            + [
                shown
                for run in (mild, harsh)
                for shown in (
                    format_number(run.hours),
                    f"{run.efficiency:.2f}",
                    f"{run.lost:.1%}",
                )
            ]
        )
    head = ["photos a block"]
    for hours in (assumed.hours_to_failure, assumed.harsh_hours_to_failure):
        head += [f"hours, a failure in {hours:g} h", "efficiency", "lost"]
    return f"{photos:,} photos on {workers} workers:\n\n{table(head, rows)}"


def whole_pipeline(
    model: Model, photos: Sequence[int]
) -> tuple[dict[int, dict[str, list[float]]], str]:
    """Return the hours of all steps together, for a chart and as a table."""
    totals: dict[int, dict[str, list[float]]] = {}
    rows = []
    assumed = model.pipeline.assumed
    for number in photos:
        totals[number] = {"today": [], "today, with restarts": [], "changed": [], "ideal": []}
        for workers in WORKERS:
            today = model.whole(number, workers, today=True)
            changed = model.whole(number, workers, today=False)
            own = totals[number]
            own["today"].append(sum(today.values()))
            own["today, with restarts"].append(with_restarts(today, assumed))
            own["changed"].append(sum(changed.values()))
            own["ideal"].append(own["changed"][0] / workers)
            if workers not in (1, 16, WORKERS[-1]):
                continue
            for name, hours, total in (
                ("today", today, own["today, with restarts"][-1]),
                ("changed", changed, own["changed"][-1]),
            ):
                rows.append(
                    [
                        f"{number:,} photos, {count(workers, 'worker')}, {name}",
                        *(_hours(hours[step]) for step in STEPS),
                        format_number(sum(hours.values())),
                        _hours(total),
                        max(STEPS, key=lambda step: hours[step]),
                    ]
                )
    head = ["", "index", "merge", "cells", "links", "all", "with restarts", "longest"]
    return totals, (
        "The whole pipeline, in hours. Today, merge, cells and links are the work of one machine "
        f"with {assumed.driver_cores:g} cores, and begin anew if it fails, on average once in "
        f"{assumed.hours_to_failure:g} h. There are as many shards as is best, and as much memory "
        f"as is needed:\n\n{table(head, rows)}"
    )


_NEVER_HOURS = 10 * 365 * 24


def _hours(hours: float) -> str:
    if hours > _NEVER_HOURS:
        return "never"
    return "< 0.01" if hours < 0.01 else format_number(hours)


def chart(totals: dict[str, list[float]], photos: int) -> bytes:
    """Return a PNG of hours over workers."""
    shown = {
        name: (WORKERS, [hours if hours < _NEVER_HOURS else np.nan for hours in totals[name]])
        for name in ("today", "today, with restarts", "changed", "ideal")
    }
    return lines(
        f"Hours for {photos:,} photos (projected)",
        shown,
        x_label="workers",
        y_label="hours",
        log_x=True,
        log_y=True,
    ).png()


if __name__ == "__main__":
    main()
