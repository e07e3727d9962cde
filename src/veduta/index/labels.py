"""Where the labels of an index come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.folders import FolderLayout
from veduta.datasets.labels_csv import LabelsFile
from veduta.errors import DatasetError

FOLDERS = "folders"
NO_LABELS = "none"

Labeller = Callable[[bytes], str | None]


@dataclass(frozen=True, slots=True)
class LabelSource:
    """What gives photos their labels, read before the photos are listed.

    Attributes:
        roots: the folders of the index, absolute. None lies in another.
        layouts: what the folders in each root stand for; empty with a CSV file.
        file: the CSV file; None with class folders.
    """

    roots: Sequence[Path]
    layouts: Sequence[FolderLayout] = ()
    file: LabelsFile | None = None

    @classmethod
    def of(
        cls, rule: str | os.PathLike[str], roots: Sequence[Path], exclude: Sequence[str] = ()
    ) -> LabelSource:
        """Return the source of a rule.

        Args:
            rule: `"folders"` for the names of class folders, also inside the folders of splits (see
                `veduta.datasets.folders`); `"none"` for no labels; otherwise the path of a CSV
                file of photos and labels.
            roots: the folders of the index, absolute. None lies in another.
            exclude: patterns of what is passed over in them.

        Raises:
            DatasetError: the CSV file is refused.
        """
        if rule == FOLDERS:
            return cls(roots, layouts=[FolderLayout.of(root, exclude=exclude) for root in roots])
        if rule == NO_LABELS:
            return cls(roots)
        try:
            return cls(roots, file=LabelsFile(rule))
        except DatasetError as error:
            raise DatasetError(
                f"{error}. The labels of the index come from this file: mend it, or name another "
                "source with --labels"
            ) from error

    def labeller(self, photos: Iterable[bytes]) -> tuple[Labeller, tuple[str, ...]]:
        """Return a function that gives the label of an absolute path, and notes for the user.

        Args:
            photos: absolute paths of all photos of the index.

        Raises:
            DatasetError: no row of the CSV file names a photo, or one could name two.
        """
        if self.file is None:
            return self._label_of_folder, tuple(self._doubled_classes(photos))
        labels = self.file.match(photos, self.roots)
        return labels.label_of.get, labels.notes

    def _doubled_classes(self, photos: Iterable[bytes]) -> Iterator[str]:
        paths = list(photos)
        for root, layout in zip(self.roots, self.layouts, strict=False):
            inside = (layout.parts(path) for path in paths if path.startswith(layout.root))
            yield from layout.doubled_classes(root, inside)

    def _label_of_folder(self, path: bytes) -> str | None:
        for layout in self.layouts:
            if path.startswith(layout.root):
                return layout.label(path)
        return None


def check_label_loss(lost: int, labelled: int, *, allowed: bool) -> None:
    """Refuse an update that takes labels away.

    Args:
        lost: number of photos that would have a label no more.
        labelled: number of photos that have one now, with those.
        allowed: accept it.

    Raises:
        DatasetError: labels would be lost, and that is not allowed.
    """
    if lost and not allowed:
        photos = f"{lost:,} of {labelled:,} labelled photos"
        raise DatasetError(
            f"{photos} would lose their label. Nothing was changed. Name the source of all labels "
            "with --labels, or run with --allow-label-loss."
        )
