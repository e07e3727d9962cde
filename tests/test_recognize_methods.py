"""The recognition methods, with examples worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recognition_galleries import (
    CLOSE,
    EAST,
    NORTH,
    WEST,
    D,
    crowd,
    gallery_of,
    labelled_crowd,
    query_of,
    unit,
)
from tiny import scene_keypoints

from veduta.errors import QueryError
from veduta.recognize import METHODS, LabelledGallery, fit_recognizer
from veduta.recognize.labelled_gallery import UNLABELLED
from veduta.recognize.linear import train
from veduta.recognize.methods import GEOMETRIC
from veduta.recognize.recognizer import DEFAULTS_FILE, default_confidence
from veduta.recognize.unknown import PRECISIONS

FEATURES = {"evidence": 3, "knn": 2, "inliers": 2, "prototypes": 2, "linear": 1}


class TestNearestNeighbours:
    """In the plane, with cosines that are short decimals."""

    @staticmethod
    def answers(labels: list[str | None], rows: Any, *without: int) -> tuple[list[str], Any]:
        labelled = LabelledGallery.of(gallery_of(rows), labels)
        linear = [0.0] * len(labelled.names)
        found = METHODS["knn"](labelled, query_of(unit(1, 0), linear, without))
        return [labelled.names[code] for code in found.class_ids], found.features

    def test_five_vote(self) -> None:
        rows = [EAST, (0.96, 0.28), (0.8, 0.6), (0.6, 0.8), (0.28, 0.96), NORTH, NORTH, NORTH]
        names, features = self.answers(["a", "b", "b", "c", None, "c", "c", "c"], rows)
        assert names == ["b"]
        assert features == pytest.approx(np.array([[2 / 5, 0.96]]), **CLOSE)

    def test_the_nearest_decides_a_tie(self) -> None:
        rows = [(0.6, 0.8), (0.28, 0.96), (0.96, 0.28), NORTH, (0.8, 0.6)]
        names, features = self.answers(["a", "a", "b", "b", None], rows)
        assert names == ["b"]
        assert features == pytest.approx(np.array([[2 / 5, 0.96]]), **CLOSE)

    def test_fewer_than_five_photos(self) -> None:
        names, features = self.answers(["a", None], [NORTH, EAST])
        assert names == ["a"]
        assert features == pytest.approx(np.array([[1 / 2, 0]]), **CLOSE)

    def test_no_labelled_photo_nearby(self) -> None:
        rows = [EAST] * 5 + [NORTH]
        names, features = self.answers([*[None] * 5, "a"], rows)
        assert names == [] and features.shape == (0, 2)

    def test_who_is_left_out_does_not_vote(self) -> None:
        rows = [EAST, EAST, (0.96, 0.28), (0.8, 0.6), (0.6, 0.8), (0.28, 0.96), NORTH]
        names, features = self.answers(["a", "a", "b", "b", "c", "c", "c"], rows, 0, 1)
        assert names == ["c"]
        assert features == pytest.approx(np.array([[3 / 5, 0.6]]), **CLOSE)


class TestPrototypes:
    def test_by_hand(self) -> None:
        # a: (1, 0) + (0, 1) at 45°, cosine √½. b: (0, 1), cosine 0. c: (-1, 0), cosine -1.
        labelled = LabelledGallery.of(gallery_of([EAST, NORTH, NORTH, WEST]), ["a", "a", "b", "c"])
        found = METHODS["prototypes"](labelled, query_of(unit(1, 0), [0, 0, 0]))
        assert found.class_ids.tolist() == [0, 1, 2]
        root = math.sqrt(0.5)
        expected = [[root, root], [0, -root], [-1, -1 - root]]
        assert found.features == pytest.approx(np.array(expected), **CLOSE)

    def test_a_single_label_has_none_to_stand_out_from(self) -> None:
        labelled = LabelledGallery.of(gallery_of([EAST, NORTH]), ["a", None])
        found = METHODS["prototypes"](labelled, query_of(unit(0.6, 0.8), [0]))
        assert found.features == pytest.approx(np.array([[0.6, 0]]), **CLOSE)

    @pytest.mark.parametrize("without", [[4], [4, 10, 16], [4, 5, 62], list(range(4, 60, 6))])
    def test_left_out_is_as_if_not_there(self, without: list[int]) -> None:
        rows, labels = crowd()
        labelled = LabelledGallery.of(gallery_of(rows), labels)
        rest = np.setdiff1d(np.arange(len(rows)), without)
        less = LabelledGallery.of(gallery_of(rows[rest]), [labels[at] for at in rest])
        query = unit(*rows[4])
        nothing = [0.0] * len(labelled.names)
        found = METHODS["prototypes"](labelled, query_of(query, nothing, without))
        again = METHODS["prototypes"](less, query_of(query, nothing[: len(less.names)]))
        assert [labelled.names[code] for code in found.class_ids] == [
            less.names[code] for code in again.class_ids
        ]
        assert found.features == pytest.approx(again.features, **CLOSE)
        assert found.ranking.rows.tolist() == rest[again.ranking.rows].tolist()

    def test_the_sums_stay_as_they_are(self) -> None:
        labelled = labelled_crowd()
        before = labelled.sums.copy()
        METHODS["prototypes"](labelled, query_of(unit(*[1.0] * D), [0] * 6, [0, 1, 2, 60]))
        np.testing.assert_array_equal(labelled.sums, before)

    def test_photos_that_cancel_out_have_no_mean(self) -> None:
        labelled = LabelledGallery.of(gallery_of([EAST, WEST, NORTH]), ["a", "a", "b"])
        found = METHODS["prototypes"](labelled, query_of(unit(1, 0), [0, 0]))
        assert found.class_ids.tolist() == [1]


class TestLinearMethod:
    def test_the_five_likeliest(self) -> None:
        labelled = LabelledGallery.of(gallery_of(np.eye(8)), list("abcdefgh"))
        scores = [0.1, 0.9, -0.2, 0.4, 0.4, -math.inf, 0.3, 0.2]
        found = METHODS["linear"](labelled, query_of(unit(*[1.0] * 8), scores))
        assert found.class_ids.tolist() == [1, 3, 4, 6, 7]
        assert found.features.tolist() == [[0.9], [0.4], [0.4], [0.3], [0.2]]
        assert len(found.ranking.rows) == 8 and found.ranking.score_kind == "similarity"

    def test_every_label_is_hidden(self) -> None:
        labelled = LabelledGallery.of(gallery_of([EAST, NORTH]), ["a", None])
        found = METHODS["linear"](labelled, query_of(unit(1, 0), [-math.inf], [0]))
        assert len(found.class_ids) == 0 and found.features.shape == (0, 1)


def scenes_gallery() -> tuple[LabelledGallery, NDArray[np.float64]]:
    """Return twelve labels of six photos each and six of none, with keypoints of their scenes."""
    rows, labels = crowd(classes=12, each=6, others=6, spread=0.5)
    scenes = [row % 12 for row in range(72)] + [100 + row for row in range(6)]
    return LabelledGallery.of(gallery_of(rows, scenes=scenes), labels), rows


class TestInliers:
    def test_each_hit_has_the_votes_of_its_inliers(self) -> None:
        labelled, rows = scenes_gallery()
        keypoints = [scene_keypoints(5, 3)]
        found = METHODS["inliers"](labelled, query_of(unit(*rows[2]), [0] * 12, (), keypoints))
        votes = dict.fromkeys(labelled.names, 0)
        everyone = 0
        for row, seen in found.ranking.geometry.items():
            everyone += len(seen.verification.inliers)
            if labelled.class_ids[row] != UNLABELLED:
                votes[labelled.names[labelled.class_ids[row]]] += len(seen.verification.inliers)
        winner = max(votes, key=lambda name: votes[name])
        assert winner == "place 5"  # it looks like place 2
        assert [labelled.names[code] for code in found.class_ids] == [winner]
        expected = [[math.log1p(votes[winner]), votes[winner] / everyone]]
        assert found.features == pytest.approx(np.array(expected))

    def test_without_any_the_nearest_decides(self) -> None:
        labelled, rows = scenes_gallery()
        found = METHODS["inliers"](labelled, query_of(unit(*rows[2]), [0] * 12))
        assert [labelled.names[code] for code in found.class_ids] == ["place 2"]
        assert found.features.tolist() == [[0, 0]]

    def test_no_labelled_photo_nearby(self) -> None:
        labelled = LabelledGallery.of(
            gallery_of([EAST] * 50 + [NORTH], scenes=[1] * 51), [*[None] * 50, "a"]
        )
        found = METHODS["inliers"](labelled, query_of(unit(1, 0), [0], (), [scene_keypoints(1, 2)]))
        assert len(found.class_ids) == 0 and found.features.shape == (0, 2)


class TestEvidence:
    def test_by_hand(self) -> None:
        labelled, rows = scenes_gallery()
        linear = np.linspace(-0.3, 0.9, 12)
        keypoints = [scene_keypoints(5, 3)]
        found = METHODS["evidence"](labelled, query_of(unit(*rows[2]), linear, (), keypoints))
        ranking = found.ranking
        codes = labelled.class_ids[ranking.rows].tolist()
        candidates = {7, 8, 9, 10, 11} | set(codes[:10]) - {UNLABELLED}
        assert set(found.class_ids.tolist()) == candidates
        assert {labelled.names.index("place 2"), labelled.names.index("place 5")} <= candidates
        for code, features in zip(found.class_ids.tolist(), found.features, strict=True):
            hits = [at for at, other in enumerate(codes) if other == code]
            likely = [float(ranking.scores[at]) for at in hits]
            logits = [math.log(p / (1 - p)) for p in likely if 0 < p < 1]
            agreeing = [
                ranking.geometry[int(ranking.rows[at])].verification.consistent_matches
                for at in hits
                if int(ranking.rows[at]) in ranking.geometry
            ]
            assert features[0] == linear[code]
            assert features[1] == pytest.approx(max([*logits, -7.0]))
            assert features[2] == pytest.approx(math.log1p(max([*agreeing, 0])))

    def test_a_certain_hit_is_worth_no_more_than_a_finite_number(self) -> None:
        labelled, rows = scenes_gallery()
        found = METHODS["evidence"](
            labelled, query_of(unit(*rows[2]), [0] * 12, (), [scene_keypoints(2, 2)])
        )
        assert np.isfinite(found.features).all()

    def test_without_keypoints_and_without_a_graph(self) -> None:
        labelled = labelled_crowd()
        found = METHODS["evidence"](labelled, query_of(unit(*[1.0] * D), [0] * 6))
        assert (found.features[:, 2] == 0).all()
        assert len(found.class_ids) >= 5

    def test_no_labelled_photo_nearby(self) -> None:
        """What is left is what the linear recogniser says."""
        labelled = LabelledGallery.of(
            gallery_of([EAST] * 60 + [NORTH, WEST]), [*[None] * 60, "a", "b"]
        )
        found = METHODS["evidence"](labelled, query_of(unit(1, 0), [0.2, 0.1]))
        assert found.features.tolist() == [[0.2, -7, 0], [0.1, -7, 0]]


class TestAllMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_photo_with_a_label(self, method: str) -> None:
        labelled = LabelledGallery.of(gallery_of([EAST, WEST], scenes=[3, 4]), ["a", None])
        recognizer = fit_recognizer(labelled, method)
        assert not recognizer.learned
        answer = recognizer.answer(unit(0.6, 0.8), [scene_keypoints(3, 1)])
        assert answer.names == ("a",)
        assert 0 <= answer.confidences[0] <= 1

    @pytest.mark.parametrize("method", METHODS)
    def test_features_are_finite_and_as_many_as_the_defaults_weigh(self, method: str) -> None:
        labelled, rows = scenes_gallery()
        linear = train(labelled).linear.scores(unit(*rows[3])[None])[0]
        for keypoints in ([], [scene_keypoints(3, 2)], [scene_keypoints(9, 2)] * 2):
            found = METHODS[method](labelled, query_of(unit(*rows[3]), linear, (), keypoints))
            assert found.features.shape == (len(found.class_ids), FEATURES[method])
            assert np.isfinite(found.features).all()
            assert len(set(found.class_ids.tolist())) == len(found.class_ids)
        for background in (True, False):
            confidence = default_confidence(method, background=background)
            assert len(confidence.weights) == FEATURES[method] + 1

    def test_everyone_knows_the_same_methods(self) -> None:
        from veduta.cli import evaluate as cli_evaluate
        from veduta.cli import recognize as cli_recognize

        assert tuple(METHODS) == cli_recognize.METHODS == cli_evaluate.RECOGNITION_METHODS
        assert set(GEOMETRIC) < set(METHODS)
        defaults = json.loads(DEFAULTS_FILE.read_text("utf-8"))
        assert {frozenset(part) for part in defaults.values()} == {frozenset(METHODS)}

    def test_unknown_method(self) -> None:
        with pytest.raises(QueryError, match=r"'guess'.*evidence, knn"):
            fit_recognizer(labelled_crowd(), "guess")

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("background", [True, False])
    def test_defaults_are_sane(self, method: str, background: bool) -> None:
        labelled = default_confidence(method, background=background)
        assert min(labelled.weights[:-1]) >= 0
        assert len(labelled.thresholds) == len(PRECISIONS)
        assert (np.diff(labelled.thresholds) >= 0).all()
        assert labelled.examples > 500
