"""The similarity of two photos, explained by the method that the user asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from veduta.encoders.descriptor_parts import has_parts
from veduta.errors import QueryError
from veduta.explanation.methods import METHODS, method_for
from veduta.explanation.perturbation import explain_by_perturbation
from veduta.explanation.scorers import similarity_scorer
from veduta.explanation.similarity import explain_similarity
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    from veduta.encoders import Encoder, Projection
    from veduta.explanation.explanation import Explanation
    from veduta.explanation.methods import Method
    from veduta.search import Box, PhotoSource

__all__ = ["explain_pair"]


def explain_pair(
    encoder: Encoder,
    photo: PhotoSource,
    other: PhotoSource,
    *,
    method: str | None = None,
    projection: Projection | None = None,
    region: Box | None = None,
    at_least: int | None = None,
    name: str | None = None,
    other_name: str | None = None,
) -> Explanation:
    """Explain the similarity of two photos.

    Args:
        encoder: makes the descriptors.
        photo: a path, or an (H, W, 3) uint8 RGB array, upright.
        other: the other photo, likewise.
        method: one of `veduta.explanation.METHODS` that explains a similarity. None: "shares", or
            "occlusion" where the encoder's descriptor cannot be divided among positions.
        projection: of the index, or None.
        region: x, y, width, height in pixels of the upright photo: which part of the other photo
            answers to it. Only for "shares".
        at_least: long side in pixels that photos keep when they are decoded; None: that of the
            encoder.
        name: of the photo; None: its path.
        other_name: of the other photo; None: its path.

    Returns:
        The map over the photo. Its `against` is the map over the other photo.

    Raises:
        PhotoError: a photo cannot be read.
        EncoderError: the encoder cannot be explained by that method.
        QueryError: the method is unknown or does not explain the similarity of this encoder, or the
            region is not within the photo.
    """
    at_least = at_least or encoder.long_side
    name = name or photo_name(photo, "the photo")
    other_name = other_name or photo_name(other, "the other photo")
    chosen = _method(method, encoder)
    if chosen.name == "shares":
        return explain_similarity(
            encoder,
            photo,
            other,
            projection=projection,
            region=region,
            at_least=at_least,
            name=name,
            other_name=other_name,
        )
    if region is not None:
        raise QueryError(f"A region is explained by the method shares, not by {chosen.name}.")
    photos = [read_photo(source, at_least).pixels for source in (photo, other)]
    descriptors = encoder.encode([encoder.prepare(pixels) for pixels in photos])
    if projection is not None:
        descriptors = projection.apply(descriptors)
    maps = [
        explain_by_perturbation(
            chosen.name,
            similarity_scorer(encoder, descriptors[1 - number], projection),
            photos[number],
            photo=(name, other_name)[number],
            long_side=encoder.long_side,
        )
        for number in (0, 1)
    ]
    notes = maps[0].notes
    if method is None:
        notes += (
            f"The descriptor of encoder '{encoder.name}' cannot be divided among the positions of "
            f"the photo, so the method is {chosen.name}.",
        )
    return replace(maps[0], notes=notes, against=maps[1])


def _method(name: str | None, encoder: Encoder) -> Method:
    """Return the method of a name, or the default one for the encoder."""
    if name is None:
        return METHODS["shares" if has_parts(encoder) else "occlusion"]
    method = method_for(name, "similarity")
    if method.needs_torch:
        raise QueryError(
            f"The method {method.name} explains the similarity of a trained network: name the "
            "folder of its run as the model. Methods for an encoder: shares, occlusion, rise."
        )
    return method
