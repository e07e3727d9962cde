"""The rows of what is to be collected, read one at a time from CSV files and lists of URLs.

- A CSV file of Google Landmarks: `id,url,landmark_id`.
- Any other CSV file: the columns that `Columns` names; unnamed ones are looked for as `url`, as
  `label` or `landmark_id`, and as `id`.
- Any other file: a list of URLs, one a line, that are photos of one class, which is the name of the
  file. Blank lines and lines that begin with `#` are skipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from veduta.datasets.csv_records import read_header, read_records, refuse
from veduta.datasets.google_landmarks import read_train
from veduta.errors import DatasetError, readable

__all__ = ["Columns", "Row", "id_from_url", "read_rows"]

_LONGEST_LINE = 1 << 16


class Row(NamedTuple):
    """One photo to collect."""

    id: str
    label: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns of a CSV file; None: looked for under their usual names."""

    url: str | None = None
    label: str | None = None
    id: str | None = None

    @property
    def named(self) -> bool:
        """Whether any of them was given."""
        return any((self.url, self.label, self.id))


def read_rows(sources: Sequence[str | os.PathLike[str]], columns: Columns) -> Iterator[Row]:
    """Yield the rows of all `sources`, in order. Memory does not grow with their number.

    Raises `DatasetError`, naming the file and the line: a file that is not there or cannot be read,
    a CSV file that `veduta.datasets.csv_records` refuses or that lacks a column, an empty id or
    label, a list that is not UTF-8, or columns named for a list.
    """
    for source in sources:
        file = Path(source)
        if not file.is_file():
            what = "a folder" if file.is_dir() else "not there, or not a regular file"
            raise DatasetError(
                f"{readable(file)}: {what}; wanted a CSV file or a text file of URLs"
            )
        if file.suffix.lower() == ".csv":
            yield from _csv_rows(file, columns)
        elif columns.named:
            raise DatasetError(
                f"{readable(file)}: columns were named, but its name does not end in .csv, so it "
                "is a list of URLs; rename it or leave out the names"
            )
        else:
            yield from _listed(file)


def _csv_rows(file: Path, columns: Columns) -> Iterator[Row]:
    header = {name.strip().lower() for name in read_header(file)}
    if not columns.named and {"id", "url", "landmark_id"} <= header:
        for photo in read_train(file):
            yield Row(photo.id, photo.landmark, photo.url.strip())
        return
    named = columns.url or "url"
    labels = columns.label or next(
        (name for name in ("label", "landmark_id") if name in header), ""
    )
    ids = columns.id or ("id" if "id" in header else "")
    wanted = [name for name in (named, labels, ids) if name]
    for line, values in read_records(file, wanted):
        left = iter(values)
        url = next(left).strip()
        label = next(left).strip() if labels else None
        own = next(left).strip() if ids else id_from_url(url)
        for column, value in ((labels, label), (ids, own)):
            if value == "":
                refuse(file, line, f"the {column} is empty")
        yield Row(own, label, url)


def _listed(file: Path) -> Iterator[Row]:
    label = readable(file.stem)
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), b""), 1):
                if len(line) == _LONGEST_LINE:
                    refuse(file, number, f"longer than {_LONGEST_LINE:,} bytes; is it a list?")
                try:
                    url = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    refuse(file, number, f"not UTF-8 ({error.reason}); save it as UTF-8", error)
                if url and not url.startswith("#"):
                    yield Row(id_from_url(url), label, url)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def id_from_url(url: str) -> str:
    """Return an id for a photo that has none: what its address calls it, and a hash of that."""
    digest = blake2b(url.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    try:
        last = unquote(urlsplit(url).path).rpartition("/")[2].rpartition(".")
    except ValueError:
        return digest
    legible = re.sub(r"[^a-z0-9]+", "-", (last[0] or last[2]).lower())[:40].strip("-")
    return f"{legible}-{digest}" if legible else digest
