"""The places and objects of a collection without labels: groups of photos that hold together.

Photos of a group are connected by verified links (`veduta.explore.verified_links`), in such a way
that one wrong link does not join two places (`veduta.explore.connectivity`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.curate.groups import connected_groups
from veduta.curate.hash_pairs import near_hashes
from veduta.errors import QueryError
from veduta.explore.connectivity import parts_of_graph
from veduta.explore.verified_links import verified_links
from veduta.index import IndexedPhoto, StoredThumbnails, open_snapshot, photos_of
from veduta.photos.same_picture import (
    MAX_SAME_BITS,
    MIN_CORRELATION,
    luma_correlation,
    thumbnail_grid,
)
from veduta.search.options import is_whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.explore.verified_links import VerifiedLinks
    from veduta.index import Snapshot

__all__ = ["MIN_SIZE", "PhotoGroup", "find_groups"]

MIN_SIZE = 2
"""The smallest number of photos of a group by default."""

_NAME = "group-{:0{}}"
_NAME_DIGITS = 3

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PhotoGroup:
    """Photos of one place or object.

    Attributes:
        name: "group-001" for the largest group of the collection.
        photos: all of its files, the best first. The best photo is linked with the most photos of
            the group. The other pictures follow in the same order, and the copies come last.
        copies: those of `photos` that are copies of another one: files of the same content, and the
            same picture saved again in another size, quality or format.
    """

    name: str
    photos: tuple[IndexedPhoto, ...]
    copies: tuple[IndexedPhoto, ...] = ()

    @property
    def size(self) -> int:
        """The number of different pictures."""
        return len(self.photos) - len(self.copies)

    @property
    def best(self) -> IndexedPhoto:
        """The photo that stands for the group."""
        return self.photos[0]

    @property
    def first_taken(self) -> datetime | None:
        """When the first photo was taken; None if no photo has a date."""
        return min(self._dates(), default=None)

    @property
    def last_taken(self) -> datetime | None:
        """When the last photo was taken; None if no photo has a date."""
        return max(self._dates(), default=None)

    @property
    def label(self) -> str | None:
        """The label that more than half of the photos have, or None."""
        label, photos = Counter(photo.label for photo in self.photos).most_common(1)[0]
        return label if 2 * photos > len(self.photos) else None

    def _dates(self) -> list[datetime]:
        return [photo.taken for photo in self.photos if photo.taken]

    def as_json(self) -> dict[str, Any]:
        """Return the group as JSON types."""
        first, last = self.first_taken, self.last_taken
        return {
            "group": self.name,
            "size": self.size,
            "best": self.best.path,
            "first_taken": first.isoformat() if first else None,
            "last_taken": last.isoformat() if last else None,
            "photos": [photo.path for photo in self.photos],
            "copies": [photo.path for photo in self.copies],
        }


def find_groups(
    index: Path, *, min_size: int = MIN_SIZE, on_progress: OnProgress | None = None
) -> list[PhotoGroup]:
    """Return the groups of an index, the largest first.

    The result depends on the photos and their paths alone. Nothing is written.

    Args:
        index: its folder.
        min_size: the smallest number of different pictures of a group, at least 2.
        on_progress: called with (pairs verified, pairs to verify).

    Raises:
        QueryError: `min_size` is no such number, or the index has no keypoints.
        NotAnIndex: there is no index in the folder.
        CollectionError: the photos of the index are not linked yet.
        IndexDamaged: the index cannot be read.
    """
    if not is_whole_number(min_size) or min_size < MIN_SIZE:
        raise QueryError(f"A group has at least {MIN_SIZE} photos, not {min_size!r}.")
    snapshot = open_snapshot(index)
    links = verified_links(index, snapshot, on_progress)
    parts = parts_of_graph(links.pairs, links.inliers)
    groups = _groups_of_rows(index, snapshot, links, parts)
    groups = [group for group in groups if group.size >= min_size]
    groups.sort(key=lambda group: (-group.size, group.best.path))
    digits = max(_NAME_DIGITS, len(str(len(groups))))
    return [
        replace(group, name=_NAME.format(number, digits)) for number, group in enumerate(groups, 1)
    ]


def _groups_of_rows(
    index: Path, snapshot: Snapshot, links: VerifiedLinks, parts: Sequence[Sequence[int]]
) -> list[PhotoGroup]:
    """Return the photos of each part as a group without a name."""
    part_of_photo = np.full(int(links.photo_of_row.max(initial=-1)) + 1, -1)
    for number, part in enumerate(parts):
        part_of_photo[part] = number
    part_of_row = part_of_photo[links.photo_of_row]
    rows = np.flatnonzero(part_of_row >= 0)
    part_of_row = part_of_row[rows]
    picture_of_row = _pictures(index, snapshot, rows, links.photo_of_row[rows], part_of_row)
    linked = _linked_photos(links, part_of_photo)
    photos = dict(zip(rows.tolist(), _photos_at(snapshot, rows), strict=True))
    members: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, part, picture in zip(rows.tolist(), part_of_row.tolist(), picture_of_row, strict=True):
        members[part][picture].append(row)

    def rank(row: int) -> tuple[int, int, str]:
        photo = photos[row]
        pixels = photo.width * photo.height
        return -int(linked[links.photo_of_row[row]]), -pixels, photo.path

    def size(row: int) -> tuple[int, str]:
        photo = photos[row]
        return -photo.width * photo.height, photo.path

    groups = []
    for pictures in members.values():
        # The largest file of a picture is shown. The links of all its files are its own.
        files = [sorted(same, key=size) for same in pictures.values()]
        files.sort(key=lambda same: min(map(rank, same)))
        copies = tuple(photos[row] for same in files for row in same[1:])
        groups.append(PhotoGroup("", (*(photos[same[0]] for same in files), *copies), copies))
    return groups


def _linked_photos(links: VerifiedLinks, part_of_photo: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return with how many photos of its own part each photo is linked."""
    inside = links.pairs[part_of_photo[links.pairs[:, 0]] == part_of_photo[links.pairs[:, 1]]]
    return np.bincount(inside.ravel(), minlength=len(part_of_photo))


def _photos_at(snapshot: Snapshot, rows: NDArray[np.intp]) -> Iterable[IndexedPhoto]:
    wanted = np.zeros(snapshot.photos, bool)
    wanted[rows] = True
    return (photo for photo, keep in zip(photos_of(snapshot), wanted, strict=True) if keep)


def _pictures(
    index: Path,
    snapshot: Snapshot,
    rows: NDArray[np.intp],
    contents: NDArray[np.int32],
    parts: NDArray[np.int64],
) -> list[int]:
    """Return a number for each row; rows of one part with the same picture have the same number.

    Args:
        index: its folder.
        snapshot: of the index.
        rows: (r,) of the snapshot.
        contents: (r,), the same number for the same content.
        parts: (r,), the part of each row.
    """
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    pairs = list(enumerate(first[inverse].tolist()))
    hashes = snapshot.rows["perceptual_hash"].take(rows[first]).to_numpy().astype(np.uint64)
    alike = {
        (int(first[a]), int(first[b]))
        for some, others, _ in near_hashes(hashes, max_bits=MAX_SAME_BITS)
        for a, b in zip(some.tolist(), others.tolist(), strict=True)
        if parts[first[a]] == parts[first[b]]
    }
    seen = sorted({position for pair in alike for position in pair})
    ids = snapshot.ids[rows[seen]].tolist() if seen else []
    grid_of = {
        position: thumbnail_grid(jpeg)
        for position, jpeg in zip(seen, StoredThumbnails(index).read(ids), strict=True)
    }
    for a, b in alike:
        one, other = grid_of[a], grid_of[b]
        if one is None or other is None:
            continue
        if luma_correlation(one[None], other[None])[0] >= MIN_CORRELATION:
            pairs.append((a, b))
    return connected_groups(len(rows), pairs)
