"""Write the encoder in eight bits: the networks of the default encoder, with other arithmetic.

    python tools/export_eight_bits.py

needs the packages that `tools/export_models.py` names, and adds a model to its manifest. Inputs and
outputs of the graph are the same. All convolutions and sums are in eight bits. The pooling is in
32 bits.

No photo is needed. The last batch normalisation before a tensor contains the mean and the deviation
of each channel over ImageNet. Everything follows from these (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", ICCV 2019):

- *Range of a tensor*: `DEVIATIONS` on both sides of the mean, the widest of its channels. Before a
  ReLU6 it is 0..6, and the bytes saturate where ReLU6 does.
- *Equal channels*: where the next layer can undo it exactly, each channel is multiplied by a factor
  so that all channels have the same range. All blocks that a shortcut joins share the factors.
- *Weights*: a step for each output channel. What rounding adds to the sum of a channel for a mean
  photo is subtracted from its bias. The weights of the first layer and of the depthwise layers are
  rounded so that their sum is kept, because most of a photo is smooth.

`tools/eight_bits.py` has the arithmetic. It is the same on every processor.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from eight_bits import Values, rounded_convolution, rounded_to_bytes, whole_numbers
from export_models import (
    MEAN,
    MODELS,
    RELU6_TOP,
    STD,
    GraphWriter,
    NetworkWriter,
    Source,
    Weights,
    add_to_manifest,
    block_strides,
    conv_attributes,
    export,
)
from numpy.typing import NDArray

PAIR = "efficientnet-lite0-lite2"

DEVIATIONS = 5.0
"""With 6 and 7 the descriptors are farther from those of 32 bits."""

SMALLEST_RANGE = 1e-3
"""The smallest range of a channel, as a share of the widest one of the tensor, for its factor."""

SMALLEST_TOP = 0.05
"""The least of the largest number of a channel of the first layer, for its factor."""

FIRST_BLOCK = "_blocks.0"
FIRST_LAYERS = ("_conv_stem.", "_bn0.", "_blocks.0._depthwise_conv.", "_blocks.0._bn1.")
FIRST_PROJECTION = "_blocks.0._project_conv.weight"

_QUANTILES = 256
"""How many values stand for a normal distribution."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of bytes, and what is known of the numbers that they stand for.

    Attributes:
        name: of the tensor after DequantizeLinear.
        step: what one step of a byte stands for.
        factor: (C,) what the numbers of each channel were multiplied by.
        mean: (C,) of the numbers over ImageNet, before the factor; None: not known.
        deviation: (C,) their standard deviation.
    """

    name: str
    step: float
    factor: Values
    mean: Values | None = None
    deviation: Values | None = None


class EightBitNetwork(NetworkWriter):
    """Appends one network whose convolutions and sums are in eight bits."""

    suffix = "-int8"
    precision = "weights and features int8, sums int32, pooling float32"
    constants: Mapping[str, float] = {}

    @classmethod
    def feature_maps(
        cls, graph: GraphWriter, networks: Sequence[tuple[Source, Weights]]
    ) -> Iterator[tuple[Self, str]]:
        """Append each network in turn and yield it with the name of its last feature map.

        Two layers of all networks run side by side, as one network with the channels of all.
        """
        first = cls(graph, "first", side_by_side([weights for _, weights in networks]))
        tensor = first.depthwise(first.stem(blocks_of_pixels(graph)), FIRST_BLOCK, 1)
        end = 0
        for source, weights in networks:
            start, end = end, end + len(weights["_conv_stem.weight"])
            projection = np.zeros((weights[FIRST_PROJECTION].shape[0], tensor.factor.size, 1, 1))
            projection[:, start:end] = weights[FIRST_PROJECTION]
            network = cls(graph, source.name, {**weights, FIRST_PROJECTION: projection})
            yield network, network.features_from(tensor, block_strides(source.depth))

    def features_from(self, first: Tensor, strides: list[int]) -> str:
        """Append what follows the first depthwise convolution and return the last feature map."""
        tensor = first
        for start, end in self.chains(strides):
            factor = self.chain_factor(start, end)
            for position in range(start, end):
                tensor = self.eight_bit_block(tensor, position, strides[position], factor)
        return self.relu6_conv(tensor, "_conv_head", "_bn1").name

    def stem(self, blocks: Tensor) -> Tensor:
        """Append the first convolution. Its channels have ranges that differ much."""
        mean, deviation = self.distribution("_bn0")
        top = np.clip(mean + DEVIATIONS * deviation, SMALLEST_TOP, RELU6_TOP)
        return self.relu6_conv(
            blocks, "_conv_stem", "_bn0", stride=2, scale=1.0 / STD, factor=RELU6_TOP / top
        )

    def depthwise(self, x: Tensor, block: str, stride: int) -> Tensor:
        """Append the depthwise convolution of a block."""
        return self.relu6_conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride)

    def chains(self, strides: list[int]) -> list[tuple[int, int]]:
        """Return the first block, and the one after the last, of blocks that shortcuts join."""
        widths = [self.distribution(f"_blocks.{i}._bn2")[0].size for i in range(len(strides))]
        starts = [
            i
            for i, stride in enumerate(strides)
            if i == 0 or stride > 1 or widths[i] != widths[i - 1]
        ]
        return list(zip(starts, [*starts[1:], len(strides)], strict=True))

    def chain_factor(self, first: int, end: int) -> Values:
        """Return the factors (C,) with which all channels of the sum of some blocks are equal."""
        means, deviations = zip(
            *(self.distribution(f"_blocks.{i}._bn2") for i in range(first, end)), strict=True
        )
        reach = np.abs(np.sum(means, axis=0)) + DEVIATIONS * np.linalg.norm(deviations, axis=0)
        widest = reach.max()
        factor: Values = widest / np.maximum(reach, SMALLEST_RANGE * widest)
        return factor

    def eight_bit_block(self, x: Tensor, position: int, stride: int, factor: Values) -> Tensor:
        """Append one inverted residual block."""
        name = f"_blocks.{position}"
        y = x
        if name != FIRST_BLOCK:
            y = self.relu6_conv(y, f"{name}._expand_conv", f"{name}._bn0")
            y = self.depthwise(y, name, stride)
        out = self.conv8(y, f"{name}._project_conv", f"{name}._bn2", factor)
        mean, deviation = self.distribution(f"{name}._bn2")
        y = self.normal_bytes(out, f"{name}._project_conv", factor, mean, deviation)
        if stride > 1 or x.mean is None or x.deviation is None or x.mean.size != mean.size:
            return y
        out = self.add("Add", [y.name, x.name], f"{name}.sum")
        return self.normal_bytes(
            out, f"{name}.sum", factor, x.mean + mean, np.hypot(x.deviation, deviation)
        )

    def relu6_conv(
        self,
        x: Tensor,
        conv: str,
        norm: str,
        *,
        stride: int = 1,
        scale: float = 1.0,
        factor: Values | None = None,
    ) -> Tensor:
        """Append a convolution and ReLU6. `factor` is at least 1, so 6 × factor saturates too."""
        mean, deviation = self.distribution(norm)
        factor = np.ones(mean.size) if factor is None else factor
        out = self.conv8(x, conv, norm, factor, stride=stride, scale=scale)
        step, name = rounded_to_bytes(self.graph, out, f"{self.name}/{conv}.relu6", 0.0, RELU6_TOP)
        return Tensor(name, step, factor, mean_after_relu6(mean, deviation))

    def conv8(
        self,
        x: Tensor,
        conv: str,
        norm: str,
        factor: Values,
        *,
        stride: int = 1,
        scale: float = 1.0,
    ) -> str:
        """Append a convolution of bytes and return the name of its result."""
        weight, bias = self.folded(conv, norm, scale)
        depthwise = weight.shape[1] == 1
        undone = x.factor[:, None] if depthwise else x.factor[None]
        weight = weight * factor[:, None, None, None] / undone[:, :, None, None]
        bias = bias * factor
        mean = None if x.mean is None else x.mean * x.factor
        rounded = rounded_convolution(weight, bias, x.step, mean, keep_sums=weight.shape[2] > 1)
        whole = rounded.weight
        attributes = conv_attributes(weight, stride)
        if conv == "_conv_stem":
            whole, attributes = of_blocks(whole), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}
        name = f"{self.name}/{conv}"
        inputs = [
            x.name,
            whole_numbers(self.graph, f"{name}.weight", whole, rounded.step, np.int8),
            whole_numbers(self.graph, f"{name}.bias", rounded.bias, rounded.product, np.int32),
        ]
        return self.add("Conv", inputs, conv, **attributes)

    def normal_bytes(
        self, x: str, output: str, factor: Values, mean: Values, deviation: Values
    ) -> Tensor:
        """Append the rounding of numbers of which mean and deviation are known."""
        low = ((mean - DEVIATIONS * deviation) * factor).min()
        high = ((mean + DEVIATIONS * deviation) * factor).max()
        step, name = rounded_to_bytes(
            self.graph, x, f"{self.name}/{output}", min(low, 0.0), max(high, 0.0)
        )
        return Tensor(name, step, factor, mean, deviation)

    def distribution(self, norm: str) -> tuple[Values, Values]:
        """Return mean and standard deviation (C,) after a batch normalisation, over ImageNet."""
        return (
            self.weights[f"{norm}.bias"].astype(np.float64),
            np.abs(self.weights[f"{norm}.weight"].astype(np.float64)),
        )


def blocks_of_pixels(graph: GraphWriter) -> Tensor:
    """Append what reads each block of 2 × 2 pixels as 12 channels: pixels minus the mean.

    A convolution of 3 channels takes twice as long as the same one of 12.
    """
    step, zero = graph.constant("one", 1.0), graph.constant("mean", MEAN, np.uint8)
    numbers = {
        name: graph.constant(name, value, np.int64)
        for name, value in {
            "two": [2],
            "two.rows": [-1, 2],
            "two.pixels": [6],
            "any": [-1],
            "channels": [12],
        }.items()
    }
    size = {
        name: graph.add(
            "Div",
            [graph.add("Shape", ["photos"], name, start=i, end=i + 1), numbers["two"]],
            f"{name}.blocks",
        )
        for i, name in ((1, "height"), (2, "width"))
    }
    x = graph.add(
        "Concat", [numbers["two.rows"], size["width"], numbers["two.pixels"]], "rows.shape", axis=0
    )
    x = graph.add("Reshape", ["photos", x], "rows")
    x = graph.add("Transpose", [x], "blocks.rows", perm=[0, 2, 1, 3])
    shape = [numbers["any"], size["height"], size["width"], numbers["channels"]]
    shape_name = graph.add("Concat", shape, "blocks.shape", axis=0)
    x = graph.add("Reshape", [x, shape_name], "blocks.last")
    x = graph.add("Transpose", [x], "blocks", perm=[0, 3, 1, 2])
    return Tensor(graph.add("DequantizeLinear", [x, step, zero], "pixels"), 1.0, np.ones(3))


def of_blocks(kernel: Values) -> Values:
    """Rewrite a convolution of 3 × 3 pixels with stride 2 as one of 2 × 2 blocks of pixels.

    Channel c of the pixel (a, b) of a block is channel 6a + 3b + c.
    """
    outputs = len(kernel)
    padded = np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 1)))
    parts = padded.reshape(outputs, 3, 2, 2, 2, 2)  # (o, c, block row, a, block column, b)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, 12, 2, 2)


def side_by_side(networks: Sequence[Weights]) -> dict[str, NDArray[np.float32]]:
    """Return the weights of the first two layers of networks as those of one network."""
    return {
        name: np.concatenate([weights[name] for weights in networks])
        for name, values in networks[0].items()
        if name.startswith(FIRST_LAYERS) and values.ndim
    }


def mean_after_relu6(mean: Values, deviation: Values) -> Values:
    """Return the mean of normal distributions after ReLU6, (C,)."""
    normal = statistics.NormalDist()
    quantiles = [normal.inv_cdf((i + 0.5) / _QUANTILES) for i in range(_QUANTILES)]
    after: Values = np.clip(mean + deviation * np.array(quantiles)[:, None], 0, RELU6_TOP).mean(0)
    return after


def main() -> None:
    """Write the model and its entry of the manifest."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=Path, default=MODELS)
    options = parser.parse_args()
    entry = export(PAIR, options.folder, EightBitNetwork)
    add_to_manifest(options.folder, {f"{PAIR}{EightBitNetwork.suffix}": entry})
    print(f"{entry['file']}: {entry['bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
