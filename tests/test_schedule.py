"""The learning rate, the best epoch and the end of training."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")


from veduta.learn.recipe import Training
from veduta.learn.training import schedule
from veduta.learn.training.schedule import Epoch

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def history(*accuracies: float) -> list[Epoch]:
    return [Epoch(n, 1.0, 0.1, 1.0, 0.5, 1.0, a) for n, a in enumerate(accuracies, 1)]


BY_LOSS = list(zip(history(0, 0), (1.0, 0.5), strict=True))


def test_the_learning_rate_of_the_next_epoch() -> None:
    steps = Training(milestones=(1, 3), gamma=0.5)
    factors = [schedule.learning_rate_factor(history(*[0.1] * done), steps) for done in range(5)]
    assert factors == [1, 0.5, 0.5, 0.25, 0.25]
    wave = Training(cosine=True, epochs=4)
    factors = [schedule.learning_rate_factor(history(*[0.1] * done), wave) for done in range(4)]
    assert factors == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    plateau = Training(reduce_patience=2, reduce_factor=0.1)
    seen = [0.5, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    factors = [schedule.learning_rate_factor(history(*seen[:done]), plateau) for done in range(9)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_when_to_stop_and_what_is_best() -> None:
    patient = Training(epochs=9, patience=2, min_delta=0.1)
    assert schedule.reason_to_stop([], patient) is None
    assert schedule.reason_to_stop(history(0.5, 0.55), patient) is None
    reason = schedule.reason_to_stop(history(0.5, 0.55, 0.59), patient)
    assert reason == "the val accuracy did not improve for 2 epochs"
    assert schedule.reason_to_stop(history(0.5, 0.55, 0.61), patient) is None
    assert schedule.reason_to_stop(history(*[0.5] * 9), Training(epochs=9)) == "all 9 epochs"
    assert schedule.best_epoch(history(0.5, 0.7, 0.6, 0.7), patient) == 2
    without = [replace(epoch, val_loss=None, val_accuracy=None) for epoch in history(0, 0)]
    without[1] = replace(without[1], train_loss=0.5)
    assert schedule.best_epoch(without, patient) == 2
    ended = schedule.reason_to_stop(without, Training(epochs=2))
    assert ended == "all 2 epochs; no photos for validation, so the train loss was watched"
    embedded = [replace(epoch, val_accuracy=None, val_loss=loss) for epoch, loss in BY_LOSS]
    assert schedule.best_epoch(embedded, Training()) == 2


def test_best_stop_and_rate_each_watch_their_own_figure() -> None:
    # train loss falls always, val loss is best in epoch 1, val accuracy in epoch 2.
    rows = [(4.0, 0.3, 1.0, 0.5), (3.0, 0.4, 2.0, 0.9), (2.0, 0.5, 3.0, 0.7), (1.0, 0.4, 4.0, 0.8)]
    seen = [Epoch(n, 1.0, 0.1, *row) for n, row in enumerate(rows, 1)]
    xception = Training(
        monitor="val_accuracy",
        stop_monitor="val_loss",
        patience=3,
        reduce_monitor="train_accuracy",
        reduce_patience=1,
    )
    assert schedule.best_epoch(seen, xception) == 2
    assert schedule.reason_to_stop(seen[:3], xception) is None
    reason = schedule.reason_to_stop(seen, xception)
    assert reason == "the val loss did not improve for 3 epochs"
    factors = [schedule.learning_rate_factor(seen[:done], xception) for done in range(5)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1])
    autoencoder = replace(xception, monitor="val_loss", stop_monitor="train_loss", patience=1)
    assert schedule.best_epoch(seen, autoencoder) == 1
    assert schedule.reason_to_stop(seen, autoencoder) is None
    # "auto" is the figure of `monitor`.
    same = Training(monitor="val_loss", patience=2, reduce_patience=2)
    assert schedule.best_epoch(seen, same) == 1
    assert "val loss" in str(schedule.reason_to_stop(seen[:3], same))
    assert schedule.learning_rate_factor(seen[:3], same) == pytest.approx(0.1)
