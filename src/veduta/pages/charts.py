"""Charts for pages and papers: one recipe, drawn as SVG for a page or as PNG for anything else.

The SVG takes the colour of its text from the page around it (`currentColor`) and has no background,
so it can be read in light and dark mode. Colours never carry a meaning alone. The same chart gives
the same bytes every time. Nothing here uses pyplot.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from veduta.pages.chart_names import BAR_NAME_WIDTH, fitted_names
from veduta.pages.chart_style import (
    COLOURS,
    DASHES,
    HEIGHT,
    INK,
    MUTED,
    PAPER,
    RIGHT,
    SMALL_TEXT,
    TITLE_TEXT,
    WIDTH,
    WRONG,
    add_grid,
    add_legend,
    annotate,
    annotate_point,
    label_axes,
    matplotlib_settings,
    set_scales,
    visible,
)
from veduta.pages.svg import page_element
from veduta.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_BARS", "Chart", "bars", "histogram", "lines", "matrix", "points"]

MAX_BARS = 200
"""Bars of one chart. More cannot be told apart."""

# Points.
_MAX_SERIES_NAME = 125
"""Of a name in a legend of two columns."""
_MAX_ROW_NAME, _MAX_ROW_NAME_SHARE = 216, 0.75
"""Of names beside a matrix, and their share of its side."""

_PIXELS_PER_INCH = 150
"""Of a PNG that is wider than 1,200 pixels, so that its text can be read."""

_MAX_MARKERS = 25  # points of a line that are marked one by one


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that can be drawn any number of times, from any thread.

    Attributes:
        title: above the chart, and its name for readers who cannot see it.
        draw: puts everything below the title into empty axes.
        width: in inches.
        height: in inches.
    """

    title: str
    draw: Callable[[Axes], None]
    width: float = WIDTH
    height: float = HEIGHT

    def svg(self) -> str:
        """Return one `<svg>` element that needs nothing else, for an HTML page or a file."""
        file = io.StringIO()
        with matplotlib_settings(hash_salt=self._hash_salt()):
            self._figure().savefig(file, format="svg", metadata={"Date": None})
        return page_element(file.getvalue(), title=visible(self.title), ink=INK)

    def png(self, *, width: int | None = None) -> bytes:
        """Return the chart as PNG on white.

        Args:
            width: pixels, 100 to 10,000. None: 1,200, or more for a chart of more than 8 inches.

        Raises:
            ValueError: the width is outside that range.
        """
        if width is None:
            width = min(max(1200, round(_PIXELS_PER_INCH * self.width)), 10_000)
        if not 100 <= width <= 10_000:
            raise ValueError(f"a chart is 100 to 10,000 pixels wide, not {width}")
        file = io.BytesIO()
        with matplotlib_settings(hash_salt=self._hash_salt()):
            figure = self._figure()
            figure.patch.set(facecolor=PAPER, alpha=1.0)
            dpi = width / self.width
            figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
        return file.getvalue()

    def _figure(self) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, self.height), layout="constrained")
        figure.patch.set_alpha(0.0)
        figure.suptitle(
            fill(visible(self.title), int(10 * self.width)),
            x=0.01,
            ha="left",
            fontsize=TITLE_TEXT,
            fontweight="bold",
            color=INK,
        )
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        for side, spine in axes.spines.items():
            spine.set(visible=side == "bottom", color=INK, alpha=MUTED, linewidth=0.8)
        axes.tick_params(colors=INK, labelsize=SMALL_TEXT, width=0.8, length=3)
        axes.set_axisbelow(True)
        self.draw(axes)
        return figure

    def _hash_salt(self) -> str:
        """Return a text that makes the ids of two charts on one page differ."""
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
    """Return one bar a name, the first at the top or at the left, with its value at its end.

    Args:
        title: above the chart.
        names: 1 to `MAX_BARS`.
        values: as many, each 0 or more, whole numbers or not.
        x_label: below the chart.
        y_label: beside the chart.
        horizontal: whether the bars lie.

    Raises:
        ValueError: the lengths differ, there are too few or too many bars, or a value is negative
            or not finite.
    """
    lengths = np.asarray(values, np.float64)
    if len(names) != len(lengths) or not 1 <= len(names) <= MAX_BARS:
        raise ValueError(
            f"{len(names)} names and {len(lengths)} values; wanted as many of one as of the other, "
            f"1 to {MAX_BARS}"
        )
    if not np.isfinite(lengths).all() or (lengths < 0).any():
        raise ValueError("the length of a bar must be finite and not negative")
    positions = range(len(names))
    shown = fitted_names(names, BAR_NAME_WIDTH, SMALL_TEXT).texts
    value_texts = [format_number(value) for value in lengths]
    longest = float(lengths.max()) or 1.0

    def draw_horizontal(axes: Axes) -> None:
        axes.barh(positions, lengths, height=0.72, color=COLOURS[0])
        axes.set(xlim=(0, longest * 1.02), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(list(positions), shown)
        axes.tick_params(axis="y", length=0, pad=4)
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_visible(False)
        for position, length, text in zip(positions, lengths, value_texts, strict=True):
            annotate(axes, text, (length, position), (3, 0), ha="left", va="center")
        label_axes(axes, x_label, y_label)
        if x_label:  # The values stand at the bars, so the axis has a name and no ticks.
            axes.xaxis.set_visible(True)
            axes.set_xticks([])

    def draw_upright(axes: Axes) -> None:
        axes.bar(positions, lengths, width=0.72, color=COLOURS[0])
        axes.set(ylim=(0, longest * 1.04), xlim=(-0.6, len(names) - 0.4))
        rotated = len(names) > 6 or sum(map(len, shown)) > 45
        axes.set_xticks(list(positions), shown, rotation=90 if rotated else 0)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_visible(False)
        if len(names) <= 12:
            for position, length, text in zip(positions, lengths, value_texts, strict=True):
                annotate(axes, text, (position, length), (0, 2), ha="center", va="bottom")
        else:
            axes.yaxis.set_visible(True)
            add_grid(axes, "y")
        label_axes(axes, x_label, y_label)

    if horizontal:
        height = 0.55 + 0.2 * len(names) + (0.2 if x_label else 0)
        return Chart(title, draw_horizontal, height=height)
    return Chart(title, draw_upright, width=max(WIDTH, 0.13 * len(names)))


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
    """Return one line a series. Lines differ in colour and dash; several have a legend.

    Args:
        title: above the chart.
        series: name → (x, y), both (N,). A value that is not finite leaves a gap. Up to 25 points
            are marked one by one.
        x_label: below the chart.
        y_label: beside the chart.
        x_range: what the x axis shows; None: all points.
        y_range: what the y axis shows; None: all points.
        diagonal: draw y = x faintly, as perfect calibration or chance looks.
        steps: keep each y until the next x.
        marks: (x, y, text) of points to ring and name, such as the threshold in use.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic.
        fill: fill the area below the lines.

    Raises:
        ValueError: there is no series, or x and y have different lengths.
    """
    data = {name: (_vector(x), _vector(y)) for name, (x, y) in series.items()}
    if not data:
        raise ValueError("a chart of lines needs at least one series")
    for name, (x, y) in data.items():
        if len(x) != len(y):
            raise ValueError(f"{name!r}: {len(x)} values of x and {len(y)} of y")
    shown = fitted_names(list(data), _MAX_SERIES_NAME, SMALL_TEXT).texts

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.axline((0, 0), slope=1, color=INK, alpha=0.45, linewidth=0.8, linestyle=":")
        for number, (x, y) in enumerate(data.values()):
            colour = COLOURS[number % len(COLOURS)]
            has_markers = len(x) <= _MAX_MARKERS and not steps
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                linewidth=1.7,
                drawstyle="steps-post" if steps else "default",
                label=shown[number],
                marker="o" if has_markers else None,
                markersize=3.6,
                clip_on=not has_markers,
            )
            if fill:
                axes.fill_between(
                    x, y, color=colour, alpha=0.16, linewidth=0, step="post" if steps else None
                )
        all_x, all_y = (np.concatenate(values) for values in zip(*data.values(), strict=True))
        set_scales(axes, all_x, all_y, log_x=log_x, log_y=log_y)
        axes.set(xlim=x_range, ylim=y_range)
        for x_mark, y_mark, text in marks:
            axes.plot(
                [x_mark],
                [y_mark],
                marker="o",
                markersize=7,
                markerfacecolor="none",
                markeredgecolor=INK,
                markeredgewidth=1.2,
                zorder=5,
                clip_on=False,
            )
            annotate_point(axes, text, (x_mark, y_mark))
        add_grid(axes, "both")
        label_axes(axes, x_label, y_label)
        if len(data) > 1:
            add_legend(axes, len(data))

    legend_rows = -(-len(data) // 2) if len(data) > 1 else 0
    return Chart(title, draw, height=HEIGHT + 0.17 * legend_rows)


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
    """Return a histogram of given counts.

    Args:
        title: above the chart.
        counts: (B,).
        edges: (B + 1,), rising.
        x_label: below the chart.
        y_label: beside the chart.
        log_y: whether the y axis is logarithmic.
        log_x: whether the x axis is logarithmic.

    Raises:
        ValueError: counts and edges do not fit together, or edges are 0 or less with `log_x`.
    """
    heights, bin_edges = _vector(counts), _vector(edges)
    if not len(heights) or len(bin_edges) != len(heights) + 1 or not (np.diff(bin_edges) > 0).all():
        raise ValueError(
            f"{len(heights)} counts and {len(bin_edges)} edges; wanted one edge more than counts, "
            "each greater than the one before"
        )
    if log_x and bin_edges[0] <= 0:
        raise ValueError("edges on a logarithmic axis must be greater than 0")

    def draw(axes: Axes) -> None:
        # A thin gap separates neighbours of the same height.
        ends = np.log(bin_edges) if log_x else bin_edges
        gap = 0.03 * np.diff(ends)
        left, right = ends[:-1] + gap, ends[1:] - gap
        if log_x:
            left, right = np.exp(left), np.exp(right)
        axes.bar(left, heights, right - left, align="edge", color=COLOURS[0])
        # The edges of whole numbers lie halfway between them, so the ticks are moved by a half.
        set_scales(axes, bin_edges + bin_edges[0] % 1, heights, log_x=log_x, log_y=log_y)
        axes.set_xlim(bin_edges[0], bin_edges[-1])
        if log_y:
            axes.set_ylim(0.7, max(float(heights.max()) * 1.6, 10))
        else:
            axes.set_ylim(0, (float(heights.max()) or 1.0) * 1.05)
        add_grid(axes, "y")
        label_axes(axes, x_label, y_label)

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
    """Return a dot for each (x, y).

    Args:
        title: above the chart.
        x: (N,).
        y: (N,).
        weights: (N,), to which the areas of the dots are in proportion; None: all equal.
        x_label: below the chart.
        y_label: beside the chart.
        diagonal: draw y = x faintly.

    Raises:
        ValueError: the lengths differ, or there is no point.
    """
    xs, ys = _vector(x), _vector(y)
    weight = np.ones(len(xs)) if weights is None else _vector(weights)
    if not len(xs) or not len(xs) == len(ys) == len(weight):
        raise ValueError(f"{len(xs)} x, {len(ys)} y, {len(weight)} weights; wanted as many each")
    areas = np.clip(90 * weight / weight.max(), 4, None)

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.axline((0, 0), slope=1, color=INK, alpha=0.45, linewidth=0.8, linestyle=":")
        order = np.argsort(-areas, kind="stable")  # small dots are drawn on top
        axes.scatter(
            xs[order],
            ys[order],
            s=areas[order],
            color=COLOURS[0],
            alpha=0.55,
            edgecolors="none",
            clip_on=False,
        )
        axes.set_xlim(0, float(xs.max()) * 1.05 or 1.0)
        axes.set_ylim(0, float(ys.max()) * 1.05 or 1.0)
        set_scales(axes, xs, ys, log_x=False, log_y=False)
        add_grid(axes, "both")
        label_axes(axes, x_label, y_label)

    return Chart(title, draw, height=HEIGHT + 0.3)


def matrix(
    title: str,
    counts: ArrayLike,
    names: Sequence[str],
    *,
    x_label: str = "named as",
    y_label: str = "shows",
    all_names: bool = False,
) -> Chart:
    """Return a confusion matrix as a heat map, made for 2 to 200 classes.

    A cell is shaded by its share of its row, blue on the diagonal (right) and orange elsewhere
    (wrong). A count of 0 is not drawn. Up to 12 classes have their counts written in. A name is
    shortened only where it is too wide, and no two names read alike.

    Args:
        title: above the chart.
        counts: (C, C), row = what the photo shows, column = what it was named.
        names: of the C classes.
        x_label: below the chart.
        y_label: beside the chart.
        all_names: grow with the number of classes, so that every name is shown, as in a file.
            Otherwise the chart fits a page, and from about 60 classes on some names are left out.

    Raises:
        ValueError: `counts` is not square, does not fit `names`, or holds a negative number.
    """
    table = np.asarray(counts, np.float64)
    if table.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"{table.shape} counts and {len(names)} names; wanted (C, C) and C")
    if not np.isfinite(table).all() or (table < 0).any():
        raise ValueError("the counts of a matrix must be finite and not negative")
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    classes = len(names)
    # Among hundreds of cells a single mistake is a small dot, so it must not be pale.
    min_opacity = 0.18 + 0.35 * min(1.0, classes / 100)
    opacity = np.where(table > 0, min_opacity + (1 - min_opacity) * share, 0.0)
    side = max(0.1 * classes + 1.8, 2.4)
    if not all_names:
        side = min(side, 7.0)
    pitch = 72 * side / classes  # points from one row to the next
    size = float(np.clip(0.85 * pitch, 6.0, SMALL_TEXT))
    every = int(np.ceil(1.1 * size / pitch))
    positions = list(range(0, classes, every))
    widest = min(_MAX_ROW_NAME, _MAX_ROW_NAME_SHARE * 72 * side)
    # A name has its number among all classes, not among those that are shown.
    fitted = fitted_names(names, widest, size)
    shown = [fitted.texts[position] for position in positions]
    upright = fitted.width < 0.9 * pitch
    beside = fitted.width / 72 + 0.05

    def draw(axes: Axes) -> None:
        cells = np.empty((classes, classes, 4))
        cells[..., :3] = _rgb(WRONG)
        cells[np.arange(classes), np.arange(classes), :3] = _rgb(RIGHT)
        cells[..., 3] = opacity
        axes.imshow(cells, interpolation="none", aspect="equal")
        axes.set_xticks(positions, shown, rotation=0 if upright else 90)
        axes.set_yticks(positions, shown)
        axes.tick_params(length=0 if every == 1 else 2, labelsize=size, pad=3)
        for spine in axes.spines.values():
            spine.set(visible=True, alpha=0.3)
        if classes <= 12:
            for row, column in zip(*np.nonzero(table), strict=True):
                dark = opacity[row, column] > 0.85
                axes.text(
                    column,
                    row,
                    format_number(table[row, column]),
                    ha="center",
                    va="center",
                    fontsize=SMALL_TEXT if classes <= 8 else 6.5,
                    color=PAPER if dark else INK,
                )
        label_axes(axes, x_label, y_label)

    return Chart(
        title, draw, width=side + beside + 0.45, height=side + (0.2 if upright else beside) + 0.7
    )


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    vector: NDArray[np.float64] = np.asarray(values, np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{vector.shape} values; wanted one dimension")
    return vector


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
