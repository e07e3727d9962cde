"""Which network addresses a stranger's URL may lead to: public ones.

The check stands where the socket is made. Whatever led there (a name, a number in whatever
spelling, a redirect, a name server that answers differently the second time), the address that is
checked is the one that is connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any

__all__ = ["PrivateAddress", "is_public", "public_socket"]

# IANA's special-purpose registries. Spelled out: what `ipaddress` calls private changed between
# versions of Python.
_SPECIAL_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class PrivateAddress(OSError):
    """A connection that was refused here. `address` says to where."""

    def __init__(self, address: str) -> None:
        super().__init__("an address that is not public")
        self.address = address


def is_public(address: str) -> bool:
    """Tell whether an IPv4 or IPv6 address is of the public Internet, one host's.

    Private, loopback, link-local, carrier-grade NAT, multicast, unspecified, reserved and
    documentation addresses are not; nor is an IPv6 address that stands for such an IPv4 address
    (mapped, 6to4, NAT64). Raises ValueError for anything that is no address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        inner = _inner_v4(parsed)
        if inner is None:
            return parsed in _GLOBAL_V6 and not any(parsed in block for block in _SPECIAL_V6)
        parsed = inner
    return not any(parsed in block for block in _SPECIAL_V4)


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def public_socket(
    accepts: Callable[[str], bool] = is_public,
) -> Callable[[AddressInfo], socket.socket]:
    """Return a factory of sockets, as aiohttp wants it, that raises `PrivateAddress`."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        if not accepts(str(where[0])):
            raise PrivateAddress(str(where[0]))
        return socket.socket(family, kind, protocol)

    return make
