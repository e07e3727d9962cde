"""The package's own EfficientNet-Lite as a network that can be trained; also two side by side.

Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no squeeze-and-excitation.
The weights are those of the package's ONNX files, where the batch normalisations are folded into
the convolutions: fine-tuning starts exactly at the embedded encoder, and small batches cannot
disturb statistics, since there are none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import LearnError, readable
from veduta.learn.models.layers import SameConv2d

__all__ = [
    "CHANNELS",
    "NETWORKS",
    "TEXTURED",
    "EfficientNetLite",
    "EfficientNetPair",
    "embedded_network",
]

CHANNELS = 1280  # of the feature map
STEM = 32
STD = 128.0  # the graph takes pixels less 127, the network those divided by this


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width. `stride`: of the first; `expansion`: channels inside per channel."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# EfficientNet-B0's stages.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
# How much wider and deeper each network is. Lite keeps the stem, the head, and the depth of the
# first and last stage.
LITE0, LITE2 = "efficientnet-lite0", "efficientnet-lite2"
WIDER_AND_DEEPER = {LITE0: (1.0, 1.0), LITE2: (1.1, 1.2)}
PAIR = "efficientnet-lite0-lite2"
TEXTURED = f"{PAIR}-textured"
NETWORKS = (LITE0, LITE2, PAIR, TEXTURED)

# The pooling of the default encoder, see tools/export_models.py.
LEAST = 1e-6
POWER = 3.0
# Length of what is said of textures: most of it is the same for all photos, and what is not then
# differs between them about as much as the halves do.
TEXTURE = 4.0


class Block(nn.Module):  # type: ignore[misc]
    """An inverted residual block (Sandler et al., CVPR 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = before * expansion
        self.expand = SameConv2d(before, inside, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(inside, inside, kernel, stride, groups=inside)
        self.project = SameConv2d(inside, after, 1)
        self.relu = nn.ReLU6()
        self.adds = stride == 1 and before == after

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        inside = photos if self.expand is None else self.relu(self.expand(photos))
        out = self.project(self.relu(self.depthwise(inside)))
        return out + photos if self.adds else out


class EfficientNetLite(nn.Module):  # type: ignore[misc]
    """All convolutions: photos to the last feature map, values in 0..6.

    Photos are (pixels - 127) / 128, so a recipe says mean = 127/255 and std = 128/255.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.relu = nn.ReLU6()
        self.stem = SameConv2d(3, STEM, 3, 2)
        blocks = []
        before = STEM
        for stage in STAGES:
            fixed = stage in (STAGES[0], STAGES[-1])
            count = stage.blocks if fixed else math.ceil(stage.blocks * depth)
            after = _rounded(stage.channels * width)
            for place in range(count):
                stride = stage.stride if place == 0 else 1
                blocks.append(Block(before, after, stage.kernel, stride, stage.expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(before, CHANNELS, 1)
        for module in self.modules():
            if isinstance(module, SameConv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1280, H/32, W/32)."""
        return self.relu(self.head(self.blocks(self.relu(self.stem(photos)))))


class EfficientNetPair(nn.Module):  # type: ignore[misc]
    """Two networks side by side, pooled and centred as the default encoder has it.

    Each network's half is the root of the mean cube of its feature map, of length one, less what
    photos of ImageNet have in common, again of length one. `late`: what is behind the last halving
    of the picture; `early`: what is before.

    `textured`: behind the halves come mean and standard deviation of each channel where `late`
    begins (Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance
    Normalization", ICCV 2017). They say what stone or paint looks like, which is lost on the way
    to what a thing is: of use to tell classes apart, not to compare photos by.
    """

    def __init__(
        self, networks: Sequence[EfficientNetLite], common: Tensor, *, textured: bool = False
    ) -> None:
        """`common`: (2, 1280)."""
        super().__init__()
        self.textured = textured
        self.early, self.late = nn.ModuleList(), nn.ModuleList()
        for one in networks:
            cut = max(at for at, block in enumerate(one.blocks) if block.depthwise.stride[0] > 1)
            self.early.append(nn.Sequential(one.stem, one.relu, *one.blocks[:cut]))
            self.late.append(nn.Sequential(*one.blocks[cut:], one.head, one.relu))
        self.register_buffer("common", common)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 2560), each half of length one; textured to (N, 3360)."""
        halves, moments = [], []
        for early, late, common in zip(self.early, self.late, self.common, strict=True):
            first = late[0](early(photos))
            # A cube is beyond half precision.
            peaks = late[1:](first).float().clamp(min=LEAST).pow(POWER).mean((2, 3)).sqrt()
            halves.append(functional.normalize(functional.normalize(peaks) - common))
            if self.textured:
                variance, mean = torch.var_mean(first.float(), (2, 3), correction=0)
                moments += [mean, (variance + LEAST).sqrt()]
        if not self.textured:
            return torch.cat(halves, dim=1)
        texture = TEXTURE * functional.normalize(torch.cat(moments, dim=1))
        return torch.cat([*halves, texture], dim=1)


def embedded_network(name: str, *, pretrained: bool) -> EfficientNetLite | EfficientNetPair:
    """Make an embedded network by its name, one of `NETWORKS`.

    Raises:
        LearnError: the package came without its weights, or onnx is not installed.
    """
    networks, common = [], torch.zeros(2, CHANNELS)
    for row, one in enumerate((name,) if name in WIDER_AND_DEEPER else (LITE0, LITE2)):
        networks.append(EfficientNetLite(*WIDER_AND_DEEPER[one]))
        if pretrained:
            tensors = _tensors(one)
            _load(networks[-1], tensors)
            common[row] = tensors["common"]
    if name in WIDER_AND_DEEPER:
        return networks[0]
    return EfficientNetPair(networks, common, textured=name == TEXTURED)


def _tensors(name: str) -> dict[str, Tensor]:
    """Read what the package's graph of a network holds, float32."""
    from veduta.encoders.embedded import FOLDER

    path = FOLDER / f"{name}.onnx"
    try:
        import onnx
        from onnx import numpy_helper

        held = onnx.load(path).graph.initializer
    except (ImportError, OSError) as error:
        raise LearnError(
            f"{readable(path)}: the package's own weights do not read ({error}); "
            "install veduta[train] again"
        ) from error
    return {
        one.name.removeprefix(f"{name}/").removesuffix(".f16"): torch.from_numpy(
            numpy_helper.to_array(one).astype("float32")
        )
        for one in held
    }


def _load(network: EfficientNetLite, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for place, module in network.named_modules():
            if isinstance(module, SameConv2d):
                source = _in_graph(place)
                weight = tensors[f"{source}.weight"]
                module.weight.copy_(weight * STD if place == "stem" else weight)
                module.bias.copy_(tensors[f"{source}.bias"])


def _in_graph(name: str) -> str:
    """Return what the graph calls a convolution: "_blocks.3._expand_conv" for "blocks.3.expand"."""
    *way, last = name.split(".")
    return ".".join([*(f"_{way[0]}", way[1]), f"_{last}_conv"] if way else [f"_conv_{last}"])


def _rounded(channels: float) -> int:
    """Return the nearest multiple of eight, unless that loses more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
