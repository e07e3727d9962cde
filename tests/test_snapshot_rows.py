"""Some rows of a snapshot: descriptors in float32, and columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from veduta.index import Snapshot
from veduta.index.snapshot import as_float32


def test_float16_becomes_the_same_float32() -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    for part in (numbers, numbers[::2, ::3], numbers.T, numbers[:0], numbers[3]):
        wide = as_float32(part)
        assert wide.dtype == np.float32 and wide.flags.writeable
        np.testing.assert_array_equal(wide, part.astype(np.float32))


def test_rows_at_are_those_of_the_table() -> None:
    table = pa.table({"id": range(10), "path": [b"%d" % number for number in range(10)]})
    cuts = [table.slice(0, 4), table.slice(4, 0), table.slice(4, 1), table.slice(5)]
    none = np.empty((10, 0), np.float16)
    empty = np.empty(0, np.float32)
    snapshot = Snapshot(1, None, pa.concat_tables(cuts), none, none.astype(np.int8), empty, empty)
    for rows in ([], [0], [3, 4, 5], [9, 0, 9, 4]):
        found = snapshot.rows_at(np.array(rows, np.intp), ["path"])
        assert found.to_pydict() == {"path": [b"%d" % row for row in rows]}
    assert snapshot.ids.tolist() == list(range(10))
