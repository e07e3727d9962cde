"""The journal of a download: the outcome of each row, appended as it happens.

A line has the key of a row, the first 64 bits of the hash of its photo, and the rest as JSON. A
killed process leaves at most half a line, which the next run cuts off. The last line about a row
counts. Lines are not synced to the disk one by one. Rows that a power failure removes are collected
again.

Each line takes 40 bytes of memory.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.collect.file_names import row_key
from veduta.collect.outcome import Result
from veduta.collect.rows import Row
from veduta.errors import DatasetError, readable
from veduta.files import AppendOnlyFile, is_path_inside, open_regular
from veduta.validation import convert, parse_json

__all__ = ["Journal"]

_VERSION = 1
_VERSION_KEY = "veduta collect"
# A line begins with two numbers of 16 hexadecimal digits, each with a space behind it.
_PREFIX_BYTES = 34
_READ_BYTES = 1 << 11
# A line that is longer than the first read has a long message. The next reads are larger.
_READ_MORE_BYTES = 1 << 14


class Journal:
    """The journal of one folder. Only one process may open it: the caller holds a lock."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open the journal of a folder, or begin one.

        Args:
            path: the file.
            settings: those that all photos of the folder share.

        Raises:
            DatasetError: the journal has other settings, or the file is not a journal.
            OSError: the file cannot be read or written.
        """
        self._path = path
        self._keys, self._hash_starts, self._positions = array("Q"), array("Q"), array("q")
        self._file = AppendOnlyFile(path, end=self._read(settings) if path.exists() else 0)
        if self._file.end == 0:
            header = json.dumps({_VERSION_KEY: _VERSION, **settings}).encode() + b"\n"
            try:
                self._file.append(header)
            except OSError:
                self._file.close()
                raise
        self._sort()

    def _read(self, settings: dict[str, Any]) -> int:
        """Note all whole lines, and return the position of the end of the last one."""
        end = 0
        with open_regular(self._path) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                if end == 0:
                    self._check_header(line, settings)
                else:
                    self._note(line, end)
                end += len(line)
        return end

    def _check_header(self, line: bytes, settings: dict[str, Any]) -> None:
        try:
            header = convert(parse_json(line), dict[str, Any])
            version = header.pop(_VERSION_KEY)
        except (ValueError, KeyError) as error:
            raise DatasetError(
                f"{readable(self._path)}: not a journal of `veduta collect`; collect into another "
                "folder"
            ) from error
        if version != _VERSION:
            raise DatasetError(
                f"{readable(self._path)}: written by another version of Veduta (form {version}, "
                f"not {_VERSION}); use that version or collect into another folder"
            )
        if header != settings:
            raise DatasetError(
                f"{readable(self._path.parents[1])}: collected so far with {_options(header)}, now "
                f"with {_options(settings)}; call it with the same options, or collect into "
                "another folder"
            )

    def _note(self, line: bytes, position: int) -> None:
        try:
            key, hash_start = int(line[:16], 16), int(line[17:33], 16)
        except ValueError:
            return  # A power failure left empty blocks here. The row is collected again.
        self._keys.append(key)
        self._hash_starts.append(hash_start)
        self._positions.append(position)

    def _sort(self) -> None:
        keys = np.array(self._keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[order]
        self._sorted_positions = np.array(self._positions, np.int64)[order]

    def find(self, rows: Sequence[Row]) -> list[Result | None]:
        """Return the results of some rows, as of the last call of `refresh` or the opening.

        Args:
            rows: N rows.

        Returns:
            N results; None for a row that the journal does not have.
        """
        if not len(self._sorted_keys):
            return [None] * len(rows)
        keys = np.array([row_key(row) for row in rows], np.uint64)
        last = np.searchsorted(self._sorted_keys, keys, "right") - 1
        known = (last >= 0) & (self._sorted_keys[last] == keys)
        positions = self._sorted_positions[last]
        return [
            self._result(row, position) if is_known else None
            for row, position, is_known in zip(
                rows, positions.tolist(), known.tolist(), strict=True
            )
        ]

    def latest(self) -> Iterator[tuple[int, tuple[Row, Result]]]:
        """Yield the position of the last line about each row, and its content, in their order.

        Lines that were appended since the last call of `refresh` are left out.
        """
        keys = self._sorted_keys
        is_last = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
        positions: list[int] = np.sort(self._sorted_positions[is_last]).tolist()
        for position in positions:
            if (line := self._line(position)) is not None:
                yield position, line

    def at(self, positions: Iterable[int]) -> Iterator[tuple[Row, Result]]:
        """Yield the content of some lines.

        Args:
            positions: as `latest` gives them.
        """
        for position in positions:
            if (line := self._line(position)) is not None:
                yield line

    def _result(self, row: Row, position: int) -> Result | None:
        line = self._line(position)
        return line[1] if line is not None and line[0] == row else None

    def _line(self, position: int) -> tuple[Row, Result] | None:
        data = self._file.read(position, _READ_BYTES)
        while b"\n" not in data and position + len(data) < self._file.end:
            data += self._file.read(position + len(data), _READ_MORE_BYTES)
        try:
            values = convert(parse_json(data[_PREFIX_BYTES : data.index(b"\n")]), dict[str, Any])
            row = convert([values.pop("id"), values.pop("label", None), values.pop("url")], Row)
            result = convert(values, Result)
        except (ValueError, KeyError):
            return None  # A power failure damaged the line. The row is collected again.
        # A stranger may have written the line.
        is_inside = result.path is None or is_path_inside(result.path)
        return (row, result) if is_inside else None

    def append(self, done: Sequence[tuple[Row, Result]]) -> None:
        """Write the results of some rows.

        Args:
            done: rows with their results.

        Raises:
            OSError: they cannot be written. The earlier lines stay.
        """
        lines = []
        position = self._file.end
        for row, result in done:
            key, hash_start = row_key(row), int((result.hash or "0")[:16], 16)
            line = b"%016x %016x %s\n" % (key, hash_start, _as_json(row, result))
            self._keys.append(key)
            self._hash_starts.append(hash_start)
            self._positions.append(position)
            position += len(line)
            lines.append(line)
        self._file.append(b"".join(lines))

    def refresh(self) -> None:
        """Let `find` return also what was appended."""
        self._sort()

    def repeated_hash_starts(self) -> NDArray[np.uint64]:
        """Return the first 64 bits of each hash that several lines have, sorted."""
        hash_starts = np.array(self._hash_starts, np.uint64)
        values, counts = np.unique(hash_starts, return_counts=True)
        repeated: NDArray[np.uint64] = values[(counts > 1) & (values != 0)]
        return repeated

    def close(self) -> None:
        """Sync everything to the disk and close the file."""
        try:
            self._file.sync()
        finally:
            self._file.close()


def _as_json(row: Row, result: Result) -> bytes:
    values: dict[str, Any] = {"id": row.id, "url": row.url, "outcome": result.outcome.value}
    if row.label is not None:
        values["label"] = row.label
    for name in Result.__slots__[1:]:
        value = getattr(result, name)
        if value is not None:
            values[name] = value
    return json.dumps(values).encode()


def _options(settings: dict[str, Any]) -> str:
    options = [f"--{name} {value}" for name, value in settings.items() if value]
    return " ".join(options) or "untouched bytes"
