"""Which way of ranking again finds the same place best, and what its probabilities are worth.

    python -m benchmarks.reranking --data ../shared/data --docs docs/reranking.md

What the package offers is measured through `veduta.evaluate`. Variants that it does not offer (more
seeds, more links, another damping) are put together from its parts, with dense matrices where it
has sparse ones; the default, put together in the same way, has to come to the same figures.
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
from benchmarks.report import parser, publish, table
from veduta.datasets import Dataset, RetrievalProtocol, open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.evaluation.metrics import QueryResult, judge
from veduta.index import set_projection
from veduta.index.calibration import probability
from veduta.index.graph import NEIGHBOURS, sample_rows
from veduta.keypoints import Keypoints, load_extractor, verify_many
from veduta.search import Evidence, exact
from veduta.search.diffusion import DAMPING
from veduta.search.expansion import expanded_query
from veduta.search.reranking import Gallery, gather_evidence, open_gallery, rerank
from veduta.search.verdict import SAME_PLACE

SETS = ("landmarks30", "same_place", "objects20", "domains4")
MOST_LINKS = 16
UNVERIFIED = 10  # nearest photos that expansion takes as they are
SEEN = 50  # first hits whose probabilities are judged
BINS = 15
COMPLEX = ("alai_darwaza", "alai_minar", "iron_pillar", "qutub_minar")
SEEN_BY_EYE = Path(__file__).with_name("landmarks30_shared_objects.csv")
ALIKE = 5e-3  # what the tolerance of the product's solver may change in a mean

Values = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]


# --- the sets and their evidence -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """A set as `veduta.evaluate` has it: indexes, queries, and each gallery photo's row."""

    dataset: Dataset
    protocol: RetrievalProtocol
    gallery: Gallery
    rows: Rows
    queries: NDArray[np.float32]
    keypoints: Callable[[int], Keypoints]  # of a query, by its number
    corridor: dict[str, set[str]]

    def paths(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Paths of the photos with these numbers in the dataset."""
        paths = self.dataset.table["path"].to_pylist()
        return [paths[number] for number in numbers]


def open_set(dataset: Dataset) -> PhotoSet:
    """Open the indexes that `veduta.evaluate` keeps of a set, or make them."""
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
        corridor(dataset.root),
    )


def corridor(folder: Path) -> dict[str, set[str]]:
    """The right answers by query path, where the set knows better than its labels."""
    file = folder / "corridor_positives.csv"
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        return {row["query"]: set(row["positives"].split()) for row in csv.DictReader(stream)}


@dataclass(frozen=True, slots=True)
class Asked:
    """The evidence of one query, each array by row of the snapshot."""

    descriptor: NDArray[np.float32]
    pair: Values  # log-odds, geometry included
    best: float  # log-odds of the best hit, see `CandidateEvidence`
    tied: NDArray[np.bool_]  # to the query by a geometric model
    nearest: Rows


def ask(photos: PhotoSet) -> Iterator[Asked]:
    """Look at every query as a search does, without the graph."""
    alone = replace(photos.gallery, graph=None)
    n = alone.snapshot.photos
    for number, descriptor in enumerate(photos.queries):
        rows, similar = exact.nearest(alone.snapshot, descriptor, n)
        found = gather_evidence(alone, descriptor, [photos.keypoints(number)], rows, similar)
        tied = np.zeros(n, np.bool_)
        for row, seen in found.geometry.items():
            tied[row] = seen.verification.model is not None
        by_row = np.argsort(found.rows)
        pair = found.pair[by_row]
        yield Asked(descriptor, pair, found.best, tied, found.rows)


@dataclass(frozen=True, slots=True)
class Links:
    """All photos against all: what links could weigh, and who is whose how-many-th neighbour."""

    verified: Values  # (n, n) probabilities, geometry included
    alike: Values  # (n, n) probabilities, from similarity alone
    place: NDArray[np.intp]  # (n, n): [i, j] is 0 where j is the nearest to i


def link(photos: PhotoSet) -> Links:
    """Compare and verify the gallery with itself."""
    gallery = photos.gallery
    snapshot, calibration, stored = gallery.snapshot, gallery.calibration, gallery.keypoints
    assert stored is not None and gallery.matching is not None
    n = snapshot.photos
    descriptors = snapshot.descriptors.astype(np.float32)
    near = descriptors @ descriptors.T
    mean, std = calibration.background.estimate(near[:, sample_rows(n)])
    own = (near - mean[:, None]) / std[:, None]
    deviations = (own + own.T) / 2
    np.fill_diagonal(near, -2)
    place = np.argsort(np.argsort(-near, axis=1, kind="stable"), axis=1)
    linked = place < MOST_LINKS
    agreeing = np.zeros((n, n))
    keypoints = [stored.read(row) for row in range(n)]
    for low in range(n):
        others = low + 1 + np.flatnonzero((linked | linked.T)[low, low + 1 :])
        seen = verify_many(keypoints[low], [keypoints[row] for row in others], gallery.matching)
        agreeing[low, others] = agreeing[others, low] = [v.consistent_matches for v in seen]
    return Links(
        probability(calibration.pair_logit(deviations, agreeing)),
        probability(calibration.pair_logit(deviations)),
        place,
    )


# --- ways of ranking -----------------------------------------------------------------------------


@dataclass(slots=True)
class Bench:
    """One set with everything that the variants are put together from."""

    photos: PhotoSet
    asked: list[Asked]
    links: Links


Variant = Callable[[Bench], Iterator[Values]]
"""Yields the score of every row of the snapshot, for each query."""


def by_pairs(bench: Bench) -> Iterator[Values]:
    """The evidence of each photo by itself."""
    for asked in bench.asked:
        yield asked.pair


def by_graph(
    *, links: int = NEIGHBOURS, damping: float = DAMPING, seeds: int = 1, verified: bool = True
) -> Variant:
    """The default, with one thing changed. The weights of the evidence stay as they are."""

    def rank(bench: Bench) -> Iterator[Values]:
        place = bench.links.place < links
        weights = np.where(
            place | place.T, bench.links.verified if verified else bench.links.alike, 0
        )
        scale = np.sqrt(np.maximum(weights.sum(axis=1), 1e-30))
        spread = np.linalg.inv(np.eye(len(weights)) - damping * weights / scale / scale[:, None])
        calibration = bench.photos.gallery.calibration
        for asked in bench.asked:
            best = np.argsort(-asked.pair, kind="stable")[:seeds]
            near = np.maximum(spread[:, best] @ probability(asked.pair[best]), 0)
            yield calibration.hit_logit(asked.pair, near / near.max(), asked.best, geometry=True)

    return rank


def by_unverified_expansion(bench: Bench) -> Iterator[Values]:
    """The query averaged with its nearest photos, whatever they show."""
    snapshot = bench.photos.gallery.snapshot
    descriptors = snapshot.descriptors.astype(np.float32)
    for asked in bench.asked:
        query = expanded_query(snapshot, asked.descriptor, asked.nearest[:UNVERIFIED])
        yield (descriptors @ query).astype(np.float64)


def by_verification_then_expansion(bench: Bench) -> Iterator[Values]:
    """Verified photos first, by their own evidence; the others by the expanded query."""
    snapshot = bench.photos.gallery.snapshot
    descriptors = snapshot.descriptors.astype(np.float32)
    for asked in bench.asked:
        query = expanded_query(snapshot, asked.descriptor, np.flatnonzero(asked.tied))
        after = descriptors @ query
        yield np.where(asked.tied, 2 + probability(asked.pair), after)


def by_verified_augmentation(bench: Bench) -> Iterator[Values]:
    """Each photo averaged with its neighbours, as much as their links are worth."""
    place = bench.links.place < NEIGHBOURS
    weights = np.where(place | place.T, bench.links.verified, 0)
    descriptors = bench.photos.gallery.snapshot.descriptors.astype(np.float32)
    mean = descriptors + weights @ descriptors
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    for asked in bench.asked:
        yield mean @ asked.descriptor


OFFERED: dict[str, dict[str, object]] = {
    "descriptors alone (`none`)": {"rerank": "none"},
    "graph without geometry (`global`)": {"rerank": "global"},
    "**verification, verified links (`geometry`, the default)**": {"rerank": "geometry"},
    "the default, 20 photos verified": {"rerank": "geometry", "verify": 20},
    "the default, 100 photos verified": {"rerank": "geometry", "verify": 100},
    "expansion by verified photos": {"rerank": "expansion"},
    "augmentation": {"rerank": "augmentation"},
    "SuperGlobal's re-ranking": {"rerank": "superglobal"},
}
DEFAULT_WAY = "**verification, verified links (`geometry`, the default)**"
VARIANTS: dict[str, dict[str, Variant]] = {
    "The parts of the default": {
        "verification alone": by_pairs,
        "verification, unverified links": by_graph(verified=False),
    },
    "Seeds of the diffusion": {f"{seeds} best hits": by_graph(seeds=seeds) for seeds in (3, 5, 10)},
    "Links a photo": {f"{links}": by_graph(links=links) for links in (4, MOST_LINKS)},
    "Damping": {f"{damping:g}": by_graph(damping=damping) for damping in (0.8, 0.95)},
    "Expansion and augmentation": {
        f"expansion by the {UNVERIFIED} nearest, unverified": by_unverified_expansion,
        "verified photos first, expansion for the others": by_verification_then_expansion,
        "augmentation by verified links": by_verified_augmentation,
    },
}


# --- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Top-1 and mAP of one set, and of its corridor by its own truth."""

    top1: float
    map: float
    corridor: tuple[float, float] | None


def figures(results: Sequence[QueryResult], photos: PhotoSet) -> Figures:
    """Sum up results that hold the whole ranked gallery."""
    answering = photos.paths(photos.protocol.gallery)
    by_truth = []
    for result in results:
        if (truth := photos.corridor.get(result.path)) is not None:
            right = np.array([answering[seen.row] in truth for seen in result.nearest])
            by_truth.append(judge(result.path, None, -np.arange(len(right)), right))
    return Figures(*_means(results), _means(by_truth) if by_truth else None)


def _means(results: Sequence[QueryResult]) -> tuple[float, float]:
    top1 = float(np.mean([result.right_within(1) for result in results]))
    return top1, float(np.mean([result.ap for result in results]))


def measured(bench: Bench, variant: Variant) -> Figures:
    """Rank all queries of a set by a variant."""
    photos = bench.photos
    asking = photos.paths(photos.protocol.queries)
    results = [
        judge(
            asking[number],
            None,
            scores[photos.rows],
            photos.protocol.relevant(number),
            keep=len(photos.rows),
        )
        for number, scores in enumerate(variant(bench))
    ]
    return figures(results, photos)


def cells(found: Sequence[Figures]) -> list[str]:
    """One row of a table: the sets, the corridor, the mean."""
    shown = [f"{one.top1:.3f} / {one.map:.3f}" for one in found]
    (own,) = [one.corridor for one in found if one.corridor] or [(np.nan, np.nan)]
    mean = np.mean([one.map for one in found])
    return [*shown, f"{own[0]:.3f} / {own[1]:.3f}", f"{mean:.3f}"]


def ablation(data: Path, sets: Sequence[str]) -> Iterator[str]:
    """The tables of ways to rank again."""
    head = [*(f"{name}" for name in sets), "corridor, own truth", "mean mAP"]
    opened = {name: open_set(open_dataset(data / name)) for name in sets}
    rows, offered = [], {}
    for name, settings in OFFERED.items():
        print(name, flush=True)
        seconds, queries, found = 0.0, 0, []
        for photos in opened.values():
            result = veduta.evaluate(photos.dataset, **settings, keep=len(photos.rows))  # type: ignore[arg-type]
            found.append(figures(result.results, photos))
            seconds += result.seconds
            queries += len(result.results)
        offered[name] = found
        rows.append([name, *cells(found), f"{1000 * seconds / queries:.0f}"])
    yield "### What the package offers\n\nThrough `veduta.evaluate`."
    yield table(["", *head, "ms a query"], rows)

    benches = []
    for name, photos in opened.items():
        print(f"evidence of {name}", flush=True)
        benches.append(Bench(photos, list(ask(photos)), link(photos)))
    again = [measured(bench, by_graph()) for bench in benches]
    for here, there in zip(again, offered[DEFAULT_WAY], strict=True):
        if abs(here.map - there.map) > ALIKE or abs(here.top1 - there.top1) > 2 * ALIKE:
            raise AssertionError(f"put together {here}, offered {there}")
    for title, variants in VARIANTS.items():
        rows = [["the default", *cells(again)]]
        for name, variant in variants.items():
            print(f"{title}: {name}", flush=True)
            rows.append([name, *cells([measured(bench, variant) for bench in benches])])
        yield f"### {title}"
        yield table(["", *head], rows)


# --- what probabilities are worth ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """The first hits of all queries, each array by hit."""

    probability: Values
    same: NDArray[np.bool_]  # the verdict
    right: NDArray[np.bool_]  # the labels are equal
    right_by_sight: NDArray[np.bool_]  # or the pair was looked at and shows one thing
    right_by_complex: NDArray[np.bool_]
    outsider: NDArray[np.bool_]  # the query shows none of the places
    place: NDArray[np.intp]  # of the hit, from 0

    def part(self, chosen: NDArray[np.bool_]) -> Judged:
        """Only some of the hits."""
        return Judged(*(getattr(self, name)[chosen] for name in self.__slots__))


def with_outsiders(folder: Path) -> Dataset:
    """landmarks30 with the photos of no place at all as queries."""
    dataset = open_dataset(folder, labels="labels_openset.csv")
    columns = dataset.table.to_pydict()
    outside = [split == "unknown" for split in columns["split"]]
    for name, value in (("split", "query"), ("label", None)):
        columns[name] = [
            value if out else before for out, before in zip(outside, columns[name], strict=True)
        ]
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return replace(dataset, table=pa.table(arrays))


def seen_by_eye() -> dict[tuple[str, str], str]:
    """What both photos of a pair show although their labels differ.

    Only pairs that were looked at side by side, with their matches drawn, are in the list.
    """
    with SEEN_BY_EYE.open(newline="", encoding="utf-8") as stream:
        return {(row["query"], row["other"]): row["both show"] for row in csv.DictReader(stream)}


def judged(photos: PhotoSet) -> tuple[Judged, list[list[str]]]:
    """Search as a user does, and say of each of the first hits what is known of it.

    Returns:
        The hits; and of those that are called the same although the labels differ: the query, the
        hit, the probability, what both show.
    """
    names: NDArray[Any] = np.array(photos.dataset.table["label"].to_pylist(), object)
    splits = np.array(photos.dataset.table["split"].to_pylist())
    answering = photos.protocol.gallery
    label_of_row = np.full(photos.gallery.snapshot.photos, None, object)
    known = splits[answering] == "gallery"
    label_of_row[photos.rows[known]] = names[answering[known]]
    path_of_row = np.full(photos.gallery.snapshot.photos, "", object)
    path_of_row[photos.rows] = photos.paths(answering)
    one_thing = seen_by_eye()
    differing: list[list[str]] = []
    asked = photos.paths(photos.protocol.queries)
    found: list[tuple[float, bool, bool, bool, bool, bool, int]] = []
    for number, descriptor in enumerate(photos.queries):
        rows, similar = exact.nearest(photos.gallery.snapshot, descriptor, SEEN)
        ranking = rerank(photos.gallery, descriptor, [photos.keypoints(number)], rows, similar)
        own = names[photos.protocol.queries[number]]
        for place, row in enumerate(ranking.rows[:SEEN].tolist()):
            seen = ranking.geometry.get(row)
            certain = float(ranking.scores[place])
            same = Evidence.of(certain, seen).verdict == SAME_PLACE
            label = label_of_row[row]
            right = own is not None and label == own
            shown = one_thing.get((asked[number], path_of_row[row]))
            near = right or (own in COMPLEX and label in COMPLEX)
            if same and not right:
                pair = [asked[number], path_of_row[row]]
                differing.append([*pair, f"{certain:.3f}", shown or "not in the list: wrong"])
            found.append(
                (certain, same, right, right or shown is not None, near, own is None, place)
            )
    return Judged(*(np.array(column) for column in zip(*found, strict=True))), differing


def expected_error(probabilities: Values, right: NDArray[np.bool_]) -> float:
    """Expected calibration error over bins of equal width (Guo et al., On calibration of modern
    neural networks, ICML 2017)."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, probabilities - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(right))


def calibration(data: Path) -> Iterator[str]:
    """The tables of probabilities and verdicts."""
    print("probabilities", flush=True)
    hits, differing = judged(open_set(with_outsiders(data / "landmarks30")))
    everyone = np.ones(len(hits.right), np.bool_)
    parts = {
        "all queries": everyone,
        "the 149 of landmarks30": ~hits.outsider,
        "the outsiders": hits.outsider,
        "all queries, first hit only": hits.place == 0,
        "the 149 of landmarks30, first hit only": (hits.place == 0) & ~hits.outsider,
        "the outsiders, first hit only": (hits.place == 0) & hits.outsider,
    }
    rows = []
    counted = {"right": "", "right_by_sight": ", by sight", "right_by_complex": ", one complex"}
    for truth, said in counted.items():
        for name, chosen in parts.items():
            part = hits.part(chosen)
            right = getattr(part, truth)
            same = part.same
            rows.append(
                [
                    f"{name}{said}",
                    len(right),
                    f"{expected_error(part.probability, right):.3f}",
                    int(same.sum()),
                    int((same & ~right).sum()),
                    f"{right[same].mean():.4f}" if same.any() else "–",
                    f"{(same & right).sum() / right.sum():.2f}"
                    if right.any() and truth != "right_by_sight"
                    else "–",
                ]
            )
    yield (
        "### What a probability is worth\n\nThe first "
        f"{SEEN} hits of the 149 queries of landmarks30 and of its "
        f"{int(hits.outsider.sum()) // SEEN} outsiders (`labels_openset.csv`), which show none of "
        "the places. No photo of this set took part in the fit. The first rows go by label. *By "
        f"sight* counts as right what `benchmarks/{SEEN_BY_EYE.name}` lists: pairs with two labels "
        "that were looked at and show one thing. Only what was called *same place* was looked at, "
        "which says nothing of recall. "
        f"*One complex* counts {', '.join(COMPLEX)} as one place: they stand together, and photos "
        "show two of them."
    )
    yield table(
        ["", "pairs", f"ECE, {BINS} bins", "*same place*", "wrong", "precision", "recall"], rows
    )
    yield (
        "All pairs that are called *same place* although the labels differ, or the query shows "
        "none of the places:"
    )
    yield table(["query", "hit", "probability", "both show"], differing)
    edges = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    rows = []
    for low, high in pairwise(edges):
        part = hits.part(
            (hits.probability >= low) & ((hits.probability < high) | (high == edges[-1]))
        )
        known = part.part(~part.outsider)
        shares = (part.probability, part.right, part.right_by_complex, known.right_by_complex)
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
    options = parser("reranking", __doc__ or "")
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    sets = [name for name in SETS if (chosen.data / name).is_dir()]
    if not sets:
        options.error(f"{chosen.data} has none of the sets {', '.join(SETS)}")
    parts = ["Top-1 / mAP.", *ablation(chosen.data, sets)]
    if "landmarks30" in sets:
        parts += calibration(chosen.data)
    publish("reranking", "\n\n".join(parts), chosen.docs)


if __name__ == "__main__":
    main()
