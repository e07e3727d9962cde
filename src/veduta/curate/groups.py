"""Groups of photos that pairs join: the connected components of a graph."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["connected_groups"]


def connected_groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the smallest position of the group of each of `count` photos.

    Two photos are in one group when a chain of pairs leads from one to the other.

    Args:
        count: number of photos.
        pairs: positions of two photos each.

    Returns:
        `count` positions. A photo in no pair has its own.
    """
    parent = list(range(count))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for first, second in pairs:
        a, b = root(first), root(second)
        parent[max(a, b)] = min(a, b)
    return [root(position) for position in range(count)]
