"""Compare ways of re-ranking, and measure how reliable the probabilities are.

    python -m benchmarks.reranking --data ../shared/data --docs docs/reranking.md

The package's own ways are measured by `veduta.evaluate`. Other variants (more seeds, more links,
another damping) are assembled from its parts, with dense matrices in place of sparse ones. The
default is assembled in the same way, too, and must then have the same figures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import veduta
from benchmarks.labelled_sets import ONE_COMPLEX, add_data_option, corridor_positives, present_sets
from benchmarks.report import parser, publish, table
from veduta.datasets import Dataset, RetrievalProtocol, open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.evaluation.metrics import QueryResult, judge
from veduta.index import set_projection
from veduta.index.calibration import KEYPOINTS_PER_CHANCE_MATCH, probability
from veduta.index.diffusion import DAMPING
from veduta.index.distinct_photos import sample_rows
from veduta.index.graph import LINK_KEYPOINTS
from veduta.index.neighbours import NEIGHBOURS
from veduta.keypoints import Keypoints, load_extractor, verify_many
from veduta.search import Evidence, exact
from veduta.search.expansion import expanded_query
from veduta.search.reranking import Gallery, gather_evidence, open_gallery, rerank
from veduta.search.verdict import SAME_PLACE

MAX_LINKS = 16
EXPANSION_PHOTOS = 10  # Nearest photos, without verification.
JUDGED_HITS = 50  # First hits of a query whose probabilities are judged.
BINS = 15
SHARED_OBJECTS_FILE = Path(__file__).with_name("landmarks30_shared_objects.csv")
# The package's solver has a tolerance. It may change a mean by this much.
MAX_DIFFERENCE = 5e-3

Values = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]


# --- the sets and their evidence -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """A set with the indexes that `veduta.evaluate` makes of it.

    Attributes:
        dataset: the photos with labels and splits.
        protocol: which photos are queries and which are the gallery.
        gallery: what re-ranking needs of the gallery's index.
        rows: (G,), the row of each gallery photo in the index.
        queries: (Q, d) descriptors.
        keypoints: returns the keypoints of a query by its number.
        corridor: positives of the queries in the corridor, see `corridor_positives`.
    """

    dataset: Dataset
    protocol: RetrievalProtocol
    gallery: Gallery
    rows: Rows
    queries: NDArray[np.float32]
    keypoints: Callable[[int], Keypoints]
    corridor: dict[str, set[str]]

    def paths(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Return the paths of the photos with these numbers in the dataset."""
        paths = self.dataset.table["path"].to_pylist()
        return [paths[number] for number in numbers]


def open_set(dataset: Dataset) -> PhotoSet:
    """Open the cached indexes of a set, or make them."""
    network, extractor = load_encoder(DEFAULT), load_extractor()
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, None)
    assert not indexed.protocol.leave_one_out
    set_projection(indexed.gallery_index, None)
    gallery = open_gallery(indexed.gallery_index)
    return PhotoSet(
        indexed.dataset,
        indexed.protocol,
        gallery,
        indexed.gallery_rows(gallery.snapshot),
        indexed.query_descriptors(),
        indexed.query_keypoints(),
        corridor_positives(dataset.root),
    )


@dataclass(frozen=True, slots=True)
class QueryEvidence:
    """The evidence of one query; N photos are in the snapshot.

    Attributes:
        descriptor: (d,).
        pair_log_odds: (N,), geometry included.
        first_log_odds: of the first hit.
        verified: (N,), whether the photo has a geometric model with the query.
        nearest: (N,), all rows by similarity.
    """

    descriptor: NDArray[np.float32]
    pair_log_odds: Values
    first_log_odds: float
    verified: NDArray[np.bool_]
    nearest: Rows


def evidence_of_queries(photos: PhotoSet) -> Iterator[QueryEvidence]:
    """Yield the evidence of each query, as a search gathers it without the graph."""
    without_graph = replace(photos.gallery, graph=None)
    count = without_graph.snapshot.photos
    for number, descriptor in enumerate(photos.queries):
        rows, similarities = exact.nearest(without_graph.snapshot, descriptor, count)
        keypoints = [photos.keypoints(number)]
        evidence = gather_evidence(without_graph, descriptor, keypoints, rows, similarities)
        verified = np.zeros(count, np.bool_)
        for row, geometry in evidence.geometry.items():
            verified[row] = geometry.verification.model is not None
        pair_log_odds = evidence.pair[np.argsort(evidence.rows)]
        yield QueryEvidence(descriptor, pair_log_odds, evidence.first, verified, evidence.rows)


@dataclass(frozen=True, slots=True)
class Links:
    """The weights that links between any two photos of a gallery would have.

    Attributes:
        verified: (N, N) probabilities, geometry included.
        unverified: (N, N) probabilities from similarity alone.
        rank: (N, N): [i, j] is 0 where j is the nearest neighbour of i, 1 for the next.
    """

    verified: Values
    unverified: Values
    rank: NDArray[np.intp]


def link(photos: PhotoSet) -> Links:
    """Compare and verify the gallery with itself."""
    gallery = photos.gallery
    snapshot, stored = gallery.snapshot, gallery.keypoints
    assert stored is not None and gallery.matching is not None
    by_chance = LINK_KEYPOINTS / KEYPOINTS_PER_CHANCE_MATCH
    calibration = replace(gallery.calibration, chance_matches=by_chance)
    count = snapshot.photos
    descriptors = snapshot.descriptors.astype(np.float32)
    similarities = descriptors @ descriptors.T
    mean, std = calibration.background.estimate(similarities[:, sample_rows(snapshot)])
    one_sided = (similarities - mean[:, None]) / std[:, None]
    deviations = (one_sided + one_sided.T) / 2
    np.fill_diagonal(similarities, -2)
    rank = np.argsort(np.argsort(-similarities, axis=1, kind="stable"), axis=1)
    linked = rank < MAX_LINKS
    consistent = np.zeros((count, count))
    keypoints = [stored.read(row).best(LINK_KEYPOINTS) for row in range(count)]
    for row in range(count):
        others = row + 1 + np.flatnonzero((linked | linked.T)[row, row + 1 :])
        verifications = verify_many(
            keypoints[row], [keypoints[other] for other in others], gallery.matching
        )
        counts = [verification.consistent_matches for verification in verifications]
        consistent[row, others] = consistent[others, row] = counts
    return Links(
        probability(calibration.pair_logit(deviations, consistent)),
        probability(calibration.pair_logit(deviations)),
        rank,
    )


# --- ways of ranking -----------------------------------------------------------------------------


@dataclass(slots=True)
class SetEvidence:
    """One set with everything from which the variants are assembled."""

    photos: PhotoSet
    queries: list[QueryEvidence]
    links: Links


Variant = Callable[[SetEvidence], Iterator[Values]]
"""Yields, for each query, the score of every row of the snapshot."""


def by_pairs(evidence: SetEvidence) -> Iterator[Values]:
    """Rank each photo by its own evidence."""
    for query in evidence.queries:
        yield query.pair_log_odds


def by_graph(
    *, links: int = NEIGHBOURS, damping: float = DAMPING, seeds: int = 1, verified: bool = True
) -> Variant:
    """Rank as the default does, with one thing changed, but not the weights of the evidence."""

    def variant(evidence: SetEvidence) -> Iterator[Values]:
        nearest = evidence.links.rank < links
        link_weights = evidence.links.verified if verified else evidence.links.unverified
        weights = np.where(nearest | nearest.T, link_weights, 0)
        scale = np.sqrt(np.maximum(weights.sum(axis=1), 1e-30))
        diffusion = np.linalg.inv(np.eye(len(weights)) - damping * weights / scale / scale[:, None])
        calibration = evidence.photos.gallery.calibration
        for query in evidence.queries:
            best = np.argsort(-query.pair_log_odds, kind="stable")[:seeds]
            nearness = diffusion[:, best] @ probability(query.pair_log_odds[best])
            nearness = np.maximum(nearness, 0)
            scores = calibration.hit_logit(
                query.pair_log_odds, nearness / nearness.max(), query.first_log_odds, geometry=True
            )
            scores[best[0]] = scores.max() + 1
            yield scores

    return variant


def by_unverified_expansion(evidence: SetEvidence) -> Iterator[Values]:
    """Rank by the mean of the query and its nearest photos, without verification."""
    snapshot = evidence.photos.gallery.snapshot
    descriptors = snapshot.descriptors.astype(np.float32)
    for query in evidence.queries:
        mean = expanded_query(snapshot, query.descriptor, query.nearest[:EXPANSION_PHOTOS])
        yield (descriptors @ mean).astype(np.float64)


def by_verification_then_expansion(evidence: SetEvidence) -> Iterator[Values]:
    """Rank verified photos first, by their own evidence, and the others by the expanded query."""
    snapshot = evidence.photos.gallery.snapshot
    descriptors = snapshot.descriptors.astype(np.float32)
    for query in evidence.queries:
        mean = expanded_query(snapshot, query.descriptor, np.flatnonzero(query.verified))
        yield np.where(query.verified, 2 + probability(query.pair_log_odds), descriptors @ mean)


def by_verified_augmentation(evidence: SetEvidence) -> Iterator[Values]:
    """Rank by the mean of each photo and its neighbours, weighted by their links."""
    nearest = evidence.links.rank < NEIGHBOURS
    weights = np.where(nearest | nearest.T, evidence.links.verified, 0)
    descriptors = evidence.photos.gallery.snapshot.descriptors.astype(np.float32)
    mean = descriptors + weights @ descriptors
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    for query in evidence.queries:
        yield mean @ query.descriptor


PACKAGE_METHODS: dict[str, dict[str, Any]] = {
    "descriptors alone (`none`)": {"rerank": "none"},
    "graph without geometry (`global`)": {"rerank": "global"},
    "**verification, verified links (`geometry`, the default)**": {"rerank": "geometry"},
    "the default, 20 photos verified": {"rerank": "geometry", "verify": 20},
    "the default, 100 photos verified": {"rerank": "geometry", "verify": 100},
    "expansion by verified photos": {"rerank": "expansion"},
    "augmentation": {"rerank": "augmentation"},
    "SuperGlobal's re-ranking": {"rerank": "superglobal"},
}
DEFAULT_METHOD = "**verification, verified links (`geometry`, the default)**"
VARIANTS: dict[str, dict[str, Variant]] = {
    "The parts of the default": {
        "verification alone": by_pairs,
        "verification, unverified links": by_graph(verified=False),
    },
    "Seeds of the diffusion": {f"{seeds} best hits": by_graph(seeds=seeds) for seeds in (3, 5, 10)},
    "Links a photo": {f"{links}": by_graph(links=links) for links in (4, MAX_LINKS)},
    "Damping": {f"{damping:g}": by_graph(damping=damping) for damping in (0.8, 0.95)},
    "Expansion and augmentation": {
        f"expansion by the {EXPANSION_PHOTOS} nearest, unverified": by_unverified_expansion,
        "verified photos first, expansion for the others": by_verification_then_expansion,
        "augmentation by verified links": by_verified_augmentation,
    },
}


# --- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Top-1 and mAP of one set, and of its corridor by `corridor_positives`."""

    top1: float
    map: float
    corridor: tuple[float, float] | None


def figures(results: Sequence[QueryResult], photos: PhotoSet) -> Figures:
    """Return the figures of results that contain the whole ranked gallery."""
    gallery_paths = photos.paths(photos.protocol.gallery)
    corridor_results = []
    for result in results:
        if (positives := photos.corridor.get(result.path)) is not None:
            right = np.array([gallery_paths[hit.row] in positives for hit in result.nearest])
            corridor_results.append(judge(result.path, None, -np.arange(len(right)), right))
    return Figures(*_means(results), _means(corridor_results) if corridor_results else None)


def _means(results: Sequence[QueryResult]) -> tuple[float, float]:
    top1 = float(np.mean([result.right_within(1) for result in results]))
    return top1, float(np.mean([result.ap for result in results]))


def evaluate_variant(evidence: SetEvidence, variant: Variant) -> Figures:
    """Rank all queries of a set by a variant."""
    photos = evidence.photos
    query_paths = photos.paths(photos.protocol.queries)
    results = [
        judge(
            query_paths[number],
            None,
            scores[photos.rows],
            photos.protocol.relevant(number),
            keep=len(photos.rows),
        )
        for number, scores in enumerate(variant(evidence))
    ]
    return figures(results, photos)


def cells(figures_of_sets: Sequence[Figures]) -> list[str]:
    """Return one row of a table: the sets, the corridor, the mean."""
    set_cells = [f"{one.top1:.3f} / {one.map:.3f}" for one in figures_of_sets]
    (corridor,) = [one.corridor for one in figures_of_sets if one.corridor] or [(np.nan, np.nan)]
    mean_map = np.mean([one.map for one in figures_of_sets])
    return [*set_cells, f"{corridor[0]:.3f} / {corridor[1]:.3f}", f"{mean_map:.3f}"]


def method_tables(data: Path, sets: Sequence[str]) -> Iterator[str]:
    """Yield the tables of ways of re-ranking."""
    head = [*sets, "corridor, listed frames", "mean mAP"]
    opened = {name: open_set(open_dataset(data / name)) for name in sets}
    rows, by_package = [], {}
    for name, settings in PACKAGE_METHODS.items():
        print(name, flush=True)
        seconds, queries, figures_of_sets = 0.0, 0, []
        for photos in opened.values():
            result = veduta.evaluate(photos.dataset, **settings, keep=len(photos.rows))
            figures_of_sets.append(figures(result.results, photos))
            seconds += result.seconds
            queries += len(result.results)
        by_package[name] = figures_of_sets
        rows.append([name, *cells(figures_of_sets), f"{1000 * seconds / queries:.0f}"])
    yield "### What the package offers\n\nMeasured by `veduta.evaluate`."
    yield table(["", *head, "ms a query"], rows)

    evidence_of_sets = []
    for name, photos in opened.items():
        print(f"evidence of {name}", flush=True)
        evidence_of_sets.append(
            SetEvidence(photos, list(evidence_of_queries(photos)), link(photos))
        )
    defaults = [evaluate_variant(evidence, by_graph()) for evidence in evidence_of_sets]
    for assembled, own in zip(defaults, by_package[DEFAULT_METHOD], strict=True):
        if (
            abs(assembled.map - own.map) > MAX_DIFFERENCE
            or abs(assembled.top1 - own.top1) > 2 * MAX_DIFFERENCE
        ):
            raise AssertionError(f"the assembled default has {assembled}, the package has {own}")
    for title, variants in VARIANTS.items():
        rows = [["the default", *cells(defaults)]]
        for name, variant in variants.items():
            print(f"{title}: {name}", flush=True)
            results = [evaluate_variant(evidence, variant) for evidence in evidence_of_sets]
            rows.append([name, *cells(results)])
        yield f"### {title}"
        yield table(["", *head], rows)


# --- how reliable probabilities are --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgedHits:
    """The first hits of all queries. Each array has one value for each hit.

    Attributes:
        probability: of the hit.
        same_place: whether this is the verdict.
        right: whether the labels are equal.
        right_by_sight: whether the labels are equal or a person saw that both show one thing.
        right_by_complex: whether the labels are equal or both places stand in one complex.
        outsider: whether the query shows none of the places.
        rank: of the hit, from 0.
    """

    probability: Values
    same_place: NDArray[np.bool_]
    right: NDArray[np.bool_]
    right_by_sight: NDArray[np.bool_]
    right_by_complex: NDArray[np.bool_]
    outsider: NDArray[np.bool_]
    rank: NDArray[np.intp]

    def part(self, chosen: NDArray[np.bool_]) -> JudgedHits:
        """Return some of the hits."""
        return JudgedHits(*(getattr(self, name)[chosen] for name in self.__slots__))


def with_outsiders(folder: Path) -> Dataset:
    """Return landmarks30 with the photos that show none of its places as further queries."""
    dataset = open_dataset(folder, labels="labels_openset.csv")
    columns = dataset.table.to_pydict()
    outside = [split == "unknown" for split in columns["split"]]
    for name, value in (("split", "query"), ("label", None)):
        columns[name] = [
            value if out else before for out, before in zip(outside, columns[name], strict=True)
        ]
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return replace(dataset, table=pa.table(arrays))


def shared_objects() -> dict[tuple[str, str], str]:
    """Return what both photos of a pair show although their labels differ.

    A person looked at these pairs side by side, with their matches drawn.
    """
    with SHARED_OBJECTS_FILE.open(newline="", encoding="utf-8") as lines:
        return {(row["query"], row["other"]): row["both show"] for row in csv.DictReader(lines)}


def judge_first_hits(photos: PhotoSet) -> tuple[JudgedHits, list[list[str]]]:
    """Search as a user does, and judge the first hits of each query.

    Args:
        photos: the set with its indexes.

    Returns:
        The hits; and the query, the hit, the probability, and what both show, of each pair that is
        called the same place although the labels differ.
    """
    labels: NDArray[Any] = np.array(photos.dataset.table["label"].to_pylist(), object)
    splits = np.array(photos.dataset.table["split"].to_pylist())
    gallery = photos.protocol.gallery
    label_of_row = np.full(photos.gallery.snapshot.photos, None, object)
    labelled = splits[gallery] == "gallery"
    label_of_row[photos.rows[labelled]] = labels[gallery[labelled]]
    path_of_row = np.full(photos.gallery.snapshot.photos, "", object)
    path_of_row[photos.rows] = photos.paths(gallery)
    shared_object_of = shared_objects()
    differing: list[list[str]] = []
    query_paths = photos.paths(photos.protocol.queries)
    hits: list[tuple[float, bool, bool, bool, bool, bool, int]] = []
    for number, descriptor in enumerate(photos.queries):
        rows, similarities = exact.nearest(photos.gallery.snapshot, descriptor, JUDGED_HITS)
        keypoints = [photos.keypoints(number)]
        ranking = rerank(photos.gallery, descriptor, keypoints, rows, similarities)
        query_label = labels[photos.protocol.queries[number]]
        for rank, row in enumerate(ranking.rows[:JUDGED_HITS].tolist()):
            chance = float(ranking.scores[rank])
            evidence = Evidence.of(chance, ranking.geometry.get(row))
            same_place = evidence.verdict == SAME_PLACE
            label = label_of_row[row]
            right = query_label is not None and label == query_label
            pair = query_paths[number], path_of_row[row]
            shared_object = shared_object_of.get(pair)
            if same_place and not right:
                verdict = shared_object or "not in the list: wrong"
                differing.append([*pair, f"{chance:.3f}", verdict])
            hits.append(
                (
                    chance,
                    same_place,
                    right,
                    right or shared_object is not None,
                    right or (query_label in ONE_COMPLEX and label in ONE_COMPLEX),
                    query_label is None,
                    rank,
                )
            )
    return JudgedHits(*(np.array(column) for column in zip(*hits, strict=True))), differing


def expected_calibration_error(
    probabilities: Values, right: NDArray[np.bool_], weights: Values | None = None
) -> float:
    """Return the calibration error over bins of equal width (Guo et al., ICML 2017)."""
    if weights is None:
        weights = np.ones(len(right))
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights * (probabilities - right), minlength=BINS)
    return float(np.abs(gap).sum() / weights.sum())


def probability_tables(data: Path) -> Iterator[str]:
    """Yield the tables of probabilities and verdicts."""
    print("probabilities", flush=True)
    hits, differing = judge_first_hits(open_set(with_outsiders(data / "landmarks30")))
    parts = {
        "all queries": np.ones(len(hits.right), np.bool_),
        "the 149 of landmarks30": ~hits.outsider,
        "the outsiders": hits.outsider,
        "all queries, first hit only": hits.rank == 0,
        "the 149 of landmarks30, first hit only": (hits.rank == 0) & ~hits.outsider,
        "the outsiders, first hit only": (hits.rank == 0) & hits.outsider,
    }
    rows = []
    truths = {"right": "", "right_by_sight": ", by sight", "right_by_complex": ", one complex"}
    for truth, suffix in truths.items():
        for name, chosen in parts.items():
            part = hits.part(chosen)
            right = getattr(part, truth)
            same_place = part.same_place
            rows.append(
                [
                    f"{name}{suffix}",
                    len(right),
                    f"{expected_calibration_error(part.probability, right):.3f}",
                    int(same_place.sum()),
                    int((same_place & ~right).sum()),
                    f"{right[same_place].mean():.4f}" if same_place.any() else "–",
                    f"{(same_place & right).sum() / right.sum():.2f}"
                    if right.any() and truth != "right_by_sight"
                    else "–",
                ]
            )
    outsiders = int(hits.outsider.sum()) // JUDGED_HITS
    yield (
        f"### How reliable a probability is\n\nThe first {JUDGED_HITS} hits of the 149 queries of "
        f"landmarks30 and of its {outsiders} outsiders (`labels_openset.csv`), which show none of "
        "the places. No photo of this set was used to fit the weights. In the first rows a hit is "
        "right if the labels are equal. *By sight* also counts the pairs in "
        f"`benchmarks/{SHARED_OBJECTS_FILE.name}` as right: their labels differ, but a person saw "
        "that both photos show one thing. A person looked only at pairs that are called *same "
        "place*, so these rows have no recall. "
        f"*One complex* counts {', '.join(ONE_COMPLEX)} as one place, because they stand together "
        "and a photo often shows two of them."
    )
    yield table(
        ["", "pairs", f"ECE, {BINS} bins", "*same place*", "wrong", "precision", "recall"], rows
    )
    yield (
        "All pairs that are called *same place* although the labels differ or the query shows "
        "none of the places:"
    )
    yield table(["query", "hit", "probability", "both show"], differing)
    edges = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    rows = []
    for low, high in pairwise(edges):
        part = hits.part(
            (hits.probability >= low) & ((hits.probability < high) | (high == edges[-1]))
        )
        of_the_149 = part.part(~part.outsider)
        shares = (part.probability, part.right, part.right_by_complex, of_the_149.right_by_complex)
        rows.append(
            [
                f"{low:g} to {high:g}",
                len(part.right),
                *(f"{share.mean():.3f}" if len(share) else "–" for share in shares),
            ]
        )
    yield table(
        [
            "probability",
            "pairs",
            "mean",
            "right",
            "right, one complex",
            "of the 149 alone: right, one complex",
        ],
        rows,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("reranking", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    sets = present_sets(options, chosen.data)
    parts = ["Top-1 / mAP.", *method_tables(chosen.data, sets)]
    if "landmarks30" in sets:
        parts += probability_tables(chosen.data)
    publish("reranking", "\n\n".join(parts), chosen.docs)


if __name__ == "__main__":
    main()
