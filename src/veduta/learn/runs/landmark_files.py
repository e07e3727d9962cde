"""The answers of a run as a Google Landmarks submission with its solution, and their score.

`veduta score RUN/submission.csv RUN/solution.csv` prints the same GAP as the card of the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.google_landmarks import (
    photo_ids,
    write_recognition_solution,
    write_recognition_submission,
    written_name,
)
from veduta.evaluation.open_set import global_average_precision
from veduta.learn.runs.prediction_files import PhotoAnswer

__all__ = ["SOLUTION_FILE", "SUBMISSION_FILE", "gap_of_answers", "write_landmark_files"]

SUBMISSION_FILE, SOLUTION_FILE = "submission.csv", "solution.csv"


def gap_of_answers(answers: Sequence[PhotoAnswer]) -> float | None:
    """Return the global average precision of answers.

    Args:
        answers: to photos of the classes, and to photos that show none of them.

    Returns:
        The GAP, in [0, 1]. Equal confidences are in the order of the photos' ids, as
        `veduta score` has them. None if no photo shows a class, or an answer has no confidence.
    """
    answerable = sum(one.label is not None for one in answers)
    if not answerable or any(one.confidence is None for one in answers):
        return None
    ids = [written_name(name) for name in photo_ids([one.path for one in answers])]
    ordered = [one for _, one in sorted(zip(ids, answers, strict=True), key=lambda pair: pair[0])]
    return global_average_precision(
        [math.nan if one.confidence is None else one.confidence for one in ordered],
        [one.answer == one.label for one in ordered],
        answerable,
    )


def write_landmark_files(folder: Path, answers: Sequence[PhotoAnswer]) -> None:
    """Write `submission.csv` and `solution.csv`.

    Args:
        folder: where the files are written.
        answers: each with a confidence.

    Raises:
        DatasetError: a file cannot be written.
    """
    ids = photo_ids([one.path for one in answers])
    pairs = list(zip(ids, answers, strict=True))
    write_recognition_submission(
        folder / SUBMISSION_FILE,
        (
            (name, None if one.confidence is None else (one.answer, one.confidence))
            for name, one in pairs
        ),
    )
    write_recognition_solution(folder / SOLUTION_FILE, ((name, one.label) for name, one in pairs))
