"""Index the photos of a dataset as `veduta index` does it, in the user's cache folder."""

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
from veduta.encoders import Encoder
from veduta.errors import DatasetError
from veduta.index import (
    Manifest,
    Snapshot,
    UpdateProgress,
    open_snapshot,
    update_cached_index,
)
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.projection_file import read_projection
from veduta.index.snapshot import as_float32
from veduta.keypoints import Extractor, Keypoints
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.search.query import EncodedQuery, read_photo
from veduta.search.query_views import QueryViews

__all__ = ["IndexedDataset", "OnProgress", "cache_folder", "index_dataset"]

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class IndexedDataset:
    """A dataset whose queries and gallery are indexed.

    Attributes:
        dataset: without the photos that do not decode, which are among its problems.
        protocol: which rows of it are queries and which are the gallery.
        gallery_index: the index of the gallery.
        query_index: the index of the queries; in leave-one-out that of the gallery.
    """

    dataset: Dataset
    protocol: RetrievalProtocol
    gallery_index: Path
    query_index: Path

    def gallery_rows(self, snapshot: Snapshot) -> NDArray[np.intp]:
        """Return (G,): the row of each gallery photo in a snapshot of `gallery_index`."""
        return _rows_of(snapshot, self.dataset.root, self._paths(self.protocol.gallery))

    def query_descriptors(self) -> NDArray[np.float32]:
        """Return (Q, d) float32: the descriptors of the queries, projected as the gallery is."""
        snapshot = open_snapshot(self.query_index)
        rows = _rows_of(snapshot, self.dataset.root, self._paths(self.protocol.queries))
        descriptors = as_float32(snapshot.descriptors[rows])
        projection = read_projection(self.gallery_index, Manifest.read(self.gallery_index))
        if projection is None or self.query_index == self.gallery_index:
            return descriptors
        return projection.apply(descriptors)

    def query_keypoints(self) -> Callable[[int], Keypoints]:
        """Return a function that reads the keypoints of a query by its number."""
        snapshot = open_snapshot(self.query_index)
        keypoints = StoredKeypoints(self.query_index, snapshot)
        rows = _rows_of(snapshot, self.dataset.root, self._paths(self.protocol.queries))
        return lambda number: keypoints.read(int(rows[number]))

    def query_views(
        self, encoder: Encoder, extractor: Extractor | None, *, unit: bool = False
    ) -> Callable[[int], QueryViews]:
        """Return a function that returns a query by its number, as it is, and turned if needed.

        Its file is read only when it is turned.

        Args:
            encoder: of the indexes.
            extractor: of the indexes; None: the queries are not verified by geometry.
            unit: scale the descriptors, which the index has rounded, to length one again.
        """
        descriptors = self.query_descriptors()
        if unit:
            lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
            descriptors = descriptors / np.maximum(lengths, 1e-12)
        keypoints_of = self.query_keypoints() if extractor is not None else None
        projection = read_projection(self.gallery_index, Manifest.read(self.gallery_index))
        paths = self._paths(self.protocol.queries)
        long_side = max(encoder.long_side, extractor.long_side if extractor else 0)

        def views(number: int) -> QueryViews:
            keypoints = () if keypoints_of is None else (keypoints_of(number),)
            return QueryViews(
                lambda: [read_photo(self.dataset.root / paths[number], long_side)],
                encoder,
                extractor,
                projection=projection,
                known=EncodedQuery(descriptors[number], keypoints),
            )

        return views

    def _paths(self, rows: NDArray[np.int64]) -> list[str]:
        paths = self.dataset.table["path"]
        return [paths[int(row)].as_py() for row in rows]


def cache_folder() -> Path:
    """Return the folder in which evaluations keep indexes and keypoints."""
    from platformdirs import user_cache_path

    return user_cache_path("veduta", appauthor=False) / "evaluate"


def index_dataset(
    dataset: Dataset,
    protocol_of: Callable[[Dataset], RetrievalProtocol],
    encoder: Encoder,
    extractor: Extractor | None,
    on_progress: OnProgress | None,
    *,
    graph: bool = True,
) -> IndexedDataset:
    """Bring the cached indexes of a dataset's queries and gallery up to date.

    Args:
        dataset: the dataset.
        protocol_of: returns which rows are queries and which are the gallery. It is called a
            second time if photos do not decode.
        encoder: makes the descriptors. Its `long_side` is raised to that of keypoints.
        extractor: finds the keypoints; None to keep none.
        on_progress: called with (stage, done, total).
        graph: bring the neighbour graph of the gallery up to date as well.

    Returns:
        The dataset with its indexes.

    Raises:
        DatasetError: the dataset does not fit its protocol.
    """
    # A photo is decoded as for keypoints even if none are kept, as `veduta train` and an index with
    # keypoints do it. A smaller decode changes descriptors a little, and so would figures.
    encoder.long_side = max(encoder.long_side, LONG_SIDE)
    needs_more_pixels = extractor is None or extractor.long_side < LONG_SIDE
    protocol = protocol_of(dataset)
    parts = {"gallery": protocol.gallery}
    if not protocol.leave_one_out:
        parts["queries"] = protocol.queries
    paths = dataset.table["path"].to_pylist()
    undecodable: dict[str, str] = {}
    indexes = {}
    for part, rows in parts.items():
        files = {os.path.abspath(dataset.root / paths[i]): paths[i] for i in rows}
        # Each set of files has an index of its own, so that it holds no photo of another protocol.
        settings = (
            encoder.identity,
            str(encoder.describe()["precision"]),
            extractor.identity if extractor else "",
            *([f"decoded for {LONG_SIDE} pixels"] if needs_more_pixels else []),
        )
        key = "\n".join((*sorted(files), *settings))
        indexes[part] = cache_folder() / photos.content_hash(key.encode()).hex()[:20]
        report = update_cached_index(
            indexes[part],
            [Path(file) for file in files],
            encoder,
            extractor,
            on_progress=_in_stage(on_progress, f"Encoding {part}"),
            on_linking=partial(on_progress, f"Linking {part}") if on_progress else None,
            graph=graph and part == "gallery",
        )
        if report.interrupted:
            raise KeyboardInterrupt
        undecodable |= {files[path]: why for path, why in report.unreadable if path in files}
    if undecodable:
        dataset = dataset.without(undecodable)
        protocol = protocol_of(dataset)
    gallery = indexes["gallery"]
    return IndexedDataset(dataset, protocol, gallery, indexes.get("queries", gallery))


def _in_stage(
    on_progress: OnProgress | None, stage: str
) -> Callable[[UpdateProgress], None] | None:
    if on_progress is None:
        return None
    return lambda progress: on_progress(stage, progress.done, progress.total)


def _rows_of(snapshot: Snapshot, root: Path, paths: Sequence[str]) -> NDArray[np.intp]:
    """Return the snapshot's row of each path."""
    row_of = {path: row for row, path in enumerate(snapshot.rows["path"].to_pylist())}
    try:
        rows = [row_of[os.fsencode(os.path.abspath(root / path))] for path in paths]
    except KeyError as error:
        raise DatasetError(
            f"{os.fsdecode(error.args[0])}: the file disappeared while it was indexed"
        ) from None
    return np.array(rows, np.intp)
