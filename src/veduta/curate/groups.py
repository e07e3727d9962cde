"""Groups of photos that belong together, from pairs of photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

__all__ = ["connected_groups", "copy_groups"]

# From this score on, a pair is certain, and alone joins two groups of copies.
_CERTAIN_SCORE = 0.97


class _ScoredPair(Protocol):
    @property
    def first(self) -> int: ...
    @property
    def second(self) -> int: ...
    @property
    def score(self) -> float: ...


def connected_groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the group of each photo, which is the smallest position in it.

    Two photos are in one group when a chain of pairs connects them.

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


def copy_groups(pairs: Iterable[_ScoredPair], count: int) -> list[tuple[int, ...]]:
    """Return the groups of photos that are copies of each other.

    Two groups with two photos or more each become one only by two pairs between them, or by one
    that is certain. So one wrong pair does not join many photos. A photo is in the group of its
    best pair.

    Args:
        pairs: as `find_copies` returns them.
        count: number of photos.

    Returns:
        Rising positions of the photos of each group, sorted by the first.
    """
    group_of = list(range(count))
    members = {position: [position] for position in range(count)}
    pairs_between: dict[tuple[int, int], int] = defaultdict(int)
    for pair in sorted(pairs, key=lambda pair: (-pair.score, pair.first, pair.second)):
        a, b = sorted((group_of[pair.first], group_of[pair.second]))
        if a == b:
            continue
        pairs_between[a, b] += 1
        single = min(len(members[a]), len(members[b])) == 1
        certain = pair.score >= _CERTAIN_SCORE or pairs_between[a, b] > 1
        if not (single or certain):
            continue
        for position in members[b]:
            group_of[position] = a
        members[a] += members.pop(b)
        for one, other in [key for key in pairs_between if b in key]:
            neighbour = one if other == b else other
            if neighbour != a:
                key = min(a, neighbour), max(a, neighbour)
                pairs_between[key] += pairs_between[one, other]
            del pairs_between[one, other]
    return sorted(tuple(sorted(group)) for group in members.values() if len(group) > 1)
