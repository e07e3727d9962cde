"""Connections to public network addresses only, because the URLs come from strangers.

The address is checked when the socket is made. So the checked address is the one that is connected
to, whatever led there: a name, a number in an unusual spelling, a redirect, or a name server that
gives a different answer the second time.
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

# IANA's special-purpose registries. They are written out because the meaning of `is_private` in
# `ipaddress` changed between versions of Python.
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
_6TO4 = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class PrivateAddress(OSError):
    """A connection that was refused because its address is not public.

    Attributes:
        address: the address.
    """

    def __init__(self, address: str) -> None:
        super().__init__("an address that is not public")
        self.address = address


def is_public(address: str) -> bool:
    """Return whether an address belongs to a single host of the public Internet.

    Private, loopback, link-local, carrier-grade NAT, multicast, unspecified, reserved and
    documentation addresses do not. Neither does an IPv6 address that stands for such an IPv4
    address (mapped, 6to4, NAT64).

    Args:
        address: an IPv4 or IPv6 address.

    Raises:
        ValueError: the text is not an address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        embedded = _embedded_v4(parsed)
        if embedded is None:
            return parsed in _GLOBAL_V6 and not any(parsed in block for block in _SPECIAL_V6)
        parsed = embedded
    return not any(parsed in block for block in _SPECIAL_V4)


def _embedded_v4(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _6TO4:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def public_socket(
    accepts: Callable[[str], bool] = is_public,
) -> Callable[[AddressInfo], socket.socket]:
    """Return a socket factory for aiohttp that raises `PrivateAddress`.

    Args:
        accepts: returns whether an address may be connected to.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = str(target[0])
        if not accepts(address):
            raise PrivateAddress(address)
        return socket.socket(family, kind, protocol)

    return make
