"""What a hit looks like on a page: `HitTile` is its content, `templates/hit.html` its form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from veduta.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

    from veduta.search import Box, Hit

__all__ = ["HitTile", "Outline", "SearchedIndex", "hit_tiles"]

_MATCHES_WIDTH = 1200  # pixels
_MAX_MATCHES_BYTES = 150_000
_QUALITIES = (85, 75, 65, 50, 35)


@dataclass(frozen=True, slots=True)
class Outline:
    """A polygon in a photo of `width` × `height` pixels."""

    width: int
    height: int
    corners: Sequence[tuple[float, float]]

    @property
    def points(self) -> str:
        """The corners as SVG writes them."""
        return " ".join(f"{x:.0f},{y:.0f}" for x, y in self.corners)


@dataclass(frozen=True, slots=True)
class HitTile:
    """One hit.

    Attributes:
        name: of the photo; any text, undecodable bytes as Python's surrogate escapes.
        label: of the photo, or None.
        score: higher is better.
        correct: True draws a circle, False a cross, None nothing.
        thumbnail: JPEG bytes; None where there is no picture to show.
        link: a `file:` address to open on a click.
        verdict: "same place", "unsure" or "different"; None without re-ranking.
        reason: what decides the verdict, in a few words.
        inliers: matches that agree; None where the photo was not verified.
        outline: the region of the photo that the query shows too, drawn over the thumbnail.
        matches: JPEG bytes: the query and the photo with their matches.
        copies: paths of the folded copies of the photo.

    Raises:
        ValueError: the link is not a `file:` address.
    """

    name: str
    label: str | None
    score: float
    correct: bool | None = None
    thumbnail: bytes | None = None
    link: str | None = None
    verdict: str | None = None
    reason: str = ""
    inliers: int | None = None
    outline: Outline | None = None
    matches: bytes | None = None
    copies: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.link is not None and not self.link.startswith("file:"):
            raise ValueError(f"{self.link!r} is not a file: address")


class SearchedIndex(Protocol):
    """The part of `veduta.Index` that gives the pictures of hits."""

    def thumbnails(self, hits: Sequence[Hit], /) -> list[bytes]:
        """Return the thumbnail of each hit as JPEG; empty where its row is gone."""

    def match_picture(
        self, query: tuple[Path, ...], hit: Hit, /, *, crop: Box | None, width: int
    ) -> Image.Image:
        """Return a picture of the query and the hit with their matches."""


def hit_tiles(
    index: SearchedIndex,
    queries: Sequence[Path],
    hits: Sequence[Hit],
    *,
    pictures: int,
    crop: Box | None = None,
) -> list[HitTile]:
    """Return the tiles of one query's hits.

    Args:
        index: the index that was searched.
        queries: the photos of the query.
        hits: its hits, best first.
        pictures: how many of the verified hits get a picture of their matches.
        crop: the region of the query that was searched for.
    """
    verified = [hit.id for hit in hits if hit.evidence and hit.evidence.model][:pictures]
    tiles = []
    for hit, thumbnail in zip(hits, index.thumbnails(hits), strict=True):
        evidence = hit.evidence
        region = evidence.region if evidence else None
        tiles.append(
            HitTile(
                name=hit.name,
                label=hit.label,
                score=hit.score,
                thumbnail=thumbnail or None,
                link=Path(hit.path).resolve().as_uri(),
                verdict=evidence.verdict if evidence else None,
                reason=evidence.reason if evidence else "",
                inliers=evidence.inliers if evidence else None,
                outline=Outline(hit.width, hit.height, region) if region else None,
                matches=_matches(index, queries, hit, crop) if hit.id in verified else None,
                copies=hit.copies or (),
            )
        )
    return tiles


def _matches(
    index: SearchedIndex, queries: Sequence[Path], hit: Hit, crop: Box | None
) -> bytes | None:
    """Return the picture of the matches as JPEG, in the best quality that is small enough."""
    try:
        picture = index.match_picture(tuple(queries), hit, crop=crop, width=_MATCHES_WIDTH)
    except PhotoError:  # The photo is gone since it was indexed; its thumbnail is still there.
        return None
    jpeg = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        jpeg = file.getvalue()
        if len(jpeg) <= _MAX_MATCHES_BYTES:
            break
    return jpeg
