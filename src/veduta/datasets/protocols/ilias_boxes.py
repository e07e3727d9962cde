"""The boxes of ILIAS: one file beside each photo, with a box a line.

The part of a photo that is cut out is the smallest rectangle with all boxes of its file, as with
`--crop_resize` of the authors' code. The lines are `x y width height` in pixels, from the corner at
the top left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.csv_records import refuse
from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import Box
from veduta.datasets.protocols.protocol import checked_box
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable

__all__ = ["read_boxes"]

_ENDING = "_bbox.txt"

_MAX_LINE_BYTES = 4096

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


def read_boxes(root: Path, photos: Sequence[str]) -> tuple[Box, ...]:
    """Return the part of each photo that its boxes take up. No photo is read.

    Args:
        root: the folder that paths are relative to.
        photos: (Q,) paths of photos.

    Returns:
        (Q,) rectangles, which may leave their photos.

    Raises:
        DatasetError: files are missing, or one has no box or a wrong line.
    """
    files = [root / f"{os.path.splitext(photo)[0]}{_ENDING}" for photo in photos]
    missing = [file.relative_to(root).as_posix() for file in files if not os.path.isfile(file)]
    if missing:
        raise DatasetError(
            f"{readable(root)}: no file of boxes for {len(missing):,} of {len(files):,} queries "
            f"({some_of(missing)}); unpack ilias_core.tar again, or name a variant whose queries "
            "are whole photos"
        )
    return tuple(map(_part_of_photo, files))


def _part_of_photo(file: Path) -> Box:
    corners = []
    for line, text in read_lines(file, _MAX_LINE_BYTES):
        words = text.split()
        if len(words) != 4 or not all(map(_WHOLE_NUMBER.fullmatch, words)):
            refuse(file, line, f"{text[:60]!r}; wanted four whole numbers: x, y, width, height")
        box = checked_box(f"{readable(file)}, line {line}", [int(word) for word in words])
        x, y, width, height = box
        corners.append((x, y, x + width, y + height))
    if not corners:
        raise DatasetError(f"{readable(file)}: no box; unpack ilias_core.tar again")
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    left, top = min(lefts), min(tops)
    return left, top, max(rights) - left, max(bottoms) - top
