"""One exact query over many descriptors, against reading memory, FAISS and usearch.

Per size: an index in Veduta's own layout with made-up descriptors that are distributed like real
ones; each round takes another query and times every contender on it, in turns. The k = 10 nearest
are compared with a float64 brute force over the stored rows. A second process opens the index
alone and searches, to see what memory that takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import (
    ROOT,
    Spread,
    number,
    parser,
    publish,
    ratios,
    status,
    table,
    verdict,
)
from benchmarks.vectors import CHUNK, Scenes, write_index
from veduta.encoders import load_encoder
from veduta.index import Snapshot, open_snapshot
from veduta.search import exact

K = 10
TIE = 1e-6  # similarities closer than this are one rank: below float32's own rounding
OURS, FAISS = "Veduta", "FAISS flat"
USEARCH = {"usearch f32": "f32", "usearch f16": "f16", "usearch i8": "i8"}
READ_CODES, READ_FLOATS = "read the int8 codes", "read the float32 matrix"


def main(arguments: list[str] | None = None) -> None:
    options = parser("exact_search", str(__doc__).splitlines()[0])
    options.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    options.add_argument("--dimension", type=int, help="default: that of the default encoder")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--lance-rows", nargs="*", type=int, default=[100_000])
    options.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.alone:
        print(json.dumps(search_alone(chosen.alone)))
        return

    dimension = chosen.dimension or load_encoder().dimension
    rows_of = sorted({*chosen.rows, *chosen.lance_rows})
    check_memory(max(rows_of), dimension)
    speed: list[list[object]] = []
    proof: list[list[object]] = []
    approximate: list[list[object]] = []
    for rows in rows_of:
        folder = chosen.work / f"rows-{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            scenes = write_index(folder, rows, dimension)
            snapshot = open_snapshot(folder)
            queries = scenes.draw(np.random.default_rng(2), chosen.rounds)
            similarities, true = brute_force(snapshot, queries)
            if rows in chosen.rows:
                speed += speed_rows(rows, time_all(snapshot, queries))
                proof.append(proof_row(snapshot, queries, similarities, alone(folder)))
            if rows in chosen.lance_rows:
                approximate += lance_rows(folder, snapshot, queries, true)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    publish("exact_search", page(dimension, speed, proof, approximate), chosen.docs)


def check_memory(rows: int, dimension: int) -> None:
    """Float32 for the others, float16 and int8 for Veduta must all stay in memory."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.9
    if (needed := 7 * rows * dimension) > available:
        raise SystemExit(
            f"{rows:,} rows of {dimension} need {needed / 1e9:.0f} GB of memory, more than this "
            "machine has free: ask for fewer with --rows, or for a smaller --dimension."
        )


def time_all(snapshot: Snapshot, queries: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return the seconds of every contender for every query."""
    import faiss

    # First: usearch loads symbols for the whole process that numkong would take for its own.
    import numkong  # noqa: F401
    import usearch.index as usearch

    n, d = snapshot.descriptors.shape
    floats = np.empty((n, d), np.float32)
    for start in range(0, n, CHUNK):
        floats[start : start + CHUNK] = snapshot.descriptors[start : start + CHUNK]
    inner = usearch.MetricKind.IP

    def by_usearch(kind: str) -> Callable[[NDArray[np.float32]], object]:
        if kind == "i8":
            return lambda q: usearch.search(
                snapshot.quantised, np.rint(q / q.max() * 127).astype(np.int8), K, inner, exact=True
            )
        if kind == "f16":
            half = snapshot.descriptors
            return lambda q: usearch.search(half, q.astype(np.float16), K, inner, exact=True)
        return lambda q: usearch.search(floats, q, K, inner, exact=True)

    contenders: dict[str, Callable[[NDArray[np.float32]], object]] = {
        OURS: lambda q: exact.nearest(snapshot, q, K),
        # What IndexFlatIP.search calls, on a matrix that is not copied once more.
        FAISS: lambda q: faiss.knn(q[None], floats, K, faiss.METRIC_INNER_PRODUCT),
        **{name: by_usearch(kind) for name, kind in USEARCH.items()},
    }
    # One thread may fill the memory bus or not: the quicker of one and two counts.
    pools = {threads: ThreadPoolExecutor(threads) for threads in (1, 2)}
    reads = {READ_CODES: snapshot.quantised, READ_FLOATS: floats}
    seconds: dict[str, list[float]] = defaultdict(list)
    names = [*contenders, *((what, threads) for what in reads for threads in pools)]
    for turn, query in enumerate([queries[0], *queries]):  # the first round warms up
        best: dict[str, float] = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if isinstance(name, str):
                best[name] = timed(contenders[name], query)
            else:
                what, threads = name
                took = timed(read, reads[what], pools[threads], threads)
                best[what] = min(took, best.get(what, np.inf))
        if turn:
            for name, took in best.items():
                seconds[name].append(took)
    return seconds


def timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def read(matrix: NDArray[Any], pool: ThreadPoolExecutor, threads: int) -> None:
    """Read every byte once, and do next to nothing with it."""
    words = np.asarray(matrix).reshape(-1).view(np.uint64)
    list(pool.map(np.max, np.array_split(words, threads)))


def brute_force(
    snapshot: Snapshot, queries: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the K highest similarities of each query in float64, best first, and their rows."""
    wide = queries.astype(np.float64)
    best = np.full((len(queries), 0), -np.inf)
    rows = np.empty((len(queries), 0), np.intp)
    for start in range(0, snapshot.photos, CHUNK):
        block = snapshot.descriptors[start : start + CHUNK].astype(np.float64)
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        best = np.concatenate([best, wide @ block.T], axis=1)
        rows = np.concatenate([rows, here], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :K]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return best, rows


def recall(snapshot: Snapshot, queries: NDArray[np.float32], best: NDArray[np.float64]) -> float:
    """The share of our hits that are among the true K nearest, equal similarities being equal."""
    good = 0
    for query, similarities in zip(queries, best, strict=True):
        rows, _ = exact.nearest(snapshot, query, K)
        true = snapshot.descriptors[rows].astype(np.float64) @ query.astype(np.float64)
        good += int((true >= similarities[-1] - TIE).sum())
    return good / best.size


def search_alone(index: Path) -> dict[str, float]:
    """In a process of its own: memory and time of searching an index that nothing else touched."""
    snapshot = open_snapshot(index)
    queries = Scenes(10, snapshot.dimension).draw(np.random.default_rng(3), 5)
    before = status("VmRSS")
    first = timed(exact.nearest, snapshot, queries[0], K)
    for query in queries[1:]:
        exact.nearest(snapshot, query, K)
    return {
        "first": first,
        "peak": status("VmHWM") - before,
        "own": status("RssAnon"),
        "matrix": snapshot.quantised.nbytes,
    }


def alone(index: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.exact_search", "--alone", str(index)]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    facts: dict[str, float] = json.loads(result.stdout)
    return facts


def speed_rows(rows: int, seconds: dict[str, list[float]]) -> list[list[object]]:
    ours = seconds[OURS]
    exact_peers = (FAISS, "usearch f32", "usearch f16")
    targets = {READ_CODES: (1.3, False), **dict.fromkeys(exact_peers, (1.0, True))}
    lines: list[list[object]] = []
    for name in (OURS, READ_CODES, READ_FLOATS, FAISS, *USEARCH):
        took = seconds[name]
        ratio = note = ""
        if name == READ_CODES:
            spread = ratios(ours, took)
            ratio = f"Veduta takes {spread} × this"
        elif name != OURS:
            spread = ratios(took, ours)
            ratio = f"{spread} × Veduta's time"
        if name in targets:
            target, at_least = targets[name]
            note = verdict(spread.median, target, at_least=at_least)
        milliseconds = Spread.of([t * 1e3 for t in took])
        lines.append([f"{rows:,}: {name}", milliseconds, ratio, note])
    return lines


def proof_row(
    snapshot: Snapshot,
    queries: NDArray[np.float32],
    best: NDArray[np.float64],
    facts: dict[str, float],
) -> list[object]:
    rescored = Spread.of([len(exact._scan(snapshot, query, K, None)) for query in queries])
    found = recall(snapshot, queries, best)
    memory = facts["peak"] / facts["matrix"]
    return [
        f"{snapshot.photos:,}",
        f"{found:.4f}" + ("" if found == 1 else " **missed**"),
        rescored,
        number(facts["matrix"] / 1e6),
        number(facts["peak"] / 1e6),
        f"{memory:.2f}",
        verdict(memory, 1.3, at_least=False),
        number(facts["own"] / 1e6),
        number(facts["first"] * 1e3),
    ]


def lance_rows(
    folder: Path, snapshot: Snapshot, queries: NDArray[np.float32], true: NDArray[np.intp]
) -> list[list[object]]:
    from benchmarks.peers.lance_index import measure

    took = [timed(exact.nearest, snapshot, query, K) for query in queries]
    ours = Spread.of([t * 1e3 for t in took])
    lines: list[list[object]] = [[f"{snapshot.photos:,}: Veduta, exact", "none", ours, "1.00"]]
    for found in measure(folder / "lance", snapshot.descriptors, queries, true):
        name = f"{snapshot.photos:,}: {found.kind}, {found.setting}"
        lines.append([name, number(found.build), number(found.query * 1e3), f"{found.recall:.2f}"])
    return lines


def page(
    dimension: int,
    speed: list[list[object]],
    proof: list[list[object]],
    approximate: list[list[object]],
) -> str:
    parts = [
        f"{dimension} dimensions, one query, k = {K}; milliseconds, median (smallest–largest).",
        table(["rows", "ms", "ratio", "target"], speed),
        "“Read” is numpy's maximum over the matrix as 64-bit words, the quicker of one thread and "
        "two. usearch searches float32, the stored float16, and the int8 codes; the last of these "
        "is not exact, for it knows neither scales nor errors.",
        table(
            [
                "rows",
                "recall@10",
                "rows scored again",
                "int8 codes, MB",
                "peak, MB",
                "peak / codes",
                "target",
                "own memory, MB",
                "first query, ms",
            ],
            proof,
        ),
        "Recall counts a hit as right if its float64 similarity reaches that of the true tenth, "
        "less 1e-6. The peak is what searching adds to the resident memory of a fresh process. "
        "Nearly all of it are pages of the mapped codes, which the kernel shares between "
        "processes and takes back when it needs them; own memory is the rest, libraries included. "
        "The first query of a process maps those pages.",
    ]
    if approximate:
        parts += [
            table(["Lance's approximate indexes", "build, s", "ms", "recall@10"], approximate),
            "The same descriptors and queries, in a Lance table on disk.",
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
