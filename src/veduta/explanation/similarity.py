"""Maps of a similarity: what each region of two photos adds to the cosine of their descriptors.

The maps are exact. A descriptor is a sum over positions and a constant
(`veduta.encoders.descriptor_parts`), so its product with the descriptor of the other photo is one,
too. The product of the parts of two positions, one in each photo, says how much this pair adds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.descriptor_parts import descriptor_parts, require_parts
from veduta.explanation.exact_map import exact_map
from veduta.explanation.regions import covered_positions
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders import Encoder, Projection
    from veduta.encoders.descriptor_parts import DescriptorParts
    from veduta.explanation.explanation import Explanation
    from veduta.search.query import Box, PhotoSource, QueryPhoto

__all__ = ["explain_similarity"]


def explain_similarity(
    encoder: Encoder,
    photo: PhotoSource,
    other: PhotoSource,
    *,
    projection: Projection | None = None,
    region: Box | None = None,
    at_least: int | None = None,
    name: str | None = None,
    other_name: str | None = None,
) -> Explanation:
    """Return the map over a photo of its similarity to another, with the other's map as `against`.

    With a region, the map of `against` is what answers to it in the other photo: position j has the
    sum over the positions i of the region of what the pair i, j adds. A position that the region
    covers in part counts by the covered share of its area, and the region has a share, by area, of
    what belongs to no position of its photo. What the rest of the photo adds is in the constant of
    `against`. So the maps of regions that make up the photo add up to the map without a region. A
    position of a feature map has seen its surroundings, not only its own area.

    Args:
        encoder: of both photos.
        photo: a path or an (H, W, 3) uint8 RGB array, upright.
        other: the other photo.
        projection: of the descriptors, as an index may have one.
        region: x, y, width, height in pixels of the full-size upright `photo`.
        at_least: long side in pixels that the photos keep when they are decoded at a reduced size;
            None: what the encoder needs.
        name: of the photo; None: its path, or "the photo".
        other_name: of the other photo; None: its path, or "the other photo".

    Raises:
        PhotoError: a photo cannot be read.
        QueryError: an array is no photo, or the region is not within the photo, or outside the part
            of it that the network gets.
        EncoderError: the encoder's descriptors are no sums over positions (the message names the
            methods that work), the projection is not for them, or the network fails.
    """
    start = time.perf_counter()
    require_parts(encoder)
    own, against = (
        _described(source, encoder, at_least or encoder.long_side, projection)
        for source in (photo, other)
    )
    explanation = own.explained_by(against, name or photo_name(photo, "the photo"))
    answer = against.explained_by(own, other_name or photo_name(other, "the other photo"))
    if region is not None:
        pixels_region, covered = covered_positions(region, own.read, own.parts)
        region_vector = own.parts.of_positions(covered)
        region_share = float(region_vector @ against.descriptor)
        rest = float((own.descriptor - region_vector) @ against.descriptor)
        answer = replace(
            answer,
            map=against.parts.map(region_vector),
            constant=against.parts.constant_of(region_vector) + rest,
        )
        explanation = replace(explanation, region=pixels_region, region_share=region_share)
    seconds = time.perf_counter() - start
    return replace(explanation, against=replace(answer, seconds=seconds), seconds=seconds)


def _described(
    photo: PhotoSource, encoder: Encoder, long_side: int, projection: Projection | None
) -> _DescribedPhoto:
    read = read_photo(photo, long_side)
    parts = descriptor_parts(encoder, read.pixels)
    return _DescribedPhoto(read, parts.projected(projection) if projection else parts)


@dataclass(frozen=True, slots=True, eq=False)
class _DescribedPhoto:
    """One of the two photos, and the parts of its descriptor."""

    read: QueryPhoto
    parts: DescriptorParts

    @property
    def descriptor(self) -> NDArray[np.float64]:
        return self.parts.descriptor.astype(np.float64)

    def explained_by(self, other: _DescribedPhoto, name: str) -> Explanation:
        """Return the map of the similarity to another photo, without the time that it took."""
        similarity = float(self.descriptor @ other.descriptor)
        return exact_map(
            name, self.read.pixels, self.parts, other.descriptor, similarity=similarity
        )
