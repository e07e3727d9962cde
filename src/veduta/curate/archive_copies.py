"""Photos of a dataset that an archive has already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from veduta.curate.archive import Archive
from veduta.curate.copies import SAME_BYTES, CopyPair
from veduta.curate.groups import copy_groups
from veduta.errors import readable

__all__ = ["ArchiveCopy", "ArchivePhotos", "archive_copies"]

# A photo with more than so many times the pixels of the archive's is worth keeping.
_LARGER = 1.05


@dataclass(frozen=True, slots=True)
class ArchivePhotos:
    """What is known of the photos of an archive.

    Attributes:
        archive: its M files.
        digests: content hash → position of the first file of that content among its files.
        pixels: position among its files → width × height.
    """

    archive: Archive
    digests: Mapping[bytes, int]
    pixels: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ArchiveCopy:
    """A photo of the dataset that is a copy of one of the archive.

    Attributes:
        position: of the photo in the dataset.
        kind: "exact-copy" or "near-copy".
        score: as that of `CopyPair`.
        reason: in words.
        other: path of the archive's photo.
        keep: whether the photo is better than the archive's.
    """

    position: int
    kind: str
    score: float
    reason: str
    other: str
    keep: bool


def archive_copies(
    digests: Mapping[int, bytes],
    pixels: Mapping[int, int],
    pairs: Sequence[CopyPair],
    photos: int,
    known: ArchivePhotos,
) -> list[ArchiveCopy]:
    """Return the photos of a dataset that an archive has.

    Args:
        digests: position of a readable photo in the dataset → its content hash.
        pixels: the same positions → width × height.
        pairs: copies among the photos of the dataset and of the archive. Positions from `photos` on
            are those of the archive.
        photos: number of photos of the dataset.
        known: the photos of the archive.
    """
    found = {
        position: _exact(position, known, known.digests[digest])
        for position, digest in digests.items()
        if digest in known.digests
    }
    # The best pair of each photo with one of the archive, or with the same bytes as one of it.
    best: dict[int, tuple[CopyPair, int]] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.score):
        for own, partner in ((pair.first, pair.second), (pair.second, pair.first)):
            if partner >= photos:
                best.setdefault(own, (pair, partner - photos))
            elif partner in found:
                best.setdefault(own, (pair, known.digests[digests[partner]]))
    for group in copy_groups(pairs, photos + len(known.archive.files)):
        of_archive = [position - photos for position in group if position >= photos]
        if not of_archive:
            continue
        for position in group:
            if position >= photos or position in found:
                continue
            if position in best:
                pair, other = best[position]
                copy = _near(position, known, other, pair.kind, pair.score, pixels)
            else:
                copy = _near(position, known, of_archive[0], "a copy of a copy", 0.5, pixels)
            found[position] = copy
    return [found[position] for position in sorted(found)]


def _exact(position: int, known: ArchivePhotos, other: int) -> ArchiveCopy:
    path = str(known.archive.files[other])
    reason = f"{SAME_BYTES}; the archive has it: {readable(path)}"
    return ArchiveCopy(position, "exact-copy", 1.0, reason, path, keep=False)


def _near(
    position: int,
    known: ArchivePhotos,
    other: int,
    what: str,
    score: float,
    pixels: Mapping[int, int],
) -> ArchiveCopy:
    path = str(known.archive.files[other])
    keep = pixels[position] > _LARGER * known.pixels.get(other, 0)
    reason = f"{what}; the archive has it: {readable(path)}"
    if keep:
        reason += ", with fewer pixels than this one"
    return ArchiveCopy(position, "near-copy", score, reason, path, keep)
