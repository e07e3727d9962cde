"""The keys of a service: who may search, edit or administrate.

A key is shown once, when it is made. The file holds only a hash of it. A key has 256 random bits,
so nobody can guess it from its hash, and a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec
from filelock import FileLock

from veduta.errors import CannotWrite, QueryError, VedutaError, readable
from veduta.files import write_bytes
from veduta.text import veduta_command
from veduta.validation import InvalidValue, read_json

__all__ = ["SCOPES", "KeyFile", "KnownKey", "Scope", "allows", "default_key_file"]

Scope = Literal["search", "edit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a key allows. Each scope allows what those before it allow."""

_PREFIX = "veduta"
_ID_BYTES = 4
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What the file holds of a key.

    Attributes:
        id: in the key itself, to find it and to name it.
        scope: what it allows.
        sha256: of the whole key, in hexadecimal.
        created: when, as ISO text.
    """

    id: str
    scope: Scope
    sha256: str
    created: str


class _Stored(msgspec.Struct):
    keys: list[KnownKey]


def default_key_file() -> Path:
    """Return the file of the keys of this user: `$VEDUTA_KEYS`, or in the user's data folder."""
    if named := os.environ.get("VEDUTA_KEYS"):
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("veduta", appauthor=False) / "keys.json"


def allows(scope: Scope, needed: Scope) -> bool:
    """Return whether a scope allows what another one is needed for."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


class KeyFile:
    """The keys in one file. A server sees at once what another process changes in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stamp: tuple[int, int] | None = None
        self._known: list[KnownKey] = []

    def known(self) -> list[KnownKey]:
        """Return all keys, the oldest first. A missing file has none.

        Raises:
            VedutaError: the file does not read.
        """
        try:
            status = self.file.stat()
            stamp = status.st_mtime_ns, status.st_ino
            if stamp != self._stamp:
                self._known = read_json(self.file, _Stored).keys
                self._stamp = stamp
        except FileNotFoundError:
            return []
        except (OSError, InvalidValue) as error:
            raise VedutaError(
                f"{readable(self.file)}: the keys cannot be read ({error}). Mend the file, or "
                "remove it and make new keys."
            ) from error
        return self._known

    def create(self, scope: Scope) -> str:
        """Make a key and return it. It is not stored, so it cannot be shown again.

        Args:
            scope: what it allows.

        Raises:
            CannotWrite: the file cannot be written.
            VedutaError: the file does not read.
        """
        name = secrets.token_hex(_ID_BYTES)
        key = f"{_PREFIX}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._change(lambda keys: [*keys, KnownKey(name, scope, _digest(key), now)])
        return key

    def revoke(self, key_id: str) -> KnownKey:
        """Remove a key. A running server refuses it from then on.

        Args:
            key_id: `KnownKey.id`.

        Raises:
            QueryError: there is no such key.
            CannotWrite: the file cannot be written.
        """
        found = next((key for key in self.known() if key.id == key_id), None)
        if found is None:
            listed = veduta_command("keys", "list", "--keys", self.file)
            raise QueryError(f"There is no key {key_id!r}. List the keys with: {listed}")
        self._change(lambda keys: [key for key in keys if key.id != key_id])
        return found

    def scope_of(self, key: str) -> Scope | None:
        """Return what a key allows; None if it is not valid.

        The time that this takes does not depend on how much of the key is right.

        Args:
            key: as a client sent it.
        """
        found: Scope | None = None
        digest = _digest(key)
        for known in self.known():
            if secrets.compare_digest(known.sha256, digest):
                found = known.scope
        return found

    def _change(self, change: Callable[[list[KnownKey]], list[KnownKey]]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.file}.lock"):
                stored = _Stored(change(self.known()))
                write_bytes(self.file, msgspec.json.encode(stored), durable=True)
                self.file.chmod(0o600)
        except OSError as error:
            raise CannotWrite(self.file, error) from error


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
