"""Expansion, augmentation and global re-ranking against examples worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tiny import DescribedEncoder, TinyExtractor, save_view, scene_keypoints

import veduta
from veduta.errors import QueryError
from veduta.evaluation import retrieval_run
from veduta.index.calibration import calibration_of
from veduta.index.graph import Graph
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import Keypoints
from veduta.photos import content_hash
from veduta.search import exact
from veduta.search.expansion import (
    EXPANSIONS,
    augmented_scores,
    expanded_query,
    rank_by_expansion,
    superglobal_scores,
    verified_rows,
)
from veduta.search.reranking import Gallery

# Cosines and sines of right triangles, so that everything comes out in short decimals.
EAST, NORTH, BETWEEN = (1.0, 0.0), (0.0, 1.0), (0.8, 0.6)
CLOSE = {"abs": 1e-3}  # of float16


def snapshot_of(*rows: tuple[float, ...]) -> Snapshot:
    stored = np.array(rows, np.float16)
    table = pa.table(
        {
            "content": [content_hash(b"%d" % number) for number in range(len(rows))],
            "path": [b"%d.jpg" % number for number in range(len(rows))],
        }
    )
    return Snapshot(1, None, table, stored, *quantise(stored))


def graph_of(n: int, *links: tuple[int, int]) -> Graph:
    both = sorted({*links, *((b, a) for a, b in links)})
    starts = np.searchsorted([a for a, _ in both], np.arange(n + 1)).astype(np.int64)
    ends = np.array([b for _, b in both], np.int32)
    each = np.arange(n, dtype=np.int32)
    return Graph(starts, ends, np.ones(len(both), np.float32), each, each)


def query(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


class Stored:
    """Keypoints by row, each of the scene that is named."""

    def __init__(self, *scenes: int) -> None:
        self.scenes = scenes

    def read(self, row: int) -> Keypoints:
        return scene_keypoints(self.scenes[row], 1)


def gallery_of(snapshot: Snapshot, graph: Graph | None = None, *scenes: int) -> Gallery:
    files: Any = Stored(*scenes) if scenes else None
    return Gallery(
        snapshot, calibration_of("unknown", "xfeat"), files, graph, TinyExtractor.matching
    )


class TestExpansion:
    def test_the_mean_of_query_and_neighbour(self) -> None:
        # (1, 0) + (0.8, 0.6) = (1.8, 0.6), of length √3.6.
        mean = expanded_query(snapshot_of(BETWEEN), query(*EAST), np.array([0]), power=0)
        assert mean == pytest.approx(np.array([1.8, 0.6]) / np.sqrt(3.6), **CLOSE)

    def test_a_neighbour_weighs_a_power_of_its_similarity(self) -> None:
        # 0.8³ = 0.512: (1, 0) + 0.512 (0.8, 0.6) = (1.4096, 0.3072).
        mean = expanded_query(snapshot_of(BETWEEN), query(*EAST), np.array([0]))
        assert mean == pytest.approx(np.array([1.4096, 0.3072]) / 1.44268, **CLOSE)

    def test_nothing_similar_changes_nothing(self) -> None:
        snapshot = snapshot_of(NORTH, (-0.8, 0.6))
        assert expanded_query(snapshot, query(*EAST), np.array([0, 1])).tolist() == [1, 0]
        assert expanded_query(snapshot, query(*EAST), np.empty(0, np.intp)).tolist() == [1, 0]

    def test_only_verified_photos_take_part(self) -> None:
        # Row 0 is nearer, row 1 has the query's keypoints.
        snapshot = snapshot_of((0.8, 0.6, 0), (0.6, 0, 0.8), (0, 1, 0), (0, 0, 1))
        gallery = gallery_of(snapshot, None, 5, 7, 8, 9)
        east = query(1, 0, 0)
        rows, similar = exact.nearest(snapshot, east, 4)
        assert rows.tolist()[:2] == [0, 1]
        keypoints = [scene_keypoints(7, 0)]
        assert verified_rows(gallery, east, keypoints, rows, similar).tolist() == [1]
        assert verified_rows(gallery, east, keypoints, rows, similar, verify=1).tolist() == []
        ranked, scores = rank_by_expansion("expansion", gallery, east, keypoints, rows, similar)
        # (1, 0, 0) + 0.216 (0.6, 0, 0.8) = (1.1296, 0, 0.1728), of length 1.14274.
        assert ranked.tolist() == [0, 1, 3, 2]
        expected = [0.8 * 1.1296, 0.6 * 1.1296 + 0.8 * 0.1728, 0.1728, 0]
        assert scores == pytest.approx(np.array(expected) / 1.14274, **CLOSE)

    def test_without_verified_photos_it_is_the_plain_search(self) -> None:
        snapshot = snapshot_of(BETWEEN, NORTH, EAST)
        gallery = gallery_of(snapshot, None, 1, 2, 3)
        rows, similar = exact.nearest(snapshot, query(*EAST), 3)
        ranked, scores = rank_by_expansion(
            "expansion", gallery, query(*EAST), [scene_keypoints(9, 0)], rows, similar
        )
        assert ranked.tolist() == rows.tolist()
        assert scores.tolist() == similar.tolist()

    def test_rows_that_may_not_come_in_stay_out(self) -> None:
        snapshot = snapshot_of(BETWEEN, NORTH, EAST)
        gallery = gallery_of(snapshot, None, 1, 2, 3)
        keep = np.array([True, True, False])
        rows, similar = exact.nearest(snapshot, query(*EAST), 3, keep)
        keypoints = [scene_keypoints(1, 0)]
        ranked, _ = rank_by_expansion(
            "expansion", gallery, query(*EAST), keypoints, rows, similar, keep=keep, without=2
        )
        assert ranked.tolist() == [0, 1]


class TestAugmentation:
    def test_a_photo_is_averaged_with_its_neighbours(self) -> None:
        snapshot, graph = snapshot_of(NORTH, BETWEEN, EAST), graph_of(3, (0, 1))
        scores = augmented_scores(snapshot, graph, query(*EAST), np.array([2, 1, 0]), power=0)
        # Rows 0 and 1 both become (0.8, 1.6), of length √3.2; row 2 has no neighbour.
        assert scores == pytest.approx([1, 0.8 / np.sqrt(3.2), 0.8 / np.sqrt(3.2)], **CLOSE)

    def test_a_neighbour_weighs_a_power_of_its_similarity(self) -> None:
        snapshot, graph = snapshot_of(NORTH, BETWEEN), graph_of(2, (0, 1))
        # 0.6³ = 0.216: (0, 1) + 0.216 (0.8, 0.6) = (0.1728, 1.1296), of length 1.14274.
        (score,) = augmented_scores(snapshot, graph, query(*EAST), np.array([0]))
        assert score == pytest.approx(0.1728 / 1.14274, **CLOSE)

    def test_the_querys_own_photo_is_nobodys_neighbour(self) -> None:
        snapshot, graph = snapshot_of(NORTH, BETWEEN), graph_of(2, (0, 1))
        rows = np.array([0])
        (score,) = augmented_scores(snapshot, graph, query(*EAST), rows, without=[1])
        assert score == 0
        gallery = gallery_of(snapshot, graph)
        similar = np.zeros(1, np.float32)
        _, scores = rank_by_expansion(
            "augmentation", gallery, query(*EAST), [], rows, similar, without=1
        )
        assert scores.tolist() == [0]

    def test_what_neighbours_change(self) -> None:
        # Alone row 1 is nearer than row 0, whose neighbour is what the query shows.
        snapshot = snapshot_of((0.6, 0.8), (0.64, -0.768), EAST)
        graph = graph_of(3, (0, 2))
        rows, similar = exact.nearest(snapshot, query(*EAST), 3)
        assert rows.tolist() == [2, 1, 0]
        gallery = gallery_of(snapshot, graph)
        ranked, scores = rank_by_expansion("augmentation", gallery, query(*EAST), [], rows, similar)
        assert ranked.tolist() == [2, 0, 1]
        assert (np.diff(scores) < 0).all()
        same, plain = rank_by_expansion(
            "augmentation", replace(gallery, graph=None), query(*EAST), [], rows, similar
        )
        assert (same.tolist(), plain.tolist()) == (rows.tolist(), similar.tolist())


class TestGlobalReranking:
    def test_two_photos_by_hand(self) -> None:
        snapshot = snapshot_of(EAST, BETWEEN)
        similar = np.array([1, 0.8], np.float32)
        scores = superglobal_scores(
            snapshot, query(*EAST), np.array([0, 1]), similar, neighbour_weight=0.5
        )
        # Each gets 0.5 · 0.8 of the other: (1.32, 0.24) and (1.2, 0.6), of length one then.
        first = np.array([1.32, 0.24]) / np.hypot(1.32, 0.24)
        second = np.array([1.2, 0.6]) / np.hypot(1.2, 0.6)
        most = np.array([first[0], second[1]])
        most /= np.hypot(*most)
        expected = [(first[0] + first @ most) / 2, (second[0] + second @ most) / 2]
        assert scores == pytest.approx(expected, **CLOSE)

    def test_alone_a_photo_is_its_own_second_query(self) -> None:
        # The mean of the similarity to the query, 0.8, and of that to itself.
        rows, similar = np.array([0]), np.array([0.8], np.float32)
        scores = superglobal_scores(snapshot_of(BETWEEN), query(*EAST), rows, similar)
        assert scores == pytest.approx([0.9], **CLOSE)

    def test_copies_do_not_take_a_photos_own_place(self) -> None:
        rows, similar = np.arange(3), np.full(3, 0.8, np.float32)
        scores = superglobal_scores(
            snapshot_of(BETWEEN, BETWEEN, BETWEEN),
            query(*EAST),
            rows,
            similar,
            refining_descriptors=2,
        )
        assert scores == pytest.approx([0.9] * 3, **CLOSE)

    def test_what_is_not_refined_follows_in_its_order(self) -> None:
        # The second query is (0.6, 0.8), so row 1 comes to (0.6 - 0.28) / 2, less than row 2 has.
        snapshot = snapshot_of((0.6, 0.8), (0.6, -0.8), (0.5, 0.866), NORTH)
        rows, similar = exact.nearest(snapshot, query(*EAST), 4)
        assert rows.tolist() == [0, 1, 2, 3]
        scores = superglobal_scores(snapshot, query(*EAST), rows, similar, refined_photos=2)
        assert scores[:2] == pytest.approx([0.8, 0.16], **CLOSE)
        assert scores[1] > scores[2] > scores[3]
        assert scores[2] - scores[3] == pytest.approx(0.5, **CLOSE)

    def test_nothing_to_rank(self) -> None:
        none, nothing = np.empty(0, np.intp), np.empty(0, np.float32)
        for name in EXPANSIONS:
            gallery = gallery_of(snapshot_of(EAST), graph_of(1), 1)
            rows, scores = rank_by_expansion(name, gallery, query(*EAST), [], none, nothing)
            assert (len(rows), len(scores)) == (0, 0)


def test_a_name_that_is_none() -> None:
    gallery = gallery_of(snapshot_of(EAST))
    with pytest.raises(ValueError, match="'diffusion' is not one of expansion"):
        rank_by_expansion(
            "diffusion", gallery, query(*EAST), [], np.array([0]), np.ones(1, np.float32)
        )


@pytest.mark.parametrize("name", EXPANSIONS)
def test_alternatives_go_with_cosine_only(name: str, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="cosine"):
        veduta.evaluate(tmp_path, rerank=name, distance="euclidean")


@pytest.fixture
def small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(retrieval_run, "load_encoder", lambda *_, **__: DescribedEncoder())
    monkeypatch.setattr(retrieval_run, "load_extractor", lambda *_: TinyExtractor())
    for scene in range(4):
        for number in range(4):
            save_view(tmp_path / "set" / f"scene{scene}" / f"{number}.png", scene, number)
    return tmp_path / "set"


@pytest.mark.parametrize("name", EXPANSIONS)
def test_an_evaluation_says_which_and_gives_similarities(name: str, small_set: Path) -> None:
    found = veduta.evaluate(small_set, rerank=name)
    assert found.settings["rerank"] == name
    assert found.settings["verify"] == (50 if name == "expansion" else None)
    assert (found.summary.top1, found.summary.map) == (1, 1)
    for result in found.results:
        scores = [seen.score for seen in result.nearest]
        assert scores == sorted(scores, reverse=True)
        assert 1 > scores[2] > 0.5 > scores[3] > -1, "of the scene, and of others"
        assert result.path not in {found.gallery_paths[seen.row] for seen in result.nearest}
