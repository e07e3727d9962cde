"""The answers of a run to its photos: answers, classification report and confusion matrix."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veduta.errors import LearnError, readable
from veduta.evaluation.classification import Averages, Classification
from veduta.files import write_bytes
from veduta.pages import charts
from veduta.text import count, printable
from veduta.validation import convert, read_whole

__all__ = [
    "ANSWERS_FILE",
    "MAX_DRAWN_CLASSES",
    "PhotoAnswer",
    "classification_text",
    "read_answers",
    "read_csv",
    "tested_photos",
    "write_answers",
    "write_confusion",
    "write_csv",
]

ANSWERS_FILE = "answers.csv"
MAX_DRAWN_CLASSES = 200
"""A confusion matrix of more classes is written as a table, but not drawn."""

_MAX_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class PhotoAnswer:
    """One row of `answers.csv`.

    Attributes:
        path: of the photo, relative to the dataset.
        label: its class; None if it shows none of the classes, which the file has as an empty cell.
        answer: the class that the network answered.
        confidence: in the answer; None if the file does not have it.
    """

    path: str
    label: str | None
    answer: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class _AnswerRow:
    path: str
    label: str
    answer: str
    confidence: str | None = None


def read_answers(file: Path) -> list[PhotoAnswer]:
    """Return the answers of a run.

    Args:
        file: its `answers.csv`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file.
    """
    rows = convert(read_csv(file), list[_AnswerRow])
    answers = []
    for row in rows:
        confidence = None if row.confidence is None else float(row.confidence)
        if confidence is not None and not math.isfinite(confidence):
            raise ValueError(f"the confidence of {row.path!r} is {row.confidence!r}")
        answers.append(PhotoAnswer(row.path, row.label or None, row.answer, confidence))
    return answers


def write_answers(file: Path, answers: Iterable[PhotoAnswer]) -> None:
    """Write the answers of a run. Confidences have all their digits.

    Args:
        file: its `answers.csv`.
        answers: to all of its photos, each with a confidence.

    Raises:
        OSError: the file cannot be written.
    """
    rows = ((one.path, one.label or "", one.answer, one.confidence) for one in answers)
    write_csv(file, ["path", "label", "answer", "confidence"], rows)


def tested_photos(run: Path) -> frozenset[str] | None:
    """Return the paths of the photos that a run answered, relative to its dataset.

    Args:
        run: its folder.

    Returns:
        The paths; None if the folder has no `answers.csv`, so that they are not known.

    Raises:
        LearnError: the file cannot be read.
    """
    file = run / ANSWERS_FILE
    if not file.is_file():
        return None
    try:
        return frozenset(answer.path for answer in read_answers(file))
    except (OSError, ValueError) as error:
        raise LearnError(
            f"{readable(file)}: the answers of the run do not read back ({error}); train it again "
            "into a new folder"
        ) from error


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file as UTF-8. Names that are not UTF-8 keep their bytes.

    Args:
        file: the file.
        header: names of the columns.
        rows: the cells of each row.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode("utf-8", "surrogateescape"))


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return the rows that `write_csv` wrote: column → text.

    Args:
        file: the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a CSV file, or a row is longer or shorter than the header.
    """
    text = read_whole(file).decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer cells than the header")
    return rows


def classification_text(figures: Classification, split: str) -> str:
    """Return precision, recall, F1 and support of each class and their averages, as a table.

    Args:
        figures: of the photos of one split.
        split: its name in the first line: "test" or "validation".
    """
    names = [printable(row.label) for row in figures.classes]
    longest = _MAX_NAME_CHARACTERS
    names = [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in names]
    width = max(map(len, [*names, "weighted avg"]))
    photos = figures.photos
    lines = [
        count(photos, f"{split} photo"),
        "",
        f"{'':{width}}  precision  recall      f1  support",
    ]
    for name, row in zip(names, figures.classes, strict=True):
        averages = Averages(row.precision, row.recall, row.f1)
        lines.append(_text_row(name, width, averages, row.support))
    lines += [
        "",
        f"{'accuracy':{width}}  {'':9}  {'':6}  {figures.accuracy:6.4f}  {photos:7,}",
        _text_row("macro avg", width, figures.macro, photos),
        _text_row("weighted avg", width, figures.weighted, photos),
    ]
    return "\n".join(lines) + "\n"


def _text_row(name: str, width: int, averages: Averages, support: int) -> str:
    return (
        f"{name:{width}}  {averages.precision:9.4f}  {averages.recall:6.4f}  {averages.f1:6.4f}  "
        f"{support:7,}"
    )


def write_confusion(figures: Classification, split: str, folder: Path) -> None:
    """Write `confusion.csv`, and for up to `MAX_DRAWN_CLASSES` classes `confusion.png`.

    A row of the CSV is the class of the photos, a column the class that was answered.

    Args:
        figures: of the photos of one split.
        split: its name in the title: "test" or "validation".
        folder: where the files are written.

    Raises:
        OSError: a file cannot be written.
    """
    names = [row.label for row in figures.classes]
    counts = figures.confusion_matrix()[:-1, :-1]
    rows = ([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    write_csv(folder / "confusion.csv", ["shown", *names], rows)
    if len(names) <= MAX_DRAWN_CLASSES:
        chart = charts.matrix(
            f"Answers to {figures.photos:,} {split} photos",
            counts.astype(np.float64),
            names,
            x_label="answered",
            y_label="shown",
            all_names=True,
        )
        write_bytes(folder / "confusion.png", chart.png())
