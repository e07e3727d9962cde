"""Pictures of an autoencoder: each improved epoch, bounded, and the same after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from PIL import Image
from tiny_training import SIZE, tiny_recipe, train

from veduta.learn.recipe import Loss, Recipe, Training
from veduta.learn.training.reconstructions import MAX_EPOCHS, improved_epochs
from veduta.learn.training.schedule import Epoch, best_epoch

pytestmark = pytest.mark.usefixtures("one_torch_thread")

LAYERS = ({"flatten": True}, {"noise": 0.1}, {"variational": 6})
DECODER = (
    {"dense": 3 * SIZE * SIZE, "activation": "sigmoid"},
    {"reshape": [3, SIZE, SIZE]},
)


def recipe(epochs: int) -> Recipe:
    return tiny_recipe(
        layers=LAYERS,
        loss=Loss(name="vae", kl_weight=0.1),
        network={"decoder": DECODER},
        epochs=epochs,
        learning_rate=0.01,
        monitor="val_loss",
    )


def pictures(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*.png"))
    }


def test_pictures_are_the_same_after_an_interruption(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    done = train(recipe(5), coloured_dataset, tmp_path / "whole")
    whole = pictures(tmp_path / "whole")
    settings = Training(monitor="val_loss")
    improved = improved_epochs(done.history, settings)
    assert improved[-1] == best_epoch(done.history, settings) > 1
    assert set(whole) == {
        *(f"reconstructions/epoch-{number:03}.png" for number in improved),
        "reconstructions.png",
        "samples.png",
    }
    with Image.open(tmp_path / "whole/reconstructions" / f"epoch-{improved[-1]:03}.png") as opened:
        strip = np.asarray(opened).astype(int)
    photos = strip.shape[1] // SIZE
    assert strip.shape == (2 * SIZE, photos * SIZE, 3) and 1 < photos <= 6
    with Image.open(tmp_path / "whole/reconstructions/epoch-001.png") as opened:
        first = np.asarray(opened).astype(int)
    assert (first[:SIZE] == strip[:SIZE]).all(), "the same photos above"
    error = [np.square(one[:SIZE] - one[SIZE:]).mean() for one in (first, strip)]
    assert error[1] < 0.8 * error[0], "they are reconstructed better and better"
    with Image.open(tmp_path / "whole/reconstructions.png") as opened:
        assert opened.height > (1 + len(improved)) * 128

    def stop(epoch: Any) -> None:
        if epoch.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(5), coloured_dataset, tmp_path / "halves", on_epoch=stop)
    assert "samples.png" not in pictures(tmp_path / "halves")
    train(recipe(5), coloured_dataset, tmp_path / "halves")
    assert pictures(tmp_path / "halves") == whole


def test_pictures_are_few_and_none_comes_back() -> None:
    history: list[Epoch] = []
    before: set[int] = set()
    for number in range(1, 101):
        loss = 1 / number if number % 5 else 1.0
        history.append(Epoch(number, 1.0, 0.1, 1.0, None, loss, None))
        kept = improved_epochs(history, Training(monitor="val_loss"))
        assert len(kept) <= MAX_EPOCHS and kept[0] == 1
        assert kept[-1] == number - (number % 5 == 0)
        assert set(kept) <= before | {number}
        before = set(kept)
