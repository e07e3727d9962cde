"""Photos that were described once by the default encoder, and are kept in a cache folder.

The search for copies and the search for unusual photos need the same descriptors and keypoints. The
cache is an index of all photos of one folder. A photo is described again only when its file
changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders import Encoder
    from veduta.index import Snapshot
    from veduta.keypoints import Extractor

__all__ = ["DescribedPhotos", "OnProgress", "describe_photos"]

_FOLDER_NAME_LETTERS = 20

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a step, the number done and the total."""


@dataclass(frozen=True, slots=True, eq=False)
class DescribedPhotos:
    """N files with their descriptors and keypoints in an index.

    Attributes:
        files: N absolute paths.
        index: the folder of the index. It may hold other photos too.
        snapshot: of the index.
        rows: (N,) int64 rows of the snapshot; -1 for a file that is not a readable photo.
        problems: position among `files` → why it is not a readable photo.
        extractor: what found the keypoints.
    """

    files: tuple[Path, ...]
    index: Path
    snapshot: Snapshot
    rows: NDArray[np.int64]
    problems: Mapping[int, str]
    extractor: Extractor

    def first(self, number: int) -> DescribedPhotos:
        """Return the first files alone.

        Args:
            number: how many.
        """
        problems = {at: reason for at, reason in self.problems.items() if at < number}
        return replace(self, files=self.files[:number], rows=self.rows[:number], problems=problems)


def describe_photos(
    files: Sequence[Path],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
    encoder: Encoder | None = None,
    extractor: Extractor | None = None,
) -> DescribedPhotos:
    """Describe photos that are new in the cache or have changed.

    Args:
        files: photos. Those that do not decode become `problems`.
        folder: the cache. None means a folder in the user's cache.
        on_progress: called with the step, the number done and the total.
        encoder: None means the default encoder.
        extractor: None means XFeat in 32 bits, with which the limits of copies were measured.

    Raises:
        CollectionError: the folder cannot be written or holds something else.
        IndexLocked: another process describes photos in this folder.
        KeyboardInterrupt: the user interrupted. The photos described so far are kept.
    """
    from veduta.encoders import DEFAULT, load_encoder
    from veduta.index import open_or_create_index, open_snapshot, update_cached_index
    from veduta.keypoints.xfeat import XFeatIn32Bits

    files = tuple(Path(os.path.abspath(file)) for file in files)
    encoder = encoder or load_encoder(DEFAULT)
    extractor = extractor or XFeatIn32Bits.load(count=512, threads=1)
    # Each encoder has its own index in the folder.
    index = (folder or _default_folder(files or [Path()])) / encoder.identity
    existing = [file for file in files if file.is_file()]
    reasons: dict[bytes, str] = {}
    if existing:
        update = update_cached_index(
            index,
            existing,
            encoder,
            extractor,
            graph=False,
            on_progress=(lambda state: on_progress("Describing", state.done, state.total))
            if on_progress
            else None,
        )
        if update.interrupted:
            raise KeyboardInterrupt
        reasons = {os.fsencode(path): reason for path, reason in update.unreadable}
    else:
        open_or_create_index(index, encoder, extractor)
    snapshot = open_snapshot(index)
    paths = snapshot.rows["path"].slice(0, snapshot.photos).to_pylist()
    row_of = {path: row for row, path in enumerate(paths)}
    names = map(os.fsencode, files)
    # A photo that cannot be read now may have a row of its earlier content.
    rows = np.array([-1 if name in reasons else row_of.get(name, -1) for name in names], np.int64)
    problems = {
        int(position): reasons.get(os.fsencode(files[position]), "the file is not there")
        for position in np.flatnonzero(rows < 0)
    }
    return DescribedPhotos(files, index, snapshot, rows, problems, extractor)


def _default_folder(files: Sequence[Path]) -> Path:
    from platformdirs import user_cache_path

    from veduta.photos import content_hash

    common = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    name = content_hash(os.fsencode(common)).hex()[:_FOLDER_NAME_LETTERS]
    return user_cache_path("veduta", appauthor=False) / "photos" / name
