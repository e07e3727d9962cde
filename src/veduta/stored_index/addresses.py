"""Addresses of indexes in object stores, such as `s3://bucket/path`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeGuard
from urllib.parse import quote, unquote, urlsplit

from veduta.errors import QueryError
from veduta.files import is_path_inside

__all__ = ["SCHEMES", "StoreAddress", "is_store_url"]

SCHEMES = ("s3", "gs", "az", "file")
"""S3 and what speaks its protocol, Google Cloud Storage, Azure, a folder on a shared disk."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_NOT_IN_A_PATH = re.compile(r"""[\x00-\x1f\x7f\\?#%*"<>|^`{}\[\]~]""")
_FORM = "Write it like s3://bucket/path."


def is_store_url(text: object) -> TypeGuard[str]:
    """Tell whether an argument that names an index is the address of an object store.

    Args:
        text: any argument. A `Path` is never an address.
    """
    scheme, colon, _ = text.partition("://") if isinstance(text, str) else ("", "", "")
    return bool(colon) and scheme.lower() in SCHEMES


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where an index lies.

    Attributes:
        scheme: one of `SCHEMES`.
        bucket: of the store; empty for a folder.
        path: in the bucket, without slashes at its ends; of a folder the absolute path.
    """

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return Path(self.path).as_uri()
        return f"{self.scheme}://{self.bucket}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return re.split(r"[/\\]", self.path)[-1]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address that a text names.

        Args:
            url: such as `s3://bucket/path`.

        Raises:
            QueryError: it is no address of a store, or holds a password, which does not belong
                there. The message does not repeat it then.
        """
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            raise QueryError(f"'{url}' is no address of an object store. {_FORM}")
        if "@" in rest.partition("/")[0]:
            raise QueryError(
                "The address of an object store holds no user and no password. They come from the "
                f"environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. {_FORM}"
            )
        if scheme == "file":
            return cls(scheme, "", _folder_of(url))
        bucket, _, path = rest.partition("/")
        path = path.rstrip("/")
        if not _BUCKET.fullmatch(bucket) or not path:
            raise QueryError(f"'{url}' names no bucket and path in it. {_FORM}")
        if _NOT_IN_A_PATH.search(path) or not path.isprintable() or not is_path_inside(path):
            raise QueryError(
                f"'{url}': the path in a bucket has no empty parts, no '.' or '..', and none of "
                f'the characters \\ ? # % * " < > | ^ ` {{ }} [ ] ~. {_FORM}'
            )
        return cls(scheme, bucket, path)


def _folder_of(url: str) -> str:
    """Return the folder of a `file://` address; raises QueryError if it names none."""
    parts = urlsplit(quote(url, safe="/:%"))
    path = unquote(parts.path)
    if os.name == "nt" and re.match(r"/[A-Za-z]:", path):
        path = path[1:]
    if parts.netloc not in ("", "localhost") or not os.path.isabs(path) or "\0" in path:
        raise QueryError(f"'{url}' names no folder. Write it like file:///mnt/shared/places.")
    return os.path.normpath(path)
