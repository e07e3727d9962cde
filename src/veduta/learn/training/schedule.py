"""What the epochs so far decide: the learning rate of the next one, the best one, and the end.

All of it is a function of the recipe and the history, so an interrupted run goes on as it was.
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
    """What one pass over the photos came to.

    `number`: from 1. `seconds`: training and validation. `learning_rate`: of the layers after the
    backbone. `train_loss`, `train_accuracy`: the mean over the epoch, while the weights changed.
    Losses include the L1 and L2 penalties. An accuracy is None where the loss names no classes;
    the figures of validation are None without photos for it.
    """

    number: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None


def monitored(history: Sequence[Epoch], training: Training) -> tuple[str, list[float]]:
    """Return the name of the figure that is watched, and for each epoch what is to become larger.

    The recipe's `monitor`; the loss where there is no accuracy, that of training where there are no
    photos for validation.
    """
    if any(epoch.val_loss is None for epoch in history):
        return "train_loss", [-epoch.train_loss for epoch in history]
    if training.monitor == "val_accuracy":
        accuracies = [one.val_accuracy for one in history if one.val_accuracy is not None]
        if len(accuracies) == len(history):
            return "val_accuracy", accuracies
    return "val_loss", [-one.val_loss for one in history if one.val_loss is not None]


def best_epoch(history: Sequence[Epoch], training: Training) -> int:
    """Return the number of the best epoch; of equally good ones the first."""
    _, values = monitored(history, training)
    return history[values.index(max(values))].number


def learning_rate_factor(history: Sequence[Epoch], training: Training) -> float:
    """Return what the learning rate is multiplied by in the epoch after `history`."""
    done = len(history)
    factor = training.gamma ** sum(done >= milestone for milestone in training.milestones)
    if training.cosine:
        factor *= 0.5 * (1 + math.cos(math.pi * done / training.epochs))
    if training.reduce_patience:
        _, values = monitored(history, training)
        waits = _waits(values, training.min_delta, training.reduce_patience)
        factor *= training.reduce_factor ** sum(w == training.reduce_patience for w in waits)
    return factor


def reason_to_stop(history: Sequence[Epoch], training: Training) -> str | None:
    """Return why training ends after `history`, in a sentence's part; None while it goes on."""
    if not history:
        return None
    name, values = monitored(history, training)
    wanted = training.monitor.replace("_", " ")
    shown = name.replace("_", " ")
    note = ""
    if name != training.monitor:
        without = "no photos for validation" if name == "train_loss" else f"no {wanted}"
        note = f"; {without}, so the {shown} was watched"
    *_, wait = _waits(values, training.min_delta, len(history) + 1)
    if training.patience and wait >= training.patience:
        return f"the {shown} did not gain for {count(training.patience, 'epoch')}{note}"
    if len(history) >= training.epochs:
        return f"all {training.epochs} epochs{note}"
    return None


def _waits(values: Iterable[float], least: float, patience: int) -> list[int]:
    """Return for each epoch how many there were without a gain; after `patience` from 0 again."""
    best, wait = -math.inf, 0
    waits = []
    for value in values:
        wait = 0 if wait == patience else wait
        if value - least > best:
            best, wait = value, 0
        else:
            wait += 1
        waits.append(wait)
    return waits
