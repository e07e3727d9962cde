"""Why a search found a hit: the similarity of the query and of the indexed photo, explained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError
from veduta.explanation.pairs import explain_pair
from veduta.search import exact
from veduta.search.hit_matches import row_of_hit
from veduta.search.query import check_region, photo_name, read_photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veduta.explanation.explanation import Explanation
    from veduta.photos.orientation import Orientation
    from veduta.search import Box, Hit, PhotoSource
    from veduta.search.engine import Engine

__all__ = ["explain_hit"]

_MAX_DIFFERENCE = 0.01
"""Of the similarity of a hit from that of the two files. An index rounds descriptors to 16 bits,
which changes a similarity by less than 0.001."""


def explain_hit(
    engine: Engine,
    queries: Sequence[PhotoSource],
    hit: Hit,
    *,
    method: str | None = None,
    region: Box | None = None,
    crop: Box | None = None,
) -> Explanation:
    """Explain the similarity of a query and one of its hits.

    A query that was turned is explained as it was turned. Its map, its pixels and its regions are
    those of the query as it was given.

    Args:
        engine: that found the hit.
        queries: the photos of the query. Of several photos the one that is most similar to the hit
            is explained.
        hit: one of the hits.
        method: as for `explain_pair`.
        region: x, y, width, height in pixels of the query as it was given, upright by its Exif:
            which part of the hit answers to it. It lies within `crop` if there is one.
        crop: the region that was searched for. Only this region is explained.

    Returns:
        The map over the query. Its `against` is the map over the hit.

    Raises:
        PhotoError: a photo cannot be read (any more).
        EncoderError: the encoder of the index cannot be explained by that method.
        QueryError: the hit is not in the index (any more), the method does not explain a
            similarity, or a region is not within the query.
    """
    state = engine.state
    row = row_of_hit(state.snapshot, hit)
    turn = hit.orientation

    def similarity(query: PhotoSource) -> float:
        encoded = engine.encode_query([query], crop=crop, rerank="none", orientation=turn)
        descriptor = encoded.descriptor
        return float(exact.score(state.snapshot, descriptor, np.array([row]))[0])

    query = queries[0] if len(queries) == 1 else max(queries, key=similarity)
    extractor = engine.extractor
    # As `Engine.read_photo` and the index decode photos.
    at_least = max(engine.encoder.long_side, extractor.long_side if extractor else 0)
    region = _within(region, crop)
    source = query
    if crop is not None or turn.is_turned:
        # A region is in pixels of the full size.
        photo = read_photo(query, at_least if region is None else None, crop)
        source = photo.turned(turn).pixels
        if region is not None:
            check_region(region, photo.width, photo.height)
            region = turn.box(region, photo.width, photo.height)
    explanation = explain_pair(
        engine.encoder,
        source,
        hit.path,
        method=method,
        projection=state.projection,
        region=region,
        at_least=at_least,
        name=photo_name(query, "the query"),
    )
    explanation = _turned_back(explanation, turn)
    notes = list(explanation.notes)
    if turn.is_turned:
        notes.append(f"The query was {turn.words} to be compared.")
    if len(queries) > 1:
        notes.append("Of the photos of the query this is the one that is most similar to the hit.")
    elif abs(hit.similarity - (explanation.similarity or 0.0)) > _MAX_DIFFERENCE:
        notes.append(
            f"The search found the similarity {hit.similarity:.3f}, but the two photos have "
            f"{explanation.similarity:.3f} now. A file has changed since it was indexed, or the "
            "query is another one."
        )
    return replace(explanation, notes=tuple(notes))


def _turned_back(explanation: Explanation, turn: Orientation) -> Explanation:
    """Return the explanation of a turned photo as one of the photo as it was given."""
    height, width = explanation.pixels.shape[:2]
    back, region = turn.inverse, explanation.region
    return replace(
        explanation,
        pixels=back.apply(explanation.pixels),
        map=back.apply(explanation.map),
        box=back.box(explanation.box, width, height),
        region=None if region is None else back.box(region, width, height),
    )


def _within(region: Box | None, crop: Box | None) -> Box | None:
    """Return a region of a photo in pixels of the part that was searched for."""
    if region is None or crop is None:
        return region
    x, y, width, height = region
    left, top = x - crop[0], y - crop[1]
    if left < 0 or top < 0 or left + width > crop[2] or top + height > crop[3]:
        raise QueryError(
            f"The region {x},{y},{width},{height} is not within the part of the photo that was "
            f"searched for, {','.join(map(str, crop))}."
        )
    return left, top, width, height
