"""Builds the network of a recipe, and checks that the loss of the recipe can train it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from veduta.errors import RecipeError
from veduta.learn.models.layers import shape_text
from veduta.learn.models.networks import Net, assemble_network
from veduta.learn.models.weights_file import WeightsFile, copy_weights, read_weights
from veduta.learn.recipe import Recipe, names_file
from veduta.learn.training.losses import LOSSES, loss_class, names_classes
from veduta.learn.training.unused_settings import check_settings

__all__ = ["FirstWeights", "build_network", "network_without_weights"]


@dataclass(frozen=True, slots=True)
class FirstWeights:
    """A file that a network begins with, instead of that of `network.weights`.

    Attributes:
        file: the file.
        new_classes: the file is of other classes, so the layer that names them is not taken.
        keeps_backbone: the backbone keeps its own weights if the file has none.
    """

    file: WeightsFile
    new_classes: bool = False
    keeps_backbone: bool = False


def build_network(
    recipe: Recipe,
    classes: int,
    *,
    dimension: int | None = None,
    first: FirstWeights | None = None,
) -> Net:
    """Make the network of a recipe with its first weights.

    These are random, except for a pretrained backbone, and for what fits of a file that
    `network.weights` or the caller names. `Net.first_weights` tells what that is.

    Args:
        recipe: the recipe.
        classes: the number of classes.
        dimension: the length of the input descriptors, if the backbone is an encoder.
        first: a file to begin with.

    Raises:
        RecipeError: the recipe is wrong, a setting has no effect, or the loss does not fit the
            network; the message names the key.
        LearnError: the weights of the backbone are not available, or a named file cannot be used.
    """
    if names_file(recipe.network.weights):
        first = FirstWeights(read_weights(Path(recipe.network.weights)))
    needs = loss_class(recipe).needs
    _check_monitors(recipe)
    check_settings(recipe)
    has_scores = needs.output == "scores" or recipe.training.probe == "after"
    net = assemble_network(
        recipe,
        classes,
        has_scores=has_scores,
        dimension=dimension,
        keeps_backbone=first is None or first.keeps_backbone,
    )
    _check_decoder(recipe, net)
    if needs.output == "scores":
        _check_scores(recipe, net)
    elif net.decoder is None:
        _check_cut(recipe, net)
    if first is not None:
        net.first_weights = copy_weights(
            net,
            first.file,
            new_classes=first.new_classes,
            keeps_backbone=first.keeps_backbone,
        )
    return net


def network_without_weights(recipe: Recipe, classes: int | None = None) -> Net:
    """Make the network of a recipe on torch's meta device, which has shapes but no numbers.

    This needs no weights and no memory for them. Only an encoder is opened, for the length of its
    descriptors.

    Args:
        recipe: the recipe.
        classes: the number of classes; None for `recipe.network.classes`.

    Raises:
        RecipeError: the recipe is wrong, or its loss does not fit the network.
        LearnError: the file of `network.weights` cannot be used.
        EncoderError: the encoder is not available.
    """
    dimension = None
    if recipe.network.encoder:
        from veduta.encoders import load_encoder

        dimension = load_encoder(recipe.network.encoder).dimension
    first = None
    if names_file(recipe.network.weights):  # Its shapes are compared here too.
        first = FirstWeights(read_weights(Path(recipe.network.weights)))
    bare = recipe
    if not recipe.network.encoder:
        bare = dataclasses.replace(
            recipe, network=dataclasses.replace(recipe.network, weights="none")
        )
    with torch.device("meta"):
        return build_network(
            bare, classes or recipe.network.classes, dimension=dimension, first=first
        )


def _check_monitors(recipe: Recipe) -> None:
    """Check that the figures exist that the recipe watches."""
    if recipe.training.epoch_chosen_by == "test" and recipe.training.monitor.startswith("train_"):
        raise RecipeError(
            f'{recipe.name}: training.epoch_chosen_by is "test", but training.monitor is '
            f"{recipe.training.monitor}, a figure of the training photos; take val_accuracy or "
            "val_loss, which are then those of the test photos"
        )
    if names_classes(recipe):
        return
    for key in ("monitor", "stop_monitor", "reduce_monitor"):
        if getattr(recipe.training, key).endswith("_accuracy"):
            raise RecipeError(
                f"{recipe.name}: training.{key} is {getattr(recipe.training, key)}, but the loss "
                f"{recipe.loss.name} names no classes, so its training has no accuracy; the "
                "figures that exist are val_loss and train_loss"
            )


def _check_decoder(recipe: Recipe, net: Net) -> None:
    name, needs = recipe.loss.name, loss_class(recipe).needs
    if net.decoder is not None and needs.output != "reconstruction":
        others = [one for one, loss in LOSSES.items() if loss.needs.output == "reconstruction"]
        raise RecipeError(
            f"{recipe.name}: the loss {name} does not use the photos that network.decoder makes; "
            f"set loss.name to {' or '.join(others)}"
        )
    if net.decoder is None and needs.output == "reconstruction":
        raise RecipeError(
            f"{recipe.name}: the loss {name} compares photos, but there is no network.decoder"
        )
    if needs.variational and net.layer_table[-1].kind != "variational":
        raise RecipeError(
            f"{recipe.name}: the loss {name} needs a variational layer before the decoder"
        )


def _check_scores(recipe: Recipe, net: Net) -> None:
    """Check the number of scores of the last layer."""
    loss = loss_class(recipe)
    if recipe.training.probe == "after":
        raise RecipeError(
            f'{recipe.name}: training.probe = "after" computes the last layer after the training, '
            f'but {loss.name} trains it; take probe = "before", or a loss of the features'
        )
    if net.layer_table:
        shape = net.layer_table[-1].shape
    else:
        shape = net.input_shape if net.backbone is None else net.backbone.shape
    given = f"{recipe.name}: the layers give {shape_text(shape)} for {net.classes} classes"
    if not loss.needs.single_score and shape != (net.classes,):
        raise RecipeError(f'{given}; end network.layers with {{dense = "classes"}}')
    if loss.needs.single_score and (shape != (1,) or net.classes != 2):
        remedy = (
            "end network.layers with {dense = 1}"
            if net.classes == 2
            else 'end network.layers with {dense = "classes", activation = "softmax"} and set '
            "loss.name to cross-entropy"
        )
        raise RecipeError(
            f"{given}, but {loss.name} tells two classes apart by one number; {remedy}"
        )


def _check_cut(recipe: Recipe, net: Net) -> None:
    """Check that a loss of the features trains all layers."""
    count = len(net.layers)
    if net.cut < count and recipe.training.probe != "after":
        raise RecipeError(
            f"{recipe.name}: network.features cuts before layer {net.cut}, and the loss "
            f"{recipe.loss.name} uses the output at the cut, so the layers behind it would not be "
            f"trained; set network.features = {count}"
        )
