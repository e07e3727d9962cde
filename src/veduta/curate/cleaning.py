"""Find the photos that a dataset is better without, and suggest what to do with them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from veduta.curate.archive import Archive, open_archive
from veduta.curate.archive_copies import ArchivePhotos, archive_copies
from veduta.curate.class_findings import class_findings
from veduta.curate.copies import SAME_BYTES, CopyPair, copies_among
from veduta.curate.copy_findings import copy_findings, same_view_findings
from veduta.curate.described_photos import DescribedPhotos, OnProgress, describe_photos
from veduta.curate.findings import KINDS, Finding, most_certain_first, photo_finding
from veduta.curate.photo_scan import PhotoScan, scan_photos
from veduta.curate.unlike_findings import unlike_findings
from veduta.datasets import Dataset, read_dataset
from veduta.errors import QueryError
from veduta.photos import find_photos
from veduta.text import count

__all__ = ["Cleaning", "Describe", "clean"]

_CLASS_KINDS = frozenset(("off-topic", "mislabelled"))
_ALIGNED_KINDS = frozenset(("near-copy", "same-view"))
_DESCRIPTOR_KINDS = _CLASS_KINDS | _ALIGNED_KINDS | {"unlike"}
_COPY_KINDS = _ALIGNED_KINDS | {"exact-copy"}

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
    if against is not None and not kinds & {"exact-copy", "near-copy"}:
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
        photo_finding(dataset, fault.position, fault.kind, fault.score, fault.reason)
        for fault in scan.faults
    ]
    notes: list[str] = []
    readable_positions = scan.positions
    pairs = _same_bytes(scan)
    of_classes: list[Finding] = []
    both: DescribedPhotos | None = None
    if kinds & _DESCRIPTOR_KINDS and len(readable_positions):
        describe = describe or _describe
        own_files = [files[position] for position in readable_positions]
        both = describe([*own_files, *(archive.files if archive else ())], on_progress)
        photos = both.first(len(own_files))
        if examples is not None and "unlike" in kinds:
            described_examples = describe(_photos_in(examples), on_progress)
            findings += unlike_findings(dataset, photos, readable_positions, described_examples)
        # A photo that was removed after the scan has no row, and gets no more findings.
        if kinds & _ALIGNED_KINDS and len(both.files) > 1:
            place = [*readable_positions.tolist(), *range(len(files), len(files) + len(both.files))]
            pairs += [
                replace(pair, first=place[pair.first], second=place[pair.second])
                for pair in copies_among(both, apart=len(own_files), on_progress=on_progress)
                if pair.kind != SAME_BYTES or pair.second >= len(own_files)
            ]
        if kinds & _CLASS_KINDS:
            own_pairs = [pair for pair in pairs if pair.second < len(files)]
            of_classes, class_notes = class_findings(dataset, photos, readable_positions, own_pairs)
            # Nobody asked for the classes of a pile that is ranked by examples.
            notes += class_notes if examples is None or any(dataset.labels) else []
    if kinds & _COPY_KINDS:
        of_archive: list[Finding] = []
        if archive is not None:
            known = _archive_photos(archive, both)
            of_archive, pairs = _archive_findings(dataset, scan, pairs, known)
            if archive.missing:
                notes.append(f"copies of {count(archive.missing, 'photo')} that the index has lost")
        suspected = {finding.path for finding in of_classes}
        of_copies = [*of_archive, *copy_findings(dataset, scan, pairs, suspected)]
        findings += [*of_copies, *same_view_findings(dataset, pairs, of_copies)]
    findings = [finding for finding in [*findings, *of_classes] if finding.kind in kinds]
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
        [pair for pair in pairs if pair.is_copy],
        photos,
        known,
    )
    findings = []
    for copy in copies:
        finding = photo_finding(
            dataset, copy.position, copy.kind, copy.score, copy.reason, other=copy.other
        )
        findings.append(replace(finding, suggestion="keep") if copy.keep else finding)
    dropped = {copy.position for copy in copies if not copy.keep}
    others = [
        pair for pair in pairs if pair.second < photos and not {pair.first, pair.second} & dropped
    ]
    return findings, others


def _describe(files: Sequence[Path], on_progress: OnProgress | None) -> DescribedPhotos:
    return describe_photos(files, on_progress=on_progress)


def _photos_in(folder: Path) -> list[Path]:
    return [Path(os.fsdecode(candidate.path)) for candidate in find_photos([folder])]


def _same_bytes(scan: PhotoScan) -> list[CopyPair]:
    first_of: dict[bytes, int] = {}
    pairs = []
    for row, position in enumerate(scan.positions.tolist()):
        first = first_of.setdefault(scan.digests[row].tobytes(), position)
        if first != position:
            pairs.append(CopyPair(first, position, SAME_BYTES, 1.0))
    return pairs
