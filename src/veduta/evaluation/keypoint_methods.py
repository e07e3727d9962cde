"""Keypoints as retrieval systems of their own: a gallery ranked without a global descriptor.

`sift`, `orb`, `surf`
    Brute force: each keypoint of the query is looked up among those of each gallery photo, and
    is a good match if its nearest is clearly nearer than its second nearest (the ratio test of
    Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004). The score is the
    number of the gallery photo's keypoints with a good match. The retrieval challenge report ranks
    by SURF like this, by brute force and the difference between the two distances; the slides of
    the image search engine report show SIFT, ORB with 500 keypoints, and SURF as local features.
    Neither gives a ratio, nor how many keypoints of SIFT and SURF: the usual 0.75, and 512, are
    chosen here. Nor do they say that a keypoint of the gallery counts once, however many of the
    query's find it; otherwise photos of few keypoints come first for every query, since what is
    found there has hardly a second.
`xfeat`
    Mutual nearest neighbours, and how many of them agree on one geometry.
`vlad-xfeat`
    One descriptor for all of a photo's keypoints (`veduta.keypoints.vlad`), compared by one
    product: the form for large galleries. The centroids are fitted on the gallery, without labels.
    Of 512 to 2048 keypoints and 32 to 256 centroids, 1024 and 128 were best on same_place,
    objects20 and domains4; plain residuals with intra-normalisation (Arandjelović & Zisserman, "All
    about VLAD", CVPR 2013), and ASMK (Tolias et al., ICCV 2013) were no better there.

Equal numbers of matches are common, so a score carries a share of one, less than one, that orders
photos of equal number: see `good_matches` and `agreeing_matches`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, retrieval_protocol
from veduta.errors import QueryError
from veduta.evaluation.keypoint_cache import CachedKeypoints, cached_keypoints, in_order, processors
from veduta.keypoints import LEAST, Keypoints, load_extractor, mutual, verify
from veduta.keypoints.vlad import aggregate, fit_centroids
from veduta.text import did_you_mean

__all__ = ["METHODS", "agreeing_matches", "check_method", "good_matches", "rank_by_keypoints"]

METHODS = ("sift", "orb", "surf", "xfeat", "vlad-xfeat")
RATIO = 0.75
CENTROIDS = 128

_KEYPOINTS = {"sift": 512, "orb": 500, "surf": 512, "xfeat": 512, "vlad-xfeat": 1024}
_SAMPLE = 100_000  # descriptors that the centroids are fitted on
_FARTHEST = 256  # no two descriptors are farther apart: 256 bits, or unit rows times 127
_QUERIES = 16  # matched at a time, so that a gallery photo is read once for all of them
_PHOTOS = 16  # of the gallery, matched at a time by one thread
_PRODUCTS = 64  # queries compared by their VLAD at a time

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
) -> tuple[Dataset, dict[str, Any], Iterator[tuple[int, int, NDArray[np.floating[Any]]]]]:
    """Extract the keypoints of a dataset, and rank its gallery for each query.

    Args:
        dataset: of photos, with its protocol.
        method: one of `METHODS`.
        cache: folder where keypoints are kept between runs.
        on_progress: called with (what, done, total).

    Returns:
        The dataset less the photos that do not decode; what a report must say of the method; and
        an iterator over (number, row in the dataset, (G,) scores) of each query of that dataset's
        protocol. Matching happens while it is read; memory holds no queries × gallery.

    Raises:
        QueryError: no method has that name.
        EncoderUnavailable: the method's keypoints cannot be had on this machine.
        DatasetError: the dataset is not as its protocol wants it.
        CollectionError: the cache cannot be written.
    """
    check_method(method)
    extractor = load_extractor(method.removeprefix("vlad-"), count=_KEYPOINTS[method])
    settings: dict[str, Any] = {
        "method": method,
        "identity": extractor.identity,
        "keypoints": _KEYPOINTS[method],
    }
    protocol = retrieval_protocol(dataset)
    parts = {"gallery": protocol.gallery}
    if not protocol.leave_one_out:
        parts["queries"] = protocol.queries
    files = _files(dataset)
    kept: dict[str, CachedKeypoints] = {}
    for part, rows in parts.items():
        tell = partial(on_progress, f"Extracting {part}") if on_progress else None
        kept[part] = cached_keypoints(
            [files[row] for row in rows], extractor, cache, on_progress=tell
        )
    problems = {file: why for photos in kept.values() for file, why in photos.problems.items()}
    if problems:
        paths = zip(dataset.table["path"].to_pylist(), files, strict=True)
        dataset = dataset.without(
            {path: problems[file] for path, file in paths if file in problems}
        )
        protocol = retrieval_protocol(dataset)
        files = _files(dataset)
    gallery = [partial(kept["gallery"].read, files[row]) for row in protocol.gallery]
    asking = kept.get("queries", kept["gallery"])
    queries = [partial(asking.read, files[row]) for row in protocol.queries]
    scores: Iterator[NDArray[np.floating[Any]]]
    if method == "vlad-xfeat":
        settings |= {"centroids": CENTROIDS}
        scores = _compared(queries, *_aggregated(gallery, on_progress))
    elif method == "xfeat":
        settings |= {"least_similarity": LEAST}
        scores = _matched(queries, gallery, agreeing_matches, on_progress)
    else:
        settings |= {"ratio": RATIO}
        scores = _matched(queries, gallery, good_matches, on_progress)
    return dataset, settings, _numbered(protocol.queries.tolist(), scores)


def _files(dataset: Dataset) -> list[str]:
    return [os.path.abspath(dataset.root / path) for path in dataset.table["path"].to_pylist()]


def _numbered(
    rows: Sequence[int], scores: Iterator[NDArray[np.floating[Any]]]
) -> Iterator[tuple[int, int, NDArray[np.floating[Any]]]]:
    for number, (row, values) in enumerate(zip(rows, scores, strict=True)):
        yield number, row, values


def good_matches(query: Keypoints, other: Keypoints) -> float:
    """Return how many keypoints of `other` are the match of one of `query` by the ratio test.

    To this a share of one is added, the larger the nearer the keypoints of `query` have their
    nearest on average; it is zero where that is 256 or more (Euclidean, between int8 rows; or
    bits). A photo without keypoints scores zero; one with a single keypoint has no good match.
    """
    if len(query) == 0 or len(other) == 0:
        return 0.0
    best, nearest, second = _nearest_two(query, other)
    good = len(np.unique(best[nearest < RATIO * second])) if len(other) > 1 else 0
    return good + 0.999 * max(0.0, 1 - float(nearest.mean()) / _FARTHEST)


def agreeing_matches(query: Keypoints, other: Keypoints) -> float:
    """Return how many mutual nearest neighbours agree on one geometry: the inliers of `verify`.

    Neighbours count whose similarity is `LEAST` or more. To the inliers a share of one is added,
    the larger the more such neighbours there are; then, the larger the mean similarity of all
    mutual nearest neighbours.
    """
    if len(query) == 0 or len(other) == 0:
        return 0.0
    pairs = mutual(query, other, least=-1)
    a, b = query.descriptors[pairs[:, 0]], other.descriptors[pairs[:, 1]]
    similar = np.einsum("nd,nd->n", a, b, dtype=np.int32) / 127**2
    found = verify(query, other, pairs[similar >= LEAST])
    mean = min(max(float(similar.mean()), 0.0), 0.999) if len(similar) else 0.0
    return len(found.inliers) + (found.matches + mean) / (len(query) + 1)


def _nearest_two(
    query: Keypoints, other: Keypoints
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return of each keypoint of `query` the nearest in `other`, and the distances to the two
    nearest, (n,) each; infinity where there is no second."""
    import numkong

    a = np.ascontiguousarray(query.descriptors)
    b = np.ascontiguousarray(other.descriptors)
    if query.binary:
        packed = numkong.hammings_pack(b)
        return _smallest_two(np.asarray(numkong.hammings_packed(a, packed)).astype(np.int32))
    # The square of a difference, less the own square, which does not change the order.
    distances = np.asarray(numkong.dots_packed(a, numkong.dots_pack(b, "int8")))
    distances *= -2
    distances += _squares(b)
    best, nearest, second = _smallest_two(distances)
    own = _squares(a)
    return best, np.sqrt(nearest + own), np.sqrt(second + own)


def _smallest_two(
    distances: NDArray[np.int32],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return where the smallest of each row (n, m) is, and the smallest two; changes the rows."""
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


def _matched(
    queries: Photos,
    gallery: Photos,
    score: Callable[[Keypoints, Keypoints], float],
    on_progress: OnProgress | None,
) -> Iterator[NDArray[np.float64]]:
    """Yield the scores (G,) of each query, every pair of photos matched by itself."""
    shares = [slice(start, start + _PHOTOS) for start in range(0, len(gallery), _PHOTOS)]
    for start in range(0, len(queries), _QUERIES):
        asking = [read() for read in queries[start : start + _QUERIES]]
        scores = np.empty((len(asking), len(gallery)))

        def match(share: slice, asking: list[Keypoints] = asking) -> list[list[float]]:
            others = [read() for read in gallery[share]]
            return [[score(query, other) for other in others] for query in asking]

        matched = in_order(shares, match, processors())
        for number, (share, values) in enumerate(zip(shares, matched, strict=True), 1):
            scores[:, share] = values
            if on_progress is not None:
                done = start + len(asking) * number // len(shares)
                on_progress("Matching", done, len(queries))
        yield from scores


def _aggregated(
    gallery: Photos, on_progress: OnProgress | None
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Return the VLAD of each gallery photo, (G, k * d), 16 kB each, and the centroids (k, d)."""
    rng = np.random.default_rng(0)
    each = math.ceil(_SAMPLE / len(gallery))
    sample = []
    for read in gallery:
        descriptors = read().descriptors
        sample.append(descriptors[rng.permutation(len(descriptors))[:each]])
    centroids = fit_centroids(np.concatenate(sample), CENTROIDS)
    vlads = np.empty((len(gallery), centroids.size), np.float16)
    made = in_order(gallery, lambda read: aggregate(read().descriptors, centroids), processors())
    for row, vlad in enumerate(made):
        vlads[row] = vlad
        if on_progress is not None:
            on_progress("Aggregating gallery", row + 1, len(gallery))
    return vlads, centroids


def _compared(
    queries: Photos, vlads: NDArray[np.float16], centroids: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Yield the cosine similarities (G,) of each query; -1 to photos without keypoints."""
    empty = ~vlads.any(axis=1)
    for start in range(0, len(queries), _PRODUCTS):
        block = queries[start : start + _PRODUCTS]
        asking = np.stack([aggregate(read().descriptors, centroids) for read in block])
        scores = np.empty((len(block), len(vlads)), np.float32)
        for first in range(0, len(vlads), 1024):
            rows = slice(first, first + 1024)
            scores[:, rows] = asking @ vlads[rows].astype(np.float32).T
        scores[:, empty] = -1
        yield from scores
