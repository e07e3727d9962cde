"""Which photos hold together, by links between pairs of them.

A link that is the only one between two parts is a bridge (R. E. Tarjan, A note on finding the
bridges of a graph, Information Processing Letters, 1974). One wrong link would be such a bridge, so
a bridge joins no two parts of two photos or more. Within a part every two photos are connected in
two ways, which is edge connectivity 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["parts_of_graph"]


def parts_of_graph(pairs: NDArray[np.int64], strengths: NDArray[np.int64]) -> list[list[int]]:
    """Return the parts of a graph that hold together.

    Bridges are removed, except those to a photo without another link. A photo that has lost all its
    links so keeps the strongest of those to a part. Two such photos stay together if neither has a
    link to a part, and each is the other's strongest. So no chain of such photos joins two parts.

    Args:
        pairs: (l, 2) numbers of two photos, each pair once, sorted.
        strengths: (l,) of the links. Of equal ones the first counts.

    Returns:
        The numbers of each part, ascending; parts of two photos or more, by their first number.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_edges_from(pairs.tolist())
    # An end without another link is a part of one photo, which may be joined.
    removed = {
        (min(a, b), max(a, b))
        for a, b in nx.bridges(graph)
        if min(graph.degree[a], graph.degree[b]) > 1
    }
    graph.remove_edges_from(removed)
    alone = {photo for photo, links in graph.degree if not links}
    to_part: dict[int, int] = {}
    to_alone: dict[int, int] = {}
    for position in np.argsort(-strengths, kind="stable").tolist():
        a, b = pairs[position].tolist()
        for photo, other in ((a, b), (b, a)):
            if photo in alone:
                (to_alone if other in alone else to_part).setdefault(photo, other)
    graph.add_edges_from(to_part.items())
    graph.add_edges_from(
        (photo, other)
        for photo, other in to_alone.items()
        if to_alone[other] == photo and not {photo, other} & to_part.keys()
    )
    return sorted(sorted(part) for part in nx.connected_components(graph) if len(part) > 1)
