"""What Veduta needs of an object store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veduta.errors import StoreError

__all__ = ["MAX_WHOLE_BYTES", "ObjectMissing", "Store", "Tag", "Tagged"]

MAX_WHOLE_BYTES = 512 * 2**20
"""The limit for an object that is read as a whole."""


class ObjectMissing(StoreError):
    """A store has no object with that name."""


@dataclass(frozen=True, slots=True)
class Tag:
    """What a store calls one content of an object, for `put_if_unchanged`.

    Attributes:
        e_tag: the entity tag.
        version: the number of the version, in stores that have one.
    """

    e_tag: str | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Tagged:
    """An object.

    Attributes:
        data: its content.
        tag: of this content.
    """

    data: bytes
    tag: Tag


class Store(ABC):
    """Objects below one address. Several threads may use it at the same time.

    Names are relative to the address, with slashes. Each method raises `StoreError` if the store
    refuses or does not answer. An object appears as a whole or not at all.

    Attributes:
        url: the address.
    """

    url: str

    def get(self, name: str, *, most_bytes: int = MAX_WHOLE_BYTES) -> bytes:
        """Return the content of an object.

        Args:
            name: of the object.
            most_bytes: a larger object is refused.

        Raises:
            ObjectMissing: there is none.
        """
        return self.get_tagged(name, most_bytes=most_bytes).data

    @abstractmethod
    def get_tagged(self, name: str, *, most_bytes: int = MAX_WHOLE_BYTES) -> Tagged:
        """Return the content of an object, and its tag; raises as `get` does."""

    @abstractmethod
    def get_file(self, name: str, path: Path) -> None:
        """Write the content of an object of any size into a file, which is whole or not there.

        Args:
            name: of the object.
            path: of the file. Its folder must exist.

        Raises:
            ObjectMissing: there is no such object.
            CannotWrite: the file cannot be written.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is none."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write an object. One with the same name is replaced."""

    @abstractmethod
    def put_file(self, name: str, path: Path) -> None:
        """Write a file of any size as an object. One with the same name is replaced.

        Args:
            name: of the object.
            path: of the file, which does not change meanwhile.

        Raises:
            OSError: the file cannot be read.
        """

    @abstractmethod
    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write an object if there is none with this name.

        Args:
            name: of the object.
            data: its content.

        Returns:
            Whether it was written. False: there was one, and it is as it was.
        """

    @abstractmethod
    def put_if_unchanged(self, name: str, data: bytes, tag: Tag) -> bool:
        """Replace an object if it still has the content that it had.

        Args:
            name: of the object.
            data: its new content.
            tag: from `get_tagged`.

        Returns:
            Whether it was replaced. False: it has another content now, or is gone.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the objects in a folder, at any depth.

        Some stores list an object late, or one that is gone. Nothing but a clean-up may rest on it.

        Args:
            prefix: the folder; empty for all.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object. It may be missing."""
