"""Retrieval of the Google Landmarks Dataset v2, with its photos on disk.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020. `index.csv` lists the gallery.
The retrieval solution has the queries and their right photos. Queries that it marks `Ignored` are
left out. A query without a right photo stays in the set and has no average precision. The photo
with the id `abcd` is `index/a/b/c/abcd.jpg` or `test/a/b/c/abcd.jpg`. The figure is mAP@100 divided
by min(100, right photos), as in the paper.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from veduta.datasets.dataset import some_of
from veduta.datasets.google_landmarks import read_photo_list, read_retrieval_solution
from veduta.datasets.judged_set import JudgedSet, Judgements
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    positions_of,
)
from veduta.errors import DatasetError, readable

__all__ = ["GOOGLE_LANDMARKS"]

_LAYOUT = """
google-landmarks/
  index.csv                        the gallery; it may be in metadata/
  test.csv                         all test photos, optional; it may be in metadata/
  retrieval_solution_v2.1.csv      id,images,Usage; it may be in ground_truth/
  index/0/0/0/0002b0fab5d3ccc4.jpg
  test/0/0/0/000b15b043eb8cf0.jpg
"""

_USAGE_OF_VARIANT = {"all": "all", "public": "Public", "private": "Private"}

_LIST_FOLDERS = ("", "metadata", "ground_truth")

_SOLUTION = re.compile(r"retrieval_solution.*\.csv")

# The first three characters of an id are the names of folders.
_ID = re.compile(r"[0-9A-Za-z_-]{3,}")


def _solutions(folder: Path) -> list[Path]:
    """Return the retrieval solutions of a folder."""
    found = []
    for name in _LIST_FOLDERS:
        try:
            names = os.listdir(folder / name)
        except (OSError, ValueError):
            continue
        found += [folder / name / each for each in sorted(names) if _SOLUTION.fullmatch(each)]
    return found


def _list_file(folder: Path, file: str) -> Path | None:
    """Return the path of a list; None if there is none."""
    for name in _LIST_FOLDERS:
        if os.path.isfile(folder / name / file):
            return folder / name / file
    return None


def _folder_of(path: Path) -> Path:
    """Return the folder of the set, for that folder or for a list in it."""
    folder = path.parent if os.path.isfile(path) else path
    return folder.parent if folder.name in _LIST_FOLDERS[1:] else folder


def _recognises(path: Path) -> bool:
    if os.path.isfile(path) and not _SOLUTION.fullmatch(path.name):
        return False
    folder = _folder_of(path)
    return bool(_solutions(folder)) and _list_file(folder, "index.csv") is not None


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path)
    solutions = [path] if os.path.isfile(path) else _solutions(folder)
    if not solutions:
        raise layout_error(path, "google-landmarks", _LAYOUT, "no retrieval_solution*.csv")
    if len(solutions) > 1:
        raise DatasetError(
            f"{readable(path)}: {len(solutions)} solutions "
            f"({some_of(file.name for file in solutions)}); name the file to use in place of the "
            "folder"
        )
    index = _list_file(folder, "index.csv")
    if index is None:
        raise layout_error(path, "google-landmarks", _LAYOUT, "no index.csv")
    variant = options.variant or "all"
    solution = read_retrieval_solution(solutions[0], _USAGE_OF_VARIANT[variant])
    gallery = tuple(photo.id for photo in read_photo_list(index))
    if not gallery:
        raise DatasetError(f"{readable(index)}: no photo; wanted a line for each gallery photo")
    queries = tuple(solution.answers)
    test = _list_file(folder, "test.csv")
    if test is not None:
        known = {photo.id: 0 for photo in read_photo_list(test)}
        positions_of(f"{readable(solution.file)}, compared with {test.name}", queries, known, "id")
    position_of = {photo: row for row, photo in enumerate(gallery)}
    return JudgedSet(
        protocol="google-landmarks",
        name=f"Google Landmarks v2 retrieval ({variant})",
        root=folder if options.photos is None else options.photos,
        queries=queries,
        gallery=gallery,
        query_paths=_paths(solution.file, "test", queries),
        gallery_paths=_paths(index, "index", gallery),
        positives=Judgements.of(
            _right(f"{readable(solution.file)}, query {query}", photos, position_of)
            for query, photos in solution.answers.items()
        ),
    )


def _right(where: str, photos: tuple[str, ...], position_of: dict[str, int]) -> Iterable[int]:
    if len(set(photos)) < len(photos):
        twice = [photo for photo, times in Counter(photos).items() if times > 1]
        raise DatasetError(f"{where}: {some_of(twice)} comes twice; list each right photo once")
    return positions_of(where, photos, position_of, "gallery photo")


def _paths(file: Path, folder: str, ids: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [each for each in ids if not _ID.fullmatch(each)]:
        raise DatasetError(
            f"{readable(file)}: no photo can have the id {some_of(map(repr, wrong))}; wanted at "
            "least three letters or digits, since the first three are the names of its folders"
        )
    return tuple(f"{folder}/{each[0]}/{each[1]}/{each[2]}/{each}.jpg" for each in ids)


GOOGLE_LANDMARKS = Protocol(
    "google-landmarks",
    "Google Landmarks v2 retrieval (Weyand, Araujo, Cao, Sim, CVPR 2020)",
    _LAYOUT,
    _recognises,
    _read,
    tuple(_USAGE_OF_VARIANT),
)
