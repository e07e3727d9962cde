"""What `veduta explain` prints for people, in lines of at most 80 columns where names allow it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from veduta.cli.printing import say, shown
from veduta.text import duration, printable

if TYPE_CHECKING:
    from veduta.explanation import Explanation

_WIDTH = 80


def print_explanations(explanations: Sequence[Explanation], *, after_others: bool) -> None:
    """Print where each map is strongest, and how its numbers add up.

    Args:
        explanations: one or more of the same photo, or of the same two photos.
        after_others: leave a line free before them.
    """
    from veduta.explanation.wording import subject

    photos = [shown(one.photo) for one in (explanations[0], explanations[0].against) if one]
    if after_others:
        say()
    say(bold=" and ".join(photos))
    say(f"  {subject(explanations[0])}")
    width = max(len(one.method) for one in explanations)
    for one in explanations:
        for at, line in enumerate(_lines(one, _WIDTH - width - 4)):
            say(f"  {'' if at else one.method:<{width}}  {line}")


def _lines(explanation: Explanation, width: int) -> Iterator[str]:
    from veduta.explanation.wording import arithmetic, region_share, strongest

    if explanation.against is None:
        yield from _wrapped(strongest(explanation), width)
    else:
        for one in (explanation, explanation.against):
            yield from _wrapped(f"{os.path.basename(one.photo)}, {strongest(one)}", width)
    if numbers := arithmetic(explanation):
        yield numbers
    yield from _wrapped(region_share(explanation), width)
    layer = f", layer {explanation.layer}" if explanation.layer else ""
    height, across = explanation.map.shape
    yield f"{across} × {height} positions, {duration(explanation.seconds)}{layer}"
    for note in explanation.notes:
        yield from _wrapped(note, width)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken between words: names of photos stay whole."""
    return wrap(printable(text), width, break_long_words=False, break_on_hyphens=False)
