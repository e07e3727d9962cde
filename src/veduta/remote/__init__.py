"""Indexes that a service holds (`veduta serve`), with the Python surface of local ones."""

from veduta.remote.remote_index import RemoteIndex, open  # noqa: A004

__all__ = ["RemoteIndex", "open"]
