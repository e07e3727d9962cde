"""The photos and the results of each step, for a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from veduta.learn.augmentation import compose
from veduta.pages.transform_sheet import PHOTOS_IN_ROW, SheetRow, draw_transform_sheet, photo_box
from veduta.photos import resize

if TYPE_CHECKING:
    from PIL import Image

    from veduta.learn.augmentation.pixels import Pixels
    from veduta.learn.augmentation.steps import Step

__all__ = ["PreviewRow", "draw_preview", "preview_rows"]


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row of a preview.

    Attributes:
        name: what the row shows; with the seed it decides the draws.
        title: the name, and what the reader must know about probabilities.
        steps: that change each photo, in this order.
    """

    name: str
    title: str
    steps: tuple[Step, ...]

    @property
    def probability(self) -> float:
        """Of a photo to be changed by any of the steps."""
        return 1 - math.prod(1 - step.probability for step in self.steps)


def preview_rows(steps: Sequence[Step], *, together: bool) -> list[PreviewRow]:
    """Return a row for each step, in which it changes every photo.

    Args:
        steps: the steps.
        together: add a row for all of them, each with its own probability.
    """
    rows = []
    for step in steps:
        always = "" if step.probability == 1 else f" (probability {step.probability:g}, here 1)"
        rows.append(PreviewRow(step.text, step.text + always, (replace(step, probability=1.0),)))
    if together:
        rows.append(PreviewRow("all of them", "all of them", tuple(steps)))
    return rows


def draw_preview(
    photos: Sequence[Pixels], rows: Sequence[PreviewRow], *, seed: int = 0
) -> tuple[Image.Image, dict[str, int]]:
    """Return a sheet with the photos, and a row of results for each of `rows`.

    A tile that no step has changed says so, with the probability of a change if that is below 1.

    Args:
        photos: 1 or more, (H, W, 3) uint8. A row shows `PHOTOS_IN_ROW` of them in turn. They are
            made small before they are changed.
        rows: from `preview_rows`.
        seed: together with the name of a row it decides the draws of this row.

    Returns:
        The sheet, and the number of unchanged tiles by the name of the row.

    Raises:
        LearnError: torch or torchvision is not installed.
    """
    transforms = [compose([step.as_json() for step in row.steps]) for row in rows]
    import torch

    from veduta.learn.augmentation.pixels import as_photo, as_pixels

    box = photo_box(photos)
    small = [_fitted(photo, box) for photo in islice(cycle(photos), PHOTOS_IN_ROW)]
    sheet_rows = [SheetRow("original", small[: len(photos)])]
    unchanged = {}
    for row, transform in zip(rows, transforms, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_row_seed(seed, row.name))
            results = [as_pixels(transform(as_photo(photo))) for photo in small]
        same = [np.array_equal(photo, result) for photo, result in zip(small, results, strict=True)]
        note = _note(row.probability)
        notes = [note if one else () for one in same]
        sheet_rows.append(SheetRow(row.title, results, notes))
        unchanged[row.name] = sum(same)
    return draw_transform_sheet(sheet_rows, box), unchanged


def _note(probability: float) -> tuple[str, ...]:
    if probability == 1:
        return ("unchanged",)
    return ("unchanged:", f"probability {probability:.2g}")


def _row_seed(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "little")


def _fitted(pixels: Pixels, box: tuple[int, int]) -> Pixels:
    """Return a copy of a photo that fits into a box of (width, height)."""
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height))).copy()
