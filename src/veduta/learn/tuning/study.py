"""A study: the trials of a tuning, in a folder that outlives any process that works on it.

```
STUDY/
  study.jsonl     every trial, its values and its figure after each epoch, as Optuna writes them
  recipe.toml     the recipe and what of it is tuned
  best.toml       the recipe of the best trial
  trials/0007/    its run folder; of all but the best only the card and the history
  report.html
```

The trials are an append-only file of JSON lines instead of a SQLite database: every commit is one
write, it opens and grows faster, needs no further packages, and its lock is the kernel's, which a
killed process does not keep. A line that a crash cut short is taken off when the file is opened.

Who works on a trial holds a lock of its own. A trial that is under way without anybody holding its
lock was left by a process that ended, and the next one to come goes on with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
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
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.tuning.search_space import Axis, read_space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Claim", "Study", "StudyFolder", "Trial", "create_or_open", "read_study"]

JOURNAL, RECIPE = "study.jsonl", "recipe.toml"

_NAME = "tuning"
_MINIMISE, _MAXIMISE = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
_OURS = {"study.lock", JOURNAL, f"{JOURNAL}.lock"}  # what another process may just have begun with
_ATTEMPTS = 3  # a trial that ends its process this often is given up
_STATES: dict[TrialState, Literal["running", "complete", "pruned", "failed"]] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values and what came of it.

    `number`: from 1 on. `figure`: the best over its epochs of what the recipe monitors; None where
    no epoch ended. `values`: of the recipe, by key. `epochs`: how many ended. `seconds`: spent on
    it. `reason`: why it failed or was pruned.
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
    """The trials so far.

    `recipe`: name of the one that is tuned. `monitor`: the figure that trials are compared by.
    `dataset`: its path. `options`: how the command line says to read it. `axes`: what is tuned.
    `importance`: share in [0, 1] of the figure's variance that goes with each key, by functional
    ANOVA of a random forest (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing
    Hyperparameter Importance", 2014); empty with too few complete trials.
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
        having = [one for one in self.trials if one.figure is not None]
        sign = 1 if self.monitor == "val_loss" else -1
        return sorted(
            having, key=lambda one: (one.state != "complete", sign * (one.figure or 0), one.number)
        )

    @property
    def best(self) -> Trial | None:
        """The best complete trial; of equal ones the first."""
        return next((one for one in self.ranked() if one.state == "complete"), None)

    def run(self, trial: Trial) -> Path:
        """Return the run folder of a trial."""
        return run_folder(self.folder, trial.number)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
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
                    "trial": one.number,
                    "state": one.state,
                    "figure": one.figure,
                    "values": dict(one.values),
                    "epochs": one.epochs,
                    "seconds": one.seconds,
                    "reason": one.reason,
                    "run": str(self.run(one)),
                }
                for one in self.trials
            ],
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this process works on. `history`: figure after each epoch so far."""

    number: int
    id: int
    values: Mapping[str, Any]
    history: dict[int, float]
    seconds: float
    lock: FileLock


class StudyFolder:
    """A study that is open to be worked on."""

    def __init__(self, folder: Path, recipe: Recipe, axes: tuple[Axis, ...]) -> None:
        """Open the study of `folder`, which exists, or begin one; raises OSError."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self.recipe = recipe
        self.axes = axes
        self.lock = FileLock(folder / "study.lock")
        """Held while trials are given out and folders are tidied."""
        self._storage = _storage(folder)
        self._minimise = recipe.training.monitor == "val_loss"
        known = {one.study_name for one in self._storage.get_all_studies()}
        if _NAME not in known:
            directions = [_MINIMISE if self._minimise else _MAXIMISE]
            self._storage.create_new_study(directions, _NAME)
        sampler = _Sampler(recipe.training.seed)
        self.study = optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler)

    @cached_property
    def _study_id(self) -> int:
        return int(self._storage.get_study_id_from_name(_NAME))

    def claim(self, limit: int) -> Claim | None:
        """Return a trial to work on: one that was left unfinished, or a new one up to `limit`."""
        with self.lock:
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state is TrialState.RUNNING and (claim := self._taken_over(trial)):
                    return claim
            if len(trials) >= limit:
                return None
            asked = self.study.ask({axis.key: axis.distribution() for axis in self.axes})
            lock = self._lock_of(asked.number + 1)
            lock.acquire(timeout=0)
            return self._claim(self._frozen(asked.number + 1), lock)

    def report(self, claim: Claim, epoch: int, figure: float) -> None:
        """Record the figure after an epoch."""
        claim.history[epoch] = figure
        self._storage.set_trial_intermediate_value(claim.id, epoch, figure)

    def hopeless(self, claim: Claim, pruner: optuna.pruners.BasePruner) -> bool:
        """Tell whether the pruner would end the trial."""
        return bool(pruner.prune(self.study, self._storage.get_trial(claim.id)))

    def pause(self, claim: Claim, seconds: float) -> None:
        """Leave the trial for the next who comes."""
        self._note(claim.id, "seconds", claim.seconds + seconds)
        self._note(claim.id, "attempts", 0)
        claim.lock.release()

    def finish(self, claim: Claim, state: TrialState, reason: str, seconds: float) -> None:
        """End the trial, with the best of its figures if it is complete."""
        self._note(claim.id, "seconds", claim.seconds + seconds)
        figure = self._best(claim.history) if state is TrialState.COMPLETE else None
        self._end(claim.number, state, reason, figure)
        claim.lock.release()
        self._lock_file(claim.number).unlink(missing_ok=True)

    def read(self, *, weigh: bool = False) -> Study:
        """Return what the study holds now; the importance of the keys only to `weigh` them."""
        attributes = self.study.user_attrs
        trials = self.study.get_trials(deepcopy=False)
        return Study(
            folder=self.folder,
            recipe=attributes.get("name", self.recipe.name),
            monitor=self.recipe.training.monitor,
            dataset=attributes.get("dataset", ""),
            options=tuple(
                word
                for name, usual in (("labels", ""), ("column", "split"))
                if (value := attributes.get(name, usual)) != usual
                for word in (f"--{name}", value)
            ),
            axes=self.axes,
            trials=tuple(self._trial(one) for one in trials),
            importance=_importance(self.study) if weigh else {},
        )

    def _taken_over(self, trial: FrozenTrial) -> Claim | None:
        number = trial.number + 1
        lock = self._lock_of(number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING:  # it ended meanwhile
            lock.release()
            return None
        attempts = frozen.user_attrs.get("attempts", 0)
        missing = len(frozen.params) < len(self.axes)
        if missing or attempts >= _ATTEMPTS:
            reason = (
                "the process ended before it began"
                if missing
                else f"ended its process {attempts} times: killed, or out of memory"
            )
            self._end(number, TrialState.FAIL, reason, None)
            lock.release()
            return None
        return self._claim(frozen, lock)

    def _claim(self, trial: FrozenTrial, lock: FileLock) -> Claim:
        trial_id = self._id(trial.number + 1)
        self._note(trial_id, "attempts", trial.user_attrs.get("attempts", 0) + 1)
        return Claim(
            number=trial.number + 1,
            id=trial_id,
            values=self._values(trial),
            history=dict(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds", 0.0),
            lock=lock,
        )

    def _end(self, number: int, state: TrialState, reason: str, figure: float | None) -> None:
        self._note(self._id(number), "reason", reason)
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

    def _note(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def _lock_file(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}.lock"

    def _lock_of(self, number: int) -> FileLock:
        file = self._lock_file(number)
        file.parent.mkdir(exist_ok=True)
        return FileLock(file)


class _Sampler(BaseSampler):  # type: ignore[misc]
    """TPE, seeded anew by the number of each trial.

    A sampler that is seeded once would repeat its first draws in every process, and whenever a
    study goes on. So a study that was interrupted draws what it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**32
        self._tpe = TPESampler(seed=self._seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        mixed = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
        self._tpe = TPESampler(seed=int(mixed[0]))
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


def create_or_open(
    folder: Path, recipe: Recipe, axes: tuple[Axis, ...], on: Mapping[str, str]
) -> StudyFolder:
    """Begin a study, or open it to go on with it.

    `on`: what besides the recipe decides a figure: "dataset" and how it is read.

    Raises:
        LearnError: the folder holds something else, or trials of another recipe or dataset, or
            cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if {one.name for one in folder.iterdir()} - _OURS and not (folder / JOURNAL).exists():
            raise LearnError(
                f"{readable(folder)}: not empty and no study; name a new folder with --out"
            )
        with FileLock(folder / "study.lock"):
            opened = StudyFolder(folder, recipe, axes)
            if not opened.study.user_attrs:
                (folder / RECIPE).write_text(recipe_toml(recipe), "utf-8")
            _agree(opened, _identity(recipe, axes, on))
    except OSError as error:
        raise LearnError(
            f"{readable(folder)}: cannot be written: {error.strerror or error}"
        ) from error
    return opened


def read_study(folder: Path) -> Study:
    """Read a study that `veduta tune` has left.

    Raises:
        LearnError: there is none in the folder.
    """
    if not (folder / JOURNAL).is_file() or not (folder / RECIPE).is_file():
        raise LearnError(f"{readable(folder)}: no study, as `veduta tune` leaves it")
    recipe = open_recipe(str(folder / RECIPE))
    return StudyFolder(folder, recipe, read_space(recipe)).read(weigh=True)


def run_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial by its number."""
    return folder / "trials" / f"{number:04d}"


def _identity(recipe: Recipe, axes: tuple[Axis, ...], on: Mapping[str, str]) -> dict[str, str]:
    space = {axis.key: repr(axis) for axis in axes}
    return {
        "name": recipe.name,
        "recipe": recipe.digest(),
        "space": json.dumps(space, sort_keys=True),
        **on,
    }


def _agree(opened: StudyFolder, wanted: Mapping[str, str]) -> None:
    """Write down what a new study is about; refuse to mix figures of different things."""
    known = opened.study.user_attrs
    words = {"recipe": "another recipe", "space": "another [tune.space]"}
    for key, value in wanted.items():
        if key not in known:
            opened.study.set_user_attr(key, value)
        elif key != "name" and known[key] != value:
            found = words.get(key, f"another {key}, {readable(known[key])}")
            raise LearnError(
                f"{readable(opened.folder)}: holds trials of {found}; their figures do not "
                "compare: name another folder with --out"
            )


def _storage(folder: Path) -> JournalStorage:
    file = folder / JOURNAL
    lock = FileLock(f"{file}.lock")
    with lock:
        _mend(file)
    # Optuna's own lock is a file that stays when its process is killed.
    return JournalStorage(JournalFileBackend(os.fspath(file), lock_obj=lock))


def _mend(file: Path) -> None:
    """Take off a last line that was not written to its end: no trial has been told of it."""
    if not file.exists():
        return
    with file.open("r+b") as journal:
        text = journal.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            journal.truncate(whole)


def _importance(study: optuna.Study) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 8 or len({trial.value for trial in complete}) < 2:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in found.items()}
