"""The address that a server listens on."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_address

from veduta.errors import VedutaError, readable

__all__ = ["is_loopback", "listen"]

_BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections.

    Args:
        host: an address of this machine, or its name.
        port: on it; 0 is any free one.

    Raises:
        VedutaError: the address is taken or not of this machine.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name != "nt":  # On Windows this option lets another process share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        taken = error.errno == errno.EADDRINUSE
        remedy = "name another with --port, or 0 for any" if taken else "name another with --host"
        raise VedutaError(
            f"cannot listen on {host}, port {port}: {readable(error.strerror or str(error))}; "
            f"{remedy}"
        ) from error
    return listener
