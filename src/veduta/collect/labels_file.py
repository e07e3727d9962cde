"""The labels of the collected photos as a CSV file. A folder name cannot hold every label."""

from __future__ import annotations

import csv
from array import array
from pathlib import Path

import numpy as np

from veduta.collect.journal import Journal
from veduta.collect.save_photo import photo_exists
from veduta.datasets.labels_csv import LABELS_FILE
from veduta.files import atomic_file, write_text
from veduta.photos import content_hash

__all__ = ["OTHER_LABELS_FILE", "write_labels_file"]

OTHER_LABELS_FILE = "labels.collected.csv"
"""The name of the file in a folder whose `labels.csv` somebody else wrote or changed."""

# In the state folder: the hash of the `labels.csv` that the last run wrote.
_NOTE = "labels.csv.hash"


def write_labels_file(folder: Path, state: Path, journal: Journal) -> Path | None:
    """Write the path and the label of each photo that was collected into a folder by any run.

    The file is `labels.csv`, which every command reads. If there is one that `collect` did not
    write, or that was changed since, it stays, and the labels go to `OTHER_LABELS_FILE`.

    Args:
        folder: where the photos are.
        state: the folder of the journal.
        journal: of the folder, after `refresh`.

    Returns:
        The file; None if no photo has a label.

    Raises:
        OSError: the file cannot be written.
    """
    positions = _last_of_each_path(folder, journal)
    if not len(positions):
        return None
    file, note = folder / LABELS_FILE, state / _NOTE
    if file.exists() and not _is_own(file, note):
        file = folder / OTHER_LABELS_FILE
    with atomic_file(file, durable=True) as draft:
        with draft.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["path", "label"])
            for row, result in journal.at(positions):
                writer.writerow([result.path, row.label])
        if file.name == LABELS_FILE:
            write_text(note, content_hash(draft.read_bytes()).hex())
    return file


def _last_of_each_path(folder: Path, journal: Journal) -> list[int]:
    """Return the positions of the labelled photos that exist. The latest line about a file counts.

    A path takes 16 bytes of memory.
    """
    paths, positions = array("q"), array("q")
    base = str(folder)
    for position, (row, result) in journal.latest():
        if row.label is not None and result.path is not None and photo_exists(base, result):
            paths.append(hash(result.path))
            positions.append(position)
    newest_first = np.array(paths, np.int64)[::-1]
    _, first = np.unique(newest_first, return_index=True)
    kept: list[int] = np.sort(np.array(positions, np.int64)[::-1][first]).tolist()
    return kept


def _is_own(file: Path, note: Path) -> bool:
    """Return whether a labels file is as the last run wrote it."""
    try:
        return note.read_text("ascii") == content_hash(file.read_bytes()).hex()
    except (OSError, UnicodeDecodeError):
        return False
