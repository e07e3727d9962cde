"""Photos that published files hold as bytes: where they are written, and how.

Each photo is a file in the user's cache. Its name is a hash of the id, so that an id can be any
text.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from veduta.errors import CannotWrite, DatasetError, readable
from veduta.files import write_bytes
from veduta.text import count

__all__ = ["check_room", "unpack_folder", "unpacked_name", "write_photo"]


def unpack_folder(files: Sequence[Path]) -> Path:
    """Return the folder of the cache for the photos of some files.

    It is another one as soon as a file has another path, size or time of change.

    Args:
        files: the files that hold the photos.

    Raises:
        OSError: a file is missing.
    """
    from platformdirs import user_cache_path

    state = blake2b(digest_size=16)
    for file in sorted(map(os.path.abspath, files)):
        status = os.stat(file)
        state.update(os.fsencode(file) + b"\0")
        state.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    folder: Path = user_cache_path("veduta", appauthor=False)
    return folder / "evaluate" / "unpacked" / state.hexdigest()


def unpacked_name(side: str, photo: str) -> str:
    """Return the path of a photo below the folder of the cache.

    Args:
        side: "query", "corpus" or "distractor": photos of two sides may have the same id.
        photo: the id.
    """
    name = blake2b(f"{side}\0{photo}".encode(), digest_size=16).hexdigest()
    return f"{name[:2]}/{name[2:]}"


def write_photo(file: Path, data: bytes) -> None:
    """Write a photo, and make its folder if it is missing.

    Args:
        file: receives it.
        data: the photo.

    Raises:
        CannotWrite: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(file.parent, error) from error
    write_bytes(file, data)


def check_room(folder: Path, photos: int, size: int, remedy: str) -> None:
    """Check that photos fit on the disk of a folder, before the first one is written.

    Args:
        folder: receives them. It need not exist.
        photos: how many there are.
        size: bytes that all of them need.
        remedy: what to do if they do not fit.

    Raises:
        DatasetError: they do not fit. The message has the bytes needed and the free ones.
        CannotWrite: the disk does not answer.
    """
    place = folder
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise CannotWrite(folder, error) from error
    if size > free:
        raise DatasetError(
            f"{readable(folder)}: no room for {count(photos, 'photo')}: {size:,} bytes are needed "
            f"and {free:,} are free; {remedy}"
        )
