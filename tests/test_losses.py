"""The losses, by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny_training import SIZE, tiny_recipe, train

from veduta.errors import RecipeError
from veduta.learn.models.networks import Outputs
from veduta.learn.recipe import Loss
from veduta.learn.training import losses
from veduta.learn.training.losses import LOSSES, build_loss, mix_up, weight_penalty
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def net_like(classes: int = 3, size: int = 2, *, probabilities: bool = False) -> Any:
    return SimpleNamespace(classes=classes, feature_size=size, gives_probabilities=probabilities)


def value(
    loss: Loss, outputs: Outputs, class_ids: list[int], net: Any = None, **training: Any
) -> float:
    criterion = build_loss(tiny_recipe(loss=loss, **training), net or net_like())
    photos = torch.zeros(len(class_ids), 3, 2, 2, dtype=torch.uint8)
    return criterion(outputs, torch.tensor(class_ids), photos).item()


def scored(scores: list[list[float]]) -> Outputs:
    return Outputs(torch.zeros(len(scores), 2), torch.tensor(scores))


def with_features(features: list[list[float]]) -> Outputs:
    return Outputs(torch.tensor(features), None)


def test_cross_entropy_of_logits() -> None:
    logits = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]
    first = -math.log(math.exp(2) / (math.e + math.exp(2) + math.exp(0.5)))
    found = value(Loss(), scored(logits), [1, 2])
    assert found == pytest.approx((first + math.log(3)) / 2)
    smooth = value(Loss(label_smoothing=0.3), scored([[0.0, 0.0, math.log(2)]]), [2])
    # shares 1/4, 1/4, 1/2; targets 0.1, 0.1, 0.8
    assert smooth == pytest.approx(0.2 * math.log(4) + 0.8 * math.log(2))


def test_cross_entropy_of_probabilities_is_clipped_as_keras_does() -> None:
    net = net_like(probabilities=True)
    found = value(Loss(), scored([[0.2, 0.2, 0.0], [0.0, 0.0, 0.9]]), [0, 0], net)
    assert found == pytest.approx((math.log(2) - math.log(1e-7)) / 2, rel=1e-5)
    smooth = value(Loss(label_smoothing=0.3), scored([[0.25, 0.25, 0.5]]), [2], net)
    assert smooth == pytest.approx(0.2 * math.log(4) + 0.8 * math.log(2), rel=1e-5)


def test_binary_cross_entropy() -> None:
    loss = Loss(name="binary-cross-entropy")
    two = net_like(2)
    found = value(loss, scored([[math.log(3)], [math.log(3)]]), [1, 0], two)
    assert found == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    sure = net_like(2, probabilities=True)
    assert value(loss, scored([[0.75], [0.75]]), [1, 0], sure) == pytest.approx(found)
    assert value(loss, scored([[0.0]]), [1], sure) == pytest.approx(-math.log(1e-7), rel=1e-5)
    with pytest.raises(RecipeError, match="tells two classes apart, but there are 3"):
        value(loss, scored([[0.0]]), [1], net_like(3))
    with pytest.raises(RecipeError, match="needs one score"):
        value(loss, scored([[0.0, 1.0]]), [1], two)


def test_contrastive_on_drawn_pairs_by_hand() -> None:
    # Hadsell, Chopra and LeCun 2006: same at distance 5, different at 1 and at 3, margin 2.
    features = [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 3.0]]
    found = value(
        Loss(name="contrastive", margin=2.0), with_features(features), [0, 0, 0, 1, 1, 2], pairs=3
    )
    assert found == pytest.approx((0.5 * 25 + 0.5 * 1 + 0) / 3)


def test_contrastive_on_all_pairs_counts_both_kinds_alike() -> None:
    features = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]]
    # same: 0-1 at 1. Different: 0-2 at 0.5, 1-2 at √1.25; margin 1.
    found = value(Loss(name="contrastive", margin=1.0), with_features(features), [0, 0, 1])
    assert found == pytest.approx(0.5 * (0.5 * 1 + 0.5 * (0.25 + 0) / 2))


def test_contrastive_of_equal_photos_has_a_slope() -> None:
    features = torch.zeros(2, 2, requires_grad=True)
    criterion = build_loss(tiny_recipe(loss=Loss(name="contrastive"), pairs=1), net_like())
    criterion(Outputs(features, None), torch.tensor([0, 1]), torch.zeros(2, 3, 1, 1)).backward()
    assert torch.isfinite(features.grad).all()


def test_triplet_by_hand() -> None:
    features = [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]  # on the circle: 0, 90 and 180 degrees
    # anchor 0: d⁺ = √2, d⁻ = 2; anchor 1: d⁺ = √2, d⁻ = √2
    root = math.sqrt(2)
    found = value(Loss(name="triplet", margin=1.0), with_features(features), [0, 0, 1])
    assert found == pytest.approx(((root - 2 + 1) + 1) / 2, rel=1e-5)


def test_arcface_by_hand() -> None:
    loss = Loss(name="arcface", margin=0.5, scale=4.0)
    criterion = build_loss(tiny_recipe(loss=loss), net_like(2))
    with torch.no_grad():
        criterion.metric.W.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))  # columns: the centres
    angle = 0.3
    outputs = with_features([[5 * math.cos(angle), 5 * math.sin(angle)]])
    found = criterion(outputs, torch.tensor([0]), torch.zeros(1, 3, 1, 1)).item()
    own, other = 4 * math.cos(angle + 0.5), 4 * math.sin(angle)
    assert found == pytest.approx(math.log1p(math.exp(other - own)), rel=1e-4)
    assert criterion.predicted_classes(outputs).tolist() == [0]
    assert [name for name, _ in criterion.named_parameters()] == ["metric.W"]


def test_sub_centre_arcface_takes_the_nearest_centre() -> None:
    loss = Loss(name="sub-centre-arcface", margin=0.0, scale=4.0, sub_centres=2)
    criterion = build_loss(tiny_recipe(loss=loss), net_like(2))
    with torch.no_grad():
        criterion.metric.W.copy_(torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]))
    angle = 1.2
    outputs = with_features([[math.cos(angle), math.sin(angle)]])
    found = criterion(outputs, torch.tensor([0]), torch.zeros(1, 3, 1, 1)).item()
    own, other = 4 * math.sin(angle), -4 * math.cos(angle)
    assert found == pytest.approx(math.log1p(math.exp(other - own)), rel=1e-4)


def test_supcon_by_hand() -> None:
    # cosines: 0-1 is 0.6, 0-2 is 0, 1-2 is 0.8; temperature 0.5
    features = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    found = value(Loss(name="supcon", temperature=0.5), with_features(features), [0, 0, 1])
    first = -1.2 + math.log(math.exp(1.2) + math.exp(0))
    second = -1.2 + math.log(math.exp(1.2) + math.exp(1.6))
    assert found == pytest.approx((first + second) / 2, rel=1e-5)  # the third has no partner


def test_reconstruction_losses_by_hand() -> None:
    photos = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1).repeat(2, 1, 1, 1)
    drawn = torch.full((2, 3, 1, 1), 0.5)
    outputs = Outputs(
        torch.zeros(2, 2),
        None,
        drawn,
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[0.0, math.log(2)], [0.0, 0.0]]),
    )
    missed = 0.25 + 0.25 + 0.09
    class_ids = torch.tensor([0, 1])
    mse = build_loss(tiny_recipe(loss=Loss(name="mse")), net_like())
    assert float(mse(outputs, class_ids, photos)) == pytest.approx(missed / 3)
    vae = build_loss(tiny_recipe(loss=Loss(name="vae", kl_weight=3.0)), net_like())
    # KL of N(1, 1) is ½; of N(0, 2) ½ (2 - 1 - ln 2)
    distance = 0.5 + 0.5 * (1 - math.log(2))
    assert float(vae(outputs, class_ids, photos)) == pytest.approx(missed + 3 * distance / 2)
    with pytest.raises(RecipeError, match="variational"):
        vae(Outputs(torch.zeros(2, 2)), class_ids, photos)
    with pytest.raises(RecipeError, match=r"network\.decoder"):
        mse(Outputs(torch.zeros(2, 2)), class_ids, photos)
    with pytest.raises(RecipeError, match="dense"):
        build_loss(tiny_recipe(), net_like())(Outputs(torch.zeros(2, 2)), class_ids, photos)


def test_losses_are_found_by_their_names() -> None:
    for name in LOSSES:
        net = net_like(2)
        assert build_loss(tiny_recipe(loss=Loss(name=name)), net) is not None
    with pytest.raises(RecipeError, match="did you mean 'triplet'"):
        build_loss(tiny_recipe(loss=Loss(name="tripplet")), net_like())


def test_the_penalty_is_on_regularised_weights_alone() -> None:
    layers = (
        {"flatten": True},
        {"dense": 2, "regularised": True},
        {"dense": "classes"},
    )
    net = build_network(tiny_recipe(layers=layers, l1=0.1, l2=0.01), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(-0.5)
    count = 2 * 3 * SIZE * SIZE
    assert weight_penalty(net, 0.1, 0.01).item() == pytest.approx(
        0.1 * 0.5 * count + 0.01 * 0.25 * count
    )
    assert weight_penalty(net, 0, 0) == 0


def test_mixup() -> None:
    torch.manual_seed(0)
    photos = torch.arange(5.0).reshape(5, 1)
    shares = []
    for _ in range(300):
        blend, others, share = mix_up(photos, 0.4)
        assert sorted(others.tolist()) == list(range(5))
        torch.testing.assert_close(blend, share * photos + (1 - share) * photos[others])
        shares.append(share)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(0.25 / 1.8, abs=0.02)  # of Beta(0.4, 0.4)


def test_a_new_loss_is_one_class(
    coloured_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It enters itself under its name, and its needs shape the network and the batches."""
    monkeypatch.setattr(losses, "LOSSES", known := dict(LOSSES))

    class SquaredScores(losses.TrainingLoss):
        """The squared difference between scores and one-hot targets (the Brier score)."""

        name = "squared-scores"
        needs = losses.Needs(output="scores", labels=True)

        def compute(self, output: Any, class_ids: Any, photos: Any, outputs: Outputs) -> Any:
            targets = torch.nn.functional.one_hot(class_ids, output.shape[1])
            return (output.softmax(dim=1) - targets).square().sum(dim=1).mean()

        def predicted_classes(self, outputs: Outputs) -> Any:
            return outputs.scores.argmax(dim=1)

    assert known["squared-scores"] is SquaredScores
    assert "squared-scores" not in LOSSES
    loss = Loss(name="squared-scores")
    layers = ({"flatten": True}, {"dense": "classes"})
    recipe = tiny_recipe(layers=layers, loss=loss, epochs=10, learning_rate=0.01, mixup=0.1)
    done = train(recipe, coloured_dataset, tmp_path)
    assert done.net.has_scores
    assert done.history[-1].train_loss < 0.8 * done.history[0].train_loss
    assert max(epoch.val_accuracy or 0 for epoch in done.history) > 0.6
    with pytest.raises(RecipeError, match=r"end network\.layers with"):
        train(tiny_recipe(layers=layers[:1], loss=loss), coloured_dataset, tmp_path / "other")
    with pytest.raises(RecipeError, match=r"training\.pairs .* set loss\.name to contrastive"):
        train(tiny_recipe(layers=layers, loss=loss, pairs=4), coloured_dataset, tmp_path / "pairs")
