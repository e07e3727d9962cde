"""The linear probe, before and after training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny_training import cached, tiny_recipe

from veduta.errors import RecipeError
from veduta.learn.data.image_cache import normalise
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_linear_probe_is_the_ridge_regression_at_its_best_scale() -> None:
    from veduta.learn.training.linear_probe import RIDGE, fit_linear_probe

    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(3), 8)
    features = rng.normal(size=(24, 5)) + 2 * np.eye(5)[codes] + 3
    weights, bias = fit_linear_probe(features, codes, 3)
    targets = np.eye(3)[codes]

    def regression(rows: Any, wanted: Any, ridge: float) -> tuple[Any, Any]:
        """Of centred columns, by the normal equations."""
        middle = rows.mean(axis=0)
        left = (rows - middle).T @ (rows - middle) + ridge * np.eye(5)
        found = np.linalg.solve(left, (rows - middle).T @ (wanted - wanted.mean(axis=0)))
        return found, wanted.mean(axis=0) - middle @ found

    ridge = RIDGE * ((features - features.mean(axis=0)) ** 2).sum() / 24
    plain, offset = regression(features, targets, ridge)
    scale = np.linalg.norm(weights) / np.linalg.norm(plain)
    np.testing.assert_allclose(weights, scale * plain, rtol=1e-4)
    np.testing.assert_allclose(bias, scale * offset, rtol=1e-4)
    # Answers about each photo by a regression without it, and the scale that suits them best.
    # The closed form keeps the intercept's own leverage, 1 / N, which is that of all rows.
    unseen = []
    for row in range(24):
        others = np.arange(24) != row
        found, at = regression(features[others], targets[others], ridge)
        unseen.append(features[row] @ found + at)
    losses = {}
    for factor in 2.0 ** np.arange(0, 8):
        chances = np.exp(factor * np.array(unseen))
        own = chances[np.arange(24), codes] / chances.sum(axis=1)
        losses[factor] = -np.log(own).mean()
    assert scale == pytest.approx(min(losses, key=losses.get), rel=1e-4)  # type: ignore[arg-type]


def test_training_begins_with_the_probe(coloured_dataset: Path, tmp_path: Path) -> None:
    layers: Any = ({"global": "average"}, {"dense": "classes"})
    recipe = tiny_recipe(epochs=1)
    recipe = replace(
        recipe,
        network=replace(recipe.network, layers=layers, features=1),
        training=replace(recipe.training, probe="before", learning_rate=1e-9),
    )
    images, splits = cached(coloured_dataset, recipe)
    done = fit(
        recipe, build_network(recipe, len(splits.class_names)), splits, images, tmp_path / "probe"
    )
    random = replace(recipe, training=replace(recipe.training, probe="none"))
    plain = fit(
        random, build_network(random, len(splits.class_names)), splits, images, tmp_path / "random"
    )
    assert done.history[0].train_loss < 0.7 * plain.history[0].train_loss
    wrong = replace(recipe, network=replace(recipe.network, features=0))
    with pytest.raises(RecipeError, match=r"training\.probe needs"):
        fit(
            wrong, build_network(wrong, len(splits.class_names)), splits, images, tmp_path / "wrong"
        )


def test_training_ends_with_the_probe(coloured_dataset: Path, tmp_path: Path) -> None:
    """By a loss of the features, which has no opinion of the last layer."""
    from veduta.learn.training.linear_probe import fit_linear_probe

    layers: Any = ({"conv": 4}, {"global": "average"}, {"dense": "classes"})
    recipe = tiny_recipe(epochs=2)
    recipe = replace(
        recipe,
        network=replace(recipe.network, layers=layers, features=2),
        loss=replace(recipe.loss, name="supcon"),
        training=replace(recipe.training, probe="after", per_class=2, batch=6),
    )
    images, splits = cached(coloured_dataset, recipe)
    net = build_network(recipe, len(splits.class_names))
    before = net.layers[0].weight.detach().clone()
    done = fit(recipe, net, splits, images, tmp_path)
    assert not torch.equal(before, done.net.layers[0].weight)
    with torch.inference_mode():
        shown = normalise(images.batch(splits.train), recipe.input)
        features = done.net(shown).features.numpy()
    weights, bias = fit_linear_probe(
        features, splits.class_ids[splits.train], len(splits.class_names)
    )
    np.testing.assert_allclose(done.net.layers[-1].weight.detach(), weights.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(done.net.layers[-1].bias.detach(), bias, rtol=1e-3, atol=1e-4)
    assert all(one.requires_grad for one in done.net.layers.parameters())
    wrong = replace(recipe, loss=replace(recipe.loss, name="cross-entropy"))
    with pytest.raises(RecipeError, match=r'probe = "after"'):
        build_network(wrong, len(splits.class_names))
