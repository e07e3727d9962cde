"""Expansion: the query or the gallery photos are averaged with their neighbours.

Three methods from the literature, to compare with the default. `veduta.evaluate` offers them, a
search does not. Their scores are cosine similarities after expansion, in [-1, 1], and no
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot
from veduta.index.graph import Graph
from veduta.keypoints import Keypoints
from veduta.search import exact
from veduta.search.best_first import best_first
from veduta.search.options import VERIFIED_PHOTOS
from veduta.search.reranking import Gallery, gather_evidence

__all__ = [
    "EXPANSIONS",
    "augmented_scores",
    "expanded_query",
    "rank_by_expansion",
    "superglobal_scores",
    "verified_rows",
]

EXPANSIONS = ("expansion", "augmentation", "superglobal")
"""The names of the methods."""

WEIGHT_POWER = 3.0
"""The weight of a neighbour is this power of its similarity."""

REFINED_PHOTOS = 400
"""How many of the nearest photos SuperGlobal scores again."""

_REFINING_DESCRIPTORS = 9
"""How many descriptors SuperGlobal averages for one photo, with the photo's own."""

_NEIGHBOUR_WEIGHT = 0.15
"""The weight that SuperGlobal gives a neighbour at similarity 1; the photo itself has 1."""

_RANK_GAP = 1e-3
"""The distance in score between the refined photos and those behind them."""

Ranked = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Rows (m,), best first, and their similarities (m,) after expansion."""


def rank_by_expansion(
    method: str,
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
    keep: NDArray[np.bool_] | None = None,
    without: int | None = None,
) -> Ranked:
    """Rank the nearest photos by one of `EXPANSIONS`.

    Args:
        method: the name of the method.
        gallery: the collection. Augmentation changes nothing if it has no graph.
        descriptor: (d,) float32 of the query, of length one.
        keypoints: of the query's photos. Only "expansion" uses them.
        rows: (m,) nearest photos by descriptor, nearest first.
        similarities: (m,) their cosine similarity.
        verify: how many of them "expansion" verifies.
        keep: (n,) bool, the rows that expansion may add. None: all.
        without: a row that is ignored as if it were not in the gallery: the query's own.

    Raises:
        ValueError: no method has that name.
    """
    if method == "expansion":
        neighbours = verified_rows(
            gallery, descriptor, keypoints, rows, similarities, verify=verify
        )
        query = expanded_query(gallery.snapshot, descriptor, neighbours)
        return exact.nearest(gallery.snapshot, query, len(rows), keep)
    if method == "augmentation":
        if gallery.graph is None:
            return rows, similarities
        ignored = [] if without is None else [without]
        scores = augmented_scores(
            gallery.snapshot, gallery.graph, descriptor, rows, without=ignored
        )
    elif method == "superglobal":
        scores = superglobal_scores(gallery.snapshot, descriptor, rows, similarities)
    else:
        raise ValueError(f"{method!r} is not one of {', '.join(EXPANSIONS)}")
    order = best_first(gallery.snapshot, rows, scores)
    return rows[order], scores[order]


def verified_rows(
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
) -> NDArray[np.intp]:
    """Return those of the nearest photos that have a geometric model with the query.

    The arguments are those of `rank_by_expansion`.

    Args:
        gallery: the collection.
        descriptor: (d,) float32 of the query.
        keypoints: of the query's photos.
        rows: (m,) nearest photos by descriptor.
        similarities: (m,) their cosine similarity.
        verify: how many of them are verified.

    Returns:
        Rows, nearest first.
    """
    if not len(rows):
        return rows
    without_graph = replace(gallery, graph=None)
    geometry = gather_evidence(
        without_graph, descriptor, keypoints, rows[:verify], similarities[:verify], verify=verify
    ).geometry
    verified = [row for row, pair in geometry.items() if pair.verification.model is not None]
    return rows[np.isin(rows, verified)]


def expanded_query(
    snapshot: Snapshot,
    descriptor: NDArray[np.float32],
    neighbours: NDArray[np.intp],
    *,
    power: float = WEIGHT_POWER,
) -> NDArray[np.float32]:
    """Return the mean of a query and photos that show the same, scaled to length one.

    Average query expansion (Chum et al., Total recall, ICCV 2007), each photo weighted by a power
    of its similarity (Radenović et al., Fine-tuning CNN image retrieval with no human annotation,
    TPAMI 2019). The first paper takes verified photos only, the second one the nearest photos.

    Args:
        snapshot: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        neighbours: (m,) rows of the photos. Those with a negative similarity have no weight.
        power: of the similarity. 0 gives each photo the weight of the query.

    Returns:
        (d,) float32.
    """
    photos = snapshot.take(neighbours)
    weights = np.maximum(photos @ descriptor, 0) ** power
    mean: NDArray[np.float32] = _unit_rows((descriptor + weights @ photos)[None])[0]
    return mean


def augmented_scores(
    snapshot: Snapshot,
    graph: Graph,
    descriptor: NDArray[np.float32],
    rows: NDArray[np.intp],
    *,
    power: float = WEIGHT_POWER,
    without: Sequence[int] = (),
) -> NDArray[np.float32]:
    """Return the similarity of a query to photos that are averaged with their neighbours.

    Database-side augmentation (Turcotte and Lowe, Better matching with fewer features, ICCV
    workshops 2009; Gordo et al., End-to-end learning of deep visual representations, IJCV 2017).
    The neighbours are those of the graph, weighted as in `expanded_query`. Photos are averaged one
    at a time when they are scored, so no second set of descriptors is kept.

    Args:
        snapshot: of the collection.
        graph: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        rows: (m,) photos to score.
        power: of the similarity. 0 gives neighbours the weight of the photo itself.
        without: rows that are not used as neighbours: the query's own.

    Returns:
        (m,) float32.
    """
    scores = np.empty(len(rows), np.float32)
    gone = graph.only_in(without)
    for position, photo in enumerate(graph.photo_of_row[rows].tolist()):
        ends = graph.ends[graph.starts[photo] : graph.starts[photo + 1]]
        neighbours = graph.row_of_photo[ends[~np.isin(ends, gone)]].astype(np.intp)
        own = snapshot.take(rows[position : position + 1])[0]
        scores[position] = expanded_query(snapshot, own, neighbours, power=power) @ descriptor
    return scores


def superglobal_scores(
    snapshot: Snapshot,
    descriptor: NDArray[np.float32],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    refined_photos: int = REFINED_PHOTOS,
    refining_descriptors: int = _REFINING_DESCRIPTORS,
    neighbour_weight: float = _NEIGHBOUR_WEIGHT,
) -> NDArray[np.float32]:
    """Return the similarity after the query and the photos are refined by their neighbours.

    The re-ranking of SuperGlobal (Shao et al., Global features are all you need for image retrieval
    and reranking, ICCV 2023). Each of the nearest photos is averaged with its own nearest ones
    among them. The maximum over the best of these, dimension by dimension, is a second query. The
    score is the mean of the similarities to both queries. Unlike in the paper, both queries have
    length one.

    Args:
        snapshot: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        rows: (m,) nearest photos by descriptor, nearest first.
        similarities: (m,) their cosine similarity.
        refined_photos: how many of them are refined. The others follow in their order.
        refining_descriptors: how many descriptors refine one photo, its own among them, and how
            many make the second query.
        neighbour_weight: of a neighbour at similarity 1. The photo itself has 1.

    Returns:
        (m,) float32.
    """
    nearest = snapshot.take(rows[:refined_photos])
    if not len(nearest):
        return similarities
    to_each_other = nearest @ nearest.T
    np.fill_diagonal(to_each_other, -np.inf)
    neighbours = np.argsort(-to_each_other, axis=1, kind="stable")[:, : refining_descriptors - 1]
    neighbour_similarities = np.take_along_axis(to_each_other, neighbours, axis=1)
    weights = neighbour_weight * np.maximum(neighbour_similarities, 0)
    refined = nearest.copy()
    for column in range(neighbours.shape[1]):
        refined += weights[:, column, None] * nearest[neighbours[:, column]]
    refined = _unit_rows(refined)
    to_query = refined @ descriptor
    best = np.argsort(-to_query, kind="stable")[:refining_descriptors]
    second_query = _unit_rows(refined[best].max(axis=0, keepdims=True))[0]
    scores = similarities.astype(np.float32).copy()
    scores[:refined_photos] = (to_query + refined @ second_query) / 2
    if len(rows) > refined_photos:
        # The photos behind must not overtake the refined ones.
        gap = float(scores[:refined_photos].min() - scores[refined_photos] - _RANK_GAP)
        scores[refined_photos:] += min(0.0, gap)
    return scores


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
