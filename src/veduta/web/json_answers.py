"""Photos and hits as JSON. Paths and labels are text that any client can show."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.errors import readable
from veduta.index import IndexedPhoto
from veduta.search import Hit
from veduta.search.hit import Polygon

if TYPE_CHECKING:
    from veduta.explanation import Explanation

__all__ = ["explanation_json", "hit_json", "photo_json"]

_SCALE_COLOURS = 17


def photo_json(photo: IndexedPhoto) -> dict[str, Any]:
    """Return a photo as `PhotoAnswer` describes it."""
    return {
        "id": photo.id,
        "path": readable(photo.path),
        "name": readable(os.path.basename(photo.path)),
        "label": photo.label,
        "width": photo.width,
        "height": photo.height,
        "taken": photo.taken.isoformat() if photo.taken else None,
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    """Return a hit as `FoundPhoto` describes it."""
    fields = hit.as_json()
    evidence = ("probability", "verdict", "reason", "inliers", "matches", "model", "spread")
    regions = ("region", "query_region", "found_in")
    return {
        **dict.fromkeys((*evidence, *regions)),
        **fields,
        "id": hit.id,
        "path": readable(hit.path),
        "name": readable(hit.name),
        "box": _box_around(fields.get("region")) or fields.get("found_in"),
        "copy_of": None if hit.copy_of is None else readable(hit.copy_of),
        "copies": None if hit.copies is None else [readable(path) for path in hit.copies],
    }


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """Return both maps of a similarity as `ExplanationAnswer` describes them."""
    from veduta.pages.heat_map import HeatScale

    against = explanation.against
    assert against is not None  # noqa: S101 - that of a similarity has both
    scale = HeatScale.of([explanation.map, against.map])
    colours = scale.colours(np.linspace(scale.low, scale.high, _SCALE_COLOURS))
    return {
        **_map_json(explanation),
        "against": _map_json(against),
        "scale": {
            "low": scale.low,
            "high": scale.high,
            "colours": [
                "#" + bytes(rgb).hex() for rgb in colours.round().astype(np.uint8).tolist()
            ],
            "texts": scale.texts,
        },
    }


def _map_json(explanation: Explanation) -> dict[str, Any]:
    from veduta.explanation.wording import strongest

    height, width = explanation.pixels.shape[:2]
    return {
        **explanation.as_json(),
        "map": explanation.map.round(6).tolist(),
        "size": [width, height],
        "strongest": strongest(explanation),
    }


def _box_around(region: Polygon | None) -> list[float] | None:
    if not region:
        return None
    x, y = zip(*region, strict=True)
    return [min(x), min(y), round(max(x) - min(x), 1), round(max(y) - min(y), 1)]
