"""Why a search found a hit: the similarity of the query and of the indexed photo, explained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError
from veduta.explanation.pairs import explain_pair
from veduta.search import exact
from veduta.search.hit_matches import row_of_hit
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veduta.explanation.explanation import Explanation
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

    Args:
        engine: that found the hit.
        queries: the photos of the query. Of several photos the one that is most similar to the hit
            is explained.
        hit: one of the hits.
        method: as for `explain_pair`.
        region: x, y, width, height in pixels of the upright query: which part of the hit answers
            to it. It lies within `crop` if there is one.
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

    def similarity(query: PhotoSource) -> float:
        descriptor = engine.encode_query([query], crop=crop, rerank="none").descriptor
        return float(exact.score(state.snapshot, descriptor, np.array([row]))[0])

    query = queries[0] if len(queries) == 1 else max(queries, key=similarity)
    extractor = engine.extractor
    explanation = explain_pair(
        engine.encoder,
        query if crop is None else read_photo(query, None, crop).pixels,
        hit.path,
        method=method,
        projection=state.projection,
        region=_within(region, crop),
        # As `Engine.read_photo` and the index decode photos.
        at_least=max(engine.encoder.long_side, extractor.long_side if extractor else 0),
        name=photo_name(query, "the query"),
    )
    notes = list(explanation.notes)
    if len(queries) > 1:
        notes.append("Of the photos of the query this is the one that is most similar to the hit.")
    elif abs(hit.similarity - (explanation.similarity or 0.0)) > _MAX_DIFFERENCE:
        notes.append(
            f"The search found the similarity {hit.similarity:.3f}, but the two photos have "
            f"{explanation.similarity:.3f} now. A file has changed since it was indexed, or the "
            "query is another one."
        )
    return replace(explanation, notes=tuple(notes))


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
