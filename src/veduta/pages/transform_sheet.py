"""The contact sheet of transforms: a row of photos for each transform, as PNG or JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.files import atomic_file
from veduta.pages.contact_sheet import write_line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = [
    "FORMATS",
    "PHOTOS_IN_ROW",
    "SheetRow",
    "draw_transform_sheet",
    "photo_box",
    "write_transform_sheet",
]

PHOTOS_IN_ROW = 4

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Ending of a file → format of the sheet."""

_JPEG_QUALITY = 92

# Sizes in pixels.
_MARGIN, _PHOTO_GAP, _TITLE_HEIGHT, _COLUMN_GAP = 28, 6, 26, 30
_TITLE_FONT_SIZE, _NOTE_FONT_SIZE = 17, 13
_NOTE_LINE_HEIGHT, _NOTE_MARGIN = 17, 4
_PHOTO_HEIGHT = 150
_MIN_PHOTO_WIDTH, _MAX_PHOTO_WIDTH = 110, 210

# A sheet has three columns only if its photos are at most this wide.
_MAX_WIDTH_IN_THREE_COLUMNS = 150
_MAX_ROWS_IN_ONE_COLUMN, _MAX_ROWS_IN_TWO_COLUMNS = 3, 12

_BACKGROUND, _PHOTO_BACKGROUND, _TEXT = "#f7f6f3", "#eceae5", "#1c1b19"

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of a sheet.

    Attributes:
        title: above the photos.
        photos: up to `PHOTOS_IN_ROW`, none larger than the box.
        notes: lines that are written over each photo; none for most. Empty: no notes at all.
    """

    title: str
    photos: Sequence[Pixels]
    notes: Sequence[Sequence[str]] = ()


def photo_box(photos: Sequence[Pixels]) -> tuple[int, int]:
    """Return the width and height, in pixels, of the box that shows each photo."""
    width = max(round(_PHOTO_HEIGHT * photo.shape[1] / photo.shape[0]) for photo in photos)
    return min(max(width, _MIN_PHOTO_WIDTH), _MAX_PHOTO_WIDTH), _PHOTO_HEIGHT


def draw_transform_sheet(rows: Sequence[SheetRow], box: tuple[int, int]) -> Image.Image:
    """Return the rows below each other, in up to three columns.

    Args:
        rows: at least one.
        box: from `photo_box`.
    """
    from PIL import Image, ImageDraw

    columns = _columns(len(rows), box[0])
    rows_in_column = -(-len(rows) // columns)
    row_width = PHOTOS_IN_ROW * (box[0] + _PHOTO_GAP) - _PHOTO_GAP
    row_height = _TITLE_HEIGHT + box[1] + 2 * _PHOTO_GAP
    size = (
        2 * _MARGIN + columns * (row_width + _COLUMN_GAP) - _COLUMN_GAP,
        2 * _MARGIN + rows_in_column * row_height - _PHOTO_GAP,
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left = _MARGIN + number // rows_in_column * (row_width + _COLUMN_GAP)
        top = _MARGIN + number % rows_in_column * row_height
        write_line(pen, (left, top), row.title, row_width, _TITLE_FONT_SIZE, _TEXT)
        for position, photo in enumerate(row.photos):
            corner = (left + position * (box[0] + _PHOTO_GAP), top + _TITLE_HEIGHT)
            _paste(sheet, photo, corner, box)
            if row.notes and row.notes[position]:
                _write_note(pen, row.notes[position], corner, box)
    return sheet


def write_transform_sheet(file: Path, sheet: Image.Image) -> None:
    """Write a sheet.

    Args:
        file: its ending is one of `FORMATS`.
        sheet: from `draw_transform_sheet`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(file) as draft:
        sheet.save(draft, FORMATS[file.suffix.lower()], quality=_JPEG_QUALITY)


def _columns(rows: int, photo_width: int) -> int:
    if rows <= _MAX_ROWS_IN_ONE_COLUMN:
        return 1
    if rows <= _MAX_ROWS_IN_TWO_COLUMNS or photo_width > _MAX_WIDTH_IN_THREE_COLUMNS:
        return 2
    return 3


def _paste(
    sheet: Image.Image, photo: Pixels, corner: tuple[int, int], box: tuple[int, int]
) -> None:
    """Paste a photo into the middle of a box."""
    from PIL import Image

    left, top = corner
    sheet.paste(_PHOTO_BACKGROUND, (left, top, left + box[0], top + box[1]))
    height, width = photo.shape[:2]
    inset = left + (box[0] - width) // 2, top + (box[1] - height) // 2
    sheet.paste(Image.fromarray(photo), inset)


def _write_note(
    pen: ImageDraw.ImageDraw, lines: Sequence[str], corner: tuple[int, int], box: tuple[int, int]
) -> None:
    """Write lines on a bar over the lower end of a box."""
    left, bottom = corner[0], corner[1] + box[1]
    top = bottom - len(lines) * _NOTE_LINE_HEIGHT - 2 * _NOTE_MARGIN
    pen.rectangle([left, top, left + box[0] - 1, bottom - 1], fill=_TEXT)
    for number, line in enumerate(lines):
        at = (left + _NOTE_MARGIN, top + _NOTE_MARGIN + number * _NOTE_LINE_HEIGHT)
        write_line(pen, at, line, box[0] - 2 * _NOTE_MARGIN, _NOTE_FONT_SIZE, _BACKGROUND)
