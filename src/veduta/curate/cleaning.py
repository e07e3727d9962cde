"""From a dataset to the table of what is odd in it, and from that to what should go."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.curate.class_members import ENOUGH, class_members
from veduta.curate.copies import CopyPair, copies_among, groups
from veduta.curate.example_likeness import LIKE, likeness
from veduta.curate.findings import KINDS, Finding, by_doubt, doubt
from veduta.curate.mislabelled import Mislabelled, find_mislabelled
from veduta.curate.off_topic import FENCE, OffTopic, find_off_topic
from veduta.curate.photo_index import DescribedPhotos, OnProgress, describe_photos
from veduta.curate.photo_scan import PhotoScan, scan_photos
from veduta.datasets import Dataset, read_dataset
from veduta.errors import QueryError, readable
from veduta.photos import find_photos

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cleaning", "Described", "clean"]

_BY_CLASS = frozenset(("off-topic", "mislabelled"))
_DESCRIBED = _BY_CLASS | {"near-copy", "unlike"}
_COPIES = ("exact-copy", "near-copy")
_WORTH = (
    "its label is not in doubt",
    "it is a file and no link",
    "its name is UTF-8",
    "it has a label",
    "it is larger",
    "it is less compressed",
    "its name is shorter",
    "its name comes first",
)
_BLOCK = 4096  # photos whose descriptors are in memory at a time
_OF_NO_CLASS = frozenset(("distractor", "unknown"))

Described = Callable[[Sequence[Path], OnProgress | None], DescribedPhotos]


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What was found.

    `photos`
        the dataset.
    `readable`
        how many photos decode.
    `findings`
        the surest first.
    `notes`
        what could not be looked for, and why.
    `seconds`
        that it took.
    """

    photos: Dataset
    readable: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each kind there are, in the order of `KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {name: found[name] for name in KINDS if found[name]}

    def drops(self) -> tuple[str, ...]:
        """Return the photos that should go, in the order of the dataset.

        A file stays when a link that stays leads to it.
        """
        gone = {finding.path for finding in self.findings if finding.suggestion == "drop"}
        staying = [path for path in self.photos.paths if path not in gone]
        needed = {
            os.path.realpath(self.photos.root / path)
            for path in staying
            if os.path.islink(self.photos.root / path)
        }
        return tuple(
            path
            for path in self.photos.paths
            if path in gone
            and (
                os.path.islink(self.photos.root / path)
                or not needed
                or os.path.realpath(self.photos.root / path) not in needed
            )
        )

    def relabels(self) -> dict[str, str]:
        """Return path → the label that it should have, of photos that stay."""
        gone = set(self.drops())
        return {
            finding.path: finding.suggested_label
            for finding in self.findings
            if finding.suggested_label is not None and finding.path not in gone
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "dataset": os.fspath(self.photos.root),
            "photos": len(self.photos.paths),
            "readable": self.readable,
            "counts": self.counts,
            "drops": len(self.drops()),
            "findings": [finding.as_json() for finding in self.findings],
            "notes": list(self.notes),
            "problems": list(self.photos.problems),
            "seconds": round(self.seconds, 2),
        }


def clean(
    path: Path,
    *,
    labels: str | None = None,
    only: Collection[str] = (),
    examples: Path | None = None,
    described: Described | None = None,
    on_progress: OnProgress | None = None,
) -> Cleaning:
    """Look for photos that a dataset is better without. Nothing in it changes.

    Args:
        path: a folder of class folders, with a `labels.csv`, of splits, or of photos without
            labels; or a CSV file.
        labels: the CSV file to read, relative to the folder.
        only: kinds to look for, by the names in `KINDS`; empty: all. Photos are described by the
            encoder only where a kind needs it.
        examples: a folder of photos of one thing; every photo of the dataset then gets a finding
            of the kind "unlike", which together rank it.
        described: how to; None: `describe_photos`, kept in the user's cache folder.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: there are no photos, or the labels are not as they should be.
        QueryError: there is no such kind, or the examples are too few or have nothing in common.
        CollectionError: the cache cannot be used.
    """
    unknown = sorted(set(only) - set(KINDS))
    if unknown:
        raise QueryError(f"There is no kind {unknown[0]!r}; there are {', '.join(KINDS)}.")
    wanted = set(only or KINDS)
    if examples is None:
        wanted.discard("unlike")
    started = time.monotonic()
    photos = read_dataset(path, labels=labels, every_photo=True)
    photos = replace(photos, root=Path(os.path.realpath(photos.root)))
    files = photos.files
    tell = on_progress or _silent
    scan = scan_photos(
        files, faults=True, on_progress=lambda done, total: tell("Looking", done, total)
    )
    findings = [
        _finding(photos, fault.position, fault.kind, fault.score, fault.reason)
        for fault in scan.faults
        if fault.kind in wanted
    ]
    notes: list[str] = []
    at = scan.positions
    pairs = _same_bytes(scan)
    by_class: list[Finding] = []
    if wanted & _DESCRIBED and len(at):
        describe = described or _describe
        known = describe([files[place] for place in at], on_progress)
        if examples is not None and "unlike" in wanted:
            good = describe(_photos_in(examples), on_progress)
            findings += _unlike(photos, known, at, good)
        # A photo that went away since it was looked at has no row, and is judged by nothing more.
        if "near-copy" in wanted and len(at) > 1:
            pairs += [
                CopyPair(int(at[pair.first]), int(at[pair.second]), pair.kind, pair.score)
                for pair in copies_among(known, on_progress=on_progress)
                if pair.kind != "same bytes"
            ]
        if wanted & _BY_CLASS:
            by_class = _by_class(photos, known, at, pairs, notes, wanted)
    if wanted.intersection(_COPIES):
        doubted = {finding.path for finding in by_class}
        copies = _copies(photos, scan, pairs, doubted)
        findings += [finding for finding in copies if finding.kind in wanted]
    findings += by_class
    return Cleaning(
        photos,
        len(at),
        by_doubt(findings),
        tuple(notes),
        time.monotonic() - started,
    )


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def _describe(files: Sequence[Path], on_progress: OnProgress | None) -> DescribedPhotos:
    return describe_photos(files, on_progress=on_progress)


def _finding(
    photos: Dataset, place: int, kind: str, score: float, reason: str, **more: Any
) -> Finding:
    suggestion, label = KINDS[kind].suggestion, photos.labels[place]
    return Finding(photos.paths[place], kind, float(score), reason, suggestion, label=label, **more)


def _photos_in(folder: Path) -> list[Path]:
    return [Path(os.fsdecode(found.path)) for found in find_photos([folder])]


def _unlike(
    photos: Dataset, known: DescribedPhotos, at: NDArray[np.int64], good: DescribedPhotos
) -> list[Finding]:
    """Return a finding for each photo that has a descriptor."""
    examples = good.snapshot.take(good.rows[good.rows >= 0].astype(np.intp))
    there = np.flatnonzero(known.rows >= 0)
    found = []
    for start in range(0, len(there), _BLOCK):
        some = there[start : start + _BLOCK]
        rows = known.snapshot.take(known.rows[some].astype(np.intp))
        for place, alike in zip(some, likeness(examples, rows).tolist(), strict=True):
            kept = alike >= LIKE
            # 0.5 at the threshold, and falling with the likeness on both sides of it.
            score = 0.5 * LIKE / alike if kept else doubt(LIKE / max(alike, 1e-9))
            one = _finding(
                photos,
                int(at[place]),
                "unlike",
                score,
                f"likeness {alike:.2f} to the examples, where 1 is usual among them",
            )
            found.append(replace(one, suggestion="keep") if kept else one)
    return found


def _same_bytes(scan: PhotoScan) -> list[CopyPair]:
    first: dict[bytes, int] = {}
    pairs = []
    for row, place in enumerate(scan.positions.tolist()):
        same = first.setdefault(scan.digests[row].tobytes(), place)
        if same != place:
            pairs.append(CopyPair(same, place, "same bytes", 1.0))
    return pairs


def _copies(
    photos: Dataset, scan: PhotoScan, pairs: Sequence[CopyPair], doubted: Collection[str]
) -> list[Finding]:
    """Return a finding for each photo of a group of copies but the best."""
    of: dict[int, list[CopyPair]] = {}
    for pair in pairs:
        of.setdefault(pair.first, []).append(pair)
        of.setdefault(pair.second, []).append(pair)
    found = []
    for number, group in enumerate(groups(pairs, len(photos.paths)), start=1):
        worth = {place: _worth(photos, scan, place, doubted) for place in group}
        ranked = sorted(group, key=worth.__getitem__)
        best = ranked[0]
        twins: dict[bytes, list[int]] = {}
        for place in ranked:
            twins.setdefault(scan.digests[scan.row(place)].tobytes(), []).append(place)
        for place in ranked[1:]:
            same = twins[scan.digests[scan.row(place)].tobytes()]
            if place != same[0]:
                kind, what, score, other = "exact-copy", "same bytes", 1.0, same[0]
            else:
                # What is known of the bytes may be known of another file with the same.
                pair, at = max(
                    (
                        (pair, one)
                        for one in same
                        for pair in of[one]
                        if {pair.first, pair.second} <= set(group) - (set(same) - {one})
                    ),
                    key=lambda found: (best in (found[0].first, found[0].second), found[0].score),
                )
                kind, what, score = "near-copy", pair.kind, pair.score
                other = pair.first + pair.second - at
            reason = f"{what}; {photos.paths[best]} stays: {_why(worth[best], worth[place])}"
            if photos.labels[place] != photos.labels[best]:
                reason += f"; the two have different labels ({photos.labels[best]})"
            if photos.splits[place] != photos.splits[best]:
                reason += f"; in different splits ({photos.splits[best]})"
            found.append(
                _finding(
                    photos, place, kind, score, reason, group=number, other=photos.paths[other]
                )
            )
    return found


def _worth(
    photos: Dataset, scan: PhotoScan, place: int, doubted: Collection[str]
) -> tuple[Any, ...]:
    """Return what sorts the copy to keep first; `_WORTH` has it in words."""
    path = photos.paths[place]
    linked = os.path.islink(photos.root / path)
    without = photos.labels[place] is None
    row = scan.row(place)
    pixels, size = int(scan.widths[row]) * int(scan.heights[row]), int(scan.sizes[row])
    odd = readable(path) != path
    return path in doubted, linked, odd, without, -pixels, -size, len(path), path


def _why(best: Sequence[Any], other: Sequence[Any]) -> str:
    """Say what the best of a group has over another."""
    pairs = zip(_WORTH, best, other, strict=True)
    return next(words for words, one, other in pairs if one != other)


def _by_class(
    photos: Dataset,
    known: DescribedPhotos,
    at: NDArray[np.int64],
    pairs: Sequence[CopyPair],
    notes: list[str],
    wanted: Collection[str],
) -> list[Finding]:
    """Return what the photos of the classes say of one another."""
    labels = [photos.labels[place] for place in at]
    apart = [photos.splits[place] in _OF_NO_CLASS for place in at]
    used = np.array(
        [
            row >= 0 and (label is not None or is_apart)
            for row, label, is_apart in zip(known.rows, labels, apart, strict=True)
        ],
        np.bool_,
    )
    chosen = np.flatnonzero(used)
    group_of = np.full(len(photos.paths), -1, np.int64)
    for number, group in enumerate(groups(pairs, len(photos.paths))):
        group_of[list(group)] = number
    members = class_members(
        known.snapshot,
        known.rows[chosen],
        [labels[place] for place in chosen],
        group_of[at[chosen]],
    )
    if len(set(members.codes[members.judged].tolist())) < 2:
        notes.append(
            f"off-topic and mislabelled photos: wanted two classes of {ENOUGH} photos or more"
        )
        return []
    wrong = find_mislabelled(members, known.index)
    findings = []
    if "mislabelled" in wanted:
        findings += [
            _of_wrong(photos, int(at[chosen[one.place]]), one, members.names) for one in wrong
        ]
    if "off-topic" in wanted:
        named = {one.place for one in wrong}
        findings += [
            _of_strange(photos, int(at[chosen[one.place]]), one)
            for one in find_off_topic(members)
            if one.place not in named
        ]
    return findings


def _of_wrong(photos: Dataset, place: int, one: Mislabelled, names: Sequence[str]) -> Finding:
    suggested = names[one.suggested]
    reason = (
        f"{100 * one.probability:.0f} % {suggested}, {100 * one.own:.0f} % {photos.labels[place]}, "
        "says a recogniser that has not seen it"
    )
    return _finding(
        photos,
        place,
        "mislabelled",
        1 - one.own,
        reason,
        suggested_label=suggested,
        probability=one.probability,
    )


def _of_strange(photos: Dataset, place: int, one: OffTopic) -> Finding:
    reason = (
        f"similarity {one.similarity:.2f} to the rest of {photos.labels[place]}, where "
        f"{one.usual:.2f} is usual"
    )
    return _finding(photos, place, "off-topic", 1 - 0.5 * FENCE / one.beyond, reason)
