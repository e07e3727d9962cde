"""The package's own networks, trainable: EfficientNet-Lite, alone or two side by side.

Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no squeeze-and-excitation.
The weights come from the package's ONNX files, in which the batch normalisations are folded into
the convolutions. Fine-tuning therefore starts exactly at the embedded encoder, and small batches
cannot disturb statistics.
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

CHANNELS = 1280
"""Channels of the last feature map."""

STEM_CHANNELS = 32
PIXEL_STD = 128.0
"""The ONNX graph subtracts 127 from the pixels, and this network's input is also divided by 128."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width.

    Attributes:
        blocks: the number of blocks.
        kernel: the side of the kernel in pixels.
        stride: the stride of the first block.
        expansion: channels inside a block for each input channel.
        channels: output channels.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""The stages of EfficientNet-B0."""

LITE0, LITE2 = "efficientnet-lite0", "efficientnet-lite2"
WIDTH_AND_DEPTH = {LITE0: (1.0, 1.0), LITE2: (1.1, 1.2)}
"""Factors of the channels and of the blocks. Lite scales neither the stem, nor the head, nor the
number of blocks in the first and last stage."""

PAIR = "efficientnet-lite0-lite2"
TEXTURED = f"{PAIR}-textured"
NETWORKS = (LITE0, LITE2, PAIR, TEXTURED)

# The generalised mean of the default encoder, see tools/export_models.py.
GEM_FLOOR = 1e-6
GEM_POWER = 3.0

TEXTURE_LENGTH = 4.0
"""The length of the texture vector. Most of it is the same for all photos. With this length, the
rest differs between photos about as much as the halves of the descriptor do."""


class Block(nn.Module):  # type: ignore[misc]
    """An inverted residual block (Sandler et al., CVPR 2018)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = SameConv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv2d(hidden, out_channels, 1)
        self.relu = nn.ReLU6()
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', h', w')."""
        hidden = photos if self.expand is None else self.relu(self.expand(photos))
        out = self.project(self.relu(self.depthwise(hidden)))
        return out + photos if self.has_shortcut else out


class EfficientNetLite(nn.Module):  # type: ignore[misc]
    """The convolutions of EfficientNet-Lite: photos to the last feature map, with values in [0, 6].

    The input is (pixels - 127) / 128, so a recipe has mean = 127/255 and std = 128/255.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.relu = nn.ReLU6()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        blocks = []
        channels = STEM_CHANNELS
        for stage in STAGES:
            has_fixed_depth = stage in (STAGES[0], STAGES[-1])
            count = stage.blocks if has_fixed_depth else math.ceil(stage.blocks * depth)
            out_channels = _rounded(stage.channels * width)
            for number in range(count):
                stride = stage.stride if number == 0 else 1
                blocks.append(Block(channels, out_channels, stage.kernel, stride, stage.expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(channels, CHANNELS, 1)
        for module in self.modules():
            if isinstance(module, SameConv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1280, H/32, W/32)."""
        return self.relu(self.head(self.blocks(self.relu(self.stem(photos)))))


class EfficientNetPair(nn.Module):  # type: ignore[misc]
    """Two networks side by side, pooled and centred as in the default encoder.

    The half of each network is the square root of the mean cube of its feature map, divided by its
    length, minus the mean over photos of ImageNet, and again divided by its length.

    A textured pair appends the mean and standard deviation of each channel at the start of `late`
    (Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance
    Normalization", ICCV 2017). They describe materials such as stone or paint, which later layers
    ignore. They help to tell classes apart, but not to compare photos.

    Attributes:
        early: of each network, the layers before the last halving of the image.
        late: of each network, the layers from the last halving on.
        common: (2, 1280), the mean over photos of ImageNet.
        feature_map: passes the feature maps on, so that they can be watched.
        textured: whether the output includes the texture.
    """

    def __init__(
        self, networks: Sequence[EfficientNetLite], common: Tensor, *, textured: bool = False
    ) -> None:
        super().__init__()
        self.textured = textured
        self.early, self.late = nn.ModuleList(), nn.ModuleList()
        for one in networks:
            strides = [block.depthwise.stride[0] for block in one.blocks]
            cut = max(number for number, stride in enumerate(strides) if stride > 1)
            self.early.append(nn.Sequential(one.stem, one.relu, *one.blocks[:cut]))
            self.late.append(nn.Sequential(*one.blocks[cut:], one.head, one.relu))
        self._start_channels = [late[0].project.out_channels for late in self.late]
        self.feature_map = nn.Identity()
        self.register_buffer("common", common)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 2560), each half of length one; textured to (N, 3360)."""
        maps = self.feature_map(self._maps(photos))
        ends, starts = maps[:, : 2 * CHANNELS], maps[:, 2 * CHANNELS :]
        halves = []
        for end, common in zip(ends.chunk(2, dim=1), self.common, strict=True):
            pooled = end.clamp(min=GEM_FLOOR).pow(GEM_POWER).mean((2, 3)).sqrt()
            halves.append(functional.normalize(functional.normalize(pooled) - common))
        if not self.textured:
            return torch.cat(halves, dim=1)
        moments = []
        for start in starts.split(self._start_channels, dim=1):
            variance, mean = torch.var_mean(start, (2, 3), correction=0)
            moments += [mean, (variance + GEM_FLOOR).sqrt()]
        texture = TEXTURE_LENGTH * functional.normalize(torch.cat(moments, dim=1))
        return torch.cat([*halves, texture], dim=1)

    def shares(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Divide the output among the positions of the feature map.

        Each pooled number is a sum over positions: of x³ for the generalised mean, of x for a mean,
        and of the squared distance to the mean for a standard deviation. The lengths by which the
        vectors are divided are those of this photo.

        Args:
            maps: (N, C, h, w), the output of the module `feature_map`.

        Returns:
            The shares (N, D, h, w), and what belongs to no position, (N, D). The sum of the shares
            over positions plus the latter is the output of `forward`.
        """
        ends, starts = maps[:, : 2 * CHANNELS], maps[:, 2 * CHANNELS :]
        shares, constants = [], []
        for end, common in zip(ends.chunk(2, dim=1), self.common, strict=True):
            powers = end.clamp(min=GEM_FLOOR).pow(GEM_POWER)
            pooled = powers.mean((2, 3)).sqrt()
            centred = functional.normalize(pooled) - common
            length = centred.norm(dim=1, keepdim=True)
            factor = functional.normalize(pooled) / powers.sum((2, 3)) / length
            shares.append(factor[:, :, None, None] * powers)
            constants.append(-common / length)
        if not self.textured:
            return torch.cat(shares, dim=1), torch.cat(constants, dim=1)
        moments, parts, rest = [], [], []
        for start in starts.split(self._start_channels, dim=1):
            variance, mean = torch.var_mean(start, (2, 3), correction=0)
            deviation = (variance + GEM_FLOOR).sqrt()
            positions = start[0, 0].numel()
            squares = (start - mean[:, :, None, None]).square()
            moments += [mean, deviation]
            parts += [start / positions, squares / positions / deviation[:, :, None, None]]
            rest += [torch.zeros_like(mean), GEM_FLOOR / deviation]
        length = torch.cat(moments, dim=1).norm(dim=1, keepdim=True) / TEXTURE_LENGTH
        shares.append(torch.cat(parts, dim=1) / length[:, :, None, None])
        constants.append(torch.cat(rest, dim=1) / length)
        return torch.cat(shares, dim=1), torch.cat(constants, dim=1)

    def _maps(self, photos: Tensor) -> Tensor:
        """Return the last feature maps of both networks; textured, also those at their starts.

        All of them have the resolution H/32, W/32, because the start is behind the last halving.
        """
        starts, ends = [], []
        for early, late in zip(self.early, self.late, strict=True):
            starts.append(late[0](early(photos)))
            ends.append(late[1:](starts[-1]))
        # Cubes overflow half precision.
        return torch.cat([*ends, *(starts if self.textured else [])], dim=1).float()


def embedded_network(name: str, *, pretrained: bool) -> EfficientNetLite | EfficientNetPair:
    """Make one of the package's networks.

    Args:
        name: one of `NETWORKS`.
        pretrained: load the weights of the package; otherwise they are random.

    Raises:
        LearnError: the package has no weights, or onnx is not installed.
    """
    networks, common = [], torch.zeros(2, CHANNELS)
    for row, one in enumerate((name,) if name in WIDTH_AND_DEPTH else (LITE0, LITE2)):
        networks.append(EfficientNetLite(*WIDTH_AND_DEPTH[one]))
        if pretrained:
            tensors = _tensors(one)
            _load(networks[-1], tensors)
            common[row] = tensors["common"]
    if name in WIDTH_AND_DEPTH:
        return networks[0]
    return EfficientNetPair(networks, common, textured=name == TEXTURED)


def _tensors(name: str) -> dict[str, Tensor]:
    """Read the tensors of a network from the package's ONNX file, as float32."""
    from veduta.encoders.embedded import FOLDER

    path = FOLDER / f"{name}.onnx"
    try:
        import onnx
        from onnx import numpy_helper

        initializers = onnx.load(path).graph.initializer
    except (ImportError, OSError) as error:
        raise LearnError(
            f"{readable(path)}: the package's own weights cannot be read ({error}); "
            "install veduta[train] again"
        ) from error
    return {
        one.name.removeprefix(f"{name}/").removesuffix(".f16"): torch.from_numpy(
            numpy_helper.to_array(one).astype("float32")
        )
        for one in initializers
    }


def _load(network: EfficientNetLite, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, SameConv2d):
                source = _onnx_name(name)
                weight = tensors[f"{source}.weight"]
                module.weight.copy_(weight * PIXEL_STD if name == "stem" else weight)
                module.bias.copy_(tensors[f"{source}.bias"])


def _onnx_name(name: str) -> str:
    """Return the name of a convolution in the ONNX graph.

    "blocks.3.expand" becomes "_blocks.3._expand_conv", and "stem" becomes "_conv_stem".
    """
    *parents, last = name.split(".")
    if not parents:
        return f"_conv_{last}"
    return f"_{parents[0]}.{parents[1]}._{last}_conv"


def _rounded(channels: float) -> int:
    """Return the nearest multiple of eight that is at least nine tenths of the number."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
