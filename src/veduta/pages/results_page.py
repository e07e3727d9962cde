"""The page of results: queries with their ranked photos, as one HTML file that needs nothing else.

Photos are inside the file, there are no scripts, and names are escaped, so that the file can be
mailed and opened anywhere. The same `ResultRow` draws the picture in `contact_sheet`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from veduta.files import write_text
from veduta.pages.html import environment

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "Figure",
    "GalleryPage",
    "Outline",
    "ResultRow",
    "ResultTile",
    "Table",
    "write_page",
]


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
class ResultTile:
    """One answer.

    `name`
        what to call the photo; any text, undecodable bytes as Python's surrogate escapes.
    `score`
        higher is nearer.
    `correct`
        True draws a circle, False a cross, None nothing.
    `thumbnail`
        JPEG bytes; None when there is no picture to show.
    `link`
        a `file:` address to open on a click; no other kind is taken.
    `verdict`
        "same place", "unsure" or "different"; None where nobody asked.
    `inliers`
        matches that agree; None where the photo was not verified.
    `outline`
        what of the photo the query shows too, drawn over the thumbnail.
    `matches`
        JPEG bytes: the query and the photo with their matches.
    """

    name: str
    label: str | None
    score: float
    correct: bool | None = None
    thumbnail: bytes | None = None
    link: str | None = None
    verdict: str | None = None
    inliers: int | None = None
    outline: Outline | None = None
    matches: bytes | None = None

    def __post_init__(self) -> None:
        if self.link is not None and not self.link.startswith("file:"):
            raise ValueError(f"{self.link!r} is not a file: address")


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One query and its answers, nearest first. `photo` is JPEG; `note` is a line below it."""

    name: str
    label: str | None
    photo: bytes | None
    tiles: Sequence[ResultTile]
    note: str = ""

    def bar(self, tile: ResultTile) -> float | None:
        """Return how much of its bar the tile fills, in [0, 1]; None where no bar makes sense.

        The full length is 1, or the row's best if that is more. Negated distances have no natural
        full length, so a row without a positive score gets no bars.
        """
        best = max(other.score for other in self.tiles)
        if not 0.0 < best < math.inf:
            return None
        return max(0.0, tile.score / max(1.0, best))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value in [0, 1] with its interval, and what it says."""

    name: str
    value: float
    interval: tuple[float, float] | None = None
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the row, a float is a share in [0, 1]."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]


@dataclass(frozen=True, slots=True)
class GalleryPage:
    """What stands above the rows. `marked`: explain the circle and the cross."""

    title: str
    subtitle: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    marked: bool = False


def write_page(file: str | os.PathLike[str], page: GalleryPage, rows: Iterable[ResultRow]) -> None:
    """Write the page to `file`, one row at a time, so that memory holds one row's photos.

    The file appears complete or not at all: an older one stays until then.

    Raises `OSError` when it cannot be written.
    """
    write_text(file, _template().generate(page=page, rows=rows))


@cache
def _template() -> Template:
    return environment().get_template("results.html")
