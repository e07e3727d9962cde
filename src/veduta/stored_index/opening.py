"""Open the store at an address."""

from __future__ import annotations

from veduta.stored_index.addresses import StoreAddress
from veduta.stored_index.cloud_store import CloudStore
from veduta.stored_index.folder_store import FolderStore
from veduta.stored_index.store import Store

__all__ = ["open_store"]


def open_store(url: str) -> Store:
    """Return the store at an address. Nothing is asked of it yet.

    Args:
        url: `s3://bucket/path`, `gs://bucket/path`, `az://container/path` or `file:///folder`. The
            names of objects are relative to it. Credentials come from the environment.

    Raises:
        QueryError: it is no such address.
        StoreError: `veduta[cloud]` is not installed, or a setting in the environment is wrong.
    """
    address = StoreAddress.parse(url)
    return FolderStore(address) if address.scheme == "file" else CloudStore(address)
