"""Lance's approximate indexes on the same descriptors: what they cost and what they find."""

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

CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Found:
    """One index at one setting."""

    kind: str
    setting: str
    build: float  # seconds
    query: float  # seconds, median
    recall: float  # of the true k nearest


def measure(
    folder: Path,
    descriptors: NDArray[np.float16],
    queries: NDArray[np.float32],
    true: NDArray[np.intp],
) -> list[Found]:
    """Build each index over (n, d) descriptors and search the k nearest, `true` (m, k)."""
    number, dimension = descriptors.shape
    cells = max(1, math.isqrt(number))
    some = [(n, r) for n in (10, 40) for r in (10, 30) if n <= cells]
    found = []
    kinds: dict[str, dict[str, Any]] = {
        "IVF_PQ": {"num_partitions": cells, "num_sub_vectors": dimension // 16},
        "IVF_HNSW_SQ": {"num_partitions": max(1, number // 100_000)},
    }
    for kind, options in kinds.items():
        dataset = lance.write_dataset(
            _batches(descriptors), str(folder / kind), schema=_schema(dimension)
        )
        started = time.perf_counter()
        dataset.create_index("vector", kind, metric="dot", **options)
        build = time.perf_counter() - started
        settings = some if kind == "IVF_PQ" else [(options["num_partitions"], r) for r in (1, 10)]
        for cells_searched, refine in settings:
            found.append(_search(dataset, kind, build, queries, true, cells_searched, refine))
    return found


def _search(
    dataset: Any,
    kind: str,
    build: float,
    queries: NDArray[np.float32],
    true: NDArray[np.intp],
    cells: int,
    refine: int,
) -> Found:
    k = true.shape[1]
    seconds, hits = [], 0
    for query, wanted in zip(queries, true, strict=True):
        near = {"column": "vector", "q": query, "k": k, "nprobes": cells, "refine_factor": refine}
        started = time.perf_counter()
        rows = dataset.to_table(columns=["id", "_distance"], nearest=near)
        seconds.append(time.perf_counter() - started)
        hits += len(set(rows["id"].to_pylist()) & set(wanted.tolist()))
    return Found(
        kind,
        f"nprobes {cells}, refine {refine}",
        build,
        statistics.median(seconds),
        hits / true.size,
    )


def _schema(dimension: int) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float16(), dimension))])


def _batches(descriptors: NDArray[np.float16]) -> Any:
    schema = _schema(descriptors.shape[1])
    for start in range(0, len(descriptors), CHUNK):
        rows = np.asarray(descriptors[start : start + CHUNK])
        ids = pa.array(np.arange(start, start + len(rows)))
        flat = pa.array(rows.reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        yield pa.record_batch([ids, vectors], schema=schema)
