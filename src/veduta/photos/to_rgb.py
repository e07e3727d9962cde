"""Every pixel layout that Pillow decodes to, converted to 8-bit RGB, and reduced on the way.

A large picture is converted in strips, so that its converted form exists only at the reduced size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["STRIP_BYTES_PER_PIXEL", "has_transparency", "strip_pixels", "to_rgb"]

STRIP_BYTES_PER_PIXEL = 24
"""What the conversion of a strip takes at most, beside the decoded picture and the result."""

_STRIP_PIXELS = 2_000_000
_MAX_STRIP_FACTOR = 64
"""A strip has at least as many rows as one row of the result."""

_REDUCIBLE_MODES = frozenset({"L", "RGB", "CMYK"})
_MODES_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})

_MIN_NEARLY_WHITE_LUMA = 230
_MAX_DARKER_SHARE = 0.02


def has_transparency(image: Image.Image) -> bool:
    """Return whether an image has an alpha channel, or colours that count as transparent."""
    return image.mode in _MODES_WITH_ALPHA or "transparency" in image.info


def strip_pixels(width: int, height: int, factor: int) -> int:
    """Return the number of pixels of the largest strip that `to_rgb` converts at once.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        factor: as for `to_rgb`.
    """
    return width * min(height, _rows_per_strip(width, min(factor, _MAX_STRIP_FACTOR)))


def to_rgb(
    image: Image.Image, factor: int = 1, grey_range: tuple[float, float] = (0.0, 65535.0)
) -> NDArray[np.uint8]:
    """Return an image as RGB in 0 to 255.

    Transparent parts become white. They become black if at least 98 % of the pixels that are
    visible at all are nearly white (luma of 230 or more), because a white drawing would vanish on
    white. The range of 32-bit and floating grey is in no header: it
    is taken as 0 to 1, 0 to 255 or 0 to 65535, the first that holds all values. If none does, the
    least value becomes black and the greatest white.

    Args:
        image: a decoded image of H × W pixels.
        factor: the sides are divided by this, or by less for a layout that is converted in strips.
            Each pixel is the mean of a block.
        grey_range: the values of black and white in 16-bit grey.

    Returns:
        (H / factor, W / factor, 3), rounded up.

    Raises:
        ValueError: the layout has no conversion.
    """
    if image.mode in _REDUCIBLE_MODES and not has_transparency(image):
        if factor > 1:
            image = image.reduce(factor)
        factor = 1
    factor = min(factor, _MAX_STRIP_FACTOR)
    convert = _Conversion(image, grey_range)
    width, height = image.size
    rows = _rows_per_strip(width, factor)
    if rows >= height:
        return convert(image, factor)
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    for top, strip in _strips(image, rows):
        part = convert(strip, factor)
        pixels[top // factor : top // factor + len(part)] = part
    return pixels


def _rows_per_strip(width: int, factor: int) -> int:
    return max(1, _STRIP_PIXELS // (width * factor)) * factor


def _strips(image: Image.Image, rows: int) -> Iterator[tuple[int, Image.Image]]:
    width, height = image.size
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


class _Conversion:
    """The conversion of one image, with what must be known of all of it."""

    def __init__(self, image: Image.Image, grey_range: tuple[float, float]) -> None:
        self._deep = image.mode.startswith("I") or image.mode == "F"
        self._transparent = not self._deep and has_transparency(image)
        self._range = grey_range
        if self._deep and not image.mode.startswith("I;16"):
            self._range = _range_of_image(image)
        self._background = _background(image) if self._transparent else ""

    def __call__(self, strip: Image.Image, factor: int) -> NDArray[np.uint8]:
        from PIL import Image

        if self._deep:
            strip = Image.fromarray(_grey8(np.asarray(strip), *self._range))
        elif self._transparent:
            strip = _as_rgba(strip)
        elif strip.mode == "LAB":
            strip = _from_lab(strip)
        elif strip.mode not in ("RGB", "L"):
            strip = strip.convert("RGB")
        if factor > 1:
            strip = strip.reduce(factor)
        if self._transparent:
            background = Image.new("RGBA", strip.size, self._background)
            strip = Image.alpha_composite(background, strip)
        return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _as_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow has no direct conversion.
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _background(image: Image.Image) -> str:
    width, height = image.size
    visible = darker = 0
    for _, strip in _strips(image, _rows_per_strip(width, 1)):
        rgba = _as_rgba(strip)
        # The alpha channel is the mask: pixels that are not visible at all are not counted.
        luma = rgba.convert("L").histogram(rgba.getchannel("A"))
        visible += sum(luma)
        darker += sum(luma[:_MIN_NEARLY_WHITE_LUMA])
        if darker > _MAX_DARKER_SHARE * width * height:
            return "white"
    return "black" if visible and darker <= _MAX_DARKER_SHARE * visible else "white"


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)


def _grey8(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    span = white - black
    scaled = (_finite(values) - black) * (255.0 / (span if abs(span) > 1e-30 else 1e-30))
    grey: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey


def _finite(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _range_of_image(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white."""
    strips = (np.asarray(strip) for _, strip in _strips(image, _rows_per_strip(image.width, 1)))
    extremes = [(float(finite.min()), float(finite.max())) for finite in map(_finite, strips)]
    least = min(low for low, _ in extremes)
    greatest = max(high for _, high in extremes)
    if least < 0 or greatest > 65535:
        return least, greatest
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return 0.0, next(white for white in usual if greatest <= white)
