"""The picture of results: each query with its ten nearest photos, as one PNG for a report.

Right and wrong are told by shape, a circle and a cross, and by colour only after that.
"""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.pages.hit import HitTile
from veduta.pages.results_page import ResultRow
from veduta.text import printable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["MOST_ROWS", "draw_sheet", "paste_photo", "write_line", "write_sheet"]

MOST_ROWS = 60
"""Rows of one sheet; with more, the bitmap takes too much memory for a picture nobody can read."""

_COLUMNS, _TILES = 5, 10
_MARGIN, _GAP, _ROW_GAP = 36, 18, 30
_QUERY_WIDTH, _QUERY_HEIGHT = 300, 310
_TILE_WIDTH, _TILE_HEIGHT = 200, 150
_LINE = 21
_TILE_CAPTION = 3 * _LINE + 8
_TITLE_SPACE = 56
_MARK = 20
_OVERSAMPLING = 4

_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "LiberationSans-Regular.ttf")

_PAPER, _WELL, _RULE = "#f7f6f3", "#eceae5", "#dedbd4"
_INK, _MUTED = "#1c1b19", "#66625b"
_RIGHT, _WRONG = "#00735a", "#b23a0e"


def write_sheet(
    file: str | os.PathLike[str], rows: Sequence[ResultRow], *, title: str = ""
) -> None:
    """Draw the rows and write them to `file` as PNG.

    Raises `ValueError` for no row and for more than `MOST_ROWS`, `OSError` when the file cannot be
    written.
    """
    picture = io.BytesIO()
    draw_sheet(rows, title=title).save(picture, "PNG")
    Path(file).write_bytes(picture.getvalue())


def draw_sheet(rows: Sequence[ResultRow], *, title: str = "") -> Image.Image:
    """Return the rows one below the other: the query at the left, its first ten in two lines.

    Text beyond ASCII is set in a font of this machine if one of the usual ones is there, in
    Pillow's own without accents if not. Characters that the font lacks come out as empty boxes.

    Raises `ValueError` for no row and for more than `MOST_ROWS`.
    """
    from PIL import Image, ImageDraw

    if not 1 <= len(rows) <= MOST_ROWS:
        raise ValueError(f"{len(rows)} rows; wanted 1 to {MOST_ROWS}")
    width = 2 * _MARGIN + _QUERY_WIDTH + 2 * _GAP + _COLUMNS * (_TILE_WIDTH + _GAP) - _GAP
    top = _MARGIN + (_TITLE_SPACE if title else 0)
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
    tiles = lines * (_TILE_HEIGHT + _TILE_CAPTION + _GAP) - _GAP
    return max(tiles, _query_size(row.photo)[1] + 8 + (1 + len(_query_lines(row))) * _LINE + 3)


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
        write_line(pen, (left, below + number * _LINE + 3), line, _QUERY_WIDTH, 15, _MUTED)
    for number, tile in enumerate(row.tiles[:_TILES]):
        across, down = number % _COLUMNS, number // _COLUMNS
        x = _MARGIN + _QUERY_WIDTH + 2 * _GAP + across * (_TILE_WIDTH + _GAP)
        y = top + down * (_TILE_HEIGHT + _TILE_CAPTION + _GAP)
        _draw_tile(sheet, pen, tile, number + 1, (x, y))


def _draw_tile(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    tile: HitTile,
    rank: int,
    place: tuple[int, int],
) -> None:
    x, y = place
    paste_photo(sheet, tile.thumbnail, place, (_TILE_WIDTH, _TILE_HEIGHT))
    caption = y + _TILE_HEIGHT + 8
    write_line(pen, (x, caption), str(rank), 30, 16, _INK)
    if tile.correct is not None:
        drawing, stencil = _mark(tile.correct)
        sheet.paste(drawing, (x + 26, caption - 1), stencil)
    score = f"{tile.score:.3f}"
    score_width = round(_font(15).getlength(score))
    write_line(pen, (x + _TILE_WIDTH - score_width, caption), score, score_width + 1, 15, _MUTED)
    write_line(pen, (x, caption + _LINE), tile.name, _TILE_WIDTH, 15, _INK)
    if tile.label is not None:
        write_line(pen, (x, caption + 2 * _LINE - 2), tile.label, _TILE_WIDTH, 15, _MUTED)


def paste_photo(
    sheet: Image.Image, jpeg: bytes | None, place: tuple[int, int], box: tuple[int, int]
) -> None:
    """Put the whole photo into the middle of a box; the box alone when there is no photo."""
    from PIL import Image, ImageOps

    sheet.paste(_WELL, (*place, place[0] + box[0], place[1] + box[1]))
    if jpeg is None:
        return
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as photo:
        small = ImageOps.contain(photo.convert("RGB"), box, Image.Resampling.LANCZOS)
    inset = ((box[0] - small.width) // 2, (box[1] - small.height) // 2)
    sheet.paste(small, (place[0] + inset[0], place[1] + inset[1]))


@cache
def _mark(correct: bool) -> tuple[Image.Image, Image.Image]:
    """Return the circle or the cross: its colour, and the stencil to paste it through."""
    from PIL import Image, ImageDraw

    side = _MARK * _OVERSAMPLING
    stroke = side // 7
    stencil = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(stencil)
    near, far = side // 8, side - side // 8
    if correct:
        pen.ellipse([near, near, far, far], outline=255, width=stroke)
    else:
        near, far = near + stroke // 2, far - stroke // 2
        pen.line([(near, near), (far, far)], fill=255, width=stroke)
        pen.line([(near, far), (far, near)], fill=255, width=stroke)
    stencil = stencil.resize((_MARK, _MARK), Image.Resampling.LANCZOS)
    return Image.new("RGB", (_MARK, _MARK), _RIGHT if correct else _WRONG), stencil


def write_line(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width: int,
    size: int,
    colour: str,
) -> None:
    """Write one line; too long a text loses its middle, so that the end of a name stays."""
    shown = printable(text)
    font = _font(size)
    if not shown.isascii():
        wide = _wide_font(size)
        font, shown = (wide, shown) if wide else (font, _without_accents(shown))
    if font.getlength(shown) > width:
        shorter, longer = 0, len(shown)
        while longer - shorter > 1:
            middle = (shorter + longer) // 2
            if font.getlength(_shortened(shown, middle)) <= width:
                shorter = middle
            else:
                longer = middle
        shown = _shortened(shown, shorter)
    pen.text(place, shown, font=font, fill=colour)


def _shortened(text: str, length: int) -> str:
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
    """Return a font of this machine with more than Pillow's own, which is all but ASCII only."""
    from PIL import ImageFont

    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
