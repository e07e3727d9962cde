"""Find photos by the ids that another program gave them.

Programs name one photo in several ways: with and without the folder, with and without the ending.
An exact match counts first. A looser match counts only if it is unique, because a photo that is
taken for another one would give wrong figures without any error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOT_FOUND", "PhotoIds", "is_utf8", "without_ending"]

NOT_FOUND = -1
"""Stands for the position of an id that is not there."""

_SEVERAL = -2
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}$")


class PhotoIds:
    """N ids, and the position of each.

    Attributes:
        ids: (N,) all different.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self._exact = {each: position for position, each in enumerate(ids)}
        self._loose: dict[Callable[[str], str], dict[str, int]] = {}

    def find(self, wanted: Sequence[str], *, by_last_part: bool = False) -> NDArray[np.int64]:
        """Return the position of each id; `NOT_FOUND` for an unknown or ambiguous one.

        An id is taken as it is, else without its ending or with any ending. Two ids that are
        wanted never have the same position: a loose match of both is ambiguous.

        Args:
            wanted: (n,) ids.
            by_last_part: take what is still unknown by the last part of its path, without its
                ending.

        Returns:
            (n,) int64.
        """
        found = np.fromiter(
            (self._exact.get(each, NOT_FOUND) for each in wanted), np.int64, len(wanted)
        )
        for key in (without_ending, _last_part) if by_last_part else (without_ending,):
            unknown = np.flatnonzero(found == NOT_FOUND)
            if not len(unknown):
                break
            if key not in self._loose:
                self._loose[key] = _unique_positions(map(key, self.ids))
            positions = self._loose[key]
            loose = {n: positions.get(key(wanted[n]), NOT_FOUND) for n in unknown.tolist()}
            claims: dict[int, set[str]] = {}
            for number, position in loose.items():
                if position >= 0:
                    claims.setdefault(position, set()).add(wanted[number])
            for number, position in enumerate(found.tolist()):
                if position in claims:
                    claims[position].add(wanted[number])
            for number, position in loose.items():
                if position >= 0 and len(claims[position]) == 1:
                    found[number] = position
        return found

    def is_by_last_part(self, wanted: str, position: int) -> bool:
        """Return whether the folders of an id are not those of the id at its position.

        Args:
            wanted: the id.
            position: its position, from `find`.
        """
        exact = self.ids[position]
        return wanted != exact and without_ending(wanted) != without_ending(exact)


def without_ending(photo: str) -> str:
    """Return an id without the ending of a file, and with forward slashes.

    What follows the last dot is an ending if it begins with a letter and has at most six letters
    and digits: coordinates in file names have dots too.

    Args:
        photo: an id.
    """
    return _ENDING.sub("", photo.replace("\\", "/").removeprefix("./"))


def is_utf8(photo: str) -> bool:
    """Return whether UTF-8 has all characters of an id. The names of some files have others.

    Args:
        photo: an id.
    """
    try:
        photo.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _last_part(photo: str) -> str:
    return without_ending(photo).rsplit("/", 1)[-1]


def _unique_positions(keys: Iterable[str]) -> dict[str, int]:
    """Return the position of each key; `_SEVERAL` for one that comes again."""
    positions: dict[str, int] = {}
    for position, key in enumerate(keys):
        positions[key] = _SEVERAL if key in positions else position
    return positions
