"""Which rows a search considers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on gallery photos; all that are given must hold.

    Attributes:
        labels: the photo has one of these.
        under: the photo lies in this folder or below it.
        after, before: when it was taken, or, where the photo does not say, when its file was last
            changed; `after` is included, `before` is not.
    """

    labels: tuple[str, ...] = ()
    under: Path | None = None
    after: datetime | None = None
    before: datetime | None = None

    def rows(self, snapshot: Snapshot) -> NDArray[np.bool_] | None:
        """Return (n,) bool, the rows that pass, or None when every row does."""
        keep: NDArray[np.bool_] | None = None
        for condition in (self._labelled, self._below, self._dated):
            passed = condition(snapshot)
            if passed is not None:
                keep = passed if keep is None else keep & passed
        return keep

    def _labelled(self, snapshot: Snapshot) -> NDArray[np.bool_] | None:
        if not self.labels:
            return None
        import pyarrow as pa
        import pyarrow.compute as pc

        labels = _column(snapshot, "label")
        return _bools(pc.is_in(labels, pa.array(self.labels, pa.string())))

    def _below(self, snapshot: Snapshot) -> NDArray[np.bool_] | None:
        if self.under is None:
            return None
        import pyarrow.compute as pc

        folder = os.path.join(os.path.abspath(os.fsencode(self.under)), b"")
        return _bools(pc.starts_with(_column(snapshot, "path"), folder))

    def _dated(self, snapshot: Snapshot) -> NDArray[np.bool_] | None:
        if self.after is None and self.before is None:
            return None
        taken = _column(snapshot, "taken").to_numpy(zero_copy_only=False)
        changed = _column(snapshot, "mtime_ns").to_numpy() / 1e9
        dated = ~np.isnat(taken)
        keep = np.ones(len(taken), np.bool_)
        # A photo's own date is local time without a zone, a file's is seconds since 1970.
        if self.after is not None:
            naive, seconds = _both(self.after)
            keep &= np.where(dated, taken >= naive, changed >= seconds)
        if self.before is not None:
            naive, seconds = _both(self.before)
            keep &= np.where(dated, taken < naive, changed < seconds)
        return keep


def _both(moment: datetime) -> tuple[np.datetime64, float]:
    local = moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
    return np.datetime64(local, "s"), moment.timestamp()


def _column(snapshot: Snapshot, name: str) -> Any:
    return snapshot.rows[name].slice(0, snapshot.photos).combine_chunks()


def _bools(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
