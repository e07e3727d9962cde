"""How many queries an evaluation turned, in words."""

from __future__ import annotations

from collections.abc import Mapping

from veduta.photos.orientation import ALL_ORIENTATIONS, Orientation
from veduta.text import count

__all__ = ["turned_note"]


def turned_note(queries: Mapping[Orientation, int]) -> tuple[str, ...]:
    """Return one sentence, or none if all queries were taken as they are.

    Args:
        queries: how many queries were turned how.
    """
    parts = [
        f"{queries[orientation]:,} {orientation.words}"
        for orientation in ALL_ORIENTATIONS
        if orientation.is_turned and queries.get(orientation)
    ]
    if not parts:
        return ()
    return (f"of {count(sum(queries.values()), 'query', 'queries')}: {', '.join(parts)}",)
