"""The page of a study: the best trial, how it was found, what mattered, and every trial."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.files import write_text
from veduta.learn.recipe_text import toml_value
from veduta.learn.tuning.search_space import Choices, Range
from veduta.pages.charts import Chart, bars, points
from veduta.pages.html import environment
from veduta.text import duration

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from veduta.learn.tuning.search_space import Axis
    from veduta.learn.tuning.study import Study, Trial

__all__ = ["REPORT", "shown_value", "training_command", "write_study_page"]

REPORT = "report.html"

_MOST_ROWS = 1000
_PRUNED = 0.25  # size of its dot, in parts of that of a complete trial


def write_study_page(file: str | os.PathLike[str], study: Study) -> None:
    """Write the page to `file`, which appears complete or not at all.

    Raises `OSError` when it cannot be written.
    """
    write_text(file, _template().generate(_content(study)))


def shown_value(value: Any) -> str:
    """Return a value of a recipe in few characters: a text without its quotes, 0.00123."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else toml_value(value)


def training_command(study: Study) -> str:
    """Return the command that trains the best recipe."""
    best = str(study.folder / "best.toml")
    return shlex.join(["veduta", "train", best, study.dataset, *study.options, "--out", "RUN"])


def _content(study: Study) -> dict[str, object]:
    trials = [one for one in study.trials if one.figure is not None]
    complete = [one for one in trials if one.state == "complete"]
    ranks = {one.number: rank for rank, one in enumerate(study.ranked(), 1)}
    listed = sorted(study.trials, key=lambda t: (ranks.get(t.number, len(ranks) + 1), t.number))
    states = Counter(one.state for one in study.trials)
    return {
        "study": study,
        "best": study.best,
        "states": {state: states[state] for state in ("complete", "pruned", "failed", "running")},
        "seconds": sum(one.seconds for one in study.trials),
        "history": _history(study, trials) if trials else None,
        "importance": _importance(study),
        "axes": [_against(study, axis, complete) for axis in study.axes] if complete else [],
        "rows": listed[:_MOST_ROWS],
        "keys": [axis.key for axis in study.axes],
        "command": training_command(study) if study.best else "",
    }


def _history(study: Study, trials: Sequence[Trial]) -> Chart:
    numbers, figures = _numbers(trials), _figures(trials)
    complete = np.array([one.state == "complete" for one in trials])
    base = points(
        "In the order of the trials",
        numbers,
        figures,
        np.where(complete, 1.0, _PRUNED),
        x_label="trial",
        y_label=study.monitor,
    )
    so_far = np.minimum if study.monitor == "val_loss" else np.maximum
    best = so_far.accumulate(figures[complete])

    def draw(axes: Axes) -> None:
        base.draw(axes)
        axes.set_xlim(0, float(numbers.max()) + 1)
        _zoom(axes, figures)
        if len(best):
            across = np.append(numbers[complete], numbers.max() + 0.5)
            axes.step(across, np.append(best, best[-1]), where="post", linewidth=1.4, zorder=0.5)

    return Chart(base.title, draw, base.width, base.height)


def _importance(study: Study) -> Chart | None:
    if not study.importance:
        return None
    ordered = sorted(study.importance.items(), key=lambda item: -item[1])
    return bars(
        "Importance", [key for key, _ in ordered], [round(share, 2) for _, share in ordered]
    )


def _against(study: Study, axis: Axis, trials: Sequence[Trial]) -> Chart:
    """Return the figure of each complete trial against its value of one key."""
    values = [one.values[axis.key] for one in trials]
    names = list(axis.values) if isinstance(axis, Choices) else []
    if isinstance(axis, Choices):
        known = list(axis.values.values())
        values = [known.index(value) for value in values]
    figures = _figures(trials)
    base = points(
        axis.key, np.array(values, np.float64), figures, x_label="", y_label=study.monitor
    )

    def draw(axes: Axes) -> None:
        base.draw(axes)
        _zoom(axes, figures)
        if isinstance(axis, Range):
            _range_scale(axes, axis)
        else:
            axes.set_xlim(-0.5, len(names) - 0.5)
            turned = sum(map(len, names)) > 40
            axes.set_xticks(range(len(names)), [_short(name) for name in names])
            axes.tick_params(axis="x", rotation=30 if turned else 0)

    return Chart(base.title, draw, base.width, base.height)


def _numbers(trials: Sequence[Trial]) -> NDArray[np.float64]:
    return np.array([one.number for one in trials], np.float64)


def _figures(trials: Sequence[Trial]) -> NDArray[np.float64]:
    return np.array([one.figure for one in trials], np.float64)


def _zoom(axes: Axes, figures: NDArray[np.float64]) -> None:
    """Show the figures there are instead of all from 0 on, with room for the dots."""
    low, high = float(figures.min()), float(figures.max())
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(low - room, high + room)


def _range_scale(axes: Axes, axis: Range) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if not axis.log:
        room = 0.04 * (axis.high - axis.low)
        axes.set_xlim(axis.low - room, axis.high + room)
        return
    room = (axis.high / axis.low) ** 0.04
    axes.set_xscale("log")
    axes.set_xlim(axis.low / room, axis.high * room)
    subs = (1.0, 2.0, 5.0) if axis.high < 300 * axis.low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_logarithmic_tick)


def _logarithmic_tick(value: float, _place: float) -> str:
    return f"{value:g}"


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


@cache
def _template() -> Template:
    made = environment()
    made.filters |= {"figure": _figure, "duration": duration, "value": shown_value}
    return made.get_template("study.html")
