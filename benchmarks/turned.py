"""Turned and mirrored queries: accuracy with and without trying other orientations, and its cost.

    python -m benchmarks.turned --data ../shared/data --docs docs/results.md

Each query is described and ranked once in each orientation that is needed. What a search does with
a turned query follows from that by the package's own rule.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import MedianAndRange, parser, publish, ratios, rotated, table
from veduta.datasets import Dataset, open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.evaluation.metrics import judge
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.photos.orientation import ALL_ORIENTATIONS, UPRIGHT, Orientation, orientation_named
from veduta.search import VERIFIED_PHOTOS, Engine, SearchOptions, exact, hits_of, search_photos
from veduta.search.best_orientation import MIN_GAIN, TURNS, Attempt, best_attempt
from veduta.search.query import read_photo
from veduta.search.query_views import QueryViews
from veduta.search.reranking import open_gallery, rerank
from veduta.search.verdict import SAME_PLACE

SETS = ("landmarks30", "scenes")
SETS_BY_DESCRIPTOR = ("scenes", "objects20", "landmarks30", "same_place")
GIVEN = ("upright", "90", "180", "270", "mirrored")
TIMED_QUERIES = 24
LANDMARKS, STRANGERS = "landmarks30", "objects20"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("turned", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, {*SETS, *SETS_BY_DESCRIPTOR, STRANGERS})
    figures = accuracy_table(chosen.data)
    by_descriptor = descriptor_table(chosen.data)
    cost = cost_table(chosen.data)
    parts = [
        "Top-1 / mAP of the default search. “As it is” takes each query as it is given "
        "(`--orientation upright`). “Automatic” is the default of a search. The last column counts "
        "the queries that it turned or mirrored.",
        figures,
        "Top-1 of `--rerank none`, which has no verdict. “Automatic” tries other orientations "
        "unless the first similarity stands out: it is nearer to 1 than to the mean similarity "
        "of the query to the collection. “Always tried” tries them for each query. “Highest” "
        "takes the turn with the highest first similarity, even if it is higher by less than "
        f"{MIN_GAIN}. The rule was found on scenes and objects20.",
        by_descriptor,
        f"The time of a search in the index of {LANDMARKS}, with automatic orientation, as a ratio "
        "to the time without; both take turns. The queries are upright photos. Those “found” have "
        "a first hit with the verdict “same place”. Strangers are photos of "
        f"{STRANGERS}, of which the index holds none.",
        cost,
    ]
    publish("turned", "\n\n".join(parts), chosen.docs)


# --- accuracy -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What the default search finds for a query in one orientation.

    Attributes:
        convincing: as in `Attempt`.
        likely: as in `Attempt`.
        ap: average precision.
        top1: whether the first hit is right.
    """

    convincing: bool
    likely: bool
    ap: float
    top1: bool


Key = tuple[int, Orientation]
"""The number of a query, and its orientation."""


class Views:
    """The queries of a set in every orientation. Each view is made when it is needed first."""

    def __init__(self, folder: Path) -> None:
        self.network, self.extractor = load_encoder(DEFAULT), load_extractor()
        self.indexed = index_dataset(
            open_dataset(folder), retrieval_protocol, self.network, self.extractor, None
        )
        set_projection(self.indexed.gallery_index, None)
        self.gallery = open_gallery(self.indexed.gallery_index)
        self.rows = self.indexed.gallery_rows(self.gallery.snapshot)
        self.queries: dict[int, QueryViews] = {}
        self.similarities: dict[Key, float] = {}
        self.views: dict[Key, View] = {}
        self.promising: dict[Key, bool] = {}

    def similarity(self, number: int, orientation: Orientation) -> float:
        """Return the first similarity of a query."""
        key = number, orientation
        if key not in self.similarities:
            descriptor = self._query(number).descriptor(orientation)
            similarities = exact.nearest(self.gallery.snapshot, descriptor, 1)[1]
            self.similarities[key] = float(similarities[0])
        return self.similarities[key]

    def is_promising(self, number: int, orientation: Orientation) -> bool:
        """Return whether a search takes its time for the query in this orientation."""
        key = number, orientation
        if key not in self.promising:
            query = self._query(number)
            self.promising[key] = query.is_promising(self.gallery, VERIFIED_PHOTOS, orientation)
        return self.promising[key]

    def of(self, number: int, orientation: Orientation) -> View:
        """Return the view of a query."""
        key = number, orientation
        if key not in self.views:
            self.views[key] = self._made(number, orientation)
        return self.views[key]

    def _query(self, number: int) -> QueryViews:
        if number not in self.queries:
            dataset, protocol = self.indexed.dataset, self.indexed.protocol
            file = dataset.files[int(protocol.queries[number])]
            photo = read_photo(file, max(self.network.long_side, self.extractor.long_side))
            self.queries[number] = QueryViews(lambda: [photo], self.network, self.extractor)
        return self.queries[number]

    def _made(self, number: int, orientation: Orientation) -> View:
        query = self._query(number).encoded(orientation)
        snapshot = self.gallery.snapshot
        nearest, similarities = exact.nearest(snapshot, query.descriptor, snapshot.photos)
        ranking = rerank(self.gallery, query.descriptor, query.keypoints, nearest, similarities)
        attempt = Attempt.of(None, hits_of(snapshot, ranking, 1, query), verified=True)
        scores = np.zeros(snapshot.photos)
        scores[ranking.rows] = ranking.scores
        relevant = self.indexed.protocol.relevant(number)
        judged = judge("", None, scores[self.rows], relevant, keep=0)
        right = judged.first_correct_rank == 1
        return View(attempt.convincing, attempt.likely, float(judged.ap), right)


def accuracy_table(data: Path) -> str:
    rows = []
    for name in SETS:
        views = Views(data / name)
        queries = range(len(views.indexed.protocol.queries))
        for given in map(orientation_named, GIVEN):
            as_it_is = [views.of(query, given) for query in queries]
            chosen = [in_best_orientation(views, query, given) for query in queries]
            counts = Counter(orientation.words for orientation, _ in chosen)
            counts.pop(UPRIGHT.words, None)
            rows.append(
                [
                    f"{name}, {given.words if given.is_turned else 'upright'}",
                    len(queries),
                    top1_and_map(as_it_is),
                    top1_and_map([view for _, view in chosen]),
                    ", ".join(f"{count} {words}" for words, count in counts.items()) or "none",
                ]
            )
            print(*rows[-1], sep=" | ", flush=True)
    return table(["set, queries", "number", "as it is", "automatic", "turned by automatic"], rows)


def in_best_orientation(views: Views, query: int, given: Orientation) -> tuple[Orientation, View]:
    """Return how a query that is given turned is turned by a search, and what that is worth."""

    def attempt(orientation: Orientation) -> Attempt[tuple[Orientation, View]]:
        view = views.of(query, combined(given, orientation))
        return Attempt((orientation, view), view.convincing, view.likely)

    def similarity(orientation: Orientation) -> float:
        return views.similarity(query, combined(given, orientation))

    def is_promising(orientation: Orientation) -> bool:
        return views.is_promising(query, combined(given, orientation))

    return best_attempt("auto", attempt, similarity, verified=True, is_promising=is_promising)


def combined(first: Orientation, second: Orientation) -> Orientation:
    """Return the orientation of a photo that is turned twice."""
    photo = np.arange(6).reshape(2, 3)
    twice = second.apply(first.apply(photo))
    return next(one for one in ALL_ORIENTATIONS if np.array_equal(one.apply(photo), twice))


def top1_and_map(views: Sequence[View]) -> str:
    top1 = np.mean([view.top1 for view in views])
    return f"{top1:.3f} / {np.nanmean([view.ap for view in views]):.3f}"


# --- by descriptor --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DescriptorView:
    """What a search by descriptor finds for a query in one orientation.

    Attributes:
        similarity: the first one.
        stands_out: see `veduta.search.reranking.Gallery.stands_out`.
        top1: whether the first hit is right.
    """

    similarity: float
    stands_out: bool
    top1: bool


def descriptor_table(data: Path) -> str:
    rows = []
    for name in SETS_BY_DESCRIPTOR:
        queries = list(descriptor_views(data / name))
        for words, given in (("upright", [UPRIGHT]), ("turned by 90°, 180°, 270°", TURNS[1:])):
            asked = [(views, one) for views in queries for one in given]
            automatic = [best_by_descriptor(*one, may_stop=True) for one in asked]
            always = [best_by_descriptor(*one, may_stop=False) for one in asked]
            highest = [best_by_descriptor(*one, may_stop=False, min_gain=0) for one in asked]
            rows.append(
                [
                    f"{name}, {words}",
                    len(asked),
                    top1([views[one] for views, one in asked]),
                    top1(automatic),
                    top1(always),
                    top1(highest),
                    f"{np.mean([views[one].stands_out for views, one in asked]):.2f}",
                ]
            )
            print(*rows[-1], sep=" | ", flush=True)
    head = ["set, queries", "number", "as it is", "automatic", "always tried", "highest"]
    return table([*head, "share that stands out as it is"], rows)


def descriptor_views(folder: Path) -> Iterator[dict[Orientation, DescriptorView]]:
    """Yield each query of a set, in four orientations."""
    network = load_encoder(DEFAULT)
    indexed = index_dataset(
        open_dataset(folder), retrieval_protocol, network, load_extractor(), None
    )
    set_projection(indexed.gallery_index, None)
    gallery = open_gallery(indexed.gallery_index)
    positions = np.argsort(indexed.gallery_rows(gallery.snapshot))
    query_views = indexed.query_views(network, None)
    for number in range(len(indexed.protocol.queries)):
        relevant = indexed.protocol.relevant(number)
        own = indexed.protocol.own_position(number)
        views = query_views(number)
        descriptors = {turn: views.descriptor(turn) for turn in TURNS}
        found = {
            turn: exact.nearest(gallery.snapshot, descriptor, 1, positions != own)
            for turn, descriptor in descriptors.items()
        }
        yield {
            turn: DescriptorView(
                float(similarities[0]),
                gallery.stands_out(descriptors[turn], similarities),
                bool(relevant[positions[rows[0]]]),
            )
            for turn, (rows, similarities) in found.items()
        }


def best_by_descriptor(
    views: dict[Orientation, DescriptorView],
    given: Orientation,
    *,
    may_stop: bool,
    min_gain: float = MIN_GAIN,
) -> DescriptorView:
    """Return the view of a query that a search by descriptor takes."""

    def view(orientation: Orientation) -> DescriptorView:
        return views[combined(given, orientation)]

    def attempt(orientation: Orientation) -> Attempt[DescriptorView]:
        return Attempt(view(orientation), view(orientation).stands_out and may_stop)

    return best_attempt(
        "auto", attempt, lambda turn: view(turn).similarity, verified=False, min_gain=min_gain
    )


def top1(views: Sequence[DescriptorView]) -> str:
    return f"{np.mean([view.top1 for view in views]):.3f}"


# --- cost -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timed:
    """A query: the seconds with and without automatic orientation, and what was found."""

    automatic: float
    as_it_is: float
    is_found: bool
    is_turned: bool


def cost_table(data: Path) -> str:
    network, extractor = load_encoder(DEFAULT), load_extractor()
    dataset = open_dataset(data / LANDMARKS)
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, None)
    set_projection(indexed.gallery_index, None)
    engine = Engine(indexed.gallery_index, encoder=network)
    rows = []
    for name in (LANDMARKS, STRANGERS):
        timed = [time_query(engine, photo) for photo in queries_of(open_dataset(data / name))]
        groups: dict[str, list[Timed]] = defaultdict(list)
        for one in timed:
            groups["found" if one.is_found else "not found"].append(one)
        if name == STRANGERS:
            groups = {"strangers": timed}
        for group, members in groups.items():
            ratio = ratios([one.automatic for one in members], [one.as_it_is for one in members])
            seconds = MedianAndRange.of([one.as_it_is for one in members])
            turned = sum(one.is_turned for one in members)
            rows.append([group, len(members), seconds, ratio, turned])
            print(*rows[-1], sep=" | ", flush=True)
    head = ["queries", "number", "seconds as it is", "× with automatic", "turned"]
    return table(head, rows)


def queries_of(dataset: Dataset) -> list[Path]:
    queries = [
        file
        for file, split in zip(dataset.files, dataset.splits, strict=True)
        if split in ("query", "test")
    ]
    return [
        queries[number] for number in np.linspace(0, len(queries) - 1, TIMED_QUERIES, dtype=int)
    ]


def time_query(engine: Engine, photo: Path) -> Timed:
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(2):
        for mode in rotated(["auto", "upright"], turn):
            started = time.perf_counter()
            hits = search_photos(engine, [photo], SearchOptions(orientation=mode))
            seconds[mode].append(time.perf_counter() - started)
            if mode == "auto":
                is_turned = hits.orientation.is_turned
            else:
                evidence = hits[0].evidence
                is_found = evidence is not None and evidence.verdict == SAME_PLACE
    return Timed(min(seconds["auto"]), min(seconds["upright"]), is_found, is_turned)


if __name__ == "__main__":
    main()
