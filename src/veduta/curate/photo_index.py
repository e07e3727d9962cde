"""Photos described once by the default encoder and kept in a cache folder, as an index keeps them.

What looks for copies and what looks for odd photos need the same descriptors and keypoints, so both
come here. The cache is one index for all photos that lie together; what is known of a photo holds
until the file changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders import Encoder
    from veduta.index import Snapshot
    from veduta.keypoints import Extractor

__all__ = ["DescribedPhotos", "OnProgress", "cache_for", "describe_photos"]

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class DescribedPhotos:
    """N files, as they are in an index.

    Attributes:
        files: (N,) the files, absolute.
        index: the folder of the index, which may hold other photos too.
        snapshot: of the index.
        rows: (N,) int64 rows of the snapshot; -1 for a file that gives no photo.
        problems: place among `files` → why it gives no photo.
        extractor: what found the keypoints.
    """

    files: tuple[Path, ...]
    index: Path
    snapshot: Snapshot
    rows: NDArray[np.int64]
    problems: Mapping[int, str]
    extractor: Extractor


def cache_for(files: Sequence[Path]) -> Path:
    """Return where the descriptors of these files are kept when nobody says."""
    from platformdirs import user_cache_path

    from veduta.photos import content_hash

    together = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    name = content_hash(os.fsencode(together)).hex()[:20]
    return user_cache_path("veduta", appauthor=False) / "photos" / name


def describe_photos(
    files: Sequence[Path],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
    encoder: Encoder | None = None,
    extractor: Extractor | None = None,
) -> DescribedPhotos:
    """Bring the cached index of `files` up to date.

    Args:
        files: photos; those that do not decode become `problems`.
        folder: where descriptors and keypoints are kept; None: in the user's cache folder.
        on_progress: called with (what, done, total).
        encoder, extractor: None: the default encoder, and XFeat.

    Raises:
        CollectionError: the folder cannot be written or holds something else; IndexLocked while
            another process describes photos there.
        KeyboardInterrupt: interrupted; what is described stays so.
    """
    from veduta.encoders import DEFAULT, load_encoder
    from veduta.index import MANIFEST_FILE, create_index, open_snapshot, update_index
    from veduta.keypoints import load_extractor

    files = tuple(Path(os.path.abspath(file)) for file in files)
    encoder = encoder or load_encoder(DEFAULT)
    extractor = extractor or load_extractor()
    # Indexes of other encoders stay beside it.
    index = (folder or cache_for(files or [Path()])) / encoder.identity
    if not (index / MANIFEST_FILE).exists():
        create_index(index, encoder, extractor)
    there = [file for file in files if file.is_file()]
    reasons: dict[bytes, str] = {}
    if there:
        done = update_index(
            index,
            there,
            encoder,
            extractor,
            graph=False,
            on_progress=(lambda at: on_progress("Describing", at.done, at.total))
            if on_progress
            else None,
        )
        if done.interrupted:
            raise KeyboardInterrupt
        reasons = {os.fsencode(path): reason for path, reason in done.unreadable}
    snapshot = open_snapshot(index)
    paths = snapshot.rows["path"].slice(0, snapshot.photos).to_pylist()
    row_of = {path: row for row, path in enumerate(paths)}
    rows = np.array([row_of.get(os.fsencode(file), -1) for file in files], np.int64)
    problems = {
        int(at): reasons.get(os.fsencode(files[at]), "the file is not there")
        for at in np.flatnonzero(rows < 0)
    }
    return DescribedPhotos(files, index, snapshot, rows, problems, extractor)
