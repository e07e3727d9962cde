"""Shards: a collection that several machines index, each its own part of the photos.

No shard knows of the others. A file belongs to a shard by a hash of its path, relative to the
outermost folder that is indexed. So each machine makes the same choice, also where the folder is
mounted at another place, and a file keeps its shard when others come and go.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from veduta.errors import CollectionError, QueryError, readable
from veduta.photos import content_hash
from veduta.text import veduta_command

__all__ = [
    "MAX_SHARDS",
    "SHARD_FEATURE",
    "RelativePaths",
    "Shard",
    "ShardedFolders",
    "require_same_shard",
    "shard_number",
]

MAX_SHARDS = 100_000

SHARD_FEATURE = "shard"
"""Name of the feature in `Manifest.needs`. Without it, an update would add all photos."""

_Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_SHARDS)]


def shard_number(relative: bytes, count: int) -> int:
    """Return the number of the shard that a file belongs to, from 1.

    Args:
        relative: its path in the indexed folder, with slashes.
        count: number of shards.
    """
    return int.from_bytes(content_hash(relative), "big") % count + 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a collection.

    Attributes:
        number: of this part, from 1 to `count`.
        count: number of parts.
    """

    number: _Number
    count: _Number

    def __post_init__(self) -> None:
        if self.number > self.count:
            raise ValueError(f"there is no shard {self.number} of {self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def of(cls, number: Any, count: Any) -> Self:
        """Return the shard with a number.

        Args:
            number: from 1 to `count`.
            count: number of shards, at most `MAX_SHARDS`.

        Raises:
            QueryError: there is no such shard.
        """
        whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (number, count))
        if not whole or not 1 <= number <= count <= MAX_SHARDS:
            raise QueryError(
                f"There is no shard {number!r} of {count!r}. Shards are numbered from 1 to their "
                f"count, such as 3/16, and there are at most {MAX_SHARDS:,}."
            )
        return cls(number, count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that a text such as `3/16` names.

        Args:
            text: number and count, with a slash between them.

        Raises:
            QueryError: the text names no shard.
        """
        number, slash, count = text.partition("/")
        # A number of thousands of digits is no int for Python.
        if not slash or not all(
            one.isascii() and one.isdecimal() and len(one) < 9 for one in (number, count)
        ):
            raise QueryError(f"'{text}' names no shard. Write its number and their count: 3/16.")
        return cls.of(int(number), int(count))

    def holds(self, relative: bytes) -> bool:
        """Tell whether a file belongs to this shard.

        Args:
            relative: its path in the indexed folder, with slashes.
        """
        return shard_number(relative, self.count) == self.number


class RelativePaths:
    """The paths of files in the outermost of some folders, by which shards are chosen."""

    def __init__(self, folders: Sequence[str]) -> None:
        """Prepare for the folders of an index.

        Args:
            folders: absolute paths.
        """
        # The outermost folder comes first.
        self._prefixes = [os.path.join(os.fsencode(one), b"") for one in sorted(folders, key=len)]

    def of(self, path: bytes) -> bytes:
        """Return the path of a file in its folder, with slashes.

        Args:
            path: absolute. Only the name of a file counts if it lies in none of the folders.
        """
        for prefix in self._prefixes:
            if path.startswith(prefix):
                return path[len(prefix) :].replace(os.fsencode(os.sep), b"/")
        return os.path.basename(path)


class ShardedFolders:
    """Tells which files of some folders belong to a shard."""

    def __init__(self, shard: Shard, folders: Sequence[str]) -> None:
        """Prepare for the folders of an index.

        Args:
            shard: the shard.
            folders: absolute paths.
        """
        self._shard = shard
        self._paths = RelativePaths(folders)

    def holds(self, path: bytes) -> bool:
        """Tell whether a file belongs to the shard.

        Args:
            path: absolute. The name of a file counts if it lies in none of the folders.
        """
        return self._shard.holds(self._paths.of(path))


def require_same_shard(known: Shard | None, wanted: Shard, index: Path, *, is_new: bool) -> None:
    """Refuse to make another shard of an index.

    Args:
        known: the shard that the index is; None if it is none.
        wanted: the shard that is asked for.
        index: the folder of the index, for the message.
        is_new: whether nothing was indexed into it yet.

    Raises:
        CollectionError: the index is another shard, or holds photos of no shard.
    """
    if known == wanted or (known is None and is_new):
        return
    other = index.with_name(f"{index.name}-{wanted.number}") if index.name else index / "part"
    again = veduta_command("index", "FOLDER", "--shard", str(wanted), "--index", other)
    if known is None:
        raise CollectionError(
            f"{readable(index)} is no shard: it holds photos of whole folders. Index shard "
            f"{wanted} into another folder: {again}"
        )
    raise CollectionError(
        f"{readable(index)} is shard {known}. Leave out --shard to update it, or index shard "
        f"{wanted} into another folder: {again}"
    )
