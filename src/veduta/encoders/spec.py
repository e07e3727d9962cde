"""Everything that decides an encoder's descriptors: one frozen description, and its identity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from veduta.errors import EncoderError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EncoderSpec", "Fit", "Layout", "Pooling"]

Layout = Literal["uint8-nhwc", "float-nchw", "float-nhwc"]
Fit = Literal["aspect", "crop", "squash"]
Pooling = Literal["graph", "gem", "average", "cls", "mean_tokens"]

# Raise this when the code changes descriptors although no field of `EncoderSpec` changes. Then an
# index from before the change is refused.
CODE_VERSION = 1

MAX_SIDE = 4096
"""Pixels of a side that a network may get."""

MAX_SIZES = 16

LEAST, LARGEST = 1e-6, 1e6
"""The range of factors. Outside of it the arithmetic of 32 bits overflows."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that decides a descriptor: weights, preprocessing, pooling.

    Attributes:
        name: what the user asks for. It is no part of the identity.
        model: the ONNX file. Its path is no part of the identity; its bytes are.
        sha256: of the model file (and of the weights file beside it, if it has one), hex.
        layout: what the graph takes: `uint8-nhwc` is RGB bytes (N, H, W, 3), normalised inside the
            graph; `float-nchw` and `float-nhwc` are `(rgb * scale - mean) / std`.
        sizes: pairs (pixels, weight). The unit descriptors of all sizes are added by weight.
            Pixels are the long side for the fit `aspect`, else the side of the square.
        fit: `aspect` keeps the shape of the photo, with both sides rounded to a multiple of
            `stride`; `crop` takes the centre square, `keep` of the short side; `squash` makes the
            photo square.
        stride: multiple of pixels that both sides get with `aspect`.
        keep: share [0.01, 1] of the short side that `crop` keeps.
        scale: factor on the bytes (0-255), usually 1/255.
        mean: per channel RGB, subtracted after `scale`.
        std: per channel RGB, divided by.
        pooling: how the output becomes a vector: with `graph` the output is the vector (N, D); a
            feature map (N, C, h, w) has `gem` (Radenović, Tolias and Chum, 2018) or `average`;
            tokens (N, T, C) have `cls`, the first one, or `mean_tokens`, the mean of the others.
        gem_p: the power of `gem`.
        output: name of the graph's output.

    Raises:
        EncoderError: a field is out of its range.
    """

    name: str
    model: Path
    sha256: str
    layout: Layout
    sizes: tuple[tuple[int, float], ...]
    output: str
    fit: Fit = "aspect"
    stride: int = 32
    keep: float = 1.0
    scale: float = 1 / 255
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    pooling: Pooling = "graph"
    gem_p: float = 3.0

    def __post_init__(self) -> None:
        wrong = [
            text
            for broken, text in (
                (not self.sizes, "no size is given"),
                (any(side < 1 for side, _ in self.sizes), "a size is below 1 pixel"),
                (
                    any(side > MAX_SIDE for side, _ in self.sizes),
                    f"a size is above {MAX_SIDE} pixels",
                ),
                (len(self.sizes) > MAX_SIZES, f"there are more than {MAX_SIZES} sizes"),
                (
                    any(not LEAST <= weight <= LARGEST for _, weight in self.sizes),
                    f"a size's weight is not in [{LEAST:g}, {LARGEST:g}]",
                ),
                (self.stride < 1, "the stride is below 1 pixel"),
                (self.stride > MAX_SIDE, f"the stride is above {MAX_SIDE} pixels"),
                (not 0.01 <= self.keep <= 1, "the kept share of the crop is not in [0.01, 1]"),
                (not LEAST <= self.gem_p <= 100, f"the power of gem is not in [{LEAST:g}, 100]"),
                (not abs(self.scale) <= LARGEST, f"the scale is above {LARGEST:g}"),
                (any(not abs(x) <= LARGEST for x in self.mean), f"a mean is above {LARGEST:g}"),
                (
                    any(not LEAST <= x <= LARGEST for x in self.std),
                    f"a standard deviation is not in [{LEAST:g}, {LARGEST:g}]",
                ),
            )
            if broken
        ]
        if wrong:
            raise EncoderError(f"encoder {self.name!r}: {', '.join(wrong)}")

    @cached_property
    def identity(self) -> str:
        """16 hex digits: BLAKE3 over everything that changes a descriptor, and nothing else."""
        from blake3 import blake3

        total = sum(weight for _, weight in self.sizes)
        recipe: dict[str, object] = {
            "recipe": CODE_VERSION,
            "sha256": self.sha256.lower(),
            "layout": self.layout,
            # Only the ratio of the weights has an effect on a unit descriptor.
            "sizes": [[int(side), float(weight) / total] for side, weight in self.sizes],
            "fit": self.fit,
            "pooling": self.pooling,
            "output": self.output,
        }
        if self.fit == "aspect":
            recipe["stride"] = int(self.stride)
        if self.fit == "crop":
            recipe["keep"] = float(self.keep)
        if self.layout != "uint8-nhwc":
            recipe["scale"] = float(self.scale)
            recipe["mean"] = [float(value) for value in self.mean]
            recipe["std"] = [float(value) for value in self.std]
        if self.pooling == "gem":
            recipe["gem_p"] = float(self.gem_p)
        canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
        return blake3(canonical.encode()).hexdigest()[:16]
