"""From a recipe to the network that it describes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from veduta.errors import LearnError, RecipeError
from veduta.learn.models.backbones import Backbone, build_backbone
from veduta.learn.models.layers import Layer, Reshape, Shape, Variational, build_layers, shape_text
from veduta.learn.recipe import Recipe

__all__ = ["Net", "Outputs", "build"]

# Losses on scores of the classes, on a reconstruction; all others compare features.
ON_SCORES = ("cross-entropy", "binary-cross-entropy")
ON_RECONSTRUCTION = ("mse", "vae")


class Outputs(NamedTuple):
    """What a network says of N photos.

    `features` (N, D) float32: the cut, what becomes the descriptor. `scores` (N, C): of the
    classes, logits, or probabilities where `Net.gives_probabilities`; (N, 1) of the second of two
    classes where the last layer has one unit; None without classes. `reconstruction`
    (N, 3, H, W). `mean`, `log_variance` (N, D): of a variational layer.
    """

    features: Tensor
    scores: Tensor | None = None
    reconstruction: Tensor | None = None
    mean: Tensor | None = None
    log_variance: Tensor | None = None


class FeaturePart(nn.Module):  # type: ignore[misc]
    """Photos to features: the backbone and the layers before the cut."""

    def __init__(self, backbone: Backbone | None, layers: nn.ModuleList, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers
        self.size = size

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, D) float32."""
        values = photos if self.backbone is None else self.backbone(photos)
        for layer in self.layers:
            values = layer.mean(values) if isinstance(layer, Variational) else layer(values)
        return values.flatten(1)[:, : self.size].float()


class Net(nn.Module):  # type: ignore[misc]
    """The network of a recipe.

    `feature_size`: D. `classes`: C. `gives_probabilities`: scores end in softmax or sigmoid.
    `input_size`: pixels, the side of the square photos; 0 where descriptors go in. `rows`: the
    layers with their shapes, `decoder_rows` those of the decoder.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        backbone: Backbone | None,
        layers: Sequence[Layer],
        decoder: Sequence[Layer],
        shape: Shape,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.input_size = shape[-1] if len(shape) == 3 else 0
        self.input_shape = shape
        self.backbone = backbone
        self.layers = nn.ModuleList(layer.module for layer in layers)
        self.decoder = _decoder(layers, decoder) if decoder else None
        self.rows, self.decoder_rows = tuple(layers), tuple(decoder)
        before = shape if backbone is None else backbone.shape
        shapes = [before, *(layer.shape for layer in layers)]
        self.cut = len(layers) if decoder else _cut(recipe, len(layers))
        self.feature_size = math.prod(shapes[self.cut])
        if self.cut == 0 and backbone is not None and backbone.descriptor and not decoder:
            self.feature_size = backbone.descriptor
        self.has_scores = recipe.loss.name in ON_SCORES or recipe.training.probe == "after"
        self.gives_probabilities = self.has_scores and _activation(layers) in {"softmax", "sigmoid"}
        self._train = recipe.network.train
        self.backbone_learns(True)

    def forward(self, photos: Tensor) -> Outputs:
        """(N, 3, H, W) float32, (rgb / 255 - mean) / std, to the outputs."""
        values = photos if self.backbone is None else self.backbone(photos)
        features, mean, log_variance = values, None, None
        for place, layer in enumerate(self.layers, 1):
            if isinstance(layer, Variational):
                mean, log_variance = layer.moments(values)
                values = layer.sample(mean, log_variance)
            else:
                values = layer(values)
            if place == self.cut:
                features = values if mean is None else mean
        features = features.flatten(1)[:, : self.feature_size].float()
        if self.decoder is not None:
            return Outputs(features, None, self.decoder(values.flatten(1)), mean, log_variance)
        return Outputs(features, values if self.has_scores else None)

    def features(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W), as in `forward`, to (N, D) float32."""
        return self.encoder_part()(photos)

    def encoder_part(self) -> nn.Module:
        """Return the module that makes features (N, D) of photos; it shares the weights."""
        part = FeaturePart(self.backbone, self.layers[: self.cut], self.feature_size)
        part.training = self.training
        return part

    def decoder_part(self) -> nn.Module:
        """Return the module that makes photos (N, 3, H, W) of features (N, D).

        Raises:
            LearnError: the network does not reconstruct.
        """
        if self.decoder is None:
            raise LearnError("the network has no decoder; its recipe lists none in network.decoder")
        return self.decoder

    def backbone_learns(self, yes: bool) -> None:
        """Let the backbone learn as the recipe says, or not at all."""
        if self.backbone is not None:
            self.backbone.learns(self._train if yes else "none")


def build(recipe: Recipe, classes: int, *, dimension: int | None = None) -> Net:
    """Make the network of a recipe, its weights random but for a pretrained backbone.

    Args:
        recipe: what to make.
        classes: how many there are.
        dimension: length of the descriptors that go in, of a recipe whose backbone is an encoder.

    Raises:
        RecipeError: the recipe asks for what cannot be; the message names the key.
        LearnError: the backbone's weights are not to be had.
    """
    network = recipe.network
    backbone = None
    shape: Shape = (3, recipe.input.size, recipe.input.size)
    if dimension is not None:
        shape = (dimension,)
    elif network.backbone:
        backbone = build_backbone(network.backbone, network.weights, recipe.input.size)
    before = shape if backbone is None else backbone.shape
    layers = build_layers(network.layers, before, classes, f"{recipe.name}: network.layers")
    after = layers[-1].shape if layers else before
    decoder = build_layers(network.decoder, after, classes, f"{recipe.name}: network.decoder")
    _check(recipe, classes, layers, decoder, after)
    return Net(recipe, classes, backbone, layers, decoder, shape)


def _decoder(layers: Sequence[Layer], decoder: Sequence[Layer]) -> nn.Sequential:
    """Join the decoder's layers; it takes features, which are flat, whatever the encoder gives."""
    shape = layers[-1].shape
    opening = [Reshape(shape)] if len(shape) == 3 else []
    return nn.Sequential(*opening, *(layer.module for layer in decoder))


def _cut(recipe: Recipe, count: int) -> int:
    """Return how many layers are before the cut."""
    cut = recipe.network.features
    if cut < 0 and count > 0:
        cut += count
    elif cut == -1:
        cut = 0
    if not 0 <= cut <= count:
        raise RecipeError(
            f"{recipe.name}: network.features is {recipe.network.features}, but network.layers "
            f"has {count}; wanted is a number of {-count} to {count}"
        )
    probed = recipe.training.probe == "after"
    if probed and recipe.loss.name in ON_SCORES:
        raise RecipeError(
            f'{recipe.name}: training.probe = "after" computes the last layer after the training, '
            f'and {recipe.loss.name} trains it; take probe = "before", or a loss of the features'
        )
    if cut < count and recipe.loss.name not in ON_SCORES and not probed:
        raise RecipeError(
            f"{recipe.name}: network.features cuts before layer {cut}, and the loss "
            f"{recipe.loss.name} compares what is there: the layers after it would learn nothing; "
            f"set network.features = {count}"
        )
    return cut


def _activation(layers: Sequence[Layer]) -> str:
    """Return the word of the last activation; dropout and noise after it are no matter."""
    for layer in reversed(layers):
        if layer.word not in {"dropout", "noise"}:
            return layer.activation
    return "linear"


def _check(
    recipe: Recipe, classes: int, layers: Sequence[Layer], decoder: Sequence[Layer], after: Shape
) -> None:
    name, loss = recipe.name, recipe.loss.name
    if bool(decoder) != (loss in ON_RECONSTRUCTION):
        raise RecipeError(
            f"{name}: network.decoder makes a photo, which the loss {loss} has no use for; "
            f"set loss.name to {' or '.join(ON_RECONSTRUCTION)}"
            if decoder
            else f"{name}: the loss {loss} compares photos, but there is no network.decoder"
        )
    size = recipe.input.size
    if decoder and decoder[-1].shape != (3, size, size):
        raise RecipeError(
            f"{name}: network.decoder gives {shape_text(decoder[-1].shape)}, but a photo is "
            f"{shape_text((3, size, size))}"
        )
    variational = [place for place, layer in enumerate(layers) if layer.word == "variational"]
    variational += [-1 for layer in decoder if layer.word == "variational"]
    if variational and (not decoder or variational != [len(layers) - 1]):
        raise RecipeError(
            f"{name}: a variational layer can only be the last of network.layers, before a decoder"
        )
    if loss == "vae" and not variational:
        raise RecipeError(f"{name}: the loss vae wants a variational layer before the decoder")
    if loss == "cross-entropy" and after != (classes,):
        raise RecipeError(
            f"{name}: the layers give {shape_text(after)} for {classes} classes; end "
            'network.layers with {dense = "classes"}'
        )
    if loss == "binary-cross-entropy" and (after != (1,) or classes != 2):
        raise RecipeError(
            f"{name}: binary cross-entropy tells two classes apart by one number, but the layers "
            f"give {shape_text(after)} for {classes} classes; "
            + (
                "end network.layers with {dense = 1}"
                if classes == 2
                else 'end network.layers with {dense = "classes", activation = "softmax"} and set '
                "loss.name to cross-entropy"
            )
        )
