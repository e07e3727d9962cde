"""Which rows of several indexes one index of them has.

One row stays for each path. Rows of the first index go before those of later ones if their contents
are the same. If the contents differ, the file was changed between two runs, and the row with the
newer time stays. Rows with the same content share what was computed from the photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import keypoint_files
from veduta.index.table import Table

__all__ = ["MergePlan", "plan_merge"]

_BATCH_ROWS = 4096
_COLUMNS = ("id", "path", "mtime_ns", "content", "label", "problem", *keypoint_files.COLUMNS)
_NO_FILE = -1


@dataclass(slots=True)
class MergePlan:
    """What becomes of the n rows of several tables, which are numbered one table after the other.

    Attributes:
        starts: the number of the first row of each table, and n.
        written: (n,) bool, the rows that are written.
        ids: (n,) int64, the ids of the rows that are written.
        sources: (n,) int64, the row from which a written row takes what was computed from its
            photo: the first that stays with this content, or itself.
        files: (n,) int32, the keypoint file of each row; -1 without keypoints.
        offsets: (n,) int64, the place in it in bytes.
        sizes: (n,) int32, in bytes.
        labels: row → the label that a person gave it, if the row has another one.
        gone: ids of the rows of the merged index that are removed, or written anew.
        kept: rows of the merged index that stay as they are.
        added: rows whose path the merged index did not have.
        changed: rows of the merged index that get a newer content.
        known: rows of parts that are left out because the same content has a row with this path.
        copies: written rows that share the descriptor and the keypoints of another row.
        conflicts: rows that are left out because a newer content has this path.
        label_conflicts: rows that are left out although their label is another one.
        left_out: rows that are left out or removed because a person removed their photo.
    """

    starts: NDArray[np.int64]
    written: NDArray[np.bool_]
    ids: NDArray[np.int64]
    sources: NDArray[np.int64]
    files: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    labels: dict[int, str | None]
    gone: list[int]
    kept: int = 0
    added: int = 0
    changed: int = 0
    known: int = 0
    copies: int = 0
    conflicts: int = 0
    label_conflicts: int = 0
    left_out: int = 0

    def rows_of(self, table: int) -> NDArray[np.int64]:
        """Return the numbers of the written rows of a table, ascending."""
        first, end = int(self.starts[table]), int(self.starts[table + 1])
        return first + np.flatnonzero(self.written[first:end])

    def table_of(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return which table each of some rows belongs to."""
        return np.searchsorted(self.starts, rows, side="right") - 1


class _Rows:
    """The columns of all rows that decide which of them stay."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.paths: list[bytes] = []
        self.times: list[int] = []
        self.contents: list[bytes | None] = []  # None: the file gives no photo.
        self.labels: list[str | None] = []
        self.files: list[NDArray[np.int32]] = []
        self.offsets: list[NDArray[np.int64]] = []
        self.sizes: list[NDArray[np.int32]] = []
        self._shared: dict[Any, Any] = {}  # Equal values are one object.

    def read(self, table: Table) -> int:
        """Read all rows of a table, and return the number of all rows so far."""
        for batch in table.batches(_COLUMNS, rows=_BATCH_ROWS):
            column = {name: batch.column(name) for name in _COLUMNS}
            self.ids += column["id"].to_pylist()
            self.paths += column["path"].to_pylist()
            self.times += column["mtime_ns"].fill_null(0).to_pylist()
            self.contents += self._same(column["content"])
            self.labels += self._same(column["label"])
            for values, name in zip(
                (self.files, self.offsets, self.sizes), keypoint_files.COLUMNS, strict=True
            ):
                values.append(column[name].fill_null(_NO_FILE).to_numpy())  # type: ignore[attr-defined]
        return len(self.ids)

    def _same(self, column: Any) -> list[Any]:
        values = column.to_pylist()
        return [self._shared.setdefault(value, value) for value in values]

    def age(self, row: int) -> tuple[int, bool, bytes]:
        """Return what decides between two contents; the larger one stays, whatever the order."""
        content = self.contents[row]
        return self.times[row], content is not None, content or b""


def plan_merge(
    tables: Sequence[Table],
    *,
    into_first: bool,
    labels: Mapping[bytes, str | None],
    removed: Set[bytes],
) -> MergePlan:
    """Decide which rows of some tables stay in one index of them.

    Args:
        tables: of the indexes. Of equal rows that of the first one stays.
        into_first: the first table gets the rows of the others. Otherwise all rows are written.
        labels: path → label, of the labels that a person gave.
        removed: paths of photos that a person removed.

    Raises:
        IndexDamaged: a table does not read.
    """
    rows = _Rows()
    starts = np.array([0, *(rows.read(table) for table in tables)], np.int64)
    number = len(rows.ids)
    old = int(starts[1]) if into_first else 0
    plan = MergePlan(
        starts=starts,
        written=np.zeros(number, np.bool_),
        ids=np.full(number, -1, np.int64),
        sources=np.arange(number, dtype=np.int64),
        files=_joined(rows.files, np.int32),
        offsets=_joined(rows.offsets, np.int64),
        sizes=_joined(rows.sizes, np.int32),
        labels={},
        gone=[],
    )
    staying, id_of = _staying_rows(rows, plan, old, removed)
    next_id = max(rows.ids[:old], default=-1) + 1
    source_of: dict[bytes, int] = {}
    for row in staying:
        content, path = rows.contents[row], rows.paths[row]
        if content is not None:
            plan.sources[row] = source_of.setdefault(content, row)
        if path in labels and labels[path] != rows.labels[row]:
            plan.labels[row] = labels[path]
        if row < old:
            if row not in plan.labels:
                plan.kept += 1
                continue
            plan.gone.append(rows.ids[row])
            plan.ids[row] = rows.ids[row]
        elif row in id_of:
            plan.changed += 1
            plan.ids[row] = id_of[row]
        else:
            plan.added += 1
            plan.ids[row] = next_id
            next_id += 1
        plan.written[row] = True
        plan.copies += row >= old and int(plan.sources[row]) != row
    return plan


def _staying_rows(
    rows: _Rows, plan: MergePlan, old: int, removed: Set[bytes]
) -> tuple[list[int], dict[int, int]]:
    """Choose a row for each path, and count the others.

    Returns:
        The rows that stay, ascending, and the ids of those that replace a row of the first table.
    """
    row_of_path: dict[bytes, int] = {}
    id_of: dict[int, int] = {}
    for row, path in enumerate(rows.paths):
        if path in removed:
            plan.left_out += 1
            if row < old:
                plan.gone.append(rows.ids[row])
            continue
        other = row_of_path.setdefault(path, row)
        if other == row:
            continue
        if rows.contents[row] == rows.contents[other]:
            plan.known += 1
            plan.label_conflicts += rows.labels[row] != rows.labels[other]
            continue
        plan.conflicts += 1
        if rows.age(row) > rows.age(other):
            row_of_path[path] = row
            if other < old:
                plan.gone.append(rows.ids[other])
                id_of[row] = rows.ids[other]
            elif other in id_of:
                id_of[row] = id_of.pop(other)
    return sorted(row_of_path.values()), id_of


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
