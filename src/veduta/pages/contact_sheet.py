"""Draw a contact sheet: each query with its ten nearest photos, as one PNG.

Right and wrong differ in shape, a circle and a cross, as well as in colour.
"""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from veduta.files import write_bytes
from veduta.pages.hit import HitTile
from veduta.pages.results_page import ResultRow
from veduta.text import printable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["MAX_ROWS", "draw_sheet", "paste_photo", "wrapped", "write_line", "write_sheet"]

MAX_ROWS = 60
"""Rows of one sheet. More rows take too much memory, and nobody can read such a picture."""

_COLUMNS, _MAX_TILES = 5, 10

# Sizes are in pixels.
_MARGIN, _GAP, _ROW_GAP = 36, 18, 30
_QUERY_WIDTH, _QUERY_HEIGHT = 300, 310
_TILE_WIDTH, _TILE_HEIGHT = 200, 150
_LINE_HEIGHT = 21
_CAPTION_HEIGHT = 3 * _LINE_HEIGHT + 8
_TITLE_HEIGHT = 56
_MARK_SIDE = 20

_OVERSAMPLING = 4
"""Marks are drawn this many times larger and made smaller, which smooths their edges."""

_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "LiberationSans-Regular.ttf")

_PAPER, _EMPTY, _RULE = "#f7f6f3", "#eceae5", "#dedbd4"
_INK, _MUTED = "#1c1b19", "#66625b"
_RIGHT, _WRONG = "#00735a", "#b23a0e"


def write_sheet(
    file: str | os.PathLike[str], rows: Sequence[ResultRow], *, title: str = ""
) -> None:
    """Draw rows and write them as PNG; the file appears complete or not at all.

    Args:
        file: the file to write.
        rows: queries with their photos.
        title: a line above them.

    Raises:
        ValueError: there is no row, or there are more than `MAX_ROWS`.
        OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    draw_sheet(rows, title=title).save(picture, "PNG")
    write_bytes(file, picture.getvalue())


def draw_sheet(rows: Sequence[ResultRow], *, title: str = "") -> Image.Image:
    """Return rows one below the other: the query at the left, its first ten photos in two lines.

    Text beyond ASCII is drawn with a font of this machine if it has one of the usual fonts, and
    otherwise with the font of Pillow, without accents. Characters that the font does not have are
    empty boxes.

    Args:
        rows: queries with their photos.
        title: a line above them.

    Returns:
        The picture.

    Raises:
        ValueError: there is no row, or there are more than `MAX_ROWS`.
    """
    from PIL import Image, ImageDraw

    if not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"{len(rows)} rows; wanted 1 to {MAX_ROWS}")
    width = 2 * _MARGIN + _QUERY_WIDTH + 2 * _GAP + _COLUMNS * (_TILE_WIDTH + _GAP) - _GAP
    top = _MARGIN + (_TITLE_HEIGHT if title else 0)
    heights = [_row_height(row) for row in rows]
    height = top + sum(heights) + (len(rows) - 1) * _ROW_GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        write_line(pen, (_MARGIN, _MARGIN - 6), title, width - 2 * _MARGIN, 30, _INK)
    for number, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        if number:
            rule = top - _ROW_GAP // 2
            pen.line([(_MARGIN, rule), (width - _MARGIN, rule)], fill=_RULE)
        _draw_row(sheet, pen, row, top)
        top += row_height + _ROW_GAP
    return sheet


def _row_height(row: ResultRow) -> int:
    lines = 2 if len(row.tiles) > _COLUMNS else 1
    tiles = lines * (_TILE_HEIGHT + _CAPTION_HEIGHT + _GAP) - _GAP
    return max(
        tiles, _query_size(row.photo)[1] + 8 + (1 + len(_query_lines(row))) * _LINE_HEIGHT + 3
    )


def _query_lines(row: ResultRow) -> list[str]:
    return [line for line in (row.label, *row.note.split(" · ")) if line][:4]


def _query_size(jpeg: bytes | None) -> tuple[int, int]:
    """Return the width and height of the query's picture on the sheet."""
    from PIL import Image

    if jpeg is None:
        return _QUERY_WIDTH, _QUERY_WIDTH // 2
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as photo:
        scale = min(_QUERY_WIDTH / photo.width, _QUERY_HEIGHT / photo.height)
        return max(1, round(photo.width * scale)), max(1, round(photo.height * scale))


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: ResultRow, top: int) -> None:
    size = _query_size(row.photo)
    paste_photo(sheet, row.photo, (_MARGIN, top), size)
    left, below = _MARGIN, top + size[1] + 8
    write_line(pen, (left, below), row.name, _QUERY_WIDTH, 18, _INK)
    for number, line in enumerate(_query_lines(row), start=1):
        write_line(pen, (left, below + number * _LINE_HEIGHT + 3), line, _QUERY_WIDTH, 15, _MUTED)
    for number, tile in enumerate(row.tiles[:_MAX_TILES]):
        across, down = number % _COLUMNS, number // _COLUMNS
        x = _MARGIN + _QUERY_WIDTH + 2 * _GAP + across * (_TILE_WIDTH + _GAP)
        y = top + down * (_TILE_HEIGHT + _CAPTION_HEIGHT + _GAP)
        _draw_tile(sheet, pen, tile, number + 1, (x, y))


def _draw_tile(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    tile: HitTile,
    rank: int,
    position: tuple[int, int],
) -> None:
    x, y = position
    paste_photo(sheet, tile.thumbnail, position, (_TILE_WIDTH, _TILE_HEIGHT))
    caption = y + _TILE_HEIGHT + 8
    write_line(pen, (x, caption), str(rank), 30, 16, _INK)
    if tile.correct is not None:
        colour, mask = _mark(tile.correct)
        sheet.paste(colour, (x + 26, caption - 1), mask)
    score = f"{tile.score:.3f}"
    score_width = round(_font(15).getlength(score))
    write_line(pen, (x + _TILE_WIDTH - score_width, caption), score, score_width + 1, 15, _MUTED)
    write_line(pen, (x, caption + _LINE_HEIGHT), tile.name, _TILE_WIDTH, 15, _INK)
    if tile.label is not None:
        write_line(pen, (x, caption + 2 * _LINE_HEIGHT - 2), tile.label, _TILE_WIDTH, 15, _MUTED)


def paste_photo(
    sheet: Image.Image, jpeg: bytes | None, position: tuple[int, int], size: tuple[int, int]
) -> None:
    """Paste a whole photo into the middle of a box; without a photo the box stays empty.

    Args:
        sheet: the picture to change.
        jpeg: the photo, or None.
        position: of the left upper corner of the box, in pixels.
        size: width and height of the box, in pixels.
    """
    from PIL import Image, ImageOps

    sheet.paste(_EMPTY, (*position, position[0] + size[0], position[1] + size[1]))
    if jpeg is None:
        return
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as photo:
        small = ImageOps.contain(photo.convert("RGB"), size, Image.Resampling.LANCZOS)
    inset = ((size[0] - small.width) // 2, (size[1] - small.height) // 2)
    sheet.paste(small, (position[0] + inset[0], position[1] + inset[1]))


@cache
def _mark(correct: bool) -> tuple[Image.Image, Image.Image]:
    """Return the circle or the cross: a square of its colour, and the mask of its shape."""
    from PIL import Image, ImageDraw

    side = _MARK_SIDE * _OVERSAMPLING
    stroke = side // 7
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    near, far = side // 8, side - side // 8
    if correct:
        pen.ellipse([near, near, far, far], outline=255, width=stroke)
    else:
        near, far = near + stroke // 2, far - stroke // 2
        pen.line([(near, near), (far, far)], fill=255, width=stroke)
        pen.line([(near, far), (far, near)], fill=255, width=stroke)
    mask = mask.resize((_MARK_SIDE, _MARK_SIDE), Image.Resampling.LANCZOS)
    return Image.new("RGB", (_MARK_SIDE, _MARK_SIDE), _RIGHT if correct else _WRONG), mask


def write_line(
    pen: ImageDraw.ImageDraw,
    position: tuple[int, int],
    text: str,
    width: int,
    size: int,
    colour: str,
) -> None:
    """Write one line; the middle of a text that is too long is left out.

    Args:
        pen: draws on the picture.
        position: of the left upper corner of the line, in pixels.
        text: any text.
        width: the largest width, in pixels.
        size: of the font.
        colour: as Pillow takes it.
    """
    font, shown = _font_and_text(text, size)
    if font.getlength(shown) > width:
        shorter, longer = 0, len(shown)
        while longer - shorter > 1:
            middle = (shorter + longer) // 2
            if font.getlength(_shorten(shown, middle)) <= width:
                shorter = middle
            else:
                longer = middle
        shown = _shorten(shown, shorter)
    pen.text(position, shown, font=font, fill=colour)


def wrapped(text: str, width: int, size: int) -> list[str]:
    """Divide a text into lines, between words.

    Args:
        text: any text.
        width: the largest width of a line, in pixels. A word that is wider stands alone.
        size: of the font.
    """
    lines: list[str] = []
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        font, shown = _font_and_text(longer, size)
        if lines and font.getlength(shown) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font_and_text(
    text: str, size: int
) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, str]:
    """Return a font, and what it can show of a text."""
    shown = printable(text)
    if shown.isascii():
        return _font(size), shown
    wide = _wide_font(size)
    return (wide, shown) if wide else (_font(size), _without_accents(shown))


def _shorten(text: str, length: int) -> str:
    head = (length + 1) // 2
    tail = length - head
    return text[:head] + "..." + (text[-tail:] if tail else "")


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


@cache
def _wide_font(size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of this machine with more letters than the font of Pillow, or None."""
    from PIL import ImageFont

    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
