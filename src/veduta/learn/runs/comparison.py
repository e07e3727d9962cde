"""Runs as rows of the table of `veduta compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.errors import LearnError, readable
from veduta.evaluation.answered_by import DESCRIPTOR_ALONE, NETWORK_ALONE
from veduta.evaluation.compared_systems import (
    COMMON_METRICS,
    ComparedSystem,
    Value,
    table_row,
)
from veduta.learn.runs.card import CARD_FILE, Card, read_card
from veduta.learn.runs.landmark_files import gap_of_answers
from veduta.learn.runs.prediction_files import ANSWERS_FILE, PhotoAnswer, read_answers

__all__ = ["Run", "notes_on_runs", "read_run", "row_of_card", "system_of_run"]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        card: its card.
        answers: to the photos of the judged split. None if the run has no file of answers.
    """

    folder: Path
    card: Card
    answers: tuple[PhotoAnswer, ...] | None


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
        answers = tuple(read_answers(file))
        if len({one.path for one in answers}) < len(answers):
            raise ValueError("a photo is there twice")
    except (OSError, ValueError) as error:
        raise LearnError(
            f"{readable(file)}: cannot be read as the answers of a run: {error}. Train the run "
            "again into a new folder"
        ) from error
    return Run(folder, card, answers)


def row_of_card(card: Card, name: str) -> dict[str, Value]:
    """Return a run's row of the table.

    Args:
        card: of the run.
        name: of the row.

    Returns:
        A value for each of `veduta.evaluation.compared_systems.COLUMNS`. `accuracy`, `gap`,
        `balanced_accuracy`, `among_3` and `among_10` are figures of the split `judged`; `top1` to
        `map` are figures of the retrieval.
    """
    figures = card.judged_figures
    retrieval = card.retrieval
    return table_row(
        name=name,
        kind="run",
        queries=figures.photos + figures.unknown if figures else None,
        accuracy=figures.accuracy if figures else None,
        gap=figures.gap if figures else None,
        top1=retrieval.top1 if retrieval else None,
        top3=retrieval.top3 if retrieval else None,
        top5=retrieval.top5 if retrieval else None,
        top10=retrieval.top10 if retrieval else None,
        map=retrieval.map if retrieval else None,
        parameters=card.parameters.total,
        seconds=card.seconds,
        named_by=NETWORK_ALONE if card.answers == "scores" else card.answers,
        ranked_by=DESCRIPTOR_ALONE if retrieval else None,
        balanced_accuracy=figures.balanced_accuracy if figures else None,
        among_3=figures.top3 if figures else None,
        among_10=figures.top10 if figures else None,
        val_accuracy=card.val.accuracy if card.val else None,
        recipe=card.recipe,
        dataset=card.dataset,
        judged=card.judged or None,
        features=card.features,
        trainable=card.parameters.trainable,
        epochs=card.epochs,
        best_epoch=card.best_epoch,
        epoch_chosen_by=card.epoch_chosen_by or None,
        hardware=str(card.hardware.get("gpu") or card.hardware.get("cpu") or "") or None,
        dataset_digest=card.dataset_digest,
        recipe_digest=card.recipe_digest,
    )


def system_of_run(run: Run, name: str) -> ComparedSystem:
    """Return a run as a row of the table.

    Args:
        run: the run.
        name: of the row.
    """
    row = row_of_card(run.card, name)
    notes = []
    if run.card.epoch_chosen_by == "test":
        notes.append("the test photos chose the epoch of training, so the figures are optimistic")
    if run.card.judged == "val":
        notes.append(
            "without test photos, so the figures are those of the validation photos, "
            "which chose the epoch"
        )
    if run.answers is None:
        if run.card.judged:
            notes.append(f"not compared query by query: without {ANSWERS_FILE}")
        return ComparedSystem(row, None, {}, COMMON_METRICS, tuple(notes))
    if row["gap"] is None and (gap := gap_of_answers(run.answers)) is not None:
        row["gap"] = gap
        notes.append(
            "an older version of Veduta wrote the card without the GAP; it was computed from the "
            f"rounded confidences in {ANSWERS_FILE}"
        )
    has_confidences = all(one.confidence is not None for one in run.answers)
    queries = [
        {
            "path": one.path,
            "label": one.label,
            "guess": one.answer,
            "confidence": one.confidence if has_confidences else 0.0,
            "named": True,
        }
        for one in run.answers
    ]
    return ComparedSystem(
        row,
        {"task": "recognize", "queries": queries} if queries else None,
        {one.path: one.label for one in run.answers},
        COMMON_METRICS if has_confidences else ("guess_right",),
        tuple(notes),
    )


def notes_on_runs(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Return how runs differ in what they were trained on, one sentence each.

    Args:
        runs: the runs.
        names: of their rows.
    """
    by_dataset: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        by_dataset.setdefault(run.card.dataset_digest, []).append(name)
    if len(by_dataset) < 2:
        return []
    groups = "; ".join(", ".join(group) for group in by_dataset.values())
    return [
        f"trained on different photos, labels or splits ({groups}): the figures of different "
        "groups cannot be compared"
    ]
