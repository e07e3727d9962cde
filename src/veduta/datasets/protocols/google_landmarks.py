"""The Google Landmarks Dataset v2, with its photos on disk: retrieval, and the photos to recognise.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020. `index.csv` lists the gallery.
The retrieval solution has the queries and their right photos. Queries that it marks `Ignored` are
left out. A query without a right photo stays in the set and has no average precision. The photo
with the id `abcd` is `index/a/b/c/abcd.jpg` or `test/a/b/c/abcd.jpg`. The figure is mAP@100 divided
by min(100, right photos), as in the paper.

`recognition_dataset` reads the other task: `train.csv` lists the gallery with its landmarks, the
recognition solution the queries. The figure is GAP.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.google_landmarks import (
    read_photo_list,
    read_recognition_solution,
    read_retrieval_solution,
    read_train,
)
from veduta.datasets.judged_set import JudgedSet, Judgements
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    positions_of,
)
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["GOOGLE_LANDMARKS", "recognition_dataset"]

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
_RECOGNITION_SOLUTION = re.compile(r"recognition_solution.*\.csv")

# The first three characters of an id are the names of folders.
_ID = re.compile(r"[0-9A-Za-z_-]{3,}")


def _solutions(folder: Path, pattern: re.Pattern[str] = _SOLUTION) -> list[Path]:
    """Return the solutions of a folder."""
    found = []
    for name in _LIST_FOLDERS:
        try:
            names = os.listdir(folder / name)
        except (OSError, ValueError):
            continue
        found += [folder / name / each for each in sorted(names) if pattern.fullmatch(each)]
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


def recognition_dataset(path: Path) -> Dataset | None:
    """Return the photos of the task of recognition; None if the folder does not have its files.

    A query with several landmarks has the label of the first one that `train.csv` has. A query
    without a landmark is of the split `unknown`.

    Args:
        path: the folder of the set.

    Raises:
        DatasetError: a list cannot be read or is wrong, or there are several solutions.
    """
    folder = _folder_of(path)
    solutions = _solutions(folder, _RECOGNITION_SOLUTION)
    train = _list_file(folder, "train.csv")
    if train is None or not solutions or not os.path.isdir(folder / "train"):
        return None
    if len(solutions) > 1:
        raise DatasetError(
            f"{readable(path)}: {len(solutions)} solutions "
            f"({some_of(file.name for file in solutions)}); leave one of them in the folder"
        )
    photos = [(photo.id, photo.landmark) for photo in read_train(train)]
    answers = read_recognition_solution(solutions[0]).answers
    known = {landmark for _, landmark in photos}
    labels: list[str | None] = [landmark for _, landmark in photos]
    splits = ["gallery"] * len(photos)
    several = 0
    for landmarks in answers.values():
        several += len(landmarks) > 1
        listed = sorted(landmarks)
        first = listed[0] if listed else None
        labels.append(next((each for each in listed if each in known), first))
        splits.append("query" if listed else "unknown")
    paths = (
        *_paths(train, "train", tuple(photo for photo, _ in photos)),
        *_paths(solutions[0], "test", tuple(answers)),
    )
    problems = []
    if several:
        problems.append(
            f"{count(several, 'query', 'queries')} with several landmarks: only one that the "
            "gallery has counts as right"
        )
    return Dataset(folder, as_table(list(paths), labels, splits), tuple(problems))


GOOGLE_LANDMARKS = Protocol(
    "google-landmarks",
    "Google Landmarks v2 retrieval (Weyand, Araujo, Cao, Sim, CVPR 2020)",
    _LAYOUT,
    _recognises,
    _read,
    tuple(_USAGE_OF_VARIANT),
)
