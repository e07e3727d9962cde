"""The contact sheet of a description: some photos of each of some classes, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from veduta.files import write_bytes
from veduta.pages.contact_sheet import paste_photo, write_line
from veduta.pages.photo_rows import PhotoRow

__all__ = ["write_class_sheet"]

# Pixels
_MARGIN, _GAP = 28, 12
_PHOTO_WIDTH, _PHOTO_HEIGHT = 180, 135
_TITLE_HEIGHT, _TITLE_SIZE = 34, 20
_PAPER, _INK = "#f7f6f3", "#1c1b19"


def write_class_sheet(file: Path, rows: Sequence[PhotoRow]) -> None:
    """Draw a row of photos for each class and write the picture as PNG.

    Args:
        file: it appears complete or not at all.
        rows: one or more, each with a photo or more.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    columns = max(len(row.photos) for row in rows)
    width = 2 * _MARGIN + columns * (_PHOTO_WIDTH + _GAP) - _GAP
    pitch = _TITLE_HEIGHT + _PHOTO_HEIGHT + _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + len(rows) * pitch - _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _MARGIN + number * pitch
        title = f"{row.title} · {row.note}"
        write_line(pen, (_MARGIN, top), title, width - 2 * _MARGIN, _TITLE_SIZE, _INK)
        for column, photo in enumerate(row.photos):
            corner = (_MARGIN + column * (_PHOTO_WIDTH + _GAP), top + _TITLE_HEIGHT)
            paste_photo(sheet, photo.jpeg, corner, (_PHOTO_WIDTH, _PHOTO_HEIGHT))
    png = io.BytesIO()
    sheet.save(png, "PNG")
    write_bytes(file, png.getvalue())
