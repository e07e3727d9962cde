"""The photos of classes with their descriptors, and which of them are copies of each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from veduta.index.distinct_photos import content_hashes
from veduta.recognize.labelled_gallery import UNLABELLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot

__all__ = ["MIN_CLASS_PHOTOS", "ClassMembers", "class_members"]

MIN_CLASS_PHOTOS = 5
"""Classes with fewer photos, copies counted once, say too little to judge one of their photos."""

_BLOCK_PHOTOS = 4096


@dataclass(frozen=True)
class ClassMembers:
    """M photos: those of C classes, and others that are known to belong to none.

    Attributes:
        snapshot: has their descriptors, and may have those of other photos.
        rows: (M,) int64 rows of the snapshot.
        names: (C,) the classes, in alphabetical order.
        class_ids: (M,) int32, the position of each photo's class in `names`, or `UNLABELLED`.
        copies: groups of photos that are copies of each other, as positions among the M photos.
    """

    snapshot: Snapshot
    rows: NDArray[np.int64]
    names: tuple[str, ...]
    class_ids: NDArray[np.int32]
    copies: tuple[tuple[int, ...], ...]

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(M,): the photos of classes with `MIN_CLASS_PHOTOS` photos, copies counted once."""
        counted = np.ones(len(self.rows), np.bool_)
        for group in self.copies:
            seen: set[int] = set()
            for member in group:
                class_id = int(self.class_ids[member])
                counted[member] = class_id not in seen
                seen.add(class_id)
        labelled = self.class_ids != UNLABELLED
        sizes = np.bincount(self.class_ids[labelled & counted], minlength=len(self.names))
        judged: NDArray[np.bool_] = labelled.copy()
        judged[labelled] = sizes[self.class_ids[labelled]] >= MIN_CLASS_PHOTOS
        return judged

    def descriptors(self, members: NDArray[np.integer] | Sequence[int]) -> NDArray[np.float32]:
        """Return the descriptors (m, d) of some photos, of unit length.

        Args:
            members: (m,) positions among the M photos.
        """
        rows = self.rows[np.asarray(members, np.intp)].astype(np.intp)
        return self.snapshot.take(rows)

    def by_content(self, members: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return some photos by rising content hash, those with the same bytes by class.

        Args:
            members: (m,) positions among the M photos.
        """
        contents = content_hashes(self.snapshot)[self.rows[members]]
        return members[np.lexsort((self.class_ids[members], contents))]

    def blocks(self) -> Iterator[NDArray[np.intp]]:
        """Yield the positions of all photos, some thousands at a time."""
        for start in range(0, len(self.rows), _BLOCK_PHOTOS):
            yield np.arange(start, min(start + _BLOCK_PHOTOS, len(self.rows)))


def class_members(
    snapshot: Snapshot,
    rows: NDArray[np.int64],
    labels: Sequence[str | None],
    groups: NDArray[np.int64],
) -> ClassMembers:
    """Make the `ClassMembers` of some photos.

    Args:
        snapshot: has their descriptors.
        rows: (M,) rows of it.
        labels: (M,) the class of each photo; None for no class.
        groups: (M,) the group of copies of each photo; -1 for none.
    """
    names = tuple(sorted({label for label in labels if label is not None}))
    class_id_of = {name: class_id for class_id, name in enumerate(names)}
    class_ids = np.array(
        [UNLABELLED if label is None else class_id_of[label] for label in labels], np.int32
    )
    members_of: dict[int, list[int]] = defaultdict(list)
    for member in np.flatnonzero(groups >= 0).tolist():
        members_of[int(groups[member])].append(member)
    copies = tuple(tuple(members) for members in members_of.values() if len(members) > 1)
    return ClassMembers(snapshot, rows, names, class_ids, copies)
