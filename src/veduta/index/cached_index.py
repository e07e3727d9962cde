"""An index that is only a cache: it can be made again at any time, and is, if it is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veduta.encoders import Encoder
from veduta.errors import EncoderMismatch, IndexDamaged
from veduta.index.creating import open_or_create_index
from veduta.index.storage_errors import index_errors
from veduta.index.table import LOCK_FILE, writer_lock
from veduta.index.updating import UpdateReport, update_index
from veduta.keypoints import Extractor

__all__ = ["update_cached_index"]


def update_cached_index(
    index: Path,
    files: Sequence[Path],
    encoder: Encoder,
    extractor: Extractor | None,
    **options: Any,
) -> UpdateReport:
    """Bring the index of a cache up to date with photos. The user never names such an index.

    It is created if it is missing. If it is damaged, or of another encoder, it is removed and
    created anew, because all that it holds can be computed again.

    Args:
        index: the folder of the index. Nothing else may be in it.
        files: photos.
        encoder: makes the descriptors.
        extractor: finds the keypoints; None to keep none.
        options: further arguments of `update_index`.

    Returns:
        What was done.

    Raises:
        CollectionError: the folder holds something else.
        IndexLocked: another process is writing to it.
        StorageError: the disk does not read or write.
    """
    try:
        open_or_create_index(index, encoder, extractor)
        return update_index(index, files, encoder, extractor, **options)
    except (IndexDamaged, EncoderMismatch):
        _empty(index)
        open_or_create_index(index, encoder, extractor)
        return update_index(index, files, encoder, extractor, **options)


def _empty(index: Path) -> None:
    with writer_lock(index), index_errors(index, "write"):
        for entry in index.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()
