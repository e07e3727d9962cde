"""How near each photo of the collection is to the best hit, through photos that show the same.

This is diffusion on the neighbour graph (Zhou et al., Ranking on data manifolds, NIPS 2003; Donoser
and Bischof, CVPR 2013) from one photo, the best hit. More starting points would be more evidence,
but each wrong one raises its own neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from veduta.index.graph import Graph

__all__ = ["DAMPING", "nearness", "nearness_of_rows"]

DAMPING = 0.9
"""The share of the nearness that a photo passes on to its neighbours."""

_MAX_PHOTOS = 4096
"""Photos that are farther away from the best hit receive too little to be worth the time."""

_TOLERANCE = 1e-4
"""The length of the residual at which the iteration ends."""

_MAX_STEPS = 100


def nearness_of_rows(
    graph: Graph, seeds: NDArray[np.intp], *, without: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Return the nearness of every row to the best hit.

    Args:
        graph: of n rows.
        seeds: rows of the photos that are equally good, at least one. The one with the smallest
            content hash is taken, which does not depend on rows or paths.
        without: rows that are ignored as if they were not in the collection: the query's own.

    Returns:
        (n,) in [0, 1]; 0 for rows that cannot be reached. Copies have the same nearness.
    """
    seed = int(graph.photo_of_row[seeds].min())
    reached, reached_nearness = nearness(graph, seed, without=graph.only_in(without).tolist())
    nearness_of_photo = np.zeros(graph.photos)
    nearness_of_photo[reached] = reached_nearness
    nearness_of_row: NDArray[np.float64] = nearness_of_photo[graph.photo_of_row]
    nearness_of_row[list(without)] = 0
    return nearness_of_row


def nearness(
    graph: Graph, seed: int, *, without: Sequence[int] = ()
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the photos that can be reached from the seed, and their nearness to it.

    Solves (I - 0.9 W) f = e for the normalised weights W on the links around the seed.

    Args:
        graph: of the collection.
        seed: the photo of the graph to start from.
        without: photos that are ignored as if they were not in the graph.

    Returns:
        Photos (m,) in ascending order, with the seed, and their nearness (m,) in (0, 1]. The
        nearest one has 1.
    """
    photos = _photos_around(graph, seed, without)
    starts, ends, weights = _links_among(graph, photos)
    is_seed = (photos == seed).astype(np.float64)

    def multiply(values: NDArray[np.float64]) -> NDArray[np.float64]:
        passed_on = np.bincount(starts, weights * values[ends], minlength=len(photos))
        product: NDArray[np.float64] = values - DAMPING * passed_on
        return product

    # Conjugate gradients: the matrix is symmetric and its eigenvalues are in (0.1, 1.9).
    solution = np.zeros(len(photos))
    residual = is_seed.copy()
    direction = residual.copy()
    power = residual @ residual
    for _ in range(_MAX_STEPS):
        product = multiply(direction)
        step = power / (direction @ product)
        solution += step * direction
        residual -= step * product
        new_power = residual @ residual
        if new_power < _TOLERANCE**2:
            break
        direction = residual + new_power / power * direction
        power = new_power
    solution = np.maximum(solution, 0)
    reached = solution > 0
    return photos[reached], solution[reached] / solution.max()


def _photos_around(graph: Graph, seed: int, without: Sequence[int]) -> NDArray[np.intp]:
    """Return the photos near the seed in ascending order: all up to a number of links."""
    taken = np.zeros(graph.photos, np.bool_)
    taken[list(without)] = True
    taken[seed] = True
    ring = np.array([seed])
    rings = [ring]
    count = 1
    while len(ring):
        ends = np.concatenate([graph.ends[graph.starts[p] : graph.starts[p + 1]] for p in ring])
        ring = np.unique(ends)
        ring = ring[~taken[ring]].astype(np.intp)
        count += len(ring)
        if count > _MAX_PHOTOS:
            break
        taken[ring] = True
        rings.append(ring)
    return np.sort(np.concatenate(rings)).astype(np.intp)


def _links_among(
    graph: Graph, photos: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the links among `photos`: both ends as positions in `photos`, and the weights."""
    first, stop = graph.starts[photos], graph.starts[photos + 1]
    counts = stop - first
    starts = np.repeat(np.arange(len(photos)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    links = np.repeat(first, counts) + offsets
    end_photos = graph.ends[links]
    ends = np.searchsorted(photos, end_photos).clip(max=len(photos) - 1)
    inside = photos[ends] == end_photos
    return starts[inside], ends[inside], graph.weights[links][inside].astype(np.float64)
