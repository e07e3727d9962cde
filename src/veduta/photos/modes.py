"""Every pixel layout that Pillow decodes to, made 8-bit RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["to_rgb"]

_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) RGB in 0 to 255.

    Transparent parts lie on white. 16-bit grey is divided by 257. 32-bit and floating grey, whose
    range no header tells, is taken as 0 to 1, 0 to 255 or 0 to 65535, the first that holds all of
    it; else its least value becomes black and its greatest white. Raises ValueError for a layout
    that has no conversion.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(np.asarray(image))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
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
    lowest, highest = float(grey.min()), float(grey.max())
    if values.dtype.itemsize == 2:
        low, high = 0.0, 65535.0
    elif lowest < 0 or highest > 65535:
        low, high = lowest, highest
    else:
        floating = values.dtype.kind == "f"
        low, high = (
            0.0,
            next(top for top in (1.0 if floating else 255.0, 255.0, 65535.0) if highest <= top),
        )
    scaled = (grey - low) * (255.0 / max(high - low, 1e-30))
    grey8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.repeat(grey8[:, :, np.newaxis], 3, axis=2)
