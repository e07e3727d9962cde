"""Unit costs of indexing, linking and searching: time, bytes and memory of a photo, a row, a pair.

`benchmarks.pipeline_model` and `benchmarks.pipeline_plan` compute from them what a billion photos
would cost. Steps of a photo are measured on real photos, those of a collection on generated
descriptors. Processor time is that of one core while all cores work.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.costs_of_cells import cells_and_links, memory, search, short_descriptors
from benchmarks.costs_of_photos import ALL_STEPS, STEPS, measure_photos, size_of_parts, verify_some
from benchmarks.costs_of_shards import Figures, merge, shards
from benchmarks.generated_descriptors import Generator, real_descriptors
from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.report import busy_share, parser, publish, table

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""In percent, as the columns of the first table name them."""

BUSY = "use of the processor by others before, %"

SHORT = 256
"""Numbers of a projected descriptor."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("pipeline_costs", __doc__)
    add_data_option(options)
    options.add_argument("--photos", type=int, default=400, help="real photos")
    options.add_argument("--pairs", type=int, default=400, help="pairs to verify")
    options.add_argument("--rows", type=int, default=12_000, help="rows to merge")
    options.add_argument("--parts", type=int, default=12, help="parts to merge")
    options.add_argument("--linked", nargs=2, type=int, default=[12_000, 36_000])
    options.add_argument("--searched", nargs="+", type=int, default=[50_000, 200_000, 800_000])
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args(arguments)
    names = present_sets(options, chosen.data, SETS)
    busy = busy_share()
    chosen.work.mkdir(parents=True, exist_ok=True)
    some = spread(chosen.data, names, chosen.photos)
    folder, index = chosen.work / "costs-photos", chosen.work / "costs-index"
    for each in (folder, index):
        shutil.rmtree(each, ignore_errors=True)
    folder.mkdir()
    for number, photo in enumerate(some):
        (folder / f"{number:06}.jpg").symlink_to(photo.resolve())

    measured = measure_photos(some)
    parts, whole = size_of_parts(index, folder)
    pairs, pairs_of_a_photo = verify_some(index, chosen.pairs)
    figures: Figures = {**shards(chosen.work, some, chosen.rounds)}
    real = real_descriptors(chosen.work, [chosen.data / name for name in names])
    wide = Generator(real)
    rows = np.concatenate(list(wide.blocks(1, max(chosen.rows, *chosen.linked))))
    figures |= merge(chosen.work, measured, rows[: chosen.rows], chosen.parts, chosen.rounds)
    figures |= cells_and_links(rows, chosen.linked)
    del rows, wide
    short = Generator(short_descriptors(real, SHORT))
    figures |= memory(short, chosen.searched[0])
    searched = list(search(short, chosen.searched, queries=100))
    for each in (folder, index):
        shutil.rmtree(each)

    spread_of = {
        **{f"{name}, ms": measured.milliseconds[name] for name in (*STEPS, ALL_STEPS)},
        **{
            f"{name}, ms": values
            for name, values in measured.milliseconds.items()
            if name not in (*STEPS, ALL_STEPS)
        },
        "verify a pair, ms": pairs,
        **{f"{name}, kB": values for name, values in measured.kilobytes.items()},
    }
    dimension = real.shape[1]
    of_index = {
        "descriptor, bytes": 2.0 * dimension,
        f"descriptor of {SHORT} numbers, bytes": 2.0 * SHORT,
        **{f"folder {name}, bytes": size for name, size in parts.items()},
    }
    body = [
        table(
            ["a photo", "mean", *(f"{q} %" for q in QUANTILES)],
            [[name, *map(figure, quantiles(values))] for name, values in spread_of.items()],
        ),
        f"{len(some)} photos of {', '.join(names)}, {chosen.pairs} of their linked pairs. "
        f"`veduta index` took {figure(whole)} ms of processor time a photo, links included. "
        f"A photo has {figure(pairs_of_a_photo)} pairs.",
        table(
            ["a photo in an index", "figure"],
            [
                *([name, figure(value)] for name, value in of_index.items()),
                ["numbers of a descriptor", dimension],
                ["linked pairs of a photo", figure(pairs_of_a_photo)],
                ["processor time of `veduta index`, ms", figure(whole)],
                [BUSY, figure(busy)],
            ],
        ),
        table(
            ["a step of a collection", "median", "smallest", "largest", "measurements"],
            [
                [name, *map(figure, (np.median(own), min(own), max(own))), len(own)]
                for name, own in figures.items()
            ],
        ),
        f"Merged: {chosen.rows:,} rows in {chosen.parts} parts, with keypoints and thumbnails. "
        f"Linked: {chosen.linked[0]:,} and {chosen.linked[1]:,} photos. What `veduta index` and "
        "`veduta merge` do is timed by the clock, cells and links by the time of all cores.",
        f"Search by cells, descriptors of {SHORT} numbers:",
        table(
            ["photos", "cells", "codes compared", "ms a query", "recall@10"],
            [
                [f"{photos:,}", f"{cells:,}", f"{compared:,}", f"{ms:.3f}", f"{recall:.4f}"]
                for photos, cells, compared, ms, recall in searched
            ],
        ),
    ]
    publish("pipeline_costs", "\n\n".join(body), chosen.docs)


def spread(data: Path, names: Sequence[str], number: int) -> list[Path]:
    """Return photos that are spread over all sets."""
    every = sorted(each for name in names for each in (data / name).rglob("*.jpg"))
    return [every[place] for place in np.linspace(0, len(every) - 1, number).astype(int)]


def quantiles(values: Sequence[float]) -> list[float]:
    """Return the mean, and the quantiles that `QUANTILES` names."""
    return [float(np.mean(values)), *map(float, np.percentile(values, QUANTILES))]


def figure(value: float) -> str:
    """Return four significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
