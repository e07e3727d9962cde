"""Facts about every photo of a collection, from one pass over the files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import PhotoError
from veduta.photos.formats import EXTENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LUMA_SIDE", "PhotoFacts", "read_photo_facts"]

LUMA_SIDE = 16
"""Rows and columns of the luma grid of a photo."""

DECODED_SIDE = 128
"""A JPEG is decoded at the smallest scale whose sides have at least this many pixels."""

BATCH_PHOTOS = 256
"""Photos that are handed to the threads at a time."""

DIGEST_BYTES = 32
LUMA_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFacts:
    """Facts about the P readable photos, in the order of the collection.

    Attributes:
        rows: (P,) int64 rows of the photos in the collection.
        widths: (P,) int32 pixels, after the orientation was applied.
        heights: (P,) int32 pixels, after the orientation was applied.
        sizes: (P,) int64 bytes of the files.
        formats: format → number of photos.
        modes: colour mode → number of photos. See `veduta.photos.header.colour_mode`.
        digests: (P, 32) uint8 content hashes.
        hashes: (P,) uint64 perceptual hashes.
        luma_grids: (P, 256) uint8 luma on a grid of 16 × 16.
        misnamed: (row, format) of each photo whose file name says another format.
        unreadable: (row, reason) of each photo that cannot be read.
    """

    rows: NDArray[np.int64]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    sizes: NDArray[np.int64]
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    digests: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    luma_grids: NDArray[np.uint8]
    misnamed: tuple[tuple[int, str], ...]
    unreadable: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """The facts of one photo."""

    width: int
    height: int
    size: int
    format: str
    mode: str
    digest: bytes
    hash: int
    luma_grid: NDArray[np.uint8]


def read_photo_facts(
    root: Path,
    paths: Sequence[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> PhotoFacts:
    """Read every photo once, in threads.

    About 350 bytes of each photo stay in memory. A JPEG is decoded at a reduced scale, but to its
    end, so that a truncated file counts as unreadable.

    Args:
        root: the folder that the paths are relative to.
        paths: the photos.
        on_progress: called with (done, total) after each photo.
    """
    total = len(paths)
    rows = np.empty(total, np.int64)
    widths, heights = np.empty(total, np.int32), np.empty(total, np.int32)
    sizes, hashes = np.empty(total, np.int64), np.empty(total, np.uint64)
    digests = np.empty((total, DIGEST_BYTES), np.uint8)
    luma_grids = np.empty((total, LUMA_SIDE * LUMA_SIDE), np.uint8)
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    misnamed: list[tuple[int, str]] = []
    unreadable: list[tuple[int, str]] = []
    count = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, total, BATCH_PHOTOS):
            batch = range(start, min(start + BATCH_PHOTOS, total))
            results = threads.map(_read, (root / paths[row] for row in batch))
            for row, facts in zip(batch, results, strict=True):
                if on_progress:
                    on_progress(row + 1, total)
                if isinstance(facts, PhotoError):
                    unreadable.append((row, facts.reason))
                    continue
                rows[count], sizes[count], hashes[count] = row, facts.size, facts.hash
                widths[count], heights[count] = facts.width, facts.height
                digests[count] = np.frombuffer(facts.digest, np.uint8)
                luma_grids[count] = facts.luma_grid
                formats[facts.format] += 1
                modes[facts.mode] += 1
                extension = os.path.splitext(paths[row])[1][1:].lower()
                if extension and extension not in EXTENSIONS[facts.format]:
                    misnamed.append((row, facts.format))
                count += 1
    return PhotoFacts(
        rows[:count],
        widths[:count],
        heights[:count],
        sizes[:count],
        dict(formats.most_common()),
        dict(modes.most_common()),
        digests[:count],
        hashes[:count],
        luma_grids[:count],
        tuple(misnamed),
        tuple(unreadable),
    )


def _read(path: Path) -> _Facts | PhotoError:
    from veduta.photos import content_hash, decode, perceptual_hash, read_bytes, resize
    from veduta.photos.header import colour_mode

    try:
        data = read_bytes(path)
        photo = decode(data, path=path, at_least=DECODED_SIDE)
        mode = colour_mode(data, path=path)
    except PhotoError as error:
        return error
    small = resize(photo.pixels, LUMA_SIDE, LUMA_SIDE).astype(np.float32)
    luma = np.rint(small @ np.array(LUMA_WEIGHTS, np.float32)).astype(np.uint8)
    return _Facts(
        photo.width,
        photo.height,
        len(data),
        photo.format,
        mode,
        content_hash(data),
        perceptual_hash(photo.pixels),
        luma.reshape(-1),
    )
