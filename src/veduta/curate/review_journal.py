"""The journal of a review: each step as a line, on the disk before it is acknowledged.

A step sets, or clears, the decisions on some photos at once; an undo takes back the last step that
is not taken back yet. Reading the lines again gives the decisions and all steps that can be undone.
A process that is killed leaves at worst the half of a line that nobody was told of, which the next
one cuts off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from veduta.curate.review_decisions import Decision
from veduta.errors import DatasetError, VedutaError, readable

__all__ = ["Change", "Journal"]

_FORM = 1
_HEAD = b'{"veduta review":'

Key = tuple[str, str | None]
"""A photo and the label that it was judged under: under another one it has to be judged again."""

Change = tuple[Key, Decision | None]
"""What is decided of a photo now; None for nothing."""


class Journal:
    """Open, set, undo, close. One process at a time; calls must not overlap."""

    def __init__(self, file: Path, root: Path, paths: Iterable[str]) -> None:
        """Open the journal in `file`, or begin one, for the photos `paths` of the folder `root`.

        Raises `DatasetError` when it is of another dataset or is none, `VedutaError` when another
        process has it open, OSError when it cannot be read or written.
        """
        from filelock import FileLock, Timeout

        self.file = file
        self.decisions: dict[Key, Decision] = {}
        self.last: Key | None = None
        """The photo that the last step was about: where the reader was."""
        self._steps: list[list[Change]] = []
        self._lock = FileLock(f"{file}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise VedutaError(
                f"{readable(file)}: another review is writing to it; close that one, or name "
                "another file with --out"
            ) from error
        try:
            self._descriptor = os.open(
                file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
            )
        except BaseException:
            self._lock.release()
            raise
        try:
            self._end = self._read({"root": os.path.abspath(root), "photos": _digest(paths)})
        except BaseException:
            self.close()
            raise

    @property
    def steps(self) -> int:
        """How many steps can be undone."""
        return len(self._steps)

    def set(self, changes: Sequence[Change]) -> None:
        """Make one step. What it changes nothing about is left out; an empty step is none.

        Of several changes of one photo the last counts.

        Raises OSError when it cannot be written; nothing has changed then.
        """
        real = [(key, new) for key, new in dict(changes).items() if self.decisions.get(key) != new]
        if real:
            self._append({"set": [_written(change) for change in real]})
            self._apply(real)

    def undo(self) -> list[Change]:
        """Take back the last step and return what it changed, as it is now; [] at the beginning.

        Raises OSError when it cannot be written; nothing has changed then.
        """
        if not self._steps:
            return []
        self._append({"undo": 1})
        return self._take_back()

    def close(self) -> None:
        """Close the file and let others have it."""
        try:
            os.close(self._descriptor)
        finally:
            self._lock.release()

    def _apply(self, changes: Sequence[Change]) -> None:
        self._steps.append([(key, self.decisions.get(key)) for key, _ in changes])
        self._put(changes)

    def _take_back(self) -> list[Change]:
        # Backwards, so that `last` is the first photo of the step: there the reader goes on.
        changes = self._steps.pop()[::-1]
        self._put(changes)
        return changes

    def _put(self, changes: Sequence[Change]) -> None:
        for key, decision in changes:
            if decision is None:
                self.decisions.pop(key, None)
            else:
                self.decisions[key] = decision
            self.last = key

    def _append(self, step: dict[str, Any]) -> None:
        data = json.dumps(step, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        os.lseek(self._descriptor, self._end, os.SEEK_SET)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(data)

    def _read(self, dataset: dict[str, str]) -> int:
        """Apply all whole lines and cut off the rest. Returns where the last one ends."""
        self._end = end = 0
        with self.file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n") and (
                    number > 1 or _HEAD.startswith(line[: len(_HEAD)])
                ):
                    break
                try:
                    self._replay(number, json.loads(line), dataset)
                except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                    if number > 1 and not lines.read(1):
                        break  # the last line, damaged by a power failure: nobody was told of it
                    raise DatasetError(
                        f"{readable(self.file)}, line {number}: not a journal of `veduta review`; "
                        "name another file with --out"
                    ) from error
                end += len(line)
        os.ftruncate(self._descriptor, end)
        self._end = end
        if end == 0:
            self._append({"veduta review": _FORM, **dataset})
            _sync_folder(self.file.parent)
        return self._end

    def _replay(self, number: int, line: dict[str, Any], dataset: dict[str, str]) -> None:
        if number == 1:
            if line["veduta review"] != _FORM:
                raise ValueError(line["veduta review"])
            # A folder that moved holds the same photos; one that grew is at the same place.
            if line["root"] != dataset["root"] and line["photos"] != dataset["photos"]:
                raise DatasetError(
                    f"{readable(self.file)}: the journal of a review of {readable(line['root'])}, "
                    f"not of {readable(dataset['root'])}; name another file with --out"
                )
        elif "undo" in line:
            self._take_back()
        else:
            self._apply([_read_change(*change) for change in line["set"]])


def _written(change: Change) -> list[str | None]:
    (path, before), decision = change
    if decision is None:
        return [path, before, None]
    return [path, before, decision.verdict, *([decision.label] if decision.label else [])]


def _read_change(
    path: str, before: str | None, verdict: Any, label: str | None = None, /
) -> Change:
    return (path, before), None if verdict is None else Decision(verdict, label)


def _digest(paths: Iterable[str]) -> str:
    digest = blake2b(digest_size=16)
    for path in sorted(paths):
        digest.update(path.encode() + b"\0")
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
