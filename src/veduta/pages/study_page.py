"""The page of a study: the best trial, how it was found, what mattered, and every trial."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.pages.chart_names import fitted_names
from veduta.pages.chart_style import SMALL_TEXT
from veduta.pages.charts import Chart, bars, points
from veduta.pages.html import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["KeyValues", "StudyPage", "StudyTrial", "write_study_page"]

_MAX_ROWS = 1000  # trials in the table
_INCOMPLETE_WEIGHT = 0.25  # area of the dot of an incomplete trial, relative to a complete one
_CHOICE_WIDTH = 95.0  # points of a choice below its chart


@dataclass(frozen=True, slots=True)
class StudyTrial:
    """One set of values and its result.

    Attributes:
        number: from 1.
        state: "complete", "pruned", "failed" or "running".
        figure: the best over its epochs of what is monitored; None without a whole epoch.
        values: of the recipe, key → text.
        epochs: how many ended.
        seconds: that it took.
        reason: why it failed or was pruned.
    """

    number: int
    state: str
    figure: float | None
    values: Mapping[str, str]
    epochs: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class KeyValues:
    """The figure of each complete trial against its value of one key.

    Attributes:
        key: of the recipe.
        values: (T,) numbers; for choices their positions in `choices`.
        figures: (T,).
        low: the least value of a range.
        high: the largest value of a range.
        log: whether the range is logarithmic.
        choices: the names of the choices; empty for a range.
    """

    key: str
    values: Sequence[float]
    figures: Sequence[float]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StudyPage:
    """The content of the page.

    Attributes:
        recipe: name of the recipe that is tuned.
        dataset: its path.
        monitor: the figure that trials are compared by.
        lower_is_better: whether a low figure is a good one.
        trials: all of them, the best first.
        best: the best complete trial, or None.
        keys: of the recipe, that are tuned.
        importance: key → share in [0, 1] of the figure's variance; empty when it is not known.
        key_values: for each key, without a complete trial none.
        command: trains the best recipe again.
    """

    recipe: str
    dataset: str
    monitor: str
    lower_is_better: bool
    trials: Sequence[StudyTrial]
    best: StudyTrial | None
    keys: Sequence[str]
    importance: Mapping[str, float]
    key_values: Sequence[KeyValues]
    command: str

    @property
    def rows(self) -> Sequence[StudyTrial]:
        """The trials of the table."""
        return self.trials[:_MAX_ROWS]

    @property
    def states(self) -> dict[str, int]:
        """How many trials are in each state."""
        states = Counter(trial.state for trial in self.trials)
        return {state: states[state] for state in ("complete", "pruned", "failed", "running")}

    @property
    def seconds(self) -> float:
        """That all trials took together."""
        return sum(trial.seconds for trial in self.trials)

    def history_chart(self) -> Chart | None:
        """Return a dot for each trial in the order of their numbers, and the best so far."""
        measured = sorted(
            (trial.number, trial.figure, trial.state == "complete")
            for trial in self.trials
            if trial.figure is not None
        )
        if not measured:
            return None
        numbers, figures = (np.array([row[i] for row in measured], np.float64) for i in (0, 1))
        complete = np.array([row[2] for row in measured], np.bool_)
        base = points(
            "In the order of the trials",
            numbers,
            figures,
            np.where(complete, 1.0, _INCOMPLETE_WEIGHT),
            x_label="trial",
            y_label=self.monitor,
        )
        better = np.minimum if self.lower_is_better else np.maximum
        best_so_far = better.accumulate(figures[complete])

        def draw(axes: Axes) -> None:
            base.draw(axes)
            axes.set_xlim(0, float(numbers.max()) + 1)
            _fit_y(axes, figures)
            if len(best_so_far):
                x = np.append(numbers[complete], numbers.max() + 0.5)
                y = np.append(best_so_far, best_so_far[-1])
                axes.step(x, y, where="post", linewidth=1.4, zorder=0.5)

        return Chart(base.title, draw, base.width, base.height)

    def importance_chart(self) -> Chart | None:
        """Return a bar for each key, the most important first."""
        if not self.importance:
            return None
        ordered = sorted(self.importance.items(), key=lambda item: -item[1])
        return bars(
            "Importance", [key for key, _ in ordered], [round(share, 2) for _, share in ordered]
        )

    def key_charts(self) -> list[Chart]:
        """Return a chart for each key: a dot for each complete trial."""
        return [_key_chart(values, self.monitor) for values in self.key_values]


def write_study_page(file: str | os.PathLike[str], page: StudyPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "study.html", page)


def _key_chart(values: KeyValues, monitor: str) -> Chart:
    figures = np.array(values.figures, np.float64)
    x = np.array(values.values, np.float64)
    base = points(values.key, x, figures, x_label="", y_label=monitor)
    choices = fitted_names(values.choices, _CHOICE_WIDTH, SMALL_TEXT).texts

    def draw(axes: Axes) -> None:
        base.draw(axes)
        _fit_y(axes, figures)
        if values.choices:
            _choices_scale(axes, choices)
        else:
            _range_scale(axes, values.low, values.high, log=values.log)

    return Chart(base.title, draw, base.width, base.height)


def _fit_y(axes: Axes, figures: NDArray[np.float64]) -> None:
    """Show the range of the figures instead of all from 0, with a margin for the dots."""
    low, high = float(figures.min()), float(figures.max())
    margin = 0.06 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)


def _choices_scale(axes: Axes, choices: Sequence[str]) -> None:
    axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.set_xticks(range(len(choices)), choices)
    axes.tick_params(axis="x", rotation=30 if sum(map(len, choices)) > 40 else 0)


def _range_scale(axes: Axes, low: float, high: float, *, log: bool) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if not log:
        margin = 0.04 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        return
    factor = (high / low) ** 0.04
    axes.set_xscale("log")
    axes.set_xlim(low / factor, high * factor)
    subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_log_tick)


def _log_tick(value: float, _position: float) -> str:
    return f"{value:g}"
