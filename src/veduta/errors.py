"""Every error that Veduta raises on purpose.

```
VedutaError
├── PhotoError              one photo cannot be used; other photos can
│   ├── UnsupportedFormat   it is of a kind that is not read
│   │   └── NotAPhoto       its bytes are no picture at all
│   ├── BrokenPhoto         its bytes do not decode
│   ├── PhotoTooLarge       it has more pixels or bytes than the cap, or costs too much to decode
│   └── PhotoUnreadable     the operating system does not read it now
├── EncoderError            a descriptor cannot be computed
│   ├── UnknownEncoder      no encoder has that name
│   ├── EncoderUnavailable  the encoder is not on this machine and cannot be fetched
│   └── DeviceError         a device cannot run it, or computes something else
├── CollectionError         an index cannot be used
│   ├── NotAnIndex          there is no index in that folder
│   ├── IndexDamaged        its files do not read back
│   ├── IndexLocked         another process is writing to it
│   ├── EncoderMismatch     it holds descriptors of another encoder
│   ├── IndexChanged        another process has published a newer version in the object store
│   └── StorageError        its disk does not read or write now
│       ├── StorageFull     the disk is full
│       └── StoreError      its object store refuses, or does not answer
├── DatasetError            a labelled dataset does not have the expected form
│   ├── NoLabels            it has no label at all
│   └── WrongLayout         it lacks files that its published protocol has
├── LearnError              a network cannot be trained, or a run cannot be used
│   ├── RecipeError         its recipe does not read, or asks for something unknown
│   └── WeightsUnavailable  the first weights are not on this machine and cannot be fetched
├── QueryError              a query or option that is not possible
├── ServiceError            a service (`veduta serve`) refuses, or cannot be reached
└── CannotWrite             a file or folder cannot be written (also an OSError)
```

Each message names the file or the name at fault, and the remedy. `exit_code` is the exit code of
the command line: 3 for input and output, 4 for an index, 5 for an encoder (1 is a check that found
something, 2 a wrong call, 70 a fault of Veduta itself, 130 an interrupt).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "BrokenPhoto",
    "CannotWrite",
    "CollectionError",
    "DatasetError",
    "DeviceError",
    "EncoderError",
    "EncoderMismatch",
    "EncoderUnavailable",
    "IndexChanged",
    "IndexDamaged",
    "IndexLocked",
    "LearnError",
    "NoLabels",
    "NotAPhoto",
    "NotAnIndex",
    "PhotoError",
    "PhotoTooLarge",
    "PhotoUnreadable",
    "QueryError",
    "RecipeError",
    "ServiceError",
    "StorageError",
    "StorageFull",
    "StoreError",
    "UnknownEncoder",
    "UnsupportedFormat",
    "VedutaError",
    "WeightsUnavailable",
    "WrongLayout",
    "native_path",
    "path_bytes",
    "readable",
]


def readable(path: str | bytes | os.PathLike[str]) -> str:
    r"""Return a path as valid UTF-8: a byte that is not UTF-8 becomes `\xNN`.

    Use it for messages and for names in files. `veduta.text.printable` also escapes control
    characters, for what a terminal or a page shows.

    Args:
        path: any path.
    """
    return path_bytes(path).decode("utf-8", "backslashreplace")


def path_bytes(path: str | bytes | os.PathLike[str]) -> bytes:
    """Return a path as the file system has it.

    Args:
        path: any path. Text that the encoding of file names does not have is taken as UTF-8: only
            a file that Veduta reads can hold such text.
    """
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # The names of files of this system cannot hold that character.
        pass
    try:
        return str(path).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # A surrogate that stands for no byte, as a JSON file may hold it.
        return str(path).encode("utf-8", "backslashreplace")


def native_path(text: str) -> str:
    """Return a path from a file in UTF-8 as Python's functions for files take it.

    The two differ only where the encoding of file names is not UTF-8, as in a Latin-1 locale.

    Args:
        text: the path as the file has it.
    """
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


class VedutaError(Exception):
    """Base of every error that Veduta raises on purpose."""

    exit_code: ClassVar[int] = 3


class PhotoError(VedutaError):
    """One photo cannot be used.

    Attributes:
        path: the photo.
        reason: why, in a few words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{readable(path)}: {reason}")
        self.path = path
        self.reason = reason


class UnsupportedFormat(PhotoError):
    """The file is of a kind that is not read, whatever its name says."""


class NotAPhoto(UnsupportedFormat):
    """The bytes are of no kind of picture, whatever the file name says."""


class BrokenPhoto(PhotoError):
    """The bytes begin like a photo and do not decode."""


class PhotoTooLarge(PhotoError):
    """The photo has more pixels or bytes than the cap, or costs too much to decode."""


class PhotoUnreadable(PhotoError):
    """The operating system does not read the file now. This says nothing about its bytes.

    The file is missing, there is no permission, it is not a regular file, its disk or network
    folder is away, too many files are open, or there is not enough memory.
    """


class EncoderError(VedutaError):
    """A descriptor cannot be computed."""

    exit_code = 5


class UnknownEncoder(EncoderError):
    """No encoder has that name."""


class EncoderUnavailable(EncoderError):
    """The encoder is known, but its model is not on this machine and cannot be fetched."""


class DeviceError(EncoderError):
    """A device cannot run a network, or computes something else than the processor."""


class CollectionError(VedutaError):
    """An index cannot be used."""

    exit_code = 4


class NotAnIndex(CollectionError):
    """There is no index in that folder."""


class IndexDamaged(CollectionError):
    """Files of the index do not read back."""


class IndexLocked(CollectionError):
    """Another process is writing to the index."""


class EncoderMismatch(CollectionError):
    """The index holds descriptors or keypoints of another kind."""


class IndexChanged(CollectionError):
    """Another process has published a newer version of an index in an object store meanwhile."""


class StorageError(CollectionError):
    """The disk, or the operating system, does not read or write now. Nothing is damaged by that."""


class StorageFull(StorageError):
    """The disk is full."""


class StoreError(StorageError):
    """An object store refuses, does not answer, or lacks what an index in it needs."""


class DatasetError(VedutaError):
    """A labelled dataset does not have the expected form."""


class NoLabels(DatasetError):
    """A dataset has no label at all."""


class WrongLayout(DatasetError):
    """A folder does not have the files that its protocol expects.

    Attributes:
        message: what is missing.
        further_lines: the files that were expected, and those that were found.
    """

    def __init__(self, message: str, further_lines: Sequence[str]) -> None:
        super().__init__("\n".join((message, *further_lines)))
        self.message = message
        self.further_lines = tuple(further_lines)


class LearnError(VedutaError):
    """A network cannot be trained, or the files of a run cannot be used."""


class RecipeError(LearnError):
    """A recipe does not read, or asks for something unknown."""


class WeightsUnavailable(LearnError):
    """The pretrained weights that a recipe starts from are not on this machine, nor fetched.

    Attributes:
        reason: which weights, and why, without the remedy.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason


class QueryError(VedutaError):
    """A query or an option that is not possible with this index."""


class ServiceError(VedutaError):
    """A service refuses a request, or cannot be reached."""


class CannotWrite(VedutaError, OSError):
    """A file or folder cannot be written.

    Attributes:
        filename: the file or folder that was to be written.
        strerror: why, in a few words.
    """

    def __init__(self, path: str | os.PathLike[str], error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), os.fspath(path))

    def __str__(self) -> str:
        return f"{readable(self.filename)}: cannot be written: {self.strerror}"
