"""The label of a query, by which the hits of a search are marked as right or wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import QueryError
from veduta.text import composed, count

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.search import Hit

__all__ = ["QueryLabels", "is_correct"]


class QueryLabels:
    """Says which label a query has."""

    def __init__(self, index: Index, named: str | None) -> None:
        """Read the labels of an index.

        Args:
            index: the index that is searched.
            named: the label of all queries. None: each query has the label that the same photo has
                in the index, or else the name of its folder if that is a label of the index.

        Raises:
            QueryError: no photo has the label.
        """
        self._by_path = {photo.path: photo.label for photo in index if photo.label is not None}
        self._labels = set(self._by_path.values())
        self._named = composed(named) if named is not None else None
        if self._named is not None and self._named not in self._labels:
            near = get_close_matches(self._named, self._labels, 3, 0)
            listed = ", ".join(map(repr, near)) or "none, the photos have no labels"
            raise QueryError(
                f"No photo has the label {named!r}. Of the {count(len(self._labels), 'label')} "
                f"the nearest: {listed}."
            )

    def of(self, photos: Sequence[Path]) -> str | None:
        """Return the label of a query, or None if it is not known.

        Args:
            photos: the photos of the query. Its label is that of the first one.
        """
        if self._named is not None:
            return self._named
        path = os.path.abspath(photos[0])
        folder = composed(os.path.basename(os.path.dirname(path)))
        return self._by_path.get(path, folder if folder in self._labels else None)


def is_correct(hit: Hit, label: str | None) -> bool | None:
    """Return whether a hit has the label of the query; None if that is not known."""
    return None if label is None else hit.label == label
