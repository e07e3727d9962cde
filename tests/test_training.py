"""The training loop: it learns, keeps the best epoch, and stops with a clear message."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny_training import SIZE, cached, coloured_photos, tiny_recipe, train

from veduta.errors import LearnError
from veduta.learn.data.image_cache import normalise
from veduta.learn.models.networks import Net, Outputs
from veduta.learn.recipe import Loss
from veduta.learn.training import checkpoint
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.schedule import Epoch

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_it_learns_quietly(
    coloured_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = ({"flatten": True}, {"dense": "classes"})
    recipe = tiny_recipe(layers=layers, epochs=12, learning_rate=0.01, validation=0.25)
    seen: list[Epoch] = []
    reports: list[tuple[str, int, int]] = []
    done = train(
        recipe,
        coloured_dataset,
        tmp_path,
        on_epoch=seen.append,
        on_progress=lambda *now: reports.append(now),
    )
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint"}
    assert tuple(seen) == done.history
    assert [epoch.number for epoch in seen] == list(range(1, 13))
    assert max(epoch.val_accuracy or 0 for epoch in seen) >= 0.9
    assert seen[-1].train_loss < 0.5 * seen[0].train_loss
    assert done.stop_reason == "all 12 epochs"
    assert done.device in ("cpu", "mps") or torch.cuda.is_available()
    assert not done.net.training
    training = [now for now in reports if now[0] == "Training"]
    per_epoch = 24 - 6
    assert training[-1][1:] == (12 * per_epoch, 12 * per_epoch)
    assert not any(Path.cwd().glob("lightning_logs"))


def test_the_best_epoch_is_kept_and_its_figures_are_true(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(epochs=6, learning_rate=0.03, monitor="val_loss")
    images, splits = cached(coloured_dataset, recipe)
    torch.manual_seed(0)
    done = fit(recipe, build_network(recipe, 3), splits, images, tmp_path)
    losses = [epoch.val_loss for epoch in done.history]
    assert done.best_epoch == int(np.argmin(losses)) + 1
    with torch.no_grad():
        scores = done.net(normalise(images.batch(splits.val), recipe.input)).scores
        codes = torch.from_numpy(splits.class_ids[splits.val])
        loss = torch.nn.functional.cross_entropy(scores, codes)
    assert float(loss) == pytest.approx(min(losses), rel=1e-4)
    right = float((scores.argmax(dim=1) == codes).float().mean())
    assert right == pytest.approx(done.history[done.best_epoch - 1].val_accuracy)


def test_without_validation_the_train_loss_is_watched(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    done = train(tiny_recipe(validation=0.0), coloured_dataset, tmp_path)
    assert "train loss was watched" in done.stop_reason
    assert all(epoch.val_loss is None for epoch in done.history)
    assert done.best_epoch == int(np.argmin([epoch.train_loss for epoch in done.history])) + 1


def test_a_step_of_plain_descent_by_hand(tmp_path: Path) -> None:
    """One epoch of one batch: the weights are w - rate · slope, the loss is the one before."""
    coloured_photos(tmp_path / "photos", 2, 2)
    recipe = tiny_recipe(
        layers=({"flatten": True}, {"dense": "classes", "regularised": True}),
        epochs=1,
        batch=4,
        optimizer="sgd",
        momentum=0.0,
        learning_rate=0.1,
        validation=0.0,
        l2=0.01,
    )
    images, splits = cached(tmp_path / "photos", recipe)
    net = build_network(recipe, 2)
    weight = net.layers[1].weight.detach().clone().requires_grad_()
    bias = net.layers[1].bias.detach().clone().requires_grad_()
    photos = images.batch(splits.train).float().flatten(1) / 255
    codes = torch.from_numpy(splits.class_ids)
    loss = torch.nn.functional.cross_entropy(photos @ weight.T + bias, codes)
    loss = loss + 0.01 * weight.square().sum()
    loss.backward()
    done = fit(recipe, net, splits, images, tmp_path / "run")
    assert done.history[0].train_loss == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(done.net.layers[1].weight, weight - 0.1 * weight.grad)
    torch.testing.assert_close(done.net.layers[1].bias, bias - 0.1 * bias.grad)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_optimizers(coloured_dataset: Path, tmp_path: Path, name: Any) -> None:
    done = train(
        tiny_recipe(optimizer=name, epochs=4, learning_rate=0.003), coloured_dataset, tmp_path
    )
    assert done.history[-1].train_loss < done.history[0].train_loss


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(coloured_dataset: Path, tmp_path: Path, precision: Any) -> None:
    done = train(tiny_recipe(precision=precision, epochs=2), coloured_dataset, tmp_path)
    assert all(parameter.dtype == torch.float32 for parameter in done.net.parameters())
    assert all(math.isfinite(epoch.train_loss) for epoch in done.history)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (Loss(name="contrastive"), {"pairs": 12}),
        (Loss(name="contrastive"), {"per_class": 2}),
        (Loss(name="triplet", margin=0.2), {"per_class": 2}),
        (Loss(name="supcon"), {"per_class": 2, "balanced": True}),
        (Loss(name="arcface", margin=0.3), {"mixup": 0.2}),
        (Loss(name="sub-centre-arcface", margin=0.3), {}),
    ],
)
def test_embeddings_train(
    coloured_dataset: Path, tmp_path: Path, loss: Loss, options: dict[str, Any]
) -> None:
    layers = ({"flatten": True}, {"dense": 8})
    recipe = tiny_recipe(layers=layers, loss=loss, network={"features": 2}, **options)
    done = train(recipe, coloured_dataset, tmp_path)
    assert len(done.history) == 3
    assert (done.history[0].val_accuracy is not None) == loss.name.endswith("arcface")
    assert all(math.isfinite(epoch.val_loss or 0) for epoch in done.history)


def test_the_centres_of_arcface_learn_and_are_resumed(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        layers=({"flatten": True}, {"dense": 8}),
        loss=Loss(name="arcface", margin=0.3),
        network={"features": 2},
    )
    train(recipe, coloured_dataset, tmp_path)
    _, splits = cached(coloured_dataset, recipe)
    state = checkpoint.read_checkpoint(tmp_path, checkpoint.run_identity(recipe, splits))
    assert state is not None
    assert state.loss_weights["metric.W"].shape == (8, 3)
    assert all(not name.endswith("metric.W") for name in state.best_weights)


def test_the_backbone_learns_later_and_more_slowly(coloured_dataset: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        unfreeze_after=2, epochs=3, backbone_rate=0.1, optimizer="sgd", momentum=0.0
    )
    images, splits = cached(coloured_dataset, recipe)

    class Two(torch.nn.Module):  # type: ignore[misc,name-defined]
        classes, gives_probabilities, feature_size, input_size = 3, False, 4, SIZE
        first_weights = None
        first_weights = decoder = None
        layer_table = ()

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.backbone = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, 4)
            )
            self.head = torch.nn.Linear(4, 3)

        def forward(self, photos: Any) -> Outputs:
            features = self.backbone(photos)
            return Outputs(features, self.head(features))

        def set_backbone_trainable(self, yes: bool) -> None:
            self.backbone.requires_grad_(yes)

    net = Two()
    weights = []
    done = fit(
        recipe,
        net,
        splits,
        images,
        tmp_path,
        on_epoch=lambda _: weights.append(net.backbone[1].weight.detach().clone()),
    )
    assert torch.equal(weights[0], Two().backbone[1].weight)
    assert torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[2], weights[1])
    assert len(done.history) == 3
    whole = replace(recipe, training=replace(recipe.training, unfreeze_after=0, epochs=1))
    fast = replace(whole, training=replace(whole.training, backbone_rate=1.0))
    steps = []
    for number, settled in enumerate((whole, fast)):
        net = Two()
        before = net.backbone[1].weight.detach().clone()
        at_once = replace(settled, training=replace(settled.training, batch=100))
        fit(at_once, net, splits, images, tmp_path / str(number))
        steps.append(net.backbone[1].weight.detach() - before)
    torch.testing.assert_close(steps[0] * 10, steps[1], rtol=1e-3, atol=1e-7)


def test_a_network_without_trainable_parameters_is_refused(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    layers = ({"flatten": True},)
    recipe = tiny_recipe(layers=layers, loss=Loss(name="triplet"), network={"features": 1})
    with pytest.raises(LearnError, match="no parameter of the network is trained"):
        train(recipe, coloured_dataset, tmp_path)


def test_a_loss_that_is_no_number_stops(coloured_dataset: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        layers=({"flatten": True}, {"dense": "classes"}),
        optimizer="sgd",
        learning_rate=1e38,
        epochs=5,
    )
    with pytest.raises(LearnError) as caught:
        train(recipe, coloured_dataset, tmp_path)
    text = str(caught.value)
    assert text.startswith("tiny: epoch 1, step ")
    assert "the learning rate is 1e+38" in text
    assert "training.learning_rate" in text


def test_a_weight_that_is_no_number_stops_at_the_end_of_the_epoch(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        layers=({"flatten": True}, {"dense": "classes"}),
        optimizer="sgd",
        learning_rate=1e38,
        epochs=5,
        batch=24,
        validation=0.0,
        loss=Loss(label_smoothing=0.1),
    )
    images, splits = cached(coloured_dataset, recipe)
    net = build_network(recipe, 3)
    with torch.no_grad():
        net.layers[1].weight.mul_(1e3)
    with pytest.raises(LearnError, match=r"epoch (1: a weight of layers|2, step 1)"):
        fit(recipe, net, splits, images, tmp_path)


@pytest.mark.parametrize("where", ["in save_file", "at the end"])
def test_a_full_disk_is_named(
    coloured_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from safetensors import SafetensorError
    from safetensors import torch as tensors

    def full(*_: Any) -> None:
        if where == "at the end":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(*((tensors, "save_file") if "save" in where else (os, "fsync")), full)
    with pytest.raises(LearnError, match=r"checkpoint: the disk is full.*same command"):
        train(tiny_recipe(), coloured_dataset, tmp_path)
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_what_on_epoch_raises_ends_the_training(coloured_dataset: Path, tmp_path: Path) -> None:
    class Pruned(Exception):
        pass

    def prune(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train(tiny_recipe(), coloured_dataset, tmp_path, on_epoch=prune)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_a_keyboard_interrupt(coloured_dataset: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_recipe(),
            coloured_dataset,
            tmp_path,
            on_epoch=lambda _: signal.raise_signal(signal.SIGINT),
        )
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_two_processes_train_as_one(coloured_dataset: Path, tmp_path: Path) -> None:
    """Lightning starts the script again for the second process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\nimport tiny_training as t\n"
        "torch.set_num_threads(1)\n"
        "layers = ({'flatten': True}, {'dense': 'classes'})\n"
        "recipe = t.tiny_recipe(layers=layers, epochs=2, batch=6, validation=0.25)\n"
        "done = t.train(recipe, Path(sys.argv[1]), Path(sys.argv[2]), devices=2)\n"
        "print([epoch.train_loss for epoch in done.history])\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, script, coloured_dataset, tmp_path / "two"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=180,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    layers = ({"flatten": True}, {"dense": "classes"})
    one = train(
        tiny_recipe(layers=layers, epochs=2, batch=6, validation=0.25),
        coloured_dataset,
        tmp_path / "one",
    )
    lines = ran.stdout.strip().splitlines()
    assert len(lines) == 1  # the second process has ended where the first goes on
    found = [float(part) for part in lines[0].strip("[]").split(",")]
    assert found == pytest.approx([epoch.train_loss for epoch in one.history], rel=1e-5)


def test_the_double_has_the_attributes_of_a_net(coloured_dataset: Path) -> None:
    """The stand-ins here have what `Net` has."""
    net = build_network(tiny_recipe(), 3)
    assert isinstance(net, Net)
    for name in ("classes", "gives_probabilities", "feature_size", "backbone"):
        assert hasattr(net, name)
