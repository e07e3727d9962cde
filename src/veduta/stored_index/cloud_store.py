"""Object stores of the network, by way of obstore."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from veduta.errors import QueryError, StoreError, VedutaError
from veduta.files import atomic_file
from veduta.stored_index.addresses import StoreAddress
from veduta.stored_index.cloud_errors import SECONDS_VARIABLE, store_error
from veduta.stored_index.store import MAX_WHOLE_BYTES, ObjectMissing, Store, Tag, Tagged

__all__ = ["CloudStore"]

_SECONDS = 60.0
"""In which a request is answered, all tries together."""
_CONNECT_SECONDS = 5.0
_MAX_TRIES_AGAIN = 6
_RANGE_BYTES = 8 * 2**20
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "AZURE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "GOOGLE_BASE_URL",
)


class CloudStore(Store):
    """A store of the network. Credentials come from the environment alone."""

    def __init__(self, address: StoreAddress) -> None:
        """Connect at the first request.

        Args:
            address: of the index.

        Raises:
            StoreError: obstore is not installed, or a variable of the environment is wrong.
            QueryError: `VEDUTA_STORE_SECONDS` is no number of seconds.
        """
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise StoreError(
                f"{address}: object stores need a package that is not installed ({error}): "
                "pip install 'veduta[cloud]'"
            ) from error
        self.url = str(address)
        self._address = address
        self._obstore = obstore
        # One try may take half of the time, and the last one begins within the other half.
        half = timedelta(seconds=_seconds() / 2)
        clear_text = any(os.environ.get(one, "").startswith("http://") for one in _ENDPOINTS)
        # Not all stores that speak the protocol of S3 remove several objects in one request.
        single = {"disable_bulk_delete": True} if address.scheme == "s3" else {}
        with self._errors("", "read"):
            self._store: Any = from_url(
                f"{address.scheme}://{address.bucket}",
                config=single,
                client_options={
                    "timeout": half,
                    "connect_timeout": min(half, timedelta(seconds=_CONNECT_SECONDS)),
                    "allow_http": clear_text,
                },
                retry_config={"max_retries": _MAX_TRIES_AGAIN, "retry_timeout": half},
            )

    def get_tagged(self, name: str, *, most_bytes: int = MAX_WHOLE_BYTES) -> Tagged:
        """Return the content of an object, and its entity tag."""
        with self._errors(name, "read"):
            found = self._obstore.get(self._store, self._path(name))
            if found.meta["size"] > most_bytes:
                raise StoreError(
                    f"{self.url}/{name} has {found.meta['size']:,} bytes instead of {most_bytes:,}."
                )
            return Tagged(bytes(found.bytes()), Tag(found.meta["e_tag"], found.meta["version"]))

    def get_file(self, name: str, path: Path) -> None:
        """Write the content of an object into a file, range by range."""
        with self._errors(name, "read"):
            meta = self._obstore.head(self._store, self._path(name))
        size = meta["size"]
        with atomic_file(path) as draft, draft.open("wb") as stream:
            for start in range(0, size, _RANGE_BYTES):
                options = {
                    "range": (start, min(size, start + _RANGE_BYTES)),
                    "if_match": meta["e_tag"],
                }
                with self._errors(name, "read"):
                    part = self._obstore.get(self._store, self._path(name), options=options).bytes()
                stream.write(part)

    def size(self, name: str) -> int | None:
        """Return the size of an object; None if there is none."""
        try:
            with self._errors(name, "read"):
                return int(self._obstore.head(self._store, self._path(name))["size"])
        except ObjectMissing:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object in one request."""
        with self._errors(name, "write"):
            self._obstore.put(self._store, self._path(name), data, use_multipart=False)

    def put_file(self, name: str, path: Path) -> None:
        """Write a file, in parts if it is large."""
        path.stat()  # obstore would name the object in its error.
        with self._errors(name, "write"):
            self._obstore.put(self._store, self._path(name), path)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write an object if there is none (`If-None-Match: *`)."""
        return self._put_if(name, data, "create")

    def put_if_unchanged(self, name: str, data: bytes, tag: Tag) -> bool:
        """Replace an object if it has the same entity tag (`If-Match`)."""
        mode = {"e_tag": tag.e_tag, "version": tag.version}
        return self._put_if(name, data, {key: value for key, value in mode.items() if value})

    def _put_if(self, name: str, data: bytes, mode: Any) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors(name, "write"):
            try:
                self._obstore.put(self._store, self._path(name), data, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the objects below a folder."""
        top = f"{self._address.path}/"
        wanted = self._path(prefix) if prefix else self._address.path
        with self._errors(prefix or "its objects", "list"):
            for found in self._obstore.list(self._store, wanted):
                for one in found:
                    if one["path"].startswith(top):
                        yield one["path"].removeprefix(top)

    def delete(self, name: str) -> None:
        """Remove an object."""
        with self._errors(name, "remove"):
            try:
                self._obstore.delete(self._store, self._path(name))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise

    def _path(self, name: str) -> str:
        return f"{self._address.path}/{name}"

    @contextmanager
    def _errors(self, name: str, action: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except VedutaError:
            raise
        # obstore also raises errors of Python, such as FileNotFoundError and ValueError.
        except (BaseError, OSError, ValueError) as error:
            raise store_error(error, self._address, name, action) from None


def _seconds() -> float:
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise QueryError(f"{SECONDS_VARIABLE}={text!r} is no number of seconds from 0 to 86400.")
    return seconds
