"""The picture that shows why two photos were called the same, or were not."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.keypoints.matching import mutual
from veduta.keypoints.regions import overlap
from veduta.text import count

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.verification import Verification

__all__ = ["draw_matches"]

_FINE = 2  # drawn so many times larger and reduced, for smooth lines
_GAP = 12
_TALLEST = 800
_NARROWEST = 200
_BAR = 44
_PAPER = (255, 255, 255)
_INK = (32, 33, 36)
_FAINT = (255, 255, 255, 90)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a photo lies in the picture, in pixels of the picture."""

    left: int
    top: int
    width: int
    height: int


def draw_matches(
    query_pixels: NDArray[np.uint8],
    other_pixels: NDArray[np.uint8],
    query: Keypoints,
    other: Keypoints,
    found: Verification,
    *,
    matches: NDArray[np.intp] | None = None,
    width: int = 1600,
    lines: int = 100,
) -> Image.Image:
    """Draw two photos with the matches that agree, and the region that both show.

    Side by side, or one above the other where that shows them larger. A line's colour follows its
    height in the query (from left to right when stacked), so that lines can be told apart where
    they cross. For photos that are not verified all matches are drawn faintly.

    Args:
        query_pixels: (H, W, 3) uint8 RGB, upright, at any size.
        other_pixels: the same of the other photo.
        query: the keypoints of the query, in pixels of its full size.
        other: those of the other photo.
        found: what `verify` said of them.
        matches: (m, 2) what `verify` was given; None: `mutual(query, other)`. Used only for
            photos that are not verified.
        width: of the picture in pixels, at most; at least 200.
        lines: how many matches to draw, at most; of more, some evenly chosen.

    Returns:
        The picture, RGB, with a line of text below: how many matches agree, and on what.
    """
    from PIL import Image, ImageDraw

    frames = _frames(_shape(query_pixels), _shape(other_pixels), max(width, _NARROWEST))
    right = max(_NARROWEST, *(frame.left + frame.width for frame in frames))
    bottom = max(frame.top + frame.height for frame in frames)
    canvas = Image.new("RGB", (right * _FINE, (bottom + _BAR) * _FINE), _PAPER)
    for pixels, frame in zip((query_pixels, other_pixels), frames, strict=True):
        size = (frame.width * _FINE, frame.height * _FINE)
        photo = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        canvas.paste(photo, (frame.left * _FINE, frame.top * _FINE))

    pen = ImageDraw.Draw(canvas, "RGBA")
    both = ((query, frames[0]), (other, frames[1]))
    verified = found.model is not None
    pairs = found.inliers if verified else (mutual(query, other) if matches is None else matches)
    axis = 1 if frames[1].left else 0
    pairs = _evenly(pairs, query, axis, lines)
    ends = [
        _placed(keypoints, keypoints.xy[pairs[:, side]], frame)
        for side, (keypoints, frame) in enumerate(both)
    ]
    # Many lines are paler, or they would hide the photos.
    opacity = round(np.interp(len(pairs), (30, 100), (190, 120)))
    colours = [
        (*_colour(i, len(pairs)), opacity) if verified else _FAINT for i in range(len(pairs))
    ]
    for start, end, colour in zip(*ends, colours, strict=True):
        pen.line([*start, *end], fill=colour, width=3)
    for start, end, colour in zip(*ends, colours, strict=True):
        for x, y in (start, end):
            box = (x - 5, y - 5, x + 5, y + 5)
            if verified:
                pen.ellipse(box, fill=(*colour[:3], 255), outline=(0, 0, 0, 160))
            else:
                pen.ellipse(box, outline=(255, 255, 255, 160), width=2)
    if (regions := overlap(query, other, found)) is not None:
        for region, (keypoints, frame) in zip(regions, both, strict=True):
            _outline(pen, _placed(keypoints, region, frame))
    _write(pen, _caption(found, len(pairs)), right, bottom)
    return canvas.reduce(_FINE)


def _shape(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _frames(a: tuple[int, int], b: tuple[int, int], width: int) -> tuple[_Frame, _Frame]:
    """Lay out two photos, given by (width, height), so that the smaller comes out large."""
    half, low = (width - _GAP) // 2, (_TALLEST - _GAP) // 2
    beside = [_fitted(size, half, _TALLEST) for size in (a, b)]
    stacked = [_fitted(size, width, low) for size in (a, b)]
    (w, h), (v, g) = beside
    if min(w * h, v * g) >= min(x * y for x, y in stacked):
        tall = max(h, g)
        return _Frame(0, (tall - h) // 2, w, h), _Frame(w + _GAP, (tall - g) // 2, v, g)
    (w, h), (v, g) = stacked
    return _Frame(0, 0, w, h), _Frame(0, h + _GAP, v, g)


def _fitted(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    scale = min(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _evenly(pairs: NDArray[np.intp], query: Keypoints, axis: int, most: int) -> NDArray[np.intp]:
    """Order pairs along one axis of the query, and of more than `most` take evenly spaced ones."""
    pairs = pairs[np.argsort(query.xy[pairs[:, 0], axis], kind="stable")]
    if len(pairs) > most:
        pairs = pairs[np.linspace(0, len(pairs) - 1, most).round().astype(np.intp)]
    return pairs


def _placed(
    keypoints: Keypoints, xy: NDArray[np.float32], frame: _Frame
) -> list[tuple[float, float]]:
    """Photo pixels → pixels of the fine canvas."""
    share = (xy + 0.5) / np.array([keypoints.width, keypoints.height])
    places = share * [frame.width, frame.height] + [frame.left, frame.top]
    return [(float(x), float(y)) for x, y in places * _FINE]


def _colour(place: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(0.83 * place / max(count - 1, 1), 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _outline(pen: ImageDraw.ImageDraw, corners: list[tuple[float, float]]) -> None:
    ring = [*corners, corners[0], corners[1]]
    pen.line(ring, fill=(0, 0, 0, 130), width=9, joint="curve")
    pen.line(ring, fill=(255, 255, 255, 240), width=4, joint="curve")


def _caption(found: Verification, drawn: int) -> str:
    agree, matches = len(found.inliers), found.matches
    if not matches:
        return "Not verified: no keypoints match"
    of = f"{agree} of {count(matches, 'match', 'matches')} agree"
    if found.model is None:
        return f"Not verified: only {of}"
    model = found.model if found.model == "homography" else "fundamental matrix"
    return f"{of} · {model}" + (f" · {drawn} drawn" if drawn < agree else "")


def _write(pen: ImageDraw.ImageDraw, text: str, right: int, bottom: int) -> None:
    from PIL import ImageFont

    size = 20
    while True:
        font = ImageFont.load_default(size * _FINE)
        if size <= 8 or font.getlength(text) <= (right - 8) * _FINE:
            break
        size -= 1
    middle = (right * _FINE / 2, (bottom + _BAR / 2) * _FINE)
    pen.text(middle, text, font=font, fill=_INK, anchor="mm")
