"""Runs side by side: the reports' tables, from the runs themselves.

Accuracies are compared photo by photo with the first run's, on the photos that both answered, by
the paired bootstrap (`veduta.evaluation.bootstrap`); with more than two runs p-values are corrected
for the number of comparisons (`veduta.evaluation.comparison.holm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from veduta.evaluation.summary import Interval
from veduta.learn.runs.card import CARD, Card, read_card
from veduta.learn.runs.prediction_files import ANSWERS, read_csv
from veduta.learn.training.figures import ClassificationFigures

__all__ = [
    "SORTED_BY",
    "Difference",
    "Run",
    "RunsCompared",
    "compare_runs",
    "open_run",
    "values_of",
]

Value = str | int | float | None

# From a figure to whether the largest comes first.
SORTED_BY = {
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


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run: its folder, its card, and of each judged photo (path → label, answer).

    `answers` is None where the run left none.
    """

    folder: Path
    card: Card
    answers: Mapping[str, tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a run's accuracy is above the first one's, on the photos that both answered.

    `interval`: 95 %. `p_value`: two-sided; `p_holm`: corrected for the number of runs.
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
class RunsCompared:
    """Runs in the order of the table, with their `names`; `differences` are to the first.

    `notes`: what makes the runs unlike each other.
    """

    names: tuple[str, ...]
    runs: tuple[Run, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return all of it as JSON types; what a run has not is null."""
        return {
            "runs": [
                {"run": name, **values_of(run.card)}
                for name, run in zip(self.names, self.runs, strict=True)
            ],
            "differences": [
                {**asdict(each), "interval": list(each.interval)} for each in self.differences
            ],
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
        }


def open_run(folder: Path) -> Run:
    """Open a run by its folder or its card.json.

    Raises:
        LearnError: there is no finished run, or its files do not read.
    """
    card = read_card(folder)
    if folder.name == CARD and not folder.is_dir():
        folder = folder.parent
    file = folder / ANSWERS
    if not file.is_file():
        return Run(folder, card, None)
    try:
        answers = {row["path"]: (row["label"], row["answer"]) for row in read_csv(file)}
    except (OSError, ValueError, KeyError) as error:
        why = f"no column {error}" if isinstance(error, KeyError) else error
        raise LearnError(
            f"{readable(file)}: does not read as the answers of a run: {why}"
        ) from error
    return Run(folder, card, answers)


def values_of(card: Card) -> dict[str, Value]:
    """Return a run's row of the table: what it is, how good, how large, how long.

    `accuracy`, `balanced_accuracy`, `among_3`, `among_10` are of the part `judged`; `top1`, `top3`,
    `top10` and `map` are of retrieval.
    """
    figures = _judged(card)
    found = card.retrieval
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
        "top1": found.top1 if found else None,
        "top3": found.top3 if found else None,
        "top10": found.top10 if found else None,
        "map": found.map if found else None,
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
) -> RunsCompared:
    """Put runs side by side.

    Args:
        runs: one or more.
        names: what they are called, each another.
        sort: a key of `SORTED_BY`; None: as given. Runs without that figure come last.
        resamples, seed: of the bootstrap.

    Raises:
        ValueError: names that are not as many and different, or no such key.
    """
    if not runs or len(set(names)) != len(runs) or len(names) != len(runs):
        raise ValueError(f"{len(runs)} runs with the names {tuple(names)}; wanted as many of both")
    pairs = list(zip(names, runs, strict=True))
    if sort is not None:
        pairs.sort(key=_order(sort))
    names, runs = [name for name, _ in pairs], [run for _, run in pairs]
    notes = _unlike(names, runs)
    found = []
    for name, run in pairs[1:]:
        outcome = _difference(pairs[0][1], run, name, resamples, seed)
        if isinstance(outcome, str):
            notes.append(f"{name}: not compared with {names[0]} photo by photo: {outcome}")
        else:
            found.append(outcome)
            if left := max(len(each.answers or ()) for each in (runs[0], run)) - outcome.photos:
                notes.append(
                    f"{name}: compared with {names[0]} on the {outcome.photos:,} photos that both "
                    f"answered; {left:,} others are left out"
                )
    corrected = holm([each.p_value for each in found])
    differences = tuple(
        Difference(**{**asdict(each), "p_holm": p})
        for each, p in zip(found, corrected, strict=True)
    )
    return RunsCompared(tuple(names), tuple(runs), differences, tuple(notes), resamples, seed)


def _judged(card: Card) -> ClassificationFigures | None:
    return {"test": card.test, "val": card.val}.get(card.judged)


def _order(sort: str) -> Callable[[tuple[str, Run]], tuple[bool, float | str]]:
    if sort not in SORTED_BY:
        raise ValueError(f"{sort!r} is none of {', '.join(SORTED_BY)}")
    key = {"top-1": "top1", "top-3": "top3", "top-10": "top10"}.get(sort, sort.replace("-", "_"))

    def order(pair: tuple[str, Run]) -> tuple[bool, float | str]:
        value = values_of(pair[1].card)[key]
        if value is None or isinstance(value, str):
            return value is None, value or ""
        return False, -value if SORTED_BY[sort] else value

    return order


def _unlike(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Say what keeps figures of the runs from being comparable."""
    notes = []
    kinds: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        kinds.setdefault(run.card.dataset_digest, []).append(name)
    if len(kinds) > 1:
        groups = "; ".join(", ".join(group) for group in kinds.values())
        notes.append(
            f"trained on different photos, labels or parts ({groups}): the figures of one group "
            "say nothing of the other"
        )
    on_val = [name for name, run in zip(names, runs, strict=True) if run.card.judged == "val"]
    if on_val:
        notes.append(
            f"without test photos, so the accuracy is of the validation photos, which chose the "
            f"epoch: {', '.join(on_val)}"
        )
    nearest = [name for name, run in zip(names, runs, strict=True) if run.card.answers != "scores"]
    if nearest and len(nearest) < len(runs):
        notes.append(f"answers are those of the nearest training photo: {', '.join(nearest)}")
    return notes


def _difference(first: Run, run: Run, name: str, resamples: int, seed: int) -> Difference | str:
    """Compare two runs, or say why they cannot be."""
    if first.answers is None or run.answers is None:
        return f"a run has no {ANSWERS}"
    if first.card.judged != run.card.judged:
        return "one is judged on test photos, the other on validation photos"
    paths = sorted(first.answers.keys() & run.answers.keys())
    if not paths:
        return "no photo is judged in both"
    if changed := [path for path in paths if first.answers[path][0] != run.answers[path][0]]:
        return f"{len(changed):,} photos have other labels, such as {readable(changed[0])}"
    right = np.array(
        [
            [each.answers[path][0] == each.answers[path][1] for each in (first, run)]  # type: ignore[index]
            for path in paths
        ],
        np.float64,
    )
    apart = right[:, 1:] - right[:, :1]
    drawn = bootstrap_statistic(means_of(apart), len(apart), resamples=resamples, seed=seed)
    low, high = percentile_intervals(drawn)[0].tolist()
    mean_first, mean = right.mean(axis=0).tolist()
    p = float(two_sided_p_values(drawn)[0])
    return Difference(name, len(paths), mean, mean_first, float(apart.mean()), (low, high), p, p)
