"""What is wrong with a photo by itself: it does not decode, or there is little to see in it.

Every photo is decoded once, in threads, at 256 pixels or little more. The thresholds are rules:

- tiny: a side of less than 64 pixels;
- blurred: no more detail than a photo 64 pixels long has. The width of the strongest edges tells:
  an edge of Gaussian width σ, blurred by two widths, loses a share of its slope that gives σ away
  (after S. Zhuo, T. Sim, Defocus map estimation from a single image, 2011), and a photo of L
  pixels with such edges has about L / 2σ details in a row. The strongest edges decide, so that a
  blurred background is no fault; what is smeared in one direction only is not found;
- blank: 98 % of the pixels within 5 % of the range of each colour;
- dark: 95 % of the pixels in the lowest fifth of the luma, and not one in 200 in its upper half;
- overexposed: 95 % in the highest tenth, and not one in 200 in its lower half, as a drawing has;
- aspect ratio: more than 3, where the widest film formats end at 2.76;
- extension: that of another format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.curate.findings import doubt
from veduta.errors import BrokenPhoto, PhotoError, UnsupportedFormat
from veduta.photos.formats import EXTENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_PIXELS", "Fault", "LookedAt", "look_at"]

LEAST_PIXELS = 64
MOST_ASPECT = 3.0

_SIDE = 256
_AHEAD = 256  # photos handed to the threads at a time
_SOFTENED = (0.7, 1.5)  # widths that photos are blurred by, pixels; the first takes grain away
_DIFFERENCE = 1 / 3  # variance that a difference over two pixels adds
_SHARPEST = 0.2  # pixels; narrower edges cannot be told apart
_STRONGEST = 90  # percentile of the slopes on the crests of edges from which on they count
_FAINT = 1.0  # slope, of 255: below, there is no edge to measure
_BLANK = 0.05 * 255
_DARK, _LIGHT = 0.2 * 255, 0.9 * 255
_MIDDLE = 127.5


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the photo at `place`: a kind of `KINDS`, its score, and why."""

    place: int
    kind: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class LookedAt:
    """N files after one look.

    Attributes:
        decoded: (N,) bool.
        pixels: (N,) int64, width × height; 0 where it does not decode.
        sizes: (N,) int64 bytes of the file; 0 where it does not decode.
        digests: (N, 32) uint8, the content hash; 0 where it does not decode.
        faults: in the order of the files.
    """

    decoded: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: NDArray[np.uint8]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    width: int
    height: int
    size: int
    digest: bytes
    faults: tuple[tuple[str, float, str], ...]


def look_at(
    files: Sequence[Path], on_progress: Callable[[int, int], None] | None = None
) -> LookedAt:
    """Decode every file once; about 60 bytes of each stay in memory, and its faults."""
    total = len(files)
    decoded = np.zeros(total, np.bool_)
    pixels, sizes = np.zeros(total, np.int64), np.zeros(total, np.int64)
    digests = np.zeros((total, 32), np.uint8)
    faults: list[Fault] = []
    for place, look in enumerate(_looks(files)):
        if isinstance(look, PhotoError):
            faults.append(Fault(place, _kind(look), 1.0, look.reason))
        else:
            decoded[place] = True
            pixels[place], sizes[place] = look.width * look.height, look.size
            digests[place] = np.frombuffer(look.digest, np.uint8)
            faults += (Fault(place, *fault) for fault in look.faults)
        if on_progress:
            on_progress(place + 1, total)
    return LookedAt(decoded, pixels, sizes, digests, tuple(faults))


def _looks(files: Sequence[Path]) -> Iterator[_Look | PhotoError]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "veduta-look") as threads:
        for start in range(0, len(files), _AHEAD):
            yield from threads.map(_look, files[start : start + _AHEAD])


def _kind(error: PhotoError) -> str:
    if isinstance(error, UnsupportedFormat):
        return "not-a-photo"
    if isinstance(error, BrokenPhoto):
        return "truncated" if "cut short" in error.reason else "corrupt"
    return "unreadable"


def _look(file: Path) -> _Look | PhotoError:
    from veduta.photos import content_hash, decode, read_bytes, resize

    try:
        data = read_bytes(file)
        photo = decode(data, path=file, at_least=_SIDE)
    except PhotoError as error:
        return error
    rows, columns = photo.pixels.shape[:2]
    scale = min(1.0, _SIDE / max(rows, columns))
    small = resize(photo.pixels, max(1, round(columns * scale)), max(1, round(rows * scale)))
    shape = _of_shape(photo.width, photo.height)
    faults = (*shape, *_of_light(small), *_of_name(file, photo.format))
    return _Look(photo.width, photo.height, len(data), content_hash(data), faults)


_Told = Iterator[tuple[str, float, str]]


def _of_shape(width: int, height: int) -> _Told:
    short, long = sorted((width, height))
    if short < LEAST_PIXELS:
        wanted = f"{width} × {height} pixels, a side of less than {LEAST_PIXELS}"
        yield "tiny", doubt(LEAST_PIXELS / short), wanted
    if long > MOST_ASPECT * short:
        ratio = long / short
        yield "aspect-ratio", doubt(ratio / MOST_ASPECT), f"{width} × {height}, {ratio:.1f} to 1"


def _of_light(small: NDArray[np.uint8]) -> _Told:
    """Judge a photo (h, w, 3) of at most 256 pixels."""
    low, high = np.percentile(small, (1, 99), axis=(0, 1))
    spread = float((high - low).max())
    if spread <= _BLANK:
        colour = "#" + "".join(f"{int(value):02x}" for value in np.median(small, axis=(0, 1)))
        yield "blank", doubt(_BLANK / max(spread, 1e-9)), f"98 % of it is nearly {colour}"
        return
    luma = small.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    darkest, low_5, high_95, lightest = (
        float(value) for value in np.percentile(luma, (0.5, 5, 95, 99.5))
    )
    if high_95 <= _DARK and lightest < _MIDDLE:
        share = 100 * high_95 / 255
        yield "dark", doubt(_DARK / max(high_95, 1e-9)), f"95 % of it below {share:.0f} % of white"
    if low_5 >= _LIGHT and darkest > _MIDDLE:
        ratio = (255 - _LIGHT) / max(255 - low_5, 1e-9)
        yield "overexposed", doubt(ratio), f"95 % of it above {100 * low_5 / 255:.0f} % of white"
    details = _details(luma)
    if details is not None and max(luma.shape) >= LEAST_PIXELS > details:
        reason = f"detail of a photo {details:.0f} pixels long"
        yield "blurred", doubt(LEAST_PIXELS / details), reason


def _details(luma: NDArray[np.float32]) -> float | None:
    """Return how many details a photo (h, w) can have in a row; None without an edge."""
    import cv2

    if min(luma.shape) < 16:
        return None
    little, more = _SOFTENED
    before, after = (
        _slopes(np.asarray(cv2.GaussianBlur(luma, (0, 0), width), np.float32))
        for width in _SOFTENED
    )
    crests = before >= np.asarray(cv2.dilate(before, np.ones((3, 3), np.uint8)))
    edges = _inner(crests & (before >= _FAINT))
    if not edges.any():
        return None
    slopes, lost = _inner(before)[edges], _inner(before)[edges] / _inner(after)[edges]
    strong = slopes >= np.percentile(slopes, _STRONGEST)
    # A slope falls with the width that blurring adds: lost² = (σ² + more²) / (σ² + little²).
    square = max(float(np.median(lost[strong])) ** 2, 1 + 1e-6)
    variance = (more**2 - square * little**2) / (square - 1) - _DIFFERENCE
    return float(max(luma.shape) / (2 * max(variance, _SHARPEST**2) ** 0.5))


def _slopes(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1)
    slopes: NDArray[np.float32] = np.hypot(across, down) + np.float32(1e-6)
    return slopes


def _inner(table: NDArray[Any]) -> NDArray[Any]:
    """Return all but the border, which blurring makes up."""
    return table[3:-3, 3:-3]


def _of_name(file: Path, kind: str) -> _Told:
    extension = os.path.splitext(file.name)[1][1:].lower()
    if extension and extension not in EXTENSIONS[kind]:
        yield "extension", 1.0, f"{kind} named .{extension}; rename it to .{EXTENSIONS[kind][0]}"
