"""Colours of a photo converted to sRGB by the ICC profile in its file."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageCms

__all__ = ["cmyk_to_srgb", "to_srgb"]

_log = logging.getLogger("veduta.photos")


def to_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """Return a photo in sRGB.

    Args:
        pixels: (H, W, 3) RGB in the colours of the profile; three equal channels for a grey one.
        profile: of RGB or grey. Another one, or one that is damaged, changes nothing.
    """
    from PIL import Image

    source = _read(profile)
    space = source.profile.xcolor_space.strip() if source else ""
    if source and space == "RGB":
        image = _converted(Image.fromarray(pixels), source)
    elif source and space == "GRAY" and _is_grey(pixels):
        image = _converted(Image.fromarray(np.ascontiguousarray(pixels[:, :, 0])), source)
    else:
        return pixels
    return pixels if image is None else np.asarray(image)


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return a CMYK image in sRGB.

    Args:
        image: mode CMYK; 255 is full ink.
        profile: of CMYK. Another one, or one that is damaged, gives Pillow's own conversion.

    Returns:
        Mode RGB.
    """
    source = _read(profile)
    if source and source.profile.xcolor_space.strip() == "CMYK":
        converted = _converted(image, source)
        if converted is not None:
            return converted
    return image.convert("RGB")


def _read(profile: bytes) -> ImageCms.ImageCmsProfile | None:
    from PIL import ImageCms

    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError) as error:
        _log.info("a colour profile that does not read is ignored: %s", error)
        return None


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        return ImageCms.ImageCmsTransform(source, srgb, image.mode, "RGB").apply(image)
    except (OSError, ValueError, ImageCms.PyCMSError) as error:
        _log.info("a colour profile that cannot be applied is ignored: %s", error)
        return None


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(red, blue)
