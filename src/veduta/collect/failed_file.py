"""The file `collected.failed.csv`: the rows without a photo and why, for people to read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from veduta.collect.outcome import Outcome, Result
from veduta.collect.reasons import is_failure
from veduta.collect.table import TableRow
from veduta.files import replace_file

__all__ = ["FAILED_FILE", "NOT_PUBLIC", "FailedFile"]

FAILED_FILE = "collected.failed.csv"

NOT_PUBLIC = "is not a public address"
"""The end of the reason of a row that `--allow-private` would fetch."""

_COLUMNS = ("row", "id", "label", "url", "outcome", "reason", "tried_again_by")
_OPTIONS = {
    Outcome.OPTED_OUT: "--ignore-robots-tag",
    Outcome.TOO_SMALL: "a lower --min-size",
    Outcome.TOO_LARGE: "--retry-failed with a higher --max-bytes",
}


class FailedFile:
    """Writes the failed rows of a table while others read it, and then the file as a whole."""

    def __init__(self, folder: Path, drafts: Path) -> None:
        """Write nothing yet.

        Args:
            folder: where the file goes.
            drafts: a folder in the same file system, for the unfinished file.
        """
        self._file = folder / FAILED_FILE
        self._draft = drafts / FAILED_FILE
        self._failed = 0

    def noting(self, rows: Iterable[TableRow]) -> Iterator[TableRow]:
        """Yield all rows, and write those that failed to the unfinished file.

        Args:
            rows: of the table, in their order.

        Raises:
            OSError: the unfinished file cannot be written.
        """
        with self._draft.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for one in rows:
                result = one.result
                if is_failure(result):
                    self._failed += 1
                    row = one.row
                    facts = (str(result.outcome), result.error or "", _tried_again_by(result))
                    writer.writerow((one.number, row.id, row.label or "", row.url, *facts))
                yield one

    def finish(self) -> Path | None:
        """Replace the file by the unfinished one.

        Returns:
            The file; None if no row failed. Then there is no such file any more.

        Raises:
            OSError: the file cannot be replaced or removed.
        """
        if not self._failed:
            self._draft.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
            return None
        replace_file(self._file, self._draft, durable=True)
        return self._file


def _tried_again_by(result: Result) -> str:
    """Return how the next run tries a row again."""
    if result.outcome.temporary:
        return "the same command"
    if result.outcome is Outcome.REFUSED and (result.error or "").endswith(NOT_PUBLIC):
        return "--allow-private"
    return _OPTIONS.get(result.outcome, "--retry-failed")
