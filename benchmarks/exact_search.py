"""One exact query over many descriptors: Veduta, FAISS, usearch, and reading memory.

For each size an index is written with synthetic descriptors that are distributed like real ones.
Each round takes another query and times every contender on it, in turns. The k = 10 nearest are
compared with a float64 brute force over the stored rows. A second process opens only the index and
searches; its memory is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import process_memory, run_child
from benchmarks.report import (
    MedianAndRange,
    check_target,
    format_number,
    parser,
    publish,
    ratios,
    rotated,
    table,
)
from benchmarks.vectors import BLOCK_ROWS, Scenes, write_index
from veduta.encoders import load_encoder
from veduta.index import Snapshot, open_snapshot
from veduta.search import exact

K = 10
# Similarities that are closer than this count as equal. It is less than the rounding of float32.
TIE_TOLERANCE = 1e-6
OURS, FAISS = "Veduta", "FAISS flat"
USEARCH = {"usearch f32": "f32", "usearch f16": "f16", "usearch i8": "i8"}
READ_INT8, READ_FLOAT32 = "read the int8 matrix", "read the float32 matrix"
MAX_READ_RATIO = 1.3
MAX_PEAK_RATIO = 1.3


def main(arguments: list[str] | None = None) -> None:
    options = parser("exact_search", __doc__)
    options.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    options.add_argument("--dimension", type=int, help="default: that of the default encoder")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--lance-rows", nargs="*", type=int, default=[100_000])
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(search_here(chosen.child)))
        return

    dimension = chosen.dimension or load_encoder().dimension
    sizes = sorted({*chosen.rows, *chosen.lance_rows})
    check_memory(max(sizes), dimension)
    speed: list[list[object]] = []
    recall_and_memory: list[list[object]] = []
    approximate: list[list[object]] = []
    for rows in sizes:
        folder = chosen.work / f"rows-{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            scenes = write_index(folder, rows, dimension)
            snapshot = open_snapshot(folder)
            queries = scenes.draw(np.random.default_rng(2), chosen.rounds)
            similarities, true_rows = brute_force(snapshot, queries)
            if rows in chosen.rows:
                speed += speed_rows(rows, time_all(snapshot, queries))
                child = run_child("exact_search", "--child", folder)
                recall_and_memory.append(recall_row(snapshot, queries, similarities, child))
            if rows in chosen.lance_rows:
                approximate += lance_rows(folder, snapshot, queries, true_rows)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    publish("exact_search", page(dimension, speed, recall_and_memory, approximate), chosen.docs)


def check_memory(rows: int, dimension: int) -> None:
    """End the program if the float32, float16 and int8 matrices do not fit in memory."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.9
    if (needed := 7 * rows * dimension) > available:
        raise SystemExit(
            f"{rows:,} rows of {dimension} dimensions need {needed / 1e9:.0f} GB of memory, more "
            "than this machine has: choose fewer --rows or a smaller --dimension."
        )


def time_all(snapshot: Snapshot, queries: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return the seconds of every contender for every query."""
    import faiss

    # numkong must be imported first. usearch loads symbols for the whole process, and numkong would
    # use them instead of its own.
    import numkong  # noqa: F401
    import usearch.index as usearch

    n, d = snapshot.descriptors.shape
    floats = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK_ROWS):
        floats[start : start + BLOCK_ROWS] = snapshot.descriptors[start : start + BLOCK_ROWS]
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
        # IndexFlatIP.search calls this, too. Here the matrix is not copied.
        FAISS: lambda q: faiss.knn(q[None], floats, K, faiss.METRIC_INNER_PRODUCT),
        **{name: by_usearch(kind) for name, kind in USEARCH.items()},
    }
    # One thread may not be enough to fill the memory bus. The faster of one and two threads counts.
    pools = {threads: ThreadPoolExecutor(threads) for threads in (1, 2)}
    matrices = {READ_INT8: snapshot.quantised, READ_FLOAT32: floats}
    seconds: dict[str, list[float]] = defaultdict(list)
    # Contenders, and reads of a matrix with a number of threads; contenders have 0 threads.
    tasks = [
        *((name, 0) for name in contenders),
        *((name, threads) for name in matrices for threads in pools),
    ]
    for turn, query in enumerate([queries[0], *queries]):  # The first round is a warm-up.
        shortest: dict[str, float] = {}
        for name, threads in rotated(tasks, turn):
            if threads:
                elapsed = timed(read, matrices[name], pools[threads], threads)
            else:
                elapsed = timed(contenders[name], query)
            shortest[name] = min(elapsed, shortest.get(name, np.inf))
        if turn:
            for name, elapsed in shortest.items():
                seconds[name].append(elapsed)
    return seconds


def timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def read(matrix: NDArray[Any], pool: ThreadPoolExecutor, threads: int) -> None:
    """Read every byte once with as little work as possible."""
    words = np.asarray(matrix).reshape(-1).view(np.uint64)
    list(pool.map(np.max, np.array_split(words, threads)))


def brute_force(
    snapshot: Snapshot, queries: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the K highest similarities of each query in float64, best first, and their rows."""
    queries_float64 = queries.astype(np.float64)
    similarities = np.full((len(queries), 0), -np.inf)
    rows = np.empty((len(queries), 0), np.intp)
    for start in range(0, snapshot.photos, BLOCK_ROWS):
        block = snapshot.descriptors[start : start + BLOCK_ROWS].astype(np.float64)
        block_rows = np.arange(start, start + len(block))
        shape = len(queries), len(block)
        similarities = np.concatenate([similarities, queries_float64 @ block.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(block_rows, shape)], axis=1)
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :K]
        similarities = np.take_along_axis(similarities, order, 1)
        rows = np.take_along_axis(rows, order, 1)
    return similarities, rows


def recall(
    snapshot: Snapshot, queries: NDArray[np.float32], true_similarities: NDArray[np.float64]
) -> float:
    """Return the share of Veduta's hits that are as similar as the true K nearest."""
    right = 0
    for query, similarities in zip(queries, true_similarities, strict=True):
        rows, _ = exact.nearest(snapshot, query, K)
        of_hits = snapshot.descriptors[rows].astype(np.float64) @ query.astype(np.float64)
        right += int((of_hits >= similarities[-1] - TIE_TOLERANCE).sum())
    return right / true_similarities.size


def search_here(index: Path) -> dict[str, float]:
    """Search an index in this process, which did nothing else; return seconds and memory."""
    snapshot = open_snapshot(index)
    queries = Scenes(10, snapshot.dimension).draw(np.random.default_rng(3), 5)
    memory_before = process_memory("VmRSS")
    first = timed(exact.nearest, snapshot, queries[0], K)
    for query in queries[1:]:
        exact.nearest(snapshot, query, K)
    return {
        "first": first,
        "peak": process_memory("VmHWM") - memory_before,
        "own": process_memory("RssAnon"),
        "matrix": snapshot.quantised.nbytes,
    }


def speed_rows(rows: int, seconds: dict[str, list[float]]) -> list[list[object]]:
    our_seconds = seconds[OURS]
    exact_peers = (FAISS, "usearch f32", "usearch f16")
    targets = {READ_INT8: (MAX_READ_RATIO, False), **dict.fromkeys(exact_peers, (1.0, True))}
    lines: list[list[object]] = []
    for name in (OURS, READ_INT8, READ_FLOAT32, FAISS, *USEARCH):
        shown_ratio = shown_target = ""
        if name == READ_INT8:
            ratio = ratios(our_seconds, seconds[name])
            shown_ratio = f"Veduta takes {ratio} × this"
        elif name != OURS:
            ratio = ratios(seconds[name], our_seconds)
            shown_ratio = f"{ratio} × Veduta's time"
        if name in targets:
            target, at_least = targets[name]
            shown_target = check_target(ratio.median, target, at_least=at_least)
        milliseconds = MedianAndRange.of([one * 1e3 for one in seconds[name]])
        lines.append([f"{rows:,}: {name}", milliseconds, shown_ratio, shown_target])
    return lines


def recall_row(
    snapshot: Snapshot,
    queries: NDArray[np.float32],
    true_similarities: NDArray[np.float64],
    child: dict[str, float],
) -> list[object]:
    """Return recall, rows scored again, and the memory that the other process reported."""
    rescored = MedianAndRange.of([len(exact._scan(snapshot, query, K, None)) for query in queries])
    share = recall(snapshot, queries, true_similarities)
    peak_ratio = child["peak"] / child["matrix"]
    return [
        f"{snapshot.photos:,}",
        f"{share:.4f}" + ("" if share == 1 else " **missed**"),
        rescored,
        format_number(child["matrix"] / 1e6),
        format_number(child["peak"] / 1e6),
        f"{peak_ratio:.2f}",
        check_target(peak_ratio, MAX_PEAK_RATIO, at_least=False),
        format_number(child["own"] / 1e6),
        format_number(child["first"] * 1e3),
    ]


def lance_rows(
    folder: Path, snapshot: Snapshot, queries: NDArray[np.float32], true_rows: NDArray[np.intp]
) -> list[list[object]]:
    from benchmarks.peers.lance_index import measure

    seconds = [timed(exact.nearest, snapshot, query, K) for query in queries]
    ours = MedianAndRange.of([one * 1e3 for one in seconds])
    lines: list[list[object]] = [[f"{snapshot.photos:,}: Veduta, exact", "none", ours, "1.00"]]
    for result in measure(folder / "lance", snapshot.descriptors, queries, true_rows):
        lines.append(
            [
                f"{snapshot.photos:,}: {result.kind}, {result.setting}",
                format_number(result.build_seconds),
                format_number(result.query_seconds * 1e3),
                f"{result.recall:.2f}",
            ]
        )
    return lines


def page(
    dimension: int,
    speed: list[list[object]],
    recall_and_memory: list[list[object]],
    approximate: list[list[object]],
) -> str:
    parts = [
        f"{dimension} dimensions, one query, k = {K}; milliseconds, median (smallest–largest).",
        table(["rows", "ms", "ratio", "target"], speed),
        "“Read” is numpy's maximum over the matrix as 64-bit words, on one thread or two, "
        "whichever is faster. usearch searches float32, the stored float16, and the int8 matrix. "
        "The last is not exact, because it ignores scales and errors.",
        table(
            [
                "rows",
                "recall@10",
                "rows scored again",
                "int8 matrix, MB",
                "peak, MB",
                "peak / matrix",
                "target",
                "own memory, MB",
                "first query, ms",
            ],
            recall_and_memory,
        ),
        "A hit is right if its float64 similarity is at least that of the true tenth, minus 1e-6. "
        "The peak is what searching adds to the resident memory of a fresh process. Nearly all of "
        "it is pages of the mapped matrix. The kernel shares these pages between processes and "
        "takes them back when it needs them. Own memory is the rest, libraries included. The first "
        "query of a process maps those pages.",
    ]
    if approximate:
        parts += [
            table(["Lance's approximate indexes", "build, s", "ms", "recall@10"], approximate),
            "The same descriptors and queries, in a Lance table on disk.",
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
