"""Which rows of an index meet the conditions of a search."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.index import Snapshot
from veduta.search.options import Moment, SearchOptions
from veduta.text import composed

__all__ = ["Undated", "allowed_rows", "undated_photos"]

_YEAR_OR_MONTH = re.compile(r"\d{4}(-\d\d)?")


@dataclass(frozen=True, slots=True)
class Undated:
    """The photos without a date of exposure, in a search that is limited to some time.

    Attributes:
        photos: how many there are.
        left_out: how many of them the limits leave out, by the time of the last change of the file.
    """

    photos: int
    left_out: int


def allowed_rows(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    """Return which rows meet the conditions of `options` on labels, folders and dates.

    Args:
        snapshot: n photos.
        options: the conditions.

    Returns:
        (n,) bool, or None if there is no condition.

    Raises:
        QueryError: `after` or `before` is no date.
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

    wanted = {composed(label) for label in options.labels}
    labels = _column(snapshot, "label")
    return _bools(pc.is_in(labels, pa.array(sorted(wanted), pa.string())))


def _under_folder(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    if options.under is None:
        return None
    import pyarrow.compute as pc

    folder = os.path.join(os.path.abspath(os.fsencode(options.under)), b"")
    return _bools(pc.starts_with(_column(snapshot, "path"), folder))


def undated_photos(snapshot: Snapshot, options: SearchOptions) -> Undated | None:
    """Count the photos without a date of exposure that a search judges by the time of their file.

    Args:
        snapshot: n photos.
        options: the conditions.

    Returns:
        The numbers; None if the search is not limited to some time, or if all photos have a date.

    Raises:
        QueryError: `after` or `before` is no date.
    """
    within = _taken_within(snapshot, options)
    if within is None:
        return None
    undated = np.isnat(_column(snapshot, "taken").to_numpy(zero_copy_only=False))
    if not undated.any():
        return None
    return Undated(int(undated.sum()), int((undated & ~within).sum()))


def _taken_within(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    if options.after is None and options.before is None:
        return None
    taken = _column(snapshot, "taken").to_numpy(zero_copy_only=False)
    changed = _column(snapshot, "mtime_ns").to_numpy() / 1e9
    dated = ~np.isnat(taken)
    allowed = np.ones(len(taken), np.bool_)
    if options.after is not None:
        local, seconds = _local_and_unix_time("after", options.after)
        allowed &= np.where(dated, taken >= local, changed >= seconds)
    if options.before is not None:
        local, seconds = _local_and_unix_time("before", options.before)
        allowed &= np.where(dated, taken < local, changed < seconds)
    return allowed


def _local_and_unix_time(name: str, value: Moment) -> tuple[np.datetime64, float]:
    """Return a time as the dates of photos have it (local, no zone), and in seconds since 1970."""
    moment = _as_datetime(name, value)
    try:
        local = moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
        return np.datetime64(local, "s"), moment.timestamp()
    except (ValueError, OverflowError, OSError) as error:  # Near the years 1 and 9999.
        raise QueryError(
            f"{name} {moment.isoformat()}: the clock of this system does not know that year."
        ) from error


def _as_datetime(name: str, value: Moment) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time.min)
    if isinstance(value, str):
        text = value.strip()
        if match := _YEAR_OR_MONTH.fullmatch(text):
            text += "-01" if match[1] else "-01-01"
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass  # The message below says what is wanted.
    raise QueryError(
        f"{name} {value!r} is no date. Write it like 2014-05-06 or 2014-05-06T07:08:09, or give a "
        "datetime."
    )


def _column(snapshot: Snapshot, name: str) -> Any:
    return snapshot.rows[name].slice(0, snapshot.photos).combine_chunks()


def _bools(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
