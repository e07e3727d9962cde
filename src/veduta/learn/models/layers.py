"""The layers that a recipe can name, as torch modules that compute what Keras' layers of them do.

One table a layer. Shapes are (channels, height, width) or (length,), without the photos:

    {conv = 32, kernel = 3, stride = 1, padding = "valid" | "same"}   filters
    {deconv = 32, kernel = 3, stride = 2, padding = "same"}   transposed convolution
    {pool = "max" | "average", size = 2, stride = 2, padding = "valid"}   stride: the size
    {global = "average" | "max" | "gem"}   one number a channel
    {flatten = true}, {reshape = [64, 8, 8]}
    {dense = 256}, {dense = "classes"}   units
    {batch-norm = true}, {dropout = 0.2}, {noise = 0.1}   share; standard deviation
    {activation = "linear" | "relu" | "sigmoid" | "softmax" | "tanh"}   softmax: over channels
    {variational = 64}   a normal distribution of so many numbers: a sample of it, or its mean

`activation` can also stand in conv, deconv and dense, and so can `regularised = true`: the
training adds its L1 and L2 penalties on the weights of such layers.

As in Keras: "same" pads right and below where the sum is odd, maxima and means leave padding out,
weights start as Glorot and Bengio (AISTATS 2010) draw them, uniformly, and biases at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import RecipeError
from veduta.text import did_you_mean

__all__ = [
    "Layer",
    "Reshape",
    "SameConv2d",
    "Shape",
    "Variational",
    "build_layers",
    "regularised_weights",
    "shape_text",
]

Shape = tuple[int, ...]  # (channels, height, width) or (length,)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1),
    "tanh": nn.Tanh,
}
PADDINGS = ("valid", "same")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its word, its module, the shape that comes out, and its activation's word."""

    word: str
    module: nn.Module
    shape: Shape
    activation: str = "linear"


def build_layers(
    tables: Sequence[Mapping[str, Any]], shape: Shape, classes: int, where: str
) -> list[Layer]:
    """Make the layers of a recipe.

    Args:
        tables: one a layer.
        shape: of what goes into the first.
        classes: what {dense = "classes"} means.
        where: what the tables are called in messages, such as "cnn-1: network.layers".

    Raises:
        RecipeError: an unknown word or value, or a layer that its input does not fit.
    """
    made: list[Layer] = []
    for place, table in enumerate(tables):
        layer = _layer(table, shape, classes, f"{where}.{place}")
        made.append(layer)
        shape = layer.shape
    return made


def regularised_weights(net: nn.Module) -> Iterator[Tensor]:
    """Give the weights, without the biases, of the layers that say `regularised = true`."""
    for module in net.modules():
        if getattr(module, "regularised", False):
            yield module.weight


def shape_text(shape: Shape) -> str:
    """Return a shape as messages write it: "64 x 30 x 30"."""
    return " x ".join(map(str, shape))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels that TensorFlow's SAME adds before and behind `size` pixels."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):  # type: ignore[misc]
    """A convolution that pads as TensorFlow's SAME: ceil(input / stride) pixels come out."""

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        above, below = same_padding(photos.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(photos.shape[3], self.kernel_size[1], self.stride[1])
        padding = (above, left)
        if above != below or left != right:
            photos = functional.pad(photos, (left, right, above, below))
            padding = (0, 0)
        return functional.conv2d(
            photos, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Deconv(nn.ConvTranspose2d):  # type: ignore[misc]
    """A transposed convolution that crops as Keras': "same" gives input * stride pixels."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: str) -> None:
        spare = kernel - stride
        self.crop = padding == "same" and spare > 0
        super().__init__(
            before,
            after,
            kernel,
            stride,
            padding=spare // 2 if self.crop else 0,
            output_padding=max(-spare, 0),
        )

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        height, width = photos.shape[2] * self.stride[0], photos.shape[3] * self.stride[1]
        photos = super().forward(photos)
        # torch crops the same from both sides; the odd pixel goes right and below.
        return photos[:, :, :height, :width] if self.crop else photos


class Pool(nn.Module):  # type: ignore[misc]
    """The maximum or mean of squares of pixels."""

    def __init__(self, kind: str, size: int, stride: int, padding: str) -> None:
        super().__init__()
        self.kind, self.size, self.stride, self.same = kind, size, stride, padding == "same"

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h', w')."""
        if not self.same:
            return self._pooled(photos)
        above, below = same_padding(photos.shape[2], self.size, self.stride)
        left, right = same_padding(photos.shape[3], self.size, self.stride)
        around = (left, right, above, below)
        if self.kind == "max":
            return self._pooled(functional.pad(photos, around, value=-math.inf))
        # Padding is no pixel: the mean is over those that are inside.
        inside = functional.pad(torch.ones_like(photos[:1, :1]), around)
        return self._pooled(functional.pad(photos, around)) / self._pooled(inside)

    def _pooled(self, photos: Tensor) -> Tensor:
        function = functional.max_pool2d if self.kind == "max" else functional.avg_pool2d
        return function(photos, self.size, self.stride)


class Global(nn.Module):  # type: ignore[misc]
    """One number a channel."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C)."""
        return photos.amax((2, 3)) if self.kind == "max" else photos.mean((2, 3))


class GeM(nn.Module):  # type: ignore[misc]
    """The generalised mean of each channel, its power learned (Radenović et al., TPAMI 2019)."""

    def __init__(self, power: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.floor = floor

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C), in float32: cubes of large values leave half precision."""
        powers = photos.float().clamp(min=self.floor) ** self.power
        return powers.mean((2, 3)) ** (1 / self.power)


class Reshape(nn.Module):  # type: ignore[misc]
    """The same numbers in another shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: Tensor) -> Tensor:
        """(N, …) to (N, *shape)."""
        return values.reshape(-1, *self.shape)


class Noise(nn.Module):  # type: ignore[misc]
    """Normal noise on everything, while training only."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        """Any shape; the same comes out."""
        return values + self.deviation * torch.randn_like(values) if self.training else values


class Variational(nn.Module):  # type: ignore[misc]
    """A normal distribution a photo: its mean and the logarithm of its variance are learned.

    The sample is the mean plus noise times the deviation, so that gradients reach both (Kingma
    and Welling, ICLR 2014). Without training, the sample is the mean.
    """

    def __init__(self, before: int, size: int) -> None:
        super().__init__()
        self.mean = _started(nn.Linear(before, size))
        self.log_variance = _started(nn.Linear(before, size))

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) to the mean and the logarithm of the variance, (N, size) each."""
        return self.mean(values), self.log_variance(values)

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Draw one of each distribution (N, size)."""
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def forward(self, values: Tensor) -> Tensor:
        """(N, D) to (N, size)."""
        return self.sample(*self.moments(values))


def _started(module: nn.Module) -> nn.Module:
    nn.init.xavier_uniform_(module.weight)
    nn.init.zeros_(module.bias)
    return module


class _Table:
    """One table of a recipe while it becomes a layer: takes its values out and checks them."""

    def __init__(self, table: Mapping[str, Any], word: str, shape: Shape, where: str) -> None:
        self.table, self.word, self.shape, self.where = table, word, shape, where

    def wrong(self, what: str) -> RecipeError:
        return RecipeError(f"{self.where} ({self.word} = {_toml(self.table[self.word])}): {what}")

    def number(self, key: str, default: int | None = None) -> int:
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(f"{key} must be a whole number of at least 1, not {_toml(value)}")
        return value

    def share(self, key: str, limit: float) -> float:
        value = self.table[key]
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not 0 <= value < limit:
            ends = f"and below {limit:g}" if limit < math.inf else "or above"
            raise self.wrong(f"{key} must be a number of 0 {ends}, not {_toml(value)}")
        return float(value)

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self.table.get(key, default)
        if value not in choices:
            raise self.wrong(f"{key} is {_toml(value)}; {_nearest(value, choices)}")
        return str(value)

    def yes(self, key: str) -> bool:
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} must be true or false, not {_toml(value)}")
        return value

    def must(self) -> None:
        if self.table[self.word] is not True:
            raise self.wrong("the only value is true; leave the layer out if it is not wanted")

    def map(self) -> tuple[int, int, int]:
        if len(self.shape) != 3:
            raise self.wrong(
                f"takes a map of channels x height x width, but a vector of {self.shape[0]} "
                f"numbers comes in; put it before flatten, or {{reshape = [c, h, w]}} before it"
            )
        channels, height, width = self.shape
        return channels, height, width

    def vector(self) -> int:
        if len(self.shape) != 1:
            raise self.wrong(
                f"takes a vector, but a map of {shape_text(self.shape)} comes in; "
                'put {flatten = true} or {global = "average"} before it'
            )
        return self.shape[0]

    def window(self, kernel: int, stride: int, padding: str) -> tuple[int, int]:
        """Return the height and width that come out where a window slides."""
        _, height, width = self.map()
        if padding == "same":
            return math.ceil(height / stride), math.ceil(width / stride)
        if kernel > min(height, width):
            raise self.wrong(
                f"its window of {kernel} x {kernel} pixels is larger than what comes in, "
                f"{shape_text(self.shape)}; take a larger input.size, fewer pools and strides, "
                'or padding = "same"'
            )
        return (height - kernel) // stride + 1, (width - kernel) // stride + 1


Made = tuple[nn.Module, Shape]


def _conv(table: _Table, classes: int) -> Made:
    channels, *_ = table.map()
    filters, kernel, stride = (
        table.number("conv"),
        table.number("kernel", 3),
        table.number("stride", 1),
    )
    padding = table.choice("padding", PADDINGS, "valid")
    kind = SameConv2d if padding == "same" else nn.Conv2d
    out = table.window(kernel, stride, padding)
    return _started(kind(channels, filters, kernel, stride)), (filters, *out)


def _deconv(table: _Table, classes: int) -> Made:
    channels, height, width = table.map()
    filters = table.number("deconv")
    kernel, stride = table.number("kernel", 3), table.number("stride", 1)
    padding = table.choice("padding", PADDINGS, "valid")
    more = max(kernel - stride, 0) if padding == "valid" else 0
    module = _started(Deconv(channels, filters, kernel, stride, padding))
    return module, (filters, height * stride + more, width * stride + more)


def _pool(table: _Table, classes: int) -> Made:
    kind = table.choice("pool", ("max", "average"))
    size = table.number("size", 2)
    stride = table.number("stride", size)
    padding = table.choice("padding", PADDINGS, "valid")
    out = table.window(size, stride, padding)
    return Pool(kind, size, stride, padding), (table.shape[0], *out)


def _global(table: _Table, classes: int) -> Made:
    kind = table.choice("global", ("average", "max", "gem"))
    channels, *_ = table.map()
    return GeM() if kind == "gem" else Global(kind), (channels,)


def _flatten(table: _Table, classes: int) -> Made:
    table.must()
    return nn.Flatten(), (math.prod(table.shape),)


def _reshape(table: _Table, classes: int) -> Made:
    value = table.table["reshape"]
    good = isinstance(value, list | tuple) and len(value) == 3
    if not good or not all(type(one) is int and one > 0 for one in value):
        raise table.wrong("three whole numbers are wanted: [channels, height, width]")
    shape = tuple(value)
    if math.prod(shape) != math.prod(table.shape):
        raise table.wrong(
            f"{shape_text(shape)} holds {math.prod(shape)} numbers, but {math.prod(table.shape)} "
            f"({shape_text(table.shape)}) come in"
        )
    return Reshape(shape), shape


def _dense(table: _Table, classes: int) -> Made:
    units = classes if table.table["dense"] == "classes" else table.number("dense")
    return _started(nn.Linear(table.vector(), units)), (units,)


def _batch_norm(table: _Table, classes: int) -> Made:
    table.must()
    kind = nn.BatchNorm2d if len(table.shape) == 3 else nn.BatchNorm1d
    # Keras' momentum of 0.99 is the share of the old statistics; torch's is that of the new.
    return kind(table.shape[0], eps=1e-3, momentum=0.01), table.shape


def _dropout(table: _Table, classes: int) -> Made:
    return nn.Dropout(table.share("dropout", 1.0)), table.shape


def _noise(table: _Table, classes: int) -> Made:
    return Noise(table.share("noise", math.inf)), table.shape


def _activation(table: _Table, classes: int) -> Made:
    word = table.choice("activation", tuple(ACTIVATIONS))
    return ACTIVATIONS[word](), table.shape


def _variational(table: _Table, classes: int) -> Made:
    size = table.number("variational")
    return Variational(table.vector(), size), (size,)


# Each word: how its layer is made, and the keys that can stand beside it.
WORDS: dict[str, tuple[Callable[[_Table, int], Made], tuple[str, ...]]] = {
    "conv": (_conv, ("kernel", "stride", "padding", "activation", "regularised")),
    "deconv": (_deconv, ("kernel", "stride", "padding", "activation", "regularised")),
    "pool": (_pool, ("size", "stride", "padding")),
    "global": (_global, ()),
    "flatten": (_flatten, ()),
    "reshape": (_reshape, ()),
    "dense": (_dense, ("activation", "regularised")),
    "batch-norm": (_batch_norm, ()),
    "dropout": (_dropout, ()),
    "noise": (_noise, ()),
    "variational": (_variational, ()),
    "activation": (_activation, ()),
}


def _layer(values: Mapping[str, Any], shape: Shape, classes: int, where: str) -> Layer:
    word = _word(values, where)
    make, keys = WORDS[word]
    table = _Table(values, word, shape, where)
    for key in values:
        if key != word and key not in keys:
            raise table.wrong(f"unknown key {key!r}; {_nearest(key, keys)}")
    module, out = make(table, classes)
    activation = "linear"
    if word == "activation" or "activation" in keys:
        activation = table.choice("activation", tuple(ACTIVATIONS), "linear")
    if "regularised" in keys:
        module.regularised = table.yes("regularised")
    if word != "activation" and activation != "linear":
        module = nn.Sequential(module, ACTIVATIONS[activation]())
    return Layer(word, module, out, activation)


def _word(values: Mapping[str, Any], where: str) -> str:
    words = [key for key in values if key in WORDS]
    if len(words) > 1 and "activation" in words:
        words.remove("activation")
    if len(words) == 1:
        return words[0]
    if words:
        raise RecipeError(f"{where}: {' and '.join(words)} are two layers; give each its own table")
    if not values:
        raise RecipeError(f"{where}: an empty table is no layer; known are {', '.join(WORDS)}")
    unknown = next(iter(values))
    raise RecipeError(f"{where}: no layer is called {unknown!r}; {_nearest(unknown, tuple(WORDS))}")


def _nearest(value: object, known: Sequence[str]) -> str:
    if not known:
        return "this layer has no other keys"
    return did_you_mean(str(value), known) or f"known are {', '.join(known)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
