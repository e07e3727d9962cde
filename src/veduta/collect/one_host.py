"""A password goes to one host only: a list with URLs of several hosts is refused."""

from __future__ import annotations

from veduta.collect.http_client import host_of
from veduta.collect.request_headers import has_secret, parse_headers
from veduta.collect.settings import Settings
from veduta.errors import DatasetError
from veduta.text import printable

__all__ = ["OneHost"]


class OneHost:
    """Sees the URLs of a list, and refuses a second host if the headers carry a password."""

    def __init__(self, settings: Settings) -> None:
        self._wanted = has_secret(parse_headers(settings.headers))
        self._host: str | None = None

    def add(self, url: str) -> None:
        """Note a URL.

        Args:
            url: as the source has it.

        Raises:
            DatasetError: its host is not that of the URLs before it.
        """
        if not self._wanted:
            return
        host = host_of(url)
        if self._host is None:
            self._host = host
        elif host != self._host:
            raise DatasetError(
                f"the list has URLs of {printable(self._host)!r} and of {printable(host)!r}, and "
                "an Authorization or Cookie header would go to both; collect each host by itself"
            )
