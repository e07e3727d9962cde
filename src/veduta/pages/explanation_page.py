"""The page of explanations: photos under their heat maps, as one HTML file without scripts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.pages.explanation_sheet import MapPanel
from veduta.pages.heat_map import HeatScale
from veduta.pages.html import write_page
from veduta.photos import thumbnail

__all__ = ["ExplanationPage", "ExplanationSection", "MethodRow", "write_explanation_page"]

_SIDE = 640
"""Long side of a picture, in pixels."""

_GRADIENT_STEPS = 17


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One row of the table below the maps.

    Attributes:
        method: its name.
        strongest: where the map is strongest, in words.
        arithmetic: how the numbers add up; empty where they do not.
        seconds: that the map took.
        about: what the method computes, and its source.
        notes: sentences on what the reader should know.
    """

    method: str
    strongest: str
    arithmetic: str
    seconds: float
    about: str
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ExplanationSection:
    """The maps of one photo, or of two photos.

    Attributes:
        heading: such as the name of the photo.
        subject: what the maps explain.
        panels: the photos with their maps.
        rows: one for each method.
    """

    heading: str
    subject: str
    panels: Sequence[MapPanel]
    rows: Sequence[MethodRow]

    @property
    def photos(self) -> list[NDArray[np.uint8]]:
        """The different photos of the panels."""
        return list({id(panel.pixels): panel.pixels for panel in self.panels}.values())

    def photo_number(self, panel: MapPanel) -> int:
        """Return which of `photos` a panel shows."""
        return next(at for at, pixels in enumerate(self.photos) if pixels is panel.pixels)


@dataclass(frozen=True, slots=True)
class ExplanationPage:
    """The content of the page.

    Attributes:
        title: the heading.
        sections: the photos. Memory holds the pictures of one section at a time.
        subtitle: a line below the title.
    """

    title: str
    sections: Iterable[ExplanationSection]
    subtitle: str = ""

    def photo(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return a photo as a small JPEG."""
        return thumbnail(pixels, _SIDE)

    def picture(self, panel: MapPanel) -> bytes:
        """Return a photo under its map as a small JPEG."""
        height, width = panel.pixels.shape[:2]
        scale = _SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return thumbnail(np.asarray(panel.picture(size)), _SIDE)

    def gradient(self, scale: HeatScale) -> str:
        """Return the colours of a scale as CSS."""
        colours = ("#" + bytes(rgb).hex() for rgb in scale.over_grey(_GRADIENT_STEPS).tolist())
        return f"linear-gradient(to right, {', '.join(colours)})"


def write_explanation_page(file: str | os.PathLike[str], page: ExplanationPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "explanation.html", page)
