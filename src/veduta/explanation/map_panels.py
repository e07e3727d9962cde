"""Explanations as panels of a picture or a page."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veduta.explanation.explanation import Explanation
from veduta.explanation.wording import arithmetic, region_of, region_share, subject
from veduta.pages.explanation_sheet import MapPanel
from veduta.pages.heat_map import HeatScale

__all__ = ["heading", "map_panel", "method_panels", "pair_panels", "photo_panel"]


def heading(explanations: Sequence[Explanation]) -> str:
    """Return the names of the photos that the maps lie over, without their folders.

    Args:
        explanations: one or more of the same photo, or of the same two photos.
    """
    both = (explanations[0], explanations[0].against)
    return " and ".join(os.path.basename(one.photo) for one in both if one is not None)


def photo_panel(explanation: Explanation) -> MapPanel:
    """Return the photo without a map, under its name."""
    return MapPanel(os.path.basename(explanation.photo), (), explanation.pixels)


def map_panel(
    explanation: Explanation, *, title: str | None = None, scale: HeatScale | None = None
) -> MapPanel:
    """Return the photo with its map, its scale, its numbers and a line around a region.

    The region is the one that was asked for, or else the strongest one.

    Args:
        explanation: one of a photo.
        title: above the photo; None: the method.
        scale: None: that of this map alone.
    """
    numbers = arithmetic(explanation)
    has_subject = explanation.class_name is None and numbers  # which ends in the similarity
    what = "" if has_subject else subject(explanation)
    sentences = (what, numbers, region_share(explanation))
    return MapPanel(
        title=explanation.method if title is None else title,
        lines=[line for line in sentences if line],
        pixels=explanation.pixels,
        map=explanation.map,
        box=explanation.box,
        scale=scale or HeatScale.of([explanation.map]),
        outlined=_outlined(explanation),
    )


def pair_panels(explanation: Explanation) -> list[MapPanel]:
    """Return the panel of a photo, and of a similarity also that of the other, on one scale.

    What answers to a region has its own scale, because it is a small part of the similarity.

    Args:
        explanation: of a photo, with or without `against`.
    """
    if explanation.against is None:
        return [map_panel(explanation)]
    both = [explanation, explanation.against]
    titles = [f"{one.method}: {os.path.basename(one.photo)}" for one in both]
    if explanation.region is None:
        scale = HeatScale.of([one.map for one in both])
    else:
        scale = None
        titles[1] = f"answers to the region: {os.path.basename(explanation.against.photo)}"
    return [
        map_panel(one, title=title, scale=scale) for one, title in zip(both, titles, strict=True)
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


def _outlined(explanation: Explanation) -> NDArray[np.bool_] | None:
    """Return the region that was asked for, in pixels of the box, or the strongest positions."""
    if explanation.region is None:
        strongest = region_of(explanation)
        return None if strongest is None else strongest.cells
    x, y, width, height = explanation.region
    left, top, box_width, box_height = explanation.box
    mask = np.zeros((box_height, box_width), np.bool_)
    mask[max(y - top, 0) : y + height - top, max(x - left, 0) : x + width - left] = True
    return mask
