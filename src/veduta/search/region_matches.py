"""How well a query matches the regions of the photos of a collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from veduta.encoders.region_codes import code_similarities
from veduta.index.calibration import Background

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot
    from veduta.keypoints import Keypoints
    from veduta.search.query import RegionQuery

__all__ = ["RegionMatches"]

BACKGROUND = Background(mean=0.083, std=0.088)
"""The similarity of a query to the best region of a photo of something else, measured on the set
scenes (docs/regions.md). Small collections need this prior."""


@dataclass(frozen=True, slots=True)
class RegionMatches:
    """The best region of each of the n photos of a collection.

    Attributes:
        regions: (n,) its number in `veduta.encoders.region_descriptors.REGIONS`.
        similarities: (n,) float32, the estimated cosine similarity of the query to it.
        deviations: (n,) float32, `similarities` in standard deviations above the mean of the
            collection, so that they compare with those of whole photos.
        cautious_deviations: (n,) float32, the same with the usual standard deviation if that is
            larger, see `Calibration.first_logit`.
        keypoints: by which the query is verified in these regions, see `RegionQuery`.
    """

    regions: NDArray[np.intp]
    similarities: NDArray[np.float32]
    deviations: NDArray[np.float32]
    cautious_deviations: NDArray[np.float32]
    keypoints: tuple[Keypoints, ...]

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        query: RegionQuery,
        dimension: int,
        sample: NDArray[np.intp],
    ) -> Self | None:
        """Compare a query with all regions of a collection.

        Args:
            snapshot: of the collection.
            query: what is looked for.
            dimension: D of the descriptors before any projection.
            sample: rows that represent the collection.

        Returns:
            None if the collection has no regions or no photos.
        """
        codes = snapshot.regions
        if codes is None or not len(codes):
            return None
        flat = codes.reshape(-1, codes.shape[2])
        of_regions = code_similarities(query.code, flat, dimension).reshape(codes.shape[:2])
        similarities = of_regions.max(axis=1)
        (mean,), (std,) = BACKGROUND.estimate(similarities[sample][None])
        above_mean = similarities - mean
        return cls(
            regions=of_regions.argmax(axis=1),
            similarities=similarities,
            deviations=(above_mean / std).astype(np.float32),
            cautious_deviations=(above_mean / max(std, BACKGROUND.std)).astype(np.float32),
            keypoints=query.keypoints,
        )

    def nearest(self, k: int, keep: NDArray[np.bool_] | None) -> NDArray[np.intp]:
        """Return the rows of the k photos with the best regions, best first.

        Args:
            k: how many.
            keep: (n,) bool, the rows that are allowed. None: all.
        """
        rows = np.arange(len(self.similarities)) if keep is None else np.flatnonzero(keep)
        return rows[np.argsort(-self.similarities[rows], kind="stable")[:k]]
