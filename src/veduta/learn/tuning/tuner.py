"""Tuning: many short trainings of one recipe with different values, in search of the best ones."""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from optuna.pruners import MedianPruner
from optuna.trial import TrialState

from veduta.errors import EncoderError, LearnError, readable
from veduta.files import write_bytes, write_text
from veduta.learn.recipe import Recipe, Tuning, with_values
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE
from veduta.learn.runs.history import HISTORY_FILE, read_history, write_history
from veduta.learn.tuning.search_space import read_space
from veduta.learn.tuning.study import (
    BEST_FILE,
    ClaimedTrial,
    DatasetChoice,
    Study,
    StudyFolder,
    Trial,
    open_study_folder,
    trial_folder,
)
from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.training.schedule import Epoch

__all__ = ["Train", "tune"]

ERROR_FILE = "error.txt"

# A tuning stops if this many trials fail for the same reason before any trial has a figure: the
# reason does not depend on the values.
MAX_EQUAL_FAILURES = 3

MAX_REASON_CHARACTERS = 400

# The pruner needs this many complete trials for its median.
MIN_TRIALS_BEFORE_PRUNING = 5

# These files of a trial that is not the best one are kept.
_KEPT_FILES = (CARD_FILE, "card.md", HISTORY_FILE, RECIPE_FILE, ERROR_FILE)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}

OnProgress = Callable[[str, int, int], None]


class Train(Protocol):
    """`veduta.learn.runs.train.train`, or a function that replaces it in tests."""

    def __call__(
        self,
        recipe: Recipe,
        dataset: Path,
        out: Path,
        *,
        labels: str | None,
        exclude: Sequence[str],
        column: str,
        photos_per_class: int | None,
        subset_seed: int,
        allow_leak: bool,
        devices: int,
        on_epoch: Callable[[Epoch], None],
        on_progress: OnProgress | None,
        command: str,
    ) -> Any:
        """Train and write the run folder `out`."""


class _Pruned(Exception):
    """The figure of the trial is worse than the median."""


class _TimeLimitReached(Exception):
    """The hours of this call are over."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of `tune`: how it trains, and until when."""

    train: Train
    dataset: Path
    choice: DatasetChoice
    allow_leak: bool
    command: str
    pruner: MedianPruner
    end: float
    """Time of `time.monotonic`."""


def tune(
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    trials: int | None = None,
    hours: float | None = None,
    labels: str | None = None,
    exclude: Sequence[str] = (),
    column: str = "split",
    photos_per_class: int | None = None,
    subset_seed: int = 0,
    allow_leak: bool = False,
    keep_all: bool = False,
    train: Train | None = None,
    on_trial: Callable[[Trial, Study], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Study:
    """Search the recipe's `tune.space` for the values with the best validation figure.

    Values are drawn by a tree-structured Parzen estimator (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", 2011) with the seed `training.seed`. A trial ends early if its
    best figure so far is below the median of the other trials at that epoch. Trials are compared
    by the figure that `training.monitor` names, of the validation photos at the best epoch. The
    test photos are never used.

    An interrupted study continues when `tune` is called again: unfinished trials continue after
    their last epoch. Several processes may work on one study. Each uses one GPU, so with several
    GPUs start one process for each (CUDA_VISIBLE_DEVICES).

    Args:
        recipe: the recipe to tune.
        dataset: as for `veduta.learn.runs.train.train`.
        out: the folder of the study. It is new, or belongs to the same study.
        trials: number of trials that the study shall have. None: the recipe's own number.
        hours: time limit of this call, but at least one epoch is trained. A running trial then
            waits for the next call.
        labels: as for `veduta.learn.runs.train.train`.
        exclude: as for `veduta.learn.runs.train.train`.
        column: as for `veduta.learn.runs.train.train`.
        photos_per_class: as for `veduta.learn.runs.train.train`.
        subset_seed: as for `veduta.learn.runs.train.train`.
        allow_leak: as for `veduta.learn.runs.train.train`.
        keep_all: keep all files of every run. Otherwise only the best run keeps all, and the others
            keep card, history and recipe.
        train: the function that trains a recipe.
        on_trial: called with each trial that has ended, and the study.
        on_progress: called with (activity, done, total).
        command: the command line of the tuning, for the cards.

    Returns:
        The study, with the importance of its keys.

    Raises:
        RecipeError: a key or range of the search space is wrong. Nothing was started.
        DatasetError: the dataset cannot be read.
        LearnError: the folder holds something else or cannot be written, or the first trials all
            fail for the same reason. Any other failure of a trial is recorded in the study.
    """
    axes = read_space(recipe)
    limit = recipe.tune.trials if trials is None else trials
    if limit < 1:
        raise LearnError(f"--trials {limit}: expected 1 or more")
    if train is None:
        from veduta.learn.runs.train import train as train_run

        train = train_run
    choice = DatasetChoice(
        str(dataset.resolve()),
        labels or "",
        column,
        tuple(exclude),
        photos_per_class,
        subset_seed,
    )
    call = _Call(
        train=train,
        dataset=dataset,
        choice=choice,
        allow_leak=allow_leak,
        command=command,
        pruner=MedianPruner(
            n_startup_trials=MIN_TRIALS_BEFORE_PRUNING,
            n_warmup_steps=max(1, recipe.training.epochs // 4, recipe.training.unfreeze_after),
        ),
        end=math.inf if hours is None else time.monotonic() + 3600 * hours,
    )
    folder = open_study_folder(out, recipe, axes, choice)
    while trial := folder.claim(limit):
        trial_progress = _progress_of_trial(on_progress, trial.number, limit)
        if not _run_trial(folder, trial, call, trial_progress):
            break
        _write_best(folder, keep_all=keep_all)
        study = folder.read()
        if on_trial:
            on_trial(study.trials[trial.number - 1], study)
        _check_failures(study)
        if time.monotonic() >= call.end:
            break
    return folder.read(with_importance=True)


def _run_trial(
    study: StudyFolder, trial: ClaimedTrial, call: _Call, on_progress: OnProgress | None
) -> bool:
    """Run a trial to its end; return False if the time limit ended it before."""
    monitor = study.monitor
    folder = trial_folder(study.folder, trial.number)
    epochs: list[Epoch] = []
    start = time.monotonic()

    def on_epoch(epoch: Epoch) -> None:
        figure = getattr(epoch, monitor)
        if figure is None:
            raise LearnError(
                f"this training has no {monitor}, because there are no photos for validation; "
                "--set training.validation=0.2 holds some out"
            )
        if not math.isfinite(figure):
            raise LearnError(f"{monitor} is {figure} after epoch {epoch.number}")
        epochs.append(epoch)
        study.record_epoch(trial, epoch.number, figure)
        is_last = epoch.number >= recipe.training.epochs
        if not is_last and study.should_prune(trial, call.pruner):
            raise _Pruned
        if time.monotonic() >= call.end:
            raise _TimeLimitReached

    state, reason = TrialState.COMPLETE, ""
    try:
        recipe = _with_drawn(study.recipe, trial.values)
        # With a card the run is finished, and only the study does not know it yet.
        if not (folder / CARD_FILE).exists():
            if folder.exists() and not (folder / RECIPE_FILE).exists():
                shutil.rmtree(folder)  # The process ended before the run began.
            call.train(
                replace(recipe, tune=Tuning()),
                call.dataset,
                folder,
                labels=call.choice.labels or None,
                exclude=call.choice.exclude,
                column=call.choice.column,
                photos_per_class=call.choice.photos_per_class,
                subset_seed=call.choice.subset_seed,
                allow_leak=call.allow_leak,
                devices=1,
                on_epoch=on_epoch,
                on_progress=on_progress,
                command=call.command,
            )
        _record_missing_epochs(study, trial, folder / HISTORY_FILE)
    except _Pruned:
        state, reason = TrialState.PRUNED, f"worse than the median at epoch {epochs[-1].number}"
    except (
        EncoderError,
        LearnError,
        RuntimeError,
        ValueError,
        ArithmeticError,
        MemoryError,
    ) as error:
        if getattr(error.__cause__, "errno", None) in _DISK_ERRORS:
            # Other values would fail as well.
            study.pause(trial, time.monotonic() - start)
            raise
        state, reason = TrialState.FAIL, _one_line(error)
        folder.mkdir(parents=True, exist_ok=True)
        text = traceback.format_exc().encode("utf-8", "backslashreplace")
        write_bytes(folder / ERROR_FILE, text)
    except BaseException as error:
        study.pause(trial, time.monotonic() - start)
        if isinstance(error, _TimeLimitReached):
            return False
        raise
    if epochs and state is not TrialState.COMPLETE:
        write_history(epochs, folder / HISTORY_FILE)
    study.finish(trial, state, reason, time.monotonic() - start)
    return True


def _record_missing_epochs(study: StudyFolder, trial: ClaimedTrial, history: Path) -> None:
    """Record the epochs of a finished run that an earlier process did not record."""
    monitor = study.monitor
    for epoch in read_history(history) if history.exists() else []:
        figure = getattr(epoch, monitor)
        if epoch.number not in trial.history and figure is not None:
            study.record_epoch(trial, epoch.number, figure)
    if not trial.history:
        raise LearnError(
            f"{readable(history)}: has no {monitor}; the dataset needs photos for validation"
        )


def _one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    text = " ".join(str(error).split()) or type(error).__name__
    most = MAX_REASON_CHARACTERS
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _check_failures(study: Study) -> None:
    """Raise `LearnError` if all trials so far failed, and the last ones for the same reason."""
    ended = [trial for trial in study.trials if trial.state != "running"]
    last_reasons = {trial.reason for trial in ended[-MAX_EQUAL_FAILURES:]}
    if (
        len(ended) >= MAX_EQUAL_FAILURES
        and len(last_reasons) == 1
        and all(trial.state == "failed" for trial in ended)
    ):
        raise LearnError(
            f"the first {len(ended)} trials failed for the same reason: {last_reasons.pop()}"
        )


def _write_best(folder: StudyFolder, *, keep_all: bool) -> None:
    """Write the best recipe, and remove the weights of all other trials."""
    with folder.lock:
        study = folder.read()
        best = study.best
        if best is not None:
            write_text(folder.folder / BEST_FILE, _best_recipe(folder.recipe, study, best))
        for trial in study.trials:
            if trial.state != "running" and trial is not best and not keep_all:
                _remove_weights(study.run(trial))


def _best_recipe(recipe: Recipe, study: Study, best: Trial) -> Sequence[str]:
    complete = sum(trial.state == "complete" for trial in study.trials)
    comment = (
        f"# {study.monitor} {best.figure:.4f}: trial {best.number}, the best of "
        f"{count(complete, 'complete trial')}.\n\n"
    )
    return comment, recipe_toml(replace(_with_drawn(recipe, best.values), tune=Tuning()))


def _with_drawn(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a trial, with defaults where a drawn value leaves others no effect."""
    from veduta.learn.training.unused_settings import without_unused

    return without_unused(with_values(recipe, values), tuple(values))


def _remove_weights(folder: Path) -> None:
    """Remove all files of a run except the small ones that describe it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name in _KEPT_FILES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _progress_of_trial(
    on_progress: OnProgress | None, number: int, limit: int
) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda activity, done, total: on_progress(
        f"Trial {number} of {limit}: {activity}", done, total
    )
