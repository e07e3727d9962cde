"""The photos that the arguments of a command name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from veduta.errors import QueryError, readable

__all__ = ["named_photos"]


def named_photos(arguments: Sequence[Path]) -> list[Path]:
    """Return the photos in the order of the arguments.

    Args:
        arguments: files, and folders for all photos in them.

    Raises:
        QueryError: a folder has no photo.
    """
    from veduta.photos import find_photos

    photos: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            found = [Path(os.fsdecode(photo.path)) for photo in find_photos([argument])]
            if not found:
                raise QueryError(f"{readable(argument)}: no photo in this folder.")
            photos += found
        else:
            photos.append(argument)
    return photos
