"""How charts look: colours, sizes, fonts, axes and labels, and the settings of matplotlib."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "DASHES",
    "HEIGHT",
    "INK",
    "MUTED",
    "PAPER",
    "RIGHT",
    "SMALL_TEXT",
    "TITLE_TEXT",
    "WIDTH",
    "WRONG",
    "add_grid",
    "add_legend",
    "annotate",
    "annotate_point",
    "label_axes",
    "matplotlib_settings",
    "set_scales",
    "shorten",
    "visible",
]

WIDTH, HEIGHT = 4.4, 2.9  # inches: a column of a paper, and the screen of a phone
TEXT, SMALL_TEXT, TITLE_TEXT = 9.0, 8.0, 10.5  # points

INK, PAPER = "#1c1b19", "#ffffff"
RIGHT, WRONG = "#1a76b5", "#c8560a"
COLOURS = (RIGHT, WRONG, "#0f9070", "#a45aa8", "#7d776e", "#8c6d1f")
"""They differ in lightness as well as in hue (after Okabe and Ito, "Color Universal Design", 2008),
and have a contrast of 3:1 on white and on near-black."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MUTED, FAINT = 0.7, 0.16  # opacity of the ink

_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "WenQuanYi Zen Hei",
)

_lock = threading.Lock()


def visible(text: str) -> str:
    """Return `text` with an escape for every character that has no shape of its own."""
    return "".join(
        c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else c.encode("unicode_escape").decode()
        for c in text
    )


def shorten(name: str, longest: int) -> str:
    """Return `name` without its middle where it is too long, so that its end stays."""
    text = visible(name)
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Write the names of the axes; none where the name is empty."""
    for set_label, text in ((axes.set_xlabel, x_label), (axes.set_ylabel, y_label)):
        if text:
            set_label(visible(text), fontsize=TEXT, color=INK, alpha=0.85)


def annotate(
    axes: Axes, text: str, position: tuple[float, float], offset: tuple[int, int], **options: Any
) -> None:
    """Write small text beside a position, moved by an offset in points."""
    axes.annotate(
        text,
        position,
        offset,
        textcoords="offset points",
        fontsize=SMALL_TEXT,
        color=INK,
        **options,
    )


def annotate_point(axes: Axes, text: str, position: tuple[float, float]) -> None:
    """Write beside a point, on the side towards the middle of the chart."""
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(position))
    right, above = x < 0.5, y < 0.5
    annotate(
        axes,
        shorten(text, 40),
        position,
        (7 if right else -7, 5 if above else -5),
        ha="left" if right else "right",
        va="bottom" if above else "top",
    )


def add_grid(axes: Axes, axis: Any) -> None:
    """Draw faint lines at the ticks of "x", "y" or "both"."""
    axes.grid(visible=True, which="major", axis=axis, color=INK, alpha=FAINT, linewidth=0.7)
    if axis in {"both", "y"}:
        axes.tick_params(axis="y", length=0)


def set_scales(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, log_x: bool, log_y: bool
) -> None:
    """Set both scales, with ticks at whole numbers where all values are whole."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    for axis, set_scale, values, logarithmic in (
        (axes.xaxis, axes.set_xscale, x, log_x),
        (axes.yaxis, axes.set_yscale, y, log_y),
    ):
        finite = values[np.isfinite(values)]
        if logarithmic:
            set_scale("log")
            axis.set_minor_locator(NullLocator())
            positive = finite[finite > 0]
            if len(positive) and positive.max() < 300 * positive.min():
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        else:
            integers = bool((finite == np.rint(finite)).all()) and finite.max(initial=0) > 1
            axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integers))
        axis.set_major_formatter(_format_tick)


def add_legend(axes: Axes, entries: int) -> None:
    """Write the names of the series above the axes, in two columns."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(entries, 2),
        frameon=False,
        fontsize=SMALL_TEXT,
        labelcolor=INK,
        borderaxespad=0.2,
        handlelength=2.4,
        columnspacing=1.4,
    )


@contextmanager
def matplotlib_settings(*, hash_salt: str) -> Iterator[None]:
    """Hold matplotlib's settings at its defaults and ours, whatever the user's own are.

    Only one chart is drawn at a time, and the user's settings come back at the end.

    Args:
        hash_salt: makes the ids of two charts on one page differ.
    """
    with _lock, _without_warnings():
        from matplotlib import style
        from matplotlib.font_manager import fontManager

        installed = {font.name for font in fontManager.ttflist}
        ours = {
            "svg.fonttype": "none",
            "svg.hashsalt": hash_salt,
            "text.parse_math": False,
            "font.family": [font for font in _FONTS if font in installed],
        }
        with style.context(["default", ours]):
            yield


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide two warnings that do not concern the user.

    Matplotlib keeps its list of fonts in the home folder, and in a temporary folder where the home
    cannot be written. A letter may be in none of its fonts.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
            yield
    finally:
        log.setLevel(level)


def _format_tick(value: float, _position: float | None = None) -> str:
    """Return a number of an axis: 20k, 1.5M, 0.25."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.4g}{letter}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
