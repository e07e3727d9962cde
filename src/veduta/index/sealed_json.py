"""Small JSON files of an index that hold what a person decided, each with a checksum of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from veduta.errors import IndexDamaged, readable
from veduta.files import write_bytes
from veduta.index.storage_errors import index_errors
from veduta.photos import content_hash
from veduta.validation import InvalidValue, read_json

__all__ = ["read_sealed", "write_sealed"]


class _Sealed(Protocol):
    digest: str


S = TypeVar("S", bound=_Sealed)


def read_sealed(
    file: Path, kind: type[S], entries: Callable[[S], Sequence[object]], remedy: str
) -> S | None:
    """Read a file.

    Args:
        file: in the folder of the index.
        kind: of its content.
        entries: returns what its checksum is of.
        remedy: what the file holds and what can be done about damage, in sentences without the last
            full stop.

    Returns:
        Its content; None if there is no such file.

    Raises:
        IndexDamaged: it does not read back as it was written.
        StorageError: the disk does not read.
    """
    if not file.exists():
        return None
    reason = "its content does not match its checksum"
    with index_errors(file.parent, "read"):
        try:
            content = read_json(file, kind)
        except InvalidValue as error:
            reason = str(error)
        else:
            if content.digest == _digest(entries(content)):
                return content
    raise IndexDamaged(f"{readable(file)} is damaged: {reason}. {remedy}")


def write_sealed(file: Path, name: str, value: object, entries: Sequence[object]) -> None:
    """Write a file. The caller holds the writer's lock.

    Args:
        file: in the folder of the index.
        name: of the field.
        value: of the field.
        entries: what the checksum is of.

    Raises:
        StorageError: the disk does not accept it.
    """
    # Names that are not UTF-8 hold surrogates, which JSON takes only as escapes.
    text = _as_json({name: value, "digest": _digest(entries)})
    with index_errors(file.parent, "write"):
        write_bytes(file, text, durable=True)


def _as_json(value: object) -> bytes:
    return json.dumps(value).encode("ascii")


def _digest(entries: Sequence[object]) -> str:
    return content_hash(_as_json(sorted(entries))).hex()  # type: ignore[type-var]
