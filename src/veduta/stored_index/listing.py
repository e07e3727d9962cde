"""The two kinds of small objects that make an index of the pieces in a store.

- `current.json`, the pointer: which version is the current one. It is the only object that ever
  changes, in one step.
- `versions/7-….json`, a listing: the files of one version, and of which pieces each consists.
- `objects/7/…`, a piece: up to `PIECE_BYTES` of a file, named by the version that brought it and by
  the BLAKE3 hash of its content. Equal pieces of a version are stored once.

A file that only grew shares all its pieces but the last with the version before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec

from veduta._version import __version__
from veduta.errors import IndexDamaged, StoreError, readable
from veduta.files import is_path_inside
from veduta.stored_index.store import ObjectMissing, Store, Tagged
from veduta.validation import InvalidValue, convert, parse_json

__all__ = [
    "PIECE_BYTES",
    "POINTER",
    "Listing",
    "Pointer",
    "StoredFile",
    "content_of",
    "digest_of_piece",
    "encoded",
    "listing_name",
    "piece_name",
    "read_listing",
    "read_pointer",
    "version_of",
]

POINTER = "current.json"
PIECE_BYTES = 8 * 2**20
"""The size of a piece, except the last of a file. A slow line sends as much in one try."""

_FORMAT = 1
_MAX_POINTER_BYTES = 64 * 2**10
_PIECE = re.compile(r"objects/(\d{1,12})/([0-9a-f]{64})")
_LISTING = re.compile(r"versions/(\d{1,12})-[0-9a-f]{16}\.json")
_MAX_BYTES = 2**50

_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_PieceName = Annotated[str, msgspec.Meta(pattern=rf"^{_PIECE.pattern}\Z")]
_ListingName = Annotated[str, msgspec.Meta(pattern=rf"^{_LISTING.pattern}\Z")]
_Version = Annotated[int, msgspec.Meta(ge=1, lt=10**12)]


class Pointer(msgspec.Struct, frozen=True):
    """The content of `current.json`.

    Attributes:
        version: number of the current version.
        listing: name of its listing.
        digest: BLAKE3 hash of the listing.
        written_by: the version of Veduta that published it.
        format: version of the layout in the store.
    """

    version: _Version
    listing: _ListingName
    digest: _Digest
    written_by: str = __version__
    format: int = _FORMAT


class StoredFile(msgspec.Struct, frozen=True):
    """One file of an index.

    Attributes:
        size: in bytes.
        pieces: names of its pieces, in their order.
    """

    size: Annotated[int, msgspec.Meta(ge=0, le=_MAX_BYTES)]
    pieces: tuple[_PieceName, ...]


class Listing(msgspec.Struct, frozen=True):
    """The content of `versions/….json`.

    Attributes:
        version: its number.
        files: path in the folder of the index, with slashes → the file.
        piece_bytes: size of all pieces of a file but the last.
        previous: names of the listings of the versions before, the newest first, whose pieces are
            still there.
        changed: when the index was changed last, in seconds since 1970. It is shown, and decides
            nothing.
        written_by: the version of Veduta that published it.
        format: version of the layout in the store.
    """

    version: _Version
    files: dict[str, StoredFile]
    piece_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**30)] = PIECE_BYTES
    previous: tuple[_ListingName, ...] = ()
    changed: Annotated[float, msgspec.Meta(ge=0, le=1e11)] = 0.0
    written_by: str = __version__
    format: int = _FORMAT

    def ranges(self, file: StoredFile) -> Iterable[tuple[str, int, int]]:
        """Yield name, start and size of each piece of a file, in bytes."""
        for number, name in enumerate(file.pieces):
            start = number * self.piece_bytes
            yield name, start, min(self.piece_bytes, file.size - start)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files.values())

    @property
    def pieces(self) -> set[str]:
        """Names of all pieces."""
        return {name for file in self.files.values() for name in file.pieces}


class _Format(msgspec.Struct):
    """What decides whether this version of Veduta reads an object."""

    format: int
    written_by: str = ""


T = TypeVar("T", Pointer, Listing)


def piece_name(version: int, digest: str) -> str:
    """Return the name of a piece.

    Args:
        version: the version that brings it.
        digest: BLAKE3 hash of its content, 64 hexadecimal digits.
    """
    return f"objects/{version}/{digest}"


def digest_of_piece(name: str) -> str:
    """Return the hash in the name of a piece."""
    return name.rpartition("/")[2]


def listing_name(version: int, digest: str) -> str:
    """Return the name of a listing, from the hash of its content."""
    return f"versions/{version}-{digest[:16]}.json"


def version_of(name: str) -> int | None:
    """Return the version that brought a piece or a listing; None for another object."""
    match = _PIECE.fullmatch(name) or _LISTING.fullmatch(name)
    return int(match[1]) if match else None


def encoded(value: Pointer | Listing) -> bytes:
    """Return the bytes of a pointer or listing. Equal values have equal bytes."""
    return json.dumps(msgspec.to_builtins(value), sort_keys=True, indent=1).encode()


def content_of(data: bytes) -> str:
    """Return the BLAKE3 hash of bytes, 64 hexadecimal digits."""
    from blake3 import blake3

    return str(blake3(data, max_threads=blake3.AUTO).hexdigest())


def read_pointer(store: Store) -> tuple[Pointer, Tagged] | None:
    """Read which version is the current one.

    Args:
        store: with an index.

    Returns:
        The pointer, and its bytes with their tag; None if there is no index.

    Raises:
        StoreError: the store does not answer.
        IndexDamaged: the pointer does not read, or another version of Veduta wrote it.
    """
    try:
        tagged = store.get_tagged(POINTER, most_bytes=_MAX_POINTER_BYTES)
    except ObjectMissing:
        return None
    return _decoded(tagged.data, Pointer, f"{store.url}/{POINTER}"), tagged


def read_listing(store: Store, name: str, digest: str | None = None) -> Listing:
    """Read the listing of a version.

    Args:
        store: with an index.
        name: of the listing.
        digest: BLAKE3 hash that it must have; None: that of which its name holds the beginning.

    Raises:
        ObjectMissing: it is not there (any more).
        StoreError: the store does not answer, or the listing is damaged.
    """
    data = store.get(name)
    found = content_of(data)
    if found != (digest or found) or listing_name(version_of(name) or 0, found) != name:
        raise StoreError(
            f"{store.url}/{name} is damaged: its content does not match its checksum. Publish the "
            "index again from a machine that has it: veduta publish --replace"
        )
    return _decoded(data, Listing, f"{store.url}/{name}")


def _decoded(data: bytes, kind: type[T], where: str) -> T:
    """Return a pointer or listing; raises IndexDamaged if it is none that this Veduta reads."""
    try:
        values = parse_json(data)
        facts = convert(values, _Format)
        if facts.format != _FORMAT:
            raise _other_format(where, facts)
        value = convert(values, kind)
        if isinstance(value, Listing):
            _require_sound(value)
    except InvalidValue as error:
        raise IndexDamaged(
            f"{where} does not read ({error}). Publish the index again from a machine that has it: "
            "veduta publish --replace"
        ) from error
    return value


def _require_sound(listing: Listing) -> None:
    """Refuse file names that lead elsewhere, and sizes that the pieces cannot have."""
    for path, file in listing.files.items():
        if not is_path_inside(path) or "\\" in path or ":" in path or not path.isprintable():
            raise InvalidValue(f"'{readable(path)}' is no file of an index")
        if len(file.pieces) != -(-file.size // listing.piece_bytes):
            raise InvalidValue(f"'{path}' has {len(file.pieces)} pieces and {file.size} bytes")


def _other_format(where: str, facts: _Format) -> IndexDamaged:
    safe = re.fullmatch(r"[0-9A-Za-z.+!-]{1,40}", facts.written_by)
    writer, wanted = (
        (f"Veduta {facts.written_by}", f"veduta>={facts.written_by}")
        if safe
        else ("another Veduta", "veduta")
    )
    return IndexDamaged(
        f"{where} was written by {writer} in layout {facts.format}; this Veduta ({__version__}) "
        f"reads layout {_FORMAT}. Install a Veduta that reads it: pip install --upgrade '{wanted}'"
    )
