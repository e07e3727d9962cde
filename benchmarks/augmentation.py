"""Milliseconds a photo of each augmentation, on one core.

The photo is noise of several sizes, so that it has edges and patches. Each augmentation has its
default value and is always applied. "Keras' five and brightness" is what a training step of the
monument and competition recipes does. Its peer are torchvision's own transforms of the same
strength, which fill with a constant and warp once for the affine part.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.report import MedianAndRange, parser, publish, table
from veduta.learn.augmentation import compose
from veduta.learn.augmentation.catalogue import WORDS

KERAS = (
    {"rotation": 40},
    {"shift": 0.2},
    {"shear": 20},
    {"zoom": 0.2},
    {"flip": "horizontal"},
    {"brightness": 0.2},
)


def main(arguments: list[str] | None = None) -> None:
    options = parser("augmentation", __doc__)
    options.add_argument("--side", type=int, default=256)
    options.add_argument("--photos", type=int, default=50, help="of each round")
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args(arguments)

    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    photo = noise_photo(chosen.side)
    milliseconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(chosen.rounds + 1):
        for name, transform in transforms().items():
            photos = max(1, chosen.photos // 25) if name == "superpixels" else chosen.photos
            started = time.perf_counter()
            for _ in range(photos):
                transform(photo)
            if turn:  # The first round is a warm-up.
                milliseconds[name].append((time.perf_counter() - started) / photos * 1000)
    lines = [[name, MedianAndRange.of(values)] for name, values in milliseconds.items()]
    note = (
        f"{chosen.side} × {chosen.side} pixels, one core; median (smallest–largest) of "
        f"{chosen.rounds} rounds of {chosen.photos}."
    )
    publish(
        "augmentation", f"{table(['augmentation', 'ms a photo'], lines)}\n\n{note}", chosen.docs
    )


def noise_photo(side: int) -> Tensor:
    """Return a uint8 photo (3, `side`, `side`) of coarse and fine noise."""
    sizes = [max(1, side // step) for step in (64, 16, 4, 1)]
    layers = [
        torch.nn.functional.interpolate(torch.rand(1, 3, size, size), (side, side))
        for size in sizes
    ]
    return (torch.stack(layers).mean(0)[0] * 255).to(torch.uint8)


def transforms() -> dict[str, Callable[[Tensor], Tensor]]:
    by_name = {name: compose([{name: True, "probability": 1}]) for name in WORDS}
    by_name["Keras' five and brightness"] = compose(KERAS)
    by_name["the same, torchvision's own"] = v2.Compose(
        [
            v2.RandomAffine(
                40,
                translate=(0.2, 0.2),
                scale=(0.8, 1.2),
                shear=20,
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2),
        ]
    )
    return by_name


if __name__ == "__main__":
    main()
