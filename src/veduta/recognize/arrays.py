"""Named arrays in one file, read with a single kind of error, whatever is wrong with the file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

# What numpy and zipfile are known to raise for a file that is damaged, cut off or of another kind.
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
    """Return the arrays `names` of an `.npz` file; nothing in it is executed.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is damaged, or an array is missing or holds objects.
    """
    # Opened here, since `np.load` leaves a file open that is no archive.
    with file.open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        except _DAMAGED as error:
            raise ValueError(f"{file.name}: {error}") from error
