"""The Met dataset: photos by visitors are named by the exhibits of a museum.

Ypsilantis, Garcia, Han, Ibrahimi, van Noord, Tolias, "The Met Dataset: Instance-level Recognition
for Artworks", NeurIPS Datasets and Benchmarks 2021. `MET_database.json` lists the photos of the
exhibits, `testset.json` and `valset.json` the queries. A query without `MET_id` shows no exhibit: a
distractor query. A gallery photo is right if it shows the exhibit of the query. The figures are GAP
over all queries, GAP without distractor queries, and the accuracy on the latter.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    safe_path,
)
from veduta.errors import DatasetError, readable
from veduta.text import count
from veduta.validation import InvalidValue, read_json

__all__ = ["MET"]

_LAYOUT = """
met/
  ground_truth/             or the files themselves
    MET_database.json       [{"id": 436535, "path": "MET/436535/0.jpg"}, ...]
    mini_MET_database.json  the same of fewer exhibits, for the variants mini and mini-val
    testset.json            [{"path": "test_met/0.jpg", "MET_id": 436535},
                             {"path": "test_other/0.jpg"}, ...]
    valset.json             the same, for the variants val and mini-val
  MET/, test_met/, test_other/, test_noart/
"""

_FULL, _MINI = "MET_database.json", "mini_MET_database.json"
_TEST, _VAL = "testset.json", "valset.json"

_FILES_OF_VARIANT = {
    "test": (_FULL, _TEST),
    "val": (_FULL, _VAL),
    "mini": (_MINI, _TEST),
    "mini-val": (_MINI, _VAL),
}
"""Variant → the files of the gallery and of the queries."""

_FOLDER = "ground_truth"


class _Exhibit(msgspec.Struct):
    """A photo of an exhibit."""

    id: int | str
    path: str


class _Query(msgspec.Struct):
    """A photo by a visitor. Without an id it shows no exhibit."""

    path: str
    MET_id: int | str | None = None


_Row = TypeVar("_Row", _Exhibit, _Query)


def _folder_of(path: Path) -> Path:
    """Return the folder of the lists, for that folder, the one above, or a list."""
    if os.path.isfile(path):
        return path.parent
    return path / _FOLDER if os.path.isdir(path / _FOLDER) else path


def _recognises(path: Path) -> bool:
    if os.path.isfile(path) and path.name not in (_TEST, _VAL):
        return False
    folder = _folder_of(path)
    return any(os.path.isfile(folder / name) for name in (_FULL, _MINI)) and any(
        os.path.isfile(folder / name) for name in (_TEST, _VAL)
    )


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path)
    variant = options.variant or _usual_variant(path, folder)
    files = [folder / name for name in _FILES_OF_VARIANT[variant]]
    for file in files:
        if not os.path.isfile(file):
            raise layout_error(path, "met", _LAYOUT, f"no {file.name}")
    database, listed = files
    exhibits, queries = _rows(database, _Exhibit), _rows(listed, _Query)
    gallery_labels = tuple(str(row.id) for row in exhibits)
    labels = tuple(None if row.MET_id is None else str(row.MET_id) for row in queries)
    known = set(gallery_labels)
    unknown = [label for label in labels if label is not None and label not in known]
    problems: tuple[str, ...] = ()
    if unknown:
        what = f"{count(len(unknown), 'query', 'queries')} of an exhibit that {database.name} lacks"
        if database.name == _FULL:
            raise DatasetError(
                f"{readable(listed)}: {what} (MET_id {some_of(unknown)}); are both files of the "
                "same version of the set?"
            )
        problems = (f"{what} (MET_id {some_of(unknown)}): counted as distractor queries",)
        labels = tuple(label if label in known else None for label in labels)
    above = folder.parent if folder.name == _FOLDER else folder
    return JudgedSet(
        protocol="met",
        name=f"The Met ({variant})",
        root=above if options.photos is None else options.photos,
        queries=unique_ids(listed, "queries", [row.path for row in queries]),
        gallery=unique_ids(database, "gallery photos", [row.path for row in exhibits]),
        query_paths=_paths(listed, queries),
        gallery_paths=_paths(database, exhibits),
        positives=Judgements.of_equal_labels(labels, gallery_labels),
        query_labels=labels,
        gallery_labels=gallery_labels,
        problems=problems,
    )


def _usual_variant(path: Path, folder: Path) -> str:
    """Return the variant that the files show: test before val, the full database before mini."""
    if os.path.isfile(path):
        fitting = [name for name, files in _FILES_OF_VARIANT.items() if files[1] == path.name]
    else:
        fitting = list(_FILES_OF_VARIANT)
    for name in fitting:
        if all(os.path.isfile(folder / file) for file in _FILES_OF_VARIANT[name]):
            return name
    return (fitting or ["test"])[0]


def _rows(file: Path, kind: type[_Row]) -> list[_Row]:
    try:
        rows = read_json(file, list[kind])  # type: ignore[valid-type]
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    except InvalidValue as error:
        keys = '"id" and "path"' if kind is _Exhibit else '"path" and maybe "MET_id"'
        raise DatasetError(
            f"{readable(file)}: {error}; wanted a list of tables with {keys}"
        ) from error
    if not rows:
        raise DatasetError(f"{readable(file)}: the list is empty; fetch the file again")
    return rows


def _paths(file: Path, rows: list[_Row]) -> tuple[str, ...]:
    return tuple(
        safe_path(f"{readable(file)}, [{number}].path", row.path) for number, row in enumerate(rows)
    )


MET = Protocol(
    "met",
    "The Met (Ypsilantis et al., NeurIPS 2021)",
    _LAYOUT,
    _recognises,
    _read,
    tuple(_FILES_OF_VARIANT),
)
