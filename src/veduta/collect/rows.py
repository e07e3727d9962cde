"""The rows to collect, read one at a time from CSV files and lists of URLs.

- A CSV file of Google Landmarks has the columns `id,url,landmark_id`.
- Any other CSV file has the columns that `Columns` names. Without names, the reader looks for
  `url`, for `label` or `landmark_id`, and for `id`.
- Any other file is a list of URLs, one a line. Its photos belong to one class, and the name of the
  file is the label. Blank lines and lines that begin with `#` are skipped.
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

_MAX_LINE_BYTES = 1 << 16
_URL_HASH_BYTES = 6
_MAX_ID_LETTERS = 40


class Row(NamedTuple):
    """One photo to collect.

    Attributes:
        id: the name of the photo.
        label: its class; None if the source has no labels.
        url: its address.
    """

    id: str
    label: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns of a CSV file; None means the usual name.

    Attributes:
        url: column of the URLs.
        label: column of the labels.
        id: column of the ids.
    """

    url: str | None = None
    label: str | None = None
    id: str | None = None

    @property
    def named(self) -> bool:
        """Whether any name was given."""
        return any((self.url, self.label, self.id))


def read_rows(sources: Sequence[str | os.PathLike[str]], columns: Columns) -> Iterator[Row]:
    """Yield the rows of all sources, in order. Memory does not grow with their number.

    Args:
        sources: CSV files and lists of URLs.
        columns: the columns of CSV files.

    Raises:
        DatasetError: a file does not exist or cannot be read, a CSV file is not valid or lacks a
            column, an id or label is empty, a list is not UTF-8, or columns were named for a list.
            The message names the file and the line.
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
            yield from _list_rows(file)


def _csv_rows(file: Path, columns: Columns) -> Iterator[Row]:
    header = {name.strip().lower() for name in read_header(file)}
    if not columns.named and {"id", "url", "landmark_id"} <= header:
        for photo in read_train(file):
            yield Row(photo.id, photo.landmark, photo.url.strip())
        return
    url_column = columns.url or "url"
    label_column = columns.label or next(
        (name for name in ("label", "landmark_id") if name in header), ""
    )
    id_column = columns.id or ("id" if "id" in header else "")
    wanted = [name for name in (url_column, label_column, id_column) if name]
    for line, values in read_records(file, wanted):
        remaining = iter(values)
        url = next(remaining).strip()
        label = next(remaining).strip() if label_column else None
        row_id = next(remaining).strip() if id_column else id_from_url(url)
        for column, value in ((label_column, label), (id_column, row_id)):
            if value == "":
                refuse(file, line, f"the {column} is empty")
        yield Row(row_id, label, url)


def _list_rows(file: Path) -> Iterator[Row]:
    label = readable(file.stem)
    try:
        with file.open("rb") as stream:
            lines = iter(lambda: stream.readline(_MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):
                if len(line) == _MAX_LINE_BYTES:
                    refuse(file, number, f"longer than {_MAX_LINE_BYTES:,} bytes; is it a list?")
                try:
                    url = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    refuse(file, number, f"not UTF-8 ({error.reason}); save it as UTF-8", error)
                if url and not url.startswith("#"):
                    yield Row(id_from_url(url), label, url)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def id_from_url(url: str) -> str:
    """Return an id for a photo without one: the last part of its URL, and a hash of the URL."""
    digest = blake2b(url.encode("utf-8", "surrogatepass"), digest_size=_URL_HASH_BYTES).hexdigest()
    try:
        stem, _, last = unquote(urlsplit(url).path).rpartition("/")[2].rpartition(".")
    except ValueError:
        return digest
    words = re.sub(r"[^a-z0-9]+", "-", (stem or last).lower())[:_MAX_ID_LETTERS].strip("-")
    return f"{words}-{digest}" if words else digest
