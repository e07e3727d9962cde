"""Rows of an index for generated descriptors, as if photos without files had them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from veduta.index.columns import descriptor_checksum
from veduta.index.table import Table
from veduta.photos import content_hash

__all__ = ["append_generated", "generated_rows"]


def append_generated(table: Table, rows: NDArray[np.float16]) -> None:
    """Append generated descriptors (n, d) to the table of an index, numbered in their order."""
    table.append(generated_rows(rows, table.count(), table.dataset.schema))


def generated_rows(
    rows: NDArray[np.float16],
    first: int,
    schema: pa.Schema,
    others: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Return rows of an index for generated descriptors (n, d).

    Args:
        rows: the descriptors.
        first: number of the first row.
        schema: of the index.
        others: further columns, or others in place of the usual ones.
    """
    n, d = rows.shape
    ids = range(first, first + n)
    columns = {
        "id": pa.array(ids, pa.int64()),
        "path": pa.array([b"/generated/%09d.jpg" % i for i in ids], pa.binary()),
        "content": pa.array([content_hash(b"%d" % i) for i in ids], pa.binary()),
        "width": pa.array([640] * n, pa.int32()),
        "height": pa.array([480] * n, pa.int32()),
        "descriptor": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), d),
        "checksum": pa.array([descriptor_checksum(row) for row in rows], pa.uint32()),
        **(others or {}),
    }
    arrays = [columns.get(field.name, pa.nulls(n, field.type)) for field in schema]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
    )
