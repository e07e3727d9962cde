"""Index, link and search 10,000 to a million photos: time a photo, own memory, recall.

Each size is measured in a process of its own. The photos are generated descriptors without files
and keypoints, so the times are those of rows, snapshot, cells and graph. What a photo costs before
that, with decoding, encoder, keypoints and verified links, is measured on real photos.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fake_encoder import FakeEncoder
from benchmarks.generated_descriptors import Generator, intrinsic_dimension, real_descriptors
from benchmarks.generated_index import append_generated
from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.processes import process_memory, run_child
from benchmarks.report import check_target, format_number, parser, publish, table
from veduta import api
from veduta.index import Manifest, Snapshot, create_index, open_snapshot
from veduta.index.cell_files import open_cells, update_cells
from veduta.index.graph import build_graph
from veduta.index.snapshot import as_float32, build_snapshot
from veduta.index.table import Table, open_table
from veduta.search import approximate, exact

K = 10
ASKED = 100
RECALL_QUERIES = 400
MAX_GROWTH = 1.5
MAX_OWN_MEMORY_MB = 2048
MAX_UPDATE_SHARE = 0.03
MIN_RECALL = 0.98
MAX_SEARCH_MS = 15.0
_BLOCK_ROWS = 8192


def main(arguments: list[str] | None = None) -> None:
    options = parser("scale", __doc__)
    add_data_option(options)
    options.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    options.add_argument("--real", nargs="*", type=int, default=[250, 2500])
    options.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    folders = [chosen.data / name for name in present_sets(options, chosen.data, SETS)]
    real_file = chosen.work / "real-descriptors.npy"
    if chosen.child:
        print(json.dumps(measure(chosen.work, np.load(real_file), chosen.child)))
        return
    chosen.work.mkdir(parents=True, exist_ok=True)
    real = real_descriptors(chosen.work, folders)
    np.save(real_file, real)
    photos = sorted(each for folder in folders for each in folder.rglob("*.jpg"))
    if max(chosen.real, default=0) > len(photos):
        options.error(f"the sets have {len(photos):,} photos")
    indexed = {n: seconds_to_index(chosen.work, photos, n) for n in chosen.real}
    sizes = [
        run_child("scale", "--child", n, "--work", chosen.work, "--data", chosen.data)
        for n in chosen.rows
    ]
    same_size = Generator(real).draw(np.random.default_rng(1), len(real))
    dimensions = intrinsic_dimension(real), intrinsic_dimension(same_size)
    publish("scale", page(sizes, indexed, dimensions, len(real)), chosen.docs)


def seconds_to_index(work: Path, photos: list[Path], number: int) -> float:
    """Return the seconds of `veduta index` for some real photos, spread over all of them."""
    folder, some = work / "scale-real", work / "scale-photos"
    for each in (folder, some):
        shutil.rmtree(each, ignore_errors=True)
    some.mkdir()
    for place in np.linspace(0, len(photos) - 1, number).astype(int).tolist():
        (some / f"{place:06}.jpg").symlink_to(photos[place].resolve())
    made = api.open_or_create(folder)
    started = time.perf_counter()
    made.add(some)
    seconds = time.perf_counter() - started
    for each in (folder, some):
        shutil.rmtree(each, ignore_errors=True)
    return seconds


class Stopwatch:
    """Seconds by name, and the most anonymous memory of the process meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.own_bytes = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.own_bytes = max(self.own_bytes, process_memory("RssAnon"))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - started

    def stop(self) -> None:
        self._ended.set()
        self._watcher.join()


def measure(work: Path, real: NDArray[np.float32], number: int) -> dict[str, Any]:
    """Make an index of generated photos, update 1 % of it, and search it."""
    folder = work / f"scale-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    generator = Generator(real)
    create_index(folder, FakeEncoder(real.shape[1]))
    try:
        watch = Stopwatch()
        _add(folder, generator, 1, number, watch)
        build = dict(watch.seconds)
        watch.seconds.clear()
        _add(folder, generator, 2, number // 100, watch)
        update = sum(watch.seconds.values())
        watch.stop()
        snapshot = open_snapshot(folder)
        manifest = Manifest.read(folder)
        cells = open_cells(folder, manifest) or update_cells(folder, manifest, snapshot)
        return {
            "photos": number,
            **build,
            "update": update,
            "own_bytes": watch.own_bytes,
            "links": _recall_of_links(folder, snapshot),
            "compared": cells.compared if cells else None,
            "sample": cells.recall if cells else None,
            **_searches(snapshot, cells, generator),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add(folder: Path, generator: Generator, seed: int, number: int, watch: Stopwatch) -> None:
    """Add generated photos as an update of the index would, after their descriptors are known."""
    table_of_index: Table = open_table(folder)
    for rows in generator.blocks(seed, number):
        with watch.timed("rows"):
            append_generated(table_of_index, rows)
    manifest = Manifest.read(folder)
    with watch.timed("rows"):
        table_of_index.tidy()
        snapshot = build_snapshot(folder, manifest, table_of_index)
    with watch.timed("cells"):
        update_cells(folder, manifest, snapshot)
    with watch.timed("graph"):
        build_graph(folder, manifest, snapshot)


def _recall_of_links(folder: Path, snapshot: Snapshot) -> float:
    """Return the share of the eight nearest photos that are linked, for 100 photos."""
    (graph,) = (folder / "graph").iterdir()
    rows = np.load(graph / "row_of_photo.npy", mmap_mode="r")
    ends = np.load(graph / "ends.npy", mmap_mode="r")
    asked = np.sort(np.random.default_rng(5).permutation(len(rows))[:ASKED])
    queries = as_float32(snapshot.descriptors[rows[asked]])
    found = 0
    for nearest, photo in zip(_nearest(snapshot, queries, ends.shape[1] + 1), asked, strict=True):
        others = [row for row in nearest.tolist() if row != rows[photo]][: ends.shape[1]]
        found += len(set(others) & set(rows[ends[photo]].tolist()))
    return found / (ASKED * ends.shape[1])


def _nearest(snapshot: Snapshot, queries: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return (q, k) the rows of the highest similarities, best first, by comparing all."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.intp)
    for part, block in exact.similarities(snapshot, queries):
        scores = np.concatenate([scores, block], axis=1)
        own = np.broadcast_to(np.arange(part.start, part.stop), block.shape)
        rows = np.concatenate([rows, own], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        rows = np.take_along_axis(rows, best, axis=1)
    return rows


def _searches(snapshot: Snapshot, cells: Any, generator: Generator) -> dict[str, Any]:
    queries = generator.draw(np.random.default_rng(9), RECALL_QUERIES)
    exact_seconds, near_seconds, found = [], [], 0
    for query in queries[:ASKED]:
        exact_seconds.append(_seconds(lambda query=query: exact.nearest(snapshot, query, K)))
        if cells is not None:
            near_seconds.append(
                _seconds(lambda query=query: approximate.nearest(snapshot, cells, query, K))
            )
    wanted = _nearest(snapshot, queries, K)
    if cells is not None:
        for query, rows in zip(queries, wanted, strict=True):
            near, _ = approximate.nearest(snapshot, cells, query, K)
            found += len(set(near.tolist()) & set(rows.tolist()))
    return {
        "exact_ms": statistics.median(exact_seconds) * 1e3,
        "near_ms": statistics.median(near_seconds) * 1e3 if near_seconds else None,
        "recall": found / wanted.size if near_seconds else None,
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def page(
    sizes: list[dict[str, Any]],
    indexed: dict[int, float],
    dimensions: tuple[float, float],
    real: int,
) -> str:
    """Return the section."""
    before_graph = min((seconds / n for n, seconds in indexed.items()), default=0.0) * 1e3
    lines, searches, last = [], [], None
    for size in sizes:
        per_photo = {part: size[part] / size["photos"] * 1e3 for part in ("rows", "cells", "graph")}
        total = sum(per_photo.values())
        seconds = sum(size[part] for part in ("rows", "cells", "graph"))
        whole = seconds + before_graph / 1e3 * size["photos"]
        update = size["update"] + before_graph / 1e3 * (size["photos"] // 100)
        lines.append(
            [
                f"{size['photos']:,}",
                *(format_number(per_photo[part]) for part in ("rows", "cells", "graph")),
                format_number(total),
                ""
                if last is None
                else f"{total / last:.2f} × "
                + check_target(total / last, MAX_GROWTH, at_least=False),
                "" if last is None else f"{(total + before_graph) / (last + before_graph):.2f} ×",
                format_number(size["own_bytes"] / 2**20)
                + " "
                + check_target(size["own_bytes"] / 2**20, MAX_OWN_MEMORY_MB, at_least=False),
                f"{size['links']:.3f}",
                f"{size['update'] / seconds:.3f}",
                f"{update / whole:.3f} "
                + check_target(update / whole, MAX_UPDATE_SHARE, at_least=False),
            ]
        )
        last = total
        if size["near_ms"] is not None:
            searches.append(
                [
                    f"{size['photos']:,}",
                    format_number(size["exact_ms"]),
                    format_number(size["near_ms"])
                    + " "
                    + check_target(size["near_ms"], MAX_SEARCH_MS, at_least=False),
                    f"{size['recall']:.3f} "
                    + check_target(size["recall"], MIN_RECALL, at_least=True),
                    f"{size['compared']:,}",
                    f"{size['sample']:.3f}",
                ]
            )
    photos = ", ".join(f"{n:,} in {seconds:.0f} s" for n, seconds in indexed.items())
    return "\n\n".join(
        [
            table(
                [
                    "photos",
                    "rows, ms a photo",
                    "cells, ms a photo",
                    "graph, ms a photo",
                    "all three",
                    "growth",
                    "growth with all of a photo",
                    "own memory, MB",
                    "links found",
                    "update of 1 %, share of these",
                    "update of 1 %, share of all",
                ],
                lines,
            ),
            f"Real photos, with decoding, encoder, keypoints and verified links: {photos}, so "
            f"{before_graph:.0f} ms a photo. “All” counts them too. Links found is the share of "
            "the eight nearest photos that are linked, for 100 photos.",
            table(
                [
                    "photos",
                    "exact search, ms",
                    "search by cells, ms",
                    "recall@10",
                    "codes compared",
                    "recall of the index's own sample",
                ],
                searches,
            ),
            f"The generated descriptors have the intrinsic dimension {dimensions[1]:.0f}, the "
            f"{real:,} real ones {dimensions[0]:.0f} (both of as many photos). Search times are "
            f"medians of {ASKED} queries, in turns. Recall is that of {RECALL_QUERIES} queries.",
        ]
    )


if __name__ == "__main__":
    main()
