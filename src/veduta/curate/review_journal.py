"""The journal of a review: each step is a line that is on the disk before it is acknowledged.

A step sets or clears the decisions about some photos together. An undo reverts the last step that
was not reverted yet. The lines of the file give the decisions and all steps that can be undone. A
killed process leaves at most a part of a line that was not acknowledged. The next process cuts it
off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from veduta.curate.review_decisions import Decision, Verdict
from veduta.errors import DatasetError, VedutaError, readable
from veduta.files import AppendOnlyFile, open_regular, sync
from veduta.validation import convert, parse_json

__all__ = ["Change", "Key", "ReviewJournal"]

_VERSION = 1
_HEADER_START = b'{"veduta review":'

Key = tuple[str, str | None]
"""The path of a photo and the label that it was reviewed with. Under another label it is another
photo, which has to be reviewed again."""

Change = tuple[Key, Decision | None]
"""A photo and the new decision about it; None for no decision."""


class _Header(msgspec.Struct):
    """The first line: the dataset of the review."""

    version: int = msgspec.field(name="veduta review")
    root: str
    photos: str


class _ChangeFields(msgspec.Struct, array_like=True):
    """A change as it is written: a list of three or four values."""

    path: str
    label_before: str | None
    verdict: Verdict | None
    label: str | None = None

    def change(self) -> Change:
        """Return the change."""
        decision = None if self.verdict is None else Decision(self.verdict, self.label)
        return (self.path, self.label_before), decision


class _Step(msgspec.Struct):
    """Each other line: the changes of a step, or an undo."""

    set: list[_ChangeFields] | None = None
    undo: int | None = None


class ReviewJournal:
    """The journal of one review, for one process. Its calls must not overlap.

    Attributes:
        file: the file.
        decisions: the present decisions.
        last: the photo that was changed last, where the user continues.
    """

    def __init__(self, file: Path, root: Path, paths: Iterable[str]) -> None:
        """Open the journal of a dataset, or begin one.

        Args:
            file: the file.
            root: the folder of the dataset.
            paths: its photos.

        Raises:
            DatasetError: the journal is of another dataset, or the file is not a journal.
            VedutaError: another process has it open.
            OSError: it cannot be read or written.
        """
        from filelock import FileLock, Timeout

        self.file = file
        self.decisions: dict[Key, Decision] = {}
        self.last: Key | None = None
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
            self._lines = self._open(_Header(_VERSION, os.path.abspath(root), _digest(paths)))
        except BaseException:
            self._lock.release()
            raise

    @property
    def steps(self) -> int:
        """Number of steps that can be undone."""
        return len(self._steps)

    def set(self, changes: Sequence[Change]) -> None:
        """Make one step.

        Changes that change nothing are left out. Without any other change, there is no step.

        Args:
            changes: if several are about one photo, the last one counts.

        Raises:
            OSError: the step cannot be written. Then nothing has changed.
        """
        effective = [
            (key, decision)
            for key, decision in dict(changes).items()
            if self.decisions.get(key) != decision
        ]
        if effective:
            self._append({"set": [_fields(change) for change in effective]})
            self._apply(effective)

    def undo(self) -> list[Change]:
        """Revert the last step.

        Returns:
            The changes that this made; none if there is no step.

        Raises:
            OSError: the undo cannot be written. Then nothing has changed.
        """
        if not self._steps:
            return []
        self._append({"undo": 1})
        return self._revert_last_step()

    def close(self) -> None:
        """Close the file and release the lock."""
        try:
            self._lines.close()
        finally:
            self._lock.release()

    def _apply(self, changes: Sequence[Change]) -> None:
        self._steps.append([(key, self.decisions.get(key)) for key, _ in changes])
        self._change_decisions(changes)

    def _revert_last_step(self) -> list[Change]:
        # In reverse order, so that `last` is the first photo of the step. The page goes there.
        changes = self._steps.pop()[::-1]
        self._change_decisions(changes)
        return changes

    def _change_decisions(self, changes: Sequence[Change]) -> None:
        for key, decision in changes:
            if decision is None:
                self.decisions.pop(key, None)
            else:
                self.decisions[key] = decision
            self.last = key

    def _append(self, step: dict[str, Any]) -> None:
        line = json.dumps(step, ensure_ascii=False, separators=(",", ":"))
        self._lines.append(line.encode() + b"\n", durable=True)

    def _open(self, header: _Header) -> AppendOnlyFile:
        """Apply all whole lines of the file, cut off the rest, and write the header if needed."""
        lines = AppendOnlyFile(self.file, end=self._read(header) if self.file.exists() else 0)
        if lines.end == 0:
            self._lines = lines
            try:
                self._append(msgspec.to_builtins(header))
                sync(self.file.parent)
            except BaseException:
                lines.close()
                raise
        return lines

    def _read(self, header: _Header) -> int:
        """Apply all whole lines, and return the position of the end of the last one."""
        end = 0
        with open_regular(self.file) as lines:
            for number, line in enumerate(lines, start=1):
                is_header_start = _HEADER_START.startswith(line[: len(_HEADER_START)])
                if not line.endswith(b"\n") and (number > 1 or is_header_start):
                    break
                try:
                    self._replay(number, parse_json(line), header)
                except (ValueError, IndexError) as error:
                    if number > 1 and not lines.read(1):
                        break  # A power failure damaged the last line. It was not acknowledged.
                    raise DatasetError(
                        f"{readable(self.file)}, line {number}: not a journal of `veduta review`; "
                        "name another file with --out"
                    ) from error
                end += len(line)
        return end

    def _replay(self, number: int, line: object, header: _Header) -> None:
        if number == 1:
            written = convert(line, _Header)
            if written.version != _VERSION:
                raise ValueError(written.version)
            # The dataset may have moved, with the same photos, or have got other photos.
            if written.root != header.root and written.photos != header.photos:
                raise DatasetError(
                    f"{readable(self.file)}: the journal of a review of {readable(written.root)}, "
                    f"not of {readable(header.root)}; name another file with --out"
                )
            return
        step = convert(line, _Step)
        if step.undo is not None:
            self._revert_last_step()
        elif step.set is not None:
            self._apply([fields.change() for fields in step.set])
        else:
            raise ValueError("neither a step nor an undo")


def _fields(change: Change) -> list[str | None]:
    (path, before), decision = change
    if decision is None:
        return [path, before, None]
    return [path, before, decision.verdict, *([decision.label] if decision.label else [])]


def _digest(paths: Iterable[str]) -> str:
    digest = blake2b(digest_size=16)
    for path in sorted(paths):
        digest.update(path.encode() + b"\0")
    return digest.hexdigest()
