"""The cells of an index on disk: built with its graph, and asked after each build.

A sample of the collection is asked after each build: how many of the nearest photos of the exact
search do the cells find? A search then compares as many codes as this sample needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from veduta.errors import CollectionError, readable
from veduta.files import atomic_folder
from veduta.index.cells import Cells, assign, train
from veduta.index.checksums import CHECKSUMS_FILE, Checksums, seal
from veduta.index.distinct_photos import content_hashes, largest_hashes
from veduta.index.snapshot import Snapshot, as_float32, snapshot_name
from veduta.index.storage_errors import index_errors, storage_error
from veduta.text import veduta_command
from veduta.validation import InvalidValue, read_json

if TYPE_CHECKING:
    from veduta.index.manifest import Manifest

__all__ = [
    "CELLS_FROM_PHOTOS",
    "FOLDER",
    "MIN_PHOTOS",
    "StoredCells",
    "ask",
    "cells_are_damaged",
    "open_cells",
    "update_cells",
]

FOLDER = "cells"
_FACTS_FILE = "cells.json"
_CONTENTS_FILE = "contents.npy"
_VERSION = 2

CELLS_FROM_PHOTOS = 50_000
"""A collection of so many photos has cells, and its graph is made with them. docs/scale.md compares
the time and the links with those of the exact way."""

MIN_PHOTOS = 5_000
"""With fewer photos cells cannot be trained well, and a search with them is no faster."""

_GROWTH_BEFORE_TRAINING = 2.0
"""The cells are trained again when the collection has grown so much."""

_ASKED_PHOTOS = 400
_ASKED_NEIGHBOURS = 10
_SCORED_PHOTOS = 256
"""So many photos, those with the nearest codes, are scored for the ten nearest."""
_WANTED_RECALL = 0.985
_LEAST_RECALL = 0.95
_LEAST_COMPARED_PHOTOS = 16_384
_BLOCK_ROWS = 8192

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StoredCells:
    """The cells of a version of an index.

    Attributes:
        cells: with all photos of the version.
        compared: of so many photos at least a search compares the codes.
        recall: the share of the ten nearest photos of the exact search that were found then, for
            400 photos of the collection that did not train the cells, as long as there are others.
            A photo is not counted among its own nearest.
    """

    cells: Cells
    compared: int
    recall: float


@dataclass(frozen=True, slots=True)
class _Facts:
    """What `cells.json` says.

    Attributes:
        version: `_VERSION` when the cells were written.
        projection: `Manifest.projection`, which decides the descriptors.
        trained: with how many photos in the collection the cells were trained.
        compared: as in `StoredCells`.
        recall: as in `StoredCells`.
    """

    version: int
    projection: str | None
    trained: int
    compared: int
    recall: float


def open_cells(index: Path, manifest: Manifest, name: str | None = None) -> StoredCells | None:
    """Map the cells of a version of an index.

    Args:
        index: its folder.
        manifest: of the index.
        name: of the version, see `Snapshot.name`; None: the newest.

    Returns:
        None if the version has no cells, or if they are damaged. The next update makes them.

    Raises:
        StorageError: the disk does not read.
    """
    found = _read(index / FOLDER / (name or snapshot_name(index, manifest)), index)
    if found is None:
        return None
    cells, facts = found
    return StoredCells(cells, facts.compared, facts.recall)


def cells_are_damaged(index: Path, manifest: Manifest) -> bool:
    """Hash the cells of the newest version of an index anew.

    Args:
        index: the folder of the index.
        manifest: of the index.

    Returns:
        False also if there are none.

    Raises:
        StorageError: the disk does not read.
    """
    folder = index / FOLDER / snapshot_name(index, manifest)
    return (folder / CHECKSUMS_FILE).exists() and _read(folder, index, anew=True) is None


def update_cells(
    index: Path, manifest: Manifest, snapshot: Snapshot, on_progress: OnProgress | None = None
) -> StoredCells | None:
    """Bring the cells of an index to the version of a snapshot, or remove them.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        manifest: of the newest version.
        snapshot: of the newest version.
        on_progress: called with (photos in their cell, photos).

    Returns:
        None if the collection is too small for cells.

    Raises:
        CollectionError: the cells find too few of the nearest photos. They are not used then.
        StorageFull: the disk has no room for them.
        StorageError: the disk does not read or write.
    """
    wanted = snapshot.photos >= CELLS_FROM_PHOTOS
    if not wanted and not (manifest.approximate and snapshot.photos >= MIN_PHOTOS):
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        return None
    there = open_cells(index, manifest, snapshot.name)
    if there is not None:
        return there
    cells, facts = _extended(index, manifest, snapshot, on_progress)
    if facts.recall < _WANTED_RECALL and facts.trained != snapshot.photos:
        cells, facts = _trained(manifest, snapshot, on_progress)
    if facts.recall < _LEAST_RECALL:
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        raise CollectionError(
            f"{readable(index)}: the cells of its photos find {facts.recall:.3f} of the nearest "
            f"photos of a sample, less than {_LEAST_RECALL}. All photos are searched exactly, and "
            "their links are not made. Does the encoder suit these photos? Compare others with: "
            + veduta_command("models")
        )
    _write(index, cells, facts, snapshot)
    return open_cells(index, manifest, snapshot.name)


def _extended(
    index: Path, manifest: Manifest, snapshot: Snapshot, on_progress: OnProgress | None
) -> tuple[Cells, _Facts]:
    """Return the cells of an earlier version with the photos of this one, or new ones."""
    for folder in sorted((index / FOLDER).glob("[!.]*")):
        found = _read(folder, index)
        if found is None:
            continue
        cells, facts = found
        grown = snapshot.photos > facts.trained * _GROWTH_BEFORE_TRAINING
        if facts.projection != manifest.projection or grown:
            continue
        known = _known_places(np.load(folder / _CONTENTS_FILE, mmap_mode="r"), snapshot)
        cells = assign(snapshot, cells, known, on_progress)
        return cells, ask(cells, manifest, snapshot, trained=facts.trained)
    return _trained(manifest, snapshot, on_progress)


def _trained(
    manifest: Manifest, snapshot: Snapshot, on_progress: OnProgress | None
) -> tuple[Cells, _Facts]:
    cells = assign(snapshot, train(snapshot), None, on_progress)
    return cells, ask(cells, manifest, snapshot, trained=snapshot.photos)


def _known_places(contents: NDArray[np.bytes_], snapshot: Snapshot) -> NDArray[np.intp]:
    """Return the place (n,) of each photo among contents (p,), -1 for one that is not there."""
    wanted = content_hashes(snapshot)
    order = np.argsort(contents)
    positions = np.searchsorted(contents, wanted, sorter=order).clip(max=len(contents) - 1)
    places = order[positions]
    return np.where(contents[places] == wanted, places, -1)


def ask(cells: Cells, manifest: Manifest, snapshot: Snapshot, *, trained: int) -> _Facts:
    """Ask the photos with the largest hashes, and note how many codes have to be compared.

    The cells are trained with the photos of the smallest hashes and suit those better than others.

    Args:
        cells: with all photos of the snapshot.
        manifest: of the index.
        snapshot: of the index.
        trained: with how many photos in the collection the cells were trained.
    """
    rows = largest_hashes(snapshot, _ASKED_PHOTOS)
    queries = as_float32(snapshot.descriptors[rows])
    number = min(_ASKED_NEIGHBOURS + 1, snapshot.photos)  # A photo is among its own nearest.
    least = _least_of_nearest(snapshot, queries, number)
    compared = _LEAST_COMPARED_PHOTOS
    while True:
        recall = float(
            np.mean(
                [
                    _found(snapshot, cells, row, query, compared, number, limit)
                    for row, query, limit in zip(rows, queries, least.tolist(), strict=True)
                ]
            )
        )
        if recall >= _WANTED_RECALL or compared >= snapshot.photos:
            return _Facts(_VERSION, manifest.projection, trained, compared, recall)
        compared *= 2


def _found(
    snapshot: Snapshot,
    cells: Cells,
    row: np.intp,
    query: NDArray[np.float32],
    compared: int,
    number: int,
    limit: float,
) -> float:
    """Return the share that cells find of the `number` nearest photos to one, without itself."""
    rows = cells.candidates(query, _SCORED_PHOTOS, compared)
    rows = rows[rows != row]
    scores = np.einsum("nd,d->n", snapshot.take(rows.astype(np.intp)), query)
    return min(1.0, np.count_nonzero(scores >= limit - _ROUNDING) / (number - 1))


_ROUNDING = 1e-5
"""More than the order of a sum in float32 changes in a similarity."""


def _least_of_nearest(
    snapshot: Snapshot, queries: NDArray[np.float32], number: int
) -> NDArray[np.float32]:
    """Return (q,) the similarity of the last of the `number` nearest photos, by an exact search."""
    best = np.full((len(queries), number), -np.inf, np.float32)
    for start in range(0, snapshot.photos, _BLOCK_ROWS):
        block = queries @ as_float32(snapshot.descriptors[start : start + _BLOCK_ROWS]).T
        both = np.concatenate([best, block], axis=1)
        best = np.partition(both, -number, axis=1)[:, -number:]
    least: NDArray[np.float32] = best.min(axis=1)
    return least


def _read(folder: Path, index: Path, *, anew: bool = False) -> tuple[Cells, _Facts] | None:
    """Map the cells in a folder; None if they are missing, damaged or of another version."""
    mode: Literal["r"] = "r"
    with index_errors(index, "read"):
        try:
            checksums = Checksums.read(folder)
            if checksums is None or checksums.damaged(anew=anew):
                return None
            facts = read_json(folder / _FACTS_FILE, _Facts)
            if facts.version != _VERSION:
                return None
            arrays = {
                field.name: np.load(folder / f"{field.name}.npy", mmap_mode=mode)
                for field in fields(Cells)
            }
        except (FileNotFoundError, InvalidValue, ValueError):
            return None  # A writer removed them meanwhile, or they are damaged.
    return Cells(**arrays), facts


def _write(index: Path, cells: Cells, facts: _Facts, snapshot: Snapshot) -> None:
    """Write and seal the cells of a version, and remove those of other versions."""
    target = index / FOLDER / snapshot.name
    try:
        with atomic_folder(target, durable=True) as draft:
            for field in fields(cells):
                np.save(draft / f"{field.name}.npy", getattr(cells, field.name))
            np.save(draft / _CONTENTS_FILE, content_hashes(snapshot)[cells.rows])
            (draft / _FACTS_FILE).write_text(json.dumps(asdict(facts)), "utf-8")
            seal(draft)
    except OSError as error:
        raise storage_error(error, index, "write") from error
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
