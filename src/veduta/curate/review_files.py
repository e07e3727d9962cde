"""What a review leaves: the decisions, and the labels of the photos that stay."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from veduta.curate.review_classes import Album
from veduta.curate.review_decisions import Decision
from veduta.curate.review_journal import Key
from veduta.datasets.labels_csv import read_relabelled
from veduta.errors import DatasetError, readable
from veduta.files import write_text

__all__ = ["ReviewFiles", "ReviewOutcome", "count_decisions", "write_results"]

COLUMNS = ("photo", "label_before", "decision", "label_after")


@dataclass(frozen=True, slots=True)
class ReviewFiles:
    """Where a review writes. `decisions` is what the user names; the others lie beside it."""

    decisions: Path

    @property
    def labels(self) -> Path:
        """The CSV file of the photos that stay."""
        return self.decisions.with_name(f"{self.decisions.stem}-labels.csv")

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.decisions.with_name(f"{self.decisions.stem}.journal")

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise `DatasetError` when one of them is an input, or their folder is not there."""
        if not self.decisions.parent.is_dir():
            raise DatasetError(f"{readable(self.decisions.parent)}: not a folder; make it first")
        for file in (self.decisions, self.labels, self.journal):
            for taken in inputs:
                if os.path.realpath(file) == os.path.realpath(taken):
                    raise DatasetError(
                        f"{readable(file)}: the review reads it, so it cannot write there; name "
                        "another file with --out"
                    )


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """How many photos were kept, dropped, relabelled, and left undecided; what was written."""

    photos: int
    kept: int
    dropped: int
    relabelled: int
    undecided: int
    decisions: Path
    labels: Path
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {
            "decisions": readable(self.decisions),
            "labels": readable(self.labels),
            "problems": list(self.problems),
        }


def count_decisions(
    album: Album, decisions: Mapping[Key, Decision], numbers: Iterable[int]
) -> Counter[str]:
    """Return how many of the photos have each verdict, and `photos` and `undecided`."""
    counts: Counter[str] = Counter()
    for number in numbers:
        photo = album.photos[number]
        decision = decisions.get((photo.path, photo.label))
        counts["photos"] += 1
        counts["undecided" if decision is None else decision.verdict] += 1
    return counts


def write_results(
    files: ReviewFiles, album: Album, decisions: Mapping[Key, Decision], source: Path | None
) -> ReviewOutcome:
    """Write both files, each complete or not at all, and return the outcome.

    The decisions have one row a decided photo. The labels have every photo of the dataset that is
    not dropped, with its new label: an undecided one stays as it is. `source` is the CSV file that
    the dataset was read from, whose other columns they keep; None: folders, of which the split has
    a column of its own if there are any.

    Raises OSError when a file cannot be written.
    """
    _write_csv(files.decisions, COLUMNS, _decided(album, decisions))
    _write_csv(files.labels, *_staying(album, decisions, source))
    shown = [number for group in album.classes for number in group.photos]
    counts = count_decisions(album, decisions, shown)
    return ReviewOutcome(
        photos=counts["photos"],
        kept=counts["keep"],
        dropped=counts["drop"],
        relabelled=counts["relabel"],
        undecided=counts["undecided"],
        decisions=files.decisions,
        labels=files.labels,
        problems=tuple(album.problems),
    )


def _decided(album: Album, decisions: Mapping[Key, Decision]) -> Iterable[Sequence[str]]:
    for photo in album.photos:
        decision = decisions.get((photo.path, photo.label))
        if decision is not None:
            after = decision.label_after(photo.label)
            yield photo.path, photo.label or "", decision.verdict, after or ""


def _staying(
    album: Album, decisions: Mapping[Key, Decision], source: Path | None
) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    staying = {}
    for photo in album.photos:
        decision = decisions.get((photo.path, photo.label), Decision("keep"))
        if decision.verdict != "drop":
            staying[photo.path] = decision.label_after(photo.label) or ""
    if source is not None:
        records = read_relabelled(source, staying)
        header = next(records)[1]
        return header, (fields for path, fields in records if path in staying)
    if not any(photo.split for photo in album.photos):
        return ("path", "label"), staying.items()
    splits = {photo.path: photo.split for photo in album.photos}
    rows = ((path, label, splits[path]) for path, label in staying.items())
    return ("path", "label", "split"), rows


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = csv.writer(_Echo(), lineterminator="\n")
    write_text(file, (lines.writerow(row) for row in chain([header], rows)))


class _Echo:
    """What `csv.writer` writes to: it hands each line back."""

    def write(self, line: str) -> str:
        return line
