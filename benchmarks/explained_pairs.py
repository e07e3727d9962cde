"""Queries with a right hit that keypoints verify: what maps of a similarity are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import corridor_positives
from veduta import photos
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import Encoder
from veduta.explanation.scorers import Scorer, similarity_scorer
from veduta.keypoints import load_extractor, overlap, verify

CANDIDATES = 6
"""Right photos of a query among which the nearest verified one is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedPair:
    """A query and a right hit.

    Attributes:
        query: (h, w, 3) uint8, at the long side at which the network runs.
        hit: (h', w', 3) uint8, likewise.
        descriptor: (D,) float32 of the hit.
        shared: (h, w), the pixels of the query within the polygon of the inliers.
        scorer: gives the similarity of changed queries to the hit.
    """

    query: NDArray[np.uint8]
    hit: NDArray[np.uint8]
    descriptor: NDArray[np.float32]
    shared: NDArray[np.bool_]
    scorer: Scorer


def verified_pairs(folder: Path, encoder: Encoder, side: int, number: int) -> list[VerifiedPair]:
    """Return pairs of different queries, drawn with a fixed seed.

    Args:
        folder: of a set.
        encoder: gives the similarities.
        side: long side of the photos, in pixels.
        number: how many pairs at most.
    """
    return list(islice(_pairs(folder, encoder, side), number))


def _pairs(folder: Path, encoder: Encoder, side: int) -> Iterator[VerifiedPair]:
    dataset = open_dataset(folder)
    protocol = retrieval_protocol(dataset)
    names = dataset.table["path"].to_pylist()
    positives = corridor_positives(folder)
    extractor = load_extractor()
    generator = np.random.default_rng(0)
    gallery = protocol.gallery
    for at in generator.permutation(len(protocol.queries)).tolist():
        row = int(protocol.queries[at])
        relevant = protocol.relevant(at)
        if names[row] in positives:
            relevant = np.isin([names[other] for other in gallery], list(positives[names[row]]))
        right = [other for other in gallery[relevant].tolist() if other != row]
        chosen = generator.permutation(right)[:CANDIDATES].tolist()
        query, *others = (
            photos.load(folder / names[one], at_least=extractor.long_side) for one in (row, *chosen)
        )
        small = [reduced(photo.pixels, side) for photo in (query, *others)]
        own, *rest = encoder.encode([encoder.prepare(pixels) for pixels in small])
        points = extractor.extract(query.pixels, query.width, query.height)
        for place in sorted(range(len(others)), key=lambda place: -float(rest[place] @ own)):
            other = others[place]
            there = extractor.extract(other.pixels, other.width, other.height)
            found = verify(points, there, extractor.matching.pairs(points, there))
            regions = overlap(points, there, found)
            if regions is not None:
                size = np.array([points.width, points.height])
                scorer = similarity_scorer(encoder, rest[place])
                shared = _filled(regions[0] / size, small[0].shape)
                yield VerifiedPair(small[0], small[place + 1], rest[place], shared, scorer)
                break


def reduced(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a photo with a long side of `side` pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    return photos.resize(pixels, max(1, round(scale * width)), max(1, round(scale * height)))


def _filled(corners: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixels lie in a polygon, whose corners are shares of the width and height."""
    import cv2

    area = np.zeros(shape[:2], dtype=np.uint8)
    polygon = np.rint(corners * [shape[1], shape[0]]).astype(np.int32)
    cv2.fillPoly(area, [polygon], 1)
    return area.astype(np.bool_)
