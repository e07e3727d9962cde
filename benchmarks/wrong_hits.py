"""What to do with the other photos when a person calls a hit wrong.

    python -m benchmarks.wrong_hits --data ../shared/data --docs docs/reranking.md

The first wrong hit among the first ten of each query is called wrong. It leaves the answer, with
the files of the same content. The mAP of the rest is compared for several ways to rank it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish, table
from benchmarks.reranking import PhotoSet, open_set
from veduta.datasets import open_dataset
from veduta.evaluation.metrics import judge
from veduta.index.diffusion import nearness_of_rows
from veduta.search import exact
from veduta.search.reranking import rerank

SETS = ("scenes", "landmarks30", "same_place")
QUERIES = 75
"""About so many queries of a set are ranked."""
SHOWN_HITS = 10
ROCCHIO_SHARE = 0.25
"""The descriptor of the wrong photo is subtracted with this weight (Rocchio, 1971)."""
MIN_NEARNESS = 0.05

AS_IT_IS = "the others stay as they are"
Scores = NDArray[np.floating[Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("wrong_hits", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, SETS)
    rows = [row for name in SETS for row in rows_of_set(chosen.data / name)]
    columns = ("set", "way", "queries", "mAP of the rest", "difference", "better", "worse")
    publish("wrong_hits", table(columns, rows), chosen.docs)


def rows_of_set(folder: Path) -> Iterator[list[str]]:
    photos = open_set(open_dataset(folder))
    results: dict[str, list[float]] = defaultdict(list)
    step = max(1, len(photos.queries) // QUERIES)
    for number in range(0, len(photos.queries), step):
        for way, ap in judged_ways(photos, number):
            results[way].append(ap)
    base = np.array(results[AS_IT_IS])
    for way, aps in results.items():
        gain = np.array(aps) - base
        interval = 1.96 * gain.std() / len(gain) ** 0.5
        yield [
            folder.name,
            way,
            str(len(aps)),
            f"{np.mean(aps):.3f}",
            "" if way == AS_IT_IS else f"{gain.mean():+.3f} ± {interval:.3f}",
            "" if way == AS_IT_IS else str(int((gain > 1e-6).sum())),
            "" if way == AS_IT_IS else str(int((gain < -1e-6).sum())),
        ]


def judged_ways(photos: PhotoSet, number: int) -> Iterator[tuple[str, float]]:
    """Yield each way with the average precision of the rest; nothing if no hit is wrong."""
    gallery = photos.gallery
    snapshot, graph = gallery.snapshot, gallery.graph
    assert graph is not None
    descriptor, keypoints = photos.queries[number], [photos.keypoints(number)]
    relevant = np.zeros(snapshot.photos, np.bool_)
    relevant[photos.rows] = photos.protocol.relevant(number)
    rows, similarities = exact.nearest(snapshot, descriptor, snapshot.photos)

    def ranked(descriptor: NDArray[np.float32], gone: NDArray[np.bool_], **without: Any) -> Scores:
        rows, similarities = exact.nearest(snapshot, descriptor, snapshot.photos, ~gone)
        found = rerank(gallery, descriptor, keypoints, rows, similarities, keep=~gone, **without)
        # The positions, since equal scores may have an order.
        scores = np.full(snapshot.photos, -np.inf)
        scores[found.rows] = -np.arange(len(found.rows), dtype=np.float64)
        return scores

    before = ranked(descriptor, np.zeros(snapshot.photos, np.bool_))
    in_gallery = np.isin(np.arange(snapshot.photos), photos.rows)
    first = [row for row in np.argsort(-before, kind="stable") if in_gallery[row]][:SHOWN_HITS]
    wrong = next((int(row) for row in first if not relevant[row]), None)
    if wrong is None or not relevant.any():
        return
    gone = graph.photo_of_row == graph.photo_of_row[wrong]
    without_it = ranked(descriptor, gone)
    near_wrong = nearness_of_rows(graph, [wrong])
    near_first = nearness_of_rows(graph, [int(np.argmax(without_it))])
    held_by_wrong = (near_wrong > near_first) & (near_wrong > MIN_NEARNESS)
    negative = snapshot.take(np.array([wrong]))[0]
    moved = descriptor - ROCCHIO_SHARE * negative
    moved /= np.linalg.norm(moved)
    nearer = np.zeros(snapshot.photos, np.bool_)
    nearer[rows] = exact.score(snapshot, negative, rows) > similarities
    last = snapshot.photos
    ways = {
        AS_IT_IS: before,
        "ranked as if it were not there": without_it,
        "the same, and no links through it": ranked(
            descriptor, gone, without=np.flatnonzero(gone).tolist()
        ),
        "those linked with it rather than with the first hit go last": np.where(
            held_by_wrong, without_it - last, without_it
        ),
        "those more similar to it than to the query go last": np.where(
            nearer, without_it - last, without_it
        ),
        f"{ROCCHIO_SHARE} of its descriptor subtracted from the query": ranked(moved, gone),
    }
    junk = gone[photos.rows]
    for way, scores in ways.items():
        judged = judge("", None, scores[photos.rows], relevant[photos.rows], junk=junk, keep=0)
        yield way, float(judged.ap)


if __name__ == "__main__":
    main()
