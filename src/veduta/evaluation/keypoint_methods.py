"""Rank a gallery by keypoints alone, without a global descriptor.

sift, orb, surf
    Brute force: the nearest keypoint of each gallery photo is found for each keypoint of the query.
    It is a good match if it is clearly nearer than the second nearest (the ratio test of Lowe,
    "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004). The score is the number
    of keypoints of the gallery photo with a good match. The retrieval challenge report ranks by
    SURF like this, by brute force and the difference between the two distances. The slides of the
    image search engine report show SIFT, ORB with 500 keypoints, and SURF as local features.
    Neither report gives a ratio or the number of keypoints of SIFT and SURF: the usual 0.75 and 512
    are chosen here. They also do not say whether a keypoint of the gallery counts once or for each
    match. Here it counts once: otherwise photos with few keypoints come first for every query,
    because a second nearest keypoint is then far away.
xfeat
    The number of mutual nearest neighbours that agree on one geometry.
vlad-xfeat
    One descriptor for all keypoints of a photo (`veduta.keypoints.vlad`), compared by one matrix
    product, for large galleries. The centroids are fitted on the gallery, without labels. Of 512 to
    2048 keypoints and 32 to 256 centroids, 1024 and 128 were best on same_place, objects20 and
    domains4. Plain residuals with intra-normalisation (Arandjelović & Zisserman, "All about VLAD",
    CVPR 2013), and ASMK (Tolias et al., ICCV 2013) were no better there.

Equal numbers of matches are common. A score therefore has a fraction below one that orders photos
with equal numbers, see `good_matches` and `agreeing_matches`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, retrieval_protocol
from veduta.errors import QueryError
from veduta.evaluation.keypoint_cache import (
    CachedKeypoints,
    cached_keypoints,
)
from veduta.evaluation.photo_ranking import RankedQuery
from veduta.keypoints import Keypoints, load_extractor, mutual, verify
from veduta.keypoints.vlad import aggregate, fit_centroids
from veduta.keypoints.xfeat import MIN_SIMILARITY
from veduta.ordered_threads import map_in_order
from veduta.processor_cores import processor_cores
from veduta.text import did_you_mean

__all__ = ["METHODS", "agreeing_matches", "check_method", "good_matches", "rank_by_keypoints"]

METHODS = ("sift", "orb", "surf", "xfeat", "vlad-xfeat")
RATIO = 0.75
CENTROIDS = 128

_MAX_KEYPOINTS = {"sift": 512, "orb": 500, "surf": 512, "xfeat": 512, "vlad-xfeat": 1024}

_SAMPLED_DESCRIPTORS = 100_000
"""Descriptors that the centroids are fitted on."""

_MAX_DISTANCE = 256
"""The largest distance of two descriptors: 256 bits, or unit rows times 127."""

_BLOCK_QUERIES = 16
"""Queries that are matched together, so that a gallery photo is read once for all of them."""

_BLOCK_PHOTOS = 16
"""Gallery photos that one thread matches together."""

_VLAD_BLOCK_QUERIES = 64
_VLAD_BLOCK_PHOTOS = 1024

OnProgress = Callable[[str, int, int], None]
Photos = Sequence[Callable[[], Keypoints]]
"""Photos in the order of a protocol; calling one reads its keypoints."""


def check_method(name: str) -> None:
    """Raise `QueryError` unless `name` is one of `METHODS`."""
    if name in METHODS:
        return
    advice = did_you_mean(name, METHODS) or f"known are {', '.join(METHODS)}"
    raise QueryError(f"no method is called {name!r}; {advice}")


def rank_by_keypoints(
    dataset: Dataset, method: str, cache: Path, on_progress: OnProgress | None = None
) -> tuple[Dataset, dict[str, Any], Iterator[RankedQuery]]:
    """Extract the keypoints of a dataset, and rank its gallery for each query.

    Args:
        dataset: the queries and the gallery.
        method: one of `METHODS`.
        cache: folder where keypoints are kept between runs.
        on_progress: called with (stage, done, total).

    Returns:
        The dataset without the photos that do not decode; the settings for a report; and an
        iterator over the queries of that dataset's protocol. Matching happens while the iterator is
        read, and nothing holds queries × gallery.

    Raises:
        QueryError: no method has that name.
        EncoderUnavailable: the keypoints of the method are not available on this machine.
        DatasetError: the dataset does not fit the protocol of retrieval.
        CollectionError: the cache cannot be written.
    """
    check_method(method)
    extractor = load_extractor(method.removeprefix("vlad-"), count=_MAX_KEYPOINTS[method])
    settings: dict[str, Any] = {
        "method": method,
        "identity": extractor.identity,
        "keypoints": _MAX_KEYPOINTS[method],
    }
    protocol = retrieval_protocol(dataset)
    parts = {"gallery": protocol.gallery}
    if not protocol.leave_one_out:
        parts["queries"] = protocol.queries
    files = _files(dataset)
    keypoints: dict[str, CachedKeypoints] = {}
    for part, rows in parts.items():
        keypoints[part] = cached_keypoints(
            [files[row] for row in rows],
            extractor,
            cache,
            on_progress=partial(on_progress, f"Extracting {part}") if on_progress else None,
        )
    problems = {file: why for part in keypoints.values() for file, why in part.problems.items()}
    if problems:
        paths = zip(dataset.table["path"].to_pylist(), files, strict=True)
        dataset = dataset.without(
            {path: problems[file] for path, file in paths if file in problems}
        )
        protocol = retrieval_protocol(dataset)
        files = _files(dataset)
    gallery = [partial(keypoints["gallery"].read, files[row]) for row in protocol.gallery]
    of_queries = keypoints.get("queries", keypoints["gallery"])
    queries = [partial(of_queries.read, files[row]) for row in protocol.queries]
    scores: Iterator[NDArray[np.floating[Any]]]
    if method == "vlad-xfeat":
        settings |= {"centroids": CENTROIDS}
        scores = _vlad_scores(queries, *_aggregate(gallery, on_progress))
    elif method == "xfeat":
        settings |= {"least_similarity": MIN_SIMILARITY}
        scores = _match_scores(queries, gallery, agreeing_matches, on_progress)
    else:
        settings |= {"ratio": RATIO}
        scores = _match_scores(queries, gallery, good_matches, on_progress)
    return dataset, settings, starmap(RankedQuery, enumerate(scores))


def _files(dataset: Dataset) -> list[str]:
    return [os.path.abspath(dataset.root / path) for path in dataset.table["path"].to_pylist()]


def good_matches(query: Keypoints, other: Keypoints) -> float:
    """Return how many keypoints of `other` are the match of a keypoint of `query`.

    A match passes the ratio test. A fraction below one is added; it is larger if the nearest
    keypoints of `other` are nearer on average, and zero if their mean distance is 256 or more
    (Euclidean between int8 rows, or bits).

    Args:
        query: keypoints of a query.
        other: keypoints of a gallery photo.

    Returns:
        The score. A photo without keypoints scores zero; one with a single keypoint has no good
        match.
    """
    if len(query) == 0 or len(other) == 0:
        return 0.0
    best, nearest, second = _nearest_two(query, other)
    good = len(np.unique(best[nearest < RATIO * second])) if len(other) > 1 else 0
    return good + 0.999 * max(0.0, 1 - float(nearest.mean()) / _MAX_DISTANCE)


def agreeing_matches(query: Keypoints, other: Keypoints) -> float:
    """Return how many mutual nearest neighbours agree on one geometry: the inliers of `verify`.

    Only neighbours with a similarity of `MIN_SIMILARITY` or more count. A fraction below one is
    added. It is larger if there are more such neighbours, and for equal numbers if the mean
    similarity of all mutual nearest neighbours is larger.

    Args:
        query: keypoints of a query.
        other: keypoints of a gallery photo.

    Returns:
        The score; zero for a photo without keypoints.
    """
    if len(query) == 0 or len(other) == 0:
        return 0.0
    pairs = mutual(query, other, min_similarity=-1)
    a, b = query.descriptors[pairs[:, 0]], other.descriptors[pairs[:, 1]]
    similarities = np.einsum("nd,nd->n", a, b, dtype=np.int32) / 127**2
    verification = verify(query, other, pairs[similarities >= MIN_SIMILARITY])
    mean = min(max(float(similarities.mean()), 0.0), 0.999) if len(similarities) else 0.0
    return len(verification.inliers) + (verification.matches + mean) / (len(query) + 1)


def _nearest_two(
    query: Keypoints, other: Keypoints
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return for each keypoint of `query` the nearest in `other`, and the two smallest distances.

    All are (n,); the second distance is infinite if there is no second keypoint.
    """
    import numkong

    a = np.ascontiguousarray(query.descriptors)
    b = np.ascontiguousarray(other.descriptors)
    if query.binary:
        packed = numkong.hammings_pack(b)
        return _smallest_two(np.asarray(numkong.hammings_packed(a, packed)).astype(np.int32))
    # |a - b|² without |a|², which does not change the order of the keypoints b.
    distances = np.asarray(numkong.dots_packed(a, numkong.dots_pack(b, "int8")))
    distances *= -2
    distances += _squares(b)
    best, nearest, second = _smallest_two(distances)
    own = _squares(a)
    return best, np.sqrt(nearest + own), np.sqrt(second + own)


def _smallest_two(
    distances: NDArray[np.int32],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return the column of the smallest value of each row (n, m), and the two smallest values.

    The rows are changed.
    """
    rows = np.arange(len(distances))
    best = distances.argmin(axis=1)
    nearest = distances[rows, best].astype(np.float64)
    if distances.shape[1] == 1:
        return best, nearest, np.full(len(nearest), math.inf)
    distances[rows, best] = np.iinfo(np.int32).max
    return best, nearest, distances.min(axis=1).astype(np.float64)


def _squares(rows: NDArray[np.int8]) -> NDArray[np.int32]:
    wide = rows.astype(np.int32)
    squares: NDArray[np.int32] = np.einsum("nd,nd->n", wide, wide)
    return squares


def _match_scores(
    queries: Photos,
    gallery: Photos,
    score: Callable[[Keypoints, Keypoints], float],
    on_progress: OnProgress | None,
) -> Iterator[NDArray[np.float64]]:
    """Yield the scores (G,) of each query; every pair of photos is matched."""
    parts = [slice(start, start + _BLOCK_PHOTOS) for start in range(0, len(gallery), _BLOCK_PHOTOS)]
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = [read() for read in queries[start : start + _BLOCK_QUERIES]]
        scores = np.empty((len(block), len(gallery)))

        def match(part: slice, block: list[Keypoints] = block) -> list[list[float]]:
            others = [read() for read in gallery[part]]
            return [[score(query, other) for other in others] for query in block]

        matched = map_in_order(parts, match, processor_cores())
        for number, (part, values) in enumerate(zip(parts, matched, strict=True), 1):
            scores[:, part] = values
            if on_progress is not None:
                done = start + len(block) * number // len(parts)
                on_progress("Matching", done, len(queries))
        yield from scores


def _aggregate(
    gallery: Photos, on_progress: OnProgress | None
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Return the VLAD of each gallery photo, (G, k * d), 16 kB each, and the centroids (k, d)."""
    rng = np.random.default_rng(0)
    photo_sample = math.ceil(_SAMPLED_DESCRIPTORS / len(gallery))
    sample = []
    for read in gallery:
        descriptors = read().descriptors
        sample.append(descriptors[rng.permutation(len(descriptors))[:photo_sample]])
    centroids = fit_centroids(np.concatenate(sample), CENTROIDS)
    vlads = np.empty((len(gallery), centroids.size), np.float16)
    aggregated = map_in_order(
        gallery, lambda read: aggregate(read().descriptors, centroids), processor_cores()
    )
    for row, vlad in enumerate(aggregated):
        vlads[row] = vlad
        if on_progress is not None:
            on_progress("Aggregating gallery", row + 1, len(gallery))
    return vlads, centroids


def _vlad_scores(
    queries: Photos, vlads: NDArray[np.float16], centroids: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Yield the cosine similarities (G,) of each query; -1 for photos without keypoints."""
    empty = ~vlads.any(axis=1)
    for start in range(0, len(queries), _VLAD_BLOCK_QUERIES):
        block = queries[start : start + _VLAD_BLOCK_QUERIES]
        query_vlads = np.stack([aggregate(read().descriptors, centroids) for read in block])
        scores = np.empty((len(block), len(vlads)), np.float32)
        for first in range(0, len(vlads), _VLAD_BLOCK_PHOTOS):
            rows = slice(first, first + _VLAD_BLOCK_PHOTOS)
            scores[:, rows] = query_vlads @ vlads[rows].astype(np.float32).T
        scores[:, empty] = -1
        yield from scores
