"""An explanation in words: what it explains, how its numbers add up, where its map is strongest."""

from __future__ import annotations

from veduta.explanation.explanation import Explanation
from veduta.explanation.strongest_region import StrongestRegion, strongest_region

__all__ = ["arithmetic", "region_of", "region_share", "strongest", "subject"]


def subject(explanation: Explanation) -> str:
    """Return "class india_gate, score 3.213" or "similarity 0.812"."""
    if explanation.class_name is None:
        return f"similarity {_decimal(explanation.similarity)}"
    return f"class {explanation.class_name}, score {_decimal(explanation.score)}"


def arithmetic(explanation: Explanation) -> str:
    """Return "sum 0.523 + constant 0.289 = similarity 0.812"; empty where a map has no such sum."""
    if explanation.constant is None:
        return ""
    of_class = explanation.class_name is not None
    total = explanation.score if of_class else explanation.similarity
    sign = "-" if explanation.constant < 0 else "+"
    return (
        f"sum {explanation.sum:.4f} {sign} constant {abs(explanation.constant):.4f} = "
        f"{'score' if of_class else 'similarity'} {0.0 if total is None else total:.4f}"
    )


def region_share(explanation: Explanation) -> str:
    """Return "the chosen region adds 0.085"; empty if no region was chosen."""
    if explanation.region_share is None:
        return ""
    return f"the chosen region adds {explanation.region_share:.4f}"


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
