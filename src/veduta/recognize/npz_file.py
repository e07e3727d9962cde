"""Read named arrays from an `.npz` file, with one kind of error for every damage."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]

# numpy and zipfile raise these for a file that is damaged, cut off or of another kind.
_DAMAGED = (
    AttributeError,
    BadZipFile,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)


def read_arrays(file: Path, *names: str) -> list[NDArray[Any]]:
    """Return arrays of an `.npz` file; nothing in it is executed.

    Args:
        file: the file.
        names: names of the wanted arrays.

    Returns:
        The arrays in the order of `names`.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, or an array is missing or holds objects.
    """
    # `np.load` does not close a file that is no archive, so the file is opened here.
    with file.open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        except _DAMAGED as error:
            raise ValueError(f"{file.name}: {error}") from error
