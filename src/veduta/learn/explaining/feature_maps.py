"""Finds the layers of a network whose outputs are maps over the photo.

The network runs once, and hooks note the shape of what each module gives. So this works for the
networks of all libraries, whatever the names of their layers. (torch's meta device has shapes
without arithmetic, but its first use takes seconds.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from veduta.errors import QueryError
from veduta.learn.models.layers import Pool

__all__ = ["FeatureLayer", "last_convolution", "last_map"]

POOLING = (
    Pool,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


@dataclass(frozen=True, slots=True)
class FeatureLayer:
    """A layer whose output is a map over the photo.

    Attributes:
        name: of the module inside the network: "layers.4", "backbone.network.inception5b".
        module: the module. Its output is (N, C, h, w).
        behind: names and modules of the parts that run after it, in their order, without those that
            only hold others.
    """

    name: str
    module: nn.Module
    behind: tuple[tuple[str, nn.Module], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of a module: what it gave."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def is_leaf(self) -> bool:
        return next(self.module.children(), None) is None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width of a map with more than one position. Photos are square, so it is too.

        A network may keep the channels last: (N, h, w, C).
        """
        if len(self.shape) != 4:
            return None
        _, first, second, third = self.shape
        side = second if second == third else first if first == second else 0
        return (side, side) if side > 1 else None

    @property
    def is_map(self) -> bool:
        """Whether the output is (N, C, h, w) with more than one position."""
        return len(self.shape) == 4 and self.shape[2] == self.shape[3] > 1

    @property
    def has_tokens(self) -> bool:
        """Whether the output is a sequence of vectors, as that of a transformer."""
        return len(self.shape) == 3 and self.shape[1] > 1


def last_convolution(network: nn.Module, photos: Tensor) -> FeatureLayer:
    """Return the last convolution, with the normalisation and activation behind it.

    Where it is the end of a block, this is the whole block: its sum or its branches together.

    Args:
        network: a network of photos, such as `ExplainedNetwork.scores`. It is not changed.
        photos: (N, 3, S, S) float32, as the network takes them. Only their shape counts.

    Raises:
        QueryError: the network has no such layer, as a transformer or one of dense layers.
    """
    steps = _steps(network, photos)
    maps = _with_positions(steps)
    last = max(
        (number for number in maps if steps[number].is_leaf and _has_weights(steps[number])),
        default=None,
    )
    if last is None:
        raise _no_map()
    chosen = last
    for number in range(last + 1, len(steps)):
        step = steps[number]
        if step.grid != steps[last].grid or (step.is_leaf and isinstance(step.module, POOLING)):
            break
        chosen = number
    return _feature_layer(steps, chosen)


def last_map(network: nn.Module, photos: Tensor) -> FeatureLayer:
    """Return the last layer with more than one position, which may be a pooling layer.

    Args:
        network: as for `last_convolution`.
        photos: as for `last_convolution`.

    Raises:
        QueryError: the network has no such layer.
    """
    steps = _steps(network, photos)
    maps = _with_positions(steps)
    if not maps:
        raise _no_map()
    return _feature_layer(steps, maps[-1])


def _with_positions(steps: Sequence[_Step]) -> list[int]:
    """Return the steps that give maps; none if a sequence of vectors comes after the last one."""
    maps = [number for number, step in enumerate(steps) if step.grid]
    tokens = [number for number, step in enumerate(steps) if step.has_tokens]
    return maps if maps and (not tokens or maps[-1] > tokens[-1]) else []


def _has_weights(step: _Step) -> bool:
    return any(one.ndim > 1 for one in step.module.parameters(recurse=False))


def _feature_layer(steps: Sequence[_Step], number: int) -> FeatureLayer:
    step = steps[number]
    if not step.is_map:
        raise _no_map()
    behind = tuple((one.name, one.module) for one in steps[number + 1 :] if one.is_leaf)
    return FeatureLayer(step.name, step.module, behind)


def _no_map() -> QueryError:
    return QueryError(
        "This network has no layer whose output is a map of channels before it names classes or "
        "makes its descriptor, so there is no activation map. Methods that work: gradient, guided, "
        "rectified, smoothgrad, integrated-gradients, occlusion, rise."
    )


def _steps(network: nn.Module, photos: Tensor) -> list[_Step]:
    """Return what the modules of a network give, in the order in which they finish."""
    steps: list[_Step] = []

    def note(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor):
            steps.append(_Step(name, module, tuple(output.shape)))

    hooks = [
        module.register_forward_hook(
            lambda module, _, output, name=name: note(name, module, output)
        )
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(photos)
    finally:
        for hook in hooks:
            hook.remove()
    return steps
