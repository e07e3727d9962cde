"""The photos that an argument names: a photo, or a folder for all in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from veduta.errors import QueryError, readable


def photos_in(names: Sequence[Path]) -> list[Path]:
    """Return the photos, in order.

    Raises:
        QueryError: a folder holds none.
    """
    from veduta.photos import find_photos

    photos: list[Path] = []
    for name in names:
        if name.is_dir():
            inside = [Path(os.fsdecode(found.path)) for found in find_photos([name])]
            if not inside:
                raise QueryError(f"{readable(name)}: no photo in this folder.")
            photos += inside
        else:
            photos.append(name)
    return photos
