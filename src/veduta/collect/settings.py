"""The settings of a download."""

from __future__ import annotations

from dataclasses import dataclass

from veduta._version import __version__
from veduta.collect.politeness import (
    FIRST_WAIT_SECONDS,
    MAX_REQUESTS_PER_HOST,
    MAX_RETRIES,
    MAX_WAIT_SECONDS,
)
from veduta.collect.proxy import parse_proxy
from veduta.collect.request_headers import parse_headers

__all__ = ["USER_AGENT", "Settings"]

USER_AGENT = f"veduta/{__version__} (photo collector)"
"""How Veduta introduces itself to servers. Some of them also want a contact address."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a download. Times are in seconds.

    Attributes:
        connections: requests at the same time, over all hosts.
        per_host: requests at the same time to one host.
        connect_timeout: longest time to connect, for each address of a host.
        read_timeout: longest time between two pieces of a response.
        total_timeout: longest time of one request, from its start to its last byte.
        retries: further requests after one that failed for a temporary reason.
        first_wait: wait before the second request. It doubles before each further one.
        longest_wait: longest wait between two requests, even if Retry-After asks for more.
        max_bytes: largest size of a photo, before and after decompression.
        user_agent: how the downloader introduces itself to servers.
        referer: the page that the photos are said to be linked from.
        headers: more headers, each "Name: value". After a redirect to another host they are left
            out.
        proxy: "http://host:port" of a proxy that makes the connections. Proxies of the environment
            are not used.
        allow_private: fetch also from addresses that are not public.
        ignore_robots_tag: collect also photos that an X-Robots-Tag asks not to collect.
        min_size: the least short side of a photo in pixels, before it is scaled down.
        decode: decode each photo to check it. Without, only its format is checked.
        resize: long side in pixels to which larger photos are scaled down; implies `jpeg`.
        jpeg: write each photo as RGB JPEG of quality 90. Without, the bytes stay as they came.
        retry_failed: try also the rows again that failed permanently.

    Raises:
        ValueError: a number is out of its range, or two settings contradict each other.
    """

    connections: int = 64
    per_host: int = MAX_REQUESTS_PER_HOST
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    total_timeout: float = 120.0
    retries: int = MAX_RETRIES
    first_wait: float = FIRST_WAIT_SECONDS
    longest_wait: float = MAX_WAIT_SECONDS
    max_bytes: int = 64 * 2**20
    user_agent: str = USER_AGENT
    referer: str | None = None
    headers: tuple[str, ...] = ()
    proxy: str | None = None
    allow_private: bool = False
    ignore_robots_tag: bool = False
    min_size: int | None = None
    decode: bool = True
    resize: int | None = None
    jpeg: bool = False
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name in ("connections", "per_host", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.retries < 0:
            raise ValueError(f"retries must be 0 or more, not {self.retries}")
        if self.resize is not None and self.resize < 1:
            raise ValueError(f"resize must be at least 1 pixel, not {self.resize}")
        if self.min_size is not None and self.min_size < 1:
            raise ValueError(f"min_size must be at least 1 pixel, not {self.min_size}")
        if (self.re_encode or self.min_size) and not self.decode:
            raise ValueError("resize, jpeg and min_size need decoded photos, so decode=True")
        for name in ("user_agent", "referer"):
            if not (getattr(self, name) or "").isprintable():
                raise ValueError(f"{name} must be one line of text")
        parse_headers(self.headers)
        if self.proxy is not None:
            parse_proxy(self.proxy)

    @property
    def re_encode(self) -> bool:
        """Whether each photo is encoded again."""
        return self.jpeg or self.resize is not None
