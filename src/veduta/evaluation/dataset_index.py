"""A dataset's photos, indexed as `veduta index` does it and kept in the user's cache folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.datasets import Dataset, RetrievalProtocol
from veduta.encoders import Encoder, Projection
from veduta.errors import DatasetError
from veduta.index import (
    MANIFEST_FILE,
    Manifest,
    Snapshot,
    UpdateProgress,
    create_index,
    open_snapshot,
    update_index,
)
from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import Extractor, Keypoints

__all__ = ["Encoded", "OnProgress", "cache", "encode"]

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A dataset whose photos are all described.

    Attributes:
        dataset: less the photos that do not decode, which are among its problems.
        protocol: who asks and who answers in it.
        gallery: the index of the photos that answer.
        queries: that of the photos that ask; the same one in leave-one-out.
    """

    dataset: Dataset
    protocol: RetrievalProtocol
    gallery: Path
    queries: Path

    def gallery_rows(self, snapshot: Snapshot) -> NDArray[np.intp]:
        """Return (G,): where the protocol's gallery photos are in a snapshot of `gallery`."""
        return _rows_of(snapshot, self.dataset.root, self._paths(self.protocol.gallery))

    def query_descriptors(self) -> NDArray[np.float32]:
        """Return (Q, d) float32: the descriptors of the queries, as they are searched."""
        asking = open_snapshot(self.queries)
        rows = _rows_of(asking, self.dataset.root, self._paths(self.protocol.queries))
        descriptors = asking.descriptors[rows].astype(np.float32)
        projection = Manifest.read(self.gallery).projection
        if projection is None or self.queries == self.gallery:
            return descriptors
        return Projection.load(self.gallery / projection).apply(descriptors)

    def query_keypoints(self) -> Callable[[int], Keypoints]:
        """Return what reads the keypoints of a query by its number."""
        asking = open_snapshot(self.queries)
        stored = StoredKeypoints(self.queries, asking)
        rows = _rows_of(asking, self.dataset.root, self._paths(self.protocol.queries))
        return lambda number: stored.read(int(rows[number]))

    def _paths(self, rows: NDArray[np.int64]) -> list[str]:
        paths = self.dataset.table["path"]
        return [paths[int(row)].as_py() for row in rows]


def cache() -> Path:
    """Return the folder in which evaluations keep what took long to make."""
    from platformdirs import user_cache_path

    return user_cache_path("veduta", appauthor=False) / "evaluate"


def encode(
    dataset: Dataset,
    protocol_of: Callable[[Dataset], RetrievalProtocol],
    encoder: Encoder,
    extractor: Extractor | None,
    on_progress: OnProgress | None,
) -> Encoded:
    """Bring the cached indexes of the photos that ask and that answer up to date.

    Args:
        dataset: what to describe.
        protocol_of: who asks and who answers; asked again where photos do not decode.
        encoder: makes the descriptors.
        extractor: finds the keypoints; None: none are needed.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: the dataset is not as its protocol wants it.
    """
    protocol = protocol_of(dataset)
    parts = {"gallery": protocol.gallery}
    if not protocol.leave_one_out:
        parts["queries"] = protocol.queries
    paths = dataset.table["path"].to_pylist()
    dropped: dict[str, str] = {}
    indexes = {}
    for part, numbers in parts.items():
        files = {os.path.abspath(dataset.root / paths[i]): paths[i] for i in numbers}
        # One index for exactly these files, so that no photo of another protocol is in it.
        made_by = (
            encoder.identity,
            str(encoder.describe()["precision"]),
            extractor.identity if extractor else "",
        )
        key = "\n".join((*sorted(files), *made_by))
        indexes[part] = cache() / photos.content_hash(key.encode()).hex()[:20]
        if not (indexes[part] / MANIFEST_FILE).exists():
            create_index(indexes[part], encoder, extractor)
        done = update_index(
            indexes[part],
            [Path(file) for file in files],
            encoder,
            extractor,
            on_progress=_named(on_progress, f"Encoding {part}"),
            on_linking=partial(on_progress, f"Linking {part}") if on_progress else None,
            graph=part == "gallery",
        )
        if done.interrupted:
            raise KeyboardInterrupt
        dropped.update({files[path]: reason for path, reason in done.unreadable if path in files})
    if dropped:
        dataset = dataset.without(dropped)
        protocol = protocol_of(dataset)
    gallery = indexes["gallery"]
    return Encoded(dataset, protocol, gallery, indexes.get("queries", gallery))


def _named(on_progress: OnProgress | None, name: str) -> Callable[[UpdateProgress], None] | None:
    if on_progress is None:
        return None
    return lambda state: on_progress(name, state.done, state.total)


def _rows_of(snapshot: Snapshot, root: Path, paths: Sequence[str]) -> NDArray[np.intp]:
    """Return the snapshot's row of each path."""
    known = {path: row for row, path in enumerate(snapshot.rows["path"].to_pylist())}
    try:
        rows = [known[os.fsencode(os.path.abspath(root / path))] for path in paths]
    except KeyError as error:
        raise DatasetError(f"{os.fsdecode(error.args[0])}: gone while it was indexed") from None
    return np.array(rows, np.intp)
