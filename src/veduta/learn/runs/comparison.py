"""Comparison of runs: one table of figures, and differences with their significance.

Accuracies are compared photo by photo with those of the first run, on the photos that both
answered, by the paired bootstrap (`veduta.evaluation.bootstrap`). With more than two runs the
p-values are corrected for the number of comparisons (`veduta.evaluation.comparison.holm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from veduta.errors import LearnError, readable
from veduta.evaluation.bootstrap import (
    RESAMPLES,
    bootstrap_statistic,
    means_of,
    percentile_intervals,
    two_sided_p_values,
)
from veduta.evaluation.comparison import holm
from veduta.evaluation.figures import Interval
from veduta.learn.runs.card import CARD_FILE, Card, read_card
from veduta.learn.runs.prediction_files import ANSWERS_FILE, read_answers

__all__ = [
    "SORT_KEYS",
    "Difference",
    "Run",
    "RunComparison",
    "compare_runs",
    "read_run",
    "table_row",
]

Value = str | int | float | None

SORT_KEYS = {
    "accuracy": True,
    "balanced-accuracy": True,
    "top-1": True,
    "top-3": True,
    "top-10": True,
    "map": True,
    "parameters": False,
    "epochs": False,
    "seconds": False,
    "recipe": False,
}
"""Figure → whether the largest value comes first."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        card: its card.
        answers: path of a photo → (label, answer), for the photos of the judged split. None if the
            run has no file of answers.
    """

    folder: Path
    card: Card
    answers: Mapping[str, tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A run's accuracy compared with that of the first run, on the photos that both answered.

    Attributes:
        run: name of the run.
        photos: number of photos that both answered.
        accuracy: of the run on these photos.
        first: accuracy of the first run on these photos.
        difference: `accuracy` - `first`.
        interval: 95 % interval of the difference.
        p_value: two-sided.
        p_holm: the p-value corrected for the number of runs.
    """

    run: str
    photos: int
    accuracy: float
    first: float
    difference: float
    interval: Interval
    p_value: float
    p_holm: float


@dataclass(frozen=True, slots=True, eq=False)
class RunComparison:
    """Runs in the order of the table.

    Attributes:
        names: of the runs.
        runs: the runs.
        differences: of the accuracies to the first run's.
        notes: differences between the runs that limit the comparison, one sentence each.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    names: tuple[str, ...]
    runs: tuple[Run, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return the comparison as JSON types. A figure that a run does not have is null."""
        return {
            "runs": [
                {"run": name, **table_row(run.card)}
                for name, run in zip(self.names, self.runs, strict=True)
            ],
            "differences": [
                {**asdict(each), "interval": list(each.interval)} for each in self.differences
            ],
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
        }


def read_run(folder: Path) -> Run:
    """Read the card and the answers of a run.

    Args:
        folder: the run folder, or its `card.json`.

    Raises:
        LearnError: there is no finished run, or its files cannot be read.
    """
    card = read_card(folder)
    if folder.name == CARD_FILE and not folder.is_dir():
        folder = folder.parent
    file = folder / ANSWERS_FILE
    if not file.is_file():
        return Run(folder, card, None)
    try:
        answers = {
            one.path: (one.label, one.answer) for one in read_answers(file) if one.label is not None
        }
    except (OSError, ValueError) as error:
        raise LearnError(
            f"{readable(file)}: cannot be read as the answers of a run: {error}. Train the run "
            "again into a new folder"
        ) from error
    return Run(folder, card, answers)


def table_row(card: Card) -> dict[str, Value]:
    """Return a run's row of the table.

    Args:
        card: of the run.

    Returns:
        Key → value. `accuracy`, `balanced_accuracy`, `among_3` and `among_10` are figures of the
        split `judged`; `top1`, `top3`, `top10` and `map` are figures of the retrieval.
    """
    figures = card.judged_figures
    retrieval = card.retrieval
    return {
        "recipe": card.recipe,
        "dataset": card.dataset,
        "judged": card.judged or None,
        "answers": card.answers,
        "accuracy": figures.accuracy if figures else None,
        "balanced_accuracy": figures.balanced_accuracy if figures else None,
        "among_3": figures.top3 if figures else None,
        "among_10": figures.top10 if figures else None,
        "val_accuracy": card.val.accuracy if card.val else None,
        "top1": retrieval.top1 if retrieval else None,
        "top3": retrieval.top3 if retrieval else None,
        "top10": retrieval.top10 if retrieval else None,
        "map": retrieval.map if retrieval else None,
        "features": card.features,
        "parameters": card.parameters.total,
        "trainable": card.parameters.trainable,
        "epochs": card.epochs,
        "best_epoch": card.best_epoch,
        "seconds": card.seconds,
        "hardware": str(card.hardware.get("gpu") or card.hardware.get("cpu") or ""),
        "dataset_digest": card.dataset_digest,
        "recipe_digest": card.recipe_digest,
    }


def compare_runs(
    runs: Sequence[Run],
    names: Sequence[str],
    *,
    sort: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RunComparison:
    """Compare runs with each other.

    Args:
        runs: one or more.
        names: of the runs, all different.
        sort: a key of `SORT_KEYS`; None keeps the given order. Runs without that figure come last.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The comparison.

    Raises:
        ValueError: there is not one name for each run, names are equal, or `sort` is not a key.
    """
    if not runs or len(set(names)) != len(runs) or len(names) != len(runs):
        raise ValueError(f"expected one different name for each of {len(runs)} runs, not {names}")
    pairs = list(zip(names, runs, strict=True))
    if sort is not None:
        pairs.sort(key=_sort_function(sort))
    names, runs = [name for name, _ in pairs], [run for _, run in pairs]
    notes = _comparability_notes(names, runs)
    differences = []
    for name, run in pairs[1:]:
        difference = _difference(runs[0], run, name, resamples, seed)
        if isinstance(difference, str):
            notes.append(f"{name}: not compared with {names[0]} photo by photo: {difference}")
        else:
            differences.append(difference)
            most_photos = max(len(each.answers or ()) for each in (runs[0], run))
            if others := most_photos - difference.photos:
                notes.append(
                    f"{name}: compared with {names[0]} on the {difference.photos:,} photos that "
                    f"both answered; {others:,} others are left out"
                )
    corrected = holm([each.p_value for each in differences])
    differences = [replace(each, p_holm=p) for each, p in zip(differences, corrected, strict=True)]
    return RunComparison(
        tuple(names), tuple(runs), tuple(differences), tuple(notes), resamples, seed
    )


def _sort_function(sort: str) -> Callable[[tuple[str, Run]], tuple[bool, float | str]]:
    if sort not in SORT_KEYS:
        raise ValueError(f"{sort!r} is none of {', '.join(SORT_KEYS)}")
    key = {"top-1": "top1", "top-3": "top3", "top-10": "top10"}.get(sort, sort.replace("-", "_"))

    def sort_value(pair: tuple[str, Run]) -> tuple[bool, float | str]:
        value = table_row(pair[1].card)[key]
        if value is None or isinstance(value, str):
            return value is None, value or ""
        return False, -value if SORT_KEYS[sort] else value

    return sort_value


def _comparability_notes(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Return the differences between the runs that make their figures hard to compare."""
    notes = []
    by_dataset: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        by_dataset.setdefault(run.card.dataset_digest, []).append(name)
    if len(by_dataset) > 1:
        groups = "; ".join(", ".join(group) for group in by_dataset.values())
        notes.append(
            f"trained on different photos, labels or splits ({groups}): the figures of different "
            "groups cannot be compared"
        )
    on_val = [name for name, run in zip(names, runs, strict=True) if run.card.judged == "val"]
    if on_val:
        notes.append(
            "without test photos, so the accuracy is that of the validation photos, which chose "
            f"the epoch: {', '.join(on_val)}"
        )
    nearest = [name for name, run in zip(names, runs, strict=True) if run.card.answers != "scores"]
    if nearest and len(nearest) < len(runs):
        notes.append(f"the answer is the class of the nearest training photo: {', '.join(nearest)}")
    return notes


def _difference(first: Run, run: Run, name: str, resamples: int, seed: int) -> Difference | str:
    """Return the difference of two runs, or the reason why there is none."""
    if first.answers is None or run.answers is None:
        return f"a run has no {ANSWERS_FILE}"
    if first.card.judged != run.card.judged:
        return "one is judged on test photos, the other on validation photos"
    paths = sorted(first.answers.keys() & run.answers.keys())
    if not paths:
        return "no photo is judged in both"
    if changed := [path for path in paths if first.answers[path][0] != run.answers[path][0]]:
        return f"{len(changed):,} photos have other labels, such as {readable(changed[0])}"
    is_right = np.array([_is_right(answers, paths) for answers in (first.answers, run.answers)])
    is_right = is_right.T.astype(np.float64)
    differences = is_right[:, 1:] - is_right[:, :1]
    drawn = bootstrap_statistic(
        means_of(differences), len(differences), resamples=resamples, seed=seed
    )
    low, high = percentile_intervals(drawn)[0].tolist()
    first_accuracy, accuracy = is_right.mean(axis=0).tolist()
    p_value = float(two_sided_p_values(drawn)[0])
    return Difference(
        run=name,
        photos=len(paths),
        accuracy=accuracy,
        first=first_accuracy,
        difference=float(differences.mean()),
        interval=(low, high),
        p_value=p_value,
        p_holm=p_value,
    )


def _is_right(answers: Mapping[str, tuple[str, str]], paths: Sequence[str]) -> list[bool]:
    return [answers[path][0] == answers[path][1] for path in paths]
