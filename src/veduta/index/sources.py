"""The folders and single photos that an index knows, and what it means that one is not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from veduta.errors import PhotoUnreadable
from veduta.text import count, veduta_command

__all__ = [
    "away",
    "empty",
    "folders_above",
    "folders_with_photos",
    "is_away",
    "is_gone",
    "single_photos",
]


def folders_above(path: bytes) -> Iterator[bytes]:
    """Yield a path, the folder that holds it, the folder above that, and so on.

    Args:
        path: absolute.
    """
    yield path
    while (folder := os.path.dirname(path)) != path:
        path = folder
        yield path


def folders_with_photos(paths: Iterable[bytes]) -> set[bytes]:
    """Return every folder in which one of the paths lies, at any depth.

    Args:
        paths: of photos, absolute.
    """
    holders = {os.path.dirname(path) for path in paths}
    return {folder for holder in holders for folder in folders_above(holder)}


def is_away(folder: Path) -> bool:
    """Tell whether there is no folder in this place. One that cannot be read is there.

    Args:
        folder: that was indexed.
    """
    try:
        return not folder.is_dir()
    except OSError:
        return False


def single_photos(paths: Iterable[bytes], folders: Iterable[str]) -> list[bytes]:
    """Return the paths that lie in none of the folders: they were indexed singly.

    Args:
        paths: of all rows of the index.
        folders: that the index knows.
    """
    known = {os.fsencode(folder) for folder in folders}
    inside: dict[bytes, bool] = {}
    singles = []
    for path in paths:
        holder = os.path.dirname(path)
        if holder not in inside:
            inside[holder] = not known.isdisjoint(folders_above(holder))
        if not inside[holder]:
            singles.append(path)
    return singles


def is_gone(photo: bytes) -> bool:
    """Tell whether a photo that was indexed singly was deleted.

    If its folder is missing or empty, the disk may not be connected, so it counts as there.

    Args:
        photo: its path.
    """
    try:
        return not os.path.lexists(photo) and bool(os.listdir(os.path.dirname(photo)))
    except OSError:
        return False


def away(folder: Path, photos: int, index: Path) -> PhotoUnreadable:
    """Return the error for a folder that is not there, while the index has photos from it.

    Args:
        folder: that is missing.
        photos: number of rows below it.
        index: the folder of the index.
    """
    moved = veduta_command("index", "NEW_FOLDER", "--index", index)
    forget = veduta_command("forget", folder, "--index", index)
    return PhotoUnreadable(
        folder,
        f"it is not there, but the index has {count(photos, 'photo')} from it. If its disk is not "
        "connected, connect it and run the same command again. If the photos have moved, index "
        f"their new folder first: {moved}. If they are gone for good: {forget}",
    )


def empty(folder: Path, photos: int, index: Path) -> PhotoUnreadable:
    """Return the error for a folder that holds no photo any more, while the index has some of it.

    Args:
        folder: that is empty.
        photos: number of rows below it.
        index: the folder of the index.
    """
    accept = veduta_command("index", folder, "--allow-empty", "--index", index)
    return PhotoUnreadable(
        folder,
        f"no photo here, but the index has {count(photos, 'photo')} from it. Is the disk mounted? "
        f"If they are really gone: {accept}",
    )
