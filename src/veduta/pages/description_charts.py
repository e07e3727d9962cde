"""The charts of a description."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.files import write_bytes
from veduta.pages import charts as draw
from veduta.pages.class_samples import Shelf, class_rows
from veduta.pages.class_sheet import write_class_sheet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.explore.classes import ClassSizes
    from veduta.explore.description import Description
    from veduta.explore.photo_facts import PhotoFacts

__all__ = ["charts", "class_charts", "photo_charts", "write_charts"]

_EACH = 10
_BINS = 24
_MOST_POINTS = 400
_GRID = 48


def write_charts(folder: str | os.PathLike[str], description: Description) -> list[Path]:
    """Write each chart as a PNG file, and a contact sheet of some photos.

    Args:
        folder: the folder to write into. It is made if it is missing.
        description: what to draw. Without photos there is no contact sheet.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in charts(description).items():
        written.append(target / f"{name}.png")
        write_bytes(written[-1], chart.png())
    if description.dataset is not None and description.facts is not None:
        frequent, others = class_rows(description, Shelf(description.dataset))
        if rows := frequent + others:
            written.append(target / "contact_sheet.png")
            write_class_sheet(written[-1], rows)
    return written


def charts(description: Description) -> dict[str, draw.Chart]:
    """Return name → chart, the name being fit for a file."""
    found = class_charts(description.sizes)
    if description.facts is not None:
        found |= photo_charts(description.facts)
    return found


def class_charts(sizes: ClassSizes) -> dict[str, draw.Chart]:
    """Return the charts of the class sizes."""
    whole = sizes.sizes.tolist()
    few = min(_EACH, len(whole))
    number = {1: "The one class", len(whole): f"All {few} classes"}.get(few)
    found = {
        "most_frequent_classes": draw.bars(
            number or f"The {few} most frequent classes",
            sizes.names[:few],
            whole[:few],
            x_label="photos",
        ),
    }
    if number is None:
        found["least_frequent_classes"] = draw.bars(
            f"The {few} least frequent classes",
            sizes.names[-few:],
            whole[-few:],
            x_label="photos",
        )
    if len(whole) > 1:
        rank, size = _falling(sizes.sizes)
        found["class_distribution"] = draw.lines(
            "Distribution: classes in order of size",
            {"photos": (rank, size)},
            x_label="rank of the class",
            y_label="photos",
            log_x=sizes.wide,
            log_y=sizes.wide,
            y_range=None if sizes.wide else (0, 1.05 * whole[0]),
            fill=not sizes.wide,
            steps=True,
        )
        counts, edges = sizes.histogram()
        found["class_histogram"] = draw.histogram(
            "Histogram of class sizes",
            counts,
            edges,
            x_label="photos in the class",
            y_label="classes",
            log_x=sizes.wide,
            log_y=bool(counts.max() > 50 * max(1, np.median(counts))),
        )
    estimate = sizes.density()
    if estimate is not None:
        at, height = estimate
        found["class_density"] = draw.lines(
            "Density of class sizes",
            {"density": (at, height)},
            x_label="photos in the class",
            y_label="density per factor of ten" if sizes.wide else "density per photo",
            log_x=sizes.wide,
            y_range=(0, 1.08 * float(height.max())),
            fill=True,
        )
    return found


def photo_charts(facts: PhotoFacts) -> dict[str, draw.Chart]:
    """Return the charts of what the photos are; none without a photo."""
    if not len(facts.rows):
        return {}
    widths, heights = facts.widths.astype(np.float64), facts.heights.astype(np.float64)
    x, y, weights = _gathered(widths, heights)
    kinds = {
        name: draw.bars(title, list(counts), list(counts.values()), x_label="photos")
        for name, title, counts in (
            ("formats", "Formats", facts.formats),
            ("colour_modes", "Colour modes", facts.modes),
        )
    }
    return {
        "photo_sizes": draw.points(
            "Photo sizes",
            x,
            y,
            weights,
            x_label="width, pixels",
            y_label="height, pixels",
            diagonal=True,
        ),
        "megapixels": _histogram("Megapixels", widths * heights / 1e6, "megapixels"),
        "aspect_ratios": _histogram("Aspect ratios", widths / heights, "width / height"),
        "file_sizes": _histogram("File sizes", facts.sizes / 1e3, "kilobytes"),
        **kinds,
    }


def _falling(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ranks from 1 and the sizes there, with no more ranks than show on any axis."""
    classes = len(sizes)
    ranks = np.arange(classes)
    if classes > _MOST_POINTS:
        by_rank = np.geomspace(1, classes, _MOST_POINTS).astype(np.int64) - 1
        levels = np.geomspace(sizes[-1], sizes[0], _MOST_POINTS)
        by_size = np.searchsorted(-sizes, -levels)
        ranks = np.unique(np.concatenate((by_rank, by_size)))
    # The step of the last class has an end too.
    return np.append(ranks, classes) + 1, np.append(sizes[ranks], sizes[-1])


def _histogram(title: str, values: NDArray[np.float64], x_label: str) -> draw.Chart:
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high > 30 * low
    if low == high:
        low, high = low * 0.9, high * 1.1
    edges = np.geomspace(low, high, _BINS + 1) if wide else np.linspace(low, high, _BINS + 1)
    edges[-1] = high * (1 + 1e-9)
    edges[0] = low * (1 - 1e-9)
    counts, _ = np.histogram(values, edges)
    return draw.histogram(title, counts, edges, x_label=x_label, y_label="photos", log_x=wide)


def _gathered(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the distinct points and how many lie on each, on a coarse grid if there are many."""
    both = np.stack((x, y), axis=1)
    distinct, counts = np.unique(both, axis=0, return_counts=True)
    if len(distinct) > _MOST_POINTS:
        cell = both.max(axis=0) / _GRID
        distinct, counts = np.unique(np.ceil(both / cell), axis=0, return_counts=True)
        distinct = (distinct - 0.5) * cell
    return distinct[:, 0], distinct[:, 1], counts
