"""Read the arrays of an `.npz` file, with one kind of error for every damage."""

from __future__ import annotations

import os
import zlib
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from veduta.files import open_regular

__all__ = ["DAMAGED", "read_all_arrays", "read_arrays"]

DAMAGED = (
    AttributeError,
    BadZipFile,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What numpy and zipfile raise for a file that is damaged, cut off or of another kind."""


def read_all_arrays(file: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return all arrays of an `.npz` file by their names; nothing in it is executed.

    All bytes of the arrays are compared with their checksums, those of numpy's headers too.

    Args:
        file: the file.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, or holds something else than arrays of numbers and texts.
    """
    # `np.load` does not close a file that is no archive, so the file is opened here.
    with open_regular(file) as stream:
        try:
            # numpy reads as much as a header says. If that is too little, it compares nothing.
            with ZipFile(stream) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise ValueError(f"{broken} does not match its checksum")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}
        except DAMAGED as error:
            # The messages of numpy advise to load Python objects, which could run code.
            raise ValueError(
                f"{os.path.basename(os.fspath(file))} is damaged, or no file of arrays"
            ) from error


def read_arrays(file: str | os.PathLike[str], *names: str) -> list[NDArray[Any]]:
    """Return some arrays of an `.npz` file; nothing in it is executed.

    Args:
        file: the file.
        names: names of the wanted arrays.

    Returns:
        The arrays in the order of `names`.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, or an array is missing or holds objects.
    """
    arrays = read_all_arrays(file)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{os.path.basename(os.fspath(file))} has no array '{missing[0]}'")
    return [arrays[name] for name in names]
