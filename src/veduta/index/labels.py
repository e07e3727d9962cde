"""Where the labels of an index come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from veduta.datasets import labels_from_folders, read_labels_csv

FOLDERS = "folders"

Labeller = Callable[[bytes], str | None]


def labeller(rule: str | os.PathLike[str], folders: Sequence[Path]) -> Labeller:
    """Return the function path → label that a rule stands for.

    Args:
        rule: `"folders"`: the first folder below the one of `folders` that holds the photo; else
            the path of a CSV with the columns `path` and `label`.
        folders: what is indexed, absolute.

    Raises:
        DatasetError: the CSV is not as it should be.
    """
    if rule == FOLDERS:
        roots = [(os.path.join(os.fsencode(root), b""), root) for root in folders]

        def by_folder(path: bytes) -> str | None:
            for prefix, root in roots:
                if path.startswith(prefix):
                    return next(labels_from_folders([path], root))
            return None

        return by_folder
    return read_labels_csv(rule).get
