"""Search by cells beside FAISS, usearch and Lance: time to build, time of a query, recall, bytes.

All see the same generated descriptors and search the same queries in turns. Each is measured at
several settings, from fast to thorough.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.generated_descriptors import Generator, real_descriptors
from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.peers import lance_index
from benchmarks.report import format_number, parser, publish, table
from benchmarks.vectors import snapshot_of
from veduta.index import Snapshot, cells
from veduta.index.cell_files import StoredCells
from veduta.search import approximate, exact

K = 10
_BLOCK_ROWS = 8192

Search = Callable[[NDArray[np.float32]], NDArray[np.integer[Any]]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One index with one setting.

    Attributes:
        name: with the setting.
        build_seconds: time to build the index.
        megabytes: of the index, without the descriptors; None if it is not known.
        search: returns the rows of the ten nearest.
    """

    name: str
    build_seconds: float
    megabytes: float | None
    search: Search


def main(arguments: list[str] | None = None) -> None:
    options = parser("approximate_search", __doc__)
    add_data_option(options)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--queries", type=int, default=100)
    chosen = options.parse_args(arguments)
    folders = [chosen.data / name for name in present_sets(options, chosen.data, SETS)]
    generator = Generator(real_descriptors(chosen.work, folders))
    rows = np.concatenate(list(generator.blocks(1, chosen.rows)))
    queries = generator.draw(np.random.default_rng(9), chosen.queries)
    snapshot = snapshot_of(rows)
    wanted = np.stack([exact.nearest(snapshot, query, K)[0] for query in queries])
    lines = []
    for makers in (_veduta, _faiss, _usearch):
        for contender in makers(snapshot):
            seconds, found = [], 0
            for query, right in zip(queries, wanted, strict=True):
                started = time.perf_counter()
                near = contender.search(query)
                seconds.append(time.perf_counter() - started)
                found += len(set(near.tolist()) & set(right.tolist()))
            lines.append(
                _line(
                    contender.name,
                    contender.build_seconds,
                    contender.megabytes,
                    statistics.median(seconds),
                    found / wanted.size,
                )
            )
    folder = chosen.work / "approximate-lance"
    shutil.rmtree(folder, ignore_errors=True)
    for each in lance_index.measure(folder, rows, queries, wanted):
        lines.append(
            _line(
                f"Lance {each.kind}, {each.setting}",
                each.build_seconds,
                None,
                each.query_seconds,
                each.recall,
            )
        )
    shutil.rmtree(folder, ignore_errors=True)
    text = table(["index", "build, s", "index, MB", "ms a query", "recall@10"], lines)
    publish(
        "approximate_search",
        f"{chosen.rows:,} generated descriptors of {rows.shape[1]} numbers, {chosen.queries} "
        f"queries, k = {K}, two threads.\n\n{text}",
        chosen.docs,
    )


def _line(
    name: str, build: float, megabytes: float | None, seconds: float, recall: float
) -> list[object]:
    return [
        name,
        format_number(build),
        "" if megabytes is None else format_number(megabytes),
        format_number(seconds * 1e3),
        f"{recall:.3f}",
    ]


def _veduta(snapshot: Snapshot) -> Iterator[Contender]:
    yield Contender("Veduta, exact", 0.0, 0.0, lambda query: exact.nearest(snapshot, query, K)[0])
    started = time.perf_counter()
    made = cells.assign(snapshot, cells.train(snapshot))
    seconds = time.perf_counter() - started
    size = sum(getattr(made, name).nbytes for name in made.__slots__) / 1e6
    for compared in (8192, 16_384, 32_768, 65_536):
        stored = StoredCells(made, compared, 1.0)
        yield Contender(
            f"Veduta, {compared:,} codes compared",
            seconds,
            size,
            lambda query, stored=stored: approximate.nearest(snapshot, stored, query, K)[0],
        )


def _faiss(snapshot: Snapshot) -> Iterator[Contender]:
    import faiss

    faiss.omp_set_num_threads(2)
    n, d = snapshot.descriptors.shape
    number = round(2 * n**0.5)
    training = snapshot.descriptors[np.random.default_rng(0).permutation(n)[: 40 * number]]
    for kind, factory in (
        ("IVF, RaBitQ", f"IVF{number},RaBitQfs"),
        ("IVF, PQ of 4 bits", f"IVF{number},PQ{d // 8}x4fs"),
    ):
        started = time.perf_counter()
        made = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
        made.cp.niter = 8
        made.train(training.astype(np.float32))
        for start in range(0, n, _BLOCK_ROWS):
            made.add(snapshot.descriptors[start : start + _BLOCK_ROWS].astype(np.float32))
        seconds = time.perf_counter() - started
        size = len(faiss.serialize_index(made)) / 1e6
        for probed in (16, 64, 200):
            yield Contender(
                f"FAISS {kind}, {probed} cells, 256 scored again",
                seconds,
                size,
                _rescored(made, snapshot, probed),
            )


def _rescored(made: Any, snapshot: Snapshot, probed: int) -> Search:
    def search(query: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        made.nprobe = probed
        rows = made.search(query[None], 256)[1][0]
        rows = np.sort(rows[rows >= 0])
        scores = exact.score(snapshot, query, rows)
        return rows[np.argsort(-scores)[:K]]

    return search


def _usearch(snapshot: Snapshot) -> Iterator[Contender]:
    from usearch.index import Index

    n, d = snapshot.descriptors.shape
    started = time.perf_counter()
    made = Index(ndim=d, metric="ip", dtype="f16")
    for start in range(0, n, _BLOCK_ROWS):
        block = np.asarray(snapshot.descriptors[start : start + _BLOCK_ROWS])
        made.add(np.arange(start, start + len(block)), block, threads=2)
    seconds = time.perf_counter() - started
    size = made.memory_usage / 1e6 - n * d * 2 / 1e6
    for expansion in (64, 256, 1024):

        def search(query: NDArray[np.float32], expansion: int = expansion) -> NDArray[Any]:
            made.expansion_search = expansion
            return np.asarray(made.search(query.astype(np.float16), K).keys)

        yield Contender(f"usearch HNSW, expansion {expansion}", seconds, size, search)


if __name__ == "__main__":
    main()
