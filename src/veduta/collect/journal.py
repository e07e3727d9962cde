"""The journal of a collection: what became of each row, appended as it happens.

A line is the key of a row, the first 64 bits of the photo's hash, and the rest as JSON. A process
that is killed leaves at worst half a line, which the next one cuts off. Of several lines about one
row the last counts. Lines are not forced to disk one by one; what a power failure takes away is
collected again.

In memory are 40 bytes a line.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.collect.names import key_of
from veduta.collect.outcome import Outcome, Result
from veduta.collect.rows import Row
from veduta.errors import DatasetError, readable

__all__ = ["Journal"]

_FORM = 1
_PREFIX = 34
"""Two numbers of 16 hexadecimal digits, each with a space."""
_READ = 1 << 11


class Journal:
    """Open, find, append, close. Not for two processes at once: the caller holds the lock."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        """Open the journal of a folder, or begin one.

        `settings` are those that all files of the folder must share.

        Raises `DatasetError` when the journal is of other settings or is none, OSError when it
        cannot be read or written.
        """
        self._file = file
        self._keys, self._contents, self._places = array("Q"), array("Q"), array("q")
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._end = self._read(settings)
            os.ftruncate(self._descriptor, self._end)
            if self._end == 0:
                self._write(json.dumps({"veduta collect": _FORM, **settings}).encode() + b"\n")
        except BaseException:
            os.close(self._descriptor)
            raise
        self._index()

    def _read(self, settings: dict[str, Any]) -> int:
        """Take note of all whole lines. Returns where the last one ends."""
        end = 0
        with self._file.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                if end == 0:
                    self._check(line, settings)
                else:
                    self._note(line, end)
                end += len(line)
        return end

    def _check(self, line: bytes, settings: dict[str, Any]) -> None:
        try:
            head = json.loads(line)
            form = head.pop("veduta collect")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DatasetError(
                f"{readable(self._file)}: not a journal of `veduta collect`; collect into another "
                "folder"
            ) from error
        if form != _FORM:
            raise DatasetError(
                f"{readable(self._file)}: written by another version of Veduta (form {form}, not "
                f"{_FORM}); use that version or collect into another folder"
            )
        if head != settings:
            raise DatasetError(
                f"{readable(self._file.parents[1])}: collected so far with {_words(head)}, now "
                f"with {_words(settings)}; call it with the same options, or collect into another "
                "folder"
            )

    def _note(self, line: bytes, place: int) -> None:
        try:
            key, content = int(line[:16], 16), int(line[17:33], 16)
        except ValueError:
            return  # blocks that a power failure left empty; its row is collected again
        self._keys.append(key)
        self._contents.append(content)
        self._places.append(place)

    def _index(self) -> None:
        """Sort what is known by key, for `find`."""
        keys = np.array(self._keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        self._sorted = keys[order]
        self._sorted_places = np.array(self._places, np.int64)[order]

    def find(self, rows: Sequence[Row]) -> list[Result | None]:
        """Return what is known of some rows, as of when the journal was opened or reopened."""
        keys = np.array([key_of(row) for row in rows], np.uint64)
        last = np.searchsorted(self._sorted, keys, "right") - 1
        known = (last >= 0) & (self._sorted[last] == keys) if len(self._sorted) else keys < 0
        places = self._sorted_places[last] if len(self._sorted) else last
        return [
            self._result(row, place) if here else None
            for row, place, here in zip(rows, places.tolist(), known.tolist(), strict=True)
        ]

    def _result(self, row: Row, place: int) -> Result | None:
        os.lseek(self._descriptor, place, os.SEEK_SET)
        data = os.read(self._descriptor, _READ)
        while b"\n" not in data and place + len(data) < self._end:
            data += os.read(self._descriptor, 8 * _READ)
        try:
            facts = json.loads(data[_PREFIX : data.index(b"\n")])
            if [facts.pop("id"), facts.pop("label", None), facts.pop("url")] != list(row):
                return None
            return Result(Outcome(facts.pop("outcome")), **facts)
        except (ValueError, KeyError, TypeError):
            return None  # a line that a power failure damaged; its row is collected again

    def append(self, done: Sequence[tuple[Row, Result]]) -> None:
        """Write what became of some rows. Raises OSError; what was there before stays."""
        lines = []
        place = self._end
        for row, result in done:
            key, content = key_of(row), int((result.hash or "0")[:16], 16)
            line = b"%016x %016x %s\n" % (key, content, _as_json(row, result))
            self._keys.append(key)
            self._contents.append(content)
            self._places.append(place)
            place += len(line)
            lines.append(line)
        self._write(b"".join(lines))

    def _write(self, data: bytes) -> None:
        os.lseek(self._descriptor, self._end, os.SEEK_SET)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(data)

    def reopen(self) -> None:
        """Make `find` know what was appended."""
        self._index()

    def repeated_contents(self) -> NDArray[np.uint64]:
        """Return the first 64 bits of each hash that several lines have, sorted."""
        contents = np.array(self._contents, np.uint64)
        values, times = np.unique(contents, return_counts=True)
        repeated: NDArray[np.uint64] = values[(times > 1) & (values != 0)]
        return repeated

    def close(self) -> None:
        """Force everything to disk and close."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)


def _as_json(row: Row, result: Result) -> bytes:
    facts: dict[str, Any] = {"id": row.id, "url": row.url, "outcome": result.outcome.value}
    if row.label is not None:
        facts["label"] = row.label
    for name in Result.__slots__[1:]:
        value = getattr(result, name)
        if value is not None:
            facts[name] = value
    return json.dumps(facts).encode()


def _words(settings: dict[str, Any]) -> str:
    said = [f"--{name} {value}" for name, value in settings.items() if value]
    return " ".join(said) or "untouched bytes"
