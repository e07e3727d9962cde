"""What to tell the user whose index has no labels: a command that gives it some."""

from __future__ import annotations

import os
from pathlib import Path

from veduta.errors import readable
from veduta.index import Manifest
from veduta.text import veduta_command

__all__ = ["no_labels_message"]


def no_labels_message(index: Path, photos: list[bytes]) -> str:
    """Return why nothing can be recognised, and the command that helps.

    Args:
        index: the folder of the index.
        photos: absolute paths of its photos.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the index cannot be read.
    """
    folders = [os.fsencode(folder) for folder in Manifest.read(index).folders]
    command = veduta_command("index", "--index", index, "--labels", "folders")
    message = (
        f"{readable(index)}: no photo of this collection has a label, so there is nothing to "
        "recognise. "
    )
    in_folders = [_inside(photo, folder) for photo in photos for folder in folders]
    if any(b"/" in name for name in in_folders):
        return f"{message}To take the names of the folders of its photos as labels: {command}"
    where = " or ".join(readable(Path(os.fsdecode(folder))) for folder in folders[:2])
    return (
        f"{message}Put the photos of each place into a folder of its own"
        f"{f' in {where}' if where else ''}, and run: {command}"
    )


def _inside(photo: bytes, folder: bytes) -> bytes:
    """Return the path of a photo inside a folder, empty if it is not in it."""
    start = folder.rstrip(b"/") + b"/"
    return photo[len(start) :] if photo.startswith(start) else b""
