"""Names beside bars, rows and lines: whole where they fit, and never two that read alike."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from veduta.pages.chart_style import matplotlib_settings, visible

__all__ = ["BAR_NAME_WIDTH", "FittedNames", "fitted_names"]

BAR_NAME_WIDTH = 130.0
"""The largest width in points of a name beside a bar or a row."""

_HEAD_SHARES = (0.5, 0.3, 0.7, 0.1, 0.9)
"""How much of a shortened name is its beginning. Others are tried where two would be equal."""


@dataclass(frozen=True, slots=True)
class FittedNames:
    """Names as a chart shows them.

    Attributes:
        texts: what is shown for each name.
        width: of the widest of them, in points.
    """

    texts: list[str]
    width: float


def fitted_names(names: Sequence[str], width: float, size: float) -> FittedNames:
    """Return each name, without its middle if it is wider than `width`.

    Different names stay different. Names that would still read alike, and names with letters that
    no font has, begin with their number in the list.

    Args:
        names: any text.
        width: the largest width in points.
        size: of the font in points.
    """
    with matplotlib_settings(hash_salt=""):
        measure, drawable = _measure(size), _drawable()
        texts = [visible(name) for name in names]
        shown = [_shortened(text, width, measure) for text in texts]
        for share in _HEAD_SHARES[1:]:
            for number in _alike(shown, texts):
                shown[number] = _shortened(texts[number], width, measure, share)
        unreadable = {n for n, text in enumerate(texts) if not all(map(drawable, text))}
        for number in unreadable.union(_alike(shown, texts)):
            start = f"{number + 1}: "
            shown[number] = start + _shortened(texts[number], width - measure(start), measure)
        return FittedNames(shown, max(map(measure, shown), default=0.0))


def _alike(shown: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Return the positions of texts that are shown like another text."""
    different = Counter(one for one, _ in set(zip(shown, texts, strict=True)))
    return [number for number, one in enumerate(shown) if different[one] > 1]


def _shortened(
    text: str, width: float, measure: Callable[[str], float], head_share: float = 0.5
) -> str:
    if measure(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if measure(_without_middle(text, middle, head_share)) <= width:
            fits = middle
        else:
            too_long = middle
    return _without_middle(text, fits, head_share)


def _without_middle(text: str, letters: int, head_share: float) -> str:
    head = min(letters, max(1, round(letters * head_share)))
    tail = text[len(text) - (letters - head) :] if letters > head else ""
    while tail and unicodedata.combining(tail[0]):  # An accent without its letter
        tail = tail[1:]
    return f"{text[:head]}…{tail}"


def _measure(size: float) -> Callable[[str], float]:
    """Return a function from a text to its width in points, in the fonts of the charts."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font, layout = FontProperties(size=size), TextToPath()
    widths: dict[str, float] = {}

    def measure(text: str) -> float:
        if text not in widths:
            widths[text] = layout.get_text_width_height_descent(text, font, ismath=False)[0]
        return widths[text]

    return measure


def _drawable() -> Callable[[str], bool]:
    """Return a function that says whether one of the fonts has a letter."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    fonts: list[Any] = [
        get_font(fontManager.findfont(FontProperties(family=[family])))
        for family in rcParams["font.family"]
    ]
    return lambda letter: any(font.get_char_index(ord(letter)) for font in fonts)
