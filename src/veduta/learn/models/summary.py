"""A table of a network's layers, as Keras prints it.

A shape is (height, width, channels) or (length,). The running statistics of batch norms count as
parameters that are not trained, as in Keras.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from veduta.text import printable

if TYPE_CHECKING:
    from veduta.learn.models.layers import Layer
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe, Table

__all__ = ["LayerRow", "Summary", "count_parameters", "summarise", "summary_text"]

LINE_CHARACTERS = 80
COLUMN_CHARACTERS = (44, 22, 12)  # layer, shape, parameters

KERAS_NAMES = {
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
"""From the name in a recipe to the name and class of the layer in Keras."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer in the table.

    Attributes:
        name: its name, with a number if there are several of its kind.
        kind: its class in Keras.
        shape: the shape of its output for one photo.
        parameters: its number of parameters.
        part: "encoder" or "decoder" of a network with a decoder, else "".
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    part: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The layers of a network and its numbers of parameters.

    Attributes:
        name: the name of the recipe.
        input: the shape of the input.
        rows: the layers.
        trainable: parameters that are trained.
        non_trainable: parameters that are not trained.
    """

    name: str
    input: tuple[int, ...]
    rows: tuple[LayerRow, ...]
    trainable: int
    non_trainable: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.trainable + self.non_trainable

    def as_json(self) -> dict[str, object]:
        """Return the summary as JSON types."""
        return {**dataclasses.asdict(self), "total": self.total}


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return how many parameters are trained, and how many are not.

    The second number includes the statistics of batch norms, but not their number of batches.

    Args:
        module: a network or a layer.
    """
    parameters = list(module.parameters())
    trainable = sum(one.numel() for one in parameters if one.requires_grad)
    statistics = sum(
        tensor.numel()
        for name, tensor in module.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    )
    return trainable, sum(one.numel() for one in parameters) - trainable + statistics


def summarise(net: Net, recipe: Recipe) -> Summary:
    """Return the table of a network.

    Args:
        net: the network; `veduta.learn.training.recipe_network.network_without_weights` is enough.
        recipe: its recipe.
    """
    numbers: dict[str, int] = {}
    rows = []
    if net.backbone is not None:
        name = recipe.network.backbone.partition(":")[2].partition(".")[0]
        shape = _channels_last(net.backbone.shape)
        rows.append(LayerRow(name, "Functional", shape, sum(count_parameters(net.backbone))))
    elif recipe.network.backbone:
        # The encoder is not part of this network, whose input is its descriptors.
        rows.append(LayerRow(recipe.network.backbone, "Encoder", net.input_shape, 0))
    for part, layers, tables in (
        ("encoder" if net.decoder_table else "", net.layer_table, recipe.network.layers),
        ("decoder", net.decoder_table, recipe.network.decoder),
    ):
        for layer, table in zip(layers, tables, strict=True):
            rows.append(_row(layer, table, part, numbers))
    trainable, fixed = count_parameters(net)
    return Summary(recipe.name, _channels_last(net.input_shape), tuple(rows), trainable, fixed)


def summary_text(summary: Summary) -> str:
    """Return the summary as lines of at most 80 characters."""
    lines = [
        f"{printable(summary.name)}: input {' x '.join(map(str, summary.input))}",
        "_" * LINE_CHARACTERS,
        _line("Layer (type)", "Output Shape", "Param #"),
        "=" * LINE_CHARACTERS,
    ]
    part = summary.rows[0].part if summary.rows else ""
    for row in summary.rows:
        if row.part != part:
            part = row.part
            lines.append("-" * LINE_CHARACTERS)
        shape = f"(None, {', '.join(map(str, row.shape))})"
        lines.append(_line(f"{row.name} ({row.kind})", shape, f"{row.parameters:,}"))
    lines += [
        "=" * LINE_CHARACTERS,
        f"Total params: {summary.total:,}",
        f"Trainable params: {summary.trainable:,}",
        f"Non-trainable params: {summary.non_trainable:,}",
    ]
    return "\n".join(lines)


def _row(layer: Layer, table: Table, part: str, numbers: dict[str, int]) -> LayerRow:
    kind = layer.kind
    if kind == "pool":
        kind = table["pool"]
    elif kind == "global":
        kind = f"global {table['global']}"
    name, keras_class = KERAS_NAMES[kind]
    number = numbers.get(name, 0)
    numbers[name] = number + 1
    numbered = f"{name}_{number}" if number else name
    parameters = sum(count_parameters(layer.module))
    return LayerRow(numbered, keras_class, _channels_last(layer.shape), parameters, part)


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])


def _line(layer: str, shape: str, parameters: str) -> str:
    """Return one line; the end of a name that is too long is cut, as in Keras."""
    first, second, third = COLUMN_CHARACTERS
    if len(layer) > first:
        layer = layer[: first - 1] + "…"
    return f"{layer:<{first}} {shape:<{second}} {parameters:>{third}}"
