"""Every pixel layout that Pillow decodes to, converted to 8-bit RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["to_rgb"]

_MODES_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) RGB in 0 to 255.

    Transparent parts become white. 16-bit grey is divided by 257. The range of 32-bit and floating
    grey is in no header: it is taken as 0 to 1, 0 to 255 or 0 to 65535, the first that holds all
    values. If none does, the least value becomes black and the greatest white.

    Args:
        image: a decoded image.

    Raises:
        ValueError: the layout has no conversion.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(np.asarray(image))
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        return _on_white(image)
    if image.mode == "LAB":
        image = _from_lab(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image

    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)


def _grey_to_rgb(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    black, white = _grey_range(values.dtype, float(grey.min()), float(grey.max()))
    scaled = (grey - black) * (255.0 / max(white - black, 1e-30))
    grey8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.repeat(grey8[:, :, np.newaxis], 3, axis=2)


def _grey_range(dtype: np.dtype[np.generic], least: float, greatest: float) -> tuple[float, float]:
    """Return the values that become black and white."""
    if dtype.itemsize == 2:
        return 0.0, 65535.0
    if least < 0 or greatest > 65535:
        return least, greatest
    usual = (1.0, 255.0, 65535.0) if dtype.kind == "f" else (255.0, 65535.0)
    return 0.0, next(white for white in usual if greatest <= white)
