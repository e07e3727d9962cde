"""The layers that a recipe can name, as torch modules that compute what Keras' layers compute.

Each layer is one table. Shapes are (channels, height, width) or (length,), without the batch:

    {conv = 32, kernel = 3, stride = 1, padding = "valid" | "same"}   filters
    {deconv = 32, kernel = 3, stride = 2, padding = "same"}   transposed convolution
    {pool = "max" | "average", size = 2, stride = 2, padding = "valid"}   stride: the size
    {global = "average" | "max" | "gem"}   one number for each channel
    {flatten = true}, {reshape = [64, 8, 8]}
    {dense = 256}, {dense = "classes"}   units
    {batch-norm = true}, {dropout = 0.2}, {noise = 0.1}   share; standard deviation
    {activation = "linear" | "relu" | "sigmoid" | "softmax" | "tanh"}   softmax: over channels
    {variational = 64}   a normal distribution of 64 numbers: a sample of it, or its mean

The keys `activation` and `regularised` are also allowed in conv, deconv and dense. The training
loss includes the L1 and L2 penalties on the weights of layers with `regularised = true`.

As in Keras, "same" adds the odd pixel at the right and at the bottom, maxima and means leave the
padding out, weights are drawn uniformly as by Glorot and Bengio (AISTATS 2010), and biases are
zero. timm's same-padding layers do not replace these: its mean includes the padding, and its
convolution is up to 1.7 times slower, because it copies the input also where the padding is even.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import RecipeError
from veduta.learn.recipe import mismatch, shown_value
from veduta.text import did_you_mean
from veduta.validation import InvalidValue, convert

__all__ = [
    "Layer",
    "Reshape",
    "SameConv2d",
    "Shape",
    "Variational",
    "build_layers",
    "regularised_weights",
    "same_padding",
    "shape_text",
]

Shape = tuple[int, ...]  # (channels, height, width) or (length,)
Built = tuple[nn.Module, Shape]

Positive = Annotated[int, Meta(ge=1)]
Padding = Literal["valid", "same"]
Activation = Literal["linear", "relu", "sigmoid", "softmax", "tanh"]

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1),
    "tanh": nn.Tanh,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a network.

    Attributes:
        kind: the name in a recipe: "conv", "dense".
        module: the torch module, with its activation.
        shape: the shape of its output.
        activation: the name of its activation.
    """

    kind: str
    module: nn.Module
    shape: Shape
    activation: str = "linear"


def build_layers(
    tables: Sequence[Mapping[str, Any]], shape: Shape, classes: int, where: str
) -> list[Layer]:
    """Build the layers of a recipe.

    Args:
        tables: one table for each layer.
        shape: the shape of the input of the first layer.
        classes: the number of units of {dense = "classes"}.
        where: the name of the list of tables in messages: "cnn-1: network.layers".

    Raises:
        RecipeError: a layer is unknown, a value is wrong, or a layer does not fit its input.
    """
    layers: list[Layer] = []
    for position, table in enumerate(tables):
        layer = _build_layer(table, shape, classes, f"{where}.{position}")
        layers.append(layer)
        shape = layer.shape
    return layers


def regularised_weights(net: nn.Module) -> Iterator[Tensor]:
    """Yield the weights, without the biases, of the layers with `regularised = true`."""
    for module in net.modules():
        if getattr(module, "regularised", False):
            yield module.weight


def shape_text(shape: Shape) -> str:
    """Return a shape for messages: "64 x 30 x 30"."""
    return " x ".join(map(str, shape))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels that TensorFlow's SAME adds before and after `size` pixels."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):  # type: ignore[misc]
    """A convolution with TensorFlow's SAME padding: the output has ceil(input / stride) pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        top, bottom = same_padding(images.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(images.shape[3], self.kernel_size[1], self.stride[1])
        padding = (top, left)
        if top != bottom or left != right:
            images = functional.pad(images, (left, right, top, bottom))
            padding = (0, 0)
        return functional.conv2d(
            images, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class KerasConvTranspose2d(nn.ConvTranspose2d):  # type: ignore[misc]
    """A transposed convolution with Keras' output size: input · stride pixels for "same"."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: Padding
    ) -> None:
        excess = kernel - stride
        self.crop = padding == "same" and excess > 0
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=excess // 2 if self.crop else 0,
            output_padding=max(-excess, 0),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        height, width = images.shape[2] * self.stride[0], images.shape[3] * self.stride[1]
        images = super().forward(images)
        # torch crops both sides equally. Keras crops the odd pixel at the right and at the bottom.
        return images[:, :, :height, :width] if self.crop else images


class Pool(nn.Module):  # type: ignore[misc]
    """The maximum or mean of squares of pixels."""

    def __init__(self, kind: str, size: int, stride: int, padding: Padding) -> None:
        super().__init__()
        self.kind, self.size, self.stride, self.same = kind, size, stride, padding == "same"

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h', w')."""
        if not self.same:
            return self._pool(images)
        top, bottom = same_padding(images.shape[2], self.size, self.stride)
        left, right = same_padding(images.shape[3], self.size, self.stride)
        border = (left, right, top, bottom)
        if self.kind == "max":
            return self._pool(functional.pad(images, border, value=-math.inf))
        # The mean is taken over the pixels of the image, without the padding.
        inside = functional.pad(torch.ones_like(images[:1, :1]), border)
        return self._pool(functional.pad(images, border)) / self._pool(inside)

    def _pool(self, images: Tensor) -> Tensor:
        function = functional.max_pool2d if self.kind == "max" else functional.avg_pool2d
        return function(images, self.size, self.stride)


class GlobalPool(nn.Module):  # type: ignore[misc]
    """The maximum or mean of each channel."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C)."""
        return images.amax((2, 3)) if self.kind == "max" else images.mean((2, 3))


class GeM(nn.Module):  # type: ignore[misc]
    """The generalised mean of each channel with a learned power (Radenović et al., TPAMI 2019)."""

    def __init__(self, power: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.floor = floor

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C), in float32, because large cubes overflow half precision."""
        powers = images.float().clamp(min=self.floor) ** self.power
        return powers.mean((2, 3)) ** (1 / self.power)


class Reshape(nn.Module):  # type: ignore[misc]
    """The same numbers in another shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: Tensor) -> Tensor:
        """(N, …) to (N, *shape)."""
        return values.reshape(-1, *self.shape)


class GaussianNoise(nn.Module):  # type: ignore[misc]
    """Normal noise on every value, in training only."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, values: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return values + self.std * torch.randn_like(values) if self.training else values


class Variational(nn.Module):  # type: ignore[misc]
    """A normal distribution for each photo, with a learned mean and log variance.

    The sample is the mean plus noise times the standard deviation, so that gradients reach both
    (Kingma and Welling, ICLR 2014). Outside training, the sample is the mean.
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.mean = _initialised(nn.Linear(inputs, size))
        self.log_variance = _initialised(nn.Linear(inputs, size))

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) to the mean and the logarithm of the variance, (N, size) each."""
        return self.mean(values), self.log_variance(values)

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Draw one sample of each distribution, (N, size)."""
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def forward(self, values: Tensor) -> Tensor:
        """(N, D) to (N, size)."""
        return self.sample(*self.moments(values))


class _Misfit(ValueError):
    """A layer does not fit its input."""


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    """The declared table of a layer; `build` makes the layer for an input of some shape."""

    def build(self, shape: Shape, classes: int) -> Built:
        """Return the module and the shape of its output; raise `_Misfit` for a wrong input."""
        raise NotImplementedError


class _WeightedTable(_Table, frozen=True, kw_only=True):
    """The table of a layer with weights."""

    activation: Activation = "linear"
    regularised: bool = False


class _Conv(_WeightedTable, frozen=True):
    conv: Positive
    kernel: Positive = 3
    stride: Positive = 1
    padding: Padding = "valid"

    def build(self, shape: Shape, classes: int) -> Built:
        channels, *_ = _map_shape(shape)
        height, width = _window_shape(shape, self.kernel, self.stride, self.padding)
        module = SameConv2d if self.padding == "same" else nn.Conv2d
        made = _initialised(module(channels, self.conv, self.kernel, self.stride))
        return made, (self.conv, height, width)


class _Deconv(_WeightedTable, frozen=True):
    deconv: Positive
    kernel: Positive = 3
    stride: Positive = 1
    padding: Padding = "valid"

    def build(self, shape: Shape, classes: int) -> Built:
        channels, height, width = _map_shape(shape)
        more = max(self.kernel - self.stride, 0) if self.padding == "valid" else 0
        module = KerasConvTranspose2d(channels, self.deconv, self.kernel, self.stride, self.padding)
        out = (self.deconv, height * self.stride + more, width * self.stride + more)
        return _initialised(module), out


class _Pool(_Table, frozen=True):
    pool: Literal["max", "average"]
    size: Positive = 2
    stride: Positive = 0  # the default is the size
    padding: Padding = "valid"

    def build(self, shape: Shape, classes: int) -> Built:
        stride = self.stride or self.size
        height, width = _window_shape(shape, self.size, stride, self.padding)
        return Pool(self.pool, self.size, stride, self.padding), (shape[0], height, width)


class _Global(_Table, frozen=True):
    kind: Literal["average", "max", "gem"] = msgspec.field(name="global")

    def build(self, shape: Shape, classes: int) -> Built:
        channels, *_ = _map_shape(shape)
        return GeM() if self.kind == "gem" else GlobalPool(self.kind), (channels,)


class _Flatten(_Table, frozen=True):
    flatten: bool

    def build(self, shape: Shape, classes: int) -> Built:
        _require_true(self.flatten)
        return nn.Flatten(), (math.prod(shape),)


class _Reshape(_Table, frozen=True):
    reshape: tuple[Positive, Positive, Positive]

    def build(self, shape: Shape, classes: int) -> Built:
        if math.prod(self.reshape) != math.prod(shape):
            raise _Misfit(
                f"{shape_text(self.reshape)} holds {math.prod(self.reshape)} numbers, but the "
                f"input has {math.prod(shape)} ({shape_text(shape)})"
            )
        return Reshape(self.reshape), self.reshape


class _Dense(_WeightedTable, frozen=True):
    dense: Positive | Literal["classes"]

    def build(self, shape: Shape, classes: int) -> Built:
        if len(shape) != 1:
            raise _vector_wanted(shape)
        units = classes if self.dense == "classes" else self.dense
        return _initialised(nn.Linear(shape[0], units)), (units,)


class _BatchNorm(_Table, frozen=True):
    batch_norm: bool = msgspec.field(name="batch-norm")

    def build(self, shape: Shape, classes: int) -> Built:
        _require_true(self.batch_norm)
        module = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        # Keras' momentum of 0.99 is the share of the old statistics, torch's that of the new ones.
        return module(shape[0], eps=1e-3, momentum=0.01), shape


class _Dropout(_Table, frozen=True):
    dropout: Annotated[float, Meta(ge=0, lt=1)]

    def build(self, shape: Shape, classes: int) -> Built:
        return nn.Dropout(self.dropout), shape


class _Noise(_Table, frozen=True):
    noise: Annotated[float, Meta(ge=0)]

    def build(self, shape: Shape, classes: int) -> Built:
        return GaussianNoise(self.noise), shape


class _Activation(_Table, frozen=True):
    activation: Activation

    def build(self, shape: Shape, classes: int) -> Built:
        return ACTIVATIONS[self.activation](), shape


class _Variational(_Table, frozen=True):
    variational: Positive

    def build(self, shape: Shape, classes: int) -> Built:
        if len(shape) != 1:
            raise _vector_wanted(shape)
        return Variational(shape[0], self.variational), (self.variational,)


LAYERS: dict[str, type[_Table]] = {
    "conv": _Conv,
    "deconv": _Deconv,
    "pool": _Pool,
    "global": _Global,
    "flatten": _Flatten,
    "reshape": _Reshape,
    "dense": _Dense,
    "batch-norm": _BatchNorm,
    "dropout": _Dropout,
    "noise": _Noise,
    "variational": _Variational,
    "activation": _Activation,
}


def _build_layer(values: Mapping[str, Any], shape: Shape, classes: int, where: str) -> Layer:
    kind = _layer_kind(values, where)
    declared = LAYERS[kind]
    where = f"{where} ({kind} = {shown_value(values[kind])})"
    keys = [one.encode_name for one in msgspec.structs.fields(declared)]
    for key in values:
        if key not in keys:
            others = [one for one in keys if one != kind]
            known = f"known are {', '.join(others)}" if others else "this layer has no other keys"
            raise RecipeError(f"{where}: unknown key {key!r}; {did_you_mean(key, others) or known}")
    try:
        table = convert(dict(values), declared)
    except InvalidValue as error:
        raise RecipeError(f"{where}: {mismatch(values, declared, error.key)}") from error
    try:
        module, out = table.build(shape, classes)
    except _Misfit as error:
        raise RecipeError(f"{where}: {error}") from error
    activation: Activation = getattr(table, "activation", "linear")
    if isinstance(table, _WeightedTable):
        module.regularised = table.regularised
        if activation != "linear":
            module = nn.Sequential(module, ACTIVATIONS[activation]())
    return Layer(kind, module, out, activation)


def _layer_kind(values: Mapping[str, Any], where: str) -> str:
    kinds = [key for key in values if key in LAYERS]
    if len(kinds) > 1 and "activation" in kinds:
        kinds.remove("activation")
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise RecipeError(f"{where}: {' and '.join(kinds)} are two layers; give each its own table")
    known = f"known are {', '.join(LAYERS)}"
    if not values:
        raise RecipeError(f"{where}: an empty table is no layer; {known}")
    key = next(iter(values))
    raise RecipeError(f"{where}: no layer is called {key!r}; {did_you_mean(key, LAYERS) or known}")


def _initialised(module: nn.Module) -> nn.Module:
    nn.init.xavier_uniform_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def _require_true(value: bool) -> None:
    if not value:
        raise _Misfit("the only value is true; leave the layer out if you do not want it")


def _map_shape(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise _Misfit(
            f"takes a map of channels x height x width, but its input is a vector of {shape[0]} "
            "numbers; put it before flatten, or {reshape = [c, h, w]} before it"
        )
    channels, height, width = shape
    return channels, height, width


def _vector_wanted(shape: Shape) -> _Misfit:
    return _Misfit(
        f"takes a vector, but its input is a map of {shape_text(shape)}; "
        'put {flatten = true} or {global = "average"} before it'
    )


def _window_shape(shape: Shape, size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Return the height and width of the output of a sliding window."""
    _, height, width = _map_shape(shape)
    if padding == "same":
        return math.ceil(height / stride), math.ceil(width / stride)
    if size > min(height, width):
        raise _Misfit(
            f"its window of {size} x {size} pixels is larger than its input, {shape_text(shape)}; "
            'take a larger input.size, fewer pools and strides, or padding = "same"'
        )
    return (height - size) // stride + 1, (width - size) // stride + 1
