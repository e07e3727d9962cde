"""Photos that a dataset is compared with and that are never moved: a folder, or an index."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from veduta.errors import DatasetError, readable
from veduta.photos import find_photos

__all__ = ["Archive", "open_archive"]


@dataclass(frozen=True, slots=True)
class Archive:
    """The photos of an archive that lie outside of the dataset.

    Attributes:
        path: the folder or the index, as it was named.
        files: absolute paths, sorted.
        missing: number of photos of an index whose file is not there.
    """

    path: Path
    files: tuple[Path, ...]
    missing: int = 0


def open_archive(path: Path, root: Path) -> Archive:
    """List the photos of an archive.

    Photos in the dataset itself are left out, so that no photo is a copy of itself. So the archive
    may be the folder above the dataset, or an index that holds the dataset too.

    Args:
        path: a folder of photos, or the folder of an index.
        root: the dataset, without links in its path.

    Raises:
        DatasetError: the archive is not there, lies in the dataset, or has no photo outside of it.
        CollectionError: the index cannot be read.
    """
    from veduta.index import MANIFEST_FILE

    if not path.is_dir():
        raise DatasetError(f"{readable(path)}: no folder and no index; --against names one")
    is_index = (path / MANIFEST_FILE).is_file()
    place = Path(os.path.realpath(path))
    if not is_index and (place == root or root in place.parents):
        raise DatasetError(
            f"{readable(path)}: the archive lies in the dataset, whose photos may be moved; name "
            "the folder of the new photos alone as the dataset"
        )
    listed = _indexed(path) if is_index else _found(path)
    outside = [file for file in listed if root not in Path(os.path.realpath(file)).parents]
    files = tuple(sorted(file for file in outside if file.exists()))
    if not files:
        raise DatasetError(f"{readable(path)}: the archive has no photo outside of the dataset")
    return Archive(path, files, len(outside) - len(files))


def _found(folder: Path) -> list[Path]:
    return [Path(os.path.abspath(os.fsdecode(found.path))) for found in find_photos([folder])]


def _indexed(index: Path) -> list[Path]:
    from veduta.index import open_snapshot

    snapshot = open_snapshot(index)
    paths = snapshot.rows["path"].slice(0, snapshot.photos).to_pylist()
    return [Path(os.fsdecode(path)) for path in paths]
