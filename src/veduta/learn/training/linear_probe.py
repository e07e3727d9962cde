"""A linear probe: the last layer is the best that the features allow.

Before training: fine-tuning under a random last layer first distorts what is pretrained (Kumar,
Raghunathan, Jones, Ma and Liang, "Fine-tuning can distort pretrained features and underperform
out-of-distribution", ICLR 2022). After it: features that were learned by comparison are given names
(Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, in two stages as well). Here the
probe is a ridge regression in closed form, which costs one look at the photos.
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

RIDGE = 0.1  # of the mean square of the centred features
_SCALES = 2.0 ** np.arange(0, 8)
_PASSED_BY = {"dropout", "noise"}  # layers that do nothing outside of training


def set_linear_probe(recipe: Recipe, net: Net, parts: DatasetSplits, examples: Examples) -> None:
    """Set the last layer of a network to the linear probe of what comes to it.

    Raises:
        RecipeError: see `probe_layer`.
    """
    last = probe_layer(recipe, net)
    seen: list[NDArray[np.float32]] = []
    listening = last.register_forward_pre_hook(
        lambda _, came: seen.append(came[0].float().cpu().numpy())
    )
    try:
        run_network(net, examples, parts.train)
    finally:
        listening.remove()
    weights, bias = fit_linear_probe(
        np.concatenate(seen), parts.class_ids[parts.train], len(parts.class_names)
    )
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weights.T))
        last.bias.copy_(torch.from_numpy(bias))


def probe_layer(recipe: Recipe, net: Net) -> nn.Linear:
    """Return the layer that can be a linear probe.

    Raises:
        RecipeError: the last layer is not {dense = "classes"} right behind the cut.
    """
    words = [layer.word for layer in net.rows[net.cut : -1]]
    last = net.layers[-1] if len(net.layers) else None
    if not isinstance(last, nn.Linear) or not net.has_scores or set(words) - _PASSED_BY:
        raise RecipeError(
            f'{recipe.name}: training.probe wants {{dense = "classes"}}, without an activation, as '
            "the last layer and network.features to cut right before it"
        )
    return last


def fit_linear_probe(
    features: NDArray[np.floating], codes: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (D, C) and bias (C,) whose scores of features (N, D) are logits.

    The ridge regression of one-against-the-rest targets, times the factor under which its answers
    about photos that it has not seen, in closed form, have the least cross-entropy.
    """
    rows = np.asarray(features, np.float64)
    count = len(rows)
    middle = rows.mean(axis=0)
    centred = rows - middle
    targets = np.eye(classes)[codes]
    shares = targets.mean(axis=0)
    kernel = centred @ centred.T
    ridge = RIDGE * max(np.trace(kernel) / count, 1e-12)
    inverse = np.linalg.inv(kernel + ridge * np.eye(count))
    solved = inverse @ (targets - shares)
    seen = kernel @ solved + shares
    leverage = (np.einsum("ij,ji->i", kernel, inverse) + 1 / count)[:, None]
    unseen = (seen - leverage * targets) / np.maximum(1 - leverage, 1e-9)
    scale = min(_SCALES, key=lambda factor: _cross_entropy(factor * unseen, codes))
    weights = scale * centred.T @ solved
    bias = scale * shares - middle @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _cross_entropy(logits: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    peak = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return float((total - logits[np.arange(len(codes)), codes]).mean())
