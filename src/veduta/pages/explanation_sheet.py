"""The sheet of an explanation: photos under their heat maps, each with its scale, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.files import atomic_file
from veduta.pages.contact_sheet import wrapped, write_line
from veduta.pages.heat_map import HeatScale, draw_heat_map

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = [
    "MAX_PANELS",
    "MapPanel",
    "draw_map",
    "draw_map_sheet",
    "stacked",
    "write_map_sheet",
]

MAX_PANELS = 120
"""Panels of one sheet. More take too much memory, and nobody can read such a picture."""

_PRINT_DPI = 300

# Pixels of the width of a panel, by the number of columns: a sheet is 1,300 to 2,600 pixels wide.
_PANEL_WIDTHS = {1: 1240, 2: 1000, 3: 760}
_PANEL_WIDTH = 600
_MAX_COLUMNS = 4

_MAX_HEIGHT_SHARE = 1.2
"""Largest height of a photo, as a share of the width of a panel."""

# Shares of the size of the text.
_LINE_HEIGHT, _GAP, _MARGIN, _BAR_HEIGHT = 1.35, 1.1, 1.6, 0.7
_TITLE_SIZE, _HEADING_SIZE = 1.15, 1.5

_TEXT_SHARE, _MIN_TEXT = 1 / 30, 24
"""Size of the text: a share of the width of a panel, and at least so many pixels."""

_PAPER, _INK, _MUTED = "#ffffff", "#1c1b19", "#55524c"


@dataclass(frozen=True, slots=True, eq=False)
class MapPanel:
    """One photo of a sheet, with its map or without.

    Attributes:
        title: above the photo, such as the name of the method.
        lines: below the photo and the scale.
        pixels: (h, w, 3) uint8 RGB: the photo.
        map: (H, W) float32, on any grid; None: the photo alone, in its colours.
        box: x, y, width, height in pixels of the photo: the part that the map covers.
        scale: the colours of the values; None without a map.
        outlined: a region, on a grid that covers the same box; a line is drawn around it.
    """

    title: str
    lines: Sequence[str]
    pixels: NDArray[np.uint8]
    map: NDArray[np.float32] | None = None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    scale: HeatScale | None = None
    outlined: NDArray[np.bool_] | None = None

    def picture(self, size: tuple[int, int]) -> Image.Image:
        """Return the photo with its map, without text, in a width and height in pixels."""
        from PIL import Image

        if self.map is None or self.scale is None:
            return Image.fromarray(self.pixels).resize(size, Image.Resampling.LANCZOS)
        return draw_heat_map(
            self.pixels, self.map, self.box, self.scale, size=size, outlined=self.outlined
        )


def draw_map(panel: MapPanel) -> Image.Image:
    """Return one panel as a picture of its own, 1,300 pixels wide."""
    return draw_map_sheet([panel], columns=1)


def draw_map_sheet(
    panels: Sequence[MapPanel],
    *,
    columns: int | None = None,
    title: str = "",
    lines: Sequence[str] = (),
) -> Image.Image:
    """Return panels side by side in rows.

    The sheet is large enough for print: 300 pixels an inch over the width of a page or a column.

    Args:
        panels: 1 to `MAX_PANELS`, row by row.
        columns: in a row; None: up to four.
        title: above all panels.
        lines: below the title.

    Raises:
        ValueError: there is no panel, or there are too many; or a panel's box or map is not valid.
    """
    from PIL import Image, ImageDraw

    if not 1 <= len(panels) <= MAX_PANELS:
        raise ValueError(f"{len(panels)} panels; wanted 1 to {MAX_PANELS}")
    across = columns or min(len(panels), _MAX_COLUMNS)
    panel_width = _PANEL_WIDTHS.get(across, _PANEL_WIDTH)
    text = max(_MIN_TEXT, round(_TEXT_SHARE * panel_width))
    margin, gap = round(_MARGIN * text), round(_GAP * text)
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [_row_height(row, panel_width, text) for row in rows]
    head = _head_height(title, lines, text)
    size = (
        2 * margin + across * (panel_width + gap) - gap,
        2 * margin + head + sum(heights) + (len(rows) - 1) * gap,
    )
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    top, width = margin, size[0] - 2 * margin
    if title:
        write_line(pen, (margin, top), title, width, round(_HEADING_SIZE * text), _INK)
        top += round(_HEADING_SIZE * _LINE_HEIGHT * text)
    for line in lines:
        write_line(pen, (margin, top), line, width, text, _MUTED)
        top += round(_LINE_HEIGHT * text)
    top = margin + head
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            left = margin + number * (panel_width + gap)
            _draw_panel(sheet, pen, panel, (left, top), panel_width, text)
        top += height + gap
    return sheet


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return sheets one below the other.

    Args:
        sheets: one or more.
    """
    from PIL import Image

    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    whole = Image.new("RGB", size, _PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def write_map_sheet(file: Path, sheet: Image.Image) -> None:
    """Write a sheet as PNG, for print at 300 pixels an inch.

    Args:
        file: it appears complete or not at all.
        sheet: from `draw_map_sheet`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(file) as draft:
        sheet.save(draft, "PNG", dpi=(_PRINT_DPI, _PRINT_DPI))


def _head_height(title: str, lines: Sequence[str], text: int) -> int:
    height = round(_HEADING_SIZE * _LINE_HEIGHT * text) if title else 0
    height += len(lines) * round(_LINE_HEIGHT * text)
    return height + (round(_GAP * text) if height else 0)


def _photo_size(panel: MapPanel, panel_width: int) -> tuple[int, int]:
    """Return the width and height of the photo on the sheet."""
    height, width = panel.pixels.shape[:2]
    scale = min(panel_width / width, _MAX_HEIGHT_SHARE * panel_width / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _row_height(row: Sequence[MapPanel], panel_width: int, text: int) -> int:
    line = round(_LINE_HEIGHT * text)
    titled = round(_TITLE_SIZE * line) if any(panel.title for panel in row) else 0
    scale = _scale_height(text) if any(panel.scale for panel in row) else 0
    photo = max(_photo_size(panel, panel_width)[1] for panel in row)
    lines = max(len(_lines_of(panel, panel_width, text)) for panel in row)
    return titled + photo + scale + lines * line


def _lines_of(panel: MapPanel, width: int, text: int) -> list[str]:
    """Return the lines below a panel. Long ones are divided."""
    return [part for line in panel.lines for part in wrapped(line, width, text)]


def _scale_height(text: int) -> int:
    return round((0.4 + _BAR_HEIGHT + _LINE_HEIGHT) * text)


def _draw_panel(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: MapPanel,
    corner: tuple[int, int],
    width: int,
    text: int,
) -> None:
    """Draw one panel: title, photo, scale and lines below each other."""
    left, top = corner
    line = round(_LINE_HEIGHT * text)
    if panel.title:
        write_line(pen, (left, top), panel.title, width, round(_TITLE_SIZE * text), _INK)
        top += round(_TITLE_SIZE * line)
    size = _photo_size(panel, width)
    sheet.paste(panel.picture(size), (left + (width - size[0]) // 2, top))
    top += size[1]
    if panel.scale is not None:
        _draw_scale(sheet, pen, panel.scale, (left, top), width, text)
        top += _scale_height(text)
    for note in _lines_of(panel, width, text):
        write_line(pen, (left, top), note, width, text, _MUTED)
        top += line


def _draw_scale(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    scale: HeatScale,
    corner: tuple[int, int],
    width: int,
    text: int,
) -> None:
    """Draw the colours of a scale over mid-grey, with numbers at its ends and its middle."""
    from PIL import Image

    left, top = corner[0], corner[1] + round(0.4 * text)
    height = round(_BAR_HEIGHT * text)
    sheet.paste(
        Image.fromarray(np.repeat(scale.over_grey(width)[None], height, axis=0)), (left, top)
    )
    pen.rectangle([left, top, left + width - 1, top + height - 1], outline=_MUTED)
    below = top + height + round(0.1 * text)
    for number, shown in enumerate(scale.texts):
        share = number / max(1, len(scale.texts) - 1)
        start = left + round(share * (width - pen.textlength(shown, font_size=text)))
        write_line(pen, (start, below), shown, width, text, _INK)
