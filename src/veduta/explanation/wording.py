"""An explanation in words: what it explains, how its numbers add up, where its map is strongest."""

from __future__ import annotations

from veduta.explanation.explanation import Explanation
from veduta.explanation.strongest_region import StrongestRegion, strongest_region

__all__ = ["arithmetic", "region_of", "region_share", "strongest", "subject"]

_EXACT = 5e-4
"""Larger differences between a sum and its total show in four decimals."""


def subject(explanation: Explanation) -> str:
    """Return "class india_gate, score 3.213" or "similarity 0.812"."""
    if explanation.class_name is None:
        return f"similarity {_decimal(explanation.similarity)}"
    return f"class {explanation.class_name}, score {_decimal(explanation.score)}"


def arithmetic(explanation: Explanation) -> str:
    """Return "sum 0.5230 + constant 0.2890 = similarity 0.8120".

    Args:
        explanation: integrated gradients only come near the score, so the text says "is about".

    Returns:
        The text; empty where a map has no such sum.
    """
    of_class = explanation.class_name is not None
    total = explanation.score if of_class else explanation.similarity
    if explanation.constant is None or total is None:
        return ""
    difference = abs(explanation.sum + explanation.constant - total)
    return (
        f"sum {explanation.sum:.4f} {'-' if explanation.constant < 0 else '+'} "
        f"constant {abs(explanation.constant):.4f} {'is about' if difference > _EXACT else '='} "
        f"{'score' if of_class else 'similarity'} {total:.4f}"
    )


def region_share(explanation: Explanation) -> str:
    """Return "the chosen region adds 0.0850: 0.1020 on the other map - 0.0170 of the constant".

    The map of the other photo is what answers to the region there. Its sum is not all that the
    region adds: the region also has a part of what belongs to no position.

    Args:
        explanation: with a region and `against`, or without.

    Returns:
        The text; empty if no region was chosen.
    """
    share, answer = explanation.region_share, explanation.against
    if share is None or answer is None:
        return ""
    rest = share - answer.sum
    return (
        f"the chosen region adds {share:.4f}: {answer.sum:.4f} on the other map "
        f"{'-' if rest < 0 else '+'} {abs(rest):.4f} of the constant"
    )


def region_of(explanation: Explanation) -> StrongestRegion | None:
    """Return the strongest region of the map, or None if no region stands out."""
    height, width = explanation.pixels.shape[:2]
    return strongest_region(explanation.map, explanation.box, (width, height))


def strongest(explanation: Explanation) -> str:
    """Return "upper middle: 31 % of the positive sum in 10 % of the photo"."""
    region = region_of(explanation)
    if region is None:
        return "no region stands out"
    return (
        f"{region.place}: {_percent(region.share_of_sum)} of the positive sum in "
        f"{_percent(region.share_of_photo)} of the photo"
    )


def _decimal(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.005 else f"{100 * share:.0f} %"
