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

from veduta.learn.augmentation import blur, colour, cropping, edges, morphology, noise
from veduta.learn.augmentation.geometry import Warp
from veduta.learn.augmentation.random_draws import happens, symmetric, up_to

__all__ = ["FUNCTIONS", "Effect", "compose_steps"]

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
        cropping.crop,
        cropping.pad,
        cropping.resize,
        cropping.superpixels,
    )
}
"""Word → function from uint8 (3, H, W) and a strength to uint8 (3, H, W), except for geometry."""

_DRAWS: dict[str, Callable[[float], float]] = {
    "both ways": symmetric,
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


class _ContiguousPhoto(v2.Transform):  # type: ignore[misc]
    """Refuses anything but a photo, and returns it contiguous."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, Tensor) or inpt.dtype != torch.uint8 or inpt.ndim != 3:
            raise TypeError("expected a photo: a uint8 tensor of shape (3, H, W)")
        if inpt.shape[0] != 3 or not inpt.numel():
            raise TypeError(f"expected a photo of shape (3, H, W), not {tuple(inpt.shape)}")
        return inpt.contiguous()


def compose_steps(steps: Sequence[Step]) -> v2.Transform:
    """Return the steps as one transform. Neighbouring geometric steps become one warp."""
    transforms: list[v2.Transform] = [_ContiguousPhoto()]
    for is_geometry, group in groupby(steps, key=lambda step: step.word.kind == "geometry"):
        neighbours = list(group)
        transforms += [Warp(neighbours)] if is_geometry else map(Effect, neighbours)
    return v2.Compose([*transforms, _ContiguousPhoto()])
