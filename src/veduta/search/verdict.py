"""The verdict on two photos: one rule for the photos of `match` and for the hits of a search."""

from __future__ import annotations

__all__ = [
    "DIFFERENT_PLACES",
    "MAX_DIFFERENT_PROBABILITY",
    "MIN_SAME_COVERAGE",
    "MIN_SAME_PROBABILITY",
    "SAME_PLACE",
    "UNSURE",
    "verdict_on",
]

MIN_SAME_PROBABILITY = 0.9
"""Two photos with a geometric model and at least this probability show the same place."""

MIN_SAME_COVERAGE = 0.7
"""Two photos whose inliers cover at least this share of both are almost the same view. They show
the same place, even if many photos of the collection look like them."""

MAX_DIFFERENT_PROBABILITY = 0.1
"""Two photos with at most this probability show different places."""

SAME_PLACE, UNSURE, DIFFERENT_PLACES = "same place", "unsure", "different"


def verdict_on(probability: float | None, model: str | None, inlier_coverage: float | None) -> str:
    """Return "same place", "unsure" or "different".

    Photos of different places that look alike can reach a high probability. So "same place" takes a
    geometric model as well.

    Args:
        probability: that both photos show the same, in [0, 1]. None: it is not known, and geometry
            decides alone. Then photos without a model are "unsure", because a missing model proves
            nothing.
        model: `veduta.keypoints.Verification.model`.
        inlier_coverage: of the same verification, in [0, 1]. None: not verified.
    """
    alike = (
        probability is None
        or probability >= MIN_SAME_PROBABILITY
        or (inlier_coverage or 0) >= MIN_SAME_COVERAGE
    )
    if model is not None and alike:
        return SAME_PLACE
    if probability is not None and probability <= MAX_DIFFERENT_PROBABILITY:
        return DIFFERENT_PLACES
    return UNSURE
