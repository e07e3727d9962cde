"""Where the labels of an index come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from veduta.datasets import read_labels_csv
from veduta.datasets.folders import FolderLayout

FOLDERS = "folders"

Labeller = Callable[[bytes], str | None]


def labeller(rule: str | os.PathLike[str], folders: Sequence[Path]) -> Labeller:
    """Return a function that gives the label of an absolute path.

    Args:
        rule: `"folders"` for the names of class folders, also inside the folders of splits (see
            `veduta.datasets.folders`); otherwise the path of a CSV file of photos and labels.
        folders: the indexed folders, absolute. The first one that holds the photo counts.

    Raises:
        DatasetError: the CSV file is refused.
    """
    if rule == FOLDERS:
        layouts = [FolderLayout.of(folder) for folder in folders]

        def label_of_folder(path: bytes) -> str | None:
            for layout in layouts:
                if path.startswith(layout.root):
                    return layout.label(path)
            return None

        return label_of_folder
    return read_labels_csv(rule).get
