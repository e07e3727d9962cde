"""The schedule of training: the next learning rate, the best epoch and the end.

All of it depends only on the recipe and the history, so an interrupted run continues unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.recipe import Training

__all__ = ["Epoch", "best_epoch", "learning_rate_factor", "monitored", "reason_to_stop"]


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
        val_loss: the loss of the validation photos; None without any.
        val_accuracy: the accuracy of the validation photos; None without any.
    """

    number: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None


def monitored(history: Sequence[Epoch], training: Training) -> tuple[str, list[float]]:
    """Return the figure that decides which epoch is better.

    It is the `monitor` of the recipe. Without an accuracy it is the loss, and without validation
    photos the training loss.

    Args:
        history: one epoch or more.
        training: the settings.

    Returns:
        The name of the figure, and its value for each epoch: larger is better, so a loss is
        negative.
    """
    if any(epoch.val_loss is None for epoch in history):
        return "train_loss", [-epoch.train_loss for epoch in history]
    if training.monitor == "val_accuracy":
        accuracies = [one.val_accuracy for one in history if one.val_accuracy is not None]
        if len(accuracies) == len(history):
            return "val_accuracy", accuracies
    return "val_loss", [-one.val_loss for one in history if one.val_loss is not None]


def best_epoch(history: Sequence[Epoch], training: Training) -> int:
    """Return the number of the best epoch; the first of equally good ones."""
    _, values = monitored(history, training)
    return history[values.index(max(values))].number


def learning_rate_factor(history: Sequence[Epoch], training: Training) -> float:
    """Return the factor of the learning rate in the epoch after `history`."""
    done = len(history)
    factor = training.gamma ** sum(done >= milestone for milestone in training.milestones)
    if training.cosine:
        factor *= 0.5 * (1 + math.cos(math.pi * done / training.epochs))
    if training.reduce_patience:
        _, values = monitored(history, training)
        waits = _epochs_without_gain(values, training.min_delta, training.reduce_patience)
        factor *= training.reduce_factor ** sum(wait == training.reduce_patience for wait in waits)
    return factor


def reason_to_stop(history: Sequence[Epoch], training: Training) -> str | None:
    """Return why training ends after `history`, for messages; None while it continues."""
    if not history:
        return None
    name, values = monitored(history, training)
    shown = name.replace("_", " ")
    note = ""
    if name != training.monitor:
        missing = training.monitor.replace("_", " ")
        missing = "photos for validation" if name == "train_loss" else missing
        note = f"; no {missing}, so the {shown} was watched"
    *_, wait = _epochs_without_gain(values, training.min_delta, len(history) + 1)
    if training.patience and wait >= training.patience:
        return f"the {shown} did not improve for {count(training.patience, 'epoch')}{note}"
    if len(history) >= training.epochs:
        return f"all {training.epochs} epochs{note}"
    return None


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
