"""What a network is made of: a table of its layers as Keras prints it.

A shape is (height, width, channels) or (length,), as in the tables of the reports. The running
statistics of batch norms count as parameters that do not learn, as they do in Keras.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from veduta.learn.models.layers import Layer
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe, Table

__all__ = ["Row", "Summary", "count", "outline", "summarise", "text"]

WIDTH = 80
COLUMNS = (44, 22, 12)  # characters: layer, shape, parameters

# What Keras calls the layers.
NAMES = {
    "conv": ("conv2d", "Conv2D"),
    "deconv": ("conv2d_transpose", "Conv2DTranspose"),
    "dense": ("dense", "Dense"),
    "flatten": ("flatten", "Flatten"),
    "reshape": ("reshape", "Reshape"),
    "batch-norm": ("batch_normalization", "BatchNormalization"),
    "dropout": ("dropout", "Dropout"),
    "noise": ("gaussian_noise", "GaussianNoise"),
    "activation": ("activation", "Activation"),
    "variational": ("variational", "Variational"),
    "max": ("max_pooling2d", "MaxPooling2D"),
    "average": ("average_pooling2d", "AveragePooling2D"),
    "global max": ("global_max_pooling2d", "GlobalMaxPooling2D"),
    "global average": ("global_average_pooling2d", "GlobalAveragePooling2D"),
    "global gem": ("global_gem_pooling2d", "GlobalGeMPooling2D"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A layer. `shape`: of what it gives of one photo. `part`: encoder or decoder, or neither."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    part: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """A network: its layers, and the numbers of parameters that learn and that do not."""

    name: str
    input: tuple[int, ...]
    rows: tuple[Row, ...]
    trainable: int
    non_trainable: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.trainable + self.non_trainable

    def as_json(self) -> dict[str, object]:
        """Return the summary as JSON types."""
        return {**dataclasses.asdict(self), "total": self.total}


def count(module: nn.Module) -> tuple[int, int]:
    """Return how many parameters learn and how many do not.

    The statistics of batch norms are among the latter; the number of batches seen is no parameter.
    """
    parameters = list(module.parameters())
    learn = sum(one.numel() for one in parameters if one.requires_grad)
    kept = sum(
        tensor.numel()
        for name, tensor in module.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    )
    return learn, sum(one.numel() for one in parameters) - learn + kept


def outline(recipe: Recipe, classes: int | None = None) -> Net:
    """Make a recipe's network without any numbers in it: on torch's meta device.

    Needs no weights and no memory for them; only an encoder, whose descriptors go in, is opened.

    Args:
        recipe: what to make.
        classes: how many; `recipe.network.classes` if None.

    Raises:
        RecipeError: the recipe asks for what cannot be.
        EncoderError: the encoder that it builds on is not to be had.
    """
    from veduta.learn.models.networks import build

    dimension = None
    if recipe.network.encoder:
        from veduta.encoders import load_encoder

        dimension = load_encoder(recipe.network.encoder).dimension
    bare = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, weights="none"))
    with torch.device("meta"):
        return build(bare, classes or recipe.network.classes, dimension=dimension)


def summarise(net: Net, recipe: Recipe) -> Summary:
    """Return the table of a network; `outline` makes one without weights."""
    seen: dict[str, int] = {}
    rows = []
    if net.backbone is not None:
        name = recipe.network.backbone.partition(":")[2].partition(".")[0]
        shape = _as_keras(net.backbone.shape)
        rows.append(Row(name, "Functional", shape, sum(count(net.backbone))))
    elif recipe.network.backbone:
        # Its parameters are not in this network, which is fed with its descriptors.
        rows.append(Row(recipe.network.backbone, "Encoder", net.input_shape, 0))
    for part, layers, tables in (
        ("encoder" if net.decoder_rows else "", net.rows, recipe.network.layers),
        ("decoder", net.decoder_rows, recipe.network.decoder),
    ):
        for layer, table in zip(layers, tables, strict=True):
            rows.append(_row(layer, table, part, seen))
    learn, fixed = count(net)
    return Summary(recipe.name, _as_keras(net.input_shape), tuple(rows), learn, fixed)


def text(summary: Summary) -> str:
    """Return the summary as lines of at most 80 characters."""
    lines = [
        f"{summary.name}: input {' x '.join(map(str, summary.input))}",
        "_" * WIDTH,
        _line("Layer (type)", "Output Shape", "Param #"),
        "=" * WIDTH,
    ]
    part = summary.rows[0].part if summary.rows else ""
    for row in summary.rows:
        if row.part != part:
            part = row.part
            lines.append("-" * WIDTH)
        lines.append(
            _line(f"{row.name} ({row.kind})", _bracketed(row.shape), f"{row.parameters:,}")
        )
    lines += [
        "=" * WIDTH,
        f"Total params: {summary.total:,}",
        f"Trainable params: {summary.trainable:,}",
        f"Non-trainable params: {summary.non_trainable:,}",
    ]
    return "\n".join(lines)


def _row(layer: Layer, table: Table, part: str, seen: dict[str, int]) -> Row:
    word = layer.word
    if word == "pool":
        word = table["pool"]
    elif word == "global":
        word = f"global {table['global']}"
    name, kind = NAMES[word]
    place = seen.get(name, 0)
    seen[name] = place + 1
    numbered = f"{name}_{place}" if place else name
    return Row(numbered, kind, _as_keras(layer.shape), sum(count(layer.module)), part)


def _as_keras(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Put the channels last."""
    return (*shape[1:], shape[0])


def _bracketed(shape: tuple[int, ...]) -> str:
    return f"(None, {', '.join(map(str, shape))})"


def _line(layer: str, shape: str, parameters: str) -> str:
    """Lay out one row; a name that is too long loses its end, as in Keras."""
    first, second, third = COLUMNS
    if len(layer) > first:
        layer = layer[: first - 1] + "…"
    return f"{layer:<{first}} {shape:<{second}} {parameters:>{third}}"
