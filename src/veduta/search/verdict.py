"""The verdict on two photos, the same rule for a pair and for a hit of a search."""

from __future__ import annotations

SAME = 0.5
"""Probability from which on two photos show the same place, if geometry says so too."""
DIFFERENT = 0.1
"""Probability up to which they show different places."""

SAME_PLACE, UNSURE, DIFFERENT_PLACES = "same place", "unsure", "different"


def verdict_on(probability: float | None, model: str | None) -> str:
    """Return "same place", "unsure" or "different".

    What merely looks alike can reach a high probability, so the same place takes a geometric model
    as well.

    Args:
        probability: that both photos show the same, in [0, 1]; None where it is not known, and
            geometry decides alone. Its absence proves nothing: the verdict is then "unsure".
        model: `veduta.keypoints.Verification.model`.
    """
    if model is not None and (probability is None or probability >= SAME):
        return SAME_PLACE
    if probability is not None and probability <= DIFFERENT:
        return DIFFERENT_PLACES
    return UNSURE
