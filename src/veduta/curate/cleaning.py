"""Find the photos that a dataset is better without, and suggest what to do with them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from veduta.curate.archive import Archive, open_archive
from veduta.curate.archive_copies import ArchivePhotos, archive_copies
from veduta.curate.class_members import MIN_CLASS_PHOTOS, class_members
from veduta.curate.copies import SAME_BYTES, CopyPair, copies_among
from veduta.curate.described_photos import DescribedPhotos, OnProgress, describe_photos
from veduta.curate.example_likeness import MIN_KEPT_LIKENESS, example_likeness
from veduta.curate.findings import KINDS, Finding, doubt, most_certain_first
from veduta.curate.groups import copy_groups
from veduta.curate.mislabelled import Mislabelled, find_mislabelled
from veduta.curate.off_topic import MIN_OUTLIER_RANGES, OffTopic, find_off_topic
from veduta.curate.photo_scan import PhotoScan, scan_photos
from veduta.datasets import Dataset, read_dataset
from veduta.errors import QueryError, readable
from veduta.photos import find_photos
from veduta.text import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cleaning", "Describe", "clean"]

_CLASS_KINDS = frozenset(("off-topic", "mislabelled"))
_DESCRIPTOR_KINDS = _CLASS_KINDS | {"near-copy", "unlike"}
_COPY_KINDS = frozenset(("exact-copy", "near-copy"))
_SPLITS_WITHOUT_CLASS = frozenset(("distractor", "unknown"))
_BLOCK_PHOTOS = 4096

Describe = Callable[[Sequence[Path], OnProgress | None], DescribedPhotos]


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What `clean` found.

    Attributes:
        dataset: the photos.
        readable: number of photos that decode.
        findings: the most certain first.
        notes: what was not looked for, and why.
        seconds: duration.
        archive: what the dataset was compared with, besides itself.
    """

    dataset: Dataset
    readable: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float
    archive: Archive | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by kind, in the order of `KINDS`."""
        counts = Counter(finding.kind for finding in self.findings)
        return {name: counts[name] for name in KINDS if counts[name]}

    def drops(self) -> tuple[str, ...]:
        """Return the photos to remove, in the order of the dataset, and then the links to them.

        A file stays if a link that is a photo of the dataset and stays leads to it.
        """
        root = self.dataset.root
        dropped = {finding.path for finding in self.findings if finding.suggestion == "drop"}
        needed = {
            os.path.realpath(root / path)
            for path in self.dataset.paths
            if path not in dropped and os.path.islink(root / path)
        }
        photos = [
            path
            for path in self.dataset.paths
            if path in dropped
            and (
                os.path.islink(root / path)
                or not needed
                or os.path.realpath(root / path) not in needed
            )
        ]
        return (*photos, *self._links_to(photos))

    def _links_to(self, photos: Sequence[str]) -> list[str]:
        """Return the links that were passed over because these photos are there."""
        root = self.dataset.root
        links = self.dataset.passed_over.links
        files = {os.path.realpath(root / path) for path in photos} if links else set()
        found = []
        for link in map(Path, map(os.fsdecode, links)):
            place = Path(os.path.realpath(link.parent)) / link.name
            if os.path.realpath(link) in files and root in place.parents:
                found.append(place.relative_to(root).as_posix())
        return sorted(found)

    def relabels(self) -> dict[str, str]:
        """Return path → suggested label, for the photos that stay."""
        dropped = set(self.drops())
        return {
            finding.path: finding.suggested_label
            for finding in self.findings
            if finding.suggested_label is not None and finding.path not in dropped
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "dataset": os.fspath(self.dataset.root),
            "photos": len(self.dataset.paths),
            "readable": self.readable,
            "counts": self.counts,
            "drops": len(self.drops()),
            "archive": None
            if self.archive is None
            else {"path": os.fspath(self.archive.path), "photos": len(self.archive.files)},
            "findings": [finding.as_json() for finding in self.findings],
            "notes": list(self.notes),
            "problems": list(self.dataset.problems),
            "seconds": round(self.seconds, 2),
        }


def clean(
    path: Path,
    *,
    labels: str | None = None,
    exclude: Sequence[str] = (),
    only: Collection[str] = (),
    examples: Path | None = None,
    against: Path | None = None,
    describe: Describe | None = None,
    on_progress: OnProgress | None = None,
) -> Cleaning:
    """Find broken, blurred, doubled and mislabelled photos in a dataset. Nothing is changed.

    Args:
        path: a folder of class folders, with a `labels.csv`, of splits, or of photos without
            labels; or a CSV file.
        labels: the CSV file to read, relative to the folder.
        exclude: patterns of photos and folders that are left out, as for
            `veduta.datasets.read_dataset`.
        only: names of `KINDS` to look for; empty means all. Photos are described by the encoder
            only if a kind needs it.
        examples: a folder of good photos of one thing. Each photo of the dataset then gets a
            finding of the kind "unlike". Their scores rank the dataset.
        against: a folder or an index. Photos of the dataset that it has already get a finding. Its
            own photos are never changed.
        describe: describes photos. None means `describe_photos` with its folder in the user's
            cache.
        on_progress: called with the step, the number done and the total.

    Raises:
        DatasetError: there are no photos, the labels are not valid, or the archive has no photos
            outside of the dataset.
        QueryError: there is no such kind, or the examples are too few or have nothing in common.
        CollectionError: the cache cannot be used.
    """
    unknown = sorted(set(only) - set(KINDS))
    if unknown:
        raise QueryError(f"There is no kind {unknown[0]!r}; there are {', '.join(KINDS)}.")
    kinds = set(only or KINDS)
    if examples is None:
        kinds.discard("unlike")
    if against is not None and not kinds & _COPY_KINDS:
        raise QueryError("--against looks for copies: add --only exact-copy or --only near-copy.")
    started = time.monotonic()
    dataset = read_dataset(path, labels=labels, every_photo=True, exclude=exclude)
    dataset = replace(dataset, root=Path(os.path.realpath(dataset.root)))
    files = dataset.files
    archive = None if against is None else open_archive(against, dataset.root)

    def on_scan(done: int, total: int) -> None:
        if on_progress:
            on_progress("Reading", done, total)

    scan = scan_photos(files, faults=True, on_progress=on_scan)
    findings = [
        _finding(dataset, fault.position, fault.kind, fault.score, fault.reason)
        for fault in scan.faults
        if fault.kind in kinds
    ]
    notes: list[str] = []
    readable_positions = scan.positions
    pairs = _same_bytes(scan)
    class_findings: list[Finding] = []
    both: DescribedPhotos | None = None
    if kinds & _DESCRIPTOR_KINDS and len(readable_positions):
        describe = describe or _describe
        own_files = [files[position] for position in readable_positions]
        both = describe([*own_files, *(archive.files if archive else ())], on_progress)
        photos = both.first(len(own_files))
        described = _Described(dataset, photos, readable_positions)
        if examples is not None and "unlike" in kinds:
            findings += _unlike_findings(described, describe(_photos_in(examples), on_progress))
        # A photo that was removed after the scan has no row, and gets no more findings.
        if "near-copy" in kinds and len(both.files) > 1:
            place = [*readable_positions.tolist(), *range(len(files), len(files) + len(both.files))]
            pairs += [
                replace(pair, first=place[pair.first], second=place[pair.second])
                for pair in copies_among(both, apart=len(own_files), on_progress=on_progress)
                if pair.kind != SAME_BYTES or pair.second >= len(own_files)
            ]
        if kinds & _CLASS_KINDS:
            own_pairs = [pair for pair in pairs if pair.second < len(files)]
            class_findings, class_notes = _class_findings(described, own_pairs, kinds)
            notes += class_notes
    if kinds & _COPY_KINDS:
        if archive is not None:
            known = _archive_photos(archive, both)
            of_archive, pairs = _archive_findings(dataset, scan, pairs, known)
            findings += [finding for finding in of_archive if finding.kind in kinds]
            if archive.missing:
                notes.append(f"copies of {count(archive.missing, 'photo')} that the index has lost")
        suspected = {finding.path for finding in class_findings}
        copies = _copy_findings(dataset, scan, pairs, suspected)
        findings += [finding for finding in copies if finding.kind in kinds]
    findings += class_findings
    return Cleaning(
        dataset,
        len(readable_positions),
        most_certain_first(findings),
        tuple(notes),
        time.monotonic() - started,
        archive,
    )


def _archive_photos(archive: Archive, both: DescribedPhotos | None) -> ArchivePhotos:
    """Return what is known of an archive's photos, which are the last ones that were described."""
    digests: dict[bytes, int] = {}
    pixels: dict[int, int] = {}
    if both is None:
        scan = scan_photos(archive.files)
        for row, position in enumerate(scan.positions.tolist()):
            digests.setdefault(scan.digests[row].tobytes(), position)
        return ArchivePhotos(archive, digests, pixels)
    rows = both.rows[len(both.files) - len(archive.files) :]
    positions = np.flatnonzero(rows >= 0)
    columns = both.snapshot.rows.select(["content", "width", "height"]).take(rows[positions])
    for position, row in zip(positions.tolist(), columns.to_pylist(), strict=True):
        digests.setdefault(row["content"], position)
        pixels[position] = row["width"] * row["height"]
    return ArchivePhotos(archive, digests, pixels)


def _archive_findings(
    dataset: Dataset, scan: PhotoScan, pairs: Sequence[CopyPair], known: ArchivePhotos
) -> tuple[list[Finding], list[CopyPair]]:
    """Return the findings about copies of the archive, and the pairs of the other photos."""
    photos = len(dataset.paths)
    rows = list(enumerate(scan.positions.tolist()))
    copies = archive_copies(
        {position: scan.digests[row].tobytes() for row, position in rows},
        {position: int(scan.widths[row]) * int(scan.heights[row]) for row, position in rows},
        pairs,
        photos,
        known,
    )
    findings = []
    for copy in copies:
        finding = _finding(
            dataset, copy.position, copy.kind, copy.score, copy.reason, other=copy.other
        )
        findings.append(replace(finding, suggestion="keep") if copy.keep else finding)
    dropped = {copy.position for copy in copies if not copy.keep}
    others = [
        pair for pair in pairs if pair.second < photos and not {pair.first, pair.second} & dropped
    ]
    return findings, others


class _Described(NamedTuple):
    """The readable photos of a dataset with their descriptors.

    Attributes:
        dataset: all photos.
        photos: the readable ones, described.
        positions: (P,) positions of the readable photos in the dataset.
    """

    dataset: Dataset
    photos: DescribedPhotos
    positions: NDArray[np.int64]


def _describe(files: Sequence[Path], on_progress: OnProgress | None) -> DescribedPhotos:
    return describe_photos(files, on_progress=on_progress)


def _finding(
    dataset: Dataset, position: int, kind: str, score: float, reason: str, **more: Any
) -> Finding:
    return Finding(
        dataset.paths[position],
        kind,
        float(score),
        reason,
        KINDS[kind].suggestion,
        label=dataset.labels[position],
        **more,
    )


def _photos_in(folder: Path) -> list[Path]:
    return [Path(os.fsdecode(candidate.path)) for candidate in find_photos([folder])]


def _unlike_findings(described: _Described, examples: DescribedPhotos) -> list[Finding]:
    """Return a finding for each photo that has a descriptor."""
    dataset, photos, positions = described
    example_rows = examples.snapshot.take(examples.rows[examples.rows >= 0].astype(np.intp))
    with_descriptor = np.flatnonzero(photos.rows >= 0)
    findings = []
    for start in range(0, len(with_descriptor), _BLOCK_PHOTOS):
        block = with_descriptor[start : start + _BLOCK_PHOTOS]
        rows = photos.snapshot.take(photos.rows[block].astype(np.intp))
        for number, likeness in zip(
            block, example_likeness(example_rows, rows).tolist(), strict=True
        ):
            keep = likeness >= MIN_KEPT_LIKENESS
            # 0.5 at the threshold. The score falls with the likeness on both sides of it.
            score = (
                0.5 * MIN_KEPT_LIKENESS / likeness
                if keep
                else doubt(MIN_KEPT_LIKENESS / max(likeness, 1e-9))
            )
            reason = f"likeness {likeness:.2f} to the examples, where 1 is usual among them"
            finding = _finding(dataset, int(positions[number]), "unlike", score, reason)
            findings.append(replace(finding, suggestion="keep") if keep else finding)
    return findings


def _same_bytes(scan: PhotoScan) -> list[CopyPair]:
    first_of: dict[bytes, int] = {}
    pairs = []
    for row, position in enumerate(scan.positions.tolist()):
        first = first_of.setdefault(scan.digests[row].tobytes(), position)
        if first != position:
            pairs.append(CopyPair(first, position, SAME_BYTES, 1.0))
    return pairs


@dataclass(frozen=True, slots=True)
class _Copy:
    """A photo of a group of copies; `suspected` tells whether its label may be wrong."""

    path: str
    label: str | None
    suspected: bool
    is_link: bool
    pixels: int
    size: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """The photo with the smallest rank stays."""
        return tuple(key(self) for _, key in _PREFERENCES)

    def advantage_over(self, other: _Copy) -> str:
        """Return why this photo stays rather than another one."""
        return next(reason for reason, key in _PREFERENCES if key(self) != key(other))


_PREFERENCES: tuple[tuple[str, Callable[[_Copy], Any]], ...] = (
    ("its label is not in doubt", lambda copy: copy.suspected),
    ("it is a file and no link", lambda copy: copy.is_link),
    ("its name is UTF-8", lambda copy: readable(copy.path) != copy.path),
    ("it has a label", lambda copy: copy.label is None),
    ("it is larger", lambda copy: -copy.pixels),
    ("it is less compressed", lambda copy: -copy.size),
    ("its name is shorter", lambda copy: len(copy.path)),
    ("its name comes first", lambda copy: copy.path),
)


def _copy_findings(
    dataset: Dataset, scan: PhotoScan, pairs: Sequence[CopyPair], suspected: Collection[str]
) -> list[Finding]:
    """Return a finding for each photo of a group of copies except the best."""
    pairs_of: dict[int, list[CopyPair]] = {}
    for pair in pairs:
        pairs_of.setdefault(pair.first, []).append(pair)
        pairs_of.setdefault(pair.second, []).append(pair)
    findings = []
    for number, group in enumerate(copy_groups(pairs, len(dataset.paths)), start=1):
        copies = {position: _copy(dataset, scan, position, suspected) for position in group}
        ranked = sorted(group, key=lambda position: copies[position].rank)
        best = ranked[0]
        digest_of = {position: scan.digests[scan.row(position)].tobytes() for position in group}
        with_bytes: dict[bytes, list[int]] = {}
        for position in ranked:
            with_bytes.setdefault(digest_of[position], []).append(position)
        for position in ranked[1:]:
            same_bytes = with_bytes[digest_of[position]]
            if position != same_bytes[0]:
                kind, what, score, other = "exact-copy", SAME_BYTES, 1.0, same_bytes[0]
            else:
                pair, other = _best_pair(same_bytes, group, best, pairs_of)
                kind, what, score = "near-copy", pair.kind, pair.score
            advantage = copies[best].advantage_over(copies[position])
            reason = f"{what}; {dataset.paths[best]} stays: {advantage}"
            if dataset.labels[position] != dataset.labels[best]:
                reason += f"; the two have different labels ({dataset.labels[best]})"
            if dataset.splits[position] != dataset.splits[best]:
                reason += f"; in different splits ({dataset.splits[best]})"
            findings.append(
                _finding(
                    dataset,
                    position,
                    kind,
                    score,
                    reason,
                    group=number,
                    other=dataset.paths[other],
                )
            )
    return findings


def _copy(dataset: Dataset, scan: PhotoScan, position: int, suspected: Collection[str]) -> _Copy:
    path, row = dataset.paths[position], scan.row(position)
    return _Copy(
        path,
        dataset.labels[position],
        path in suspected,
        os.path.islink(dataset.root / path),
        int(scan.widths[row]) * int(scan.heights[row]),
        int(scan.sizes[row]),
    )


def _best_pair(
    same_bytes: Sequence[int],
    group: Collection[int],
    best: int,
    pairs_of: dict[int, list[CopyPair]],
) -> tuple[CopyPair, int]:
    """Return the pair that says why a photo is in a group, and the other photo of that pair.

    The pair may be one of any file with the same bytes. Pairs with the best photo come first.
    """
    candidates = []
    for position in same_bytes:
        allowed = set(group) - (set(same_bytes) - {position})
        for pair in pairs_of[position]:
            if {pair.first, pair.second} <= allowed:
                candidates.append((pair, pair.first + pair.second - position))
    return max(
        candidates, key=lambda found: (best in (found[0].first, found[0].second), found[0].score)
    )


def _class_findings(
    described: _Described, pairs: Sequence[CopyPair], kinds: Collection[str]
) -> tuple[list[Finding], list[str]]:
    """Return the findings from comparing photos with their classes, and notes."""
    dataset, photos, positions = described
    labels = [dataset.labels[position] for position in positions]
    compared = np.array(
        [
            row >= 0 and (label is not None or dataset.splits[position] in _SPLITS_WITHOUT_CLASS)
            for row, label, position in zip(photos.rows, labels, positions, strict=True)
        ],
        np.bool_,
    )
    chosen = np.flatnonzero(compared)
    group_of = np.full(len(dataset.paths), -1, np.int64)
    for number, group in enumerate(copy_groups(pairs, len(dataset.paths))):
        group_of[list(group)] = number
    members = class_members(
        photos.snapshot,
        photos.rows[chosen],
        [labels[number] for number in chosen],
        group_of[positions[chosen]],
    )
    if len(set(members.class_ids[members.judged].tolist())) < 2:
        note = (
            "off-topic and mislabelled photos: wanted two classes of "
            f"{MIN_CLASS_PHOTOS} photos or more"
        )
        return [], [note]
    wrong = find_mislabelled(members, photos.index)
    findings = []
    if "mislabelled" in kinds:
        findings += [
            _mislabelled_finding(dataset, int(positions[chosen[one.member]]), one, members.names)
            for one in wrong
        ]
    if "off-topic" in kinds:
        already = {one.member for one in wrong}
        findings += [
            _off_topic_finding(dataset, int(positions[chosen[one.member]]), one)
            for one in find_off_topic(members)
            if one.member not in already
        ]
    return findings, []


def _mislabelled_finding(
    dataset: Dataset, position: int, photo: Mislabelled, names: Sequence[str]
) -> Finding:
    suggested = names[photo.suggested]
    reason = (
        f"{100 * photo.probability:.0f} % {suggested}, {100 * photo.own_probability:.0f} % "
        f"{dataset.labels[position]}, says a recogniser that has not seen it"
    )
    return _finding(
        dataset,
        position,
        "mislabelled",
        1 - photo.own_probability,
        reason,
        suggested_label=suggested,
        probability=photo.probability,
    )


def _off_topic_finding(dataset: Dataset, position: int, photo: OffTopic) -> Finding:
    reason = (
        f"similarity {photo.similarity:.2f} to the rest of {dataset.labels[position]}, where "
        f"{photo.median_similarity:.2f} is usual"
    )
    score = 1 - 0.5 * MIN_OUTLIER_RANGES / photo.ranges
    return _finding(dataset, position, "off-topic", score, reason)
