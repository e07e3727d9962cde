"""Lists as the authors of many sets write them: a text a line, or words separated by blanks."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from veduta.datasets.csv_records import refuse
from veduta.errors import DatasetError, readable
from veduta.files import open_regular

__all__ = ["MAX_LINE_BYTES", "list_file", "read_lines", "read_words", "whole_number"]

MAX_LINE_BYTES = 64 * 2**10
"""The limit for a line. The longest known has a few hundred bytes."""

_MAX_DIGITS = 18


def list_file(path: Path, name: str, folders: Sequence[str]) -> Path | None:
    """Return the file of a name: the path itself, or in it, or in a folder in it; None without.

    Args:
        path: the path that a user names.
        name: the name of the file.
        folders: names of folders that may hold it.
    """
    # `os.path.isfile` is false where `Path.is_file` raises, as in folders without permission.
    if path.name == name and os.path.isfile(path):
        return path
    candidates = (path / folder / name for folder in ("", *folders))
    return next((each for each in candidates if os.path.isfile(each)), None)


def read_lines(file: Path, limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str]]:
    """Yield the text of each line that is not blank, one line at a time.

    Args:
        file: the file; one whose name ends in .gz is decompressed.
        limit: the longest line in bytes.

    Yields:
        The line, counted from 1, and its text without blanks at the ends.

    Raises:
        DatasetError: the file cannot be read or decompressed, a line is too long, or it is not
            UTF-8.
    """
    number = 0
    try:
        with open_regular(file) as raw:
            packed = file.suffix == ".gz"
            source = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            for number, line in enumerate(iter(partial(source.readline, limit), b""), 1):
                if len(line) == limit:
                    refuse(file, number, f"longer than {limit:,} bytes; is it a list?")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    refuse(file, number, f"not UTF-8 ({error.reason}); save it as UTF-8", error)
                if text:
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(
            f"{readable(file)}, after line {number}: not decompressed ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def read_words(file: Path, columns: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of each line that is not blank, one line at a time.

    Args:
        file: the file.
        columns: how many words a line has, of which the last may have blanks in it; None: any
            number of words.

    Yields:
        The line, counted from 1, and its words.

    Raises:
        DatasetError: as `read_lines`, or a line has fewer words.
    """
    for number, text in read_lines(file):
        words = text.split() if columns is None else text.split(None, columns - 1)
        if columns is not None and len(words) != columns:
            refuse(file, number, f"{len(words)} words; wanted {columns}")
        yield number, words


def whole_number(file: Path, line: int, what: str, word: str) -> int:
    """Return the whole number that a word stands for.

    Args:
        file: the file, for the message.
        line: the line, for the message.
        what: what the number is, such as "class_id".
        word: the word.

    Raises:
        DatasetError: it is no whole number.
    """
    if not (word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS):
        refuse(file, line, f"the {what} {word[:40]!r} is no whole number")
    return int(word)
