"""`published.json` in the folder of an index: which version in a store the folder comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import msgspec

from veduta.files import write_bytes
from veduta.stored_index.listing import Listing, Pointer
from veduta.validation import InvalidValue, read_json

__all__ = ["RECORD_FILE", "Record"]

RECORD_FILE = "published.json"


class Record(msgspec.Struct, frozen=True):
    """What is known of an index and its store.

    Attributes:
        url: of the store.
        pointer: to the version that the index was when it was fetched or published; None: it was
            never published there.
        listing: of this version.
        attempt: the pointer that a publication was about to write. If it was killed, the store may
            have it.
    """

    url: str
    pointer: Pointer | None = None
    listing: Listing | None = None
    attempt: Pointer | None = None

    @classmethod
    def read(cls, index: Path, url: str) -> Self:
        """Read the record of an index; an empty one if it has none for this store.

        A damaged record counts as none: then a publication is refused if the store has an index.

        Args:
            index: the folder of the index.
            url: of the store.

        Raises:
            OSError: it cannot be read.
        """
        try:
            record = read_json(index / RECORD_FILE, cls)
        except (FileNotFoundError, NotADirectoryError, InvalidValue):
            return cls(url)
        return record if record.url == url else cls(url)

    def write(self, index: Path) -> None:
        """Write the record of an index.

        Args:
            index: the folder of the index.

        Raises:
            CannotWrite: it cannot be written.
        """
        data = json.dumps(msgspec.to_builtins(self)).encode()
        write_bytes(index / RECORD_FILE, data, durable=True)

    def trying(self, pointer: Pointer) -> Self:
        """Return the record of an index that is about to become this version."""
        return msgspec.structs.replace(self, attempt=pointer)

    def comes_from(self, pointer: Pointer | None) -> bool:
        """Tell whether the index continues what the store has.

        Args:
            pointer: of the store; None: it has no index.
        """
        return pointer is None or pointer in (self.pointer, self.attempt)
