"""The contact sheet of a description: some photos of each of some classes, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from veduta.pages.class_samples import Row
from veduta.pages.contact_sheet import paste_photo, write_line

__all__ = ["write_class_sheet"]

_MARGIN, _GAP = 28, 12
_WIDTH, _HEIGHT = 180, 135
_TITLE = 34
_PAPER, _INK = "#f7f6f3", "#1c1b19"


def write_class_sheet(file: Path, rows: Sequence[Row]) -> None:
    """Draw a row of photos for each class and write the picture to `file`.

    Raises `OSError` when it cannot be written.
    """
    from PIL import Image, ImageDraw

    columns = max(len(row.pictures) for row in rows)
    width = 2 * _MARGIN + columns * (_WIDTH + _GAP) - _GAP
    step = _TITLE + _HEIGHT + _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + len(rows) * step - _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _MARGIN + number * step
        write_line(pen, (_MARGIN, top), f"{row.title} · {row.note}", width - 2 * _MARGIN, 20, _INK)
        for at, picture in enumerate(row.pictures):
            left = _MARGIN + at * (_WIDTH + _GAP)
            paste_photo(sheet, picture.jpeg, (left, top + _TITLE), (_WIDTH, _HEIGHT))
    sheet.save(file, "PNG")
