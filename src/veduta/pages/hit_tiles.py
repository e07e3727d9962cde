"""Hits as tiles of the result page, with the evidence for each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import PhotoError

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.pages.results_page import ResultTile
    from veduta.search import Box, Hit

_MATCHES_WIDTH = 1200  # pixels
_MATCHES_BYTES = 150_000


def tiles(
    index: Index,
    queries: Sequence[Path],
    hits: Sequence[Hit],
    *,
    pictured: int,
    crop: Box | None = None,
) -> list[ResultTile]:
    """Return the tiles of one query's hits.

    Args:
        index: where they were found.
        queries: the photos that were asked with.
        hits: what was found.
        pictured: of how many verified hits the matches can be looked at.
        crop: the region that was asked for.
    """
    from veduta.pages.results_page import Outline, ResultTile

    verified = [hit.id for hit in hits if hit.evidence and hit.evidence.model][:pictured]
    made = []
    for hit, thumbnail in zip(hits, index.thumbnails(hits), strict=True):
        seen = hit.evidence
        region = seen.region if seen else None
        made.append(
            ResultTile(
                name=hit.name,
                label=hit.label,
                score=hit.score,
                thumbnail=thumbnail or None,
                link=Path(hit.path).resolve().as_uri(),
                verdict=seen.verdict if seen else None,
                inliers=seen.inliers if seen else None,
                outline=Outline(hit.width, hit.height, region) if region else None,
                matches=_matches(index, queries, hit, crop) if hit.id in verified else None,
            )
        )
    return made


def _matches(index: Index, queries: Sequence[Path], hit: Hit, crop: Box | None) -> bytes | None:
    """Return the picture of the matches as JPEG, in the best quality that is small enough."""
    try:
        picture = index.match_picture([*queries], hit, crop=crop, width=_MATCHES_WIDTH)
    except PhotoError:  # gone since it was indexed: its thumbnail is there, the picture is not
        return None
    data = b""
    for quality in (85, 75, 65, 50, 35):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        data = file.getvalue()
        if len(data) <= _MATCHES_BYTES:
            break
    return data
