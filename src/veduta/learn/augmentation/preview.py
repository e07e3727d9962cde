"""A contact sheet of transforms: the photos, and the results of each transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.files import atomic_file
from veduta.learn.augmentation.pixels import Pixels, as_photo, as_pixels
from veduta.pages.contact_sheet import write_line
from veduta.photos import resize

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["FORMATS", "PHOTOS_IN_ROW", "draw_preview", "write_preview"]

PHOTOS_IN_ROW = 4

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Ending of a file → format of the sheet."""

JPEG_QUALITY = 92

# Sizes in pixels.
_MARGIN, _PHOTO_GAP, _TITLE_HEIGHT, _COLUMN_GAP = 28, 6, 26, 30
_TITLE_FONT_SIZE = 17
_PHOTO_HEIGHT = 150
_MIN_PHOTO_WIDTH, _MAX_PHOTO_WIDTH = 110, 210

# A sheet has three columns only if its photos are at most this wide.
_MAX_WIDTH_IN_THREE_COLUMNS = 150
_MAX_ROWS_IN_ONE_COLUMN, _MAX_ROWS_IN_TWO_COLUMNS = 3, 12

_BACKGROUND, _PHOTO_BACKGROUND, _TEXT = "#f7f6f3", "#eceae5", "#1c1b19"


def write_preview(file: Path, sheet: Image.Image) -> None:
    """Write a contact sheet.

    Args:
        file: its ending is one of `FORMATS`.
        sheet: from `draw_preview`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(file) as draft:
        sheet.save(draft, FORMATS[file.suffix.lower()], quality=JPEG_QUALITY)


def draw_preview(
    photos: Sequence[Pixels],
    transforms: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    *,
    seed: int = 0,
) -> Image.Image:
    """Return the photos, and a row of results for each transform, in up to three columns.

    Args:
        photos: 1 or more, (H, W, 3) uint8. A row shows `PHOTOS_IN_ROW` of them in turn. They are
            made small before they are transformed.
        transforms: name and transform of each row.
        seed: together with the name of a row it decides the draws of this row.
    """
    import torch
    from PIL import Image, ImageDraw

    width = max(round(_PHOTO_HEIGHT * photo.shape[1] / photo.shape[0]) for photo in photos)
    box = min(max(width, _MIN_PHOTO_WIDTH), _MAX_PHOTO_WIDTH), _PHOTO_HEIGHT
    small = [_fitted(photo, box) for photo in islice(cycle(photos), PHOTOS_IN_ROW)]
    rows: list[tuple[str, list[Pixels]]] = [("original", small[: len(photos)])]
    for name, transform in transforms:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_row_seed(seed, name))
            results = [as_pixels(transform(as_photo(photo))) for photo in small]
        rows.append((name, results))
    columns = _columns(len(rows), box[0])
    rows_in_column = -(-len(rows) // columns)
    row_width = PHOTOS_IN_ROW * (box[0] + _PHOTO_GAP) - _PHOTO_GAP
    row_height = _TITLE_HEIGHT + _PHOTO_HEIGHT + 2 * _PHOTO_GAP
    size = (
        2 * _MARGIN + columns * (row_width + _COLUMN_GAP) - _COLUMN_GAP,
        2 * _MARGIN + rows_in_column * row_height - _PHOTO_GAP,
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (name, results) in enumerate(rows):
        left = _MARGIN + number // rows_in_column * (row_width + _COLUMN_GAP)
        top = _MARGIN + number % rows_in_column * row_height
        write_line(pen, (left, top), name, row_width, _TITLE_FONT_SIZE, _TEXT)
        for i, pixels in enumerate(results):
            corner = (left + i * (box[0] + _PHOTO_GAP), top + _TITLE_HEIGHT)
            _paste(sheet, pixels, corner, box)
    return sheet


def _columns(rows: int, photo_width: int) -> int:
    if rows <= _MAX_ROWS_IN_ONE_COLUMN:
        return 1
    if rows <= _MAX_ROWS_IN_TWO_COLUMNS or photo_width > _MAX_WIDTH_IN_THREE_COLUMNS:
        return 2
    return 3


def _row_seed(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "little")


def _fitted(pixels: Pixels, box: tuple[int, int]) -> Pixels:
    """Return a copy of a photo that fits into a box of (width, height)."""
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height))).copy()


def _paste(
    sheet: Image.Image, pixels: Pixels, corner: tuple[int, int], box: tuple[int, int]
) -> None:
    """Paste a photo into the middle of a box."""
    from PIL import Image

    left, top = corner
    sheet.paste(_PHOTO_BACKGROUND, (left, top, left + box[0], top + box[1]))
    height, width = pixels.shape[:2]
    inset = left + (box[0] - width) // 2, top + (box[1] - height) // 2
    sheet.paste(Image.fromarray(pixels), inset)
