"""The schedule of training: the next learning rate, the best epoch and the end.

All of it depends only on the recipe and the history, so an interrupted run continues unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.recipe import Training

__all__ = [
    "Epoch",
    "Purpose",
    "best_epoch",
    "learning_rate_factor",
    "monitored",
    "reason_to_stop",
]

Purpose = Literal["best", "stop", "reduce"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of one pass over the training photos.

    Losses include the L1 and L2 penalties. An accuracy is None if the loss predicts no classes.

    Attributes:
        number: counted from 1.
        seconds: the duration of training and validation.
        learning_rate: the learning rate of the layers behind the backbone.
        train_loss: the mean over the epoch, while the weights change.
        train_accuracy: the mean over the epoch, while the weights change.
        val_loss: the loss of the validation photos, or of the test photos if they choose the
            epoch; None without any.
        val_accuracy: the accuracy of the same photos; None without any.
    """

    number: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None


def monitored(
    history: Sequence[Epoch], training: Training, purpose: Purpose
) -> tuple[str, list[float]]:
    """Return the figure that is watched for a purpose.

    Without validation photos it is the training loss, instead of a figure of theirs.

    Args:
        history: one epoch or more.
        training: the settings.
        purpose: "best" for the best epoch, "stop" for the end of training, "reduce" for the
            learning rate.

    Returns:
        The name of the figure, and its value for each epoch: larger is better, so a loss is
        negative.
    """
    name = _named_figure(training, purpose)
    if name == "auto":
        has_accuracy = all(epoch.val_accuracy is not None for epoch in history)
        name = "val_accuracy" if has_accuracy else "val_loss"
    if name.startswith("val_") and any(epoch.val_loss is None for epoch in history):
        name = "train_loss"
    sign = -1.0 if name.endswith("_loss") else 1.0
    return name, [sign * getattr(epoch, name) for epoch in history]


def best_epoch(history: Sequence[Epoch], training: Training) -> int:
    """Return the number of the best epoch; the first of equally good ones."""
    _, values = monitored(history, training, "best")
    return history[values.index(max(values))].number


def learning_rate_factor(history: Sequence[Epoch], training: Training) -> float:
    """Return the factor of the learning rate in the epoch after `history`."""
    done = len(history)
    factor = training.gamma ** sum(done >= milestone for milestone in training.milestones)
    if training.cosine:
        factor *= 0.5 * (1 + math.cos(math.pi * done / training.epochs))
    if training.reduce_patience:
        _, values = monitored(history, training, "reduce")
        waits = _epochs_without_gain(values, training.min_delta, training.reduce_patience)
        factor *= training.reduce_factor ** sum(wait == training.reduce_patience for wait in waits)
    return factor


def reason_to_stop(history: Sequence[Epoch], training: Training) -> str | None:
    """Return why training ends after `history`, for messages; None while it continues."""
    if not history:
        return None
    name, values = monitored(history, training, "stop")
    shown = name.replace("_", " ")
    note = ""
    if name == "train_loss" and _named_figure(training, "stop") != name:
        note = "; no photos for validation, so the train loss was watched"
    *_, wait = _epochs_without_gain(values, training.min_delta, len(history) + 1)
    if training.patience and wait >= training.patience:
        return f"the {shown} did not improve for {count(training.patience, 'epoch')}{note}"
    if len(history) >= training.epochs:
        ended = "its only epoch" if training.epochs == 1 else f"all {training.epochs} epochs"
        return f"{ended}{note}"
    return None


def _named_figure(training: Training, purpose: Purpose) -> str:
    """Return the figure that the recipe names for a purpose, which may be "auto"."""
    named = {
        "best": training.monitor,
        "stop": training.stop_monitor,
        "reduce": training.reduce_monitor,
    }[purpose]
    return training.monitor if named == "auto" else named


def _epochs_without_gain(values: Iterable[float], min_delta: float, patience: int) -> list[int]:
    """Return for each epoch the number of epochs without a gain; after `patience` it restarts."""
    best, wait = -math.inf, 0
    waits = []
    for value in values:
        wait = 0 if wait == patience else wait
        if value - min_delta > best:
            best, wait = value, 0
        else:
            wait += 1
        waits.append(wait)
    return waits
