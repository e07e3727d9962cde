"""The charts of a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.pages.charts import Chart, bars, histogram, lines, points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.curate.photo_scan import PhotoScan
    from veduta.explore.classes import ClassSizes
    from veduta.explore.description import Description

__all__ = ["class_charts", "description_charts", "photo_charts"]

_BARS = 10  # classes in a chart
_BINS = 24
_MAX_POINTS = 400
_GRID_CELLS = 48  # on each side, for photos of too many sizes


def description_charts(description: Description) -> dict[str, Chart]:
    """Return name → chart. The names are valid file names."""
    charts = class_charts(description.sizes)
    if description.facts is not None:
        charts |= photo_charts(description.facts)
    return charts


def class_charts(sizes: ClassSizes) -> dict[str, Chart]:
    """Return the charts of the class sizes."""
    photos = sizes.sizes.tolist()
    shown = min(_BARS, len(photos))
    title = {1: "The one class", len(photos): f"All {shown} classes"}.get(shown)
    charts = {
        "most_frequent_classes": bars(
            title or f"The {shown} most frequent classes",
            sizes.names[:shown],
            photos[:shown],
            x_label="photos",
        ),
    }
    if title is None:
        charts["least_frequent_classes"] = bars(
            f"The {shown} least frequent classes",
            sizes.names[-shown:],
            photos[-shown:],
            x_label="photos",
        )
    if len(photos) > 1:
        ranks, at_rank = _sizes_by_rank(sizes.sizes)
        charts["class_distribution"] = lines(
            "Distribution: classes in order of size",
            {"photos": (ranks, at_rank)},
            x_label="rank of the class",
            y_label="photos",
            log_x=sizes.wide,
            log_y=sizes.wide,
            y_range=None if sizes.wide else (0, 1.05 * photos[0]),
            fill=not sizes.wide,
            steps=True,
        )
        counts, edges = sizes.histogram()
        charts["class_histogram"] = histogram(
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
        positions, height = estimate
        charts["class_density"] = lines(
            "Density of class sizes",
            {"density": (positions, height)},
            x_label="photos in the class",
            y_label="density per factor of ten" if sizes.wide else "density per photo",
            log_x=sizes.wide,
            y_range=(0, 1.08 * float(height.max())),
            fill=True,
        )
    return charts


def photo_charts(facts: PhotoScan) -> dict[str, Chart]:
    """Return the charts of photo sizes, formats and file sizes; none without a photo."""
    if not len(facts.positions):
        return {}
    widths, heights = facts.widths.astype(np.float64), facts.heights.astype(np.float64)
    x, y, weights = _points_with_counts(widths, heights)
    kinds = {
        name: bars(title, list(counts), list(counts.values()), x_label="photos")
        for name, title, counts in (
            ("formats", "Formats", facts.formats),
            ("colour_modes", "Colour modes", facts.colour_modes),
        )
    }
    return {
        "photo_sizes": points(
            "Photo sizes",
            x,
            y,
            weights,
            x_label="width, pixels",
            y_label="height, pixels",
            diagonal=True,
        ),
        "megapixels": _photo_histogram("Megapixels", widths * heights / 1e6, "megapixels"),
        "aspect_ratios": _photo_histogram("Aspect ratios", widths / heights, "width / height"),
        "file_sizes": _photo_histogram("File sizes", facts.sizes / 1e3, "kilobytes"),
        **kinds,
    }


def _sizes_by_rank(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ranks from 1 and the class sizes at these ranks, with no more than a chart shows."""
    classes = len(sizes)
    ranks = np.arange(classes)
    if classes > _MAX_POINTS:
        by_rank = np.geomspace(1, classes, _MAX_POINTS).astype(np.int64) - 1
        levels = np.geomspace(sizes[-1], sizes[0], _MAX_POINTS)
        by_size = np.searchsorted(-sizes, -levels)
        ranks = np.unique(np.concatenate((by_rank, by_size)))
    # One more rank ends the step of the last class.
    return np.append(ranks, classes) + 1, np.append(sizes[ranks], sizes[-1])


def _photo_histogram(title: str, values: NDArray[np.float64], x_label: str) -> Chart:
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high > 30 * low
    if low == high:
        low, high = low * 0.9, high * 1.1
    edges = np.geomspace(low, high, _BINS + 1) if wide else np.linspace(low, high, _BINS + 1)
    edges[-1] = high * (1 + 1e-9)
    edges[0] = low * (1 - 1e-9)
    counts, _ = np.histogram(values, edges)
    return histogram(title, counts, edges, x_label=x_label, y_label="photos", log_x=wide)


def _points_with_counts(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the distinct points and the photos at each; many points are put on a grid."""
    both = np.stack((x, y), axis=1)
    distinct, counts = np.unique(both, axis=0, return_counts=True)
    if len(distinct) > _MAX_POINTS:
        cell = both.max(axis=0) / _GRID_CELLS
        distinct, counts = np.unique(np.ceil(both / cell), axis=0, return_counts=True)
        distinct = (distinct - 0.5) * cell
    return distinct[:, 0], distinct[:, 1], counts
