"""A service under load: searches a second, waiting times, errors, and memory over ten minutes.

Clients in a second process search with photos. Each sends a request when it has the last answer.
The queries are other photos of the places that the collection has. Strangers, which it does not
have, take longer: they are encoded in four orientations and verified in two or three. The same
service that encodes each photo by itself takes turns with it. How much batches help the
network alone is measured, too, because the service cannot gain more by them. Verified searches are
asked of a service of one process and of one with a process for each core, which take turns. The
photos are those of `benchmarks.query`.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import veduta
from benchmarks import photo_sets
from benchmarks.processes import run_child
from benchmarks.report import MedianAndRange, check_target, parser, publish, ratios, table
from benchmarks.serving import service, wait_until_ready
from veduta import photos
from veduta.encoders import load_encoder
from veduta.processor_cores import processor_cores
from veduta.web.batched_encoder import MAX_BATCH_PHOTOS

MODULES = {"batches": "veduta", "batches of one": "benchmarks.batches_of_one"}
CORES = processor_cores()
PROCESSES = {"one process": 1, f"{CORES} processes": CORES}
WARM_UP_SECONDS = 5
MEMORY_WARM_UP_SECONDS = 60
"""A service that has just started still fills its caches and the buffers of its networks."""
SAMPLE_SECONDS = 5.0
MIN_RATIO, MIN_SHARE_OF_NETWORK = 2.0, 0.85
MAX_SECONDS = {
    "by descriptor": 1.0,
    **{f"verified, {name}": 3.0 for name in PROCESSES},
}
MAX_GROWTH = 0.05


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or publish the figures."""
    options = parser("serving_load", __doc__)
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=20, help="of a round")
    options.add_argument("--minutes", type=float, default=10, help="of the measurement of memory")
    chosen = options.parse_args(arguments)
    queries = photo_sets.queries(chosen.work, 200, 640)
    strangers = photo_sets.strangers(chosen.work, 200, 640)
    with made_index(chosen.work, chosen.photos) as index:
        load = Load(index, queries, chosen.clients, chosen.seconds)
        rates: dict[str, list[float]] = {name: [] for name in MODULES}
        network: list[float] = []
        seen: list[dict[str, Any]] = []
        for _ in range(chosen.rounds):
            for name, module in MODULES.items():
                result = load.run("none", module)
                rates[name].append(len(result["took"]) / result["elapsed"])
                if name == "batches":
                    seen.append(result)
            network.append(network_ratio(queries))
        verified: dict[str, list[dict[str, Any]]] = {name: [] for name in PROCESSES}
        for _ in range(chosen.rounds):
            for name, workers in PROCESSES.items():
                verified[name].append(load.run("auto", workers=workers))
        memory = load.memory(60 * chosen.minutes)
        load.queries = strangers
        unknown = [load.run("none"), load.run("auto"), load.run("auto", workers=CORES)]
    body = page(rates, network, [seen, *verified.values()], unknown, memory, chosen)
    publish("serving_load", body, chosen.docs)


@contextmanager
def made_index(work: Path, count: int) -> Iterator[Path]:
    """Index photos with keypoints and graph, until the end of the block."""
    folders = photo_sets.folders_of_a_thousand(work, count, 640)
    built = work / "load-index"
    shutil.rmtree(built, ignore_errors=True)
    try:
        with veduta.create(built) as index:
            index.add(*folders)
        yield built
    finally:
        shutil.rmtree(built, ignore_errors=True)


class Load:
    """Clients of a service of one index."""

    def __init__(self, index: Path, queries: Path, clients: int, seconds: float) -> None:
        self.index, self.queries, self.clients, self.seconds = index, queries, clients, seconds

    def run(self, rerank: str, module: str = "veduta", *, workers: int = 1) -> dict[str, Any]:
        """Start a service; return what the clients saw, and its memory in bytes."""
        with service(self.index, module, "--workers", str(workers)) as (process, connection):
            wait_until_ready(connection)
            self.ask(connection.port, WARM_UP_SECONDS, rerank)
            result = self.ask(connection.port, self.seconds, rerank)
            return {**result, "memory": own_memory(process.pid)}

    def ask(self, port: int, seconds: float, rerank: str) -> dict[str, Any]:
        return run_child("load_clients", port, self.queries, self.clients, seconds, rerank)

    def memory(self, seconds: float) -> list[float]:
        """Return the memory of the service in MB, every few seconds, under verified searches."""
        samples: list[float] = []
        ended = threading.Event()

        def sample(process: int) -> None:
            while not ended.wait(SAMPLE_SECONDS):
                samples.append(own_memory(process) / 1e6)

        with service(self.index) as (process, connection):
            wait_until_ready(connection)
            self.ask(connection.port, MEMORY_WARM_UP_SECONDS, "auto")
            sampler = threading.Thread(target=sample, args=(process.pid,))
            sampler.start()
            result = self.ask(connection.port, seconds, "auto")
            ended.set()
            sampler.join()
        assert not result["failed"], result["failed"][:3]
        return samples


def own_memory(pid: int) -> int:
    """Return the bytes of a process and its children that no file backs."""
    process = psutil.Process(pid)
    total = 0
    for one in (process, *process.children(recursive=True)):
        memory = one.memory_info()
        total += memory.rss - memory.shared
    return total


def network_ratio(queries: Path) -> float:
    """Return how many times more photos a second the network encodes in batches."""
    encoder = load_encoder()
    files = sorted(queries.iterdir())[:MAX_BATCH_PHOTOS]
    prepared = [
        encoder.prepare(photos.load(file, at_least=encoder.long_side).pixels) for file in files
    ]
    encoder.encode(prepared)
    seconds = []
    for batches in ([prepared], [[one] for one in prepared]):
        started = time.perf_counter()
        for _ in range(5):
            for batch in batches:
                encoder.encode(batch)
        seconds.append(time.perf_counter() - started)
    return seconds[1] / seconds[0]


def page(
    rates: dict[str, list[float]],
    network: list[float],
    known: list[list[dict[str, Any]]],
    unknown: list[dict[str, Any]],
    memory: list[float],
    chosen: Any,
) -> str:
    """Return the section of the page.

    Args:
        rates: searches a second of each round, with and without batches.
        network: see `network_ratio`, of each round.
        known: what the clients saw of the searches of `MAX_SECONDS`, of all rounds.
        unknown: the same with strangers, of one round each.
        memory: in MB, over time.
        chosen: the options.
    """
    gain, alone = ratios(*rates.values()), MedianAndRange.of(network)
    target = min(MIN_RATIO, MIN_SHARE_OF_NETWORK * alone.median)
    failed = sum(len(result["failed"]) for results in (*known, unknown) for result in results)
    minute = round(60 / SAMPLE_SECONDS)
    first, last = np.median(memory[: max(1, minute)]), np.median(memory[-max(1, minute) :])
    rows: list[list[object]] = [
        *(
            [f"searches a second, {name}", MedianAndRange.of(one), ""]
            for name, one in rates.items()
        ),
        [
            "× as many with batches",
            gain,
            check_target(gain.median, round(target, 2), at_least=True),
        ],
        ["× as many by the network alone", alone, ""],
    ]
    for number, (name, limit) in enumerate(MAX_SECONDS.items()):
        half, most = percentiles(known[number])
        said = check_target(most, limit, at_least=False)
        half_of_unknown, most_of_unknown = percentiles([unknown[number]])
        rows += [
            [f"seconds of a search, {name}: half within", f"{half:.2f}", ""],
            [f"seconds of a search, {name}: 95 % within", f"{most:.2f}", said],
            ["the same of strangers: half within", f"{half_of_unknown:.2f}", ""],
            ["the same of strangers: 95 % within", f"{most_of_unknown:.2f}", ""],
        ]
    one, several = (
        [len(result["took"]) / result["elapsed"] for result in results] for results in known[1:]
    )
    more = ratios(several, one)
    rows.append([f"× as many verified searches a second, {CORES} processes", more, ""])
    used = ratios(*([result["memory"] for result in results] for results in (known[2], known[1])))
    rows.append([f"× as much memory, {CORES} processes", used, ""])
    growth = float(last / first - 1)
    rows += [
        ["answers that were errors", failed, check_target(failed, 0, at_least=False)],
        ["memory in the first minute after a minute of warm-up, MB", f"{first:,.0f}", ""],
        [
            f"growth until the last of {chosen.minutes:g} minutes",
            f"{growth:+.1%}",
            check_target(growth, MAX_GROWTH, at_least=False),
        ],
    ]
    note = (
        f"{chosen.photos:,} photos, {chosen.clients} clients, {chosen.rounds} rounds of "
        f"{chosen.seconds:g} seconds. The gain must be {MIN_RATIO:g}, or {MIN_SHARE_OF_NETWORK:g} "
        "of that of the network alone where that is less."
    )
    return f"{table(['what', 'median (smallest–largest)', 'target'], rows)}\n\n{note}"


def percentiles(results: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the median and the 95th percentile of the seconds of all rounds."""
    took = [one for result in results for one in result["took"]]
    return float(np.percentile(took, 50)), float(np.percentile(took, 95))


if __name__ == "__main__":
    main()
