"""The page of a table: every row with its figures, beside what a report says of the same row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from veduta.pages.chart_names import BAR_NAME_WIDTH, fitted_names
from veduta.pages.chart_style import COLOURS, INK, SMALL_TEXT, add_grid
from veduta.pages.charts import Chart
from veduta.pages.html import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Cell", "TablePage", "TableRow", "write_table_page"]

_MAX_DRAWN_ROWS = 40
_ROW_INCHES = 0.26


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of a row.

    Attributes:
        value: measured; None if it was not.
        low: the lower end of its 95 % interval, or None.
        high: the upper end, or None.
        reported: what the report says, or None.
    """

    value: float | None
    low: float | None
    high: float | None
    reported: float | None

    @property
    def difference(self) -> float | None:
        """The measured figure minus the reported one; None if one of them is missing."""
        if self.value is None or self.reported is None:
            return None
        return self.value - self.reported


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row.

    Attributes:
        name: its name.
        made_by: the recipe and its data set, or the method, in a few words.
        state: how far it is.
        cells: key of a figure → figure.
        queries: of the search.
        gallery: photos that the queries were searched in.
        parameters: of the network, or None.
        epochs: that were trained.
        seconds: of the training.
        error: why there are no figures; "" if there are.
    """

    name: str
    made_by: str
    state: str
    cells: Mapping[str, Cell]
    queries: int
    gallery: int
    parameters: int | None
    epochs: int
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class TablePage:
    """The content of the page.

    Attributes:
        name: of the table.
        about: what it is, in one sentence.
        source: the report that it is from; "" for none.
        titles: key of a figure → its title, in the order of the columns.
        explanations: title of a figure → what it means.
        rows: in their order.
        notes: what a reader of the figures should know.
        advice: the ways to get missing weights, one line each.
        command: that filled the table.
    """

    name: str
    about: str
    source: str
    titles: Mapping[str, str]
    explanations: Mapping[str, str]
    rows: Sequence[TableRow]
    notes: Sequence[str]
    advice: Sequence[str]
    command: str

    @property
    def states(self) -> dict[str, int]:
        """How many rows are in each state, those with figures first."""
        states = Counter(row.state for row in self.rows)
        return {"done": states.pop("done", 0), **dict(sorted(states.items()))}

    @property
    def problems(self) -> list[TableRow]:
        """The rows without figures for which a reason is known."""
        return [row for row in self.rows if row.error]

    @property
    def queries(self) -> int:
        """The largest number of queries of a row."""
        return max((row.queries for row in self.rows), default=0)

    @property
    def gallery(self) -> int:
        """The largest number of gallery photos of a row."""
        return max((row.gallery for row in self.rows), default=0)

    @property
    def has_report(self) -> bool:
        """Whether the report has a figure of any row."""
        return any(map(self.is_reported, self.titles))

    def is_reported(self, key: str) -> bool:
        """Return whether the report has this figure of any row."""
        return any(row.cells[key].reported is not None for row in self.rows)

    def chart(self) -> Chart | None:
        """Return the first figure of each row with its interval, beside that of the report."""
        key = next(iter(self.titles))
        rows = [
            row
            for row in self.rows[:_MAX_DRAWN_ROWS]
            if row.cells[key].value is not None or row.cells[key].reported is not None
        ]
        if not any(row.cells[key].value is not None for row in rows):
            return None

        names = fitted_names([row.name for row in rows], BAR_NAME_WIDTH, SMALL_TEXT).texts
        cells = [row.cells[key] for row in rows]

        def draw(axes: Axes) -> None:
            _draw_rows(axes, names, cells)

        return Chart(self.titles[key], draw, height=1.0 + _ROW_INCHES * len(rows))


def _draw_rows(axes: Axes, names: Sequence[str], cells: Sequence[Cell]) -> None:
    """Draw a line of the chart for each row: its interval, its figure, and the reported one."""
    for position, cell in enumerate(cells):
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [position] * 2, color=COLOURS[0], linewidth=1.4)
    for label, values, marker, face, edge in (
        ("report", [cell.reported for cell in cells], "D", "none", INK),
        ("measured here", [cell.value for cell in cells], "o", COLOURS[0], COLOURS[0]),
    ):
        shown = [(value, at) for at, value in enumerate(values) if value is not None]
        if shown:
            x, y = zip(*shown, strict=True)
            axes.scatter(
                x, y, s=26, marker=marker, facecolor=face, edgecolor=edge, label=label, zorder=3
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    add_grid(axes, "x")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize=SMALL_TEXT,
        labelcolor=INK,
    )


def write_table_page(file: str | os.PathLike[str], page: TablePage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "table.html", page)
