"""The content of the page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.learn.recipe_text import toml_value
from veduta.learn.tuning.search_space import Choices
from veduta.learn.tuning.study import BEST_FILE
from veduta.pages.study_page import KeyValues, StudyPage, StudyTrial
from veduta.text import veduta_command

if TYPE_CHECKING:
    from veduta.learn.tuning.search_space import Axis
    from veduta.learn.tuning.study import Study, Trial

__all__ = ["REPORT_FILE", "short_value", "study_page", "training_command"]

REPORT_FILE = "report.html"
"""The name of the page in the folder of the study."""


def study_page(study: Study) -> StudyPage:
    """Return the content of the page of a study."""
    ranks = {trial.number: rank for rank, trial in enumerate(study.ranked(), 1)}
    listed = sorted(study.trials, key=lambda t: (ranks.get(t.number, len(ranks) + 1), t.number))
    complete = [trial for trial in study.trials if trial.state == "complete"]
    return StudyPage(
        recipe=study.recipe,
        # A page is given to others, so it names no folder of the user.
        dataset=Path(study.dataset).name,
        monitor=study.monitor,
        lower_is_better=study.monitor == "val_loss",
        trials=[_trial(trial) for trial in listed],
        best=_trial(study.best) if study.best else None,
        keys=[axis.key for axis in study.axes],
        importance=study.importance,
        key_values=[_key_values(axis, complete) for axis in study.axes] if complete else [],
        command=_command_of_page(study) if study.best else "",
    )


def short_value(value: Any) -> str:
    """Return a value of a recipe in few characters: a text without quotes, 0.00123."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else toml_value(value)


def training_command(study: Study) -> str:
    """Return the command that trains the best recipe."""
    best = study.folder / BEST_FILE
    return veduta_command("train", best, Path(study.dataset), *study.options, "--out", "RUN")


def _command_of_page(study: Study) -> str:
    """Return the command for the folder of the page."""
    dataset = Path(Path(study.dataset).name)
    return veduta_command("train", Path(BEST_FILE), dataset, *study.options, "--out", "RUN")


def _trial(trial: Trial) -> StudyTrial:
    return StudyTrial(
        number=trial.number,
        state=trial.state,
        figure=trial.figure,
        values={key: short_value(value) for key, value in trial.values.items()},
        epochs=trial.epochs,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _key_values(axis: Axis, trials: Sequence[Trial]) -> KeyValues:
    values = [trial.values[axis.key] for trial in trials]
    figures = [trial.figure for trial in trials if trial.figure is not None]
    if isinstance(axis, Choices):
        choices = list(axis.values.values())
        positions = [choices.index(value) for value in values]
        return KeyValues(axis.key, positions, figures, choices=list(axis.values))
    return KeyValues(axis.key, values, figures, low=axis.low, high=axis.high, log=axis.log)
