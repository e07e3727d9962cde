"""Every error that Veduta raises on purpose.

```
VedutaError
├── PhotoError              one photo cannot be used; the others can
│   ├── UnsupportedFormat   its bytes are of no format on the allow-list
│   ├── BrokenPhoto         its bytes do not decode
│   ├── PhotoTooLarge       more pixels or bytes than the cap
│   └── PhotoUnreadable     the operating system does not give its bytes
├── EncoderError            a descriptor cannot be made
│   ├── UnknownEncoder      no encoder has that name
│   └── EncoderUnavailable  known, but not on this machine and not reachable
├── CollectionError         an index cannot be used
│   ├── NotAnIndex          there is no index at that place
│   ├── IndexDamaged        its files do not read back
│   ├── IndexLocked         another process is writing to it
│   ├── EncoderMismatch     it holds another encoder's descriptors
│   └── StorageFull         the disk has no room for it
├── DatasetError            a labelled collection is not as its protocol wants it
├── LearnError              a network cannot be trained
│   └── RecipeError         its recipe does not read, or asks for what there is not
└── QueryError              a question that cannot be asked
```

Each message names the file or the name at fault and what to do about it. `exit_code` is what the
command line returns: 3 for input, 4 for an index, 5 for an encoder (1 is a check that found
something, 2 a wrong call, 130 an interrupt).
"""

from __future__ import annotations

import os
from typing import ClassVar

__all__ = [
    "BrokenPhoto",
    "CollectionError",
    "DatasetError",
    "EncoderError",
    "EncoderMismatch",
    "EncoderUnavailable",
    "IndexDamaged",
    "IndexLocked",
    "LearnError",
    "NotAnIndex",
    "PhotoError",
    "PhotoTooLarge",
    "PhotoUnreadable",
    "QueryError",
    "RecipeError",
    "StorageFull",
    "UnknownEncoder",
    "UnsupportedFormat",
    "VedutaError",
    "readable",
]


def readable(path: str | bytes | os.PathLike[str]) -> str:
    r"""Return a path as valid UTF-8: a byte that is not UTF-8 becomes `\xNN`.

    Use it for messages and for names in files. `veduta.text.printable` also escapes control
    characters, for what a terminal or a page shows.

    Args:
        path: any path.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class VedutaError(Exception):
    """Base of every error that Veduta raises on purpose."""

    exit_code: ClassVar[int] = 3


class PhotoError(VedutaError):
    """One photo cannot be used. `path` names it, `reason` says why in a few words."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{readable(path)}: {reason}")
        self.path = path
        self.reason = reason


class UnsupportedFormat(PhotoError):
    """The bytes are of no format on the allow-list, whatever the name says."""


class BrokenPhoto(PhotoError):
    """The bytes begin like a photo and do not decode."""


class PhotoTooLarge(PhotoError):
    """The photo has more pixels or bytes than the cap."""


class PhotoUnreadable(PhotoError):
    """The operating system does not give the bytes: gone, no permission, not a regular file."""


class EncoderError(VedutaError):
    """A descriptor cannot be made."""

    exit_code = 5


class UnknownEncoder(EncoderError):
    """No encoder has that name."""


class EncoderUnavailable(EncoderError):
    """The encoder is known, but its model is neither on this machine nor reachable."""


class CollectionError(VedutaError):
    """An index cannot be used."""

    exit_code = 4


class NotAnIndex(CollectionError):
    """There is no index at that place."""


class IndexDamaged(CollectionError):
    """Files of the index do not read back."""


class IndexLocked(CollectionError):
    """Another process is writing to the index."""


class EncoderMismatch(CollectionError):
    """The index holds another encoder's descriptors."""


class StorageFull(CollectionError):
    """The disk has no room for the index."""


class DatasetError(VedutaError):
    """A labelled collection is not as its protocol wants it."""


class LearnError(VedutaError):
    """A network cannot be trained, or what a run left cannot be used."""


class RecipeError(LearnError):
    """A recipe does not read, or asks for what there is not."""


class QueryError(VedutaError):
    """A question that cannot be asked of this collection."""
