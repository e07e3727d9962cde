"""How training went, epoch by epoch, as a table and as curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.learn.runs.prediction_files import write_csv
from veduta.pages import charts

if TYPE_CHECKING:
    from veduta.learn.training.loop import Epoch

__all__ = ["HISTORY", "write_curves", "write_history"]

HISTORY = (
    "number",
    "seconds",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
)
"""The columns of `history.csv`; what was not measured is empty."""


def write_history(history: Sequence[Epoch], file: Path) -> None:
    """Write a row an epoch. Raises `OSError`."""
    rows = []
    for epoch in history:
        values = asdict(epoch)
        rows.append(["" if values[name] is None else values[name] for name in HISTORY])
    write_csv(file, ["epoch", *HISTORY[1:]], rows)


def write_curves(history: Sequence[Epoch], best: int, name: str, folder: Path) -> None:
    """Draw `accuracy.png` and `loss.png`, where there is something to draw; `best` is marked.

    Raises `OSError`.
    """
    for what, label in (("accuracy", "share of photos named right"), ("loss", "loss")):
        curves = {}
        for part, title in (("train", "training"), ("val", "validation")):
            values = [getattr(epoch, f"{part}_{what}") for epoch in history]
            found = [math.nan if value is None else float(value) for value in values]
            if any(map(math.isfinite, found)):
                curves[title] = ([epoch.number for epoch in history], found)
        if not curves:
            continue
        numbers, found = list(curves.values())[-1]
        kept = found[numbers.index(best)] if best in numbers else math.nan
        ringed = math.isfinite(kept)
        drawn = charts.lines(
            f"{what.capitalize()} of {name}",
            curves,
            x_label=f"epoch; {best}, ringed, was kept" if ringed else "epoch",
            y_label=label,
            marks=[(best, kept, "")] if ringed else [],
        )
        (folder / f"{what}.png").write_bytes(drawn.png())
