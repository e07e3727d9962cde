"""Create an index. If that is cut off, the next creation begins again.

A creation makes the table first and `index.json` last, while it holds the writer's lock. A folder
with a table that has no rows and without `index.json` is a creation that was cut off.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from veduta.encoders import Encoder
from veduta.errors import CollectionError, VedutaError, readable
from veduta.files import remove_drafts
from veduta.index.manifest import MANIFEST_COPY, MANIFEST_FILE, Manifest
from veduta.index.storage_errors import index_errors, system_errors
from veduta.index.table import (
    LOCK_FILE,
    TABLE_FOLDER,
    create_table,
    has_rows,
    lance_path,
    writer_lock,
)
from veduta.keypoints import Extractor

__all__ = [
    "create_index",
    "holds_index",
    "open_or_create_index",
    "remove_leftovers",
    "require_empty",
]

_LEFT_BY_A_CREATION = frozenset({TABLE_FOLDER, LOCK_FILE})


def holds_index(index: Path) -> bool:
    """Tell whether there is an index in a folder, sound or damaged.

    Args:
        index: the folder, which may be missing.

    Raises:
        StorageError: the disk does not read.
    """
    with system_errors(index, "read"):
        return os.path.lexists(index / MANIFEST_FILE) or _has_lost_its_manifest(index)


def create_index(
    index: Path,
    encoder: Encoder,
    extractor: Extractor | None = None,
    *,
    places: bool = True,
    regions: bool = False,
) -> Manifest:
    """Create an empty index.

    Args:
        index: the folder of the index, empty or missing, or with what a creation left that was cut
            off.
        encoder: makes its descriptors.
        extractor: finds the keypoints that the index keeps of each photo, for geometric
            verification. None keeps no keypoints.
        places: whether the index stores where photos were taken.
        regions: describe regions of each photo too, see `veduta.encoders.region_descriptors`.

    Returns:
        The manifest of the index.

    Raises:
        EncoderError: the encoder has no descriptors of regions.
        QueryError: regions are asked for without keypoints.
        CollectionError: the folder holds an index or something else, or cannot be made.
        IndexLocked: another process is writing in the folder.
        StorageError: the disk does not accept it.
    """
    return _create(index, encoder, extractor, places=places, regions=regions, accept_existing=False)


def open_or_create_index(
    index: Path,
    encoder: Encoder,
    extractor: Extractor | None = None,
    *,
    places: bool = True,
    regions: bool = False,
) -> Manifest:
    """Create an empty index, or return the manifest of the one that is there.

    If several processes call this at once, one of them creates the index.

    Args:
        index: as in `create_index`.
        encoder: as in `create_index`; an index that is there may have another one.
        extractor: as in `create_index`; an index that is there may have another one.
        places: as in `create_index`, of a new index.
        regions: as in `create_index`; an index that is there may have none.

    Returns:
        The manifest of the index.

    Raises:
        EncoderError: the encoder has no descriptors of regions.
        QueryError: regions are asked for without keypoints.
        CollectionError: the folder holds something else, or cannot be made.
        IndexDamaged: there is an index, and its manifest does not read.
        IndexLocked: another process is writing in the folder.
        StorageError: the disk does not accept it.
    """
    if holds_index(index):
        return Manifest.read(index)
    return _create(index, encoder, extractor, places=places, regions=regions, accept_existing=True)


def _create(
    index: Path,
    encoder: Encoder,
    extractor: Extractor | None,
    *,
    places: bool,
    regions: bool,
    accept_existing: bool,
) -> Manifest:
    lance_path(index)  # It refuses some paths before anything is made.
    manifest = Manifest.new(encoder, extractor, regions=regions)
    with index_errors(index, "write"):
        try:
            index.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise CollectionError(
                f"{readable(error.filename or index)} is not a folder. Name another folder for the "
                "index."
            ) from error
        if not holds_index(index):
            require_empty(index)
    with writer_lock(index):
        if holds_index(index):  # Another process may have created it meanwhile.
            existing = Manifest.read(index)
            if accept_existing:
                return existing
            raise CollectionError(
                f"{readable(index)} is not empty: it is an index already. Open it, or name another "
                "folder."
            )
        with index_errors(index, "write"):
            remove_leftovers(index)
            try:
                create_table(index, encoder.dimension, places=places)
                manifest.write(index)  # This comes last: a folder with a manifest has a table.
            except (OSError, VedutaError):
                remove_leftovers(index)
                raise
    return manifest


def _has_lost_its_manifest(index: Path) -> bool:
    return (index / MANIFEST_COPY).is_file() or has_rows(index)


def require_empty(index: Path) -> None:
    """Refuse a folder for a new index that holds something else; raises CollectionError."""
    others = [
        name
        for name in sorted(os.listdir(index))
        if not name.startswith(".") and name not in _LEFT_BY_A_CREATION
    ]
    if others:
        raise CollectionError(
            f"{readable(index)} is not empty and not an index (it holds {readable(others[0])}). "
            "Name another folder, or move these files away."
        )


def remove_leftovers(index: Path) -> None:
    """Remove what a creation leaves that was cut off or that fails."""
    for name in (MANIFEST_FILE, MANIFEST_COPY):
        (index / name).unlink(missing_ok=True)
    if (index / TABLE_FOLDER).is_dir():
        shutil.rmtree(index / TABLE_FOLDER)
    remove_drafts(index)
