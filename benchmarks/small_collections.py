"""Small labelled collections in memory, made of the photos of a larger index.

A collection has all that an index of its photos would have: descriptors, keypoints, and a graph
whose links are verified. What is computed once about two photos is kept for all collections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Projection
from veduta.index import graph as index_graph
from veduta.index import neighbours
from veduta.index.distinct_photos import distinct_photos
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import Keypoints, Matching, Verification, verify_many
from veduta.search import reranking
from veduta.search.reranking import Gallery, open_gallery


class Verifications:
    """The verification of pairs of photos, each computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Verification] = {}

    def many(
        self, query: Keypoints, others: Sequence[Keypoints], matching: Matching, **options: Any
    ) -> list[Verification]:
        """Do what `veduta.keypoints.verify_many` does."""
        new = [other for other in others if (id(query), id(other)) not in self._known]
        for other, result in zip(new, verify_many(query, new, matching, **options), strict=True):
            self._known[id(query), id(other)] = result
        return [self._known[id(query), id(other)] for other in others]


@dataclass(frozen=True)
class _SomeKeypoints:
    photos: IndexedPhotos
    rows: NDArray[np.intp]

    def read(self, row: int) -> Keypoints:
        return self.photos.keypoints(int(self.rows[row]))


@dataclass
class IndexedPhotos:
    """The photos of an index.

    Attributes:
        gallery: the index.
        verifications: of its pairs of photos.
    """

    gallery: Gallery
    verifications: Verifications
    _keypoints: dict[int, Keypoints] = field(default_factory=dict)

    @classmethod
    def of(cls, index: Path, verifications: Verifications) -> IndexedPhotos:
        return cls(open_gallery(index), verifications)

    def keypoints(self, row: int) -> Keypoints:
        """Return the keypoints of a photo: the same object at each call."""
        if row not in self._keypoints:
            assert self.gallery.keypoints is not None
            self._keypoints[row] = self.gallery.keypoints.read(row)
        return self._keypoints[row]

    def descriptor(self, row: int, projection: Projection | None = None) -> NDArray[np.float32]:
        """Return a descriptor (d,) of length one, as a projection makes it."""
        descriptor = self.gallery.snapshot.take(np.array([row]))[0]
        if projection is not None:
            return np.asarray(projection.apply(descriptor[None])[0])
        return np.asarray(descriptor / max(float(np.linalg.norm(descriptor)), 1e-12))

    def collection(self, rows: NDArray[np.intp], projection: Projection | None = None) -> Gallery:
        """Return a collection of some of the photos, searched through a projection."""
        whole = self.gallery
        descriptors = whole.snapshot.descriptors[rows]
        if projection is not None:
            descriptors = projection.apply(descriptors).astype(np.float16)
        snapshot = Snapshot(
            whole.snapshot.version,
            None,
            whole.snapshot.rows.take(rows),
            descriptors,
            *quantise(descriptors),
        )
        keypoints: Any = _SomeKeypoints(self, rows)
        gallery = Gallery(snapshot, whole.calibration, keypoints, None, whole.matching)
        return Gallery(snapshot, whole.calibration, keypoints, self._graph(gallery), whole.matching)

    def _graph(self, gallery: Gallery) -> index_graph.Graph | None:
        snapshot = gallery.snapshot
        if not index_graph.can_be_linked(snapshot):
            return None
        photos = distinct_photos(snapshot)
        links = neighbours.empty_links(photos)
        every = np.ones((2, len(photos.contents)), np.bool_)
        neighbours.find_neighbours(snapshot, photos, links, *every)
        assert gallery.keypoints is not None and gallery.matching is not None
        of_photo = [gallery.keypoints.read(row) for row in photos.row_of_photo.tolist()]
        for start, ends in enumerate(links.ends.tolist()):
            for column, end in enumerate(ends):
                if end < 0:
                    continue
                first, second = of_photo[min(start, end)], of_photo[max(start, end)]
                (result,) = self.verifications.many(
                    first, [second], gallery.matching, parallel=False
                )
                links.consistent_matches[start, column] = result.consistent_matches
        return index_graph._weighted_graph(
            snapshot, photos, links, gallery.calibration, verified=True
        )


def keep_verifications(verifications: Verifications) -> None:
    """Let every search in this process look up what is known about two photos."""
    reranking.verify_many = verifications.many  # type: ignore[assignment]
