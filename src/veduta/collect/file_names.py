"""File names from ids and labels that strangers wrote.

A name stays unchanged if it means the same file on every system: see `veduta.safe_names`. Names
that differ only in case, and rows with the same id, get different files.

`FileNames` reads all rows before the first file is written. So the name of a file depends on the
rows and not on their order.
"""

from __future__ import annotations

from array import array
from functools import lru_cache

import numpy as np

from veduta.collect.rows import Row
from veduta.safe_names import case_folded, digest, name_with_hash, safe_name

__all__ = ["FileNames", "row_key"]

_CACHED_LABELS = 4096


def row_key(row: Row) -> int:
    """Return 64 bits that stand for the id, the label and the URL of a row."""
    label = "" if row.label is None else f"={row.label}"
    return int.from_bytes(digest(f"{label}\0{row.id}\0{row.url}"), "little")


class FileNames:
    """The file of each row: `add` all rows, then call `resolve_clashes`, then ask for paths.

    The paths do not depend on the order of the rows. A row takes 16 bytes of memory while rows are
    added, and 8 more in `resolve_clashes`.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._path_hashes = array("q")
        self._row_keys = array("Q")
        self._label_of: dict[str, str] = {}
        self._ambiguous_labels: set[str] = set()
        self._shared_paths: frozenset[int] = frozenset()
        self._clashing_paths: frozenset[int] = frozenset()
        self._folder = lru_cache(maxsize=_CACHED_LABELS)(self._folder_of)

    def __len__(self) -> int:
        return self._rows

    @property
    def labels(self) -> int:
        """Number of labels, without regard to case."""
        return len(self._label_of)

    def add(self, row: Row) -> None:
        """Note a row."""
        self._rows += 1
        self._path_hashes.append(self._path_hash(row))
        self._row_keys.append(row_key(row))
        if row.label is not None:
            key = _label_key(row.label)
            if self._label_of.setdefault(key, row.label) != row.label:
                self._ambiguous_labels.add(key)

    def resolve_clashes(self) -> None:
        """Find the rows that would share a file."""
        paths = np.frombuffer(self._path_hashes, np.int64)
        keys = np.frombuffer(self._row_keys, np.uint64)
        order = np.argsort(paths)
        same = paths[order[1:]] == paths[order[:-1]]
        self._shared_paths = frozenset(paths[order[1:][same]].tolist())
        different = same & (keys[order[1:]] != keys[order[:-1]])
        self._clashing_paths = frozenset(paths[order[1:][different]].tolist())
        del paths, keys
        self._path_hashes, self._row_keys = array("q"), array("Q")
        self._folder.cache_clear()

    def may_repeat(self, row: Row) -> bool:
        """Return whether another row has the same file name, and so may be the same row."""
        return bool(self._shared_paths) and self._path_hash(row) in self._shared_paths

    def path_of(self, row: Row) -> str:
        """Return the path of a row below the folder, with `/` and without extension."""
        stem = safe_name(row.id)
        if self._clashing_paths and self._path_hash(row) in self._clashing_paths:
            stem = name_with_hash(row.id, f"{row.id}\0{row.url}")
        return stem if row.label is None else f"{self._folder(row.label)}/{stem}"

    def _folder_of(self, label: str) -> str:
        ambiguous = _label_key(label) in self._ambiguous_labels
        return name_with_hash(label, label) if ambiguous else safe_name(label)

    def _path_hash(self, row: Row) -> int:
        label = "" if row.label is None else _label_key(row.label)
        return hash((label, case_folded(safe_name(row.id))))


@lru_cache(maxsize=_CACHED_LABELS)
def _label_key(label: str) -> str:
    return case_folded(safe_name(label))
