"""Which photo each row of a labels file names.

A path is taken from the folder of the file, and from the folders of the photos. Where no photo has
that path, the row still names a photo if only this differs: backslashes for slashes, blanks around
the path, an address (`file://`, `%20`), the Unicode form of a name, upper and lower case, and
folders of another machine in front. A row that could name two photos is refused or names none.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from veduta.datasets.csv_records import refuse
from veduta.errors import readable
from veduta.text import composed, count

__all__ = ["MatchedRows", "WrittenPath", "match_rows"]


class WrittenPath(Protocol):
    """A row of a labels file: the line that it begins on and its path."""

    @property
    def line(self) -> int:
        """The line of the row, counted from 1."""

    @property
    def path(self) -> str:
        """The normalised path, with forward slashes."""


@dataclass(frozen=True, slots=True)
class MatchedRows:
    """The photos that R rows name.

    Attributes:
        photos: (R,) the absolute path of the photo, or None for a row that names none.
        notes: how rows were matched whose paths are written differently, one sentence each.
    """

    photos: tuple[str | None, ...]
    notes: tuple[str, ...]


def match_rows(
    file: Path,
    rows: Sequence[WrittenPath],
    folders: Iterable[str],
    *,
    exists: Callable[[str], bool],
    photos: Callable[[], Iterable[str]],
) -> MatchedRows:
    """Find the photo that each row of a labels file names.

    Args:
        file: the labels file, for messages.
        rows: R rows.
        folders: absolute folders that paths may be relative to.
        exists: tells whether a photo has this absolute path.
        photos: returns the absolute paths of all photos. It is called only if rows are left that
            name none as they are written.

    Raises:
        DatasetError: a path names one photo from one folder and another from another folder, or two
            rows name one photo.
    """
    bases = list(dict.fromkeys(folders))
    found = [_photo_as_written(file, row, bases, exists) for row in rows]
    left = [number for number, photo in enumerate(found) if photo is None]
    if not left:
        return MatchedRows(tuple(found), ())
    matcher = _Matcher(bases, photos(), taken={photo for photo in found if photo is not None})
    differences: Counter[str] = Counter()
    for number in left:
        for path, difference in _readings(rows[number].path):
            photo, further = matcher.find(path)
            if photo is not None:
                found[number] = photo
                differences[" and ".join([*difference, *further])] += 1
                break
    left = [number for number in left if found[number] is None]
    folder = matcher.foreign_folder([rows[number].path for number in left], len(rows))
    if folder is not None:
        for number in left:
            found[number] = matcher.find(_plain(rows[number].path)[len(folder) :])[0]
            differences[f"without the folder {readable(folder)}"] += found[number] is not None
    _refuse_doubles(file, rows, found)
    name = readable(file)
    notes = (
        f"{name}: {count(number, 'row')} matched {difference}"
        for difference, number in differences.items()
        if number
    )
    return MatchedRows(tuple(found), tuple(notes))


def _photo_as_written(
    file: Path, row: WrittenPath, bases: Sequence[str], exists: Callable[[str], bool]
) -> str | None:
    paths = dict.fromkeys(os.path.normpath(os.path.join(base, row.path)) for base in bases)
    there = [path for path in paths if exists(path)]
    if len(there) > 1:
        refuse(
            file,
            row.line,
            f"{readable(row.path)} names two photos, {readable(there[0])} and "
            f"{readable(there[1])}; write the whole path of the one that is meant",
        )
    return there[0] if there else None


def _readings(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what a path can mean, with how it then differs from what is written."""
    yield path, []
    plain = _plain(path)
    difference = []
    if "\\" in path:
        difference.append("after backslashes were read as slashes")
    if path != path.strip():
        difference.append("without the blanks around the path")
    if plain != path:
        yield plain, difference
    if "%" in path or "://" in path or path.startswith("file:"):
        address = _plain(unquote(plain.removeprefix("file:")))
        yield address, [*difference, "after the address was read as a path"]


def _plain(path: str) -> str:
    normal = posixpath.normpath(path.strip().replace("\\", "/"))
    return f"/{normal.lstrip('/')}" if normal.startswith("/") else normal


class _Matcher:
    """Finds photos whose path looks like another."""

    def __init__(self, bases: Sequence[str], photos: Iterable[str], taken: set[str]) -> None:
        self.bases = bases
        self.exact: set[str] = set()
        self.by_form: dict[str, str | None] = {}
        self.by_case: dict[str, str | None] = {}
        for photo in photos:
            if photo in taken:
                continue
            self.exact.add(photo)
            form = composed(photo)
            for table, key in ((self.by_form, form), (self.by_case, form.casefold())):
                table[key] = None if table.get(key, photo) != photo else photo

    def find(self, path: str) -> tuple[str | None, list[str]]:
        """Return the only photo that a path can name, and how their names differ."""
        paths = [os.path.normpath(os.path.join(base, path)) for base in self.bases]
        forms = [composed(path) for path in paths]
        for difference, candidates in (
            ([], {path for path in paths if path in self.exact}),
            (["in another Unicode form"], {self.by_form.get(form) for form in forms}),
            (
                ["without regard to upper and lower case"],
                {self.by_case.get(form.casefold()) for form in forms},
            ),
        ):
            found = candidates - {None}
            if len(found) == 1:
                return found.pop(), difference
        return None, []

    def foreign_folder(self, paths: Sequence[str], rows: int) -> str | None:
        """Return the beginning that these paths have on another machine, with a slash at its end.

        It is the beginning without which most of the paths name a photo. It counts if it ends with
        the name of a folder that paths are relative to; or if all rows of the file begin with it,
        all then name a photo, and all still have a folder.

        Args:
            paths: those of the rows that name no photo.
            rows: number of all rows of the file.
        """
        plain = [_plain(path) for path in paths]
        if not plain:
            return None
        common = posixpath.commonprefix([f"{posixpath.dirname(path)}/" for path in plain])
        best: tuple[int, str] | None = None
        for end, letter in enumerate(common):
            if letter != "/":
                continue
            beginning = common[: end + 1]
            rests = [path[len(beginning) :] for path in plain]
            named = sum(self.find(rest)[0] is not None for rest in rests)
            name = _comparable(posixpath.basename(beginning[:-1]))
            is_base = any(_comparable(os.path.basename(base)) == name for base in self.bases)
            is_whole = named == len(rests) == rows and all("/" in rest for rest in rests)
            if named and (is_base or is_whole) and (best is None or named > best[0]):
                best = named, beginning
        return best[1] if best else None


def _comparable(name: str) -> str:
    return composed(name).casefold()


def _refuse_doubles(file: Path, rows: Sequence[WrittenPath], found: Sequence[str | None]) -> None:
    line_of: dict[str, int] = {}
    for row, photo in zip(rows, found, strict=True):
        if photo is None:
            continue
        if photo in line_of:
            refuse(
                file,
                row.line,
                f"{readable(row.path)} names the same photo as line {line_of[photo]}, "
                f"{readable(photo)}; keep one of the two",
            )
        line_of[photo] = row.line
