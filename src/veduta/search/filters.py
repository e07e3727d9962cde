"""Which rows of an index meet the conditions of a search."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot
from veduta.search.options import SearchOptions

__all__ = ["allowed_rows"]


def allowed_rows(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    """Return which rows meet the conditions of `options` on labels, folders and dates.

    Args:
        snapshot: n photos.
        options: the conditions.

    Returns:
        (n,) bool, or None if there is no condition.
    """
    allowed: NDArray[np.bool_] | None = None
    for condition in (_labelled, _under_folder, _taken_within):
        rows = condition(snapshot, options)
        if rows is not None:
            allowed = rows if allowed is None else allowed & rows
    return allowed


def _labelled(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    if not options.labels:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    labels = _column(snapshot, "label")
    return _bools(pc.is_in(labels, pa.array(options.labels, pa.string())))


def _under_folder(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    if options.under is None:
        return None
    import pyarrow.compute as pc

    folder = os.path.join(os.path.abspath(os.fsencode(options.under)), b"")
    return _bools(pc.starts_with(_column(snapshot, "path"), folder))


def _taken_within(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    if options.after is None and options.before is None:
        return None
    taken = _column(snapshot, "taken").to_numpy(zero_copy_only=False)
    changed = _column(snapshot, "mtime_ns").to_numpy() / 1e9
    dated = ~np.isnat(taken)
    allowed = np.ones(len(taken), np.bool_)
    if options.after is not None:
        local, seconds = _local_and_unix_time(options.after)
        allowed &= np.where(dated, taken >= local, changed >= seconds)
    if options.before is not None:
        local, seconds = _local_and_unix_time(options.before)
        allowed &= np.where(dated, taken < local, changed < seconds)
    return allowed


def _local_and_unix_time(moment: datetime) -> tuple[np.datetime64, float]:
    """Return a time as the dates of photos have it (local, no zone), and in seconds since 1970."""
    local = moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
    return np.datetime64(local, "s"), moment.timestamp()


def _column(snapshot: Snapshot, name: str) -> Any:
    return snapshot.rows[name].slice(0, snapshot.photos).combine_chunks()


def _bools(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
