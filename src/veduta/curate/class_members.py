"""Descriptors, the class that each is said to be of, and which of them are copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from veduta.recognize.labelled_gallery import UNLABELLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot

__all__ = ["ENOUGH", "ClassMembers", "class_members"]

ENOUGH = 5  # photos of a class, copies counted once; fewer say nothing about one of them
_BLOCK = 4096  # rows in memory at a time


@dataclass(frozen=True)
class ClassMembers:
    """M photos of C classes, and others that are known to be of none.

    Attributes:
        snapshot: holds their descriptors, and maybe those of further photos.
        rows: (M,) int64 rows of the snapshot.
        names: (C,) the classes, in alphabetical order.
        codes: (M,) int32 places in `names`, or `UNLABELLED`.
        copies: tuples of places of photos that are copies of one another.
    """

    snapshot: Snapshot
    rows: NDArray[np.int64]
    names: tuple[str, ...]
    codes: NDArray[np.int32]
    copies: tuple[tuple[int, ...], ...]

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(M,): the photos of classes with `ENOUGH` photos, copies counted once."""
        counted = np.ones(len(self.rows), np.bool_)
        for group in self.copies:
            seen: set[int] = set()
            for place in group:
                code = int(self.codes[place])
                counted[place] = code not in seen
                seen.add(code)
        named = self.codes != UNLABELLED
        sizes = np.bincount(self.codes[named & counted], minlength=len(self.names))
        judged: NDArray[np.bool_] = named.copy()
        judged[named] = sizes[self.codes[named]] >= ENOUGH
        return judged

    def descriptors(self, places: NDArray[np.integer] | Sequence[int]) -> NDArray[np.float32]:
        """Return (m, d) float32, of unit length."""
        taken = self.snapshot.take(self.rows[np.asarray(places, np.intp)].astype(np.intp))
        return taken.astype(np.float32)

    def blocks(self) -> Iterator[NDArray[np.intp]]:
        """Yield the places of all photos, some thousands at a time."""
        for start in range(0, len(self.rows), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self.rows)))


def class_members(
    snapshot: Snapshot,
    rows: NDArray[np.int64],
    labels: Sequence[str | None],
    groups: NDArray[np.int64],
) -> ClassMembers:
    """Put the photos of classes together.

    Args:
        snapshot: holds their descriptors.
        rows: (M,) rows of it.
        labels: (M,) None: of no class.
        groups: (M,) the group of copies that a photo is in; -1: in none.
    """
    names = tuple(sorted({label for label in labels if label is not None}))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.array(
        [UNLABELLED if label is None else code_of[label] for label in labels], np.int32
    )
    together: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(groups >= 0).tolist():
        together[int(groups[place])].append(place)
    copies = tuple(tuple(places) for places in together.values() if len(places) > 1)
    return ClassMembers(snapshot, rows, names, codes, copies)
