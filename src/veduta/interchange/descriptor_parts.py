"""One file of descriptors: what every format becomes, and what every format checks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.errors import CannotWrite, DatasetError, readable
from veduta.interchange.photo_ids import is_utf8
from veduta.text import count

__all__ = [
    "CHECKED_BYTES",
    "DESCRIPTOR_NAMES",
    "ID_NAMES",
    "DescriptorPart",
    "GrowingRows",
    "as_float32",
    "check_form",
    "check_ids",
    "check_rows",
    "ids_of",
    "one_of",
    "refuse_dtype",
]

ID_NAMES = ("names", "name", "paths", "path", "ids", "id")
"""What arrays and columns of ids are called. The first that is there counts."""

DESCRIPTOR_NAMES = (
    "descriptors",
    "descriptor",
    "features",
    "feature",
    "embeddings",
    "embedding",
)
"""What arrays and columns of descriptors are called. Only one of them may be there."""

CHECKED_BYTES = 16 * 2**20
"""How much of a file is looked at in one step."""

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class DescriptorPart:
    """The descriptors of one file.

    Attributes:
        file: where they are from.
        ids: (N,) of the photos.
        rows: (N, d) float16, float32 or float64, in a memory-mapped file.
    """

    file: Path
    ids: Sequence[str]
    rows: NDArray[Any]

    def check(self) -> None:
        """Check all descriptors.

        Raises:
            DatasetError: there are none, not as many as ids, or one of them cannot be compared.
        """
        shape = self.rows.shape
        check_form(self.file, len(self.ids), shape, self.rows.dtype)
        step = max(1, CHECKED_BYTES // (4 * shape[1]))
        for start in range(0, shape[0], step):
            rows = as_float32(self.rows[start : start + step])
            check_rows(self.file, self.ids[start : start + step], rows)


def check_form(file: Path, ids: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array that is no table of descriptors, before its numbers are read.

    Args:
        file: for the message.
        ids: how many there are.
        shape: of the array.
        dtype: of the array.

    Raises:
        DatasetError: it is not (N, d) with N ids, is empty, or has no floats.
    """
    if len(shape) != 2:
        raise DatasetError(
            f"{readable(file)}: the descriptors have the shape {shape}; wanted one row a photo, "
            "(N, d)"
        )
    refuse_dtype(file, dtype)
    if shape[0] != ids:
        raise DatasetError(
            f"{readable(file)}: {count(shape[0], 'descriptor')}, but {count(ids, 'id')}; wanted "
            "one id for each, in the same order"
        )
    if 0 in shape:
        raise DatasetError(f"{readable(file)}: no descriptors, its array is {shape}")


def as_float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return a copy of rows as float32 in memory; what is too large becomes infinite.

    Args:
        rows: (n, d) of any kind of float.
    """
    with np.errstate(over="ignore"):
        return np.array(rows, dtype=np.float32, order="C")


def check_rows(file: Path, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
    """Refuse descriptors that cannot be compared.

    Args:
        file: for the message.
        ids: (n,) of the photos, for the message.
        rows: (n, d).

    Raises:
        DatasetError: a descriptor has a value that is not finite, has only zeros, or has a length
            that float32 does not hold.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    wrong = np.flatnonzero(~((squares > 0) & np.isfinite(squares)))
    if not len(wrong):
        return
    row = rows[wrong[0]]
    if np.isnan(row).any():
        fault = "NaN"
    elif np.isinf(row).any():
        fault = "a value that is infinite as float32"
    elif not row.any():
        fault = "only zeros"
    else:
        fault = "values too small or too large: float32 does not hold its length"
    more = f", and {len(wrong) - 1} after it cannot be used either" if len(wrong) > 1 else ""
    raise DatasetError(
        f"{readable(file)}: the descriptor of {readable(ids[wrong[0]])} has {fault}{more}; "
        "compute it again, or leave it out"
    )


def check_ids(file: Path, ids: Sequence[str]) -> None:
    """Refuse ids that are empty or no Unicode, or that come twice.

    Args:
        file: for the message.
        ids: (N,) ids.

    Raises:
        DatasetError: one is wrong.
    """
    seen: set[str] = set()
    for number, each in enumerate(ids):
        if not each or "\0" in each or not is_utf8(each):
            raise DatasetError(
                f"{readable(file)}: id {number + 1} ({each!r}) is empty, or is no text "
                "in UTF-8; wanted the name of a photo"
            )
        if each in seen:
            raise DatasetError(
                f"{readable(file)}: the id {readable(each)} comes twice; each photo must be there "
                "once"
            )
        seen.add(each)


def refuse_dtype(file: Path, dtype: np.dtype[Any], of: str = "") -> None:
    """Refuse numbers that are no descriptors.

    Args:
        file: for the message.
        dtype: of the array.
        of: the id, for the message.

    Raises:
        DatasetError: it is not float16, float32 or float64.
    """
    if dtype.newbyteorder("=") not in _FLOATS:
        owner = f"the descriptor of {readable(of)} is" if of else "the descriptors are"
        raise DatasetError(
            f"{readable(file)}: {owner} of type {dtype}; wanted float16, float32 or float64"
        )


def ids_of(file: Path, values: NDArray[Any]) -> list[str]:
    """Return ids from an array of texts, bytes in UTF-8 or whole numbers.

    Args:
        file: for the message.
        values: (N,) the array.

    Raises:
        DatasetError: it is something else.
    """
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise DatasetError(
            f"{readable(file)}: the ids are an array of shape {values.shape} and type "
            f"{values.dtype}; wanted texts, (N,)"
        )
    try:
        return [
            each.decode("utf-8") if isinstance(each, bytes) else str(each)
            for each in values.tolist()
        ]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{readable(file)}: an id is not UTF-8 ({error.reason})") from error


def one_of(
    file: Path, found: Sequence[str], wanted: Sequence[str], what: str, *, alone: bool = False
) -> str | None:
    """Return the name in a file that is one of the wanted ones, in any case; None if none is.

    Args:
        file: for the message.
        found: the names in the file.
        wanted: the names that are looked for. The first that is there counts.
        what: they name, for the message.
        alone: refuse a file that has several of them.

    Raises:
        DatasetError: there are several.
    """
    of_name = {each.lower(): each for each in reversed(found)}
    names = [of_name[each] for each in wanted if each in of_name]
    if alone and len(names) > 1:
        raise DatasetError(
            f"{readable(file)}: has {some_of(names)}, and each could be the {what}; keep one"
        )
    return names[0] if names else None


class GrowingRows:
    """Rows of descriptors in a temporary file without a name, which becomes memory-mapped.

    The file is in the folder for temporary files (`TMPDIR`), and it is gone when the process ends.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            _cannot_write(error)
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._dimension: int | None = None
        self._first_id = ""
        self._count = 0

    def __enter__(self) -> GrowingRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # What is mapped stays.

    def add(self, file: Path, ids: Sequence[str], rows: NDArray[Any]) -> None:
        """Write the next rows.

        Args:
            file: where they are from, for messages.
            ids: (n,) of the photos, for messages.
            rows: (n, d) of any kind of float. The first ones decide between float16 and float32.

        Raises:
            DatasetError: d is another one than before.
            CannotWrite: the temporary file cannot be written.
        """
        if not len(rows):
            return
        if self._dimension is None:
            self._dimension, self._first_id = rows.shape[1], ids[0]
            if rows.dtype == np.float16:
                self._dtype = np.dtype(np.float16)
        if rows.shape[1] != self._dimension:
            raise DatasetError(
                f"{readable(file)}: the descriptor of {readable(ids[0])} has {rows.shape[1]} "
                f"dimensions, that of {readable(self._first_id)} {self._dimension}; wanted one "
                "model for all photos"
            )
        if self._dtype == np.float16 and rows.dtype != np.float16:
            raise DatasetError(
                f"{readable(file)}: the descriptor of {readable(ids[0])} is {rows.dtype}, that of "
                f"{readable(self._first_id)} float16; wanted one type"
            )
        with np.errstate(over="ignore"):
            self.add_bytes(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def add_bytes(self, data: bytes) -> None:
        """Write the next bytes of rows that are not looked at.

        Args:
            data: the bytes.

        Raises:
            CannotWrite: the temporary file cannot be written.
        """
        try:
            self._file.write(data)
        except OSError as error:
            _cannot_write(error)

    def mapped(self) -> NDArray[Any]:
        """Return all rows that were added, (N, d); (0, 0) if there are none."""
        if self._dimension is None:
            return np.empty((0, 0), np.float32)
        return self.mapped_as(self._dtype, (self._count, self._dimension))

    def mapped_as(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return all bytes that were added as an array.

        Args:
            dtype: of the array.
            shape: of the array, without a 0.

        Raises:
            CannotWrite: the temporary file cannot be written.
        """
        try:
            self._file.flush()
            return np.memmap(self._file, dtype, "r", shape=shape)
        except OSError as error:
            _cannot_write(error)


def _cannot_write(error: OSError) -> NoReturn:
    raise CannotWrite(tempfile.gettempdir(), error) from error
