"""What a hit looks like on a page: `HitTile` is its content, `templates/hit.html` its form."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from veduta.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

    from veduta.search import Box, Hit

__all__ = ["PICTURE_WIDTH", "HitTile", "Outline", "SearchedIndex", "hit_tiles", "picture_bytes"]

PICTURE_WIDTH = 1200
"""Pixels of the width of a picture of a query and a hit."""

_MAX_PICTURE_BYTES = 150_000
_QUALITIES = (85, 75, 65, 50, 35)


@dataclass(frozen=True, slots=True)
class Outline:
    """A polygon in a photo of `width` × `height` pixels."""

    width: int
    height: int
    corners: Sequence[tuple[float, float]]

    @classmethod
    def of(
        cls,
        width: int,
        height: int,
        region: Sequence[tuple[float, float]] | None,
        found_in: Sequence[int] | None,
    ) -> Self | None:
        """Return where a hit shows what the query shows. None: it is not known.

        Args:
            width: of the photo, in pixels.
            height: of the photo, in pixels.
            region: corners, by geometry. None: the geometry shows none.
            found_in: x, y, width, height of the region by which the hit was found, or None.
        """
        if not region and found_in:
            x, y, wide, high = found_in
            region = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
        return cls(width, height, region) if region else None

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
        outline: the region of the photo that the query shows too, drawn over the thumbnail, see
            `Outline.of`.
        matches: JPEG bytes: the query and the photo with their matches.
        map: JPEG bytes: the query and the photo with the map of their similarity.
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
    map: bytes | None = None
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

    def map_picture(
        self, query: tuple[Path, ...], hit: Hit, /, *, crop: Box | None, width: int
    ) -> Image.Image:
        """Return a picture of the query and the hit with the map of their similarity."""


def hit_tiles(
    index: SearchedIndex,
    queries: Sequence[Path],
    hits: Sequence[Hit],
    *,
    pictures: int,
    maps: int = 0,
    crop: Box | None = None,
) -> list[HitTile]:
    """Return the tiles of one query's hits.

    Args:
        index: the index that was searched.
        queries: the photos of the query.
        hits: its hits, best first.
        pictures: how many of the verified hits get a picture of their matches.
        maps: how many of the first hits get a picture of the map of their similarity.
        crop: the region of the query that was searched for.
    """
    verified = [hit.id for hit in hits if hit.evidence and hit.evidence.model][:pictures]
    tiles = []
    for rank, (hit, thumbnail) in enumerate(zip(hits, index.thumbnails(hits), strict=True)):
        evidence = hit.evidence
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
                outline=Outline.of(hit.width, hit.height, evidence.region, evidence.found_in)
                if evidence
                else None,
                matches=_picture(index.match_picture, queries, hit, crop)
                if hit.id in verified
                else None,
                map=_picture(index.map_picture, queries, hit, crop) if rank < maps else None,
                copies=hit.copies or (),
            )
        )
    return tiles


def _picture(
    draw: Callable[..., Image.Image], queries: Sequence[Path], hit: Hit, crop: Box | None
) -> bytes | None:
    """Return a picture of the query and the hit as JPEG, or None if a photo is gone."""
    try:
        picture = draw(tuple(queries), hit, crop=crop, width=PICTURE_WIDTH)
    except PhotoError:  # The photo is gone since it was indexed; its thumbnail is still there.
        return None
    return picture_bytes(picture)


def picture_bytes(picture: Image.Image) -> bytes:
    """Return a picture as JPEG, in the best quality that is small enough for a page.

    Args:
        picture: of at most `PICTURE_WIDTH` pixels of width.
    """
    jpeg = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        jpeg = file.getvalue()
        if len(jpeg) <= _MAX_PICTURE_BYTES:
            break
    return jpeg
