"""Sets of places whose photos have their UTM coordinates in their names.

This is the common form of Pitts30k, Pitts250k, Tokyo 24/7, St Lucia, SVOX, San Francisco, Eynsham
and others (Berton et al., "Deep Visual Geo-localization Benchmark", CVPR 2022, and
github.com/gmberton/VPR-datasets-downloader). The name of a photo is
`@east@north@zone@letter@…@.jpg`, with east and north in metres.

A gallery photo is right if it is at most 25 m from the query. The zone is not looked at, as in the
benchmark. A query with no such photo stays in the set and has no right photo.

The id of a photo is its path below `database/` or `queries/`.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.judged_set import JudgedSet, unique_ids
from veduta.datasets.protocols.nearby import (
    RADIUS_METRES,
    checked_place,
    judged_by_distance,
    photo_files,
    read_paths,
)
from veduta.datasets.protocols.protocol import Protocol, ReadOptions, layout_error
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["PLACES"]

_SPLITS = ("train", "val", "test")
_USUAL_SPLIT = "test"
_DATABASE = "database"
_QUERIES = "queries"
_LIST_ENDING = "_images_paths.txt"
_SAMPLE_NAMES = 20
"""How many names are looked at to recognise the protocol."""

_LAYOUT = """
pitts30k/
  images/                        or the folders of the splits themselves
    test/                        or train/, val/; or database/ and queries/ themselves
      database/
        @0585030.21@4477030.95@17@T@….jpg   UTM east and north in metres; subfolders are read too
      queries/
        @0585031.09@4477029.12@17@T@….jpg
      database_images_paths.txt  optional: paths below database/, one a line
      queries_images_paths.txt   optional
"""


def _is_split(folder: Path) -> bool:
    return all(
        (folder / side).is_dir() or (folder / f"{side}{_LIST_ENDING}").is_file()
        for side in (_DATABASE, _QUERIES)
    )


def _splits(path: Path) -> dict[str, Path]:
    """Return the folders of the splits; of "" if the path is the folder of a split itself."""
    if _is_split(path):
        return {"": path}
    for folder in (path / "images", path):
        found = {split: folder / split for split in _SPLITS if _is_split(folder / split)}
        if found:
            return found
    return {}


def _recognises(path: Path) -> bool:
    try:
        for folder in _splits(path).values():
            names = folder / f"{_DATABASE}{_LIST_ENDING}"
            if names.is_file():
                sample = list(read_paths(names, _SAMPLE_NAMES))
            else:
                sample = list(islice(photo_files(folder / _DATABASE), _SAMPLE_NAMES))
            return bool(sample) and all(_has_place(each) for each in sample)
    except (DatasetError, OSError):
        pass
    return False


def _has_place(path: str) -> bool:
    fields = path.rpartition("/")[2].split("@")
    try:
        return len(fields) > 2 and bool(checked_place("", fields[1], fields[2]))
    except DatasetError:
        return False


def _chosen(path: Path, variant: str | None) -> tuple[str, Path]:
    """Return the split that is read and its folder."""
    splits = _splits(path)
    if not splits:
        raise layout_error(path, "places", _LAYOUT, "no database/ and queries/")
    if "" in splits:
        name = Path(os.path.abspath(path)).name
        if variant not in (None, name):
            raise DatasetError(
                f"{readable(path)}: a single split, {name!r}; for {variant!r} give the folder above"
            )
        return name, splits[""]
    if variant is None:
        variant = next(iter(splits)) if len(splits) == 1 else _USUAL_SPLIT
    if variant not in splits:
        found = ", ".join(splits)
        raise layout_error(path, "places", _LAYOUT, f"no split {variant!r}, only {found}")
    return variant, splits[variant]


def _read_side(split: Path, photos: Path, side: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the ids and the (N, 2) places of the database or of the queries."""
    names = split / f"{side}{_LIST_ENDING}"
    if names.is_file():
        ids = read_paths(names)
        source = names
    else:
        source = photos / side
        ids = sorted(photo_files(source))
        if not ids:
            raise DatasetError(
                f"{readable(source)}: no photo; wanted photos named @east@north@….jpg"
            )
    places = np.empty((len(ids), 2))
    for row, each in enumerate(ids):
        fields = each.rpartition("/")[2].split("@")
        where = f"{readable(source)}: {readable(each)}"
        if len(fields) < 3:
            raise DatasetError(
                f"{where}: the name has no coordinates; wanted @east@north@….jpg, in metres"
            )
        places[row] = checked_place(where, fields[1], fields[2])
    return unique_ids(source, side, ids), places


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    variant, split = _chosen(path, options.variant)
    photos = split if options.photos is None else options.photos
    gallery, gallery_places = _read_side(split, photos, _DATABASE)
    queries, query_places = _read_side(split, photos, _QUERIES)
    positives = judged_by_distance(query_places, gallery_places)
    alone = int((np.diff(positives.starts) == 0).sum())
    notes = [f"A photo is right if it is at most {RADIUS_METRES:g} m from the query."]
    if alone:
        have = "has" if alone == 1 else "have"
        notes.append(
            f"{count(alone, 'query', 'queries')} of {len(queries):,} {have} no right photo. "
            "Published figures of this benchmark count each as not found: they are the figures "
            f"here times {len(queries) - alone:,} / {len(queries):,}."
        )
    return JudgedSet(
        protocol="places",
        name=f"{_name_of(split, variant)} {variant}".strip(),
        root=photos,
        queries=queries,
        gallery=gallery,
        query_paths=tuple(f"{_QUERIES}/{each}" for each in queries),
        gallery_paths=tuple(f"{_DATABASE}/{each}" for each in gallery),
        positives=positives,
        query_places=query_places,
        gallery_places=gallery_places,
        notes=tuple(notes),
    )


def _name_of(split: Path, variant: str) -> str:
    """Return the name of the set: of the folder above, past images/."""
    folder = Path(os.path.abspath(split)).parent
    if folder.name == "images":
        folder = folder.parent
    return folder.name if variant in _SPLITS else ""


PLACES = Protocol(
    "places",
    "photos named by UTM coordinates (Berton et al., CVPR 2022)",
    _LAYOUT,
    _recognises,
    _read,
    _SPLITS,
)
