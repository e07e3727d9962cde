"""The file `collected.parquet`: the outcome of each row of the sources, in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from veduta.collect.outcome import Outcome, Result
from veduta.collect.reasons import ReasonCounts
from veduta.collect.rows import Row
from veduta.files import replace_file

__all__ = ["TABLE_NAME", "OutcomeCounts", "TableRow", "write_table"]

TABLE_NAME = "collected.parquet"
_BLOCK_ROWS = 16_384
_DENIED_STATUSES = frozenset({401, 403, 429})


class TableRow(NamedTuple):
    """One row of the table.

    Attributes:
        number: from 1.
        row: as the source has it.
        result: its outcome.
    """

    number: int
    row: Row
    result: Result


@dataclass(slots=True)
class OutcomeCounts:
    """Counts of the outcomes of many rows.

    Attributes:
        outcomes: number of rows by outcome.
        reasons: why rows have no photo.
        denied: number of rows that the server denied: status 401, 403 or 429.
        same_content: number of photos that are a copy of an earlier one, byte for byte.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: ReasonCounts = field(default_factory=ReasonCounts)
    denied: int = 0
    same_content: int = 0

    def add(self, url: str, result: Result) -> None:
        """Count one row.

        Args:
            url: of the row, as the source has it.
            result: of the row.
        """
        self.outcomes[result.outcome] += 1
        self.denied += result.status in _DENIED_STATUSES and result.path is None
        self.reasons.add(url, result)


def write_table(
    rows: Iterator[TableRow], file: Path, draft: Path, may_repeat: Callable[[str], bool]
) -> OutcomeCounts:
    """Write the table. Memory does not grow with the number of rows.

    Args:
        rows: the rows in their order.
        file: the table.
        draft: an unfinished file in the same file system. It replaces `file` at the end.
        may_repeat: returns whether another photo may have the same hash.

    Returns:
        The counts of all rows.

    Raises:
        OSError: the table cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number, text = pa.int64(), pa.string()
    schema = pa.schema(
        [
            ("row", number),
            ("id", text),
            ("label", text),
            ("url", text),
            ("final_url", text),
            ("status", pa.int32()),
            ("outcome", text),
            ("error", text),
            ("bytes", number),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", text),
            ("hash", text),
            ("path", text),
            ("same_as", text),
            ("attempts", pa.int32()),
            ("when", text),
        ]
    )
    counts = OutcomeCounts()
    first_path_of: dict[str, str] = {}

    def copied_path(result: Result) -> str | None:
        if result.hash is None or result.path is None or not may_repeat(result.hash):
            return None
        first = first_path_of.setdefault(result.hash, result.path)
        return first if first != result.path else None

    try:
        with parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
            while block := list(islice(rows, _BLOCK_ROWS)):
                numbers, source_rows, results = zip(*block, strict=True)
                copies = [copied_path(result) for result in results]
                columns: dict[str, list[Any]] = {"row": list(numbers), "same_as": copies}
                columns |= {name: list(map(attrgetter(name), source_rows)) for name in Row._fields}
                for name in schema.names:
                    if name not in columns:
                        columns[name] = list(map(attrgetter(name), results))
                writer.write_table(pa.table(columns, schema=schema))
                for row, result in zip(source_rows, results, strict=True):
                    counts.add(row.url, result)
                counts.same_content += len(copies) - copies.count(None)
        replace_file(file, draft, durable=True)
    finally:
        draft.unlink(missing_ok=True)
    return counts
