"""Tuning: many short trainings of one recipe, each with other values, in search of the best."""

from __future__ import annotations

import contextlib
import csv
import errno
import math
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from optuna.pruners import MedianPruner
from optuna.trial import TrialState

from veduta.errors import EncoderError, LearnError, readable
from veduta.files import write_text
from veduta.learn.recipe import Recipe, Tuning, with_values
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE
from veduta.learn.runs.history import write_history
from veduta.learn.tuning.search_space import read_space
from veduta.learn.tuning.study import Claim, Study, StudyFolder, Trial, create_or_open, run_folder

if TYPE_CHECKING:
    from veduta.learn.training.schedule import Epoch

__all__ = ["BEST", "Train", "tune"]

BEST, HISTORY = "best.toml", "history.csv"

_KEPT = (CARD_FILE, "card.md", HISTORY, RECIPE_FILE, "error.txt")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_ALIKE = 3  # trials that fail for one reason before any has a figure: the reason is no value's

OnProgress = Callable[[str, int, int], None]


class Train(Protocol):
    """`veduta.learn.runs.train.train`, or what stands in for it."""

    def __call__(
        self,
        recipe: Recipe,
        dataset: Path,
        out: Path,
        *,
        labels: str | None,
        column: str,
        allow_leak: bool,
        devices: int,
        on_epoch: Callable[[Epoch], None],
        on_progress: OnProgress | None,
        command: str,
    ) -> Any:
        """Train and write the run folder `out`."""


class _Pruned(Exception):
    """The trial has no prospects."""


class _TimeIsUp(Exception):
    """The hours are over."""


@dataclass(frozen=True, slots=True)
class _Data:
    """What each trial trains on, and how it was asked for."""

    dataset: Path
    labels: str | None
    column: str
    allow_leak: bool
    command: str


def tune(
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    trials: int | None = None,
    hours: float | None = None,
    labels: str | None = None,
    column: str = "split",
    allow_leak: bool = False,
    keep_all: bool = False,
    train: Train | None = None,
    on_trial: Callable[[Trial, Study], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Study:
    """Search the recipe's `tune.space` for the values with the best validation figure.

    Values are drawn by a tree-structured Parzen estimator (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", 2011) seeded by `training.seed`; a trial ends early when its
    best figure so far is below the median of the others at that epoch. What decides is the figure
    that `training.monitor` names, of the validation photos, at the best epoch; the photos of the
    test are never looked at.

    A study that was interrupted, in whatever way, continues when it is called again: the trials
    that were under way go on at their last epoch. Several processes may work on one study. Each
    uses one GPU: on several, start a process for each (CUDA_VISIBLE_DEVICES).

    Args:
        recipe: what to tune.
        dataset: as for `veduta.learn.runs.train.train`, like `labels`, `column` and `allow_leak`.
        out: the folder of the study; new, or that of the same study.
        trials: how many there shall be in the study; the recipe's own number if None.
        hours: how long this call may take, but for one epoch at least; a trial that is under way
            then waits for the next call.
        keep_all: keep all of every run; otherwise only of the best one, and of the others card,
            history and recipe.
        train: what trains a recipe.
        on_trial: called with each trial that has ended, and the study.
        on_progress: called with (what, done, total).
        command: how the tuning was asked for, for the cards.

    Raises:
        RecipeError: a key or range of the space is wrong; nothing has been started then.
        DatasetError: the dataset does not read.
        LearnError: the folder holds something else or cannot be written, or the first trials all
            fail for the same reason. Any other failure of a trial is recorded in the study.
    """
    axes = read_space(recipe)
    limit = recipe.tune.trials if trials is None else trials
    if limit < 1:
        raise LearnError(f"--trials {limit}: wanted is 1 or more")
    end = math.inf if hours is None else time.monotonic() + 3600 * hours
    if train is None:
        from veduta.learn.runs.train import train as train_run

        train = train_run
    on = {"dataset": str(dataset.resolve()), "labels": labels or "", "column": column}
    opened = create_or_open(out, recipe, axes, on)
    data = _Data(dataset, labels, column, allow_leak, command)
    pruner = MedianPruner(
        n_startup_trials=5,
        n_warmup_steps=max(1, recipe.training.epochs // 4, recipe.training.unfreeze_after),
    )
    while claim := opened.claim(limit):
        said = _numbered(on_progress, claim.number, limit)
        if not _work(opened, claim, data, train, pruner, end, said):
            break
        _tidy(opened, keep_all=keep_all)
        study = opened.read()
        if on_trial:
            on_trial(study.trials[claim.number - 1], study)
        _stop_if_alike(study)
        if time.monotonic() >= end:
            break
    return opened.read(weigh=True)


def _work(
    opened: StudyFolder,
    claim: Claim,
    data: _Data,
    train: Train,
    pruner: MedianPruner,
    end: float,
    on_progress: OnProgress | None,
) -> bool:
    """Take a trial to its end; False when the time is up before."""
    monitor = opened.recipe.training.monitor
    folder = run_folder(opened.folder, claim.number)
    epochs: list[Epoch] = []
    began = time.monotonic()

    def on_epoch(epoch: Epoch) -> None:
        figure = getattr(epoch, monitor)
        if figure is None:
            other = "val_loss" if monitor == "val_accuracy" else "val_accuracy"
            raise LearnError(f"this training has no {monitor}; --set training.monitor={other}")
        if not math.isfinite(figure):
            raise LearnError(f"{monitor} is {figure} after epoch {epoch.number}")
        epochs.append(epoch)
        opened.report(claim, epoch.number, figure)
        if epoch.number < made.training.epochs and opened.hopeless(claim, pruner):
            raise _Pruned
        if time.monotonic() >= end:
            raise _TimeIsUp

    state, reason = TrialState.COMPLETE, ""
    try:
        made = with_values(opened.recipe, claim.values)
        if not (folder / CARD_FILE).exists():  # else only the book-keeping is left to do
            if folder.exists() and not (folder / RECIPE_FILE).exists():
                shutil.rmtree(folder)  # it ended before it began
            train(
                replace(made, tune=Tuning()),
                data.dataset,
                folder,
                labels=data.labels,
                column=data.column,
                allow_leak=data.allow_leak,
                devices=1,
                on_epoch=on_epoch,
                on_progress=on_progress,
                command=data.command,
            )
        _complete(opened, claim, folder / HISTORY)
    except _Pruned:
        state, reason = TrialState.PRUNED, f"worse than the median at epoch {epochs[-1].number}"
    except (EncoderError, LearnError, RuntimeError, ValueError, ArithmeticError, MemoryError) as no:
        if getattr(no.__cause__, "errno", None) in _DISK:  # no other values would help
            opened.pause(claim, time.monotonic() - began)
            raise
        state, reason = TrialState.FAIL, _said(no)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc(), "utf-8", "backslashreplace")
    except BaseException as stop:
        opened.pause(claim, time.monotonic() - began)
        if isinstance(stop, _TimeIsUp):
            return False
        raise
    if epochs and state is not TrialState.COMPLETE:
        write_history(epochs, folder / HISTORY)
    opened.finish(claim, state, reason, time.monotonic() - began)
    return True


def _complete(opened: StudyFolder, claim: Claim, history: Path) -> None:
    """Take from the run's history the epochs that nobody told: those before an interruption."""
    monitor = opened.recipe.training.monitor
    rows: list[dict[str, str]] = []
    if history.exists():
        with history.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    for row in rows:
        if int(row["epoch"]) not in claim.history and row[monitor]:
            opened.report(claim, int(row["epoch"]), float(row[monitor]))
    if not claim.history:
        raise LearnError(f"{readable(history)}: no {monitor} in it: no photos for validation?")


def _said(error: BaseException) -> str:
    """Return an error in one line."""
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:399]}…"


def _stop_if_alike(study: Study) -> None:
    ended = [one for one in study.trials if one.state != "running"]
    last = {one.reason for one in ended[-_ALIKE:]}
    if len(ended) >= _ALIKE and len(last) == 1 and all(one.state == "failed" for one in ended):
        raise LearnError(f"the first {len(ended)} trials failed alike: {last.pop()}")


def _tidy(opened: StudyFolder, *, keep_all: bool) -> None:
    """Write the best recipe, and take away what the runs of the others need not leave."""
    with opened.lock:
        study = opened.read()
        best = study.best
        if best is not None:
            write_text(opened.folder / BEST, _best_text(opened.recipe, study, best))
        for trial in study.trials:
            if trial.state != "running" and trial is not best and not keep_all:
                _trim(study.run(trial))


def _best_text(recipe: Recipe, study: Study, best: Trial) -> Sequence[str]:
    made = replace(with_values(recipe, best.values), tune=Tuning())
    complete = sum(one.state == "complete" for one in study.trials)
    said = (
        f"{study.monitor} {best.figure:.4f}: trial {best.number}, the best of {complete} complete"
    )
    return f"# {said}.\n\n", recipe_toml(made)


def _trim(folder: Path) -> None:
    if not folder.is_dir():
        return
    for one in folder.iterdir():
        if one.name in _KEPT:
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            with contextlib.suppress(FileNotFoundError):
                one.unlink()


def _numbered(on_progress: OnProgress | None, number: int, limit: int) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda doing, done, total: on_progress(
        f"Trial {number} of {limit}: {doing}", done, total
    )
