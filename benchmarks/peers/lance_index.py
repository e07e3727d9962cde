"""Lance's approximate indexes on the same descriptors: build time, query time and recall."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class LanceResult:
    """One index with one setting.

    Attributes:
        kind: of the index.
        setting: of the search.
        build_seconds: time to build the index.
        query_seconds: median time of a query.
        recall: share of the true k nearest that were found.
    """

    kind: str
    setting: str
    build_seconds: float
    query_seconds: float
    recall: float


def measure(
    folder: Path,
    descriptors: NDArray[np.float16],
    queries: NDArray[np.float32],
    true_rows: NDArray[np.intp],
) -> list[LanceResult]:
    """Build each index over (n, d) descriptors and compare its hits with `true_rows` (m, k)."""
    count, dimension = descriptors.shape
    cells = max(1, math.isqrt(count))
    pq_settings = [(n, r) for n in (10, 40) for r in (10, 30) if n <= cells]
    results = []
    kinds: dict[str, dict[str, Any]] = {
        "IVF_PQ": {"num_partitions": cells, "num_sub_vectors": dimension // 16},
        "IVF_HNSW_SQ": {"num_partitions": max(1, count // 100_000)},
    }
    for kind, options in kinds.items():
        dataset = lance.write_dataset(
            _batches(descriptors), str(folder / kind), schema=_schema(dimension)
        )
        started = time.perf_counter()
        dataset.create_index("vector", kind, metric="dot", **options)
        build_seconds = time.perf_counter() - started
        hnsw_settings = [(options["num_partitions"], r) for r in (1, 10)]
        for cells_searched, refine in pq_settings if kind == "IVF_PQ" else hnsw_settings:
            query_seconds, recall = _search(dataset, queries, true_rows, cells_searched, refine)
            setting = f"nprobes {cells_searched}, refine {refine}"
            results.append(LanceResult(kind, setting, build_seconds, query_seconds, recall))
    return results


def _search(
    dataset: Any,
    queries: NDArray[np.float32],
    true_rows: NDArray[np.intp],
    cells: int,
    refine: int,
) -> tuple[float, float]:
    """Return the median seconds of a query, and recall."""
    k = true_rows.shape[1]
    seconds, hits = [], 0
    for query, wanted in zip(queries, true_rows, strict=True):
        near = {"column": "vector", "q": query, "k": k, "nprobes": cells, "refine_factor": refine}
        started = time.perf_counter()
        rows = dataset.to_table(columns=["id", "_distance"], nearest=near)
        seconds.append(time.perf_counter() - started)
        hits += len(set(rows["id"].to_pylist()) & set(wanted.tolist()))
    return statistics.median(seconds), hits / true_rows.size


def _schema(dimension: int) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float16(), dimension))])


def _batches(descriptors: NDArray[np.float16]) -> Any:
    schema = _schema(descriptors.shape[1])
    for start in range(0, len(descriptors), BLOCK_ROWS):
        rows = np.asarray(descriptors[start : start + BLOCK_ROWS])
        ids = pa.array(np.arange(start, start + len(rows)))
        flat = pa.array(rows.reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        yield pa.record_batch([ids, vectors], schema=schema)
