"""The verdict on two photos, the same rule for a pair and for a hit of a search."""

from __future__ import annotations

SAME = 0.9
"""Probability from which on two photos show the same place, if geometry says so too."""
SAME_VIEW = 0.7
"""Share of both photos that inliers cover from which on they are almost the same view, and the
same place however common their looks are in a collection."""
DIFFERENT = 0.1
"""Probability up to which they show different places."""

SAME_PLACE, UNSURE, DIFFERENT_PLACES = "same place", "unsure", "different"


def verdict_on(probability: float | None, model: str | None, spread: float | None) -> str:
    """Return "same place", "unsure" or "different".

    What merely looks alike can reach a high probability, so the same place takes a geometric model
    as well.

    Args:
        probability: that both photos show the same, in [0, 1]; None where it is not known, and
            geometry decides alone. Its absence proves nothing: the verdict is then "unsure".
        model: `veduta.keypoints.Verification.model`.
        spread: of the same verification, in [0, 1]; None: not verified.
    """
    likely = probability is None or probability >= SAME or (spread or 0) >= SAME_VIEW
    if model is not None and likely:
        return SAME_PLACE
    if probability is not None and probability <= DIFFERENT:
        return DIFFERENT_PLACES
    return UNSURE
