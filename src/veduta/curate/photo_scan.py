"""The one pass over the photos of a collection: each file is read and decoded once, in threads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.photo_faults import (
    FAULTS_LONG_SIDE,
    Fault,
    fault_of_unreadable,
    is_misnamed,
    photo_faults,
)
from veduta.errors import PhotoError
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PhotoScan", "scan_photos"]

_FINGERPRINTS_LONG_SIDE = 128
_DIGEST_BYTES = 32
_MAX_THREADS = 8
_BATCH_PHOTOS = 256


@dataclass(frozen=True, slots=True, eq=False)
class PhotoScan:
    """What one pass over N files found; P of them are photos that can be read.

    Attributes:
        positions: (P,) int64, rising positions of the readable photos among the files.
        widths: (P,) int32 pixels, upright.
        heights: (P,) int32 pixels, upright.
        sizes: (P,) int64 bytes of the file.
        coded_bytes: (P,) int64 bytes of the coded pixels alone for JPEG, and of the file for other
            formats.
        digests: (P, 32) uint8, the content hash.
        formats: number of photos by format.
        misnamed: (position, format) of photos whose file name has the extension of another format.
        unreadable: (position, reason) of the other files.
        hashes: (P,) uint64, the perceptual hash; (0,) without fingerprints.
        luma_grids: (P, 256) uint8, luma on a grid of 16 × 16; (0, 256) without fingerprints.
        colour_modes: number of photos by mode, as `veduta.photos.colour_mode` names it; empty
            without fingerprints.
        faults: in the order of the files; empty where they were not wanted.
    """

    positions: NDArray[np.int64]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    sizes: NDArray[np.int64]
    coded_bytes: NDArray[np.int64]
    digests: NDArray[np.uint8]
    formats: Mapping[str, int]
    misnamed: tuple[tuple[int, str], ...]
    unreadable: tuple[tuple[int, str], ...]
    hashes: NDArray[np.uint64]
    luma_grids: NDArray[np.uint8]
    colour_modes: Mapping[str, int]
    faults: tuple[Fault, ...]

    def row(self, position: int) -> int:
        """Return the row of the readable photo at a position among the files."""
        return int(np.searchsorted(self.positions, position))


@dataclass(frozen=True, slots=True, eq=False)
class _ScannedPhoto:
    width: int
    height: int
    size: int
    coded_bytes: int
    format: str
    digest: bytes
    hash: int
    luma_grid: NDArray[np.uint8] | None
    colour_mode: str
    faults: tuple[tuple[str, float, str], ...]


def scan_photos(
    paths: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] = "",
    fingerprints: bool = False,
    faults: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> PhotoScan:
    """Read and decode every file once, in threads.

    JPEG is decoded at a fraction of its size, but always to its end, so that a photo that is cut
    short counts as unreadable. About 60 bytes of each photo stay in memory, and 350 with
    fingerprints.

    Args:
        paths: N files.
        root: the folder that relative paths start from.
        fingerprints: compute `hashes`, `luma_grids` and `colour_modes`, which `describe` needs.
        faults: judge each photo by the rules of `veduta.curate.photo_faults`.
        on_progress: called after each file with the number of files done and N.
    """
    from veduta.photos.same_picture import GRID_CELLS

    total = len(paths)
    positions, sizes, coded_bytes = (np.empty(total, np.int64) for _ in range(3))
    widths, heights = np.empty(total, np.int32), np.empty(total, np.int32)
    digests = np.empty((total, _DIGEST_BYTES), np.uint8)
    hashes = np.empty(total if fingerprints else 0, np.uint64)
    luma_grids = np.empty((len(hashes), GRID_CELLS), np.uint8)
    formats: Counter[str] = Counter()
    colour_modes: Counter[str] = Counter()
    misnamed: list[tuple[int, str]] = []
    unreadable: list[tuple[int, str]] = []
    found_faults: list[Fault] = []

    def scan(path: str | os.PathLike[str]) -> _ScannedPhoto | PhotoError:
        return _scan(Path(root, path), fingerprints, faults)

    row = 0
    for position, photo in enumerate(_in_threads(scan, paths)):
        if isinstance(photo, PhotoError):
            unreadable.append((position, photo.reason))
            if faults:
                found_faults.append(Fault(position, *fault_of_unreadable(photo)))
        else:
            positions[row], sizes[row] = position, photo.size
            coded_bytes[row] = photo.coded_bytes
            widths[row], heights[row] = photo.width, photo.height
            digests[row] = np.frombuffer(photo.digest, np.uint8)
            formats[photo.format] += 1
            if is_misnamed(paths[position], photo.format):
                misnamed.append((position, photo.format))
            if photo.luma_grid is not None:
                hashes[row], luma_grids[row] = photo.hash, photo.luma_grid
                colour_modes[photo.colour_mode] += 1
            found_faults += (Fault(position, *fault) for fault in photo.faults)
            row += 1
        if on_progress:
            on_progress(position + 1, total)
    return PhotoScan(
        positions[:row],
        widths[:row],
        heights[:row],
        sizes[:row],
        coded_bytes[:row],
        digests[:row],
        dict(formats.most_common()),
        tuple(misnamed),
        tuple(unreadable),
        hashes[:row],
        luma_grids[:row],
        dict(colour_modes.most_common()),
        tuple(found_faults),
    )


def _in_threads(
    scan: Callable[[str | os.PathLike[str]], _ScannedPhoto | PhotoError],
    paths: Sequence[str | os.PathLike[str]],
) -> Iterator[_ScannedPhoto | PhotoError]:
    with ThreadPoolExecutor(min(_MAX_THREADS, processor_cores()), "veduta-scan") as threads:
        for start in range(0, len(paths), _BATCH_PHOTOS):
            yield from threads.map(scan, paths[start : start + _BATCH_PHOTOS])


def _scan(path: Path, fingerprints: bool, faults: bool) -> _ScannedPhoto | PhotoError:
    from veduta.photos import content_hash, decode, jpeg, perceptual_hash, read_bytes
    from veduta.photos.colour_mode import colour_mode
    from veduta.photos.same_picture import luma_grid

    long_side = FAULTS_LONG_SIDE if faults else _FINGERPRINTS_LONG_SIDE
    try:
        data = read_bytes(path)
        photo = decode(data, path=path, at_least=long_side)
        mode = colour_mode(data, path=path) if fingerprints else ""
    except PhotoError as error:
        return error
    grid, perceptual = None, 0
    if fingerprints:
        grid, perceptual = luma_grid(photo.pixels), perceptual_hash(photo.pixels)
    return _ScannedPhoto(
        photo.width,
        photo.height,
        len(data),
        jpeg.coded_bytes(data) if photo.format == "JPEG" else len(data),
        photo.format,
        content_hash(data),
        perceptual,
        grid,
        mode,
        tuple(photo_faults(path, photo)) if faults else (),
    )
