"""`collected.parquet`: a row for each row of the sources, in their order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from veduta.collect.outcome import Outcome, Result
from veduta.collect.rows import Row

__all__ = ["TABLE", "Tally", "write_table"]

TABLE = "collected.parquet"
_AT_ONCE = 16_384

Told = tuple[int, Row, Result]
"""The number of a row, from 1; the row; what became of it."""


@dataclass(slots=True)
class Tally:
    """What the rows of a table add up to."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    examples: dict[Outcome, str] = field(default_factory=dict)
    same_content: int = 0


def write_table(
    told: Iterator[Told], file: Path, draft: Path, repeated_content: Callable[[str], bool]
) -> Tally:
    """Write `file` at once, by way of `draft`. Memory does not grow with the number of rows.

    `repeated_content` tells whether another photo may have the same hash.

    Raises OSError.
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
    tally = Tally()
    first_of: dict[str, str] = {}

    def copy_of(result: Result) -> str | None:
        if result.hash is None or result.path is None or not repeated_content(result.hash):
            return None
        first = first_of.setdefault(result.hash, result.path)
        return first if first != result.path else None

    try:
        with parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
            while some := list(islice(told, _AT_ONCE)):
                numbers, rows, results = zip(*some, strict=True)
                copies = [copy_of(result) for result in results]
                columns: dict[str, list[Any]] = {"row": list(numbers), "same_as": copies}
                columns |= {name: list(map(attrgetter(name), rows)) for name in Row._fields}
                for name in schema.names:
                    if name not in columns:
                        columns[name] = list(map(attrgetter(name), results))
                writer.write_table(pa.table(columns, schema=schema))
                for result in results:
                    _count(tally, result)
                tally.same_content += len(copies) - copies.count(None)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return tally


def _count(tally: Tally, result: Result) -> None:
    tally.outcomes[result.outcome] += 1
    if result.error and result.outcome is not Outcome.REPEATED:
        tally.examples.setdefault(result.outcome, result.error)
