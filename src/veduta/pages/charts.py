"""Charts for pages and papers: one recipe, drawn as SVG for a page or as PNG for anything else.

The SVG takes its ink from the page around it (`currentColor`) and has no background, so that it
reads in light and dark mode; its other colours keep a contrast of 3:1 on white and on near-black,
differ in lightness or dash as well as in hue (after Okabe and Ito, "Color Universal Design", 2008)
and never carry a meaning alone. The same chart gives the same bytes every time.

Matplotlib draws, through its objects: nothing here touches pyplot, and its settings are changed
only under a lock and only while a chart is drawn.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MOST_BARS", "Chart", "bars", "histogram", "lines", "matrix", "points"]

MOST_BARS = 200
"""Bars of one chart; more are no longer told apart."""

_WIDTH, _HEIGHT = 4.4, 2.9  # inches: a column of a paper, and a phone's screen
_TEXT, _SMALL, _TITLE = 9.0, 8.0, 10.5  # points

_INK, _PAPER = "#1c1b19", "#ffffff"
_RIGHT, _WRONG = "#1a76b5", "#c8560a"
_COLOURS = (_RIGHT, _WRONG, "#0f9070", "#a45aa8", "#7d776e", "#8c6d1f")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_MUTED, _FAINT = 0.7, 0.16  # opacity of the ink

_LONGEST_NAME = 26  # characters of a name beside a bar or a row
_MOST_MARKERS = 25  # points of a line that are marked one by one
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
_PAGE_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"

_drawing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that can be drawn any number of times, from any thread.

    `title`
        above the chart; also its name for those who hear the page.
    `draw`
        puts everything below the title into empty axes.
    `width`, `height`
        in inches.
    """

    title: str
    draw: Callable[[Axes], None]
    width: float = _WIDTH
    height: float = _HEIGHT

    def svg(self) -> str:
        """Return one `<svg>` element that needs nothing else: for an HTML page, or a file."""
        with _matplotlib(salt=self._salt()):
            drawn = io.StringIO()
            self._figure().savefig(drawn, format="svg", metadata={"Date": None})
        return _for_a_page(drawn.getvalue(), self.title)

    def png(self, *, width: int = 1200) -> bytes:
        """Return the chart as PNG on white, `width` pixels wide.

        Raises `ValueError` for a width outside 100 to 10,000.
        """
        if not 100 <= width <= 10_000:
            raise ValueError(f"a chart is 100 to 10,000 pixels wide, not {width}")
        with _matplotlib(salt=self._salt()):
            drawn = io.BytesIO()
            figure = self._figure()
            figure.patch.set(facecolor=_PAPER, alpha=1.0)
            dpi = width / self.width
            figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
        return drawn.getvalue()

    def _figure(self) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, self.height), layout="constrained")
        figure.patch.set_alpha(0.0)
        figure.suptitle(
            fill(_plain(self.title), int(10 * self.width)),
            x=0.01,
            ha="left",
            fontsize=_TITLE,
            fontweight="bold",
            color=_INK,
        )
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        for side, spine in axes.spines.items():
            spine.set(visible=side == "bottom", color=_INK, alpha=_MUTED, linewidth=0.8)
        axes.tick_params(colors=_INK, labelsize=_SMALL, width=0.8, length=3)
        axes.set_axisbelow(True)
        self.draw(axes)
        return figure

    def _salt(self) -> str:
        """Return what keeps the ids of two charts on one page apart."""
        return ascii((self.title, self.width, self.height))


def bars(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    *,
    x_label: str = "",
    y_label: str = "",
    horizontal: bool = True,
) -> Chart:
    """Return one bar a name, the first at the top (or at the left), its value written at its end.

    `values` are 0 or more, whole numbers or not.

    Raises `ValueError` when the lengths differ, for no bar, more than `MOST_BARS`, and for a value
    that is negative or not finite.
    """
    heights = np.asarray(values, np.float64)
    if len(names) != len(heights) or not 1 <= len(names) <= MOST_BARS:
        raise ValueError(
            f"{len(names)} names and {len(heights)} values; wanted as many of one as of the other, "
            f"1 to {MOST_BARS}"
        )
    if not np.isfinite(heights).all() or (heights < 0).any():
        raise ValueError("the length of a bar must be finite and not negative")
    places = range(len(names))
    shown = [_short(name) for name in names]
    written = [_number(value) for value in heights]
    top = float(heights.max()) or 1.0

    def across(axes: Axes) -> None:
        axes.barh(places, heights, height=0.72, color=_COLOURS[0])
        axes.set(xlim=(0, top * 1.02), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(list(places), shown)
        axes.tick_params(axis="y", length=0, pad=4)
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_visible(False)
        for place, height, text in zip(places, heights, written, strict=True):
            _note(axes, text, (height, place), (3, 0), ha="left", va="center")
        _label(axes, x_label, y_label)
        if x_label:  # the axis itself says nothing that the numbers do not
            axes.xaxis.set_visible(True)
            axes.set_xticks([])

    def upright(axes: Axes) -> None:
        axes.bar(places, heights, width=0.72, color=_COLOURS[0])
        axes.set(ylim=(0, top * 1.04), xlim=(-0.6, len(names) - 0.4))
        turned = len(names) > 6 or sum(map(len, shown)) > 45
        axes.set_xticks(list(places), shown, rotation=90 if turned else 0)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_visible(False)
        if len(names) <= 12:
            for place, height, text in zip(places, heights, written, strict=True):
                _note(axes, text, (place, height), (0, 2), ha="center", va="bottom")
        else:
            axes.yaxis.set_visible(True)
            _grid(axes, "y")
        _label(axes, x_label, y_label)

    if horizontal:
        return Chart(title, across, height=0.55 + 0.2 * len(names) + (0.2 if x_label else 0))
    return Chart(title, upright, width=max(_WIDTH, 0.13 * len(names)))


def lines(
    title: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    steps: bool = False,
    marks: Sequence[tuple[float, float, str]] = (),
    log_x: bool = False,
    log_y: bool = False,
    fill: bool = False,
) -> Chart:
    """Return one line a series, told apart by colour and dash, named above when there are several.

    `series`
        name → (x, y), both (N,); a value that is not finite leaves a gap. Up to 25 points are
        marked one by one.
    `x_range`, `y_range`
        what the axes show; all there is when None.
    `diagonal`
        draw y = x, faint: what perfect calibration or plain chance looks like.
    `steps`
        keep each y until the next x.
    `marks`
        (x, y, text): points to ring and name, such as the threshold in use.
    `log_x`, `log_y`
        logarithmic axes; `fill` the area below the lines.

    Raises `ValueError` for no series and for x and y of different lengths.
    """
    data = {name: (_vector(x), _vector(y)) for name, (x, y) in series.items()}
    if not data:
        raise ValueError("a chart of lines needs one series at least")
    for name, (x, y) in data.items():
        if len(x) != len(y):
            raise ValueError(f"{name!r}: {len(x)} values of x and {len(y)} of y")

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.axline((0, 0), slope=1, color=_INK, alpha=0.45, linewidth=0.8, linestyle=":")
        for number, (name, (x, y)) in enumerate(data.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            few = len(x) <= _MOST_MARKERS and not steps
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.7,
                drawstyle="steps-post" if steps else "default",
                label=_short(name),
                marker="o" if few else None,
                markersize=3.6,
                clip_on=not few,
            )
            if fill:
                axes.fill_between(
                    x, y, color=colour, alpha=0.16, linewidth=0, step="post" if steps else None
                )
        all_x, all_y = (np.concatenate([pair[at] for pair in data.values()]) for at in (0, 1))
        _scales(axes, all_x, all_y, log_x=log_x, log_y=log_y)
        axes.set(xlim=x_range, ylim=y_range)
        for x_mark, y_mark, text in marks:
            axes.plot(
                [x_mark],
                [y_mark],
                marker="o",
                markersize=7,
                markerfacecolor="none",
                markeredgecolor=_INK,
                markeredgewidth=1.2,
                zorder=5,
                clip_on=False,
            )
            _name_point(axes, text, (x_mark, y_mark))
        _grid(axes, "both")
        _label(axes, x_label, y_label)
        if len(data) > 1:
            _legend(axes, len(data))

    rows_of_legend = -(-len(data) // 2) if len(data) > 1 else 0
    return Chart(title, draw, height=_HEIGHT + 0.17 * rows_of_legend)


def histogram(
    title: str,
    counts: ArrayLike,
    edges: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    log_x: bool = False,
) -> Chart:
    """Return a histogram of counts that somebody else has made: B `counts`, B + 1 rising `edges`.

    Raises `ValueError` when the numbers do not go together, and for edges of 0 or less with
    `log_x`.
    """
    heights, sides = _vector(counts), _vector(edges)
    if not len(heights) or len(sides) != len(heights) + 1 or not (np.diff(sides) > 0).all():
        raise ValueError(
            f"{len(heights)} counts and {len(sides)} edges; wanted one edge more than counts, each "
            "greater than the one before"
        )
    if log_x and sides[0] <= 0:
        raise ValueError("edges on a logarithmic axis must be greater than 0")

    def draw(axes: Axes) -> None:
        # A gap as thin as a hair tells neighbours of the same height apart.
        ends = np.log(sides) if log_x else sides
        gap = 0.03 * np.diff(ends)
        left, right = ends[:-1] + gap, ends[1:] - gap
        if log_x:
            left, right = np.exp(left), np.exp(right)
        axes.bar(left, heights, right - left, align="edge", color=_COLOURS[0])
        # Whole numbers are counted between edges halfway between them.
        _scales(axes, sides + sides[0] % 1, heights, log_x=log_x, log_y=log_y)
        axes.set_xlim(sides[0], sides[-1])
        if log_y:
            axes.set_ylim(0.7, max(float(heights.max()) * 1.6, 10))
        else:
            axes.set_ylim(0, (float(heights.max()) or 1.0) * 1.05)
        _grid(axes, "y")
        _label(axes, x_label, y_label)

    return Chart(title, draw)


def points(
    title: str,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> Chart:
    """Return a dot for each (x, y), its area in proportion to its weight; all (N,).

    `diagonal`: draw y = x, and the same scale on both axes.

    Raises `ValueError` for different lengths and for no point.
    """
    across, up = _vector(x), _vector(y)
    areas = np.ones(len(across)) if weights is None else _vector(weights)
    if not len(across) or not len(across) == len(up) == len(areas):
        raise ValueError(f"{len(across)} x, {len(up)} y, {len(areas)} weights; wanted as many each")
    area = np.clip(90 * areas / areas.max(), 4, None)

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.axline((0, 0), slope=1, color=_INK, alpha=0.45, linewidth=0.8, linestyle=":")
        order = np.argsort(-area, kind="stable")  # the small ones on top
        axes.scatter(
            across[order],
            up[order],
            s=area[order],
            color=_COLOURS[0],
            alpha=0.55,
            edgecolors="none",
            clip_on=False,
        )
        axes.set_xlim(0, float(across.max()) * 1.05 or 1.0)
        axes.set_ylim(0, float(up.max()) * 1.05 or 1.0)
        _scales(axes, across, up, log_x=False, log_y=False)
        _grid(axes, "both")
        _label(axes, x_label, y_label)

    return Chart(title, draw, height=_HEIGHT + 0.3)


def matrix(
    title: str,
    counts: ArrayLike,
    names: Sequence[str],
    *,
    x_label: str = "named as",
    y_label: str = "shows",
) -> Chart:
    """Return a confusion matrix as a heat map, made for 2 to 200 classes.

    `counts` is (C, C): row = what the photo shows, column = what it was named. A cell is shaded by
    its share of its row, blue on the diagonal (right) and orange beside it (wrong); nothing is
    drawn where the count is 0. Up to 12 classes have their counts written in; from about 60 on
    only every so many names fits.

    Raises `ValueError` when `counts` is not square, does not fit `names`, or holds a negative.
    """
    table = np.asarray(counts, np.float64)
    if table.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"{table.shape} counts and {len(names)} names; wanted (C, C) and C")
    if not np.isfinite(table).all() or (table < 0).any():
        raise ValueError("the counts of a matrix must be finite and not negative")
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    classes = len(names)
    # A single mistake among hundreds of cells is a dot: it must not be a pale one.
    least = 0.18 + 0.35 * min(1.0, classes / 100)
    opacity = np.where(table > 0, least + (1 - least) * share, 0.0)
    side = float(np.clip(0.1 * classes + 1.8, 2.4, 7.0))
    pitch = 72 * side / classes  # points from one row to the next
    size = float(np.clip(0.85 * pitch, 6.0, _SMALL))
    every = int(np.ceil(1.1 * size / pitch))
    at = list(range(0, classes, every))
    shown = [_short(names[place], _LONGEST_NAME if classes > 6 else 14) for place in at]
    longest = max(map(len, shown))
    upright = classes <= 6 and longest * classes <= 40
    beside = 0.65 * size * longest / 72

    def draw(axes: Axes) -> None:
        cells = np.empty((classes, classes, 4))
        cells[..., :3] = _rgb(_WRONG)
        cells[np.arange(classes), np.arange(classes), :3] = _rgb(_RIGHT)
        cells[..., 3] = opacity
        axes.imshow(cells, interpolation="none", aspect="equal")
        axes.set_xticks(at, shown, rotation=0 if upright else 90)
        axes.set_yticks(at, shown)
        axes.tick_params(length=0 if every == 1 else 2, labelsize=size, pad=3)
        for spine in axes.spines.values():
            spine.set(visible=True, alpha=0.3)
        if classes <= 12:
            for row, column in zip(*np.nonzero(table), strict=True):
                dark = opacity[row, column] > 0.85
                axes.text(
                    column,
                    row,
                    _number(table[row, column]),
                    ha="center",
                    va="center",
                    fontsize=_SMALL if classes <= 8 else 6.5,
                    color=_PAPER if dark else _INK,
                )
        _label(axes, x_label, y_label)

    return Chart(
        title, draw, width=side + beside + 0.45, height=side + (0.2 if upright else beside) + 0.7
    )


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    vector: NDArray[np.float64] = np.asarray(values, np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{vector.shape} values; wanted one dimension")
    return vector


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def _tick(value: float, _position: float | None = None) -> str:
    """Return a number of an axis: 20k, 1.5M, 0.25."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.4g}{letter}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _plain(text: str) -> str:
    """Return `text` with every character that has no shape of its own as an escape."""
    return "".join(
        c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else c.encode("unicode_escape").decode()
        for c in text
    )


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return `name` without its middle where it is too long, so that its end stays."""
    plain = _plain(name)
    if len(plain) <= longest:
        return plain
    head = longest // 2
    return f"{plain[:head]}…{plain[head + 1 - longest :]}"


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    for set_label, text in ((axes.set_xlabel, x_label), (axes.set_ylabel, y_label)):
        if text:
            set_label(_plain(text), fontsize=_TEXT, color=_INK, alpha=0.85)


def _note(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], **how: Any
) -> None:
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=_SMALL, color=_INK, **how)


def _name_point(axes: Axes, text: str, at: tuple[float, float]) -> None:
    """Write beside a point, on the side towards the middle of the chart."""
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(at))
    right, above = x < 0.5, y < 0.5
    _note(
        axes,
        _short(text, 40),
        at,
        (7 if right else -7, 5 if above else -5),
        ha="left" if right else "right",
        va="bottom" if above else "top",
    )


def _grid(axes: Axes, axis: Any) -> None:
    axes.grid(visible=True, which="major", axis=axis, color=_INK, alpha=_FAINT, linewidth=0.7)
    if axis in {"both", "y"}:
        axes.tick_params(axis="y", length=0)


def _scales(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, log_x: bool, log_y: bool
) -> None:
    """Set both scales, with ticks at whole numbers where there are no others."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    for axis, set_scale, values, logarithmic in (
        (axes.xaxis, axes.set_xscale, x, log_x),
        (axes.yaxis, axes.set_yscale, y, log_y),
    ):
        finite = values[np.isfinite(values)]
        if logarithmic:
            set_scale("log")
            axis.set_minor_locator(NullLocator())
            shown = finite[finite > 0]
            if len(shown) and shown.max() < 300 * shown.min():
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        else:
            whole = bool((finite == np.rint(finite)).all()) and finite.max(initial=0) > 1
            axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole))
        axis.set_major_formatter(_tick)


def _legend(axes: Axes, entries: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(entries, 2),
        frameon=False,
        fontsize=_SMALL,
        labelcolor=_INK,
        borderaxespad=0.2,
        handlelength=2.4,
        columnspacing=1.4,
    )


@contextmanager
def _matplotlib(*, salt: str) -> Iterator[None]:
    """Hold matplotlib's settings at its defaults and ours, whatever the user's own are."""
    with _drawing, _quiet():
        from matplotlib import style
        from matplotlib.font_manager import fontManager

        installed = {font.name for font in fontManager.ttflist}
        ours = {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "text.parse_math": False,
            "font.family": [font for font in _FONTS if font in installed],
        }
        with style.context(["default", ours]):
            yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what does not concern them.

    That is: a home that cannot be written to, where matplotlib would keep its list of fonts (it
    takes a temporary folder instead), and letters that none of its fonts has.
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


_PROLOG = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
# A rule for every element of the page that the drawing is put into.
_STYLE = re.compile(r"\s*<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_ROOT = re.compile(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')
_TAG = re.compile(r"<[^>]+>")
_COUNTED_ID = re.compile(r' id="[A-Za-z.]\w*?(?:\.\w+)*_\d+"')
_FONT = re.compile(r" font-family: [^;\"]*;?")
_UNTURNED = re.compile(r' transform="rotate\(-?0 [^"]*\)"')
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")


def _for_a_page(drawing: str, title: str) -> str:
    """Return matplotlib's SVG file as an element that minds only its own business."""
    text = _STYLE.sub("", _METADATA.sub("", _PROLOG.sub("", drawing)), count=1)
    text = _TAG.sub(lambda tag: _tidied(tag[0]), text)
    root = _ROOT.search(text)
    assert root is not None, "matplotlib writes a viewBox"  # noqa: S101
    width, height = float(root[1]), float(root[2])
    name = escape(_plain(title))
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{name}" width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width: 100%; height: auto; '
        f'font-family: {_PAGE_FONTS}; stroke-linejoin: round; stroke-linecap: butt">'
        f"<title>{name}</title>"
    )
    return text[: root.start()] + opening + text[root.end() :].strip()


def _tidied(tag: str) -> str:
    tag = _UNTURNED.sub("", _COUNTED_ID.sub("", tag)).replace(_INK, "currentColor")
    if tag.startswith(("<text", "<tspan")):
        tag = _FONT.sub("", tag)
    if not tag.startswith("<image"):
        tag = _LONG_NUMBER.sub(r"\1", tag)
    return tag
