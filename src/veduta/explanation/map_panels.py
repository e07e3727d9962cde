"""Explanations as panels of a picture or a page."""

from __future__ import annotations

import os
from collections.abc import Sequence

from veduta.explanation.explanation import Explanation
from veduta.explanation.wording import arithmetic, region_of, subject
from veduta.pages.explanation_sheet import MapPanel
from veduta.pages.heat_map import HeatScale

__all__ = ["map_panel", "method_panels", "pair_panels", "photo_panel"]


def photo_panel(explanation: Explanation) -> MapPanel:
    """Return the photo without a map, under its name."""
    return MapPanel(os.path.basename(explanation.photo), (), explanation.pixels)


def map_panel(
    explanation: Explanation, *, title: str | None = None, scale: HeatScale | None = None
) -> MapPanel:
    """Return the photo with its map, its scale, its numbers and a line around the strongest region.

    Args:
        explanation: one of a photo.
        title: above the photo; None: the method.
        scale: None: that of this map alone.
    """
    region = region_of(explanation)
    return MapPanel(
        title=explanation.method if title is None else title,
        lines=[line for line in (subject(explanation), arithmetic(explanation)) if line],
        pixels=explanation.pixels,
        map=explanation.map,
        box=explanation.box,
        scale=scale or HeatScale.of([explanation.map]),
        outlined=None if region is None else region.cells,
    )


def pair_panels(explanation: Explanation) -> list[MapPanel]:
    """Return the panel of a photo, and of a similarity also that of the other, on one scale."""
    if explanation.against is None:
        return [map_panel(explanation)]
    both = [explanation, explanation.against]
    scale = HeatScale.of([one.map for one in both])
    return [
        map_panel(one, title=f"{one.method}: {os.path.basename(one.photo)}", scale=scale)
        for one in both
    ]


def method_panels(explanations: Sequence[Explanation]) -> list[MapPanel]:
    """Return the photo alone, then its map by each method; of a similarity always both photos.

    Args:
        explanations: one or more of the same photo, or of the same two photos.
    """
    first = explanations[0]
    photos = [first] if first.against is None else [first, first.against]
    panels = [photo_panel(one) for one in photos] if len(explanations) > 1 else []
    return panels + [panel for one in explanations for panel in pair_panels(one)]
