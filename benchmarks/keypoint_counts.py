"""How many keypoints, on which size, with how many bits: what each choice is worth, and costs.

    python -m benchmarks.keypoint_counts --data ../shared/data --docs docs/reranking.md

The nearest photos of each query are verified with each choice. Queries and gallery have the same
bits here, as in `veduta evaluate`. The neighbour graph takes no part. With other numbers than
those of the default the weights of the evidence are those of the default, with the matches by
chance and the inliers that are asked for in proportion to the number of keypoints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, corridor_positives, require_sets
from benchmarks.report import parser, publish, table
from veduta import photos
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.index.calibration import calibration_of
from veduta.keypoints import Keypoints, MutualMatching, load_extractor, verify, xfeat
from veduta.search.options import VERIFIED_PHOTOS

SETS = ("scenes", "same_place")
MOST_KEYPOINTS = 2048
MIN_SIMILARITY_OF_BITS = 0.80
"""The share of equal bits of two matching descriptors of one bit a number: it finds as many matches
as the limit of the cosine does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Keypoints of one kind.

    Attributes:
        count: the largest number.
        long_side: of the photo for the network, in pixels.
        bits: of each number of a descriptor.
    """

    count: int
    long_side: int = 640
    bits: int = 8

    def of(self, keypoints: Keypoints) -> Keypoints:
        """Return the best of many keypoints, as they are read from an index."""
        best = replace(
            keypoints,
            xy=keypoints.xy[: self.count],
            descriptors=keypoints.descriptors[: self.count],
        )
        if self.bits == 1:
            return replace(best, descriptors=np.packbits(best.descriptors > 0, axis=1))
        return Keypoints.unpack(best.pack(self.bits), best.width, best.height)

    @property
    def stored_kilobytes(self) -> float:
        """What the keypoints of a photo take."""
        return (12 + self.count * (4 + 64 * self.bits / 8)) / 1000


CHOICES = (
    Choice(512),
    Choice(1024),
    Choice(1024, bits=4),
    Choice(1024, bits=1),
    Choice(2048),
    Choice(1024, long_side=960),
    Choice(2048, long_side=960),
)


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """A set. The queries are the first Q of its photos, the gallery the others.

    Attributes:
        descriptors: (Q + G, d).
        right: (Q, G) bool.
        keypoints: of each photo, by the long side of the photo for the network.
        milliseconds: that the keypoints of a photo took, by the same.
    """

    descriptors: NDArray[np.float32]
    right: NDArray[np.bool_]
    keypoints: dict[int, list[Keypoints]]
    milliseconds: dict[int, float]

    @property
    def similarities(self) -> NDArray[np.float32]:
        """The cosines (Q, G) of queries and gallery."""
        queries = len(self.right)
        return self.descriptors[:queries] @ self.descriptors[queries:].T


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("keypoint_counts", __doc__)
    add_data_option(options)
    options.add_argument("--sets", nargs="+", default=SETS)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, chosen.sets)
    columns = [
        "keypoints",
        "pixels",
        "bits",
        "kB a photo",
        "ms to find",
        "ms to verify a pair",
        "top-1 / mAP",
        "verified: right pairs, precision",
        "right pairs at precision 0.99, by inliers",
    ]
    parts = []
    for name in chosen.sets:
        labelled = read_set(chosen.data / name, {choice.long_side for choice in CHOICES})
        parts.append(f"{name}:\n\n{table(columns, list(rows_of(labelled)))}")
    publish("keypoint_counts", "\n\n".join(parts), chosen.docs)


def read_set(folder: Path, sides: set[int]) -> LabelledPhotos:
    """Describe the photos of a set, and find their keypoints at sizes that include the usual."""
    dataset = open_dataset(folder)
    protocol = retrieval_protocol(dataset)
    numbers = [*protocol.queries.tolist(), *protocol.gallery.tolist()]
    encoder = load_encoder(DEFAULT)
    keypoints: dict[int, list[Keypoints]] = {}
    milliseconds = {}
    descriptors = []
    for side in sorted(sides):
        keypoints[side] = []
        seconds = []
        with patch.object(xfeat, "LONG_SIDE", side):
            extractor = xfeat.XFeat.load(MOST_KEYPOINTS, threads=1)
            for number in numbers:
                photo = photos.load(dataset.files[number], at_least=side)
                start = time.process_time()
                found = extractor.extract(photo.pixels, photo.width, photo.height)
                seconds.append(time.process_time() - start)
                keypoints[side].append(found)
                if side == load_extractor().long_side:
                    descriptors.append(encoder.encode([encoder.prepare(photo.pixels)])[0])
        milliseconds[side] = float(np.median(seconds)) * 1e3
    right = np.stack([protocol.relevant(number) for number in range(len(protocol.queries))])
    positives = corridor_positives(folder)
    paths = dataset.paths
    for number, photo_number in enumerate(protocol.queries):
        if listed := positives.get(paths[photo_number]):
            right[number] |= np.isin([paths[n] for n in protocol.gallery], list(listed))
    return LabelledPhotos(np.stack(descriptors), right, keypoints, milliseconds)


def rows_of(labelled: LabelledPhotos) -> Iterator[list[object]]:
    """Yield a row for each choice."""
    queries = len(labelled.right)
    similarities = labelled.similarities
    deviations = in_deviations(similarities)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :VERIFIED_PHOTOS]
    for choice in CHOICES:
        found = [choice.of(one) for one in labelled.keypoints[choice.long_side]]
        is_bits = choice.bits == 1
        matching = MutualMatching(MIN_SIMILARITY_OF_BITS if is_bits else xfeat.MIN_SIMILARITY)
        consistent, inliers = np.zeros(similarities.shape), np.zeros(similarities.shape)
        verified = np.zeros(similarities.shape, np.bool_)
        start = time.process_time()
        for query in range(queries):
            for row in nearest[query]:
                pair = found[query], found[queries + row]
                result = verify(*pair, matching.pairs(*pair))
                consistent[query, row] = result.consistent_matches
                inliers[query, row] = len(result.inliers)
                verified[query, row] = result.model is not None
        seconds = time.process_time() - start
        calibration = calibration_of(load_encoder(DEFAULT).identity, "xfeat", choice.count)
        scores = calibration.pair_logit(deviations, consistent)
        yield [
            choice.count,
            choice.long_side,
            choice.bits,
            f"{choice.stored_kilobytes:.1f}",
            f"{labelled.milliseconds[choice.long_side]:.0f}",
            f"{seconds / nearest.size * 1e3:.2f}",
            ranked(scores, labelled.right),
            f"{recall(verified, labelled.right):.3f}, {precision(verified, labelled.right):.3f}",
            f"{recall_at_precision(inliers, labelled.right, 0.99):.3f}",
        ]


def in_deviations(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how many standard deviations of its query each similarity (Q, G) is above the mean."""
    centred = similarities - similarities.mean(axis=1, keepdims=True)
    return centred / similarities.std(axis=1, keepdims=True)


def ranked(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> str:
    """Return top-1 and mAP of scores (Q, G)."""
    first, precisions = first_hits_and_precisions(scores, right)
    return f"{first.mean():.3f} / {precisions.mean():.3f}"


def first_hits_and_precisions(
    scores: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether the first hit of each query is right, and its average precision, (Q,) each."""
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(right, order, axis=1)
    precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return hits[:, 0], (precisions * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def recall(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Return the share of the right pairs that are said to be right."""
    return float((said & right).sum() / right.sum())


def precision(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Return the share of the pairs said to be right that are."""
    return float((said & right).sum() / max(1, said.sum()))


def recall_at_precision(
    values: NDArray[np.floating], right: NDArray[np.bool_], wanted: float
) -> float:
    """Return the largest recall of a limit of `values` that is precise enough."""
    limits = np.unique(values[values > 0])
    recalls = [
        recall(values >= limit, right)
        for limit in limits
        if precision(values >= limit, right) >= wanted
    ]
    return max(recalls, default=0.0)


if __name__ == "__main__":
    main()
