"""Pictures of the similarity of two photos, for pages: both photos under their maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veduta.encoders.descriptor_parts import require_parts
from veduta.errors import PhotoError
from veduta.explanation.map_panels import pair_panels
from veduta.explanation.similarity import explain_similarity
from veduta.pages.explanation_sheet import draw_map_sheet
from veduta.pages.hit import PICTURE_WIDTH, picture_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from veduta.encoders import Encoder
    from veduta.explanation.explanation import Explanation

__all__ = ["map_drawer", "pair_picture"]


def pair_picture(explanation: Explanation, width: int) -> Image.Image:
    """Return both photos of a similarity side by side, under their maps on one scale.

    Args:
        explanation: of a similarity.
        width: the largest width of the picture in pixels.
    """
    from PIL import Image

    picture = draw_map_sheet(pair_panels(explanation), columns=2)
    picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
    return picture


def map_drawer(encoder: Encoder) -> Callable[[Path, Path], bytes | None]:
    """Return the function that draws the similarity of two photos, for `veduta.evaluation`.

    Args:
        encoder: makes the descriptors.

    Returns:
        A function from the paths of two photos to a JPEG of both under their maps; None if a photo
        cannot be read.

    Raises:
        EncoderError: the descriptor of the encoder cannot be divided among positions.
    """
    require_parts(encoder)

    def draw(photo: Path, other: Path) -> bytes | None:
        try:
            explanation = explain_similarity(encoder, photo, other)
        except PhotoError:
            return None
        return picture_bytes(pair_picture(explanation, PICTURE_WIDTH))

    return draw
