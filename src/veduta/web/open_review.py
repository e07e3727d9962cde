"""A review that is open: its photos, the decisions on them, and the files of its results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from veduta.curate.review_files import ReviewFiles, ReviewOutcome, write_results
from veduta.curate.review_journal import ReviewJournal
from veduta.curate.review_set import make_review_set
from veduta.curate.suspicions import read_suspicions, suspicions_of
from veduta.datasets import read_dataset
from veduta.datasets.reading import find_labels_file
from veduta.errors import readable
from veduta.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veduta.curate.findings import Finding

__all__ = ["OpenReview", "ReviewRequest", "default_out"]


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """What is reviewed.

    Attributes:
        dataset: a folder or a CSV file, as `veduta.datasets.read_dataset` takes it.
        findings: those of `veduta clean`, or a CSV file of them, see `read_suspicions`.
        label: the only class to review.
        exclude: patterns of photos that are left out, as for `veduta.datasets.read_dataset`.
        out: the file of decisions; the journal and the labels lie beside it. An older journal is
            continued. None: `default_out`.
    """

    dataset: Path
    findings: Path | Sequence[Finding] | None = None
    label: str | None = None
    exclude: Sequence[str] = ()
    out: Path | None = None


def default_out(dataset: Path) -> Path:
    """Return the default file of decisions: in the current folder, named after the dataset."""
    path = Path(os.path.abspath(dataset))
    folder = path.parent if path.is_file() else path
    return Path(f"{folder.name or 'dataset'}-decisions.csv")


class OpenReview:
    """A review. It holds the lock of its journal until it is closed.

    Attributes:
        files: the results are written to.
        review_set: the photos.
        journal: the decisions.
        lock: held while decisions are read or changed.
        numbers: (path, label) → number of the photo and of its class.
        photo_of_path: path → number of the photo.
        name: of the dataset, for people.
    """

    def __init__(self, request: ReviewRequest) -> None:
        """Read the dataset and the findings, and open the journal.

        Raises:
            DatasetError: the dataset, the findings or the journal do not fit.
            VedutaError: the journal is in use.
        """
        out, findings = request.out, request.findings
        self.files = ReviewFiles(default_out(request.dataset) if out is None else out)
        self._labels_file = find_labels_file(request.dataset)
        read = (self._labels_file, findings)
        self.files.check([file for file in read if isinstance(file, Path)])
        collection = read_dataset(request.dataset, exclude=request.exclude)
        if isinstance(findings, Path):
            suspicions = read_suspicions(findings)
        else:
            suspicions = suspicions_of(findings or ())
        photos = make_review_set(collection, suspicions, request.label)
        self.review_set = photos
        self.journal = ReviewJournal(
            self.files.journal, photos.root, (photo.path for photo in photos.photos)
        )
        self.lock = Lock()
        self.numbers = {
            (photos.photos[photo].path, photos.photos[photo].label): (photo, group)
            for group, members in enumerate(photos.classes)
            for photo in members.photos
        }
        self.photo_of_path = {photo.path: number for number, photo in enumerate(photos.photos)}
        root = printable(readable(os.path.abspath(photos.root)))
        self.name = os.path.basename(root) or root

    def write(self) -> ReviewOutcome:
        """Write the results.

        Returns:
            What was decided, and the files.

        Raises:
            OSError: a result cannot be written.
        """
        return write_results(self.files, self.review_set, self.journal.decisions, self._labels_file)

    def close(self) -> None:
        """Let another process open the journal."""
        self.journal.close()
