"""A contact sheet of transforms: the photos, then what each transform makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.learn.augmentation.pixels import Pixels, as_photo, as_pixels
from veduta.pages.contact_sheet import write_line
from veduta.photos import resize

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["DRAWS", "ENDINGS", "draw_sheet", "write_sheet"]

DRAWS = 4
"""Pictures of a row."""

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Of the file → its format."""

_MARGIN, _GAP, _TITLE, _BETWEEN = 28, 6, 26, 30
_HEIGHT = 150
_NARROWEST, _NARROW, _WIDEST = 110, 150, 210
_PAPER, _WELL, _INK = "#f7f6f3", "#eceae5", "#1c1b19"


def write_sheet(file: Path, sheet: Image.Image) -> None:
    """Write a sheet as its file's name says, one of `ENDINGS`; raises OSError if it cannot be."""
    sheet.save(file, ENDINGS[file.suffix.lower()], quality=92)


def draw_sheet(
    photos: Sequence[Pixels],
    rows: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    *,
    seed: int = 0,
) -> Image.Image:
    """Return the photos, then a row of draws for each transform, in up to three columns.

    Args:
        photos: 1 or more, (H, W, 3) uint8; a row has `DRAWS` pictures of them in turn. They are
            made as small as they are shown before they are transformed.
        rows: name and transform of each.
        seed: with a row's name it decides the row's draws, whatever the rows above it are.
    """
    import torch
    from PIL import Image, ImageDraw

    width = max(round(_HEIGHT * photo.shape[1] / photo.shape[0]) for photo in photos)
    box = min(max(width, _NARROWEST), _WIDEST), _HEIGHT
    small = [_fitted(photo, box) for photo in islice(cycle(photos), DRAWS)]
    blocks: list[tuple[str, list[Pixels]]] = [("as it is", small[: len(photos)])]
    for name, transform in rows:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed_of(seed, name))
            made = [as_pixels(transform(as_photo(photo))) for photo in small]
        blocks.append((name, made))
    across = 1 if len(blocks) <= 3 else 2 if len(blocks) <= 12 or box[0] > _NARROW else 3
    wide, high = DRAWS * (box[0] + _GAP) - _GAP, _TITLE + _HEIGHT + 2 * _GAP
    down = -(-len(blocks) // across)
    size = 2 * _MARGIN + across * (wide + _BETWEEN) - _BETWEEN, 2 * _MARGIN + down * high - _GAP
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (name, pictures) in enumerate(blocks):
        left = _MARGIN + number // down * (wide + _BETWEEN)
        top = _MARGIN + number % down * high
        write_line(pen, (left, top), name, wide, 17, _INK)
        for at, picture in enumerate(pictures):
            _paste(sheet, picture, (left + at * (box[0] + _GAP), top + _TITLE), box)
    return sheet


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "little")


def _fitted(pixels: Pixels, box: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height))).copy()


def _paste(
    sheet: Image.Image, picture: Pixels, place: tuple[int, int], box: tuple[int, int]
) -> None:
    from PIL import Image

    left, top = place
    sheet.paste(_WELL, (left, top, left + box[0], top + box[1]))
    height, width = picture.shape[:2]
    inset = left + (box[0] - width) // 2, top + (box[1] - height) // 2
    sheet.paste(Image.fromarray(picture), inset)
