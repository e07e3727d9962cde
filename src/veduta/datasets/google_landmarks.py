"""The CSV files of the Google Landmarks Dataset v2 and of its two competitions.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020. The columns are those of the
publishers and of the scoring code of the competitions:

| file | columns | a row |
| --- | --- | --- |
| `train.csv` | `id,url,landmark_id` | a photo |
| `train_clean.csv` | `landmark_id,images` | a landmark and its photos |
| `test.csv`, `index.csv` | `id`, maybe `url` | a photo |
| retrieval solution | `id,images,Usage` | a query and its right index photos |
| recognition solution | `id,landmarks,Usage` | a query and its landmarks, none for no landmark |
| retrieval submission | `id,images` | a query and index photos, best first, of which 100 count |
| recognition submission | `id,landmarks` | a query and "landmark confidence", or nothing |

Spaces separate the entries of a list. Landmarks are compared as text.

A name that is written has a percent sign and two hex digits for each byte of a character that such
a file cannot hold in a name: white space, comma, quote, percent sign, control characters and bytes
that are not UTF-8. "Eiffel Tower" becomes "Eiffel%20Tower". `urllib.parse.unquote` restores it.

Refused with the line, besides what `veduta.datasets.csv_records` refuses: an id that is empty,
holds a space or occurs twice; an unknown usage; a prediction that is not a landmark and a finite
number.
"""

from __future__ import annotations

import math
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from veduta.datasets.csv_records import read_header, read_records, refuse
from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable
from veduta.files import write_text

__all__ = [
    "MAX_SCORED_PHOTOS",
    "USAGES",
    "CleanLandmark",
    "LandmarkSolution",
    "ListedPhoto",
    "TrainPhoto",
    "is_solution",
    "landmark_task",
    "photo_ids",
    "read_photo_list",
    "read_recognition_solution",
    "read_recognition_submission",
    "read_retrieval_solution",
    "read_retrieval_submission",
    "read_train",
    "read_train_clean",
    "write_recognition_solution",
    "write_recognition_submission",
    "write_retrieval_submission",
    "written_name",
]

MAX_SCORED_PHOTOS = 100
"""How many photos of a retrieval row the competition scores."""

USAGES = ("Public", "Private", "all")
"""Which queries are scored: those of one leaderboard, or all but those marked `Ignored`."""

NO_PHOTOS = "None"
"""What the published retrieval solution has for a query without right photos."""

_ESCAPED = re.compile(r'[\s%,"\x00-\x1f\x7f-\x9f\ud800-\udfff]')

Truth = TypeVar("Truth")


class TrainPhoto(NamedTuple):
    """A row of `train.csv`."""

    id: str
    url: str
    landmark: str


class CleanLandmark(NamedTuple):
    """A row of `train_clean.csv`: the ids of the photos of one landmark."""

    landmark: str
    photos: tuple[str, ...]


class ListedPhoto(NamedTuple):
    """A row of `test.csv` or `index.csv`; `url` is None where the file has none."""

    id: str
    url: str | None


@dataclass(frozen=True, slots=True)
class LandmarkSolution(Generic[Truth]):
    """The right answers of each query.

    Attributes:
        file: the file that they were read from.
        answers: id of each scored query → its right answers.
        ignored: ids of queries that are in the file and not scored: those marked `Ignored`, and
            those of the other leaderboard.
    """

    file: Path
    answers: dict[str, Truth]
    ignored: frozenset[str]


def read_train(file: str | os.PathLike[str]) -> Iterator[TrainPhoto]:
    """Yield the rows of `train.csv`, one at a time. Memory holds eight bytes a row.

    Args:
        file: the CSV file.

    Yields:
        The rows.

    Raises:
        DatasetError: as the module docstring says. An id that occurs twice is reported, with both
            lines, after the last row.
    """
    path = Path(file)
    columns = ("id", "url", "landmark_id")
    hashes = array("q")
    for line, (photo, url, landmark) in read_records(path, columns):
        if not landmark.strip():
            refuse(path, line, "the landmark_id is empty")
        row = TrainPhoto(_id(path, line, photo), url, landmark.strip())
        hashes.append(hash(row.id))
        yield row
    _check_once(path, columns, hashes)


def read_train_clean(file: str | os.PathLike[str]) -> Iterator[CleanLandmark]:
    """Yield the rows of `train_clean.csv`, one at a time.

    Args:
        file: the CSV file.

    Yields:
        The rows.

    Raises:
        DatasetError: as the module docstring says, and for a landmark that occurs twice.
    """
    path = Path(file)
    line_of: dict[str, int] = {}
    for line, (landmark, photos) in read_records(path, ("landmark_id", "images")):
        name = _new_id(path, line, landmark, line_of)
        yield CleanLandmark(name, tuple(photos.split()))


def read_photo_list(file: str | os.PathLike[str]) -> Iterator[ListedPhoto]:
    """Yield the rows of `test.csv` or `index.csv`, one at a time. Memory holds eight bytes a row.

    Args:
        file: the CSV file.

    Yields:
        The rows.

    Raises:
        DatasetError: as for `read_train`.
    """
    path = Path(file)
    hashes = array("q")
    for line, (photo, url) in read_records(path, ("id",), ("url",)):
        row = ListedPhoto(_id(path, line, photo), url or None)
        hashes.append(hash(row.id))
        yield row
    _check_once(path, ("id",), hashes)


def landmark_task(file: str | os.PathLike[str]) -> Literal["retrieval", "recognition"]:
    """Return the task of a submission or a solution. Its columns tell the task.

    Args:
        file: the CSV file.

    Raises:
        DatasetError: the columns are those of neither task, or of both. The message names them.
    """
    path = Path(file)
    header = read_header(path)
    names = {name.strip().lower() for name in header}
    if "id" not in names or ("images" in names) == ("landmarks" in names):
        found = ", ".join(repr(name) for name in header) or "none"
        raise DatasetError(
            f"{readable(path)}, line 1: cannot tell retrieval from recognition; found {found}; "
            "wanted 'id', 'images' (retrieval) or 'id', 'landmarks' (recognition)"
        )
    return "retrieval" if "images" in names else "recognition"


def is_solution(file: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a solution. Only a solution has the column `Usage`."""
    return "usage" in {name.strip().lower() for name in read_header(Path(file))}


def read_retrieval_solution(
    file: str | os.PathLike[str], usage: str = "all"
) -> LandmarkSolution[tuple[str, ...]]:
    """Return the right photos of each query.

    Args:
        file: the CSV file. "None" in a list stands for no photo.
        usage: one of `USAGES`. Without a column `Usage`, all queries are scored.

    Raises:
        DatasetError: as the module docstring says, and if no query has that usage.
    """
    return _solution(Path(file), "images", usage, _photos)


def read_recognition_solution(
    file: str | os.PathLike[str], usage: str = "all"
) -> LandmarkSolution[frozenset[str]]:
    """Return the landmarks of each query: none, one, or several. Each of several is right.

    Args:
        file: the CSV file.
        usage: as for `read_retrieval_solution`.

    Raises:
        DatasetError: as for `read_retrieval_solution`.
    """
    return _solution(Path(file), "landmarks", usage, lambda text: frozenset(text.split()))


def read_retrieval_submission(
    file: str | os.PathLike[str], solution: LandmarkSolution[tuple[str, ...]] | None = None
) -> dict[str, list[str]]:
    """Return all photos that a submission lists for each query, best first.

    Args:
        file: the CSV file.
        solution: the right answers. Queries that it does not score are left out.

    Raises:
        DatasetError: as the module docstring says, and for a query that the solution lacks.
    """
    # A photo is in many lists. Its name is kept in memory once.
    names: dict[str, str] = {}
    return {
        query: [names.setdefault(photo, photo) for photo in written.split()]
        for query, _, written in _submission(Path(file), "images", solution)
    }


def read_recognition_submission(
    file: str | os.PathLike[str], solution: LandmarkSolution[frozenset[str]] | None = None
) -> dict[str, tuple[str, float] | None]:
    """Return the landmark that a submission names for each query, with its confidence, or None.

    Args:
        file: the CSV file.
        solution: as for `read_retrieval_submission`.

    Raises:
        DatasetError: as for `read_retrieval_submission`.
    """
    path = Path(file)
    return {
        query: _prediction(path, line, written)
        for query, line, written in _submission(path, "landmarks", solution)
    }


def photo_ids(paths: Sequence[str]) -> list[str]:
    """Return the ids of photos: their file names without the extension.

    If two of the names are equal, the ids are the whole paths. So photos of different folders with
    the same name are kept apart.

    Args:
        paths: of the photos, relative to the dataset, all different.

    Returns:
        The ids in the same order.
    """
    names = [PurePosixPath(path).stem for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def written_name(name: str) -> str:
    """Return an id or a landmark as the files hold it; see the module docstring."""
    return _ESCAPED.sub(_percent_escape, name)


def _percent_escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def write_retrieval_submission(
    file: str | os.PathLike[str], rankings: Iterable[tuple[str, Sequence[str]]]
) -> None:
    """Write a retrieval submission. The file appears complete or not at all.

    Args:
        file: the CSV file.
        rankings: (query id, ids of index photos, best first). Only the first 100 are written, since
            no more are scored. All names are written by `written_name`.

    Raises:
        DatasetError: a name is empty, a query occurs twice, or the file cannot be written.
    """
    path = Path(file)
    rows = (
        (query, " ".join(_written(path, photo) for photo in photos[:MAX_SCORED_PHOTOS]))
        for query, photos in rankings
    )
    _write(path, ("images",), rows)


def write_recognition_submission(
    file: str | os.PathLike[str], predictions: Iterable[tuple[str, tuple[str, float] | None]]
) -> None:
    """Write a recognition submission. The file appears complete or not at all.

    Args:
        file: the CSV file.
        predictions: (query id, (landmark, confidence)), or (query id, None) for no landmark, which
            is written as an empty field. Names are written by `written_name`, confidences with all
            their digits.

    Raises:
        DatasetError: as for `write_retrieval_submission`, and for a confidence that is not finite.
    """
    path = Path(file)

    def row(query: str, prediction: tuple[str, float] | None) -> tuple[str, str]:
        if prediction is None:
            return query, ""
        landmark, confidence = prediction
        if not math.isfinite(confidence):
            raise DatasetError(
                f"{readable(path)}: the confidence of {query} is {confidence}; wanted a number"
            )
        return query, f"{_written(path, landmark)} {float(confidence)!r}"

    _write(path, ("landmarks",), (row(*pair) for pair in predictions))


def write_recognition_solution(
    file: str | os.PathLike[str], landmarks: Iterable[tuple[str, str | None]]
) -> None:
    """Write a recognition solution. The file appears complete or not at all.

    Args:
        file: the CSV file.
        landmarks: (query id, landmark), or (query id, None) for a photo without a landmark. Names
            are written by `written_name`. The usage of all queries is "Private".

    Raises:
        DatasetError: as for `write_retrieval_submission`.
    """
    path = Path(file)
    rows = (
        (query, "" if landmark is None else _written(path, landmark), "Private")
        for query, landmark in landmarks
    )
    _write(path, ("landmarks", "Usage"), rows)


def _photos(written: str) -> tuple[str, ...]:
    return () if written.strip() == NO_PHOTOS else tuple(written.split())


def _id(file: Path, line: int, written: str) -> str:
    if len(written.split()) != 1:
        refuse(file, line, f"the id is {written!r}; wanted letters and digits without a space")
    return written.strip()


def _new_id(file: Path, line: int, written: str, line_of: dict[str, int]) -> str:
    name = _id(file, line, written)
    if name in line_of:
        _refuse_twice(file, line, name, line_of[name])
    line_of[name] = line
    return name


def _check_once(file: Path, columns: Sequence[str], hashes: array[int]) -> None:
    """Raise `DatasetError` if an id occurs twice.

    Ids that share a hash are rare. Only these are compared, in a second pass over the file.
    """
    ordered = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.zeros(0, np.int64)
    suspects = frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return
    line_of: dict[str, int] = {}
    for line, (written, *_) in read_records(file, columns):
        name = written.strip()
        if hash(name) in suspects:
            _new_id(file, line, name, line_of)


def _refuse_twice(file: Path, line: int, name: str, first: int) -> None:
    refuse(file, line, f"{readable(name)} is already on line {first}; keep one of the two")


def _solution(
    file: Path, column: str, usage: str, parse: Callable[[str], Truth]
) -> LandmarkSolution[Truth]:
    if usage not in USAGES:
        raise ValueError(f"usage {usage!r}; wanted one of {', '.join(USAGES)}")
    answers: dict[str, Truth] = {}
    ignored: set[str] = set()
    line_of: dict[str, int] = {}
    found: set[str] = set()
    for line, (query, written, used) in read_records(file, ("id", column), ("Usage",)):
        name = _new_id(file, line, query, line_of)
        kind = used.strip().capitalize()
        if kind not in {"Public", "Private", "Ignored", ""}:
            refuse(file, line, f"unknown usage {used!r}; wanted Public, Private or Ignored")
        found.add(kind)
        if kind == usage or (usage == "all" and kind != "Ignored"):
            answers[name] = parse(written)
        else:
            ignored.add(name)
    if len(found) > 1 and "" in found:
        raise DatasetError(f"{readable(file)}: the Usage is empty in some rows and not in others")
    if not answers:
        wanted = "no query to score" if usage == "all" else f"no query with the usage {usage}"
        usages = ", ".join(sorted(found - {""})) or "none"
        raise DatasetError(f"{readable(file)}: {wanted} (found: {usages})")
    return LandmarkSolution(file, answers, frozenset(ignored))


def _submission(
    file: Path, column: str, solution: LandmarkSolution[Truth] | None
) -> Iterator[tuple[str, int, str]]:
    """Yield query, line and answer of each row that is scored."""
    line_of: dict[str, int] = {}
    unknown: list[str] = []
    for line, (query, written) in read_records(file, ("id", column)):
        name = _new_id(file, line, query, line_of)
        if solution is None or name in solution.answers:
            yield name, line, written
        elif name not in solution.ignored:
            unknown.append(f"{name} on line {line}")
    if solution is not None and unknown:
        number = f"{len(unknown):,} queries" if len(unknown) > 1 else "a query"
        raise DatasetError(
            f"{readable(file)}: {number} that {readable(solution.file)} does not have "
            f"({some_of(unknown)}); are both of the same set of queries?"
        )


def _prediction(file: Path, line: int, written: str) -> tuple[str, float] | None:
    parts = written.split()
    if not parts:
        return None
    if len(parts) != 2:
        refuse(file, line, f"{written!r}; wanted one landmark and its confidence, or nothing")
    try:
        confidence = float(parts[1])
    except ValueError:
        confidence = math.nan
    if not math.isfinite(confidence):
        refuse(file, line, f"the confidence is {parts[1]!r}; wanted a finite number")
    return parts[0], confidence


def _written(file: Path, name: str) -> str:
    if not name:
        raise DatasetError(f"{readable(file)}: an empty name cannot be written")
    return written_name(name)


def _write(file: Path, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> None:
    try:
        write_text(file, _lines(file, columns, rows))
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be written: {error.strerror}") from error


def _lines(file: Path, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    queries: set[str] = set()
    yield f"{','.join(('id', *columns))}\n"
    for query, *fields in rows:
        if query in queries:
            raise DatasetError(f"{readable(file)}: query {query} comes twice")
        queries.add(query)
        yield f"{','.join((_written(file, query), *fields))}\n"
