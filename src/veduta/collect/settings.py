"""How to collect: every number that a run goes by."""

from __future__ import annotations

from dataclasses import dataclass

from veduta._version import __version__

__all__ = ["USER_AGENT", "Settings"]

USER_AGENT = f"veduta/{__version__} (photo collector)"
"""Who collects, when the user does not say. Some sites want an address to write to as well."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to collect. Times in seconds. Raises ValueError for a number out of its range."""

    connections: int = 64
    """Requests at a time, over all hosts."""
    per_host: int = 6
    """Requests at a time to one host; six is what browsers allow themselves."""
    connect_timeout: float = 10.0
    """For a connection to stand, each address of a host by itself."""
    read_timeout: float = 20.0
    """Between two pieces of an answer."""
    total_timeout: float = 120.0
    """For one request from its beginning to its last byte."""
    retries: int = 3
    """Further requests after one that failed for a passing reason."""
    first_wait: float = 1.0
    """Before the second request; it doubles each time."""
    longest_wait: float = 60.0
    """Between two requests, whatever Retry-After says."""
    max_bytes: int = 64 * 2**20
    """Of one photo, before and after decompression."""
    user_agent: str = USER_AGENT
    allow_private: bool = False
    """Fetch from addresses that are not public, too."""
    ignore_robots_tag: bool = False
    """Collect what an X-Robots-Tag asks not to."""
    decode: bool = True
    """Decode each photo before it counts. Its format is looked at in any case."""
    resize: int | None = None
    """Long side in pixels that photos are scaled down to; implies `jpeg`."""
    jpeg: bool = False
    """Write every photo as an RGB JPEG of quality 90; else the bytes as they came."""
    retry_failed: bool = False
    """Try rows again that failed for good."""

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
        if self.re_encode and not self.decode:
            raise ValueError("resize and jpeg need decoded photos; leave out decode=False")
        if any(sign in self.user_agent for sign in "\r\n\0"):
            raise ValueError("user_agent must be one line")

    @property
    def re_encode(self) -> bool:
        """Whether files are written anew."""
        return self.jpeg or self.resize is not None
