"""Write the rows and keypoints of a merge, a bounded number of them in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import IndexDamaged, readable
from veduta.files import open_regular
from veduta.index import region_codes
from veduta.index.columns import COLUMNS, descriptor_is_sound
from veduta.index.keypoint_files import COLUMNS as KEYPOINT_COLUMNS
from veduta.index.keypoint_files import KeypointWriter, file_path
from veduta.index.merge_plan import MergePlan
from veduta.index.storage_errors import index_errors, repair_command
from veduta.index.table import MERGED_FRAGMENT_ROWS, Table
from veduta.keypoints import Keypoints

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

__all__ = ["copy_keypoints", "new_rows"]

OnRows = Callable[[int], None]
"""Called with a number of further rows that are done."""

_ROWS_AT_A_TIME = 1024
_KEYPOINT_PHOTOS_AT_A_TIME = 512
_PHOTO_COLUMNS = frozenset(one.name for one in COLUMNS if one.belongs_to == "photo")


def copy_keypoints(
    plan: MergePlan,
    tables: Sequence[Table],
    into: Path,
    *,
    first: int,
    regions: tuple[int, int] | None,
    on_rows: OnRows,
) -> None:
    """Copy the keypoints of the photos that are new, each content once, and note the new places.

    Each file of a part becomes one file. The files are on the disk when this returns.

    Args:
        plan: its places are those in the index of the table before, and in `into` after.
        tables: of the plan.
        into: the folder of the index that gets the keypoints.
        first: the first table whose keypoints are copied. Those of the others are there.
        regions: number and bytes of the codes that follow the keypoints of a photo, if any.
        on_rows: called for the photos that are done.

    Raises:
        IndexDamaged: keypoints of a part do not read back.
        StorageFull: the disk is full.
    """
    following = region_codes.packed_size(regions) if regions else 0
    for table in range(first, len(tables)):
        rows = plan.rows_of(table)
        rows = rows[(plan.sources[rows] == rows) & (plan.files[rows] >= 0)]
        rows = rows[np.lexsort((plan.offsets[rows], plan.files[rows]))]
        files = plan.files[rows]  # A copy: the new places have numbers of their own.
        for number in np.unique(files).tolist():
            writer = KeypointWriter(into)
            in_file = rows[files == number]
            places: list[tuple[int, int]] = []
            for start in range(0, len(in_file), _KEYPOINT_PHOTOS_AT_A_TIME):
                some = in_file[start : start + _KEYPOINT_PHOTOS_AT_A_TIME]
                sizes = plan.sizes[some].tolist()
                read = _read_keypoints(
                    tables[table].index, number, plan.offsets[some].tolist(), sizes, following
                )
                packed = [one[:size] for one, size in zip(read, sizes, strict=True)]
                codes = [one[size:] for one, size in zip(read, sizes, strict=True)]
                places += [(one.file, one.offset) for one in writer.append(packed, codes)]
                on_rows(len(some))
            plan.files[in_file] = [file for file, _ in places]
            plan.offsets[in_file] = [offset for _, offset in places]


def _read_keypoints(
    index: Path, number: int, offsets: list[int], sizes: list[int], following: int
) -> list[bytes]:
    """Read what belongs to some photos from one file, neighbours at once, and check it."""
    path = file_path(index, number)
    entries: list[bytes] = []
    with index_errors(index, "read"), open_regular(path) as file:
        start = 0
        while start < len(offsets):
            end = start + 1
            while (
                end < len(offsets) and offsets[end] == offsets[end - 1] + sizes[end - 1] + following
            ):
                end += 1
            file.seek(offsets[start])
            data = file.read(sum(sizes[start:end]) + following * (end - start))
            for at in range(start, end):
                begin = offsets[at] - offsets[start]
                entries.append(data[begin : begin + sizes[at] + following])
            start = end
    for offset, size, entry in zip(offsets, sizes, entries, strict=True):
        try:
            Keypoints.unpack(entry[:size], 1, 1)  # It compares the checksum.
            if len(entry) != size + following:
                raise ValueError("the codes of regions are cut off")
        except ValueError as error:
            raise IndexDamaged(
                f"{readable(path)}: the keypoints at {offset:,} cannot be read ({error}). Repair "
                f"it with: {repair_command(index)}"
            ) from error
    return entries


def new_rows(
    plan: MergePlan, tables: Sequence[Table], schema: pa.Schema, *, on_rows: OnRows
) -> Iterator[pa.Table]:
    """Yield the rows that are written, in tables of `MERGED_FRAGMENT_ROWS` or fewer.

    Args:
        plan: with the places of the keypoints in the merged index.
        tables: of the plan.
        schema: of the merged index.
        on_rows: called for the rows that are done.

    Raises:
        IndexDamaged: a part does not read, or a descriptor does not match its checksum.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows_waiting = 0
    for table in range(len(tables)):
        rows = plan.rows_of(table)
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            some = rows[start : start + _ROWS_AT_A_TIME]
            waiting.append(_rows(plan, tables, table, some, schema))
            rows_waiting += len(some)
            on_rows(len(some))
            if rows_waiting + _ROWS_AT_A_TIME > MERGED_FRAGMENT_ROWS:
                yield pa.concat_tables(waiting)
                waiting, rows_waiting = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _rows(
    plan: MergePlan, tables: Sequence[Table], table: int, rows: NDArray[np.int64], schema: pa.Schema
) -> pa.Table:
    """Return written rows of one table as the merged index has them."""
    import pyarrow as pa

    own = _take(plan, tables, table, rows, schema.names)
    sources = plan.sources[rows]
    columns: dict[str, Any] = {name: own[name] for name in own.schema.names}
    if (sources != rows).any():
        of_photos = _photo_columns(plan, tables, sources, schema)
        columns.update({name: of_photos[name] for name in of_photos.schema.names})
    columns["id"] = pa.array(plan.ids[rows])
    labels = own["label"].to_pylist()
    new = [plan.labels.get(row, old) for row, old in zip(rows.tolist(), labels, strict=True)]
    columns["label"] = pa.array(new, pa.string())
    files = plan.files[sources]
    for name, values in zip(
        KEYPOINT_COLUMNS, (files, plan.offsets[sources], plan.sizes[sources]), strict=True
    ):
        columns[name] = pa.array(values, mask=files < 0)
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _photo_columns(
    plan: MergePlan, tables: Sequence[Table], sources: NDArray[np.int64], schema: pa.Schema
) -> pa.Table:
    """Return what was computed from the photos of some rows, from the rows that share it."""
    import pyarrow as pa

    wanted = pa.schema([one for one in schema if one.name in _PHOTO_COLUMNS])
    of_table = plan.table_of(sources)
    taken, order = [], []
    for table in np.unique(of_table).tolist():
        at = np.flatnonzero(of_table == table)
        distinct, back = np.unique(sources[at], return_inverse=True)
        rows = _take(plan, tables, table, distinct, wanted.names)
        for one in wanted:
            if one.name not in rows.schema.names:  # A part may store no places.
                rows = rows.append_column(one, pa.nulls(len(rows), one.type))
        taken.append(rows.select(wanted.names).take(pa.array(back)))
        order.append(at)
    return pa.concat_tables(taken).take(pa.array(np.argsort(np.concatenate(order))))


def _take(
    plan: MergePlan,
    tables: Sequence[Table],
    table: int,
    rows: NDArray[np.int64],
    names: Sequence[str],
) -> pa.Table:
    """Read columns of rows of one table, and compare descriptors with their checksums."""
    source = tables[table]
    known = source.dataset.schema.names
    wanted = [name for name in names if name in known]
    taken = source.rows_at(rows - plan.starts[table], wanted)
    _require_sound(taken, source.index)
    return taken


def _require_sound(rows: pa.Table, index: Path) -> None:
    column = rows["descriptor"].combine_chunks()
    there = np.asarray(column.is_valid())
    width = column.type.list_size
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    checksums = rows["checksum"].filter(column.is_valid()).to_pylist()
    for at, descriptor, checksum in zip(np.flatnonzero(there), values, checksums, strict=True):
        if not descriptor_is_sound(descriptor, checksum):
            content = rows["content"][int(at)].as_py().hex()
            raise IndexDamaged(
                f"{readable(index)} is damaged: the descriptor of the photo with the content hash "
                f"{content[:16]} does not match its checksum. Repair it with: "
                f"{repair_command(index)}"
            )
