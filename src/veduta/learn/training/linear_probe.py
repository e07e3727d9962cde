"""A linear probe: sets the last layer to the best linear classifier of the features.

Before training, a random last layer would distort the pretrained features during fine-tuning
(Kumar, Raghunathan, Jones, Ma and Liang, "Fine-tuning can distort pretrained features and
underperform out-of-distribution", ICLR 2022). After training, the probe classifies features that
were learned by comparing photos (Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020,
also in two stages). Here the probe is a ridge regression in closed form, which needs one pass over
the photos.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from veduta.errors import RecipeError
from veduta.learn.training.scoring import run_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe

__all__ = ["fit_linear_probe", "probe_layer", "set_linear_probe"]

RIDGE = 0.1
"""The ridge, divided by the mean square of the centred features."""

SCALES = 2.0 ** np.arange(0, 8)
"""The factors of the scores from which cross-entropy chooses."""

TRAINING_ONLY_LAYERS = {"dropout", "noise"}
"""Layers that do nothing outside training."""


def set_linear_probe(recipe: Recipe, net: Net, splits: DatasetSplits, examples: Examples) -> None:
    """Set the last layer of a network to the linear probe of its input.

    Args:
        recipe: the recipe.
        net: the network.
        splits: which examples are for training.
        examples: the examples, in the rows of `splits`.

    Raises:
        RecipeError: see `probe_layer`.
    """
    layer = probe_layer(recipe, net)
    inputs: list[NDArray[np.float32]] = []
    hook = layer.register_forward_pre_hook(
        lambda _, arguments: inputs.append(arguments[0].float().cpu().numpy())
    )
    try:
        run_network(net, examples, splits.train)
    finally:
        hook.remove()
    class_ids = splits.class_ids[splits.train]
    weights, bias = fit_linear_probe(np.concatenate(inputs), class_ids, len(splits.class_names))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights.T))
        layer.bias.copy_(torch.from_numpy(bias))


def probe_layer(recipe: Recipe, net: Net) -> nn.Linear:
    """Return the layer that becomes the linear probe.

    Args:
        recipe: the recipe, whose name is in messages.
        net: the network.

    Raises:
        RecipeError: the last layer is not {dense = "classes"} directly behind the cut.
    """
    kinds = {layer.kind for layer in net.layer_table[net.cut : -1]}
    last = net.layers[-1] if len(net.layers) else None
    if not isinstance(last, nn.Linear) or not net.has_scores or kinds - TRAINING_ONLY_LAYERS:
        raise RecipeError(
            f'{recipe.name}: training.probe needs {{dense = "classes"}}, without an activation, as '
            "the last layer, and network.features must cut directly before it"
        )
    return last


def fit_linear_probe(
    features: NDArray[np.floating], class_ids: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a ridge regression of one-against-the-rest targets.

    The scores are multiplied by the factor with the smallest leave-one-out cross-entropy, which has
    a closed form.

    Args:
        features: (N, D).
        class_ids: (N,).
        classes: the number C of classes.

    Returns:
        Weights (D, C) and bias (C,), which make logits from features.
    """
    rows = np.asarray(features, np.float64)
    count = len(rows)
    mean = rows.mean(axis=0)
    centred = rows - mean
    targets = np.eye(classes)[class_ids]
    class_shares = targets.mean(axis=0)
    kernel = centred @ centred.T
    ridge = RIDGE * max(np.trace(kernel) / count, 1e-12)
    inverse = np.linalg.inv(kernel + ridge * np.eye(count))
    dual_weights = inverse @ (targets - class_shares)
    fitted = kernel @ dual_weights + class_shares
    leverage = (np.einsum("ij,ji->i", kernel, inverse) + 1 / count)[:, None]
    left_out = (fitted - leverage * targets) / np.maximum(1 - leverage, 1e-9)
    scale = min(SCALES, key=lambda factor: _cross_entropy(factor * left_out, class_ids))
    weights = scale * centred.T @ dual_weights
    bias = scale * class_shares - mean @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _cross_entropy(logits: NDArray[np.float64], class_ids: NDArray[np.int64]) -> float:
    largest = logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    return float((totals - logits[np.arange(len(class_ids)), class_ids]).mean())
