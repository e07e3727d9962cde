"""How near each photo of the collection is to the best hit, through photos that show the same.

Diffusion on the neighbour graph (Zhou et al., Ranking on data manifolds, NIPS 2003; Donoser and
Bischof, CVPR 2013) from one photo: the best hit. More seeds would rank by more evidence, but each
wrong one pulls its own neighbourhood up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veduta.index.graph import Graph

DAMPING = 0.9
_LARGEST = 4096  # photos; what is farther from the seed gets nothing worth the time
_TOLERANCE = 1e-4  # of the residual, relative
_MOST_STEPS = 100


def nearness(
    graph: Graph, seed: int, *, without: Sequence[int] = ()
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the photos that the seed reaches and their nearness to it, the nearest's being 1.

    Solves (I - 0.9 W) f = e for the normalised weights W, on the links around the seed.

    Args:
        graph: of the collection.
        seed: the row to start from.
        without: rows that are taken as not being there: the query's own.

    Returns:
        rows (m,) in ascending order, with the seed, and nearness (m,) in (0, 1].
    """
    rows = _around(graph, seed, without)
    here, there, weights = _links(graph, rows)
    start = (rows == seed).astype(np.float64)

    def step(values: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.bincount(here, weights * values[there], minlength=len(rows))
        result: NDArray[np.float64] = values - DAMPING * spread
        return result

    # Conjugate gradients: the matrix is symmetric and its eigenvalues lie in (0.1, 1.9).
    found = np.zeros(len(rows))
    residual = start.copy()
    direction = residual.copy()
    power = residual @ residual
    for _ in range(_MOST_STEPS):
        moved = step(direction)
        length = power / (direction @ moved)
        found += length * direction
        residual -= length * moved
        after = residual @ residual
        if after < _TOLERANCE**2:
            break
        direction = residual + after / power * direction
        power = after
    found = np.maximum(found, 0)
    reached = found > 0
    return rows[reached], found[reached] / found.max()


def _around(graph: Graph, seed: int, without: Sequence[int]) -> NDArray[np.intp]:
    """Return the rows near the seed, whole rings of them, in ascending order."""
    n = len(graph.starts) - 1
    taken = np.zeros(n, np.bool_)
    taken[list(without)] = True
    taken[seed] = True
    ring = np.array([seed])
    rows = [ring]
    count = 1
    while len(ring):
        ends = np.concatenate([graph.ends[graph.starts[r] : graph.starts[r + 1]] for r in ring])
        ring = np.unique(ends)
        ring = ring[~taken[ring]].astype(np.intp)
        count += len(ring)
        if count > _LARGEST:
            break
        taken[ring] = True
        rows.append(ring)
    return np.sort(np.concatenate(rows)).astype(np.intp)


def _links(
    graph: Graph, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the links among `rows`, both ends by their place in `rows`, and the weights."""
    starts, stops = graph.starts[rows], graph.starts[rows + 1]
    counts = stops - starts
    here = np.repeat(np.arange(len(rows)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(starts, counts) + offsets
    ends = graph.ends[at]
    there = np.searchsorted(rows, ends).clip(max=len(rows) - 1)
    inside = rows[there] == ends
    return here[inside], there[inside], graph.weights[at][inside].astype(np.float64)
