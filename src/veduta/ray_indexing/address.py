"""Which Ray cluster is asked: the address that a user names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from veduta.errors import QueryError

__all__ = ["RayAddress"]

AUTO = "auto"
LOCAL = "local"

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class RayAddress:
    """The address of a Ray cluster.

    Attributes:
        text: `"auto"` for the cluster that this machine belongs to, `"local"` for one that Veduta
            starts on this machine alone and ends, or `host:port` of the head of a cluster.
        host: of the head; None for `"auto"` and `"local"`.
        port: of the head; None for `"auto"` and `"local"`.
    """

    text: str
    host: str | None = None
    port: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether Veduta starts the cluster itself."""
        return self.text == LOCAL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that a text names.

        Args:
            text: `auto`, `local`, or `host:port`.

        Raises:
            QueryError: it is none of these.
        """
        if text in (AUTO, LOCAL):
            return cls(text)
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise QueryError(
                f"'{text}' is no address of a Ray cluster. Write auto for the cluster that this "
                "machine belongs to, local for this machine alone, or host:port of the head, such "
                "as 10.0.0.1:6379."
            )
        return cls(text, match["host"].strip("[]"), int(match["port"]))
