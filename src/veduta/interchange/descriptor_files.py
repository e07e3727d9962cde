"""The global descriptors of another program, from one file or several, as one table.

`veduta.interchange.descriptor_formats` says what files are read. All descriptors are checked when
a table is opened, before the first figure. Memory holds the ids and one block of descriptors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable
from veduta.interchange.descriptor_formats import read_part
from veduta.interchange.descriptor_parts import DescriptorPart, check_ids
from veduta.interchange.photo_ids import NOT_FOUND, PhotoIds
from veduta.text import count

__all__ = ["DescriptorTable", "open_descriptors"]


class DescriptorTable:
    """N descriptors with d numbers, which are checked: finite, not zero, each id once.

    Attributes:
        dimension: d.
    """

    def __init__(self, parts: Sequence[DescriptorPart]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.ids) for part in parts)])
        self._ids = PhotoIds([each for part in parts for each in part.ids])
        self._by_last_part: dict[int, str] = {}
        self._taken: dict[int, str] = {}
        self.dimension = parts[0].rows.shape[1]

    def __len__(self) -> int:
        return len(self._ids.ids)

    @property
    def ids(self) -> Sequence[str]:
        """(N,) ids, as the files have them."""
        return self._ids.ids

    @property
    def problems(self) -> tuple[str, ...]:
        """What was guessed, one sentence each."""
        if not self._by_last_part:
            return ()
        row, wanted = next(iter(self._by_last_part.items()))
        return (
            f"{count(len(self._by_last_part), 'photo')} found by the last part of the path only, "
            f"such as {readable(wanted)} as {readable(self.ids[row])}.",
        )

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each photo.

        An id is taken as it is; else without its ending or with any ending; else by the last part
        of its path. The last two count only if they are unique, among the photos that are wanted
        too. A row never stands for two photos with different ids.

        Args:
            ids: (n,) as the protocol has them.

        Returns:
            (n,) int64.

        Raises:
            DatasetError: photos have no descriptor, or one that another photo has.
        """
        rows = self._ids.find(ids, by_last_part=True)
        missing = [each for each, row in zip(ids, rows.tolist(), strict=True) if row == NOT_FOUND]
        if missing:
            raise DatasetError(
                f"{self._files()}: no descriptor for {len(missing):,} of "
                f"{count(len(ids), 'photo')} ({some_of(missing)}); the ids there are like "
                f"{some_of(self.ids, 2)}. Name the photos as the protocol does, and name all files "
                "of queries and gallery"
            )
        for wanted, row in zip(ids, rows.tolist(), strict=True):
            other = self._taken.setdefault(row, wanted)
            if other != wanted:
                raise DatasetError(
                    f"{self._files()}: the descriptor of {readable(self.ids[row])} would stand for "
                    f"{readable(other)} and for {readable(wanted)}; name both in the files"
                )
            if self._ids.is_by_last_part(wanted, row):
                self._by_last_part[row] = wanted
        return rows

    def blocks(
        self, rows: NDArray[np.int64], block_rows: int
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the descriptors of some rows, block after block.

        Args:
            rows: (n,) rows, from `rows_of`.
            block_rows: how many a block has at most.

        Yields:
            The part of `rows`, and its descriptors, (m, d).
        """
        for start in range(0, len(rows), block_rows):
            some = slice(start, min(start + block_rows, len(rows)))
            yield some, self._at(rows[some])

    def _at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        owners = np.searchsorted(self._starts, rows, "right") - 1
        block = np.empty((len(rows), self.dimension), np.float32)
        for number in np.unique(owners).tolist():
            here = owners == number
            block[here] = self._parts[number].rows[rows[here] - self._starts[number]]
        return block

    def _files(self) -> str:
        return some_of([readable(part.file) for part in self._parts], 3)


def open_descriptors(files: Sequence[Path]) -> DescriptorTable:
    """Open files of descriptors as one table, and check all of it.

    Args:
        files: one or more. They are parts of one table, in any format of
            `veduta.interchange.descriptor_formats`: shards, or queries and gallery.

    Returns:
        The table.

    Raises:
        DatasetError: a file cannot be read; a descriptor has NaN, an infinite value or only zeros;
            an id comes twice; or the files have different dimensions.
        CannotWrite: there is no room for a temporary file.
        ValueError: no file is named.
    """
    if not files:
        raise ValueError("name a file of descriptors")
    parts = [read_part(file) for file in files]
    owner: dict[str, DescriptorPart] = {}
    for part in parts:
        part.check()
        check_ids(part.file, part.ids)
        first, dimension = parts[0], part.rows.shape[1]
        if dimension != first.rows.shape[1]:
            raise DatasetError(
                f"{readable(part.file)}: {dimension} dimensions, but {readable(first.file)} has "
                f"{first.rows.shape[1]}; wanted one model for all photos"
            )
        for each in part.ids:
            other = owner.setdefault(each, part)
            if other is not part:
                raise DatasetError(
                    f"{readable(part.file)}: the id {readable(each)} is in {readable(other.file)} "
                    "too; each photo must be there once"
                )
    return DescriptorTable(parts)
