"""A study: the trials of a tuning, in a folder that outlives the processes that work on it.

```
STUDY/
  study.jsonl     every trial, its values and its figure after each epoch, written by Optuna
  recipe.toml     the recipe and its search space
  best.toml       the recipe with the values of the best trial
  trials/0007/    the run folder of a trial; only the best keeps more than card and history
  report.html
```

The trials are an append-only file of JSON lines and not a SQLite database: each commit is one
write, the file opens and grows faster, it needs no further packages, and the kernel releases its
lock when a process is killed. A line that a crash cut short is removed when the file is opened.

A process holds a lock of its own for each trial that it works on. If a trial is running and nobody
holds its lock, its process has ended. The next process continues the trial.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from veduta.errors import LearnError, readable
from veduta.files import AppendOnlyFile, write_text
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.tuning.search_space import Axis, compared_figure, read_space
from veduta.validation import InvalidValue, convert

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = [
    "BEST_FILE",
    "ClaimedTrial",
    "DatasetChoice",
    "Study",
    "StudyFolder",
    "Trial",
    "open_study_folder",
    "read_study",
    "trial_folder",
]

JOURNAL_FILE, RECIPE_FILE, LOCK_FILE = "study.jsonl", "recipe.toml", "study.lock"

BEST_FILE = "best.toml"
"""The recipe with the best values, in the folder of the study."""

# A trial whose process ended this often is given up.
MAX_ATTEMPTS = 3

# Fewer complete trials say nothing about the importance of keys.
MIN_TRIALS_FOR_IMPORTANCE = 8

_STUDY_NAME = "tuning"
_MINIMISE, _MAXIMISE = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
# Another process may have created these files just before.
_FIRST_FILES = {LOCK_FILE, JOURNAL_FILE, f"{JOURNAL_FILE}.lock"}
_STATES: dict[TrialState, Literal["running", "complete", "pruned", "failed"]] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values and its result.

    Attributes:
        number: from 1 on.
        state: how far it is.
        figure: the best value of the monitored figure over its epochs. None if no epoch ended.
        values: key of the recipe → value.
        epochs: number of epochs that ended.
        seconds: time spent on it.
        reason: why it failed or was pruned.
    """

    number: int
    state: Literal["running", "complete", "pruned", "failed"]
    figure: float | None
    values: Mapping[str, Any]
    epochs: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Study:
    """The trials of a study at one moment.

    Attributes:
        folder: of the study.
        recipe: name of the recipe that is tuned.
        monitor: the figure that trials are compared by.
        dataset: its path.
        options: the options of the command line for reading the dataset.
        axes: the search space.
        trials: in the order of their numbers.
        importance: key → share in [0, 1] of the figure's variance that it explains, by functional
            ANOVA of a random forest (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for
            Assessing Hyperparameter Importance", 2014). Empty with too few complete trials.
    """

    folder: Path
    recipe: str
    monitor: str
    dataset: str
    options: tuple[str, ...]
    axes: tuple[Axis, ...]
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]

    def ranked(self) -> list[Trial]:
        """Return the trials that have a figure: complete ones first, the best of each first."""
        measured = [trial for trial in self.trials if trial.figure is not None]
        sign = 1 if self.monitor == "val_loss" else -1
        return sorted(
            measured,
            key=lambda trial: (
                trial.state != "complete",
                sign * (trial.figure or 0),
                trial.number,
            ),
        )

    @property
    def best(self) -> Trial | None:
        """The best complete trial; of equal ones the first."""
        return next((trial for trial in self.ranked() if trial.state == "complete"), None)

    def run(self, trial: Trial) -> Path:
        """Return the run folder of a trial."""
        return trial_folder(self.folder, trial.number)

    def as_json(self) -> dict[str, Any]:
        """Return the study as JSON types."""
        best = self.best
        return {
            "study": str(self.folder),
            "recipe": self.recipe,
            "dataset": self.dataset,
            "monitor": self.monitor,
            "best": None if best is None else best.number,
            "importance": dict(self.importance),
            "trials": [
                {
                    "trial": trial.number,
                    "state": trial.state,
                    "figure": trial.figure,
                    "values": dict(trial.values),
                    "epochs": trial.epochs,
                    "seconds": trial.seconds,
                    "reason": trial.reason,
                    "run": str(self.run(trial)),
                }
                for trial in self.trials
            ],
        }


@dataclass(frozen=True, slots=True)
class DatasetChoice:
    """The dataset of a study and how it is read, as in the journal.

    Attributes:
        dataset: its absolute path.
        labels: name of the labels file in it; empty for the usual one.
        column: the column of the splits.
        exclude: patterns of photos that are left out.
        photos_per_class: the largest number of training photos of a class; None: all.
        subset_seed: decides which photos of a class these are.
    """

    dataset: str = ""
    labels: str = ""
    column: str = "split"
    exclude: tuple[str, ...] = ()
    photos_per_class: int | None = None
    subset_seed: int = 0

    def options(self) -> tuple[str, ...]:
        """Return the options of the command line that differ from the defaults."""
        labels = ("--labels", self.labels) if self.labels else ()
        column = ("--column", self.column) if self.column != "split" else ()
        exclude = [word for pattern in self.exclude for word in ("--exclude", pattern)]
        subset: tuple[str, ...] = ()
        if self.photos_per_class is not None:
            subset = ("--photos-per-class", str(self.photos_per_class))
        if self.subset_seed:
            subset = (*subset, "--subset-seed", str(self.subset_seed))
        return *labels, *exclude, *column, *subset


@dataclass(frozen=True, slots=True)
class _Identity(DatasetChoice):
    """Everything that decides the figures of a study. Two studies differ if one of these does.

    Attributes:
        name: of the recipe. It decides nothing.
        recipe: its digest.
        space: the search space, as text.
    """

    name: str = ""
    recipe: str = ""
    space: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedTrial:
    """A trial that this process works on.

    Attributes:
        number: of the trial.
        id: Optuna's number of it.
        values: key of the recipe → value.
        history: epoch → figure, so far.
        seconds: time that earlier processes spent on it.
        lock: held by this process.
    """

    number: int
    id: int
    values: Mapping[str, Any]
    history: dict[int, float]
    seconds: float
    lock: FileLock


class StudyFolder:
    """A study that this process works on.

    Attributes:
        folder: of the study.
        recipe: the recipe that is tuned.
        axes: the search space.
        lock: held while trials are claimed and folders are cleaned.
        monitor: the figure that trials are compared by.
        study: Optuna's.
    """

    def __init__(self, folder: Path, recipe: Recipe, axes: tuple[Axis, ...]) -> None:
        """Open the study of a folder, or begin one.

        Args:
            folder: it exists.
            recipe: the recipe that is tuned.
            axes: its search space.

        Raises:
            OSError: the journal cannot be read or written.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self.recipe = recipe
        self.axes = axes
        self.lock = FileLock(folder / LOCK_FILE)
        self._storage = _storage(folder)
        self.monitor = compared_figure(recipe)
        self._minimise = self.monitor == "val_loss"
        names = {study.study_name for study in self._storage.get_all_studies()}
        if _STUDY_NAME not in names:
            directions = [_MINIMISE if self._minimise else _MAXIMISE]
            self._storage.create_new_study(directions, _STUDY_NAME)
        self.study = optuna.load_study(
            study_name=_STUDY_NAME,
            storage=self._storage,
            sampler=_RepeatableSampler(recipe.training.seed),
        )

    @cached_property
    def _study_id(self) -> int:
        return int(self._storage.get_study_id_from_name(_STUDY_NAME))

    def claim(self, limit: int) -> ClaimedTrial | None:
        """Return a trial to work on: an unfinished one of an ended process, or a new one.

        Args:
            limit: no new trial begins if the study has this many.

        Returns:
            The trial, or None if there is nothing to do.
        """
        with self.lock:
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state is TrialState.RUNNING and (claimed := self._take_over(trial)):
                    return claimed
            if len(trials) >= limit:
                return None
            new = self.study.ask({axis.key: axis.distribution() for axis in self.axes})
            lock = self._trial_lock(new.number + 1)
            lock.acquire(timeout=0)
            return self._claimed(self._frozen(new.number + 1), lock)

    def record_epoch(self, trial: ClaimedTrial, epoch: int, figure: float) -> None:
        """Record the figure of a trial after an epoch."""
        trial.history[epoch] = figure
        self._storage.set_trial_intermediate_value(trial.id, epoch, figure)

    def should_prune(self, trial: ClaimedTrial, pruner: optuna.pruners.BasePruner) -> bool:
        """Tell whether the pruner would end a trial now."""
        return bool(pruner.prune(self.study, self._storage.get_trial(trial.id)))

    def pause(self, trial: ClaimedTrial, seconds: float) -> None:
        """Release a trial for another process; `seconds` were spent on it."""
        self._set_attribute(trial.id, "seconds", trial.seconds + seconds)
        self._set_attribute(trial.id, "attempts", 0)
        trial.lock.release()

    def finish(self, trial: ClaimedTrial, state: TrialState, reason: str, seconds: float) -> None:
        """End a trial; `seconds` were spent on it. A complete one gets the best of its figures."""
        self._set_attribute(trial.id, "seconds", trial.seconds + seconds)
        figure = self._best(trial.history) if state is TrialState.COMPLETE else None
        self._end(trial.number, state, reason, figure)
        trial.lock.release()
        self._lock_file(trial.number).unlink(missing_ok=True)

    def read(self, *, with_importance: bool = False) -> Study:
        """Return the study at this moment.

        Args:
            with_importance: also compute the importance of the keys, which takes seconds.

        Raises:
            LearnError: the journal is damaged.
        """
        identity = self.identity()
        return Study(
            folder=self.folder,
            recipe=identity.name or self.recipe.name,
            monitor=self.monitor,
            dataset=identity.dataset,
            options=identity.options(),
            axes=self.axes,
            trials=tuple(self._trial(trial) for trial in self.study.get_trials(deepcopy=False)),
            importance=_importance(self.study) if with_importance else {},
        )

    def identity(self) -> _Identity:
        """Return everything that decides the figures, from the journal.

        Raises:
            LearnError: the journal is damaged.
        """
        try:
            return convert(self.study.user_attrs, _Identity)
        except InvalidValue as error:
            raise LearnError(
                f"{readable(self.folder / JOURNAL_FILE)}: the study is damaged: {error}; name "
                "another folder with --out"
            ) from error

    def _take_over(self, trial: FrozenTrial) -> ClaimedTrial | None:
        """Claim a running trial whose process has ended."""
        number = trial.number + 1
        lock = self._trial_lock(number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING:  # It ended in the meantime.
            lock.release()
            return None
        attempts = frozen.user_attrs.get("attempts", 0)
        has_no_values = len(frozen.params) < len(self.axes)
        if has_no_values or attempts >= MAX_ATTEMPTS:
            reason = (
                "the process ended before the trial began"
                if has_no_values
                else f"its process ended {attempts} times: killed, or out of memory"
            )
            self._end(number, TrialState.FAIL, reason, None)
            lock.release()
            return None
        return self._claimed(frozen, lock)

    def _claimed(self, trial: FrozenTrial, lock: FileLock) -> ClaimedTrial:
        trial_id = self._id(trial.number + 1)
        attempts = trial.user_attrs.get("attempts", 0)
        self._set_attribute(trial_id, "attempts", attempts + 1)
        return ClaimedTrial(
            number=trial.number + 1,
            id=trial_id,
            values=self._values(trial),
            history=dict(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds", 0.0),
            lock=lock,
        )

    def _end(self, number: int, state: TrialState, reason: str, figure: float | None) -> None:
        self._set_attribute(self._id(number), "reason", reason)
        self.study.tell(number - 1, figure, state=state)

    def _trial(self, trial: FrozenTrial) -> Trial:
        return Trial(
            number=trial.number + 1,
            state=_STATES[trial.state],
            figure=trial.value
            if trial.state is TrialState.COMPLETE
            else self._best(trial.intermediate_values),
            values=self._values(trial),
            epochs=len(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds", 0.0),
            reason=trial.user_attrs.get("reason", ""),
        )

    def _values(self, trial: FrozenTrial) -> dict[str, Any]:
        drawn = trial.params
        return {axis.key: axis.value(drawn[axis.key]) for axis in self.axes if axis.key in drawn}

    def _best(self, history: Mapping[int, float]) -> float | None:
        return (min if self._minimise else max)(history.values(), default=None)

    def _id(self, number: int) -> int:
        return int(
            self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number - 1)
        )

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def _set_attribute(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def _lock_file(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}.lock"

    def _trial_lock(self, number: int) -> FileLock:
        file = self._lock_file(number)
        file.parent.mkdir(exist_ok=True)
        return FileLock(file)


class _RepeatableSampler(BaseSampler):  # type: ignore[misc]
    """TPE with a new seed for each trial, made from the number of the trial.

    With one seed, each process would begin with the same draws, and so would a study that is
    continued. Here a study draws the same values whether it was interrupted or not.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**32
        self._tpe = TPESampler(seed=self._seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        trial_seed = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
        self._tpe = TPESampler(seed=int(trial_seed[0]))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._tpe.infer_relative_search_space(study, trial))

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return dict(self._tpe.sample_relative(study, trial, search_space))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def open_study_folder(
    folder: Path, recipe: Recipe, axes: tuple[Axis, ...], dataset: DatasetChoice
) -> StudyFolder:
    """Begin a study, or open it to continue it.

    Args:
        folder: of the study. It is made if it is missing.
        recipe: the recipe that is tuned.
        axes: its search space.
        dataset: the photos of all trials.

    Returns:
        The open study.

    Raises:
        LearnError: the folder holds something else, or trials of another recipe or dataset, or
            cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {file.name for file in folder.iterdir()}
        if names - _FIRST_FILES and not (folder / JOURNAL_FILE).exists():
            raise LearnError(
                f"{readable(folder)}: not empty and not a study; name a new folder with --out"
            )
        with FileLock(folder / LOCK_FILE):
            opened = StudyFolder(folder, recipe, axes)
            if not opened.study.user_attrs:
                write_text(folder / RECIPE_FILE, recipe_toml(recipe))
            _check_identity(opened, recipe, axes, dataset)
    except OSError as error:
        raise LearnError(
            f"{readable(folder)}: cannot be written: {error.strerror or error}"
        ) from error
    return opened


def read_study(folder: Path) -> Study:
    """Read a study of `veduta tune`.

    Args:
        folder: of the study.

    Returns:
        The study, with the importance of its keys.

    Raises:
        LearnError: the folder holds no study.
    """
    if not (folder / JOURNAL_FILE).is_file() or not (folder / RECIPE_FILE).is_file():
        raise LearnError(f"{readable(folder)}: not a study; name a folder that `veduta tune` wrote")
    recipe = open_recipe(str(folder / RECIPE_FILE))
    return StudyFolder(folder, recipe, read_space(recipe)).read(with_importance=True)


def trial_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial.

    Args:
        folder: of the study.
        number: of the trial.
    """
    return folder / "trials" / f"{number:04d}"


def _check_identity(
    opened: StudyFolder, recipe: Recipe, axes: tuple[Axis, ...], dataset: DatasetChoice
) -> None:
    """Write the identity of a new study; refuse another one, whose figures cannot be compared."""
    space = json.dumps({axis.key: repr(axis) for axis in axes}, sort_keys=True)
    wanted = {
        "name": recipe.name,
        "recipe": recipe.digest(),
        "space": space,
        **asdict(dataset),
        "exclude": list(dataset.exclude),
    }
    stored = opened.study.user_attrs
    # A study of an earlier version has trials and lacks options that are newer.
    has_trials = bool(opened.study.trials)
    usual = {**asdict(DatasetChoice()), "exclude": []}
    descriptions = {"recipe": "another recipe", "space": "another [tune.space]"}
    for key, value in wanted.items():
        if key not in stored and not has_trials:
            opened.study.set_user_attr(key, value)
        elif key != "name" and (found := stored.get(key, usual.get(key))) != value:
            other = descriptions.get(key, f"another {key}, {readable(str(found))}")
            raise LearnError(
                f"{readable(opened.folder)}: holds trials of {other}; their figures cannot be "
                "compared with new ones: name another folder with --out"
            )


def _storage(folder: Path) -> JournalStorage:
    file = folder / JOURNAL_FILE
    lock = FileLock(f"{file}.lock")
    with lock:
        _remove_incomplete_line(file)
    # The lock of Optuna is a file that stays when its process is killed.
    return JournalStorage(JournalFileBackend(os.fspath(file), lock_obj=lock))


def _remove_incomplete_line(file: Path) -> None:
    """Remove a last line that a crash cut short. No trial depends on it."""
    if not file.exists():
        return
    content = file.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        AppendOnlyFile(file, end=end).close()


def _importance(study: optuna.Study) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    figures = {trial.value for trial in complete}
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE or len(figures) < 2:
        return {}
    importances = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in importances.items()}
