"""The photos of an index under the names that other programs know them by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import CollectionError, DatasetError, readable
from veduta.interchange.photo_ids import is_utf8
from veduta.text import veduta_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot

__all__ = ["ExportedPhotos", "exported_photos", "refuse_blanks"]


@dataclass(frozen=True, slots=True)
class ExportedPhotos:
    """The n photos of an index, in the order of its rows.

    Attributes:
        root: the folder that the names are relative to.
        names: (n,) paths below it, with forward slashes.
        sizes: (n, 2) int64, width and height of the upright photos in pixels.
        by_name: (n,) rows in the order of the names.
    """

    root: Path
    names: Sequence[str]
    sizes: NDArray[np.int64]
    by_name: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ranks(self) -> NDArray[np.intp]:
        """(n,) the place of each row in the order of the names."""
        ranks = np.empty(len(self), np.intp)
        ranks[self.by_name] = np.arange(len(self))
        return ranks


def exported_photos(index: Path, snapshot: Snapshot, root: Path | None = None) -> ExportedPhotos:
    """Name the photos of an index by their paths below a folder.

    Args:
        index: its folder, for messages.
        snapshot: of the index.
        root: the folder. None: the deepest one that holds all photos.

    Raises:
        CollectionError: the index has no photo.
        DatasetError: a photo is not below the folder, or its name is not UTF-8.
    """
    rows = snapshot.rows.slice(0, snapshot.photos)
    paths = [os.fsdecode(path) for path in rows["path"].to_pylist()]
    if not paths:
        command = veduta_command("index", "FOLDER", "--index", index)
        raise CollectionError(f"{readable(index)} has no photos. Add some with: {command}")
    folder = os.path.abspath(root) if root else _common_folder(paths)
    begin = folder.rstrip(os.sep) + os.sep
    names = []
    for path in paths:
        if not path.startswith(begin):
            raise DatasetError(
                f"{readable(path)} is not below {readable(folder)}; name a folder that holds all "
                f"photos of the index with --photos-root, such as {readable(_common_folder(paths))}"
            )
        name = path[len(begin) :].replace(os.sep, "/")
        if not is_utf8(name):
            raise DatasetError(
                f"{readable(path)}: its name is not UTF-8, which other programs do not read; "
                "rename the file, and index it again"
            )
        names.append(name)
    sizes = np.stack([rows[column].to_numpy() for column in ("width", "height")], axis=1)
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), np.intp)
    return ExportedPhotos(Path(folder), names, sizes.astype(np.int64), by_name)


def refuse_blanks(photos: ExportedPhotos, what: str) -> None:
    """Refuse names that a file of words, separated by blanks, cannot hold.

    Args:
        photos: with the names.
        what: the file is, for the message.

    Raises:
        DatasetError: a name has a blank.
    """
    for name in photos.names:
        if name.split() != [name]:
            raise DatasetError(
                f"{readable(photos.root / name)}: {what} cannot hold a name with a blank; rename "
                "the photo or its folder, and index it again"
            )


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath({os.path.dirname(path) for path in paths})
