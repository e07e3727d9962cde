"""The history of a training, epoch by epoch: `history.csv` and its curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from veduta.files import write_bytes
from veduta.learn.runs.prediction_files import read_csv, write_csv
from veduta.learn.training.schedule import Epoch
from veduta.pages import charts

__all__ = ["HISTORY_FILE", "read_history", "write_curves", "write_history"]

HISTORY_FILE = "history.csv"

# The columns after "epoch" are attributes of `Epoch`. A cell without a value is empty.
_COLUMNS = (
    "seconds",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
)


def write_history(history: Sequence[Epoch], file: Path) -> None:
    """Write one row for each epoch.

    Args:
        history: the epochs.
        file: the CSV file.

    Raises:
        OSError: the file cannot be written.
    """
    rows = []
    for epoch in history:
        values = asdict(epoch)
        cells = ["" if values[name] is None else values[name] for name in _COLUMNS]
        rows.append([epoch.number, *cells])
    write_csv(file, ["epoch", *_COLUMNS], rows)


def read_history(file: Path) -> list[Epoch]:
    """Return the epochs that `write_history` wrote.

    Args:
        file: the CSV file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file.
    """
    try:
        return [
            Epoch(
                number=int(row["epoch"]),
                seconds=float(row["seconds"]),
                learning_rate=float(row["learning_rate"]),
                train_loss=float(row["train_loss"]),
                train_accuracy=_optional_number(row["train_accuracy"]),
                val_loss=_optional_number(row["val_loss"]),
                val_accuracy=_optional_number(row["val_accuracy"]),
            )
            for row in read_csv(file)
        ]
    except KeyError as error:
        raise ValueError(f"no column {error}") from error


def _optional_number(cell: str) -> float | None:
    return float(cell) if cell else None


def write_curves(
    history: Sequence[Epoch], best: int, name: str, folder: Path, *, test: bool = False
) -> None:
    """Draw `accuracy.png` and `loss.png`. A chart without values is not drawn.

    Args:
        history: the epochs.
        best: number of the epoch that was kept; it is marked.
        name: of the recipe, for the titles.
        folder: where the files are written.
        test: the second curve belongs to the test photos, which chose the epoch.

    Raises:
        OSError: a file cannot be written.
    """
    validation = "test (chose the epoch)" if test else "validation"
    for quantity, label in (("accuracy", "share of photos named right"), ("loss", "loss")):
        curves = {}
        for split, title in (("train", "training"), ("val", validation)):
            measured = [getattr(epoch, f"{split}_{quantity}") for epoch in history]
            values = [math.nan if value is None else float(value) for value in measured]
            if any(map(math.isfinite, values)):
                curves[title] = ([epoch.number for epoch in history], values)
        if not curves:
            continue
        numbers, values = list(curves.values())[-1]
        best_value = values[numbers.index(best)] if best in numbers else math.nan
        is_marked = math.isfinite(best_value)
        chart = charts.lines(
            f"{quantity.capitalize()} of {name}",
            curves,
            x_label=f"epoch; {best}, ringed, was kept" if is_marked else "epoch",
            y_label=label,
            marks=[(best, best_value, "")] if is_marked else [],
        )
        write_bytes(folder / f"{quantity}.png", chart.png())
