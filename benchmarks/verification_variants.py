"""More verification than a search does: what each way is worth, and what it costs.

    python -m benchmarks.verification_variants --data ../shared/data --docs docs/reranking.md

Each row is a whole search, with the graph. "Candidates by VLAD" verifies the photos that are
nearest by the VLAD of their keypoints, beside those that are nearest by descriptor. "Query at two
sizes" verifies with the keypoints of the query and of its reduction to a half. "The ten best again"
finds 2,048 keypoints of the query and of the first ten hits in photos of 960 pixels, verifies these
pairs and orders the ten by that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.keypoint_counts import ranked
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish, table
from benchmarks.reranking import PhotoSet, open_set
from veduta import photos
from veduta.datasets import open_dataset
from veduta.encoders import DEFAULT, load_encoder
from veduta.index.calibration import calibration_of
from veduta.keypoints import Keypoints, extract_reduced, load_extractor, verify_many, xfeat
from veduta.keypoints.vlad import aggregate, fit_centroids
from veduta.search import exact
from veduta.search.options import VERIFIED_PHOTOS
from veduta.search.reranking import Ranking, rerank

SETS = ("scenes", "same_place")
CENTROIDS = 128
SAMPLED_DESCRIPTORS = 100_000
REFINED_HITS, REFINED_KEYPOINTS, REFINED_SIDE = 10, 2048, 960


@dataclass(frozen=True)
class Search:
    """Searches of one set in several ways.

    Attributes:
        photos: the set.
    """

    photos: PhotoSet

    def default(self, number: int, verify: int = VERIFIED_PHOTOS) -> Ranking:
        """Verify the nearest photos by descriptor."""
        return self._reranked(number, *self._nearest(number), verify=verify)

    def with_vlad(self, number: int) -> Ranking:
        """Verify the nearest photos by VLAD, too."""
        rows, similarities = self._nearest(number)
        vlads, centroids = self._vlads
        alike = vlads @ aggregate(self.photos.keypoints(number).descriptors, centroids)
        added = np.argsort(-alike, kind="stable")[:VERIFIED_PHOTOS]
        first = np.union1d(rows[:VERIFIED_PHOTOS], added)
        is_first = np.isin(rows, first)
        order = np.concatenate([np.flatnonzero(is_first), np.flatnonzero(~is_first)])
        return self._reranked(number, rows[order], similarities[order], verify=len(first))

    def at_two_sizes(self, number: int) -> Ranking:
        """Verify with the keypoints of the reduced query, too."""
        photo = photos.load(self._file(self.photos.protocol.queries[number]), at_least=640)
        extractor = load_extractor()
        reduced = extract_reduced(extractor, photo.pixels, photo.width, photo.height)
        return self._reranked(number, *self._nearest(number), further=[reduced])

    def with_best_again(self, number: int) -> Ranking:
        """Verify the first hits again, with more keypoints of larger photos."""
        ranking = self.default(number)
        best = ranking.rows[:REFINED_HITS]
        number_of_row = {int(row): n for n, row in enumerate(self.photos.rows)}
        gallery = self.photos.protocol.gallery
        query = refined_keypoints(self._file(self.photos.protocol.queries[number]))
        others = [refined_keypoints(self._file(gallery[number_of_row[int(r)]])) for r in best]
        found = verify_many(query, others, xfeat.XFeat.matching)
        consistent = np.array([one.consistent_matches for one in found])
        usual = self.photos.gallery.sample_descriptors @ self.photos.queries[number]
        deviations = (ranking.similarities[:REFINED_HITS] - usual.mean()) / usual.std()
        weights = calibration_of(load_encoder(DEFAULT).identity, "xfeat", REFINED_KEYPOINTS)
        order = np.argsort(-weights.pair_logit(deviations, consistent), kind="stable")
        rows = np.concatenate([best[order], ranking.rows[REFINED_HITS:]])
        return Ranking(rows, ranking.similarities, ranking.scores)

    def _nearest(self, number: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        snapshot = self.photos.gallery.snapshot
        return exact.nearest(snapshot, self.photos.queries[number], snapshot.photos)

    def _reranked(
        self,
        number: int,
        rows: NDArray[np.intp],
        similarities: NDArray[np.float32],
        *,
        verify: int = VERIFIED_PHOTOS,
        further: Sequence[Keypoints] = (),
    ) -> Ranking:
        keypoints = [self.photos.keypoints(number), *further]
        query = self.photos.queries[number]
        return rerank(self.photos.gallery, query, keypoints, rows, similarities, verify=verify)

    def _file(self, number: int) -> Path:
        return self.photos.dataset.files[int(number)]

    @cached_property
    def _vlads(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the VLAD of each row, (n, k * d), and the centroids (k, d)."""
        stored = self.photos.gallery.keypoints
        assert stored is not None
        count = self.photos.gallery.snapshot.photos
        descriptors = [stored.read(row).descriptors for row in range(count)]
        every = np.concatenate(descriptors)
        chosen = np.random.default_rng(0).permutation(len(every))[:SAMPLED_DESCRIPTORS]
        centroids = fit_centroids(every[chosen], CENTROIDS)
        return np.stack([aggregate(one, centroids) for one in descriptors]), centroids


WAYS: dict[str, Callable[[Search, int], Ranking]] = {
    "the default: 50 photos": Search.default,
    "20 photos": lambda search, number: search.default(number, 20),
    "100 photos": lambda search, number: search.default(number, 100),
    "200 photos": lambda search, number: search.default(number, 200),
    "candidates by VLAD": Search.with_vlad,
    "query at two sizes": Search.at_two_sizes,
    "the ten best again": Search.with_best_again,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("verification_variants", __doc__)
    add_data_option(options)
    options.add_argument("--sets", nargs="+", default=SETS)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, chosen.sets)
    cells: dict[str, list[str]] = {name: [] for name in WAYS}
    for photo_set in chosen.sets:
        photos_of_set = open_set(open_dataset(chosen.data / photo_set))
        search, right = Search(photos_of_set), right_answers(photos_of_set)
        search.with_vlad(0)  # The VLADs are made once, and do not count.
        for name, way in WAYS.items():
            started = time.process_time()
            scores = np.zeros(right.shape)
            for number in range(len(right)):
                rows = way(search, number).rows
                scores[number, rows] = np.arange(len(rows), 0, -1)
            milliseconds = (time.process_time() - started) / len(right) * 1e3
            cells[name] += [ranked(scores, right), f"{milliseconds:.0f}"]
            print(photo_set, name, *cells[name][-2:], flush=True)
    head = [
        "verified",
        *(f"{name}{what}" for name in chosen.sets for what in (", top-1 / mAP", ", ms")),
    ]
    rows_of_table = [[name, *row] for name, row in cells.items()]
    note = "The milliseconds are processor time of a query, without those of its network."
    publish("verification_variants", f"{table(head, rows_of_table)}\n\n{note}", chosen.docs)


def right_answers(photo_set: PhotoSet) -> NDArray[np.bool_]:
    """Return which rows are right for each query, (Q, n)."""
    protocol = photo_set.protocol
    right = np.zeros((len(protocol.queries), photo_set.gallery.snapshot.photos), np.bool_)
    gallery_paths = photo_set.paths(protocol.gallery)
    for number, path in enumerate(photo_set.paths(protocol.queries)):
        listed = photo_set.corridor.get(path, set())
        right[number, photo_set.rows] = protocol.relevant(number) | np.isin(
            gallery_paths, list(listed)
        )
    return right


def refined_keypoints(file: Path) -> Keypoints:
    """Return many keypoints of a photo at a larger size."""
    with patch.object(xfeat, "LONG_SIDE", REFINED_SIDE):
        extractor = xfeat.XFeat.load(REFINED_KEYPOINTS, threads=1)
        photo = photos.load(file, at_least=REFINED_SIDE)
        return extractor.extract(photo.pixels, photo.width, photo.height)


if __name__ == "__main__":
    main()
