"""Keypoints in fewer bytes: what each form of storage keeps, and how long it takes to read.

    python -m benchmarks.keypoint_bytes --data ../shared/data --docs docs/reranking.md

All forms store the same keypoints. The nearest photos of each query are verified, with the query as
it was found, as in a search. The nearest few are verified again with both photos as they are
stored, as two photos of one index are. The neighbour graph takes no part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.keypoint_counts import (
    LabelledPhotos,
    first_hits_and_precisions,
    in_deviations,
    precision,
    read_set,
    recall,
    recall_at_precision,
)
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import format_number, parser, publish, table
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.bootstrap import paired_bootstrap
from veduta.index.calibration import calibration_of
from veduta.keypoints import Keypoints, verify, xfeat
from veduta.search.options import VERIFIED_PHOTOS

SETS = ("landmarks30", "same_place", "scenes", "objects20", "domains4")
LINKED_PHOTOS = 8
"""Of each query, for pairs of two stored photos."""


@dataclass(frozen=True, slots=True)
class Form:
    """A number of keypoints, with the bits of each number of a descriptor."""

    count: int
    bits: int

    def packed(self, keypoints: Keypoints) -> bytes:
        """Return what an index stores."""
        return keypoints.best(self.count).pack(self.bits)

    def stored(self, keypoints: Keypoints) -> Keypoints:
        """Return what is read from an index."""
        return Keypoints.unpack(self.packed(keypoints), keypoints.width, keypoints.height)


USUAL = Form(1024, 4)
FORMS = (USUAL, Form(1024, 2), Form(512, 4))


@dataclass(frozen=True, slots=True)
class Verified:
    """What geometry says of pairs, (Q, G) each. Other pairs have zeros."""

    consistent: NDArray[np.float64]
    inliers: NDArray[np.float64]
    is_verified: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("keypoint_bytes", __doc__)
    add_data_option(options)
    options.add_argument("--sets", nargs="+", default=SETS)
    options.add_argument("--nearest", type=int, default=VERIFIED_PHOTOS, help="photos a query")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, chosen.sets)
    parts = []
    columns = [
        "keypoints",
        "bits",
        "kB a photo",
        "ms to store, read",
        "top-1 / mAP",
        "mAP beside 4 bits, 95 %",
        "verified: right pairs, precision",
        "right pairs at precision 0.99, by inliers",
        "both stored: right pairs, precision",
    ]
    for name in chosen.sets:
        labelled = read_set(chosen.data / name, {xfeat.LONG_SIDE})
        rows = list(rows_of(labelled, chosen.nearest))
        parts.append(f"{name}:\n\n{table(columns, rows)}")
        print(parts[-1], flush=True)
    publish("keypoint_bytes", "\n\n".join(parts), chosen.docs)


def rows_of(labelled: LabelledPhotos, photos_a_query: int) -> Iterator[list[object]]:
    """Yield a row for each form."""
    right, similarities = labelled.right, labelled.similarities
    deviations = in_deviations(similarities)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :photos_a_query]
    found = labelled.keypoints[xfeat.LONG_SIDE]
    queries, gallery = found[: len(right)], found[len(right) :]
    linked = np.zeros(right.shape, np.bool_)
    np.put_along_axis(linked, nearest[:, :LINKED_PHOTOS], True, axis=1)
    results = {}
    for form in FORMS:
        # As in a search, the query is not rounded.
        asked = [query.best(form.count) for query in queries]
        stored = [form.stored(one) for one in gallery]
        searched = verified_pairs(asked, stored, nearest)
        both = [form.stored(query) for query in queries]
        links = verified_pairs(both, stored, nearest[:, :LINKED_PHOTOS])
        calibration = calibration_of(load_encoder(DEFAULT).identity, "xfeat", form.count)
        scores = calibration.pair_logit(deviations, searched.consistent)
        results[form] = (searched, links, *first_hits_and_precisions(scores, right))
    usual = results[USUAL][3]
    for form in FORMS:
        searched, links, first, precisions = results[form]
        yield [
            form.count,
            form.bits,
            f"{max(len(form.packed(one)) for one in gallery) / 1000:.1f}",
            times_of(form, gallery[:: max(1, len(gallery) // 50)]),
            f"{first.mean():.3f} / {precisions.mean():.3f}",
            difference(usual, precisions) if form != USUAL else "–",
            shares(searched.is_verified, right),
            f"{recall_at_precision(searched.inliers, right, 0.99):.3f}",
            shares(links.is_verified, right & linked),
        ]


def verified_pairs(
    queries: list[Keypoints], gallery: list[Keypoints], nearest: NDArray[np.intp]
) -> Verified:
    """Verify each query with the photos of its row of `nearest`."""
    shape = len(queries), len(gallery)
    result = Verified(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.bool_))
    for number, rows in enumerate(nearest):
        for row in rows:
            pair = queries[number], gallery[row]
            said = verify(*pair, xfeat.XFeat.matching.pairs(*pair))
            result.consistent[number, row] = said.consistent_matches
            result.inliers[number, row] = len(said.inliers)
            result.is_verified[number, row] = said.model is not None
    return result


def shares(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> str:
    """Return recall and precision."""
    return f"{recall(said, right):.3f}, {precision(said, right):.3f}"


def difference(usual: NDArray[np.float64], precisions: NDArray[np.float64]) -> str:
    """Return the mean of differences (Q,), and its interval."""
    compared = paired_bootstrap(usual[:, None], precisions[:, None])
    low, high = np.ravel(compared.interval)
    return f"{compared.difference[0]:+.3f} ({low:+.3f} to {high:+.3f})"


def times_of(form: Form, sample: list[Keypoints]) -> str:
    """Return the median processor time to store and to read the keypoints of a photo."""
    packed = [form.packed(one) for one in sample]
    size = sample[0].width, sample[0].height
    jobs: list[list[Callable[[], object]]] = [
        [lambda one=one: form.packed(one) for one in sample],
        [lambda data=data: Keypoints.unpack(data, *size) for data in packed],
    ]
    medians = []
    for calls in jobs:
        seconds = []
        for call in calls:
            started = time.thread_time()
            call()
            seconds.append(time.thread_time() - started)
        medians.append(format_number(float(np.median(seconds)) * 1e3))
    return ", ".join(medians)


if __name__ == "__main__":
    main()
