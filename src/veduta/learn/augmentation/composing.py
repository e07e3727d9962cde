"""Steps as one torchvision transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from veduta.errors import LearnError
from veduta.learn.augmentation.steps import Step

try:
    import torch
    from torch import Tensor
    from torchvision.transforms import v2
except ImportError as error:
    raise LearnError(
        f"augmentation needs torch and torchvision ({error}): pip install 'veduta[train]'"
    ) from error

from veduta.learn.augmentation import blur, colour, edges, framing, morphology, noise
from veduta.learn.augmentation.chance import both_ways, happens, up_to
from veduta.learn.augmentation.geometry import Warp

__all__ = ["FUNCTIONS", "Effect", "composed"]

Function = Callable[[Tensor, float], Tensor]

FUNCTIONS: dict[str, Function] = {
    function.__name__.replace("_", "-"): function
    for function in (
        colour.brightness,
        colour.light,
        colour.contrast,
        colour.saturation,
        colour.sharpness,
        colour.grey,
        noise.gaussian_noise,
        noise.salt_and_pepper,
        noise.pepper,
        noise.paper_noise,
        blur.average_blur,
        blur.median_blur,
        blur.gaussian_blur,
        blur.bilateral_blur,
        morphology.black_hat,
        morphology.top_hat,
        morphology.erosion,
        morphology.dilation,
        morphology.opening,
        morphology.gradient,
        edges.canny,
        edges.edges,
        framing.crop,
        framing.pad,
        framing.resize,
        framing.superpixels,
    )
}
"""Of every word but the geometric ones: uint8 (3, H, W) and a strength to uint8 (3, H, W)."""

_DRAWS: dict[str, Callable[[float], float]] = {
    "both ways": both_ways,
    "up to": up_to,
    "exactly": float,
}


class Effect(v2.Transform):  # type: ignore[misc]
    """One step: its function, with a strength drawn for each photo."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.function = FUNCTIONS[step.word.name]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw whether the photo is changed, and how strongly."""
        if not happens(self.step.probability):
            return {"strength": None}
        return {"strength": _DRAWS[self.step.word.drawn](float(self.step.value))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change one photo."""
        return inpt if params["strength"] is None else self.function(inpt, params["strength"])


class _Photo(v2.Transform):  # type: ignore[misc]
    """Lets photos pass and refuses anything else; at the end, lays out planes again."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, Tensor) or inpt.dtype != torch.uint8 or inpt.ndim != 3:
            raise TypeError("a photo is wanted: a uint8 tensor of shape (3, H, W)")
        if inpt.shape[0] != 3 or not inpt.numel():
            raise TypeError(f"a photo of shape (3, H, W) is wanted, not {tuple(inpt.shape)}")
        return inpt.contiguous()


def composed(steps: Sequence[Step]) -> v2.Transform:
    """Return the steps as one transform, geometric ones that stand together as one warp."""
    made: list[v2.Transform] = [_Photo()]
    for geometric, group in groupby(steps, key=lambda step: step.word.kind == "geometry"):
        together = list(group)
        made += [Warp(together)] if geometric else map(Effect, together)
    return v2.Compose([*made, _Photo()])
