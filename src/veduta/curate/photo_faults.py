"""What is wrong with a single photo: it does not decode, or it shows too little.

Each photo is judged at a long side of 256 pixels. The rules are:

- tiny: a side is shorter than 64 pixels.
- blurred: the photo has no more detail than one of 64 pixels. The measure is the width of its
  strongest edges. Blurring an edge of Gaussian width σ by two known widths reduces its slope by a
  ratio that gives σ (after S. Zhuo, T. Sim, Defocus map estimation from a single image, 2011). A
  photo of L pixels with such edges has about L / 2σ details in a row. Only the strongest edges
  count, so a blurred background is no fault. Motion blur in one direction is not found.
- blank: 98 % of the pixels lie within 5 % of the range of each colour.
- dark: 95 % of the pixels lie in the lowest fifth of the luma, and fewer than one in 200 in its
  upper half.
- overexposed: 95 % of the pixels lie in the highest tenth, and fewer than one in 200 in the lower
  half. A drawing on white paper has more dark pixels than that.
- aspect ratio: the sides have a ratio above 3. The widest film formats have 2.76.
- extension: the file name has the extension of another format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.curate.findings import doubt
from veduta.errors import BrokenPhoto, NotAPhoto, PhotoError, UnsupportedFormat
from veduta.photos.formats import EXTENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.photos import Photo

__all__ = [
    "FAULTS_LONG_SIDE",
    "MIN_SIDE_PIXELS",
    "Fault",
    "detail_count",
    "fault_of_unreadable",
    "is_misnamed",
    "photo_faults",
]

FAULTS_LONG_SIDE = 256
"""Pixels of the long side at which photos are judged."""
MIN_SIDE_PIXELS = 64
MAX_ASPECT_RATIO = 3.0

_MAX_BLANK_RANGE = 0.05 * 255
_MAX_DARK_LUMA = 0.2 * 255
_MIN_BRIGHT_LUMA = 0.9 * 255
_MIDDLE_LUMA = 127.5

# The photo is blurred by these two Gaussian widths. The first one removes film grain.
_BLUR_PIXELS = (0.7, 1.5)
# The Sobel difference spans two pixels. That adds this much variance to an edge.
_DIFFERENCE_VARIANCE = 1 / 3
# Sharper edges cannot be distinguished.
_MIN_EDGE_PIXELS = 0.2
_STRONG_EDGE_PERCENTILE = 90
# A weaker slope, of 255 a pixel, is noise.
_MIN_EDGE_SLOPE = 1.0
_MIN_MEASURED_PIXELS = 16
# Blurring has to invent the pixels beyond the border.
_BORDER_PIXELS = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one photo.

    Attributes:
        position: of the photo among the files.
        kind: one of `veduta.curate.findings.KINDS`.
        score: in [0, 1]; 1 is certain.
        reason: the fault in words.
    """

    position: int
    kind: str
    score: float
    reason: str


_Judgements = Iterator[tuple[str, float, str]]


def photo_faults(path: str | os.PathLike[str], photo: Photo) -> _Judgements:
    """Yield (kind, score, reason) for each fault of a decoded photo.

    Args:
        path: its file.
        photo: decoded at a long side of `FAULTS_LONG_SIDE` pixels or more.
    """
    from veduta.photos import resize

    rows, columns = photo.pixels.shape[:2]
    scale = min(1.0, FAULTS_LONG_SIDE / max(rows, columns))
    small = resize(photo.pixels, max(1, round(columns * scale)), max(1, round(rows * scale)))
    yield from _shape_faults(photo.width, photo.height)
    yield from _light_faults(small)
    if is_misnamed(path, photo.format):
        extension, usual = _extension(path), EXTENSIONS[photo.format][0]
        yield "extension", 1.0, f"{photo.format} named .{extension}; rename it to .{usual}"


def fault_of_unreadable(error: PhotoError) -> tuple[str, float, str]:
    """Return (kind, score, reason) of a file that cannot be read as a photo."""
    if isinstance(error, NotAPhoto):
        kind = "not-a-photo"
    elif isinstance(error, UnsupportedFormat):
        kind = "unsupported"
    elif isinstance(error, BrokenPhoto):
        kind = "truncated" if "cut short" in error.reason else "corrupt"
    else:
        kind = "unreadable"
    return kind, 1.0, error.reason


def is_misnamed(path: str | os.PathLike[str], photo_format: str) -> bool:
    """Tell whether a file name has an extension of another format than that of the photo."""
    extension = _extension(path)
    return bool(extension) and extension not in EXTENSIONS[photo_format]


def detail_count(luma: NDArray[np.float32]) -> float | None:
    """Return how many details a photo can have in a row of its long side.

    Args:
        luma: (h, w), 0 to 255.

    Returns:
        The number; None for a photo without an edge.
    """
    import cv2

    if min(luma.shape) < _MIN_MEASURED_PIXELS:
        return None
    weak, strong = _BLUR_PIXELS
    before, after = (
        _slopes(np.asarray(cv2.GaussianBlur(luma, (0, 0), width), np.float32))
        for width in _BLUR_PIXELS
    )
    crests = before >= np.asarray(cv2.dilate(before, np.ones((3, 3), np.uint8)))
    edges = _without_border(crests & (before >= _MIN_EDGE_SLOPE))
    if not edges.any():
        return None
    slopes = _without_border(before)[edges]
    ratios = slopes / _without_border(after)[edges]
    strongest = slopes >= np.percentile(slopes, _STRONG_EDGE_PERCENTILE)
    # A slope falls with the width of its edge: ratio² = (σ² + strong²) / (σ² + weak²).
    square = max(float(np.median(ratios[strongest])) ** 2, 1 + 1e-6)
    variance = (strong**2 - square * weak**2) / (square - 1) - _DIFFERENCE_VARIANCE
    return float(max(luma.shape) / (2 * max(variance, _MIN_EDGE_PIXELS**2) ** 0.5))


def _shape_faults(width: int, height: int) -> _Judgements:
    short, long = sorted((width, height))
    if short < MIN_SIDE_PIXELS:
        reason = f"{width} × {height} pixels, a side of less than {MIN_SIDE_PIXELS}"
        yield "tiny", doubt(MIN_SIDE_PIXELS / short), reason
    if long > MAX_ASPECT_RATIO * short:
        ratio = long / short
        reason = f"{width} × {height}, {ratio:.1f} to 1"
        yield "aspect-ratio", doubt(ratio / MAX_ASPECT_RATIO), reason


def _light_faults(small: NDArray[np.uint8]) -> _Judgements:
    """Judge a photo (h, w, 3) of at most 256 pixels."""
    low, high = np.percentile(small, (1, 99), axis=(0, 1))
    colour_range = float((high - low).max())
    if colour_range <= _MAX_BLANK_RANGE:
        colour = "#" + "".join(f"{int(value):02x}" for value in np.median(small, axis=(0, 1)))
        reason = f"98 % of it is nearly {colour}"
        yield "blank", doubt(_MAX_BLANK_RANGE / max(colour_range, 1e-9)), reason
        return
    luma = small.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    darkest, low_5, high_95, brightest = (
        float(value) for value in np.percentile(luma, (0.5, 5, 95, 99.5))
    )
    if high_95 <= _MAX_DARK_LUMA and brightest < _MIDDLE_LUMA:
        reason = f"95 % of it below {100 * high_95 / 255:.0f} % of white"
        yield "dark", doubt(_MAX_DARK_LUMA / max(high_95, 1e-9)), reason
    if low_5 >= _MIN_BRIGHT_LUMA and darkest > _MIDDLE_LUMA:
        ratio = (255 - _MIN_BRIGHT_LUMA) / max(255 - low_5, 1e-9)
        yield "overexposed", doubt(ratio), f"95 % of it above {100 * low_5 / 255:.0f} % of white"
    details = detail_count(luma)
    if details is not None and max(luma.shape) >= MIN_SIDE_PIXELS > details:
        reason = f"detail of a photo {details:.0f} pixels long"
        yield "blurred", doubt(MIN_SIDE_PIXELS / details), reason


def _slopes(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1)
    slopes: NDArray[np.float32] = np.hypot(across, down) + np.float32(1e-6)
    return slopes


def _without_border(table: NDArray[Any]) -> NDArray[Any]:
    return table[_BORDER_PIXELS:-_BORDER_PIXELS, _BORDER_PIXELS:-_BORDER_PIXELS]


def _extension(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.path.basename(path))[1][1:].lower()
