"""Which photos and figures choose the epoch, end the training and lower the learning rate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny_runs import CLASSES, DRAWING, NAMES, painted, recipe_of
from tiny_training import FLAT, tiny_recipe
from tiny_training import train as fit_tiny

from veduta.cli.main import run
from veduta.errors import LearnError, RecipeError
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import Loss, open_recipe, with_values
from veduta.learn.runs.card import Card
from veduta.learn.training.recipe_network import network_without_weights
from veduta.learn.tuning.tuner import tune

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 6, "val": 3, "test": 4}
    return painted(tmp_path_factory.mktemp("choice") / "photos", NAMES[:3], counts)


def test_the_test_photos_take_the_part_of_validation_photos(photos: Path) -> None:
    splits = read_splits(photos, test_chooses=True)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (18, 0, 12)
    assert splits.choosing.tolist() == splits.test.tolist() and not splits.held_out
    assert splits.problems == ("9 photos of val left out: the test photos choose the epoch",)
    fewer = splits.without({int(splits.test[0]): "broken"})
    assert fewer.test_chooses and len(fewer.choosing) == 11
    usual = read_splits(photos)
    assert usual.choosing.tolist() == usual.val.tolist() != []


def test_all_training_photos_train_if_the_test_photos_choose(tmp_path: Path) -> None:
    painted(tmp_path, NAMES[:3], {"train": 5, "test": 2})
    assert len(read_splits(tmp_path).train) == 12
    splits = read_splits(tmp_path, test_chooses=True)
    assert (len(splits.train), len(splits.choosing)) == (15, 6) and splits.problems == ()


def test_without_test_photos_they_cannot_choose(coloured_dataset: Path) -> None:
    with pytest.raises(LearnError, match=r"no test photos; make some with `veduta split`"):
        read_splits(coloured_dataset, test_chooses=True)


def test_figures_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    drawing = recipe_of(tmp_path, DRAWING)
    for key in ("monitor", "stop_monitor", "reduce_monitor"):
        wrong = with_values(drawing, {f"training.{key}": "train_accuracy"})
        with pytest.raises(RecipeError, match=rf"training\.{key} is train_accuracy, .* mse names"):
            network_without_weights(wrong)
    wrong = tiny_recipe(layers=FLAT, epoch_chosen_by="test", monitor="train_loss")
    with pytest.raises(RecipeError, match="take val_accuracy or val_loss, which are then those of"):
        network_without_weights(wrong)
    arcface = tiny_recipe(
        layers=({"flatten": True}, {"dense": 4}),
        loss=Loss("arcface", margin=0.3),
        network={"features": 2},
        monitor="val_accuracy",
    )
    network_without_weights(arcface)  # Its class centres name classes.
    with pytest.raises(RecipeError, match="expected one of auto, train_accuracy"):
        with_values(drawing, {"training.stop_monitor": "val_acuracy"})


def test_a_study_does_not_use_the_test_photos(tmp_path: Path) -> None:
    space = {"training.batch": {"choices": [8, 16]}}
    for change, message in (
        ({"training.epoch_chosen_by": "test"}, "never uses the test photos"),
        ({"training.monitor": "train_loss"}, "trials are compared by the validation photos"),
    ):
        recipe = with_values(tiny_recipe(), {"tune.space": space, **change})
        with pytest.raises(RecipeError, match=message):
            tune(recipe, tmp_path, tmp_path / "study")


def test_the_training_loss_can_end_the_training(coloured_dataset: Path, tmp_path: Path) -> None:
    # With a learning rate of zero, no figure improves after the first epoch.
    recipe = tiny_recipe(
        layers=FLAT, epochs=9, learning_rate=0.0, patience=2, stop_monitor="train_accuracy"
    )
    done = fit_tiny(recipe, coloured_dataset, tmp_path)
    assert done.stop_reason == "the train accuracy did not improve for 2 epochs"
    assert len(done.history) == 3


def test_recipes_watch_what_their_reports_say() -> None:
    xception = open_recipe("xception-transfer").training
    assert (xception.monitor, xception.stop_monitor) == ("val_accuracy", "val_loss")
    assert xception.reduce_monitor == "val_accuracy" and xception.reduce_patience
    for name in ("32-64", "32-64-128", "32-64-128-256"):
        training = open_recipe(f"autoencoder-{name}").training
        assert training.stop_monitor == "train_loss" and training.patience
    for name in ("siamese", "siamese-resnet50", "scratch-competition", "resnet152-frozen"):
        training = open_recipe(name).training
        assert training.monitor == "val_loss"
        assert {training.stop_monitor, training.reduce_monitor} <= {"auto", "val_loss"}


@pytest.mark.slow
def test_the_card_says_that_the_test_photos_chose(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_of(tmp_path, CLASSES)
    out = tmp_path / "run"
    setting = ["--set", "training.epoch_chosen_by=test"]
    assert (
        run(["train", str(tmp_path / "tiny.toml"), str(photos), "--out", str(out), *setting]) == 0
    )
    told = capsys.readouterr()
    assert "test accuracy" in told.err and "val accuracy" not in told.err
    assert "The test photos chose the epoch, so their figures are optimistic." in told.out
    assert "by the test accuracy (all 4 epochs)" in told.out
    assert "validation: " not in told.out
    values = json.loads((out / "card.json").read_text())
    card = Card.from_json(values)
    assert card.epoch_chosen_by == values["epoch_chosen_by"] == "test"
    assert (card.photos["train"], card.photos["val"], card.val) == (18, 0, None)
    rows = np.genfromtxt(out / "history.csv", delimiter=",", names=True)
    assert card.test is not None
    assert card.test.accuracy == pytest.approx(rows["val_accuracy"].max())
    text = " ".join((out / "card.md").read_text("utf-8").split())
    assert "The test photos chose the epoch that was kept and ended the training" in text
    assert "by the accuracy of the test photos" in text
    assert "validation photos to calibrate" not in text and "from the validation photos" not in text
