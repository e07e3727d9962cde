"""How each photo was answered, as files: answers, classification report, confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from veduta.evaluation.classification import Averages, Classification
from veduta.pages import charts
from veduta.text import count, printable

__all__ = [
    "ANSWERS",
    "MOST_DRAWN",
    "classification_text",
    "read_csv",
    "write_confusion",
    "write_csv",
]

ANSWERS = "answers.csv"
MOST_DRAWN = 200
"""Classes of a confusion matrix that is drawn."""

_WIDEST = 40  # characters of a class in the report


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write UTF-8 with a header. Names that are not UTF-8 keep their bytes.

    Raises `OSError` when it cannot be written.
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    file.write_bytes(lines.getvalue().encode("utf-8", "surrogateescape"))


def read_csv(file: Path) -> list[dict[str, str]]:
    """Read back what `write_csv` wrote: an object a row, from column to text.

    Raises `OSError`, and `ValueError` for what is no such file.
    """
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        try:
            rows = list(csv.DictReader(lines, strict=True))
        except csv.Error as error:
            raise ValueError(str(error)) from error
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer fields than the header")
    return rows


def classification_text(figures: Classification, part: str) -> str:
    """Return precision, recall, F1 and support of each class and their averages, as a table."""
    names = [printable(row.label) for row in figures.classes]
    names = [name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}…" for name in names]
    width = max(map(len, [*names, "weighted avg"]))
    photos = figures.photos
    lines = [
        count(photos, f"{part} photo"),
        "",
        f"{'':{width}}  precision  recall      f1  support",
    ]
    for name, row in zip(names, figures.classes, strict=True):
        lines.append(_line(name, width, Averages(row.precision, row.recall, row.f1), row.support))
    lines += [
        "",
        f"{'accuracy':{width}}  {'':9}  {'':6}  {figures.accuracy:6.4f}  {photos:7,}",
        _line("macro avg", width, figures.macro, photos),
        _line("weighted avg", width, figures.weighted, photos),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, width: int, of: Averages, support: int) -> str:
    return f"{name:{width}}  {of.precision:9.4f}  {of.recall:6.4f}  {of.f1:6.4f}  {support:7,}"


def write_confusion(figures: Classification, part: str, folder: Path) -> None:
    """Write `confusion.csv`, and up to `MOST_DRAWN` classes `confusion.png`.

    A row of the CSV is a class that is shown, a column one that was answered.

    Raises `OSError` when they cannot be written.
    """
    names = [row.label for row in figures.classes]
    counts = figures.confusion_matrix()[:-1, :-1]
    rows = ([name, *line] for name, line in zip(names, counts.tolist(), strict=True))
    write_csv(folder / "confusion.csv", ["shown", *names], rows)
    if len(names) <= MOST_DRAWN:
        title = f"Answers to {figures.photos:,} {part} photos"
        drawn = charts.matrix(
            title, counts.astype(np.float64), names, x_label="answered", y_label="shown"
        )
        (folder / "confusion.png").write_bytes(drawn.png())
