"""Activation maps as keras-vis computes them, with a rule for the gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from veduta.learn.explaining.gradient_rules import Rule, ruled_gradient, score_function
from veduta.learn.explaining.network_map import NetworkMap, min_max_scaled

__all__ = ["activation_map"]


def activation_map(
    module: nn.Module, photos: Tensor, target: int, layer: nn.Module, rule: Rule = "gradient"
) -> NetworkMap:
    """Map the positive part of a layer's channels, weighted by their mean gradients.

    Source: keras-vis 0.4, `visualize_cam`, on the layer before the dense part. keras-vis also
    divides the gradients by the largest of them. This only has an effect where all gradients are
    negative: it turns their signs, and the map shows what speaks against the class. It is left out.

    Args:
        module: a network in eval mode, from photos to scores (N, C) before a softmax or sigmoid.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.
        layer: a module inside the network, whose output is (N, C', h, w); see `last_map`.
        rule: how gradients pass the rectifiers behind the layer, see `ruled_gradient`.

    Returns:
        A map (h, w) in [0, 1], the smallest value 0 and the largest 1, without a sum.

    Raises:
        ValueError: a part of the network is in training mode, or the layer was not used.
    """
    scores = score_function(module)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        outputs.append(output)
        # A rectifier in place behind the layer changes the copy.
        return output.clone()

    with torch.inference_mode(mode=False), torch.enable_grad():
        hook = layer.register_forward_hook(keep)
        try:
            score = scores(photos.detach().clone().requires_grad_())[0, target]
        finally:
            hook.remove()
        if not outputs:
            raise ValueError("the network did not use the layer")
        gradient, notes = ruled_gradient(score, outputs[-1], rule)
    weights = gradient[0].double().mean((1, 2))
    weighted = torch.einsum("c,chw->hw", weights, outputs[-1][0].detach().double())
    names = {part: name for name, part in module.named_modules()}
    return NetworkMap(
        min_max_scaled(weighted.clamp(min=0).numpy()), layer=names.get(layer), notes=notes
    )
