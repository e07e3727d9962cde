"""Evidence decides: who is found, in what order, with what probability, and who never is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tiny import CentredEncoder, TinyExtractor, save_view, scene_keypoints, view

from veduta import errors, index
from veduta.index.calibration import Calibration, Models, calibration_of
from veduta.index.graph import Graph, build_graph, open_graph
from veduta.index.manifest import Manifest
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import MIN_INLIERS, Keypoints
from veduta.photos import content_hash
from veduta.search import RERANK_MODES, VERIFIED_PHOTOS, Engine, Hits, SearchOptions, exact
from veduta.search.region_matches import RegionMatches
from veduta.search.reranking import (
    Gallery,
    Ranking,
    gather_evidence,
    open_gallery,
    rerank,
    resolve_rerank,
)
from veduta.search.verdict import MAX_DIFFERENT_PROBABILITY
from veduta.search.watching import Watcher, watched

SCENES, EACH, D = 12, 6, 96


class Stored:
    """Keypoints by row, and which rows were asked for."""

    def __init__(self, scenes: list[int]) -> None:
        self.scenes = scenes
        self.read_rows: list[int] = []

    def read(self, row: int) -> Keypoints:
        self.read_rows.append(row)
        return scene_keypoints(self.scenes[row], row % 16)


def towards(scene: int, seed: int, spread: float = 1.0) -> NDArray[np.float32]:
    """Return a descriptor of `scene`: at similarity 1 / (1 + spread²) to others of it."""
    row = np.random.default_rng(scene).standard_normal(D)
    row = row + spread * np.random.default_rng((scene, seed)).standard_normal(D)
    unit: NDArray[np.float32] = (row / np.linalg.norm(row)).astype(np.float32)
    return unit


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Gallery]:
    def build(*, keypoints: bool = True, graph: bool = True, spread: float = 1.0) -> Gallery:
        scenes = [row // EACH for row in range(SCENES * EACH)]
        rows = np.stack([towards(scene, row, spread) for row, scene in enumerate(scenes)])
        stored = rows.astype(np.float16)
        table = pa.table(
            {
                "id": pa.array(range(len(rows)), pa.int64()),
                "content": pa.array(
                    [content_hash(b"%d" % i) for i in range(len(rows))], pa.binary()
                ),
                "label": pa.nulls(len(rows), pa.string()),
            }
        )
        snapshot = Snapshot(1, None, table, stored, *quantise(stored))
        made = None
        if graph:
            manifest = Manifest(encoder={"name": "x", "identity": "unknown", "dimension": D})
            build_graph(tmp_path, manifest, snapshot)
            made = open_graph(tmp_path, manifest)
            assert made is not None
        files: Any = Stored(scenes) if keypoints else None
        return Gallery(
            snapshot, calibration_of("unknown", "xfeat"), files, made, TinyExtractor.matching
        )

    return build


def ask(
    gallery: Gallery,
    scene: int,
    k: int = 20,
    *,
    seed: int = 999,
    seen: int | None = None,
    keep: NDArray[np.bool_] | None = None,
    **options: Any,
) -> Ranking:
    """Search for a photo of `scene`, whose keypoints are of the scene `seen`."""
    query = towards(scene, seed)
    rows, similar = exact.nearest(gallery.snapshot, query, k, keep)
    keypoints = [scene_keypoints(scene if seen is None else seen, 3)] if gallery.keypoints else []
    return rerank(gallery, query, keypoints, rows, similar, keep=keep, **options)


def of_scene(scene: int) -> set[int]:
    return set(range(EACH * scene, EACH * (scene + 1)))


class TestRanking:
    """What the evidence makes of the nearest photos."""

    @pytest.mark.parametrize("keypoints", [True, False])
    @pytest.mark.parametrize("graph", [True, False])
    def test_photos_of_the_scene_come_first(
        self, made: Callable[..., Gallery], keypoints: bool, graph: bool
    ) -> None:
        gallery = made(keypoints=keypoints, graph=graph)
        for scene in range(SCENES):
            ranking = ask(gallery, scene)
            found = set(ranking.rows[:EACH].tolist()) & of_scene(scene)
            # By descriptors alone a photo of another scene comes between in one of twelve.
            assert len(found) >= (EACH if keypoints or graph else EACH - 1)
            if keypoints:
                assert ranking.scores[0] > 0.8
            if keypoints or graph:
                assert ranking.scores[EACH - 1] > 1.5 * ranking.scores[EACH]

    def test_a_ranking_is_in_order_and_names_no_row_twice(
        self, made: Callable[..., Gallery]
    ) -> None:
        for scene in range(SCENES):
            ranking = ask(made(), scene)
            assert (np.diff(ranking.scores) <= 0).all()
            assert len(set(ranking.rows.tolist())) == len(ranking.rows)
            assert (ranking.scores >= 0).all() and (ranking.scores <= 1).all()
            expected = exact.score(made().snapshot, towards(scene, 999), ranking.rows)
            np.testing.assert_array_equal(ranking.similarities, expected)

    def test_the_same_question_has_the_same_answer(self, made: Callable[..., Gallery]) -> None:
        first, second = ask(made(), 4), ask(made(), 4)
        assert first.rows.tolist() == second.rows.tolist()
        assert first.scores.tolist() == second.scores.tolist()

    def test_geometry_outweighs_likeness(self, made: Callable[..., Gallery]) -> None:
        """What looks like scene 4 and shows scene 7 is of scene 7."""
        gallery = made()
        descriptor = towards(4, 0, 0) + np.float32(0.8) * towards(7, 0, 0)
        descriptor /= np.linalg.norm(descriptor)
        rows, similar = exact.nearest(gallery.snapshot, descriptor, SCENES * EACH)
        assert set(rows[:3].tolist()) <= of_scene(4)
        seen = [scene_keypoints(7, 3)]
        ranking = rerank(gallery, descriptor, seen, rows, similar, verify=SCENES * EACH)
        assert set(ranking.rows[:EACH].tolist()) == of_scene(7)

    def test_the_graph_brings_in_what_the_descriptor_misses(
        self, made: Callable[..., Gallery]
    ) -> None:
        ranking = ask(made(), 5, k=1)
        assert set(ranking.rows[:EACH].tolist()) == of_scene(5)
        assert len(ask(made(graph=False), 5, k=1).rows) == 1

    def test_only_the_first_are_verified(self, made: Callable[..., Gallery]) -> None:
        gallery = made()
        ranking = ask(gallery, 5, k=30, verify=7)
        stored: Any = gallery.keypoints
        nearest, _ = exact.nearest(gallery.snapshot, towards(5, 999), 7)
        assert stored.read_rows == nearest.tolist()
        assert set(ranking.geometry) == set(nearest.tolist())

    @pytest.mark.parametrize("queries", [1, 2])
    def test_of_copies_the_first_is_verified(
        self, made: Callable[..., Gallery], queries: int
    ) -> None:
        gallery = made(graph=False)
        rows, similar = exact.nearest(gallery.snapshot, towards(5, 999), 12)
        contents = gallery.snapshot.rows["content"].to_pylist()
        for copy, of in ((4, 1), (6, 1), (9, 2)):  # By their place among the nearest.
            contents[rows[copy]] = contents[rows[of]]
        table = gallery.snapshot.rows.set_column(1, "content", pa.array(contents, pa.binary()))
        gallery = replace(gallery, snapshot=replace(gallery.snapshot, rows=table))
        keypoints = [scene_keypoints(5, number) for number in range(queries)]
        told: list[tuple[int, int]] = []

        class Told(Watcher):
            def nearest(self, hits: Hits) -> None:
                raise AssertionError

            def verified(self, done: int, total: int) -> None:
                told.append((done, total))

        with watched(Told()):
            ranking = rerank(gallery, towards(5, 999), keypoints, rows, similar, verify=10)
        stored: Any = gallery.keypoints
        assert stored.read_rows == [rows[place] for place in (0, 1, 2, 3, 5, 7, 8)]
        assert told == [(done, 7 * queries) for done in range(1, 7 * queries + 1)]
        assert list(ranking.geometry) == rows[:10].tolist()
        for copy, of in ((4, 1), (6, 1), (9, 2)):
            assert ranking.geometry[rows[copy]] is ranking.geometry[rows[of]]

    def test_more_to_verify_than_there_are(self, made: Callable[..., Gallery]) -> None:
        ranking = ask(made(), 5, k=1000, verify=1000)
        assert len(ranking.rows) == len(ranking.geometry) == SCENES * EACH

    def test_of_several_query_photos_the_one_that_agrees_most_counts(
        self, made: Callable[..., Gallery]
    ) -> None:
        gallery = made()
        query = towards(5, 999)
        rows, similar = exact.nearest(gallery.snapshot, query, 10)
        wrong, right = scene_keypoints(500, 0), scene_keypoints(5, 3)
        alone = rerank(gallery, query, [right], rows, similar)
        for keypoints in ([wrong, right], [right, wrong], [wrong, right, right]):
            both = rerank(gallery, query, keypoints, rows, similar)
            assert both.rows.tolist() == alone.rows.tolist()
            assert both.scores.tolist() == alone.scores.tolist()
            assert both.geometry[of_scene(5).pop()].query is right

    def test_a_query_photo_without_keypoints(self, made: Callable[..., Gallery]) -> None:
        gallery = made()
        query = towards(5, 999)
        rows, similar = exact.nearest(gallery.snapshot, query, 10)
        some = scene_keypoints(5, 0)
        without = rerank(gallery, query, [], rows, similar)
        for count in (0, MIN_INLIERS - 1):
            few = Keypoints(some.xy[:count], some.descriptors[:count], 48, 32)
            ranking = rerank(gallery, query, [few], rows, similar)
            assert set(ranking.rows[:EACH].tolist()) == of_scene(5)
            assert ranking.geometry == {}, "too few to prove anything"
            np.testing.assert_array_equal(ranking.scores, without.scores)

    def test_by_hand(self, made: Callable[..., Gallery]) -> None:
        """Two photos, one link: the probability from its models."""
        rows = np.array([[1, 0], [0.6, 0.8]], np.float16)
        snapshot = Snapshot(
            1, None, pa.table({"content": [b"a" * 32, b"b" * 32]}), rows, *quantise(rows)
        )
        each = np.arange(2, dtype=np.int32)
        graph = Graph(np.array([0, 1, 2]), each[::-1], np.ones(2, np.float32), each, each)
        generic = calibration_of("unknown", "xfeat")
        models = Models((2.0, -3.0), (1.0, -1.0), (0.5, 1.5, 0.25, 1.0))
        known = Calibration(generic.background, models, generic.by_geometry, 8)
        query = np.array([1, 0], np.float32)
        gallery = Gallery(snapshot, known, None, graph, None)
        ranking = rerank(gallery, query, [], np.array([0]), np.array([1], np.float32))
        prior = generic.background
        mean = (1 + 0.6 + 8 * prior.mean) / 10
        square = (1 - mean) ** 2 + (0.6 - mean) ** 2
        square += 8 * (prior.std**2 + (prior.mean - mean) ** 2)
        spread = math.sqrt(square / 10)
        other = 2 * (0.6 - mean) / spread - 3
        first = (1 - mean) / max(spread, prior.std) - 1
        trust = math.sqrt(1 / (1 + math.exp(-first)))
        logits = [first, 0.5 * other + 1.5 * trust * math.log(0.901) + 0.25 * first + 1]
        assert ranking.rows.tolist() == [0, 1]
        expected = [1 / (1 + math.exp(-logit)) for logit in logits]
        assert ranking.scores == pytest.approx(expected, abs=2e-3)

    def test_nothing_near(self, made: Callable[..., Gallery]) -> None:
        none = np.empty(0, np.intp)
        ranking = rerank(made(), towards(1, 1), [], none, np.empty(0, np.float32))
        assert len(ranking.rows) == len(ranking.scores) == 0


def region_matches(seed: int, *keypoints: Keypoints) -> RegionMatches:
    """Return regions of which some stand out far more than any photo, at random."""
    rng = np.random.default_rng(seed)
    deviations = rng.normal(0, 4, SCENES * EACH).astype(np.float32)
    regions = rng.integers(0, 9, SCENES * EACH)
    return RegionMatches(regions, deviations / 10, deviations, deviations, keypoints)


class TestRegions:
    """What regions add, and what they must not change."""

    @pytest.mark.parametrize("graph", [True, False])
    @pytest.mark.parametrize("keypoints", [True, False])
    def test_regions_that_are_not_verified_move_no_photo_that_is_found(
        self, made: Callable[..., Gallery], graph: bool, keypoints: bool
    ) -> None:
        gallery = made(graph=graph, keypoints=keypoints, spread=1.5)
        strange = scene_keypoints(5000, 0)
        moved = 0
        for seed in range(2 * SCENES):
            options: Any = {"seen": 4000 if seed % 3 == 0 else None, "verify": 10}
            without = ask(gallery, seed % SCENES, **options)
            ranking = ask(gallery, seed % SCENES, regions=region_matches(seed, strange), **options)
            found = int((without.scores > MAX_DIFFERENT_PROBABILITY).sum())
            assert ranking.rows[0] == without.rows[0]
            assert ranking.rows[:found].tolist() == without.rows[:found].tolist()
            np.testing.assert_array_equal(ranking.scores[:found], without.scores[:found])
            assert (ranking.scores[found:] <= MAX_DIFFERENT_PROBABILITY).all()
            assert set(without.rows.tolist()) <= set(ranking.rows.tolist())
            assert ranking.found_in == {}
            moved += ranking.rows[: len(without.rows)].tolist() != without.rows.tolist()
        assert bool(moved) == keypoints, "without geometry regions do not count"

    @pytest.mark.parametrize("graph", [True, False])
    def test_a_verified_region_brings_a_photo_that_was_not_near(
        self, made: Callable[..., Gallery], graph: bool
    ) -> None:
        """The query looks like scene 4. Its small copy is in the photos of scene 9."""
        gallery = made(graph=graph)
        regions = region_matches(1, scene_keypoints(9, 3))
        deviations = np.full(SCENES * EACH, -1, np.float32)
        photo = 9 * EACH + 2
        deviations[photo] = 8
        regions = replace(regions, deviations=deviations, cautious_deviations=deviations)
        without = ask(gallery, 4, k=10, seen=4000)
        assert photo not in without.rows[:10]
        ranking = ask(gallery, 4, k=10, seen=4000, regions=regions)
        assert ranking.rows[0] == photo
        assert ranking.found_in == {photo: int(regions.regions[photo])}
        assert ranking.geometry[photo].verification.consistent_matches > MIN_INLIERS
        stranger = replace(regions, keypoints=(scene_keypoints(5000, 0),))
        assert ask(gallery, 4, k=10, seen=4000, regions=stranger).rows[0] == without.rows[0]

    def test_no_row_that_is_kept_out_comes_back(self, made: Callable[..., Gallery]) -> None:
        gallery = made()
        keep = np.zeros(SCENES * EACH, bool)
        keep[: 3 * EACH] = True
        regions = region_matches(2, scene_keypoints(9, 3))
        ranking = ask(gallery, 1, keep=keep, regions=regions)
        assert keep[ranking.rows].all()
        own = int(ask(gallery, 1).rows[0])
        near = replace(regions, deviations=np.full(SCENES * EACH, 5, np.float32))
        query = towards(1, 999)
        rows, similar = exact.nearest(gallery.snapshot, query, 10)
        others = rows != own
        ranking = rerank(
            gallery,
            query,
            [scene_keypoints(1, 3)],
            rows[others],
            similar[others],
            without=[own],
            regions=near,
        )
        assert own not in ranking.rows


class TestStrangers:
    """A query of something that the collection does not have."""

    def test_is_not_dragged_along_by_the_graph(self, made: Callable[..., Gallery]) -> None:
        gallery = made()
        known = [ask(gallery, scene) for scene in range(SCENES)]
        strangers = [ask(gallery, scene) for scene in range(1000, 1030)]
        worst = min(r.scores[EACH - 1] for r in known)
        best = np.array([r.scores[0] for r in strangers])
        assert (best < worst).all(), "the best of a stranger is below all of a scene's own"
        assert (best < 0.75).all()
        assert np.median(best) < 0.35

    def test_without_geometry_it_is_less_certain_than_what_is_there(
        self, made: Callable[..., Gallery]
    ) -> None:
        gallery = made(keypoints=False)
        best = np.array([ask(gallery, scene).scores[0] for scene in range(1000, 1030)])
        assert (best < 0.9).all()
        hits = np.array([ask(gallery, scene).scores[0] for scene in range(SCENES)])
        assert np.median(best) < np.median(hits) - 0.1

    def test_neighbours_of_a_wrong_hit_do_not_rise_above_it(
        self, made: Callable[..., Gallery]
    ) -> None:
        gallery = made()
        for scene in range(1000, 1010):
            query = towards(scene, 999)
            rows, similar = exact.nearest(gallery.snapshot, query, 20)
            found = gather_evidence(gallery, query, [scene_keypoints(scene, 0)], rows, similar)
            ranking = rerank(gallery, query, [scene_keypoints(scene, 0)], rows, similar)
            assert ranking.rows[0] == found.rows[found.pair.argmax()]


class TestLeftOut:
    """Rows that may not answer."""

    @pytest.mark.parametrize("seed", range(8))
    def test_no_forbidden_row_comes_in_through_the_graph(
        self, made: Callable[..., Gallery], seed: int
    ) -> None:
        gallery = made()
        keep = np.random.default_rng(seed).random(SCENES * EACH) < 0.5
        ranking = ask(gallery, seed, k=3, keep=keep)
        assert keep[ranking.rows].all()
        assert len(ranking.rows) > 3, "the graph brought in others"

    def test_a_whole_scene_forbidden(self, made: Callable[..., Gallery]) -> None:
        keep = np.ones(SCENES * EACH, np.bool_)
        keep[sorted(of_scene(5))] = False
        ranking = ask(made(), 5, keep=keep)
        assert keep[ranking.rows].all()
        assert ranking.scores[0] < 0.5

    def test_everything_forbidden(self, made: Callable[..., Gallery]) -> None:
        assert len(ask(made(), 5, keep=np.zeros(SCENES * EACH, np.bool_)).rows) == 0

    def test_a_row_taken_out_is_as_if_it_were_not_there(self, made: Callable[..., Gallery]) -> None:
        """Leave-one-out: the query's own row neither answers nor connects others."""
        gallery = made(keypoints=False)
        keep = np.ones(SCENES * EACH, np.bool_)
        keep[31] = False
        query = gallery.snapshot.descriptors[31].astype(np.float32)
        rows, similar = exact.nearest(gallery.snapshot, query, 3, keep)
        ranking = rerank(gallery, query, [], rows, similar, keep=keep, without=[31])
        assert 31 not in ranking.rows
        # Its own similarity of one is no part of what is usual.
        found = gather_evidence(gallery, query, [], rows, similar, keep=keep, without=[31])
        others = np.delete(np.arange(SCENES * EACH), 31)
        usual = exact.score(gallery.snapshot, query, others)
        mean, spread = gallery.calibration.background.estimate(usual[None])
        expected = (found.similarities - mean[0]) / spread[0]
        np.testing.assert_allclose(found.deviations, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("rerank", "distance", "keypoints", "mode"),
    [
        ("auto", "cosine", True, "geometry"),
        ("auto", "cosine", False, "global"),
        ("auto", "euclidean", True, "none"),
        ("auto", "manhattan", False, "none"),
        ("none", "cosine", True, "none"),
        ("none", "euclidean", True, "none"),
        ("global", "cosine", True, "global"),
        ("global", "cosine", False, "global"),
        ("geometry", "cosine", True, "geometry"),
    ],
)
def test_modes(rerank: str, distance: str, keypoints: bool, mode: str) -> None:
    assert resolve_rerank(rerank, distance, keypoints=keypoints) == mode


@pytest.mark.parametrize(
    ("rerank", "distance", "keypoints", "message"),
    [
        ("best", "cosine", True, "'best'.*auto, none, global, geometry"),
        ("", "cosine", True, "no way to rerank"),
        ("geometry", "cosine", False, "no keypoints"),
        ("geometry", "euclidean", True, "cosine distance only"),
        ("global", "manhattan", False, "cosine distance only"),
    ],
)
def test_modes_that_cannot_be(rerank: str, distance: str, keypoints: bool, message: str) -> None:
    with pytest.raises(errors.QueryError, match=message):
        resolve_rerank(rerank, distance, keypoints=keypoints)


def test_command_line_knows_every_mode() -> None:
    from veduta.cli.search import command

    (offered,) = [option for option in command.params if option.name == "rerank"]
    assert tuple(offered.type.choices) == RERANK_MODES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(8):
        for number in range(9):
            name = f"photos/class{scene}/{number}.png"
            save_view(tmp_path / name, 300 + scene, number, 0.45)
    return tmp_path / "photos"


@pytest.fixture
def engine(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    return engine_over(tmp_path / "index", photos, monkeypatch, TinyExtractor())


@pytest.fixture
def plain(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine over an index without keypoints."""
    return engine_over(tmp_path / "plain", photos, monkeypatch, None)


def engine_over(
    made: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, extractor: TinyExtractor | None
) -> Engine:
    encoder: Any = CentredEncoder()
    index.create_index(made, encoder, extractor)
    index.update_index(made, [photos], encoder, extractor, labels="folders")
    monkeypatch.setattr("veduta.search.engine.load_extractor", lambda *_, **__: TinyExtractor())
    return Engine(made, encoder=encoder)


def query(scene: int, number: int = 77) -> NDArray[np.uint8]:
    return view(300 + scene, number, 0.45)


def find(engine: Engine, scene: int, k: int = 10, **options: Any) -> list[Any]:
    encoded = engine.encode_query([query(scene)], rerank=options.get("rerank", "auto"))
    return engine.search(encoded, SearchOptions(k=k, **options))


class TestEngine:
    """From a photo to hits."""

    @pytest.mark.parametrize("mode", ["auto", "geometry", "global", "none"])
    def test_each_mode_finds_the_scene(self, engine: Engine, mode: str) -> None:
        for scene in range(8):
            hits = find(engine, scene, 9, rerank=mode)
            assert {hit.label for hit in hits} == {f"class{scene}"}
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)

    def test_the_score_is_the_probability(self, engine: Engine) -> None:
        for mode in ("geometry", "global"):
            for hit in find(engine, 2, rerank=mode):
                assert hit.evidence is not None
                assert hit.score == hit.evidence.probability
        for hit in find(engine, 2, rerank="none"):
            assert hit.evidence is None and hit.score == hit.similarity

    def test_evidence_of_geometry(self, engine: Engine) -> None:
        best, *_ = find(engine, 2)
        assert best.evidence.model == "homography"
        assert best.evidence.inliers >= 20
        assert best.evidence.region and best.evidence.query_region
        for x, y in best.evidence.region:
            assert -1 <= x <= 49 and -1 <= y <= 33
        (unlooked, *_) = find(engine, 2, rerank="global")
        assert unlooked.evidence.inliers is None and unlooked.evidence.model is None

    @pytest.mark.parametrize("mode", ["geometry", "global", "none"])
    @pytest.mark.parametrize("scene", range(4))
    def test_fewer_hits_are_the_first_of_more(self, engine: Engine, mode: str, scene: int) -> None:
        many = find(engine, scene, 30, rerank=mode)
        for k in (1, 2, 3, 10):
            assert find(engine, scene, k, rerank=mode) == many[:k]

    @pytest.mark.parametrize("verify", [1, 5])
    def test_fewer_hits_are_the_first_of_more_with_few_verified(
        self, engine: Engine, verify: int
    ) -> None:
        many = find(engine, 3, 30, verify=verify)
        for k in (1, 3, 10):
            assert find(engine, 3, k, verify=verify) == many[:k]

    def test_more_hits_than_verified(self, engine: Engine) -> None:
        hits = find(engine, 3, 1000)
        assert len(hits) == 72
        looked = [hit.evidence.inliers is not None for hit in hits]
        assert sum(looked) == VERIFIED_PHOTOS
        assert all(looked[:9])

    @pytest.mark.parametrize("mode", RERANK_MODES)
    @pytest.mark.parametrize("k", [0, -1])
    def test_at_least_one_hit(self, engine: Engine, mode: str, k: int) -> None:
        with pytest.raises(errors.QueryError, match="at least one"):
            find(engine, 3, k, rerank=mode)

    def test_min_score(self, engine: Engine) -> None:
        every = find(engine, 3, 72)
        some = find(engine, 3, 72, min_score=0.5)
        assert some == [hit for hit in every if hit.score >= 0.5]
        assert 0 < len(some) < 72

    @pytest.mark.parametrize("mode", ["geometry", "global"])
    def test_filters_hold(self, engine: Engine, photos: Path, mode: str) -> None:
        labels = ("class1", "class2")
        hits = find(engine, 5, 72, labels=labels, rerank=mode)
        assert {hit.label for hit in hits} <= {"class1", "class2"}
        hits = find(engine, 1, 72, labels=labels, rerank=mode)
        assert {hit.label for hit in hits[:9]} == {"class1"}
        assert find(engine, 1, labels=("nothing",), rerank=mode) == []

    def test_several_photos_of_one_thing(self, engine: Engine) -> None:
        encoded = engine.encode_query([query(3, 70), query(3, 71), query(3, 72)])
        assert len(encoded.keypoints) == 3
        assert {hit.label for hit in engine.search(encoded, SearchOptions(k=9))} == {"class3"}

    def test_a_stranger_has_no_probable_hit(self, engine: Engine) -> None:
        scores = [find(engine, scene, 1)[0].score for scene in range(500, 520)]
        assert max(scores) < 0.5
        assert min(find(engine, scene, 9)[8].score for scene in range(8)) > max(scores)

    def test_other_distances_are_not_ranked_again(self, engine: Engine) -> None:
        hits = find(engine, 3, distance="euclidean")
        assert hits == find(engine, 3, distance="euclidean", rerank="none")
        assert all(hit.evidence is None for hit in hits)
        with pytest.raises(errors.QueryError, match="cosine"):
            find(engine, 3, distance="euclidean", rerank="global")

    def test_unknown_mode(self, engine: Engine) -> None:
        with pytest.raises(errors.QueryError, match="Known"):
            engine.search(engine.encode_query([query(1)]), SearchOptions(rerank="magic"))
        with pytest.raises(errors.QueryError, match="Known"):
            engine.encode_query([query(1)], rerank="magic")

    def test_without_keypoints(self, plain: Engine) -> None:
        assert find(plain, 3) == find(plain, 3, rerank="global")
        assert {hit.label for hit in find(plain, 3, 9)} == {"class3"}
        with pytest.raises(errors.QueryError, match="no keypoints"):
            find(plain, 3, rerank="geometry")

    def test_a_question_asked_without_keypoints_is_answered_by_the_rest(
        self, engine: Engine
    ) -> None:
        encoded = engine.encode_query([query(3)], rerank="none")
        assert encoded.keypoints == ()
        assert engine.search(encoded) == find(engine, 3, rerank="global")

    def test_the_graph_is_missing(self, engine: Engine) -> None:
        before = find(engine, 3, 9)
        shutil.rmtree(engine.index / "graph")
        assert engine.state.gallery.graph is None
        hits = find(engine, 3, 9)
        assert {hit.path for hit in hits} == {hit.path for hit in before}
        assert {hit.label for hit in find(engine, 3, 9, rerank="global")} == {"class3"}

    def test_a_missing_graph_is_told_with_the_command_that_makes_it(
        self, engine: Engine, photos: Path
    ) -> None:
        expected = find(engine, 3, 9)
        assert engine.state.notice is None
        shutil.rmtree(engine.index / "graph")
        notice = engine.state.notice
        assert notice is not None
        assert notice.endswith(f"Link them with: veduta index --index {engine.index}")
        encoder: Any = CentredEncoder()
        index.update_index(engine.index, [], encoder, TinyExtractor())
        assert engine.state.notice is None
        assert find(engine, 3, 9) == expected

    def test_the_graph_is_behind(self, engine: Engine, photos: Path) -> None:
        """A writer has committed and not linked yet: rows of the old graph are not to be used."""
        encoder: Any = CentredEncoder()
        save_view(photos / "class0/late.png", 303, 9, 0.45)
        index.update_index(engine.index, [photos], encoder, TinyExtractor(), graph=False)
        assert engine.state.gallery.graph is None
        hits = find(engine, 3, 10)
        assert str(photos / "class0/late.png") in {hit.path for hit in hits}
        index.update_index(engine.index, [photos], encoder, TinyExtractor())
        assert engine.state.gallery.graph is not None, "seen without being told"

    def test_a_writer_that_links_while_the_gallery_is_opened(
        self, engine: Engine, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The graph of a newer version goes with other rows than those of the snapshot."""
        old = index.open_snapshot(engine.index)
        encoder: Any = CentredEncoder()
        (photos / "class0/0.png").unlink()
        index.update_index(engine.index, [photos], encoder, TinyExtractor())
        monkeypatch.setattr("veduta.search.reranking.open_snapshot", lambda path: old)
        assert open_gallery(engine.index).graph is None

    def test_through_a_projection(self, engine: Engine) -> None:
        index.set_projection(engine.index, 24)
        for mode in ("geometry", "global"):
            assert {hit.label for hit in find(engine, 3, 9, rerank=mode)} == {"class3"}

    def test_damaged_keypoints_are_told(self, engine: Engine) -> None:
        (file,) = (engine.index / "keypoints").iterdir()
        file.write_bytes(b"")
        with pytest.raises(errors.IndexDamaged, match=r"00000000\.bin.*veduta repair"):
            find(engine, 3)
        assert len(find(engine, 3, rerank="global")) == 10

    def test_keypoints_of_another_version_are_refused(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "veduta.search.engine.load_extractor",
            lambda *_, **__: TinyExtractor("ffffffffffffffff"),
        )
        with pytest.raises(errors.EncoderMismatch, match="another version of the keypoints 'tiny'"):
            engine.encode_query([query(3)])

    @pytest.mark.parametrize("number", [0, 1, 2, 3])
    def test_few_photos(self, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        few = tmp_path / "few"
        few.mkdir()
        for i in range(number):
            save_view(few / f"{i}.png", 300 + i, 1, 0.45)
        engine = engine_over(tmp_path / "made", few, monkeypatch, TinyExtractor())
        for mode in RERANK_MODES:
            hits = find(engine, 0, rerank=mode)
            assert len(hits) == number
            if number:
                assert Path(hits[0].path).name == "0.png"
        if number:
            assert find(engine, 0)[0].score > 0.5
            assert find(engine, 500)[0].score < 0.5

    def test_json_is_finite(self, engine: Engine) -> None:
        import json

        for mode in RERANK_MODES:
            for hit in find(engine, 3, 72, rerank=mode):
                json.dumps(hit.as_json(), allow_nan=False)
