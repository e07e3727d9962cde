"""What `veduta explain` prints for people, in lines of at most 80 columns where names allow it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from veduta.cli.printing import say, shown
from veduta.text import duration

if TYPE_CHECKING:
    from veduta.explanation import Explanation

_WIDTH = 80


def print_explanations(groups: Sequence[Sequence[Explanation]]) -> None:
    """Print where each map is strongest, and how its numbers add up.

    Args:
        groups: each with the maps of one photo, or of two photos.
    """
    for number, explanations in enumerate(groups):
        if number:
            say()
        _print_group(explanations)


def _print_group(explanations: Sequence[Explanation]) -> None:
    from veduta.explanation.wording import subject

    photos = [shown(one.photo) for one in (explanations[0], explanations[0].against) if one]
    say(bold=" and ".join(photos))
    say(f"  {subject(explanations[0])}")
    width = max(len(one.method) for one in explanations)
    for one in explanations:
        for at, line in enumerate(_lines(one, _WIDTH - width - 4)):
            say(f"  {'' if at else one.method:<{width}}  {line}")


def _lines(explanation: Explanation, width: int) -> Iterator[str]:
    from veduta.explanation.wording import arithmetic, region_share, strongest

    if explanation.against is None:
        yield from wrap(strongest(explanation), width)
    else:
        for one in (explanation, explanation.against):
            yield from wrap(f"{os.path.basename(one.photo)}, {strongest(one)}", width)
    if numbers := arithmetic(explanation):
        yield numbers
    if region := region_share(explanation):
        yield region
    layer = f", layer {explanation.layer}" if explanation.layer else ""
    height, across = explanation.map.shape
    yield f"{across} × {height} positions, {duration(explanation.seconds)}{layer}"
    for note in explanation.notes:
        yield from wrap(note, width)
