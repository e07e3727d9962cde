"""Gradients with other rules for the way back through rectifiers: guided and rectified.

The rules are hooks on the graph that torch records in one forward pass. So they reach every
rectifier, whether the network calls it as a module, as a module used many times, as a function,
inside another layer, or in place. The network itself is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

__all__ = ["RULES", "Rule", "photo_gradient", "ruled_gradient", "score_function"]

Rule = Literal["gradient", "guided", "rectified"]
RULES: tuple[Rule, ...] = ("gradient", "guided", "rectified")

ZERO_BELOW_ZERO = {"Relu": "ReLU", "Threshold": "Threshold"}
ZERO_WITH_LOWER_BOUND = {"Hardtanh": "ReLU6", "Clamp": "clamp", "ClampMin": "clamp"}
"""Rectifiers if their lower bound is zero."""

RISING = {"LeakyRelu": "LeakyReLU", "PreluKernel": "PReLU", "RreluWithNoise": "RReLU"} | {
    "Elu": "ELU",
    "Celu": "CELU",
    "Softplus": "Softplus",
}
"""Rectifiers that pass something of values below zero, and never fall."""

PARTLY_FALLING = {"Silu": "SiLU", "Gelu": "GELU", "Hardswish": "Hardswish", "Mish": "Mish"}
"""Rectifiers that fall at some values below zero."""

RECTIFIERS = ZERO_BELOW_ZERO | ZERO_WITH_LOWER_BOUND | RISING | PARTLY_FALLING
"""From the name of an operation in torch's graph to the name of the rectifier."""

SATURATING = {"Sigmoid": "Sigmoid", "Tanh": "Tanh", "Hardsigmoid": "Hardsigmoid", "Glu": "GLU"}
PART_IN_PLACE = "torch::autograd::CopySlices"


def score_function(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a network as a function that leaves its input as it is.

    A network whose first layer is a rectifier in place would change the photos themselves.

    Args:
        module: a network in eval mode, from photos to scores (N, C) before a softmax or sigmoid.

    Returns:
        The function from photos (N, 3, H, W) to scores (N, C).

    Raises:
        ValueError: a part of the network is in training mode.
    """
    if any(part.training for part in module.modules()):
        raise ValueError("the network is in training mode; call its method eval() first")
    return lambda photos: module(photos.clone())


def photo_gradient(
    module: nn.Module, photos: Tensor, target: int, rule: Rule = "gradient"
) -> tuple[Tensor, tuple[str, ...]]:
    """Compute the gradient of a class's score with respect to the photo.

    Args:
        module: as for `score_function`.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.
        rule: as for `ruled_gradient`.

    Returns:
        (1, 3, H, W) float32, and notes for the user.

    Raises:
        ValueError: a part of the network is in training mode.
    """
    scores = score_function(module)
    with torch.inference_mode(mode=False), torch.enable_grad():
        photos = photos.detach().clone().requires_grad_()
        return ruled_gradient(scores(photos)[0, target], photos, rule)


def ruled_gradient(score: Tensor, wanted: Tensor, rule: Rule) -> tuple[Tensor, tuple[str, ...]]:
    """Compute the gradient of a score, with a rule for every rectifier on the way.

    With the rule "gradient" it is the gradient. "guided" sets negative gradients to zero before and
    after they are multiplied by the derivative of the rectifier (for ReLU, Springenberg et al.,
    "Striving for Simplicity", 2014). "rectified" sets negative gradients to zero and takes the
    derivative as one, whatever the activation was (Zeiler and Fergus, "Visualizing and
    Understanding Convolutional Networks", ECCV 2014; called `relu` in keras-vis). With both, no
    gradient behind a rectifier is negative.

    Args:
        score: without dimensions. Its graph is freed.
        wanted: the tensor in the graph of the score for which the gradient is asked.
        rule: "gradient", "guided" or "rectified".

    Returns:
        The gradient, in the shape of `wanted`, and notes for the user: where the rule has no
        meaning.
    """
    with ExitStack() as hooks:
        notes: tuple[str, ...] = ()
        if rule != "gradient":
            nodes = list(_nodes(score, wanted))
            for node in nodes:
                if _rectifier(node):
                    hooks.callback(node.register_prehook(_without_negative).remove)
                    after = _guided if rule == "guided" else _rectified
                    hooks.callback(node.register_hook(after).remove)
            notes = _notes(nodes, rule)
        (gradient,) = torch.autograd.grad(score, wanted, materialize_grads=True)
    return gradient, notes


def _without_negative(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Change the gradients that come to a rectifier."""
    return tuple(one.clamp(min=0) for one in gradients)


def _guided(leaving: tuple[Tensor | None, ...], _: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Change the gradients that leave a rectifier; the first belongs to its input."""
    first, *others = leaving
    return (first if first is None else first.clamp(min=0), *others)


def _rectified(
    leaving: tuple[Tensor | None, ...], coming: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """Let the gradients that come to a rectifier leave it unchanged."""
    first, *others = leaving
    return (first if first is None else coming[0].clamp(min=0), *others)


def _nodes(score: Tensor, wanted: Tensor) -> Iterator[Node]:
    """Yield each operation between a tensor and the score once."""
    # The operation that made the wanted tensor is before it.
    waiting, seen = [score.grad_fn], {score.grad_fn, wanted.grad_fn}
    while waiting:
        node = waiting.pop()
        yield node
        new = {one for one, _ in node.next_functions if one is not None} - seen
        seen |= new
        waiting += new


def _operation(node: Node) -> str:
    """Return "Relu" for "ReluBackward0"."""
    name: str = node.name()
    return name.partition("Backward")[0]


def _rectifier(node: Node) -> str | None:
    """Return the name of the rectifier that an operation is, or None."""
    operation = _operation(node)
    if operation in ZERO_WITH_LOWER_BOUND:
        bound = getattr(node, "_saved_min_val", getattr(node, "_saved_min", None))
        if isinstance(bound, Tensor) or bound != 0:
            return None
    return RECTIFIERS.get(operation)


def _notes(nodes: list[Node], rule: Rule) -> tuple[str, ...]:
    rectifiers = {name for node in nodes if (name := _rectifier(node))}
    if not rectifiers:
        return (f"No rectifier is on the way of the gradient, so the {rule} rule has no effect.",)
    notes = []
    treatment = (
        "multiplies by the derivative, and sets what is negative to zero"
        if rule == "guided"
        else "takes the derivative as one"
    )
    for kind, addition in ((RISING, ""), (PARTLY_FALLING, ", whose output falls at some of them")):
        if names := sorted(rectifiers & set(kind.values())):
            passing = f"Values below zero also pass {' and '.join(names)}{addition}."
            notes.append(f"{passing} The {rule} rule {treatment}.")
    others = {SATURATING[one] for node in nodes if (one := _operation(node)) in SATURATING}
    if others:
        kept = " or ".join(sorted(others))
        notes.append(f"The {rule} rule only changes rectifiers, and so not {kept}.")
    if any(node.name() == PART_IN_PLACE for node in nodes):
        notes.append(f"The {rule} rule does not reach rectifiers of a part of a tensor in place.")
    return tuple(notes)
