"""What cells, links and searches by cells cost: processor time, memory, recall.

All are measured on generated descriptors. How they grow is known from the code: most with the
photos, k-means and the choice of a cell also with the number of cells.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.costs_of_shards import Figures
from benchmarks.generated_descriptors import Generator
from benchmarks.processes import peak_bytes, processor_seconds
from benchmarks.vectors import snapshot_of
from veduta.curate.hash_pairs import MAX_COPY_BITS, near_hashes
from veduta.encoders import DEFAULT, load_encoder
from veduta.index import cells, graph, neighbours
from veduta.index.calibration import calibration_of
from veduta.index.cell_files import StoredCells
from veduta.index.distinct_photos import distinct_photos
from veduta.index.snapshot import as_float32
from veduta.search import approximate, exact

__all__ = ["cells_and_links", "memory", "search", "short_descriptors"]

K = 10
_SMALL_BLOCK = 256
_CENTRES = 2000
_HASHES = 20_000


def cells_and_links(rows: NDArray[np.float16], sizes: Sequence[int]) -> Figures:
    """Measure the parts of cells and links, in processor time of all cores.

    Args:
        rows: generated descriptors.
        sizes: two numbers of photos, below the number of codes that a photo is compared with. What
            a link costs is divided into a part for each code and the rest by their difference.
    """
    figures: Figures = defaultdict(list)
    rng = np.random.default_rng(0)
    per_photo = []
    for number in sizes:
        snapshot = snapshot_of(rows[:number])
        made = cells.assign(snapshot, cells.train(snapshot))
        found = distinct_photos(snapshot)
        links = neighbours.empty_links(found)
        everyone = np.ones(number, np.bool_)
        seconds = processor_seconds(
            lambda found=found, snapshot=snapshot, made=made, links=links, everyone=everyone: (
                neighbours.find_near_neighbours(snapshot, found, made, links, everyone)
            )
        )
        per_photo.append(seconds / number)
    code = (per_photo[1] - per_photo[0]) / (sizes[1] - sizes[0])
    figures["links: compare a code, ns"].append(code * 1e9)
    figures["links: the rest of a photo, µs"].append((per_photo[0] - code * sizes[0]) * 1e6)
    calibration = calibration_of(load_encoder(DEFAULT).identity)
    seconds = processor_seconds(
        lambda: graph._weighted_graph(snapshot, found, links, calibration, verified=False)
    )
    figures["links: weights of a photo, µs"].append(seconds / len(links.ends) * 1e6)
    block = as_float32(rows[: cells._BLOCK_ROWS])
    directions = made.directions.shape[1]
    centres = rng.standard_normal((_CENTRES, directions)).astype(np.float32)
    points = rng.standard_normal((len(block), directions)).astype(np.float32)
    queries, few = block[:100], centres[: _CENTRES // 4]
    hashes = rng.integers(0, 2**63, _HASHES).astype(np.uint64)
    # So many pairs have a band of their bits in common.
    bands = MAX_COPY_BITS + 1
    pairs = bands * _HASHES**2 / 2 ** (64 // bands) / 2
    for _ in range(3):
        seconds = processor_seconds(lambda: cells._to_centres(points, centres).argmin(axis=1))
        figures["cells: compare a photo with a centre, ns"].append(
            seconds / (len(points) * len(centres)) * 1e9
        )
        seconds = processor_seconds(
            lambda: (as_float32(rows[: len(block)]), made._in_directions(block), made.code(block))
        )
        figures["cells: the rest of a photo, µs"].append(seconds / len(block) * 1e6)
        seconds = processor_seconds(lambda: queries @ as_float32(rows[: len(block)]).T)
        figures["cells: ask the sample, a photo, µs"].append(seconds / len(block) * 1e6)
        seconds = processor_seconds(lambda: cells._k_means(points, len(few)))
        figures["cells: k-means, a point and a centre and a round, ns"].append(
            seconds / (len(points) * len(few) * cells._K_MEANS_ROUNDS) * 1e9
        )
        seconds = processor_seconds(lambda: list(near_hashes(hashes, max_bits=MAX_COPY_BITS)))
        figures["copies: compare two hashes, ns"].append(seconds / pairs * 1e9)
    return figures


def memory(generator: Generator, number: int) -> Figures:
    """Return bytes a photo that cells and links keep at once, by the allocations of a run.

    Args:
        generator: of short descriptors, because blocks of them are not counted.
        number: of photos.
    """
    rows = np.concatenate(list(generator.blocks(6, number)))
    snapshot = snapshot_of(rows)
    trained = cells.train(snapshot)
    figures: Figures = {}
    with mock.patch.object(cells, "_BLOCK_ROWS", _SMALL_BLOCK):
        peak = peak_bytes(lambda: cells.assign(snapshot, trained))
    codes = 2 * trained.codes.shape[1]  # They are sorted into a second array.
    figures["memory: cells without codes, bytes"] = [peak / number - codes]
    found = distinct_photos(snapshot)
    links = neighbours.empty_links(found)
    rng = np.random.default_rng(0)
    links.ends[:] = rng.integers(0, number, links.ends.shape)
    links.similarities[:] = rng.random(links.similarities.shape)
    calibration = calibration_of(load_encoder(DEFAULT).identity)
    held = sum(getattr(links, name).nbytes for name in links.__slots__) / number
    with mock.patch.object(graph, "_BLOCK_PHOTOS", _SMALL_BLOCK):
        peak = peak_bytes(
            lambda: graph._weighted_graph(snapshot, found, links, calibration, verified=False)
        )
    figures["memory: links, bytes"] = [peak / number + held]
    return figures


def search(
    generator: Generator, sizes: Sequence[int], queries: int
) -> Iterator[tuple[int, int, int, float, float]]:
    """Search collections of several sizes by cells.

    Args:
        generator: of the descriptors.
        sizes: numbers of photos.
        queries: number of queries.

    Yields:
        Photos, cells, codes compared, median milliseconds of a query, recall of the ten nearest.
    """
    asked = generator.draw(np.random.default_rng(9), queries)
    for number in sizes:
        snapshot = snapshot_of(np.concatenate(list(generator.blocks(1, number))))
        made = cells.assign(snapshot, cells.train(snapshot))
        wanted = [set(exact.nearest(snapshot, query, K)[0].tolist()) for query in asked]
        compared = 1024
        while compared <= min(65_536, number // 2):
            stored = StoredCells(made, compared, 1.0)
            seconds, found = [], 0
            for query, right in zip(asked, wanted, strict=True):
                started = time.perf_counter()
                near, _ = approximate.nearest(snapshot, stored, query, K)
                seconds.append(time.perf_counter() - started)
                found += len(right & set(near.tolist()))
            recall = found / (K * queries)
            yield number, len(made.centres), compared, float(np.median(seconds)) * 1e3, recall
            compared *= 2


def short_descriptors(real: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Return descriptors (n, d) in their first principal directions, of length one."""
    centred = real - real.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    short: NDArray[np.float32] = (centred @ directions[:dimension].T).astype(np.float32)
    return short / np.linalg.norm(short, axis=1, keepdims=True)
