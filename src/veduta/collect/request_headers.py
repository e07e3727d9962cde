"""The headers that a user adds to requests, and to which hosts they go.

They may be a password. So after a redirect to another host they are left out, and headers that only
carry passwords are refused if the list names several hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from yarl import URL

__all__ = ["has_secret", "may_follow", "parse_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_SECRET = frozenset({"authorization", "cookie"})
# These belong to the connection, or Veduta sets them itself.
_NOT_TO_SET = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OPTION_OF = {"referer": "--referer", "user-agent": "--user-agent"}


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Parse headers as a user writes them.

    Args:
        lines: each "Name: value".

    Returns:
        Name → value.

    Raises:
        ValueError: a line has another form or a line break in it, names a header that belongs to
            the connection, or names one twice.
    """
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            # The value may be a password, so it is not repeated.
            raise ValueError(f"the header {name!r} is not of the form 'Name: value', in one line")
        if name.lower() in _OPTION_OF:
            raise ValueError(f"the header {name} is set with {_OPTION_OF[name.lower()]}")
        if name.lower() in _NOT_TO_SET:
            raise ValueError(f"the header {name} is not yours to set")
        if name.lower() in map(str.lower, headers):
            raise ValueError(f"the header {name} is given twice")
        headers[name] = value
    return headers


def has_secret(headers: Mapping[str, str]) -> bool:
    """Return whether a header carries a password or a session.

    Args:
        headers: name → value.
    """
    return not _SECRET.isdisjoint(map(str.lower, headers))


def may_follow(start: URL, target: URL) -> bool:
    """Return whether the headers of a user go to the target of a redirect.

    They do on the same host and port, also from http to https, but not back.

    Args:
        start: the URL of the row.
        target: where it was redirected.
    """
    if start.origin() == target.origin():
        return True
    upgraded = start.scheme == "http" and target.scheme == "https"
    standard_ports = start.is_default_port() and target.is_default_port()
    return start.host == target.host and upgraded and standard_ports
