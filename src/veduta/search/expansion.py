"""Other ways to let the gallery speak than its graph: the query or the photos take on neighbours.

Three methods from the literature, to compare the default with; `veduta.evaluate` offers them, a
search does not. What they give is a cosine similarity after expansion, in [-1, 1]: it has no
calibration and is no probability.
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
from veduta.search.options import VERIFIED_PHOTOS
from veduta.search.reranking import Gallery, gather

ALTERNATIVES = ("expansion", "augmentation", "superglobal")

POWER = 3.0  # of a neighbour's similarity, for its weight
REFINED = 400  # photos that the global re-ranking scores anew
_AROUND = 9  # the nearest of those, each photo itself among them, that refine a descriptor
_SHARE = 0.15  # weight of a neighbour at similarity 1, beside the photo itself

Ranked = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Rows (m,), best first, and their similarities (m,) after expansion."""


def rank_by(
    alternative: str,
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
    """Rank the nearest photos by one of `ALTERNATIVES`.

    Args:
        alternative: the name of the method.
        gallery: the collection; augmentation changes nothing where it has no graph.
        descriptor: (d,) float32 of the query, of length one.
        keypoints: of the query's photos; only expansion asks for them.
        rows: (m,) nearest photos by descriptor, nearest first.
        similarities: (m,) their cosine similarity.
        verify: how many of them to verify, for expansion.
        keep: (n,) bool, the rows that may come in through expansion; None: all.
        without: a row that is taken as not being there: the query's own.

    Raises:
        ValueError: no method has that name.
    """
    if alternative == "expansion":
        near = verified(gallery, descriptor, keypoints, rows, similarities, verify=verify)
        query = expanded(gallery.snapshot, descriptor, near)
        return exact.nearest(gallery.snapshot, query, len(rows), keep)
    if alternative == "augmentation":
        if gallery.graph is None:
            return rows, similarities
        gone = [] if without is None else [without]
        scores = augmented(gallery.snapshot, gallery.graph, descriptor, rows, without=gone)
    elif alternative == "superglobal":
        scores = refined(gallery.snapshot, descriptor, rows, similarities)
    else:
        raise ValueError(f"{alternative!r} is not one of {', '.join(ALTERNATIVES)}")
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def verified(
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
) -> NDArray[np.intp]:
    """Return those of the nearest photos that a geometric model ties to the query, nearest first.

    The arguments are those of `rank_by`.
    """
    if not len(rows):
        return rows
    alone = replace(gallery, graph=None)
    geometry = gather(
        alone, descriptor, keypoints, rows[:verify], similarities[:verify], verify=verify
    ).geometry
    tied = [row for row, seen in geometry.items() if seen.verification.model is not None]
    return rows[np.isin(rows, tied)]


def expanded(
    snapshot: Snapshot,
    descriptor: NDArray[np.float32],
    neighbours: NDArray[np.intp],
    *,
    power: float = POWER,
) -> NDArray[np.float32]:
    """Return the query (d,) averaged with photos that show the same, of length one.

    Average query expansion (Chum et al., Total recall, ICCV 2007), each photo weighted by a power
    of its similarity (Radenović et al., Fine-tuning CNN image retrieval with no human annotation,
    TPAMI 2019). The former takes verified photos only, the latter the nearest as they are.

    Args:
        snapshot: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        neighbours: (m,) rows to average with; those at a negative similarity have no weight.
        power: 0 weighs them all like the query.
    """
    photos = snapshot.take(neighbours).astype(np.float32)
    weights = np.maximum(photos @ descriptor, 0) ** power
    mean: NDArray[np.float32] = _unit((descriptor + weights @ photos)[None])[0]
    return mean


def augmented(
    snapshot: Snapshot,
    graph: Graph,
    descriptor: NDArray[np.float32],
    rows: NDArray[np.intp],
    *,
    power: float = POWER,
    without: Sequence[int] = (),
) -> NDArray[np.float32]:
    """Return the similarity (m,) of the query to photos averaged with their neighbours.

    Database-side augmentation (Turcotte and Lowe, Better matching with fewer features, ICCV
    workshops 2009; Gordo et al., End-to-end learning of deep visual representations, IJCV 2017).
    The neighbours are those of the graph, weighted as in `expanded`. Photos are averaged one at a
    time, when they are scored, so no second set of descriptors is kept.

    Args:
        snapshot, graph: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        rows: (m,) photos to score.
        power: 0 weighs neighbours like the photo itself.
        without: rows that are nobody's neighbours: the query's own.
    """
    scores = np.empty(len(rows), np.float32)
    for place, row in enumerate(rows.tolist()):
        ends = graph.ends[graph.starts[row] : graph.starts[row + 1]].astype(np.intp)
        ends = ends[~np.isin(ends, without)]
        own = snapshot.take(rows[place : place + 1])[0].astype(np.float32)
        scores[place] = expanded(snapshot, own, ends, power=power) @ descriptor
    return scores


def refined(
    snapshot: Snapshot,
    descriptor: NDArray[np.float32],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    most: int = REFINED,
    around: int = _AROUND,
    share: float = _SHARE,
) -> NDArray[np.float32]:
    """Return the similarity (m,) after both sides have been refined by their neighbours.

    The re-ranking of SuperGlobal (Shao et al., Global features are all you need for image retrieval
    and reranking, ICCV 2023). Each of the nearest photos is averaged with those of them that are
    nearest to it; the maximum over the best of these, dimension by dimension, is a second query;
    the score is the mean of the similarities to both. Unlike there, both queries have length one.

    Args:
        snapshot: of the collection.
        descriptor: (d,) float32 of the query, of length one.
        rows: (m,) nearest photos by descriptor, nearest first.
        similarities: (m,) their cosine similarity.
        most: how many of them to refine; the others follow behind, in the order they are in.
        around: how many descriptors refine one, itself counted, and how many make the second query.
        share: weight of a neighbour at similarity 1, beside the photo itself.
    """
    first = snapshot.take(rows[:most]).astype(np.float32)
    if not len(first):
        return similarities
    near = first @ first.T
    np.fill_diagonal(near, -np.inf)
    others = np.argsort(-near, axis=1, kind="stable")[:, : around - 1]
    weights = share * np.maximum(np.take_along_axis(near, others, axis=1), 0)
    mean = first.copy()
    for column in range(others.shape[1]):
        mean += weights[:, column, None] * first[others[:, column]]
    mean = _unit(mean)
    once = mean @ descriptor
    best = np.argsort(-once, kind="stable")[:around]
    second = _unit(mean[best].max(axis=0, keepdims=True))[0]
    scores = similarities.astype(np.float32).copy()
    scores[:most] = (once + mean @ second) / 2
    if len(rows) > most:
        scores[most:] += min(0.0, float(scores[:most].min() - scores[most] - 1e-3))
    return scores


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
