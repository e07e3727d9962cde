"""Every photo of a collection read once: what it is, and the prints by which copies are found."""

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

__all__ = ["LOOK_SIDE", "PhotosSeen", "look_at"]

LOOK_SIDE = 16
_DECODED_SIDE = 128
_AHEAD = 256  # photos handed to the threads at a time
_DIGEST = 32


@dataclass(frozen=True, slots=True, eq=False)
class PhotosSeen:
    """The P photos that could be read, in the order of the collection, and those that could not.

    `rows`
        (P,) int64 places in the collection.
    `widths`, `heights`
        (P,) int32 pixels, upright.
    `sizes`
        (P,) int64 bytes of the file.
    `formats`, `modes`
        how many of each; modes in the words of `veduta.photos.header.colour_mode`.
    `digests`
        (P, 32) uint8: the content hash.
    `hashes`
        (P,) uint64: the perceptual hash.
    `looks`
        (P, 256) uint8: luma on a grid of 16 × 16.
    `misnamed`
        (place, format) of photos whose name says another format.
    `unreadable`
        (place, reason).
    """

    rows: NDArray[np.int64]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    sizes: NDArray[np.int64]
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    digests: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    looks: NDArray[np.uint8]
    misnamed: tuple[tuple[int, str], ...]
    unreadable: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    width: int
    height: int
    size: int
    format: str
    mode: str
    digest: bytes
    hash: int
    look: NDArray[np.uint8]


def look_at(
    root: Path,
    paths: Sequence[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> PhotosSeen:
    """Read every photo once, in threads; about 350 bytes of each stay in memory.

    JPEG is decoded at a fraction of its size, all of the file however, so that a photo that is cut
    short counts as unreadable.
    """
    total = len(paths)
    rows = np.empty(total, np.int64)
    widths, heights = np.empty(total, np.int32), np.empty(total, np.int32)
    sizes, hashes = np.empty(total, np.int64), np.empty(total, np.uint64)
    digests = np.empty((total, _DIGEST), np.uint8)
    looks = np.empty((total, LOOK_SIDE * LOOK_SIDE), np.uint8)
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    misnamed: list[tuple[int, str]] = []
    unreadable: list[tuple[int, str]] = []
    seen = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, total, _AHEAD):
            some = range(start, min(start + _AHEAD, total))
            outcomes = threads.map(_look, (root / paths[place] for place in some))
            for place, outcome in zip(some, outcomes, strict=True):
                if on_progress:
                    on_progress(place + 1, total)
                if isinstance(outcome, PhotoError):
                    unreadable.append((place, outcome.reason))
                    continue
                rows[seen], sizes[seen], hashes[seen] = place, outcome.size, outcome.hash
                widths[seen], heights[seen] = outcome.width, outcome.height
                digests[seen] = np.frombuffer(outcome.digest, np.uint8)
                looks[seen] = outcome.look
                formats[outcome.format] += 1
                modes[outcome.mode] += 1
                extension = os.path.splitext(paths[place])[1][1:].lower()
                if extension and extension not in EXTENSIONS[outcome.format]:
                    misnamed.append((place, outcome.format))
                seen += 1
    return PhotosSeen(
        rows[:seen],
        widths[:seen],
        heights[:seen],
        sizes[:seen],
        dict(formats.most_common()),
        dict(modes.most_common()),
        digests[:seen],
        hashes[:seen],
        looks[:seen],
        tuple(misnamed),
        tuple(unreadable),
    )


def _look(path: Path) -> _Seen | PhotoError:
    from veduta.photos import content_hash, decode, perceptual_hash, read_bytes, resize
    from veduta.photos.header import colour_mode

    try:
        data = read_bytes(path)
        photo = decode(data, path=path, at_least=_DECODED_SIDE)
        mode = colour_mode(data, path=path)
    except PhotoError as error:
        return error
    small = resize(photo.pixels, LOOK_SIDE, LOOK_SIDE).astype(np.float32)
    look = np.rint(small @ np.array((0.299, 0.587, 0.114), np.float32)).astype(np.uint8)
    return _Seen(
        photo.width,
        photo.height,
        len(data),
        photo.format,
        mode,
        content_hash(data),
        perceptual_hash(photo.pixels),
        look.reshape(-1),
    )
