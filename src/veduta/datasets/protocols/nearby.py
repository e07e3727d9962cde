"""What the readers of place recognition share: photo files, lists of paths, and who is near whom.

The places of the gallery lie in the cells of a uniform grid that are about as wide as the radius.
Only the nine cells around a query are compared with it, so nothing is as large as queries ×
gallery.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.judged_set import Judgements
from veduta.datasets.protocols.protocol import PHOTO_ENDINGS, safe_path
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable
from veduta.photos.file_names import why_ignored

__all__ = [
    "RADIUS_METRES",
    "checked_place",
    "judged_by_distance",
    "judged_by_rank",
    "photo_files",
    "read_paths",
]

RADIUS_METRES = 25.0
"""A gallery photo at most this far from the query is right."""

MAX_METRES = 1e9
"""The limit for coordinates. No place on Earth has a larger one."""

_WIDER_CELLS = 1.04
"""Cells are wider than the radius, so that rounding cannot move a neighbour two cells away."""

_BLOCK_PAIRS = 2**21
"""How many pairs of a query and a gallery photo are compared at once."""


def judged_by_distance(
    queries: NDArray[np.float64], gallery: NDArray[np.float64], radius: float = RADIUS_METRES
) -> Judgements:
    """Return judgements where a gallery photo is right if it is at most a radius from the query.

    The distance is Euclidean and in float64, as in the code of the authors: the sum of squares is
    compared with the square of the radius.

    Args:
        queries: (Q, 2) east and north in metres, at most `MAX_METRES` from 0.
        gallery: (G, 2) in the same zone.
        radius: in metres, more than 0.

    Returns:
        The judgements of Q queries.
    """
    if not len(queries) or not len(gallery):
        return Judgements.of([[]] * len(queries))
    corner = np.minimum(queries.min(axis=0), gallery.min(axis=0))
    width = radius * _WIDER_CELLS
    query_cells = np.floor((queries - corner) / width).astype(np.int64)
    gallery_cells = np.floor((gallery - corner) / width).astype(np.int64)
    # The cells of a column have consecutive numbers, with a free one between two columns.
    column = int(max(query_cells[:, 1].max(), gallery_cells[:, 1].max())) + 2
    numbers = gallery_cells[:, 0] * column + gallery_cells[:, 1]
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    cells = query_cells[:, 0] * column + query_cells[:, 1]
    around = cells[:, None] + np.array([-column, 0, column])
    first = np.searchsorted(numbers, around - 1, "left")
    pairs = np.searchsorted(numbers, around + 1, "right") - first
    counts = []
    positions = []
    for begin, end in _blocks(pairs.sum(axis=1)):
        near = pairs[begin:end].ravel()
        starts = np.cumsum(near) - near
        rows = np.repeat(np.arange(end - begin).repeat(3), near)
        found = order[np.arange(near.sum()) + np.repeat(first[begin:end].ravel() - starts, near)]
        offsets = queries[begin + rows] - gallery[found]
        right = (offsets**2).sum(axis=1) <= radius**2
        rows, found = rows[right], found[right]
        positions.append(found[np.lexsort((found, rows))])
        counts.append(np.bincount(rows, minlength=end - begin))
    listed = np.concatenate(positions)
    ends = np.cumsum(np.concatenate(counts))
    return Judgements(np.append(0, ends).astype(np.int64), listed, np.ones(len(listed)))


def _blocks(pairs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last query of blocks with few pairs, the last one not included."""
    ends = np.cumsum(pairs)
    begin = 0
    while begin < len(pairs):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _BLOCK_PAIRS, "right")))
        yield begin, end
        begin = end


def judged_by_rank(ranks: NDArray[np.int64], frames: int, tolerance: int) -> Judgements:
    """Return judgements where the frames from rank - tolerance to rank + tolerance are right.

    Args:
        ranks: (Q,) the frame of each query, from 0 to frames - 1.
        frames: how many frames the gallery has, in the order of the ride.
        tolerance: in frames.

    Returns:
        The judgements of Q queries.
    """
    first = np.maximum(ranks - tolerance, 0)
    sizes = np.minimum(ranks + tolerance, frames - 1) - first + 1
    ends = np.cumsum(sizes)
    positions = np.arange(sizes.sum()) + np.repeat(first - (ends - sizes), sizes)
    return Judgements(np.append(0, ends).astype(np.int64), positions, np.ones(len(positions)))


def checked_place(where: str, east: str, north: str) -> tuple[float, float]:
    """Return coordinates, and refuse what is no finite number of metres.

    Args:
        where: the file, and the line if there is one, for the message.
        east: as it is written.
        north: as it is written.

    Raises:
        DatasetError: a coordinate is no finite number, or larger than the Earth.
    """
    try:
        place = float(east), float(north)
    except ValueError:
        place = math.nan, math.nan
    if not all(abs(value) <= MAX_METRES for value in place):
        raise DatasetError(
            f"{where}: the coordinates {east!r}, {north!r} are not two numbers of metres; wanted "
            "UTM east and north, such as 0585030.21 and 4477030.95"
        )
    return place


def photo_files(folder: Path) -> Iterator[str]:
    """Yield the paths of the photo files in a folder and its subfolders, in no order.

    Hidden files and what operating systems leave behind are passed over.

    Args:
        folder: the folder. Paths are relative to it, with forward slashes.

    Raises:
        DatasetError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(os.fspath(folder), "")]
    while waiting:
        path, prefix = waiting.pop()
        try:
            status = os.stat(path)
            # A link to a folder above would never end.
            if status.st_ino and (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name.lower().endswith(PHOTO_ENDINGS):
                        if not why_ignored(os.fsencode(name), is_folder=False):
                            yield prefix + name
                    elif entry.is_dir() and not why_ignored(os.fsencode(name), is_folder=True):
                        waiting.append((entry.path, f"{prefix}{name}/"))
        except OSError as error:
            raise DatasetError(f"{readable(path)}: cannot be read: {error.strerror}") from error


def read_paths(file: Path, most: int | None = None) -> Sequence[str]:
    """Return the paths of a text file with one path a line. Blank lines are passed over.

    Args:
        file: the file, in UTF-8.
        most: how many paths are read; None for all.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8 or has no path, or a path leads out of
            the folder of the photos.
    """
    lines = islice(read_lines(file), most)
    paths = [safe_path(f"{readable(file)}, line {line}", text) for line, text in lines]
    if not paths:
        raise DatasetError(f"{readable(file)}: empty; wanted the path of one photo a line")
    return paths
