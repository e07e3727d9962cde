"""One query in each of its orientations, encoded when it is needed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder, Projection
from veduta.encoders.region_codes import codes_of
from veduta.encoders.region_descriptors import RegionEncoder
from veduta.index import Snapshot
from veduta.keypoints import Extractor, Keypoints, extract_reduced
from veduta.photos.orientation import Orientation
from veduta.search import exact
from veduta.search.promising import is_promising
from veduta.search.query import EncodedQuery, QueryPhoto, RegionQuery, mean_descriptor
from veduta.search.reranking import Gallery
from veduta.search.timings import timed

__all__ = ["QueryViews"]


class QueryViews:
    """The photos of one query, which can be encoded in every orientation.

    All photos of a query are turned alike.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[QueryPhoto]],
        encoder: Encoder,
        extractor: Extractor | None,
        *,
        region_encoder: RegionEncoder | None = None,
        projection: Projection | None = None,
        corner: tuple[int, int] = (0, 0),
        space: str = "",
        known: EncodedQuery | None = None,
    ) -> None:
        """Encode nothing yet.

        Args:
            read: returns the photos, or the regions of them. It is called once, when they are
                needed.
            encoder: makes the descriptors.
            extractor: finds the keypoints. None: the query is not verified by geometry.
            region_encoder: describes the query for the comparison with regions, if there is an
                extractor; None: it is not compared with them.
            projection: applied to the descriptors; None: there is none.
            corner: as in `EncodedQuery`.
            space: as in `EncodedQuery`.
            known: the query in an orientation in which it is encoded already; None: in none.
        """
        self._read = read
        self._photos: Sequence[QueryPhoto] | None = None
        self._encoder = encoder
        self._extractor = extractor
        self._region_encoder = region_encoder
        self._projection = projection
        self._corner = corner
        self.space = space
        self._descriptors: dict[Orientation, NDArray[np.float32]] = {}
        self._encoded: dict[Orientation, EncodedQuery] = {}
        if known is not None:
            self._descriptors[known.orientation] = known.descriptor
            self._encoded[known.orientation] = known

    @property
    def verified(self) -> bool:
        """Whether the query is encoded with keypoints, to be verified by geometry."""
        return self._extractor is not None

    def descriptor(self, orientation: Orientation) -> NDArray[np.float32]:
        """Return the descriptor of the query in an orientation.

        Args:
            orientation: how the photos are turned.

        Returns:
            (d,) float32 of length one.

        Raises:
            PhotoError: a photo cannot be read.
        """
        if orientation not in self._descriptors:
            with timed("decode"):
                turned = self.photos(orientation)
            prepared = [self._encoder.prepare(photo.pixels) for photo in turned]
            with timed("encode"):
                rows = np.concatenate([self._encoder.encode([one]) for one in prepared])
            rows = rows.astype(np.float32, copy=False)
            if self._projection is not None:
                rows = self._projection.apply(rows)
            descriptor = rows[0] if len(rows) == 1 else mean_descriptor(rows)
            self._descriptors[orientation] = descriptor
        return self._descriptors[orientation]

    def first_similarity(
        self,
        snapshot: Snapshot,
        orientation: Orientation,
        keep: NDArray[np.bool_] | None = None,
    ) -> float:
        """Return the highest cosine similarity of the query in an orientation to a collection.

        Args:
            snapshot: of the collection.
            orientation: how the photos are turned.
            keep: (n,) bool, the rows that count. None: all.

        Returns:
            In [-1, 1]; -1 if no row counts.

        Raises:
            PhotoError: a photo cannot be read.
        """
        nearest = exact.nearest(snapshot, self.descriptor(orientation), 1, keep)
        return float(nearest[1].max(initial=-1.0))

    def is_promising(
        self,
        gallery: Gallery,
        verify: int,
        orientation: Orientation,
        keep: NDArray[np.bool_] | None = None,
    ) -> bool:
        """Return whether the query in an orientation may have a convincing answer.

        Args:
            gallery: the collection.
            verify: how many photos would be verified.
            orientation: how the photos are turned.
            keep: (n,) bool, the rows that count. None: all.

        Raises:
            PhotoError: a photo cannot be read.
        """
        query = self.encoded(orientation)
        rows, _ = exact.nearest(gallery.snapshot, query.descriptor, verify, keep)
        return is_promising(gallery, query, rows.tolist())

    def encoded(self, orientation: Orientation) -> EncodedQuery:
        """Return the query in an orientation, with its keypoints.

        Args:
            orientation: how the photos are turned.

        Raises:
            PhotoError: a photo cannot be read.
        """
        if orientation not in self._encoded:
            descriptor = self.descriptor(orientation)
            keypoints: tuple[Keypoints, ...] = ()
            if (extractor := self._extractor) is not None:
                with timed("keypoints"):
                    keypoints = tuple(
                        extractor.extract(photo.pixels, photo.width, photo.height)
                        for photo in self.photos(orientation)
                    )
            self._encoded[orientation] = EncodedQuery(
                descriptor,
                keypoints,
                self._corner,
                self.space,
                orientation,
                self._in_regions(orientation),
            )
        return self._encoded[orientation]

    def _in_regions(self, orientation: Orientation) -> RegionQuery | None:
        if self._region_encoder is None or self._extractor is None:
            return None
        photos = self.photos(orientation)
        with timed("encode"):
            rows = np.stack([self._region_encoder.describe_query(photo.pixels) for photo in photos])
        with timed("keypoints"):
            keypoints = tuple(
                extract_reduced(self._extractor, photo.pixels, photo.width, photo.height)
                for photo in photos
            )
        return RegionQuery(codes_of(mean_descriptor(rows)[None])[0], keypoints)

    def photos(self, orientation: Orientation) -> list[QueryPhoto]:
        """Return the photos in an orientation.

        Args:
            orientation: how they are turned.

        Raises:
            PhotoError: a photo cannot be read.
        """
        if self._photos is None:
            self._photos = self._read()
        return [photo.turned(orientation) for photo in self._photos]
