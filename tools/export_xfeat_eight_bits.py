"""Write XFeat in eight bits: the network of the keypoints, with other arithmetic.

    python tools/export_xfeat_eight_bits.py

needs the packages that `tools/export_xfeat.py` names, and adds a model to its manifest. From the
second block to the fusion of the pyramid, where most of the time goes, convolutions, sums and
enlargements are in eight bits. The first block has too few channels to gain by it. The last layers
decide where a keypoint is and what its descriptor is, so they stay in 32 bits.

No photo is needed. Each convolution in eight bits is followed by a batch normalisation without
weights: over the photos of the training, each channel has the mean 0 and the deviation 1 before its
ReLU. So all ranges are known, and the mean after it. `tools/eight_bits.py` has the arithmetic,
which is the same on every processor.

The graph takes `photos`, uint8 (N, H, W), H and W multiples of 32: the mean of the three colours.
To resize one grey plane takes a third of the time of three colours. Of its outputs, `features` and
`reliability` are those of 32 bits. Instead of `heatmap` there are

- `pixels`, float32 (N, 1, H, W), 0..1: the probability that a pixel is a keypoint.
- `highest`, float32 (N, 1, H, W): the highest one of the 5 × 5 pixels around it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from eight_bits import Values, rounded_convolution, rounded_to_bytes, whole_numbers
from export_models import Weights, add_to_manifest
from export_xfeat import MODELS, Block, NetworkWriter, Shape, export
from numpy.typing import NDArray
from onnx import TensorProto

IN_32_BITS = ("skip1", "block1", "block_fusion.2", "heatmap_head", "keypoint_head")
"""What the names of the layers that stay in 32 bits begin with."""

DEVIATIONS = 6.0
"""The range of a channel. With 4, 5, 7 and 8 the descriptors are farther from those of 32 bits."""

MEAN_AFTER_RELU = 1 / math.sqrt(2 * math.pi)
"""The mean of a normal distribution after ReLU, in deviations."""

GREY_DEVIATIONS = 3.0
"""The range of the grey photo after its normalisation, on both sides."""


class EightBitWriter(NetworkWriter):
    """Appends layers whose convolutions and sums are in eight bits.

    Attributes:
        steps: what one step of a byte stands for, by the name of a tensor.
        ranges: the smallest and the largest number of a tensor.
        means: (C,) of its channels, over the photos of the training.
    """

    name = "xfeat-int8"
    precision = "weights and features int8, sums int32, first block and heads float32"
    photos: Shape = ("N", "H", "W")
    outputs: Mapping[str, Shape] = {
        "features": NetworkWriter.outputs["features"],
        "pixels": ("N", 1, "H", "W"),
        "highest": ("N", 1, "H", "W"),
        "reliability": NetworkWriter.outputs["reliability"],
    }

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.steps: dict[str, float] = {}
        self.ranges: dict[str, tuple[float, float]] = {}
        self.means: dict[str, Values] = {}

    def grey(self) -> str:
        """Append the grey photo as numbers, (N, 1, H, W)."""
        x = self.add("Unsqueeze", ["photos", "channel"], "grey.bytes")
        return self.add("Cast", [x], "grey", to=TensorProto.FLOAT)

    def conv(
        self,
        x: str,
        name: str,
        weight: NDArray[np.float64],
        bias: NDArray[np.float64],
        *,
        strides: Block = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        relu: bool = False,
    ) -> str:
        """Append a convolution and maybe ReLU, in eight bits where that is allowed.

        The bytes of ReLU begin at zero, so they saturate where ReLU does.
        """
        mean = np.full(len(bias), MEAN_AFTER_RELU) if relu else bias
        if name.startswith(IN_32_BITS):
            out = super().conv(x, name, weight, bias, strides=strides, pads=pads, relu=relu)
            self.means[out] = mean
            # Of the layers without ReLU, only "skip1" is added to something.
            self.ranges[out] = (0.0, DEVIATIONS) if relu else range_of_grey(weight, bias)
            return out
        rounded = rounded_convolution(weight, bias, self.steps[x], self.means[x])
        inputs = [
            x,
            whole_numbers(self, f"{name}.weight", rounded.weight, rounded.step, np.int8),
            whole_numbers(self, f"{name}.bias", rounded.bias, rounded.product, np.int32),
        ]
        shape = list(weight.shape[2:])
        out = self.add("Conv", inputs, name, kernel_shape=shape, strides=strides, pads=pads)
        return self.bytes(out, 0.0, DEVIATIONS, mean)

    def sum(self, x: str, y: str, name: str) -> str:
        """Append the sum of two tensors, in bytes."""
        low, high = np.hypot(self.ranges[x], self.ranges[y])
        return self.bytes(super().sum(x, y, name), -low, high, self.means[x] + self.means[y])

    def enlarged(self, x: str, factor: int, name: str) -> str:
        """Append a bilinear enlargement of bytes."""
        return self.bytes(super().enlarged(x, factor, name), *self.ranges[x], self.means[x])

    def bytes(self, x: str, low: float, high: float, mean: Values) -> str:
        """Append the rounding to bytes and return its name."""
        step, out = rounded_to_bytes(self, x, x, low, high)
        self.steps[out], self.ranges[out], self.means[out] = step, (low, high), mean
        return out

    def peaks(self, x: str, highest: str) -> None:
        """Append nothing: `x` and `highest` are outputs."""


def range_of_grey(weight: Values, bias: Values) -> tuple[float, float]:
    """Return the range of a convolution of the normalised grey photo, as if it were uniform."""
    reach = GREY_DEVIATIONS * np.abs(weight.sum((1, 2, 3)))
    return float((bias - reach).min()), float((bias + reach).max())


def main() -> None:
    """Write the model and its entry of the manifest."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=Path, default=MODELS)
    options = parser.parse_args()
    entry = export(options.folder, EightBitWriter)
    add_to_manifest(options.folder, {EightBitWriter.name: entry})
    print(f"{entry['file']}: {entry['bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
