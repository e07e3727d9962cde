"""The verdict on two photos: one rule for the photos of `match` and for the hits of a search."""

from __future__ import annotations

__all__ = [
    "DIFFERENT_PLACES",
    "MAX_DIFFERENT_PROBABILITY",
    "MIN_SAME_COVERAGE",
    "MIN_SAME_PROBABILITY",
    "SAME_PLACE",
    "UNSURE",
    "reason_for",
    "verdict_on",
]

MIN_SAME_PROBABILITY = 0.9
"""Two photos with a geometric model and at least this probability show the same place."""

MIN_SAME_COVERAGE = 0.7
"""Two photos whose inliers cover at least this share of both are almost the same view. They show
the same place, even if many photos of the collection look like them."""

MAX_DIFFERENT_PROBABILITY = 0.1
"""Two photos with at most this probability show different places."""

_LOW, _HIGH = f"{MAX_DIFFERENT_PROBABILITY:g}", f"{MIN_SAME_PROBABILITY:g}"

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
    return _judged(probability, model, inlier_coverage)[0]


def reason_for(probability: float | None, model: str | None, inlier_coverage: float | None) -> str:
    """Return what decides the verdict, in a few words.

    A reader sees the verdict beside the probability. The reason says why both hold.

    Args:
        probability: as in `verdict_on`.
        model: as in `verdict_on`.
        inlier_coverage: as in `verdict_on`.
    """
    return _judged(probability, model, inlier_coverage)[1]


def _judged(
    probability: float | None, model: str | None, inlier_coverage: float | None
) -> tuple[str, str]:
    """Return the verdict and its reason."""
    if model is not None:
        return _judged_with_model(probability, inlier_coverage)
    missing = "geometry was not checked" if inlier_coverage is None else "no geometric model"
    if probability is None:
        return UNSURE, f"{missing}; no probability is known"
    if probability <= MAX_DIFFERENT_PROBABILITY:
        return DIFFERENT_PLACES, f"a probability of {_LOW} or less"
    if probability < MIN_SAME_PROBABILITY:
        return UNSURE, f"{missing}, and a probability between {_LOW} and {_HIGH}"
    return UNSURE, f"a high probability, but {missing}"


def _judged_with_model(probability: float | None, inlier_coverage: float | None) -> tuple[str, str]:
    if probability is None:
        return SAME_PLACE, "a geometric model; no probability is known"
    if probability >= MIN_SAME_PROBABILITY:
        return SAME_PLACE, f"a geometric model, and a probability of {_HIGH} or more"
    if (inlier_coverage or 0) >= MIN_SAME_COVERAGE:
        return SAME_PLACE, f"a geometric model over {MIN_SAME_COVERAGE:.0%} or more of both photos"
    if probability <= MAX_DIFFERENT_PROBABILITY:
        return DIFFERENT_PLACES, f"a probability of {_LOW} or less, despite a geometric model"
    return UNSURE, f"a geometric model, but a probability below {_HIGH}"
