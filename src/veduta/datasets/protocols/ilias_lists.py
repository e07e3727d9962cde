"""The lists of ILIAS, as the authors' evaluation code has them.

Each is read line by line. Memory holds one text a distractor, and eight bytes a distractor to find
an id that comes twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from veduta.datasets.csv_records import refuse
from veduta.datasets.judged_set import unique_ids
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable

__all__ = ["distractor_ids", "object_of", "positive_ids", "query_ids"]

_MAX_LINE_BYTES = 4096


def object_of(photo: str) -> str:
    """Return the name of the object that a photo shows.

    Args:
        photo: the id of a query or a positive.
    """
    return photo.partition("/")[0]


def query_ids(file: Path) -> Iterator[str]:
    """Yield the ids of the queries.

    Args:
        file: the list.

    Raises:
        DatasetError: it cannot be read, is empty, or has a wrong line.
    """
    for line, text in _lines(file):
        yield _core_id(file, line, text.split(",")[0].strip())


def positive_ids(file: Path) -> dict[str, tuple[float, int]]:
    """Return the id of each positive → its scale and its clutter.

    Args:
        file: the list.

    Raises:
        DatasetError: it cannot be read, is empty, or has a wrong line, or an id comes twice.
    """
    found: dict[str, tuple[float, int]] = {}
    for line, text in _lines(file):
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != 3:
            refuse(file, line, f"{len(fields)} fields; wanted an id, a scale and a clutter")
        photo = _core_id(file, line, fields[0])
        if photo in found:
            refuse(file, line, f"{readable(photo)} is already on an earlier line; keep one")
        try:
            scale, clutter = float(fields[1]), int(fields[2])
        except ValueError:
            scale, clutter = math.nan, 0
        if not math.isfinite(scale) or scale < 0 or clutter < 0:
            refuse(
                file,
                line,
                f"the scale {fields[1]!r} and the clutter {fields[2]!r}; wanted a finite number "
                "and a whole number, neither below 0",
            )
        found[photo] = scale, clutter
    return found


def _core_id(file: Path, line: int, photo: str) -> str:
    if not object_of(photo) or "/" not in photo:
        refuse(file, line, f"the id {photo!r}; wanted the object, a slash and the photo")
    return photo


def distractor_ids(file: Path, positives: set[str]) -> list[str]:
    """Return the ids of the distractors.

    Args:
        file: the list.
        positives: ids that no distractor may have.

    Raises:
        DatasetError: the list cannot be read or is empty, or an id comes twice or is a positive.
    """
    ids = []
    for line, text in _lines(file):
        if text in positives:
            refuse(file, line, f"{readable(text)} is a positive too; it cannot be a distractor")
        ids.append(text)
    hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
    hashes.sort()
    # Ids that share a hash are rare. Only these are compared.
    suspects = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if suspects:
        unique_ids(file, "distractors", [each for each in ids if hash(each) in suspects])
    return ids


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list, which has at least one."""
    number = 0
    for number, text in read_lines(file, _MAX_LINE_BYTES):
        yield number, text
    if not number:
        raise DatasetError(f"{readable(file)}: no id; fetch the file again")
