"""Find the files of an index that are damaged, apart from its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from veduta.errors import IndexDamaged
from veduta.index.cell_files import FOLDER as CELLS_FOLDER
from veduta.index.cell_files import cells_are_damaged
from veduta.index.findings import CheckFinding, FileKind
from veduta.index.graph import FOLDER as GRAPH_FOLDER
from veduta.index.graph import graph_state
from veduta.index.manifest import Manifest
from veduta.index.projection_file import read_projection
from veduta.index.snapshot import SNAPSHOT_FOLDER, snapshot_is_damaged
from veduta.index.storage_errors import index_errors
from veduta.index.table import TABLE_FOLDER, Table
from veduta.npz_file import read_all_arrays

__all__ = [
    "RECOGNISERS_FOLDER",
    "damage_of_table",
    "damaged_parts",
    "remove_damaged_recognisers",
]

RECOGNISERS_FOLDER = "recognition"
"""The folder of learned recognisers inside the folder of an index."""


def damaged_parts(index: Path, manifest: Manifest) -> Iterator[CheckFinding]:
    """Hash what belongs to the newest version of an index beside its table, and compare it.

    Args:
        index: the folder of the index.
        manifest: of the index.

    Yields:
        What is damaged.

    Raises:
        StorageError: the disk does not read.
    """
    with index_errors(index, "read"):
        if snapshot_is_damaged(index, manifest):
            detail = "a file of it does not match its checksum"
            yield _finding(index / SNAPSHOT_FOLDER, "snapshot damaged", detail)
    if cells_are_damaged(index, manifest):
        detail = "a file of them does not match its checksum"
        yield _finding(index / CELLS_FOLDER, "cells damaged", detail)
    if graph_state(index, manifest, anew=True) == "damaged":
        detail = "a file of it does not match its checksum"
        yield _finding(index / GRAPH_FOLDER, "graph damaged", detail)
    try:
        read_projection(index, manifest)
    except IndexDamaged:
        file = index / str(manifest.projection)
        yield _finding(file, "projection damaged", "it is missing or does not match its hash")
    for file in _damaged_recognisers(index):
        yield _finding(file, "recogniser damaged", "it does not match its checksums")


def remove_damaged_recognisers(index: Path) -> None:
    """Remove the learned recognisers that are damaged. They are learned again when needed.

    Args:
        index: the folder of the index.

    Raises:
        StorageError: the disk does not accept it.
    """
    for file in list(_damaged_recognisers(index)):
        with index_errors(index, "write"):
            file.unlink(missing_ok=True)


def _damaged_recognisers(index: Path) -> Iterator[Path]:
    for file in sorted((index / RECOGNISERS_FOLDER).glob("*.npz")):
        with index_errors(index, "read"):
            try:
                read_all_arrays(file)
            except FileNotFoundError:
                continue
            except ValueError:
                yield file


def damage_of_table(table: Table) -> Iterator[CheckFinding]:
    """Yield what is damaged of the files of a table.

    Args:
        table: from `veduta.index.table.open_damaged_table`.
    """
    folder = table.index / TABLE_FOLDER
    if table.notice:
        yield _finding(folder, "table damaged", table.notice)
    for name in table.damaged:
        yield _finding(folder / name, "table damaged", "it does not match its checksum")


def _finding(file: Path, kind: FileKind, detail: str) -> CheckFinding:
    return CheckFinding(None, os.fsencode(file), kind, detail)
