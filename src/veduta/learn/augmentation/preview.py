"""The photos and the results of each transform, for a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import cycle, islice
from typing import TYPE_CHECKING

from veduta.learn.augmentation.pixels import Pixels, as_photo, as_pixels
from veduta.pages.transform_sheet import PHOTOS_IN_ROW, draw_transform_sheet, photo_box
from veduta.photos import resize

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["draw_preview"]


def draw_preview(
    photos: Sequence[Pixels],
    transforms: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    *,
    seed: int = 0,
) -> Image.Image:
    """Return a sheet with the photos, and a row of results for each transform.

    Args:
        photos: 1 or more, (H, W, 3) uint8. A row shows `PHOTOS_IN_ROW` of them in turn. They are
            made small before they are transformed.
        transforms: name and transform of each row.
        seed: together with the name of a row it decides the draws of this row.
    """
    import torch

    box = photo_box(photos)
    small = [_fitted(photo, box) for photo in islice(cycle(photos), PHOTOS_IN_ROW)]
    rows: list[tuple[str, list[Pixels]]] = [("original", small[: len(photos)])]
    for name, transform in transforms:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_row_seed(seed, name))
            results = [as_pixels(transform(as_photo(photo))) for photo in small]
        rows.append((name, results))
    return draw_transform_sheet(rows, box)


def _row_seed(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "little")


def _fitted(pixels: Pixels, box: tuple[int, int]) -> Pixels:
    """Return a copy of a photo that fits into a box of (width, height)."""
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height))).copy()
