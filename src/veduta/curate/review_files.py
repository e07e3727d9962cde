"""The files that a review writes: the decisions, and the labels of the photos that stay."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from veduta.curate.review_decisions import Decision
from veduta.curate.review_journal import Key
from veduta.curate.review_set import ReviewSet
from veduta.datasets.labels_csv import read_relabelled
from veduta.errors import DatasetError, readable
from veduta.files import write_text

__all__ = ["ReviewFiles", "ReviewOutcome", "count_decisions", "write_results"]

_DECISION_COLUMNS = ("photo", "label_before", "decision", "label_after")


@dataclass(frozen=True, slots=True)
class ReviewFiles:
    """The files of a review.

    Attributes:
        decisions: the file that the user names. The others are beside it.
    """

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
        """Check that the files can be written.

        Args:
            inputs: files that the review reads.

        Raises:
            DatasetError: one of the files is an input, or their folder does not exist.
        """
        if not self.decisions.parent.is_dir():
            raise DatasetError(f"{readable(self.decisions.parent)}: not a folder; make it first")
        for file in (self.decisions, self.labels, self.journal):
            for input_file in inputs:
                if os.path.realpath(file) == os.path.realpath(input_file):
                    raise DatasetError(
                        f"{readable(file)}: the review reads it, so it cannot write there; name "
                        "another file with --out"
                    )


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """What a review decided and wrote.

    Attributes:
        photos: number of photos of the review.
        kept: number of photos that were kept.
        dropped: number of photos that were dropped.
        relabelled: number of photos that got a new label.
        undecided: number of the other photos.
        decisions: the file of decisions.
        labels: the file of labels.
        problems: what was left out, one sentence each.
    """

    photos: int
    kept: int
    dropped: int
    relabelled: int
    undecided: int
    decisions: Path
    labels: Path
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self) | {
            "decisions": readable(self.decisions),
            "labels": readable(self.labels),
            "problems": list(self.problems),
        }


def count_decisions(
    review_set: ReviewSet, decisions: Mapping[Key, Decision], numbers: Iterable[int]
) -> Counter[str]:
    """Return the number of photos by verdict, and under `photos` and `undecided`.

    Args:
        review_set: the photos.
        decisions: those of the journal.
        numbers: of the photos to count.
    """
    counts: Counter[str] = Counter()
    for number in numbers:
        photo = review_set.photos[number]
        decision = decisions.get((photo.path, photo.label))
        counts["photos"] += 1
        counts["undecided" if decision is None else decision.verdict] += 1
    return counts


def write_results(
    files: ReviewFiles,
    review_set: ReviewSet,
    decisions: Mapping[Key, Decision],
    labels_file: Path | None,
) -> ReviewOutcome:
    """Write the decisions and the labels. Each file is replaced as a whole.

    The decisions have a row for each decided photo. The labels have every photo that is not
    dropped, with its new label. Undecided photos keep their label.

    Args:
        files: where to write.
        review_set: the photos.
        decisions: those of the journal.
        labels_file: the CSV file that the dataset was read from. The labels keep its other columns.
            None for a dataset of folders. The labels then have a column `split` if there are any.

    Raises:
        OSError: a file cannot be written.
    """
    _write_csv(files.decisions, _DECISION_COLUMNS, _decision_rows(review_set, decisions))
    _write_csv(files.labels, *_label_rows(review_set, decisions, labels_file))
    reviewed = [number for group in review_set.classes for number in group.photos]
    counts = count_decisions(review_set, decisions, reviewed)
    return ReviewOutcome(
        photos=counts["photos"],
        kept=counts["keep"],
        dropped=counts["drop"],
        relabelled=counts["relabel"],
        undecided=counts["undecided"],
        decisions=files.decisions,
        labels=files.labels,
        problems=tuple(review_set.problems),
    )


def _decision_rows(
    review_set: ReviewSet, decisions: Mapping[Key, Decision]
) -> Iterable[Sequence[str]]:
    for photo in review_set.photos:
        decision = decisions.get((photo.path, photo.label))
        if decision is not None:
            after = decision.label_after(photo.label)
            yield photo.path, photo.label or "", decision.verdict, after or ""


def _label_rows(
    review_set: ReviewSet, decisions: Mapping[Key, Decision], labels_file: Path | None
) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    """Return the header and the rows of the photos that are not dropped."""
    label_of = {}
    for photo in review_set.photos:
        decision = decisions.get((photo.path, photo.label), Decision("keep"))
        if decision.verdict != "drop":
            label_of[photo.path] = decision.label_after(photo.label) or ""
    if labels_file is not None:
        records = read_relabelled(labels_file, label_of, review_set.path_of_row)
        header = next(records)[1]
        return header, (fields for path, fields in records if path in label_of)
    if not any(photo.split for photo in review_set.photos):
        return ("path", "label"), label_of.items()
    split_of = {photo.path: photo.split for photo in review_set.photos}
    rows = ((path, label, split_of[path]) for path, label in label_of.items())
    return ("path", "label", "split"), rows


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(_LineReturner(), lineterminator="\n")
    write_text(file, (writer.writerow(row) for row in chain([header], rows)))


class _LineReturner:
    """A file for `csv.writer` that returns each line instead of writing it."""

    def write(self, line: str) -> str:
        return line
