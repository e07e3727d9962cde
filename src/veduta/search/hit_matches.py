"""The picture of a query and a hit with their matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from veduta import photos
from veduta.errors import QueryError, readable
from veduta.index import row_of_photo
from veduta.keypoints import draw_matches, extract_reduced, verify
from veduta.search.engine import Engine
from veduta.search.hit import Hit
from veduta.search.pair import PICTURE_SIDE
from veduta.search.query import Box, PhotoSource

if TYPE_CHECKING:
    from PIL import Image

    from veduta.index import Snapshot

__all__ = ["draw_hit_matches", "row_of_hit"]


def row_of_hit(snapshot: Snapshot, hit: Hit) -> int:
    """Return the row of a hit in the newest version of the index.

    Args:
        snapshot: of the index.
        hit: one that a search returned.

    Raises:
        QueryError: the hit is not in the index (any more).
    """
    row = row_of_photo(snapshot, hit.id)
    if row is None:
        raise QueryError(f"{readable(hit.path)}: not in the index any more; search again.")
    return row


def draw_hit_matches(
    engine: Engine,
    queries: Sequence[PhotoSource],
    hit: Hit,
    *,
    crop: Box | None = None,
    width: int = 1600,
) -> Image.Image:
    """Draw the query and a hit with their inliers. The query is drawn as it was turned.

    Args:
        engine: that found the hit.
        queries: the photos of the query. The photo with the most consistent matches is drawn. The
            evidence for the hit is from this photo too.
        hit: one of the hits.
        crop: the region that was searched for. Only this region is drawn.
        width: the largest width of the picture in pixels, at least 200.

    Raises:
        PhotoError: a photo cannot be read (any more).
        QueryError: the index has no keypoints, or the hit is not in it (any more).
    """
    extractor, gallery = engine.extractor, engine.state.gallery
    if extractor is None or gallery.keypoints is None:
        raise QueryError("This index has no keypoints, so there are no matches to draw.")
    stored = gallery.keypoints.read(row_of_hit(gallery.snapshot, hit))
    candidates = []
    for query in queries:
        photo = engine.read_photo(query, crop).turned(hit.orientation)
        size = photo.width, photo.height
        views = [extractor.extract(photo.pixels, *size)]
        if hit.evidence and hit.evidence.found_in:
            views.append(extract_reduced(extractor, photo.pixels, *size))
        for keypoints in views:
            pairs = extractor.matching.pairs(keypoints, stored)
            candidates.append((photo.pixels, keypoints, pairs, verify(keypoints, stored, pairs)))
    pixels, keypoints, pairs, verification = max(
        candidates, key=lambda candidate: candidate[3].consistent_matches
    )
    hit_pixels = photos.load(hit.path, at_least=PICTURE_SIDE, accept_truncated=True).pixels
    return draw_matches(
        pixels,
        hit_pixels,
        keypoints,
        stored,
        verification,
        matches=pairs,
        width=width,
        note=f"query {hit.orientation.words}" if hit.orientation.is_turned else "",
    )
