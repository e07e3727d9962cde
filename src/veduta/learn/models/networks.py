"""Assembles the network that a recipe describes from its backbone, its layers and its decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from veduta.errors import LearnError, RecipeError
from veduta.learn.models.backbones import Backbone, build_backbone
from veduta.learn.models.layers import (
    Layer,
    Reshape,
    Shape,
    Variational,
    build_layers,
    shape_text,
)
from veduta.learn.models.matched_weights import MatchedWeights
from veduta.learn.recipe import Recipe

__all__ = ["Net", "Outputs", "assemble_network", "without_activation"]


class Outputs(NamedTuple):
    """The outputs of a network for N photos.

    Attributes:
        features: (N, D) float32, the output at the cut, which becomes the descriptor.
        scores: (N, C), one for each class: logits, or probabilities if `Net.gives_probabilities`.
            (N, 1) if the last layer has one unit; it belongs to the second of two classes. None
            for a network without scores.
        reconstruction: (N, 3, H, W), pixels in [0, 1]; None without a decoder.
        mean: (N, D), the mean of a variational layer, or None.
        log_variance: (N, D), the log variance of a variational layer, or None.
    """

    features: Tensor
    scores: Tensor | None = None
    reconstruction: Tensor | None = None
    mean: Tensor | None = None
    log_variance: Tensor | None = None


class FeatureNet(nn.Module):  # type: ignore[misc]
    """The part of a network that makes features: the backbone and the layers before the cut."""

    def __init__(self, backbone: Backbone | None, layers: nn.ModuleList, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 3, H, W) or (N, D') to (N, D) float32."""
        values = inputs if self.backbone is None else self.backbone(inputs)
        for layer in self.layers:
            values = layer.mean(values) if isinstance(layer, Variational) else layer(values)
        return values.flatten(1)[:, : self.size].float()


class ScoreNet(nn.Module):  # type: ignore[misc]
    """A network up to its scores, before a softmax or sigmoid at its end."""

    def __init__(self, backbone: Backbone | None, layers: nn.ModuleList) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 3, H, W) or (N, D') to (N, C) with C >= 2; one unit z gives -z and z."""
        values = inputs if self.backbone is None else self.backbone(inputs)
        for layer in self.layers:
            values = layer(values)
        return torch.cat([-values, values], dim=1) if values.shape[1] == 1 else values


class Net(nn.Module):  # type: ignore[misc]
    """The network of a recipe.

    Attributes:
        classes: the number of classes C.
        input_shape: (3, S, S) of photos, or (D',) of descriptors.
        input_size: the side S of the square photos in pixels; 0 for descriptors.
        backbone: the backbone, or None.
        layers: the modules of the layers behind the backbone.
        decoder: the module that makes photos from features, or None.
        layer_table: the layers with their names and shapes.
        decoder_table: the layers of the decoder with their names and shapes.
        cut: the number of layers before the cut.
        feature_size: the number D of features.
        has_scores: the network has an output for each class.
        gives_probabilities: the scores are the output of a softmax or sigmoid.
        last_active: the position of the last layer that does something outside training.
        first_weights: what the network took from a file, or None.
    """

    first_weights: MatchedWeights | None = None

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        backbone: Backbone | None,
        layers: Sequence[Layer],
        decoder: Sequence[Layer],
        input_shape: Shape,
        *,
        has_scores: bool,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.input_shape = input_shape
        self.input_size = input_shape[-1] if len(input_shape) == 3 else 0
        self.backbone = backbone
        self.layers = nn.ModuleList(layer.module for layer in layers)
        self.decoder = _decoder_module(layers, decoder) if decoder else None
        self.layer_table, self.decoder_table = tuple(layers), tuple(decoder)
        shapes = [
            input_shape if backbone is None else backbone.shape,
            *(layer.shape for layer in layers),
        ]
        self.cut = len(layers) if decoder else _cut(recipe, len(layers))
        self.feature_size = math.prod(shapes[self.cut])
        if self.cut == 0 and backbone is not None and backbone.descriptor_size and not decoder:
            self.feature_size = backbone.descriptor_size
        self.has_scores = has_scores
        self.last_active = _last_active(layers)
        activation = layers[self.last_active].activation if layers else "linear"
        self.gives_probabilities = has_scores and activation in {"softmax", "sigmoid"}
        self._trained_parameters = recipe.network.train
        self.set_backbone_trainable(True)

    def forward(self, inputs: Tensor) -> Outputs:
        """Compute all outputs.

        Args:
            inputs: (N, 3, H, W) float32 photos, (rgb / 255 - mean) / std, or (N, D') descriptors.
        """
        values = inputs if self.backbone is None else self.backbone(inputs)
        features, mean, log_variance = values, None, None
        for number, layer in enumerate(self.layers, 1):
            if isinstance(layer, Variational):
                mean, log_variance = layer.moments(values)
                values = layer.sample(mean, log_variance)
            else:
                values = layer(values)
            if number == self.cut:
                features = values if mean is None else mean
        features = features.flatten(1)[:, : self.feature_size].float()
        if self.decoder is not None:
            return Outputs(features, None, self.decoder(values.flatten(1)), mean, log_variance)
        return Outputs(features, values if self.has_scores else None)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the features (N, D) float32 of the same inputs as in `forward`."""
        return self.encoder_part()(inputs)

    def encoder_part(self) -> nn.Module:
        """Return the module from photos to features (N, D); it shares the weights."""
        part = FeatureNet(self.backbone, self.layers[: self.cut], self.feature_size)
        return part.train(self.training)

    def score_part(self) -> nn.Module:
        """Return the module from photos to scores (N, C), C >= 2; it shares the weights.

        The scores are those before a softmax or sigmoid at the end. A last layer of one unit, whose
        output z belongs to the second of two classes, gives the scores -z and z.

        Raises:
            LearnError: the network has no scores.
        """
        if not self.has_scores:
            raise LearnError("the network has no scores: its recipe trains it without classes")
        layers = list(self.layers)
        if self.gives_probabilities:
            layers[self.last_active] = without_activation(layers[self.last_active])
        part = ScoreNet(self.backbone, nn.ModuleList(layers))
        return part.train(self.training)

    def decoder_part(self) -> nn.Module:
        """Return the module from features (N, D) to photos (N, 3, H, W); it shares the weights.

        Raises:
            LearnError: the network has no decoder.
        """
        if self.decoder is None:
            raise LearnError("the network has no decoder: its recipe has no network.decoder")
        return self.decoder

    def set_backbone_trainable(self, trainable: bool) -> None:
        """Train the parameters of the backbone that the recipe names, or none."""
        if self.backbone is not None:
            self.backbone.set_trainable(self._trained_parameters if trainable else "none")


def assemble_network(
    recipe: Recipe,
    classes: int,
    *,
    has_scores: bool,
    dimension: int | None = None,
    keeps_backbone: bool = True,
) -> Net:
    """Make the network of a recipe with random weights, except for a pretrained backbone.

    `veduta.learn.training.recipe_network` also checks that the loss can train it.

    Args:
        recipe: the recipe.
        classes: the number of classes.
        has_scores: the last layer gives a score for each class.
        dimension: the length of the input descriptors, if the backbone is an encoder.
        keeps_backbone: the backbone gets its pretrained weights, if the recipe names them.
            Otherwise the caller copies trained weights into the network.

    Raises:
        RecipeError: the recipe is wrong; the message names the key.
        LearnError: the weights of the backbone are not available.
    """
    network = recipe.network
    backbone = None
    input_shape: Shape = (3, recipe.input.size, recipe.input.size)
    if dimension is not None:
        input_shape = (dimension,)
    elif network.backbone:
        keeps = keeps_backbone or network.weights == "none"
        weights = network.weights if keeps else "later"
        backbone = build_backbone(network.backbone, weights, recipe.input.size)
    shape = input_shape if backbone is None else backbone.shape
    layers = build_layers(network.layers, shape, classes, f"{recipe.name}: network.layers")
    encoded = layers[-1].shape if layers else shape
    decoder = build_layers(network.decoder, encoded, classes, f"{recipe.name}: network.decoder")
    _check_decoder(recipe, layers, decoder)
    return Net(recipe, classes, backbone, layers, decoder, input_shape, has_scores=has_scores)


def _decoder_module(layers: Sequence[Layer], decoder: Sequence[Layer]) -> nn.Sequential:
    """Join the layers of the decoder behind a reshape from flat features, if that is needed."""
    shape = layers[-1].shape
    first = [Reshape(shape)] if len(shape) == 3 else []
    return nn.Sequential(*first, *(layer.module for layer in decoder))


def _cut(recipe: Recipe, count: int) -> int:
    """Return the number of layers before the cut."""
    cut = recipe.network.features
    if cut < 0 and count > 0:
        cut += count
    elif cut == -1:
        cut = 0
    if not 0 <= cut <= count:
        raise RecipeError(
            f"{recipe.name}: network.features is {recipe.network.features}, but network.layers "
            f"has {count} layers; expected a number from {-count} to {count}"
        )
    return cut


def _last_active(layers: Sequence[Layer]) -> int:
    idle = {"dropout", "noise"}
    active = [number for number, layer in enumerate(layers) if layer.kind not in idle]
    return active[-1] if active else 0


def without_activation(module: nn.Module) -> nn.Module:
    """Return the module of a layer of a recipe without its activation; it shares the weights."""
    return module[0] if isinstance(module, nn.Sequential) else nn.Identity()


def _check_decoder(recipe: Recipe, layers: Sequence[Layer], decoder: Sequence[Layer]) -> None:
    photo = (3, recipe.input.size, recipe.input.size)
    if decoder and decoder[-1].shape != photo:
        raise RecipeError(
            f"{recipe.name}: network.decoder gives {shape_text(decoder[-1].shape)}, but a photo is "
            f"{shape_text(photo)}"
        )
    variational = [number for number, layer in enumerate(layers) if layer.kind == "variational"]
    variational += [-1 for layer in decoder if layer.kind == "variational"]
    if variational and (not decoder or variational != [len(layers) - 1]):
        raise RecipeError(
            f"{recipe.name}: a variational layer must be the last of network.layers, before a "
            "decoder"
        )
