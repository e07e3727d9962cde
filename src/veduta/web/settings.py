"""What a service is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veduta.web.open_review import ReviewRequest

__all__ = [
    "MAX_UPLOAD_BYTES",
    "MAX_UPLOAD_PIXELS",
    "QUEUED_REQUESTS",
    "REFRESH_SECONDS",
    "ServeSettings",
]

MAX_UPLOAD_BYTES = 32 * 2**20
"""The default cap on the size of an uploaded photo."""

MAX_UPLOAD_PIXELS = 100_000_000
"""The default cap on width × height of an uploaded photo."""

QUEUED_REQUESTS = 64
"""How many requests may wait or be at work in one process, before others are told to come again."""


REFRESH_SECONDS = 60.0
"""So often a service looks for a newer version of an index in an object store."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The settings of a service. Each of its processes gets a copy.

    Attributes:
        indexes: name → folder of the index, or its address in an object store; the first is the
            default.
        host: the address that is listened on.
        port: on it; 0 is any free one.
        root_path: under which a proxy shows the service, such as "/photos"; empty for none.
        read_only: refuse everything that changes an index.
        key_file: of the keys that are valid; None: no key is needed.
        originals: whether the files of photos may be fetched.
        host_names: names that clients may use for this service, besides addresses and "localhost".
        proxies: addresses of proxies whose X-Forwarded headers are believed.
        metrics: whether `/metrics` answers.
        workers: number of processes.
        max_upload_bytes: cap on an uploaded photo.
        max_upload_pixels: cap on its width × height.
        queued_requests: see `QUEUED_REQUESTS`.
        refresh: seconds between two looks for a newer version in an object store.
        review: a review in the same frame, or None. Only one process can serve it.
    """

    indexes: dict[str, Path | str]
    host: str = "127.0.0.1"
    port: int = 0
    root_path: str = ""
    read_only: bool = False
    key_file: Path | None = None
    originals: bool = True
    host_names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    metrics: bool = False
    workers: int = 1
    max_upload_bytes: int = MAX_UPLOAD_BYTES
    max_upload_pixels: int = MAX_UPLOAD_PIXELS
    queued_requests: int = QUEUED_REQUESTS
    refresh: float = REFRESH_SECONDS
    review: ReviewRequest | None = None
