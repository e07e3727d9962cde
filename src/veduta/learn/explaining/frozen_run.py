"""Explains runs whose layers take the descriptors of a frozen encoder.

A descriptor is a sum over positions, so whatever linear layers make of it is one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from veduta.encoders import load_encoder
from veduta.encoders.descriptor_parts import descriptor_parts, has_parts
from veduta.errors import QueryError, readable
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.explaining.class_activation import LINEAR
from veduta.learn.explaining.explained_network import open_head
from veduta.learn.explaining.network_map import NetworkMap
from veduta.learn.runs.card import read_card

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from veduta.encoders import Encoder
    from veduta.encoders.descriptor_parts import DescriptorParts
    from veduta.learn.recipe import Recipe

__all__ = ["FrozenRun", "open_frozen_run"]


@dataclass(frozen=True, slots=True, eq=False)
class FrozenRun:
    """The encoder of a run and its layers, in eval mode.

    Attributes:
        folder: of the run.
        classes: names, in the order of the scores.
        encoder: makes the descriptors.
        scores: the module from descriptors (N, D) to scores (N, C) before a softmax or sigmoid.
            None for a run that names no classes.
        embedding: the module from descriptors to the output at the cut (N, d).
    """

    folder: Path
    classes: tuple[str, ...]
    encoder: Encoder
    scores: nn.Module | None
    embedding: nn.Module

    @property
    def long_side(self) -> int:
        """The long side, in pixels, to which training and an index decode photos at least."""
        return max(self.encoder.long_side, LONG_SIDE)

    def parts(self, pixels: NDArray[np.uint8]) -> DescriptorParts:
        """Return the descriptor of a photo, divided among positions.

        Args:
            pixels: (h, w, 3) uint8 RGB, upright.

        Raises:
            EncoderError: the encoder's descriptors are no sums over positions.
        """
        return descriptor_parts(self.encoder, pixels)

    def has_shares(self, layers: nn.Module) -> bool:
        """Return whether the output of layers is a sum over positions.

        Args:
            layers: `scores` or `embedding`.
        """
        return has_parts(self.encoder) and _are_linear(layers)

    def shares(
        self, parts: DescriptorParts, layers: nn.Module, value: Callable[[Tensor], Tensor]
    ) -> NetworkMap:
        """Divide a linear function of the layers' output among positions, exactly.

        Args:
            parts: of the photo.
            layers: `scores` or `embedding`.
            value: from outputs (N, C) to values (N,): linear, plus a constant.

        Returns:
            A signed map (h, w). Its sum and its constant are the value.

        Raises:
            QueryError: a layer is not linear.
        """
        if not _are_linear(layers):
            raise QueryError(
                f"{readable(self.folder)}: its layers are not linear, so their output is no sum "
                "over positions. Methods that work: occlusion, rise."
            )
        descriptor = torch.tensor(parts.descriptor[None], requires_grad=True)
        result = value(layers(descriptor))
        (direction,) = torch.autograd.grad(result[0], descriptor)
        found = parts.map(direction[0].numpy())
        constant = float(result[0].detach()) - float(found.sum(dtype="float64"))
        return NetworkMap(found, constant, parts.layer)


def _are_linear(layers: nn.Module) -> bool:
    parts = [one for one in layers.modules() if next(one.children(), None) is None]
    # Without a layer, the output is the descriptor itself, and the only part is an empty list.
    return all(isinstance(one, (*LINEAR, nn.ModuleList)) for one in parts)


def open_frozen_run(run: Path, recipe: Recipe) -> FrozenRun:
    """Open a run whose layers take the descriptors of an encoder.

    Args:
        run: the folder.
        recipe: of the run.

    Raises:
        LearnError: it is no finished run of this version, or a file of it is damaged.
        EncoderError: its encoder is not available.
    """
    encoder = load_encoder(recipe.network.encoder)
    net = open_head(run, encoder.dimension)
    scores = net.score_part() if net.has_scores else None
    return FrozenRun(run, read_card(run).classes, encoder, scores, net.encoder_part())
