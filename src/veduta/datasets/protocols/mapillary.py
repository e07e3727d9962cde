"""Mapillary Street-Level Sequences: photos of 30 cities over nine years.

Paper: Warburg, Hauberg, López-Antequera, Gargallo, Kuang, Civera, "Mapillary Street-Level
Sequences: A Dataset for Lifelong Place Recognition", CVPR 2020. The rules are those of
`evaluate.py` of github.com/mapillary/mapillary_sls for single photos (`im2im`, subtask `all`):

- the photos that `subtask_index.csv` marks as `all` take part, panoramas of `raw.csv` do not;
- a gallery photo is right if it is in the city of the query and at most 25 m away;
- the galleries of all cities of the split are one gallery;
- a query without a right photo is in no mean.

A table has the figures by the years between a query and its right photos, from `captured_at`.
`control_panel`, `night` and `view_direction` play no part. The id of a photo is its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.csv_records import read_records, refuse
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.nearby import RADIUS_METRES, checked_place, judged_by_distance
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    safe_path,
)
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["MAPILLARY"]

_CITIES = {
    "val": ("cph", "sf"),
    "train": (
        *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo"),
        *("toronto", "saopaulo", "moscow", "zurich", "paris", "bangkok", "budapest", "austin"),
        *("berlin", "ottawa", "phoenix", "goa", "amman", "nairobi", "manila"),
    ),
    "test": ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala"),
}
_FOLDERS = {"val": "train_val", "train": "train_val", "test": "test"}
_USUAL_SPLIT = "val"
_DAYS_A_YEAR = 365.25
_MILLISECONDS_A_DAY = 86_400_000
_QUERY = "query"
_DATABASE = "database"
_PLACES = "postprocessed.csv"
_RAW = "raw.csv"
_SUBTASKS = "subtask_index.csv"

_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    _PLACES: (("key", "easting", "northing"), ()),
    _RAW: (("pano",), ("key", "captured_at")),
    _SUBTASKS: (("all",), ("key",)),
}
"""File → the columns that are read, and one that it may lack."""

_LAYOUT = """
mapillary_sls/                 or train_val/ itself
  train_val/
    cph/                       one folder for each city; val is cph and sf
      query/
        postprocessed.csv      key, easting, northing, …
        raw.csv                key, …, captured_at, pano
        subtask_index.csv      key, all, …
        images/KEY.jpg
      database/                the same files
"""


@dataclass(frozen=True, slots=True)
class _Side:
    """The queries or the gallery of one city.

    Attributes:
        keys: of the photos that take part.
        places: (N, 2) east and north in metres, in the zone of the city.
        dates: (N,) datetime64[D], NaT where `raw.csv` has none.
        panoramas: how many photos do not take part because they are panoramas.
        others: how many do not because they are not of the subtask `all`.
        absent: the files that are not there, which would say so.
    """

    keys: list[str]
    places: NDArray[np.float64]
    dates: NDArray[np.datetime64]
    panoramas: int
    others: int
    absent: tuple[str, ...]


def _split_of(path: Path) -> str:
    """Return the first split of which there are cities; the usual one if there are none."""
    found = (
        split
        for split in _CITIES
        for folder in (path / _FOLDERS[split], path)
        if any((folder / city).is_dir() for city in _CITIES[split])
    )
    return next(found, _USUAL_SPLIT)


def _base(path: Path, split: str) -> str:
    """Return the folder of the cities, relative to the path: "train_val/", "test/" or ""."""
    folder = _FOLDERS[split]
    return "" if _has_city(path, split) and not (path / folder).is_dir() else f"{folder}/"


def _has_city(path: Path, split: str) -> bool:
    return any(
        (path / city / _DATABASE / name).is_file()
        for city in _CITIES[split]
        for name in (_PLACES, _SUBTASKS)
    )


def _recognises(path: Path) -> bool:
    try:
        return any(
            _has_city(folder, split)
            for split in _CITIES
            for folder in (path, path / _FOLDERS[split])
        )
    except OSError:
        return False


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    split = options.variant or _split_of(path)
    base = _base(path, split)
    cities = [city for city in _CITIES[split] if (path / base / city).is_dir()]
    absent = [city for city in _CITIES[split] if city not in cities]
    if not cities:
        raise layout_error(
            path, "mapillary", _LAYOUT, f"{split} lacks {base}{f'/, {base}'.join(absent)}/"
        )
    problems = []
    if absent:
        problems.append(
            f"{readable(path)}: no {', '.join(absent)}; the figures do not compare with those of "
            f"all cities of {split}"
        )
    queries: list[tuple[str, str]] = []
    gallery: list[tuple[str, str]] = []
    judged = []
    query_dates: list[NDArray[np.datetime64]] = []
    gallery_dates: list[NDArray[np.datetime64]] = []
    panoramas = others = alone = 0
    for city in cities:
        query = _side(path, f"{base}{city}/{_QUERY}", split)
        database = _side(path, f"{base}{city}/{_DATABASE}", split)
        positives = judged_by_distance(query.places, database.places)
        judged.append((positives, len(gallery)))
        query_dates.append(query.dates)
        gallery_dates.append(database.dates)
        queries += [(city, key) for key in query.keys]
        gallery += [(city, key) for key in database.keys]
        panoramas += query.panoramas + database.panoramas
        others += query.others + database.others
        problems += [
            f"{readable(path)}: no {name}; photos that it would leave out take part, and the "
            "figures do not compare with published ones"
            for name in (*query.absent, *database.absent)
        ]
        alone += int((np.diff(positives.starts) == 0).sum())
    if alone == len(queries):
        raise DatasetError(
            f"{readable(path)}: no query of {split} has a gallery photo within {RADIUS_METRES:g} m;"
            " are all files of the same version of the set?"
        )
    right, dates = _joined(judged), (np.concatenate(query_dates), np.concatenate(gallery_dates))
    return JudgedSet(
        protocol="mapillary",
        name=f"Mapillary SLS {split}",
        root=path if options.photos is None else options.photos,
        queries=unique_ids(path, "queries", [key for _, key in queries]),
        gallery=unique_ids(path, "gallery", [key for _, key in gallery]),
        query_paths=_paths(base, _QUERY, queries),
        gallery_paths=_paths(base, _DATABASE, gallery),
        positives=right,
        query_dates=dates[0],
        gallery_dates=dates[1],
        groups=_years_apart(right, *dates),
        problems=tuple(problems),
        notes=(
            f"A photo is right if it is in the city of the query ({', '.join(cities)}) and at most "
            f"{RADIUS_METRES:g} m away.",
            "As in evaluate.py of the authors, these take no part: "
            f"{count(panoramas, 'panorama')} and {count(others, 'photo')} outside the subtask all. "
            f"{count(alone, 'query', 'queries')} without a right photo are in no mean.",
        ),
    )


def _side(path: Path, folder: str, split: str) -> _Side:
    """Read the queries or the gallery of a city. Each row of the three files is the same photo."""
    files = [path / folder / name for name in _COLUMNS]
    present = [file for file in files if file.is_file()]
    places_file = files[0]
    if places_file not in present:
        if split == "test":
            raise DatasetError(
                f"{readable(places_file)}: no such file. The coordinates of the test cities are "
                "not public: only the server of the authors computes figures of them. Use the "
                "variant val"
            )
        raise layout_error(path, "mapillary", _LAYOUT, f"no {folder}/{places_file.name}")
    keys: list[str] = []
    places: list[tuple[float, float]] = []
    dates: list[np.datetime64] = []
    panoramas = others = 0
    for records in zip_longest(*(read_records(file, *_COLUMNS[file.name]) for file in present)):
        if None in records:
            lengths = ", ".join(
                f"{file.name} ends{' earlier' if record is None else ' later'}"
                for file, record in zip(present, records, strict=True)
            )
            raise DatasetError(
                f"{readable(path / folder)}: the files have different numbers of rows ({lengths}); "
                "are all of the same version of the set?"
            )
        (line, (key, east, north)), *further = records
        flags = {_RAW: False, _SUBTASKS: True}
        date = ""
        for file, (number, (value, other, *taken)) in zip(present[1:], further, strict=True):
            date = taken[0] if taken else date
            if other not in ("", key):
                refuse(file, number, f"the key {other!r}, but {places_file.name} has {key!r} there")
            flags[file.name] = _flag(file, number, _COLUMNS[file.name][0][0], value)
        others += not flags[_SUBTASKS]
        panoramas += flags[_SUBTASKS] and flags[_RAW]
        if flags[_SUBTASKS] and not flags[_RAW]:
            where = f"{readable(places_file)}, line {line}"
            keys.append(safe_path(where, key))
            places.append(checked_place(where, east, north))
            dates.append(_date(date))
    absent = tuple(f"{folder}/{file.name}" for file in files if file not in present)
    array = np.array(places, np.float64).reshape(-1, 2)
    return _Side(keys, array, np.array(dates, "datetime64[D]"), panoramas, others, absent)


def _date(text: str) -> np.datetime64:
    """Return the day of a date, or of milliseconds since 1970; NaT for anything else."""
    try:
        if text.isdigit():
            return np.datetime64(int(text) // _MILLISECONDS_A_DAY, "D")
        return np.datetime64(text[:10] or "NaT", "D")
    except (ValueError, OverflowError):
        return np.datetime64("NaT", "D")


def _years_apart(
    judged: Judgements, queries: NDArray[np.datetime64], gallery: NDArray[np.datetime64]
) -> dict[str, tuple[str, ...]]:
    """Return the years between each right photo and its query, as a grouping."""
    if np.isnat(queries).all() or np.isnat(gallery).all():
        return {}
    between = np.abs(queries[judged.query_of()] - gallery[judged.positions])
    days = between.astype(np.int64)
    years = [
        "unknown" if unknown else str(int(day / _DAYS_A_YEAR))
        for day, unknown in zip(days.tolist(), np.isnat(between).tolist(), strict=True)
    ]
    return {"years apart": tuple(years)}


def _flag(file: Path, line: int, column: str, value: str) -> bool:
    if (lower := value.strip().lower()) not in ("true", "false"):
        refuse(file, line, f"{column} is {value!r}; wanted True or False")
    return lower == "true"


def _joined(judged: list[tuple[Judgements, int]]) -> Judgements:
    """Return the judgements of all cities.

    Args:
        judged: of each city, and how many gallery photos are before those of the city.
    """
    sizes = np.concatenate([np.diff(each.starts) for each, _ in judged])
    return Judgements(
        np.append(0, np.cumsum(sizes)).astype(np.int64),
        np.concatenate([each.positions + before for each, before in judged]),
        np.concatenate([each.grades for each, _ in judged]),
    )


def _paths(base: str, side: str, photos: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{base}{city}/{side}/images/{key}.jpg" for city, key in photos)


MAPILLARY = Protocol(
    "mapillary",
    "Mapillary Street-Level Sequences (Warburg et al., CVPR 2020)",
    _LAYOUT,
    _recognises,
    _read,
    tuple(_CITIES),
)
