"""Groups: how well `veduta group` finds the places of a collection without its labels.

No number was chosen for groups. What a geometric model and a verdict need is that of searches,
which same_place and, in part, landmarks30 influenced; scenes did not. The ways to hold photos
together were compared on all three sets.
"""

from __future__ import annotations

import csv
import os
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from time import process_time

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, corridor_positives, require_sets
from benchmarks.report import check_target, format_number, parser, publish, table
from veduta.datasets import Dataset, RetrievalProtocol, open_dataset
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.explore.connectivity import parts_of_graph
from veduta.explore.photo_groups import find_groups
from veduta.explore.verified_links import VerifiedLinks, verified_links
from veduta.index import Manifest, Snapshot, open_snapshot, photos_of
from veduta.index.calibration import calibration_of_index, probability
from veduta.index.distinct_photos import SAMPLE_PHOTOS, distinct_photos
from veduta.index.graph import calibration_of_links, linked_pairs
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.pair_verification import verify_pairs
from veduta.keypoints import Verification, load_extractor
from veduta.search.verdict import (
    DIFFERENT_PLACES,
    MIN_SAME_PROBABILITY,
    SAME_PLACE,
    verdict_on,
)

SETS = {
    "landmarks30": ("gallery", "distractor"),
    "scenes": ("query", "gallery", "distractor"),
    "same_place": ("query", "gallery"),
}
"""Set → the splits whose photos are grouped."""

ALSO_SHOWN_FILE = Path(__file__).with_name("landmarks30_also_shown.csv")
CORRIDOR = "corridor_"
MIN_PRECISION, MIN_RECALL = 0.98, 0.8
SCALE_PHOTOS, SCALE_LINKS = 100_000, 150_000

Same = NDArray[np.bool_]
"""(n, n), which photos show the same."""

Clusters = NDArray[np.intp]
"""(n,), the group of each photo. A photo in no group is alone."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("groups", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, tuple(SETS))
    collections = [Collection.open(chosen.data / name, splits) for name, splits in SETS.items()]
    body = "\n\n".join(
        (
            result_table(collections),
            "#### Other ways to hold photos together",
            ways_table(collections),
            scale(),
        )
    )
    publish("groups", body, chosen.docs)


@dataclass(frozen=True)
class Collection:
    """A set that is grouped as if it had no labels.

    Attributes:
        name: of the set.
        index: its index.
        snapshot: of the index.
        paths: (n,) of the photos, in the order of the rows.
        same_label: which photos have the same label. Distractors are alone.
        same_by_sight: which photos show the same for a person: also those in
            `landmarks30_also_shown.csv`, and the corridor of same_place as one place.
        known_pairs: (p, 2) rows of pairs that show the same, whether they are found or not.
        links: verified links between photos.
    """

    name: str
    index: Path
    snapshot: Snapshot
    paths: list[str]
    same_label: Same
    same_by_sight: Same
    known_pairs: NDArray[np.int64]
    links: VerifiedLinks

    @classmethod
    def open(cls, folder: Path, splits: Sequence[str]) -> Collection:
        dataset = open_dataset(folder)
        rows = [n for n, split in enumerate(dataset.splits) if split in splits]

        def grouped_photos(dataset: Dataset) -> RetrievalProtocol:
            photos = np.array(rows, np.int64)
            no_class = np.full(len(photos), -1, np.int32)
            return RetrievalProtocol(photos, photos, 0, True, no_class, no_class)

        encoder, extractor = load_encoder(DEFAULT), load_extractor()
        indexed = index_dataset(dataset, grouped_photos, encoder, extractor, progress)
        snapshot = open_snapshot(indexed.gallery_index)
        row_of = {
            os.path.abspath(dataset.root / path): number
            for number, path in enumerate(dataset.paths)
        }
        order = [row_of[photo.path] for photo in photos_of(snapshot)]
        paths = [dataset.paths[row] for row in order]
        labels = [dataset.labels[row] or "" for row in order]
        shown = [{label} - {""} for label in labels]
        shown_by_sight = [
            {CORRIDOR} if label.startswith(CORRIDOR) else {label} - {""} for label in labels
        ]
        for path, place in also_shown(folder.name):
            shown_by_sight[paths.index(path)].add(place)
        positives = corridor_positives(folder)
        known = {
            (a, b)
            for a, b in combinations(range(len(paths)), 2)
            if shown[a] & shown[b]
            or paths[b] in positives.get(paths[a], ())
            or paths[a] in positives.get(paths[b], ())
        }
        return cls(
            folder.name,
            indexed.gallery_index,
            snapshot,
            paths,
            shares_a_place(shown),
            shares_a_place(shown_by_sight),
            np.array(sorted(known), np.int64),
            verified_links(indexed.gallery_index, snapshot),
        )

    def clusters(self, parts: Sequence[Sequence[int]]) -> Clusters:
        """Return the group of each photo, from groups of photos of the links."""
        number = np.arange(len(self.paths))
        for part in parts:
            number[part] = part[0]
        return number[self.links.photo_of_row]

    def grouped(self) -> Clusters:
        """Return the group of each photo by the command itself."""
        row_of = {photo.path: row for row, photo in enumerate(photos_of(self.snapshot))}
        number = np.arange(len(self.paths))
        for group in find_groups(self.index):
            rows = [row_of[photo.path] for photo in group.photos]
            number[rows] = rows[0]
        return number

    def candidates(self) -> int:
        """Return how many pairs the command verifies."""
        manifest = Manifest.read(self.index)
        linked = linked_pairs(self.index, manifest, self.snapshot)
        assert linked is not None and linked.consistent_matches is not None
        by_chance = calibration_of_links(manifest).chance_matches
        return int((linked.consistent_matches > by_chance).sum())

    def verified_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the known pairs that geometry verifies, whether they are neighbours or not.

        Returns:
            (v, 2) rows, and (v,) whether the verdict is "same place".
        """
        manifest = Manifest.read(self.index)
        extractor = extractor_of_index(manifest)
        assert extractor is not None
        calibration = calibration_of_index(manifest)
        photos = distinct_photos(self.snapshot)
        descriptors = self.snapshot.descriptors.astype(np.float64)
        sample = descriptors[photos.row_of_photo[:SAMPLE_PHOTOS]]
        mean, std = calibration.background.estimate(descriptors @ sample.T)
        # The first photo is the one with the smaller hash, as in the graph.
        photo = photos.photo_of_row[self.known_pairs]
        pairs = np.take_along_axis(self.known_pairs, np.argsort(photo, axis=1), axis=1)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        a, b = pairs.T
        similarities = np.einsum("pd,pd->p", descriptors[a], descriptors[b])
        deviations = ((similarities - mean[a]) / std[a] + (similarities - mean[b]) / std[b]) / 2
        verdicts = np.full(len(pairs), DIFFERENT_PLACES, object)

        def note(part: slice, found: Sequence[Verification]) -> None:
            logits = calibration.pair_logit(
                deviations[part], np.array([float(one.consistent_matches) for one in found])
            )
            verdicts[part] = [
                verdict_on(float(chance), one.model, one.inlier_coverage)
                if one.model
                else DIFFERENT_PLACES
                for chance, one in zip(probability(logits), found, strict=True)
            ]

        keypoints = StoredKeypoints(self.index, self.snapshot)
        verify_pairs(keypoints, a, b, extractor.matching, note, pair_progress)
        holds = verdicts != DIFFERENT_PLACES
        return pairs[holds], verdicts[holds] == SAME_PLACE


def progress(stage: str, done: int, total: int) -> None:
    if done % 100 == 0:
        print(f"{stage}: {done} of {total}", flush=True)


def pair_progress(done: int, total: int) -> None:
    print(f"pairs: {done} of {total}", flush=True)


def also_shown(name: str) -> list[tuple[str, str]]:
    """Return (path, place) for photos of landmarks30 that show a place besides their label."""
    if name != "landmarks30":
        return []
    with ALSO_SHOWN_FILE.open(newline="", encoding="utf-8") as lines:
        return [(row["photo"], row["shows"]) for row in csv.DictReader(lines)]


def shares_a_place(shown: Sequence[set[str]]) -> Same:
    """Return which photos show one place at least together. A photo shows what itself shows."""
    same = np.eye(len(shown), dtype=bool)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, places in enumerate(shown):
        for place in places:
            rows_of[place].append(row)
    for rows in rows_of.values():
        same[np.ix_(rows, rows)] = True
    return same


@dataclass(frozen=True, slots=True)
class Score:
    """How well groups agree with what photos show.

    Attributes:
        pairs: pairs of photos in one group.
        right: those that show the same.
        bcubed: precision, recall and F (A. Bagga, B. Baldwin, Entity-based cross-document
            coreferencing using the vector space model, COLING-ACL 1998): means over the photos.
    """

    pairs: int
    right: int
    bcubed: tuple[float, float, float]

    @classmethod
    def of(cls, clusters: Clusters, same: Same) -> Score:
        together = clusters[:, None] == clusters
        both = together & same
        count = len(clusters)
        precision = float((both.sum(axis=1) / together.sum(axis=1)).mean())
        recall = float((both.sum(axis=1) / same.sum(axis=1)).mean())
        return cls(
            (int(together.sum()) - count) // 2,
            (int(both.sum()) - count) // 2,
            (precision, recall, 2 * precision * recall / (precision + recall)),
        )

    @property
    def precision(self) -> float:
        return self.right / self.pairs if self.pairs else 1.0


def recall_of(clusters: Clusters, pairs: NDArray[np.int64]) -> float:
    return float((clusters[pairs[:, 0]] == clusters[pairs[:, 1]]).mean())


def result_table(collections: Sequence[Collection]) -> str:
    rows: list[list[object]] = []
    targets = []
    for collection in collections:
        clusters = collection.grouped()
        sizes = np.bincount(clusters)
        verified, is_same_place = collection.verified_pairs()
        by_label = Score.of(clusters, collection.same_label)
        by_sight = Score.of(clusters, collection.same_by_sight)
        recall = recall_of(clusters, verified)
        rows.append(
            [
                collection.name,
                len(clusters),
                f"{collection.candidates():,}",
                int((sizes > 1).sum()),
                int(sizes[sizes > 1].sum()),
                int(sizes.max()),
                f"{by_sight.pairs:,}",
                f"{by_label.precision:.4f}",
                f"{by_sight.precision:.4f} ({by_sight.pairs - by_sight.right} wrong)",
                " / ".join(f"{figure:.3f}" for figure in by_sight.bcubed),
                f"{recall:.3f} of {len(verified):,}",
                f"{recall_of(clusters, verified[is_same_place]):.3f}",
            ]
        )
        targets.append(
            f"{collection.name}: precision by sight "
            f"{check_target(by_sight.precision, MIN_PRECISION, at_least=True)}, recall "
            f"{check_target(recall, MIN_RECALL, at_least=True)}."
        )
    head = [
        "set",
        "photos",
        "pairs verified",
        "groups",
        "photos in groups",
        "largest",
        "pairs in groups",
    ]
    head += ["precision by labels", "precision by sight", "BCubed P / R / F by sight"]
    head += ["recall of verified pairs", "of those called *same place*"]
    return f"{table(head, rows)}\n\n{' '.join(targets)}"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to hold photos together.

    Attributes:
        name: of the way.
        links: returns the links of a collection.
        parts: returns the groups of photos of the links.
    """

    name: str
    links: Callable[[Collection], VerifiedLinks]
    parts: Callable[[VerifiedLinks], list[list[int]]]


def links_of_command(collection: Collection) -> VerifiedLinks:
    return collection.links


def probable_links(collection: Collection) -> VerifiedLinks:
    """Return the pairs that have a high probability by what the graph stores, model or not."""
    linked = linked_pairs(collection.index, Manifest.read(collection.index), collection.snapshot)
    assert linked is not None
    assert linked.probabilities is not None
    assert linked.consistent_matches is not None
    chosen = linked.probabilities >= MIN_SAME_PROBABILITY
    pairs = np.stack([linked.first, linked.second], axis=1)[chosen]
    strengths = linked.consistent_matches[chosen].astype(np.int64)
    return VerifiedLinks(linked.photos.photo_of_row, pairs, strengths)


def probable_links_with_model(collection: Collection) -> VerifiedLinks:
    probable = set(map(tuple, probable_links(collection).pairs.tolist()))
    links = collection.links
    chosen = [tuple(pair) in probable for pair in links.pairs.tolist()]
    return replace(links, pairs=links.pairs[chosen], inliers=links.inliers[chosen])


def without_bridges(links: VerifiedLinks) -> list[list[int]]:
    return parts_of_graph(links.pairs, links.inliers)


def all_links(links: VerifiedLinks) -> list[list[int]]:
    return sorted(map(sorted, nx.connected_components(nx.Graph(links.pairs.tolist()))))


def communities(links: VerifiedLinks) -> list[list[int]]:
    found = nx.community.louvain_communities(nx.Graph(links.pairs.tolist()), seed=0)
    return sorted(map(sorted, found))


def strongest_first(links: VerifiedLinks) -> list[list[int]]:
    """Join parts, the strongest link first; two parts of two photos or more by two links."""
    part_of: dict[int, list[int]] = {photo: [photo] for photo in links.pairs.ravel().tolist()}
    between: Counter[frozenset[int]] = Counter()
    for position in np.argsort(-links.inliers, kind="stable").tolist():
        one, other = (part_of[photo] for photo in links.pairs[position].tolist())
        if one is other:
            continue
        key = frozenset((one[0], other[0]))
        between[key] += 1
        if min(len(one), len(other)) > 1 and between[key] < 2:
            continue
        gone = other[0]
        one.extend(other)
        part_of.update(dict.fromkeys(other, one))
        for pair in [pair for pair in between if gone in pair]:
            count = between.pop(pair)
            (rest,) = pair - {gone}
            if rest != one[0]:
                between[frozenset((one[0], rest))] += count
    return [list(part) for part in sorted({tuple(sorted(part)) for part in part_of.values()})]


WAYS = (
    Way("**no bridges** (the command)", links_of_command, without_bridges),
    Way("all links", links_of_command, all_links),
    Way("Louvain communities", links_of_command, communities),
    Way("strongest first", links_of_command, strongest_first),
    Way("no bridges, a model and a probability of 0.9", probable_links_with_model, without_bridges),
    Way("no bridges, a probability of 0.9 without a model", probable_links, without_bridges),
)


def ways_table(collections: Sequence[Collection]) -> str:
    rows: list[list[object]] = []
    for collection in collections:
        for way in WAYS:
            links = way.links(collection)
            row_of = {int(photo): row for row, photo in enumerate(links.photo_of_row)}
            wrong = sum(
                not collection.same_by_sight[row_of[a], row_of[b]] for a, b in links.pairs.tolist()
            )
            clusters = collection.clusters(way.parts(links))
            score = Score.of(clusters, collection.same_by_sight)
            rows.append(
                [
                    f"{collection.name}: {way.name}",
                    f"{len(links.pairs):,} ({wrong} wrong)",
                    int(np.bincount(clusters).max()),
                    f"{score.pairs:,} ({score.pairs - score.right:,} wrong)",
                    f"{score.precision:.4f}",
                    " / ".join(f"{figure:.3f}" for figure in score.bcubed),
                ]
            )
    head = ["", "links", "largest group", "pairs in groups", "precision", "BCubed P / R / F"]
    return (
        "By sight. A person looked at the groups of the command. Of the pairs that only other ways "
        f"make, some that count as wrong may be right.\n\n{table(head, rows)}"
    )


def scale() -> str:
    """Return what it costs to hold many photos together, by random links."""
    ends = np.random.default_rng(0).integers(0, SCALE_PHOTOS, (SCALE_LINKS, 2))
    pairs = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
    strengths = np.ones(len(pairs), np.int64)
    start = process_time()
    parts_of_graph(pairs, strengths)
    seconds = process_time() - start
    tracemalloc.start()
    parts_of_graph(pairs, strengths)
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return (
        f"{len(pairs):,} random links between {SCALE_PHOTOS:,} photos are held together in "
        f"{format_number(seconds)} s of one core, with {format_number(peak_mb)} MB."
    )


if __name__ == "__main__":
    main()
