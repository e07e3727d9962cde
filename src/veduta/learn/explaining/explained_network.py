"""A trained network, opened so that its outputs can be explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from veduta.encoders.placement import long_side, place
from veduta.errors import LearnError, RecipeError, readable
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.data.image_cache import fit_to_input, input_spec, normalise
from veduta.learn.models.networks import assemble_network
from veduta.learn.recipe import open_recipe
from veduta.learn.runs.card import RECIPE_FILE, read_card
from veduta.learn.runs.export import load_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe
    from veduta.learn.runs.card import Card

__all__ = ["ExplainedNetwork", "open_head", "open_network", "run_recipe"]

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedNetwork:
    """The network of a run, in eval mode, without gradients of its parameters.

    Attributes:
        folder: of the run.
        recipe: that trained it.
        classes: names, in the order of the scores.
        scores: the module from photos (N, 3, S, S) float32 to the scores of the classes (N, C),
            C >= 2, before a softmax or sigmoid at the end. One unit z gives the scores -z and z.
            None for a network that names no classes.
        embedding: the module from photos to the output at the cut (N, D), not of length one.
    """

    folder: Path
    recipe: Recipe
    classes: tuple[str, ...]
    scores: nn.Module | None
    embedding: nn.Module

    @property
    def long_side(self) -> int:
        """The long side, in pixels, to which training and an index decode photos at least."""
        return max(long_side(input_spec(self.recipe.input)), LONG_SIDE)

    def prepare(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return a photo as the network takes it.

        Args:
            pixels: (h, w, 3) uint8 RGB, upright.

        Returns:
            (1, 3, S, S) float32, (rgb / 255 - mean) / std.
        """
        square = fit_to_input(pixels, input_spec(self.recipe.input))
        return normalise(torch.tensor(square).permute(2, 0, 1)[None], self.recipe.input)

    def box(self, pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        """Return x, y, width, height of the part of a photo that the network gets, in its pixels.

        Args:
            pixels: (h, w, 3).
        """
        height, width = pixels.shape[:2]
        part = place(width, height, self.recipe.input.size, input_spec(self.recipe.input))
        return part.left, part.top, part.right - part.left, part.bottom - part.top


def open_network(run: Path) -> ExplainedNetwork:
    """Open the network of a run.

    Args:
        run: the folder.

    Returns:
        The network, on the CPU.

    Raises:
        LearnError: it is no finished run of this version, a file of it is damaged, or its recipe
            trains layers on the descriptors of an encoder, so that no network takes photos.
    """
    card, recipe = read_card(run), run_recipe(run)
    if recipe.network.encoder:
        raise LearnError(
            f"{readable(run)}: its layers take the descriptors of the encoder "
            f"{recipe.network.encoder}, so its network does not begin with a photo. Methods that "
            "work: shares, occlusion, rise."
        )
    net = _net(run, card, recipe)
    return ExplainedNetwork(
        run, recipe, card.classes, net.score_part() if net.has_scores else None, net.encoder_part()
    )


def open_head(run: Path, dimension: int) -> Net:
    """Open the layers of a run on the descriptors of an encoder.

    Args:
        run: the folder.
        dimension: length of a descriptor.

    Returns:
        The layers, in eval mode, from descriptors (N, dimension).

    Raises:
        LearnError: as for `open_network`.
    """
    return _net(run, read_card(run), run_recipe(run), dimension)


def run_recipe(run: Path) -> Recipe:
    """Return the recipe of a run.

    Args:
        run: the folder.

    Raises:
        LearnError: there is no recipe, or this version does not read it.
    """
    file = run / RECIPE_FILE
    try:
        if file.is_file():
            return open_recipe(str(file))
        problem = f"{readable(run)}: has no {RECIPE_FILE}"
    except RecipeError as error:
        problem = str(error)
    raise LearnError(f"{problem}. Train the run again into a new folder")


def _net(run: Path, card: Card, recipe: Recipe, dimension: int | None = None) -> Net:
    if not (run / WEIGHTS).is_file():
        raise LearnError(
            f"{readable(run)}: has no {WEIGHTS}; its weights were removed, as a study does with "
            "those of all runs but the best. Name another run"
        )
    net = assemble_network(
        recipe,
        len(card.classes),
        has_scores=card.answers == "scores",
        dimension=dimension,
        keeps_backbone=False,
    )
    load_weights(net, run / WEIGHTS)
    net.eval().requires_grad_(False)
    return net
