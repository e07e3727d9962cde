"""The exact map of a scalar product with a descriptor, as an explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veduta.explanation.explanation import Explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.encoders.descriptor_parts import DescriptorParts

__all__ = ["exact_map"]

_METHOD = "shares"

_MAX_GAP = 1e-5
"""How far sum and constant may be from what they explain before a note says so."""


def exact_map(
    photo: str,
    pixels: NDArray[np.uint8],
    parts: DescriptorParts,
    direction: NDArray[np.floating],
    *,
    constant: float = 0.0,
    similarity: float | None = None,
    class_name: str | None = None,
    score: float | None = None,
) -> Explanation:
    """Return the map of `parts.descriptor @ direction + constant`, without the time that it took.

    Args:
        photo: name of the photo.
        pixels: (h, w, 3) uint8 RGB of the photo.
        parts: of its descriptor.
        direction: (d,) the vector.
        constant: what is added to the product.
        similarity: what the map explains, or None.
        class_name: the class whose score the map explains, or None.
        score: of that class, or None.
    """
    shares = parts.map(direction)
    constant += parts.constant_of(direction)
    explained = similarity if score is None else score
    notes = []
    rows, columns = pixels.shape[:2]
    if parts.box != (0, 0, columns, rows):
        notes.append(
            f"The network gets only the centre of the photo, {parts.box[2]} × {parts.box[3]} of "
            f"{columns} × {rows} pixels; the rest adds nothing."
        )
    gap = abs(float(shares.sum(dtype=float)) + constant - (explained or 0.0))
    if gap > _MAX_GAP * max(1.0, abs(explained or 0.0)):
        notes.append(
            f"Map and constant differ from what they explain by {gap:.1g}, because numbers of the "
            "network or of the descriptor were rounded."
        )
    return Explanation(
        photo=photo,
        pixels=pixels,
        map=shares,
        box=parts.box,
        method=_METHOD,
        layer=parts.layer,
        similarity=similarity,
        class_name=class_name,
        score=score,
        constant=constant,
        notes=tuple(notes),
    )
