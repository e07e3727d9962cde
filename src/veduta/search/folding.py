"""Copies among hits: marked as copies, or folded into one hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from veduta.search.hit import COPY_OF_QUERY
from veduta.search.same_pictures import Picture, Thumbnails, same_pictures

if TYPE_CHECKING:
    from veduta.search.hit import Hit

__all__ = ["fold_copies", "mark_copies"]


def fold_copies(
    hits: Sequence[Hit], pictures: Sequence[Picture], thumbnails: Thumbnails
) -> list[Hit]:
    """Return the best hit of each photo, with the paths of its copies.

    Args:
        hits: best first.
        pictures: of the hits.
        thumbnails: of rows.

    Returns:
        The hits that are no copy of one before them. `Hit.copies` has the paths of the others.
    """
    copies: dict[int, list[str]] = {}
    for position, first in enumerate(_first_of_each(same_pictures(pictures, thumbnails))):
        if position == first:
            copies[position] = []
        else:
            copies[first].append(hits[position].path)
    return [replace(hits[first], copies=tuple(paths)) for first, paths in copies.items()]


def mark_copies(
    hits: Sequence[Hit],
    pictures: Sequence[Picture],
    query: Sequence[Picture],
    thumbnails: Thumbnails,
) -> list[Hit]:
    """Return the hits with `Hit.copy_of`.

    Args:
        hits: best first.
        pictures: of the hits.
        query: the photos of the query, turned as it was compared; none for a region of a photo.
        thumbnails: of rows.
    """
    same = same_pictures([*query, *pictures], thumbnails)[len(query) :]
    of_hits = [[other - len(query) for other in others] for others in same]
    first_of_each = _first_of_each([[one for one in others if one >= 0] for others in of_hits])
    marked = []
    for position, first in enumerate(first_of_each):
        copy_of = None if first == position else hits[first].path
        if any(one < 0 for one in of_hits[position]):
            copy_of = COPY_OF_QUERY
        marked.append(replace(hits[position], copy_of=copy_of))
    return marked


def _first_of_each(same: Sequence[Sequence[int]]) -> list[int]:
    """Return the position of the first hit that each hit is the same picture as.

    Args:
        same: for each hit, the positions of those before it that are the same.
    """
    first: list[int] = []
    for position, others in enumerate(same):
        first.append(min((first[other] for other in others), default=position))
    return first
