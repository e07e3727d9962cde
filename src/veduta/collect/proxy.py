"""Requests through a proxy, which makes the connections and looks up the names.

So the address of a connection cannot be checked when its socket is made. Instead the name of each
host is looked up here before each request, and all of its addresses must be public. The proxy looks
it up again, so a name server that gives it another answer can lead it elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from yarl import URL

from veduta.collect.public_addresses import PrivateAddress, is_public

__all__ = ["HostGuard", "parse_proxy"]


def parse_proxy(text: str) -> URL:
    """Parse the address of a proxy.

    Args:
        text: "http://host:port", with "user:password@" before the host if the proxy wants it.

    Raises:
        ValueError: the address has another form. The message does not repeat it, because it may
            hold a password.
    """
    try:
        proxy = URL(text)
        valid = proxy.scheme in ("http", "https") and bool(proxy.host) and proxy.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("the proxy must be like http://host:port")
    return proxy


class HostGuard:
    """Refuses hosts that have an address which is not public."""

    def __init__(self, accepts: Callable[[str], bool] = is_public) -> None:
        """Make a guard.

        Args:
            accepts: returns whether an address may be connected to.
        """
        self._accepts = accepts
        # The latest verdict of each host: the first address that is refused, or None.
        self._refused: dict[str, str | None] = {}

    async def check(self, url: URL) -> None:
        """Look up the host of a URL.

        Args:
            url: the URL.

        Raises:
            PrivateAddress: the host has an address that is not public.
            OSError: nobody knows the host.
        """
        host = url.host or ""
        if host not in self._refused:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, url.port, type=socket.SOCK_STREAM
            )
            addresses = [str(address[0]) for *_, address in found]
            refused = [address for address in addresses if not self._accepts(address)]
            self._refused[host] = refused[0] if refused else None
        if address := self._refused[host]:
            raise PrivateAddress(address)
