"""Photos and hits as JSON. Paths and labels are text that any client can show."""

from __future__ import annotations

import os
from typing import Any

from veduta.errors import readable
from veduta.index import IndexedPhoto
from veduta.search import Hit
from veduta.search.hit import Polygon

__all__ = ["hit_json", "photo_json"]


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
    regions = ("region", "query_region")
    return {
        **dict.fromkeys((*evidence, *regions)),
        **fields,
        "id": hit.id,
        "path": readable(hit.path),
        "name": readable(hit.name),
        "box": _box_around(fields.get("region")),
        "copy_of": None if hit.copy_of is None else readable(hit.copy_of),
        "copies": None if hit.copies is None else [readable(path) for path in hit.copies],
    }


def _box_around(region: Polygon | None) -> list[float] | None:
    if not region:
        return None
    x, y = zip(*region, strict=True)
    return [min(x), min(y), round(max(x) - min(x), 1), round(max(y) - min(y), 1)]
