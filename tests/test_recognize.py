"""Recognition against retraining from scratch, scikit-learn, and examples worked out by hand."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from tiny import CentredEncoder, TinyExtractor, save_view, scene_keypoints, view

import veduta
from veduta import index
from veduta.errors import (
    CollectionError,
    EncoderMismatch,
    NotAnIndex,
    PhotoError,
    QueryError,
)
from veduta.index.calibration import GENERIC, calibration_of
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import Keypoints
from veduta.recognize import (
    METHODS,
    Answer,
    Labelled,
    decide,
    label,
    learn,
    open_model,
    recognizer_of,
    stored,
)
from veduta.recognize.confidence import PRECISIONS, Confidence, Question, fit
from veduta.recognize.held_out import ENOUGH, MOST, questions
from veduta.recognize.labelled import UNLABELLED
from veduta.recognize.linear import RIDGE, train
from veduta.recognize.methods import GEOMETRIC, Asked
from veduta.recognize.recognizer import DEFAULTS, default_confidence
from veduta.search import Hit
from veduta.search.hit import Evidence
from veduta.search.reranking import Gallery, Ranking, open_gallery

D = 16
CLOSE = {"abs": 1e-3}  # of float16
Asking = Callable[..., tuple[list[Question], list[Asked]]]
NOBODY = np.empty(0, np.intp)
FEATURES = {"evidence": 3, "knn": 2, "inliers": 2, "prototypes": 2, "linear": 1}


class Stored:
    """Keypoints by row, each of the scene that is named."""

    def __init__(self, scenes: Sequence[int]) -> None:
        self.scenes = scenes

    def read(self, row: int) -> Keypoints:
        return scene_keypoints(self.scenes[row], row % 16)


def gallery_of(rows: Any, *, content: Sequence[bytes] = (), scenes: Sequence[int] = ()) -> Gallery:
    """Return a gallery without a graph of these descriptors, made to unit length."""
    full = np.array(rows, np.float32)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    kept = full.astype(np.float16)
    content = content or [b"photo %d" % number for number in range(len(kept))]
    table = pa.table(
        {
            "id": pa.array(range(len(kept)), pa.int64()),
            "content": pa.array(content, pa.binary()),
        }
    )
    files: Any = Stored(scenes) if scenes else None
    return Gallery(
        Snapshot(1, None, table, kept, *quantise(kept)), calibration_of(GENERIC), files, None
    )


def crowd(
    classes: int = 6, each: int = 10, others: int = 10, *, seed: int = 0, spread: float = 0.6
) -> tuple[NDArray[np.float64], list[str | None]]:
    """Return descriptors around a centre for each label, then some anywhere, and the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, D))
    labels: list[str | None] = [f"place {row % classes}" for row in range(classes * each)]
    rows = centres[np.arange(classes * each) % classes]
    rows = rows + spread * rng.standard_normal(rows.shape)
    return (
        np.concatenate([rows, rng.standard_normal((others, D))]),
        labels + [None] * others,
    )


def known_crowd(*, outsiders: bool = True, **options: Any) -> Labelled:
    rows, labels = crowd(**options)
    return label(gallery_of(rows), labels, outsiders=outsiders)


def unit(*values: float) -> NDArray[np.float32]:
    out = np.array(values, np.float32)
    return out / np.float32(np.linalg.norm(out))


def asked_of(
    descriptor: NDArray[np.float32],
    linear: Sequence[float],
    without: Sequence[int] = (),
    keypoints: Sequence[Keypoints] = (),
) -> Asked:
    return Asked(descriptor, keypoints, np.array(linear, np.float64), np.array(without, np.intp))


class TestLabelled:
    def test_codes_counts_and_sums(self) -> None:
        known = label(gallery_of([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]]), ["b", "a", "b", None])
        assert known.names == ("a", "b")
        assert known.codes.tolist() == [1, 0, 1, UNLABELLED]
        assert known.outsiders.tolist() == [3]
        assert known.counts.tolist() == [1, 2]
        assert known.sums == pytest.approx(np.array([[0, 1], [1.6, 0.8]]), **CLOSE)
        assert known.examples.tolist() == [True] * 4

    def test_unlabelled_photos_that_may_show_anything_are_no_examples(self) -> None:
        known = label(gallery_of([[1, 0], [0, 1], [-1, 0]]), ["b", None, "a"], outsiders=False)
        assert known.outsiders.tolist() == []
        assert known.examples.tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("labels", "outsiders"), [(["a"], True), (["a", "a"], True), (["a", None], False)]
    )
    def test_nothing_to_tell_it_from(self, labels: list[str | None], outsiders: bool) -> None:
        """Who knows one thing alone would take everything for it."""
        with pytest.raises(QueryError, match="label a, so there is nothing to tell it from"):
            label(gallery_of(np.eye(2)[: len(labels)]), labels, outsiders=outsiders)

    @pytest.mark.parametrize("labels", [[], [None, None]])
    def test_nothing_to_recognise(self, labels: list[str | None]) -> None:
        with pytest.raises(QueryError, match=r"No photo .* has a label.*--labels"):
            label(gallery_of(np.eye(2)[: len(labels)].reshape(-1, 2)), labels)


class FromScratch:
    """Ridge regression with an intercept that is not shrunk, by its normal equations in float64.

    As in `veduta.recognize.linear`, the descriptors are centred by the mean of all examples and
    the ridge is a share of the mean square over all examples, whoever is left out.
    """

    def __init__(self, known: Labelled) -> None:
        rows = known.gallery.snapshot.descriptors.astype(np.float64)
        self.examples = (known.codes >= 0) | np.isin(np.arange(len(rows)), known.outsiders)
        off = rows - rows[self.examples].mean(axis=0)
        off /= np.linalg.norm(off, axis=1, keepdims=True)
        self.rows = off - off[self.examples].mean(axis=0)
        self.targets = (known.codes[:, None] == np.arange(len(known.names))).astype(np.float64)
        self.ridge = RIDGE * np.mean(np.sum(self.rows[self.examples] ** 2, axis=1))

    def scores(self, row: int, without: Sequence[int] = ()) -> NDArray[np.float64]:
        there = self.examples.copy()
        there[list(without)] = False
        table = np.column_stack([self.rows[there], np.ones(there.sum())])
        shrunk = np.diag([self.ridge] * self.rows.shape[1] + [0.0])
        weights = np.linalg.solve(table.T @ table + shrunk, table.T @ self.targets[there])
        out: NDArray[np.float64] = np.append(self.rows[row], 1) @ weights
        return out


class TestLinear:
    @pytest.mark.parametrize("outsiders", [True, False])
    def test_training_is_a_ridge_regression(self, outsiders: bool) -> None:
        known = known_crowd(outsiders=outsiders)
        scratch = FromScratch(known)
        found = train(known).linear.scores(known.gallery.snapshot.descriptors)
        for row in (0, 7, 59, 65):
            assert found[row] == pytest.approx(scratch.scores(row), abs=1e-5)

    @pytest.mark.parametrize("outsiders", [True, False])
    @pytest.mark.parametrize(
        "without", [[3], [3, 4], [3, 9, 27, 41], [3, 65, 69], list(range(3, 60, 6))]
    )
    def test_held_out_is_training_again(self, outsiders: bool, without: list[int]) -> None:
        """One photo, several of several labels, with unlabelled ones, and all of one label."""
        known = known_crowd(outsiders=outsiders)
        rows = np.array(without, np.intp)
        found = train(known).held_out(3, rows)
        assert found == pytest.approx(FromScratch(known).scores(3, without), abs=2e-5)

    def test_an_outsider_held_out(self) -> None:
        known = known_crowd()
        found = train(known).held_out(66, np.array([60, 66]))
        assert found == pytest.approx(FromScratch(known).scores(66, [60, 66]), abs=2e-5)

    def test_held_out_is_near_to_what_a_gallery_without_them_says(self) -> None:
        """It keeps the means, which move a little: the order of the labels is the same."""
        rows, labels = crowd(each=20)
        known = label(gallery_of(rows), labels)
        training = train(known)
        for row in range(0, 120, 17):
            rest = np.arange(len(rows)) != row
            less = label(gallery_of(rows[rest]), [labels[at] for at in np.flatnonzero(rest)])
            again = train(less).linear.scores(known.gallery.snapshot.descriptors[[row]])[0]
            held_out = training.held_out(row, np.array([row]))
            assert held_out == pytest.approx(again, abs=0.02)
            assert held_out.argmax() == again.argmax()

    def test_several_blocks_are_as_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = known_crowd()
        whole = train(known).linear
        monkeypatch.setattr("veduta.recognize.linear._BLOCK", 7)
        monkeypatch.setattr("veduta.recognize.labelled._BLOCK", 7)
        apart = train(known).linear
        np.testing.assert_allclose(apart.weights, whole.weights, atol=1e-5)
        np.testing.assert_allclose(apart.shift, whole.shift, atol=1e-6)
        np.testing.assert_allclose(known_crowd().sums, known.sums, atol=1e-4)

    def test_a_score_is_about_one_for_its_own_and_zero_for_others(self) -> None:
        known = known_crowd(spread=0.05, each=20)
        scores = train(known).linear.scores(known.gallery.snapshot.descriptors[:120])
        own = scores[np.arange(120), known.codes[:120]]
        assert own.min() > 0.8
        scores[np.arange(120), known.codes[:120]] = 0
        assert np.abs(scores).max() < 0.25

    @pytest.mark.parametrize("labels", [["a", None], ["a", "b"], ["a", "a", None]])
    def test_very_few_photos(self, labels: list[str | None]) -> None:
        known = label(gallery_of(np.eye(3)[: len(labels)]), labels)
        scores = train(known).linear.scores(np.eye(3, dtype=np.float32))
        assert np.isfinite(scores).all()

    def test_equal_descriptors(self) -> None:
        known = label(gallery_of([[1, 0]] * 4), ["a", "a", "b", None])
        scores = train(known).linear.scores(np.array([[1, 0]], np.float32))
        assert scores[0] == pytest.approx([0.5, 0.25], abs=1e-5)


def asked_questions(seed: int = 0, number: int = 300) -> list[Question]:
    """Return questions with three candidates each, of two features that speak for the answer."""
    rng = np.random.default_rng(seed)
    made = []
    for at in range(number):
        right = np.zeros(3, np.bool_)
        if at % 3:
            right[rng.integers(3)] = True
        features = rng.standard_normal((3, 2)) * (1, 5) + right[:, None] * (1.5, 4)
        made.append(Question(features, right, float(rng.uniform(0.1, 2))))
    return made


def sklearn_weights(
    made: Sequence[Question], columns: Sequence[int], shrink: float = 1e-4
) -> NDArray[np.float64]:
    """Return what scikit-learn makes of the same questions, on some of their features."""
    features = np.concatenate([question.features for question in made])[:, columns]
    right = np.concatenate([question.right for question in made])
    weight = np.concatenate([np.full(len(q.right), q.weight) for q in made])
    mean, spread = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=1 / (shrink * len(right)), tol=1e-10, max_iter=10_000)
    model.fit((features - mean) / spread, right, sample_weight=weight / weight.mean())
    slopes = model.coef_[0] / spread
    return np.append(slopes, model.intercept_[0] - slopes @ mean)


class TestConfidence:
    def test_the_fit_is_that_of_scikit_learn(self) -> None:
        made = asked_questions()
        fitted = fit(made)
        assert fitted.weights == pytest.approx(sklearn_weights(made, [0, 1]), rel=1e-4)
        assert fitted.questions == 300

    def test_what_speaks_against_itself_is_left_out(self) -> None:
        """A feature that would count against a name weighs nothing, and the rest is fitted anew."""
        made = [
            replace(q, features=np.column_stack([q.features[:, 0], -q.features[:, 1]]))
            for q in asked_questions()
        ]
        weights = fit(made).weights
        assert weights[1] == 0
        assert weights[::2] == pytest.approx(sklearn_weights(made, [0]), rel=1e-4)

    def test_nothing_speaks_for_anything(self) -> None:
        made = [replace(q, features=-q.features) for q in asked_questions()]
        *slopes, constant = fit(made).weights
        assert slopes == [0, 0]
        weight = np.array([q.weight for q in made])
        share = (weight * [q.right.sum() for q in made]).sum() / (3 * weight).sum()
        assert constant == pytest.approx(math.log(share / (1 - share)), rel=1e-6)

    def test_confidence_is_the_logistic_of_the_weighted_features(self) -> None:
        model = Confidence((2.0, 0.5, -1.0), (0.0,) * len(PRECISIONS), 9)
        found = model.of(np.array([[0.5, 1.0], [0.0, 0.0], [1e9, 0.0], [-1e9, 0.0]]))
        expected = [1 / (1 + math.exp(-0.5)), 1 / (1 + math.e), 1, 0]
        assert found == pytest.approx(expected, abs=1e-12)
        assert model.of(np.empty((0, 2))).shape == (0,)

    def test_perfectly_apart(self) -> None:
        """Answers that evidence tells apart without an error do not run away to infinity."""
        yes = [Question(np.array([[1.0]]), np.array([True]), 1.0)] * 20
        no = [Question(np.array([[0.0]]), np.array([False]), 1.0)] * 20
        fitted = fit(yes + no)
        likely = fitted.of(np.array([[1.0], [0.0]]))
        assert likely[0] > 0.9 and likely[1] < 0.1
        assert np.isfinite(fitted.weights).all()
        assert fitted.threshold(0.99) == pytest.approx(likely.mean())

    @pytest.mark.parametrize("right", [True, False])
    def test_one_kind_of_question_alone(self, right: bool) -> None:
        made = [Question(np.array([[float(at)]]), np.array([right]), 1.0) for at in range(9)]
        with pytest.raises(ValueError, match="with an answer and questions without"):
            fit(made)

    def test_no_question(self) -> None:
        with pytest.raises(ValueError, match="questions"):
            fit([])

    def test_questions_without_candidates_are_never_answered(self) -> None:
        empty = Question(np.empty((0, 2)), np.empty(0, np.bool_), 5.0)
        made = asked_questions()
        fitted = fit(made + [empty] * 7)
        assert fitted.questions == 307
        assert fitted.weights == fit(made).weights
        assert fitted.thresholds == fit(made).thresholds


def by_hand(
    confidences: Sequence[float], right: Sequence[bool], weights: Sequence[float], wanted: float
) -> float:
    """Return half way from the lowest right answer from which on answers are precise to the next.

    Below the last right answer there are only wrong ones to be had. 2 if none is that precise.
    """
    reached = []
    for least in (value for value, good in zip(confidences, right, strict=True) if good):
        named = [i for i, confidence in enumerate(confidences) if confidence >= least]
        total = sum(weights[i] for i in named)
        if sum(weights[i] for i in named if right[i]) >= wanted * total - 1e-12:
            reached.append(least)
    if not reached:
        return 2.0
    below = [value for value in confidences if value < min(reached)]
    return (min(reached) + max(below, default=0.0)) / 2


class TestThresholds:
    @staticmethod
    def fitted(
        features: Sequence[float], right: Sequence[bool], weights: Sequence[float]
    ) -> tuple[Confidence, list[float]]:
        """Return the model of questions with one candidate each, and their confidences."""
        made = [
            Question(np.array([[value]]), np.array([good]), weight)
            for value, good, weight in zip(features, right, weights, strict=True)
        ]
        model = fit(made)
        return model, model.of(np.array(features)[:, None]).tolist()

    @pytest.mark.parametrize("seed", range(12))
    def test_against_trying_them_all(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        features = (rng.integers(0, 12, 60) / 4).tolist()  # many ties
        right = (rng.uniform(0, 4, 60) < np.array(features)).tolist()
        weights = rng.uniform(0.2, 3, 60).tolist()
        model, confidences = self.fitted(features, right, weights)
        for wanted in PRECISIONS:
            expected = by_hand(confidences, right, weights, wanted)
            assert model.threshold(wanted) == expected

    def test_equal_confidences_stand_or_fall_together(self) -> None:
        # At 3: 2 of 2. At 2: 3 of 4 right, in whatever order they are asked. At 1: 3 of 5, but
        # nothing right is there.
        features, right = [3.0, 3.0, 2.0, 2.0, 1.0], [True, True, True, False, False]
        model, (at_3, _, at_2, _, at_1) = self.fitted(features, right, [1.0] * 5)
        assert model.threshold(0.76) == (at_3 + at_2) / 2
        assert model.threshold(0.75) == (at_2 + at_1) / 2
        assert model.threshold(0.6) == (at_2 + at_1) / 2

    def test_weights_count(self) -> None:
        # At 3: 5 of 5. At 2: 6 of 15, which are two of three.
        features, right = [3.0, 2.0, 2.0, 1.0], [True, False, True, False]
        model, (at_3, at_2, _, _) = self.fitted(features, right, [5.0, 9.0, 1.0, 1.0])
        assert model.threshold(0.5) == (at_3 + at_2) / 2
        model, (_, at_2, _, at_1) = self.fitted(features, right, [1.0] * 4)
        assert model.threshold(0.5) == (at_2 + at_1) / 2

    def test_never_falls_with_the_precision(self) -> None:
        for seed in range(5):
            assert (np.diff(fit(asked_questions(seed, 80)).thresholds) >= 0).all()

    def test_never_reached(self) -> None:
        features, right = [3.0, 3.0, 2.0, 1.0], [True, False, True, False]
        model, _ = self.fitted(features, right, [1.0, 2.0, 1.0, 1.0])
        assert model.threshold(0.99) > 1

    @pytest.mark.parametrize(("wanted", "at"), [(0.5, 0), (0.9, 40), (0.905, 41), (0.99, 49)])
    def test_between_two_precisions_the_higher_one_counts(self, wanted: float, at: int) -> None:
        model = Confidence((1.0, 0.0), tuple(number / 100 for number in range(50)), 9)
        assert model.threshold(wanted) == at / 100

    @pytest.mark.parametrize("wanted", [math.nan, 0.0, 0.49, 1.0, 90.0, -1.0, math.inf])
    def test_a_precision_that_cannot_be_had(self, wanted: float) -> None:
        model = Confidence((1.0, 0.0), (0.5,) * len(PRECISIONS), 9)
        with pytest.raises(QueryError, match=r"from 0\.5 to 0\.99"):
            model.threshold(wanted)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Return what asks a collection all its questions, and says with what evidence."""
    plain = METHODS["linear"]

    def ask(known: Labelled, **options: Any) -> tuple[list[Question], list[Asked]]:
        asked: list[Asked] = []

        def recorded(known: Labelled, one: Asked) -> Any:
            asked.append(one)
            return plain(known, one)

        monkeypatch.setitem(METHODS, "linear", recorded)
        return questions("linear", known, train(known), **options), asked

    return ask


def of_kind(known: Labelled, asked: Asked) -> str:
    """Tell by what is left out which kind of question was asked."""
    left_out = known.codes[asked.without]
    if (left_out == UNLABELLED).all():
        return "outsider"
    code = left_out[left_out != UNLABELLED][0]
    gone = np.count_nonzero(left_out == code) == known.counts[code]
    return "hidden" if gone else "named"


class TestQuestions:
    def test_every_photo_is_asked_in_each_way(self, asking: Asking) -> None:
        known = known_crowd()
        made, asked = asking(known)
        kinds = [of_kind(known, one) for one in asked]
        assert [kinds.count(kind) for kind in ("named", "hidden", "outsider")] == [60, 60, 10]
        weight = dict.fromkeys(kinds, 0.0)
        for kind, one in zip(kinds, made, strict=True):
            weight[kind] += one.weight
        assert weight == pytest.approx({"named": 2, "hidden": 1, "outsider": 1})

    @pytest.mark.parametrize("options", [{"outsiders": False}, {"classes": 1, "each": 40}])
    def test_half_of_the_weight_is_on_unknown_ones(
        self, asking: Asking, options: dict[str, Any]
    ) -> None:
        """Also without photos of nothing known, or where no label can be hidden."""
        known = known_crowd(**options)
        made, asked = asking(known)
        named = [of_kind(known, one) == "named" for one in asked]
        weight = [one.weight for one in made]
        assert any(named) and not all(named)
        assert np.dot(weight, named) == pytest.approx(sum(weight) / 2)

    def test_hidden_labels_are_no_candidates(self, asking: Asking) -> None:
        known = known_crowd()
        made, asked = asking(known)
        for question, one in zip(made, asked, strict=True):
            kind = of_kind(known, one)
            assert (kind == "named") or not question.right.any()
            if kind == "hidden":
                (code,) = set(known.codes[one.without].tolist())
                assert one.linear[code] == -np.inf
                assert np.isfinite(np.delete(one.linear, code)).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_no_method_names_what_is_hidden(self, method: str) -> None:
        """With all photos of a label out, its name is gone from every method's answers."""
        rows, labels = crowd()
        known = label(gallery_of(rows, scenes=[i % 6 for i in range(70)]), labels)
        training = train(known)
        for row in (0, 8, 33):
            code = known.codes[row]
            without = np.flatnonzero(known.codes == code)
            linear = training.held_out(row, without)
            linear[code] = -np.inf
            keypoints = [scene_keypoints(row % 6, 3)] if method in GEOMETRIC else []
            asked = Asked(unit(*rows[row]), keypoints, linear, without)
            found = METHODS[method](known, asked)
            assert code not in found.codes
            assert not np.isin(found.ranking.rows, without).any()
            assert np.isfinite(found.features).all()

    def test_exact_copies_are_left_out(self, asking: Asking) -> None:
        rows, labels = crowd(classes=4, each=9, others=7)
        content = [b"photo %d" % number for number in range(len(rows))]
        content[8] = content[0]  # of the same label
        content[40] = content[36]  # of none
        content[41] = content[1]  # one of none is a copy of one with a label
        known = label(gallery_of(rows, content=content), labels)
        _, asked = asking(known)
        without = {tuple(one.without.tolist()) for one in asked}
        assert {(0, 8), (36, 40), (1, 41)} <= without
        alone = {one[0] for one in without if len(one) == 1}
        assert not alone & {0, 1, 8, 36, 40, 41}

    def test_a_label_known_from_copies_alone_is_not_asked_for(self, asking: Asking) -> None:
        rows, labels = crowd(classes=4, each=10, others=0)
        rows = np.concatenate([rows, rows[:3]])
        content = [b"photo %d" % number for number in range(40)] + [b"twin", b"twin", b"single"]
        known = label(gallery_of(rows, content=content), [*labels, "twins", "twins", "single"])
        made, asked = asking(known)
        sure = [one for one in asked if of_kind(known, one) == "named"]
        assert len(sure) == 40
        # The twins and the single one are asked as unknown all the same.
        hidden = [set(one.without.tolist()) for one in asked if of_kind(known, one) == "hidden"]
        assert len(hidden) == 43 and {40, 41} in hidden and {42} in hidden
        assert all(len(one.features) for one in made)

    def test_the_photo_itself_is_asked_with(self, asking: Asking) -> None:
        known = known_crowd()
        _, asked = asking(known)
        rows = known.gallery.snapshot.descriptors.astype(np.float32)
        for one in asked:
            assert np.linalg.norm(one.descriptor) == pytest.approx(1, abs=1e-6)
            nearest = int((rows @ one.descriptor).argmax())
            assert nearest in one.without

    def test_too_few_photos_teach_nothing(self, asking: Asking) -> None:
        assert asking(known_crowd(classes=1, each=ENOUGH - 1, others=50))[0] == []
        assert asking(known_crowd(classes=1, each=ENOUGH, others=50))[0]
        assert asking(known_crowd(classes=40, each=1, others=5))[0] == []

    def test_the_seed_decides_who_is_asked(self, asking: Asking) -> None:
        known = known_crowd(classes=4, each=90, others=400)
        first, asked = asking(known, seed=3)
        assert len(first) == 3 * MOST
        again, _ = asking(known, seed=3)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.features, other.features)
        _, others = asking(known, seed=4)
        assert {tuple(one.without) for one in asked} != {tuple(one.without) for one in others}
        rows = [tuple(one.without) for one in asked if of_kind(known, one) == "named"]
        assert len(set(rows)) == MOST

    def test_progress_ends_with_all(self, asking: Asking) -> None:
        told: list[tuple[int, int]] = []
        made, _ = asking(known_crowd(), on_progress=lambda done, total: told.append((done, total)))
        assert told[0] == (0, len(made)) and told[-1] == (len(made), len(made))
        assert told == sorted(told)

    def test_one_of_two_labels_is_not_hidden(self, asking: Asking) -> None:
        """With only one kind of photo left everything would be certain to be of it."""
        known = known_crowd(classes=2, each=20, others=0)
        _, asked = asking(known)
        assert {of_kind(known, one) for one in asked} == {"named"}
        known = known_crowd(classes=2, each=20, others=3)
        _, asked = asking(known)
        assert {of_kind(known, one) for one in asked} == {"named", "hidden", "outsider"}
        known = known_crowd(classes=3, each=20, others=0)
        _, asked = asking(known)
        assert {of_kind(known, one) for one in asked} == {"named", "hidden"}

    def test_labels_with_too_many_photos_are_not_hidden(
        self, asking: Asking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("veduta.recognize.held_out._LARGEST", 9)
        known = known_crowd()
        _, asked = asking(known)
        assert {of_kind(known, one) for one in asked} == {"named", "outsider"}


EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


class TestNearestNeighbours:
    """In the plane, with cosines that are short decimals."""

    @staticmethod
    def answers(labels: list[str | None], rows: Any, *without: int) -> tuple[list[str], Any]:
        known = label(gallery_of(rows), labels)
        linear = [0.0] * len(known.names)
        found = METHODS["knn"](known, asked_of(unit(1, 0), linear, without))
        return [known.names[code] for code in found.codes], found.features

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
        known = label(gallery_of([EAST, NORTH, NORTH, WEST]), ["a", "a", "b", "c"])
        found = METHODS["prototypes"](known, asked_of(unit(1, 0), [0, 0, 0]))
        assert found.codes.tolist() == [0, 1, 2]
        root = math.sqrt(0.5)
        expected = [[root, root], [0, -root], [-1, -1 - root]]
        assert found.features == pytest.approx(np.array(expected), **CLOSE)

    def test_a_single_label_has_none_to_stand_out_from(self) -> None:
        known = label(gallery_of([EAST, NORTH]), ["a", None])
        found = METHODS["prototypes"](known, asked_of(unit(0.6, 0.8), [0]))
        assert found.features == pytest.approx(np.array([[0.6, 0]]), **CLOSE)

    @pytest.mark.parametrize("without", [[4], [4, 10, 16], [4, 5, 62], list(range(4, 60, 6))])
    def test_left_out_is_as_if_not_there(self, without: list[int]) -> None:
        rows, labels = crowd()
        known = label(gallery_of(rows), labels)
        rest = np.setdiff1d(np.arange(len(rows)), without)
        less = label(gallery_of(rows[rest]), [labels[at] for at in rest])
        query = unit(*rows[4])
        nothing = [0.0] * len(known.names)
        found = METHODS["prototypes"](known, asked_of(query, nothing, without))
        again = METHODS["prototypes"](less, asked_of(query, nothing[: len(less.names)]))
        assert [known.names[code] for code in found.codes] == [
            less.names[code] for code in again.codes
        ]
        assert found.features == pytest.approx(again.features, **CLOSE)
        assert found.ranking.rows.tolist() == rest[again.ranking.rows].tolist()

    def test_the_sums_stay_as_they_are(self) -> None:
        known = known_crowd()
        before = known.sums.copy()
        METHODS["prototypes"](known, asked_of(unit(*[1.0] * D), [0] * 6, [0, 1, 2, 60]))
        np.testing.assert_array_equal(known.sums, before)

    def test_photos_that_cancel_out_have_no_mean(self) -> None:
        known = label(gallery_of([EAST, WEST, NORTH]), ["a", "a", "b"])
        found = METHODS["prototypes"](known, asked_of(unit(1, 0), [0, 0]))
        assert found.codes.tolist() == [1]


class TestLinearMethod:
    def test_the_five_likeliest(self) -> None:
        known = label(gallery_of(np.eye(8)), list("abcdefgh"))
        scores = [0.1, 0.9, -0.2, 0.4, 0.4, -math.inf, 0.3, 0.2]
        found = METHODS["linear"](known, asked_of(unit(*[1.0] * 8), scores))
        assert found.codes.tolist() == [1, 3, 4, 6, 7]
        assert found.features.tolist() == [[0.9], [0.4], [0.4], [0.3], [0.2]]
        assert len(found.ranking.rows) == 8 and not found.ranking.weighed

    def test_every_label_is_hidden(self) -> None:
        known = label(gallery_of([EAST, NORTH]), ["a", None])
        found = METHODS["linear"](known, asked_of(unit(1, 0), [-math.inf], [0]))
        assert len(found.codes) == 0 and found.features.shape == (0, 1)


def scenes_gallery() -> tuple[Labelled, NDArray[np.float64]]:
    """Return twelve labels of six photos each and six of none, with keypoints of their scenes."""
    rows, labels = crowd(classes=12, each=6, others=6, spread=0.5)
    scenes = [row % 12 for row in range(72)] + [100 + row for row in range(6)]
    return label(gallery_of(rows, scenes=scenes), labels), rows


class TestInliers:
    def test_each_hit_has_the_votes_of_its_inliers(self) -> None:
        known, rows = scenes_gallery()
        keypoints = [scene_keypoints(5, 3)]
        found = METHODS["inliers"](known, asked_of(unit(*rows[2]), [0] * 12, (), keypoints))
        votes = dict.fromkeys(known.names, 0)
        everyone = 0
        for row, seen in found.ranking.geometry.items():
            everyone += len(seen.verification.inliers)
            if known.codes[row] != UNLABELLED:
                votes[known.names[known.codes[row]]] += len(seen.verification.inliers)
        winner = max(votes, key=lambda name: votes[name])
        assert winner == "place 5"  # it looks like place 2
        assert [known.names[code] for code in found.codes] == [winner]
        expected = [[math.log1p(votes[winner]), votes[winner] / everyone]]
        assert found.features == pytest.approx(np.array(expected))

    def test_without_any_the_nearest_decides(self) -> None:
        known, rows = scenes_gallery()
        found = METHODS["inliers"](known, asked_of(unit(*rows[2]), [0] * 12))
        assert [known.names[code] for code in found.codes] == ["place 2"]
        assert found.features.tolist() == [[0, 0]]

    def test_no_labelled_photo_nearby(self) -> None:
        known = label(gallery_of([EAST] * 50 + [NORTH], scenes=[1] * 51), [*[None] * 50, "a"])
        found = METHODS["inliers"](known, asked_of(unit(1, 0), [0], (), [scene_keypoints(1, 2)]))
        assert len(found.codes) == 0 and found.features.shape == (0, 2)


class TestEvidence:
    def test_by_hand(self) -> None:
        known, rows = scenes_gallery()
        linear = np.linspace(-0.3, 0.9, 12)
        keypoints = [scene_keypoints(5, 3)]
        found = METHODS["evidence"](known, asked_of(unit(*rows[2]), linear, (), keypoints))
        ranking = found.ranking
        codes = known.codes[ranking.rows].tolist()
        candidates = {7, 8, 9, 10, 11} | set(codes[:10]) - {UNLABELLED}
        assert set(found.codes.tolist()) == candidates
        assert {known.names.index("place 2"), known.names.index("place 5")} <= candidates
        for code, features in zip(found.codes.tolist(), found.features, strict=True):
            hits = [at for at, other in enumerate(codes) if other == code]
            likely = [float(ranking.probabilities[at]) for at in hits]
            logits = [math.log(p / (1 - p)) for p in likely if 0 < p < 1]
            agreeing = [
                ranking.geometry[int(ranking.rows[at])].verification.agreeing
                for at in hits
                if int(ranking.rows[at]) in ranking.geometry
            ]
            assert features[0] == linear[code]
            assert features[1] == pytest.approx(max([*logits, -7.0]))
            assert features[2] == pytest.approx(math.log1p(max([*agreeing, 0])))

    def test_a_certain_hit_is_worth_no_more_than_a_finite_number(self) -> None:
        known, rows = scenes_gallery()
        found = METHODS["evidence"](
            known, asked_of(unit(*rows[2]), [0] * 12, (), [scene_keypoints(2, 2)])
        )
        assert np.isfinite(found.features).all()

    def test_without_keypoints_and_without_a_graph(self) -> None:
        known = known_crowd()
        found = METHODS["evidence"](known, asked_of(unit(*[1.0] * D), [0] * 6))
        assert (found.features[:, 2] == 0).all()
        assert len(found.codes) >= 5

    def test_no_labelled_photo_nearby(self) -> None:
        """What is left is what the linear recogniser says."""
        known = label(gallery_of([EAST] * 60 + [NORTH, WEST]), [*[None] * 60, "a", "b"])
        found = METHODS["evidence"](known, asked_of(unit(1, 0), [0.2, 0.1]))
        assert found.features.tolist() == [[0.2, -7, 0], [0.1, -7, 0]]


class TestAllMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_photo_with_a_label(self, method: str) -> None:
        known = label(gallery_of([EAST, WEST], scenes=[3, 4]), ["a", None])
        recognizer = learn(known, method)
        assert not recognizer.learned
        answer = recognizer.answer(unit(0.6, 0.8), [scene_keypoints(3, 1)])
        assert answer.names == ("a",)
        assert 0 <= answer.confidences[0] <= 1

    @pytest.mark.parametrize("method", METHODS)
    def test_features_are_finite_and_as_many_as_the_defaults_weigh(self, method: str) -> None:
        known, rows = scenes_gallery()
        linear = train(known).linear.scores(unit(*rows[3])[None])[0]
        for keypoints in ([], [scene_keypoints(3, 2)], [scene_keypoints(9, 2)] * 2):
            found = METHODS[method](known, asked_of(unit(*rows[3]), linear, (), keypoints))
            assert found.features.shape == (len(found.codes), FEATURES[method])
            assert np.isfinite(found.features).all()
            assert len(set(found.codes.tolist())) == len(found.codes)
        assert len(default_confidence(method).weights) == FEATURES[method] + 1

    def test_everyone_knows_the_same_methods(self) -> None:
        from veduta.cli import evaluate as cli_evaluate
        from veduta.cli import recognize as cli_recognize

        assert tuple(METHODS) == cli_recognize.METHODS == cli_evaluate.RECOGNITION
        assert set(GEOMETRIC) < set(METHODS)
        assert set(json.loads(DEFAULTS.read_text("utf-8"))) == set(METHODS)

    def test_unknown_method(self) -> None:
        with pytest.raises(QueryError, match=r"'guess'.*evidence, knn"):
            learn(known_crowd(), "guess")

    @pytest.mark.parametrize("method", METHODS)
    def test_defaults_are_sane(self, method: str) -> None:
        known = default_confidence(method)
        assert min(known.weights[:-1]) >= 0
        assert len(known.thresholds) == len(PRECISIONS)
        assert (np.diff(known.thresholds) >= 0).all()
        assert known.questions > 500


def hit(name: str, place: str | None, inliers: int | None = None) -> Hit:
    evidence = Evidence(0.5, inliers) if inliers is not None else None
    return Hit(name, 0.5, 0.4, place, 40, 30, None, 7, evidence)


def answer_of(**confidences: float) -> Answer:
    ranking = Ranking(NOBODY, np.empty(0, np.float32), np.empty(0))
    return Answer(tuple(confidences), np.array(list(confidences.values())), ranking)


class TestDecide:
    SURE = Confidence((1.0, 0.0), tuple(0.4 + at / 100 for at in range(40)) + (2.0,) * 10, 90)
    """Names are given from 0.4 on for a precision of 0.5, from 0.6 for 0.7, never for 0.9."""
    HITS = (hit("1", "a"), hit("2", "b"), hit("3", "a"), hit("4", None), hit("5", "a"))

    def test_named(self) -> None:
        found = decide(answer_of(a=0.7, b=0.2, c=0.1), self.SURE, 0.7, self.HITS)
        assert (found.label, found.guess, found.reason) == ("a", "a", None)
        assert (found.confidence, found.threshold) == (0.7, pytest.approx(0.6))
        assert found.runners_up == (("b", 0.2), ("c", 0.1))
        assert [one.path for one in found.hits] == ["1", "3", "5"]

    def test_exactly_at_the_threshold(self) -> None:
        least = self.SURE.threshold(0.7)
        assert decide(answer_of(a=least), self.SURE, 0.7, ()).label == "a"
        assert decide(answer_of(a=np.nextafter(least, 0)), self.SURE, 0.7, ()).label is None

    def test_five_hits_and_four_runners_up_at_most(self) -> None:
        many = {letter: 0.9 - at / 20 for at, letter in enumerate("abcdefgh")}
        found = decide(answer_of(**many), self.SURE, 0.5, [hit(str(at), "a") for at in range(9)])
        assert [name for name, _ in found.runners_up] == list("bcde")
        assert len(found.hits) == 5
        found = decide(answer_of(a=0.1), self.SURE, 0.5, [hit(str(at), "b") for at in range(9)])
        assert len(found.hits) == 5

    def test_a_name_without_a_photo_among_the_hits(self) -> None:
        found = decide(answer_of(a=0.9), self.SURE, 0.5, [hit("1", "b")])
        assert found.label == "a" and found.hits == ()

    @pytest.mark.parametrize(
        ("confidences", "precision", "hits", "reason"),
        [
            ({}, 0.5, HITS, "no labelled photo resembles it"),
            ({"a": 0.3}, 0.5, (hit("1", None),), "the photo nearest to it has no label; a comes"),
            ({"a": 0.3, "b": 0.15}, 0.5, HITS, "it may be a (30%) or b (15%)"),
            ({"a": 0.3, "b": 0.149}, 0.5, HITS, "a is the likeliest at 30%; names are given from"),
            ({"a": 0.12, "b": 0.09}, 0.5, HITS, "a is the likeliest at 12%; names are given from"),
            ({"a": 0.59999}, 0.7, HITS, "a is the likeliest at 59%; names are given from 6"),
            ({"a": 0.004}, 0.7, (), "a is the likeliest at under 1%; names are given from 6"),
            ({"a": 0.999}, 0.9, (), "no answer of this collection reaches a precision of 90%"),
        ],
    )
    def test_unknown_and_why(
        self, confidences: dict[str, float], precision: float, hits: tuple[Hit, ...], reason: str
    ) -> None:
        found = decide(answer_of(**confidences), self.SURE, precision, hits)
        assert found.label is None
        assert found.reason is not None and found.reason.startswith(reason)
        assert found.guess == next(iter(confidences), None)
        assert found.hits == tuple(hits)

    def test_json(self) -> None:
        found = decide(answer_of(a=0.71234567, b=0.2), self.SURE, 0.7, [hit("1", "a", 12)])
        told = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert told["label"] == told["guess"] == "a"
        assert told["confidence"] == 0.712346 and told["threshold"] == 0.6
        assert told["runners_up"] == [{"label": "b", "confidence": 0.2}]
        assert told["hits"][0]["inliers"] == 12 and told["reason"] is None
        told = decide(answer_of(), self.SURE, 0.9, ()).as_json()
        assert told["threshold"] is None and told["confidence"] == 0 and told["hits"] == []

    def test_a_precision_out_of_range(self) -> None:
        with pytest.raises(QueryError, match="precision"):
            decide(answer_of(a=0.7), self.SURE, 1.0, ())


PLACES, EACH = ("arch", "bridge", "column", "dome"), 9


def fill(folder: Path) -> Path:
    """Write nine views of each of four places, and six photos of other things beside them."""
    for scene, place in enumerate(PLACES):
        for number in range(EACH):
            save_view(folder / place / f"{number}.png", scene, number)
    for scene in range(100, 106):
        save_view(folder / f"{scene}.png", scene)
    return folder


def indexed(home: Path, **options: Any) -> Path:
    """Index the photos of `home` and return the index; `options` are those of `update_index`."""
    encoder, extractor = CentredEncoder(), TinyExtractor()
    if not (home / "index").exists():
        index.create_index(home / "index", encoder, extractor)
    index.update_index(
        home / "index", [home / "photos"], encoder, extractor, labels="folders", **options
    )
    return home / "index"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recognize")
    fill(home / "photos")
    indexed(home)
    return home


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Path:
    """An index of this test alone, whose photos others look at too."""
    shutil.copytree(template / "index", tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with photos that may be changed and an index of them."""
    fill(tmp_path / "photos")
    indexed(tmp_path)
    return tmp_path


def labelled(folder: Path, **options: Any) -> Labelled:
    gallery = open_gallery(folder)
    names = gallery.snapshot.rows["label"].to_pylist()[: gallery.snapshot.photos]
    return label(gallery, names, **options)


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each time of learning adds its method."""
    times: list[str] = []

    def told(known: Labelled, method: str, **options: Any) -> Any:
        times.append(method)
        return learn(known, method, **options)

    monkeypatch.setattr(stored, "learn", told)
    return times


def kept_files(made: Path) -> list[str]:
    return sorted(file.name for file in (made / stored.FOLDER).iterdir())


class TestStored:
    def test_learned_once(self, made: Path, learning: list[str]) -> None:
        known = labelled(made)
        first = recognizer_of(made, known, "evidence")
        assert first.learned and learning == ["evidence"]
        second = recognizer_of(made, labelled(made), "evidence")
        assert learning == ["evidence"]
        assert second.confidence == first.confidence and second.learned
        query = CentredEncoder().encode([(CentredEncoder().prepare(view(1, 77))[0],)])[0]
        seen = [TinyExtractor().extract(view(1, 77), 48, 32)]
        one, other = first.answer(query, seen), second.answer(query, seen)
        assert one.names == other.names and one.names[0] == "bridge"
        np.testing.assert_array_equal(one.confidences, other.confidences)

    @pytest.mark.parametrize("method", ["evidence", "knn", "linear"])
    def test_each_method_has_its_own(self, made: Path, learning: list[str], method: str) -> None:
        recognizer_of(made, labelled(made), "linear")
        recognizer_of(made, labelled(made), method)
        recognizer_of(made, labelled(made), "linear")
        recognizer_of(made, labelled(made), method)
        assert learning == ["linear", method][: 1 + (method != "linear")]

    def test_a_new_photo_is_learned_from(self, home: Path, learning: list[str]) -> None:
        recognizer_of(home / "index", labelled(home / "index"), "knn")
        before = kept_files(home / "index")
        save_view(home / "photos" / "dome" / "new.png", 3, 40)
        indexed(home)
        recognizer_of(home / "index", labelled(home / "index"), "knn")
        assert learning == ["knn"] * 2
        assert len(kept_files(home / "index")) == 1 and kept_files(home / "index") != before

    def test_another_label_is_learned_from(self, home: Path, learning: list[str]) -> None:
        recognizer_of(home / "index", labelled(home / "index"), "linear")
        (home / "photos" / "dome").rename(home / "photos" / "cupola")
        indexed(home)
        found = recognizer_of(home / "index", labelled(home / "index"), "linear")
        assert learning == ["linear"] * 2
        assert found.known.names == ("arch", "bridge", "column", "cupola")

    def test_with_and_without_outsiders_are_kept_side_by_side(
        self, made: Path, learning: list[str]
    ) -> None:
        for _ in range(2):
            for outsiders in (True, False):
                known = labelled(made, outsiders=outsiders)
                recognizer_of(made, known, "linear")
        assert learning == ["linear"] * 2
        assert len(kept_files(made)) == 2

    def test_what_an_older_version_taught_is_not_kept_for_a_newer_one(
        self, home: Path, learning: list[str]
    ) -> None:
        """A photo is changed while the recogniser of the version before it is asked for."""
        old = labelled(home / "index")
        save_view(home / "photos" / "dome" / "0.png", 200, 3)
        indexed(home)
        recognizer_of(home / "index", old, "linear")
        new = labelled(home / "index")
        assert new.codes.tolist() == old.codes.tolist()
        found = recognizer_of(home / "index", new, "linear")
        np.testing.assert_array_equal(found.linear.weights, train(new).linear.weights)

    def test_damaged_files_are_learned_again(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = labelled(made)
        first = recognizer_of(made, known, "linear")
        learned: list[str] = []

        def again(*_: Any, **__: Any) -> Any:
            learned.append("again")
            return first

        monkeypatch.setattr(stored, "learn", again)
        (file,) = (made / stored.FOLDER).iterdir()
        whole = file.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [b"", b"PK", b"nothing", whole[: len(whole) // 2], whole[:-1]]
        for _ in range(60):
            changed = bytearray(whole)
            for at in rng.integers(len(whole), size=8).tolist():
                changed[at] = int(rng.integers(256))
            damaged.append(bytes(changed))
        headers = [at for at in range(len(whole)) if whole[at : at + 2] == b"PK"]
        for at in headers:  # where a single byte does most
            for offset in range(min(30, len(whole) - at)):
                changed = bytearray(whole)
                changed[at + offset] ^= 0x5A
                damaged.append(bytes(changed))
        with_pickle = io.BytesIO()
        np.savez(with_pickle, **{"weights": np.array([{}], object)})
        plain = io.BytesIO()
        np.save(plain, np.zeros(3))
        for content in (*damaged, with_pickle.getvalue(), plain.getvalue()):
            file.write_bytes(content)
            found = recognizer_of(made, known, "linear")
            np.testing.assert_array_equal(found.linear.weights, first.linear.weights)
            np.testing.assert_array_equal(found.linear.bias, first.linear.bias)
            assert found.confidence == first.confidence
        assert len(learned) > len(damaged) / 3

    def test_of_other_dimensions_is_learned_again(self, made: Path, learning: list[str]) -> None:
        known = labelled(made)
        first = recognizer_of(made, known, "linear")
        (file,) = (made / stored.FOLDER).iterdir()
        with np.load(file) as kept:
            arrays = dict(kept)
        arrays["weights"] = arrays["weights"][:7]
        np.savez(file, **arrays)
        again = recognizer_of(made, known, "linear")
        assert again.linear.weights.shape == first.linear.weights.shape
        assert learning == ["linear"] * 2

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of a POSIX system")
    def test_an_index_that_cannot_be_written_to(self, made: Path, learning: list[str]) -> None:
        (made / stored.FOLDER).write_text("in the way of the folder")
        for _ in range(2):
            found = recognizer_of(made, labelled(made), "linear")
            assert found.learned
        assert learning == ["linear"] * 2

    def test_no_draft_is_left(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", full)
            assert recognizer_of(made, labelled(made), "linear").learned
        assert kept_files(made) == []

    def test_several_at_once(self, made: Path) -> None:
        known = labelled(made)

        def get(number: int) -> Any:
            return recognizer_of(made, known, ("linear", "knn")[number % 2])

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(get, range(24)))
        for one in found:
            np.testing.assert_array_equal(one.linear.weights, found[0].linear.weights)
        assert len(kept_files(made)) == 2

    def test_too_few_photos_go_by_the_defaults_of_today(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """General experience is not frozen beside the index: it comes with the package."""
        for file in (home / "photos").glob("*/[6-8].png"):
            file.unlink()
        indexed(home)
        known = labelled(home / "index")
        first = recognizer_of(home / "index", known, "knn")
        assert not first.learned and first.confidence == default_confidence("knn")
        other = Confidence((1.0, 2.0, -1.0), (0.5,) * len(PRECISIONS), 7)
        for module in ("recognizer", "stored"):
            monkeypatch.setattr(
                f"veduta.recognize.{module}.default_confidence", lambda _: other, raising=False
            )
        assert recognizer_of(home / "index", known, "knn").confidence == other

    def test_unknown_method(self, made: Path) -> None:
        with pytest.raises(QueryError, match="is no way to recognise"):
            recognizer_of(made, labelled(made), "../evil")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny encoder and extractor be found by name."""
    for module in ("search.engine", "recognize.model"):
        monkeypatch.setattr(f"veduta.{module}.load_encoder", lambda *_, **__: CentredEncoder())
    monkeypatch.setattr("veduta.search.engine.load_extractor", lambda *_, **__: TinyExtractor())


@pytest.mark.usefixtures("stand_ins")
class TestIndex:
    """`Index.recognize`, from a photo to an answer."""

    @pytest.mark.parametrize("method", METHODS)
    def test_new_views_are_named_and_others_are_not(self, made: Path, method: str) -> None:
        opened = veduta.open(made)
        for scene, place in enumerate(PLACES):
            found = opened.recognize(view(scene, 50), method=method)
            assert found.label == found.guess == place
            assert found.confidence >= found.threshold
            assert found.reason is None
            assert found.hits and {one.label for one in found.hits} == {place}
        rejected = [opened.recognize(view(scene), method=method) for scene in range(300, 310)]
        assert sum(one.label is None for one in rejected) >= 9
        assert all(one.reason for one in rejected if one.label is None)

    def test_the_same_photo_as_path_and_as_array(self, made: Path, tmp_path: Path) -> None:
        opened = veduta.open(made)
        photo = save_view(tmp_path / "new.png", 2, 60)
        first, second = (opened.recognize(one, method="prototypes") for one in (photo, view(2, 60)))
        assert first.as_json() == second.as_json()

    def test_several_photos_of_one_thing(self, made: Path) -> None:
        opened = veduta.open(made)
        assert opened.recognize(view(1, 70), view(1, 71), method="knn").label == "bridge"

    def test_evidence_names_its_inliers(self, made: Path) -> None:
        found = veduta.open(made).recognize(view(0, 80))
        assert found.hits[0].evidence is not None
        assert (found.hits[0].evidence.inliers or 0) > 20
        assert veduta.open(made).recognize(view(0, 80), method="knn").hits[0].evidence is None

    def test_a_photo_of_the_gallery(self, made: Path, template: Path) -> None:
        found = veduta.open(made).recognize(template / "photos" / "dome" / "3.png")
        assert found.label == "dome"
        assert found.hits[0].path.endswith("dome/3.png")

    def test_precision_decides(self, made: Path) -> None:
        opened = veduta.open(made)
        thresholds = [
            opened.recognize(view(0, 90), precision=wanted).threshold for wanted in (0.5, 0.8, 0.99)
        ]
        assert thresholds == sorted(thresholds)
        with pytest.raises(QueryError, match="precision"):
            opened.recognize(view(0, 90), precision=95)

    def test_learned_once_and_again_when_photos_change(
        self, home: Path, learning: list[str]
    ) -> None:
        opened = veduta.open(home / "index")
        for _ in range(3):
            assert opened.recognize(view(5, 1), method="linear").label is None
        assert learning == ["linear"]
        for number in range(EACH):
            save_view(home / "photos" / "obelisk" / f"{number}.png", 5, number + 10)
        indexed(home)
        assert opened.recognize(view(5, 1), method="linear").label == "obelisk"
        assert learning == ["linear"] * 2

    def test_no_photo_has_a_label(self, tmp_path: Path) -> None:
        for scene in range(3):
            save_view(tmp_path / "photos" / f"{scene}.png", scene)
        indexed(tmp_path)
        with pytest.raises(QueryError, match="has a label"):
            veduta.open(tmp_path / "index").recognize(view(0))

    def test_no_photo_named(self, made: Path) -> None:
        with pytest.raises(QueryError, match="at least one photo"):
            veduta.open(made).recognize()

    @pytest.mark.parametrize("method", METHODS)
    def test_an_index_without_keypoints_and_through_a_projection(
        self, tmp_path: Path, method: str
    ) -> None:
        fill(tmp_path / "photos")
        index.create_index(tmp_path / "index", CentredEncoder())
        index.update_index(
            tmp_path / "index",
            [tmp_path / "photos"],
            CentredEncoder(),
            labels="folders",
            graph=method == "evidence",
        )
        opened = veduta.open(tmp_path / "index")
        assert opened.recognize(view(3, 55), method=method).guess == "dome"
        opened.project(8)
        found = opened.recognize(view(3, 55), method=method)
        assert found.guess == "dome"

    def test_one_label_and_nothing_else(self, tmp_path: Path) -> None:
        for number in range(3):
            save_view(tmp_path / "photos" / "dome" / f"{number}.png", 3, number)
        indexed(tmp_path)
        with pytest.raises(QueryError, match="nothing to tell it from"):
            veduta.open(tmp_path / "index").recognize(view(0))

    @pytest.mark.parametrize("method", ["evidence", "knn", "prototypes", "linear"])
    def test_two_kinds_of_photos(self, two_kinds: tuple[Path, bool], method: str) -> None:
        """Either is known, and is not seen everywhere."""
        folder, others = two_kinds
        opened = veduta.open(folder)
        assert opened.recognizer(method).learned == others
        named = [opened.recognize(view(3, number), method=method).label for number in (60, 61, 62)]
        assert named == ["dome"] * 3
        unknown = [opened.recognize(view(scene), method=method).label for scene in range(210, 215)]
        assert unknown.count(None) >= 4


@pytest.fixture(scope="module", params=[True, False], ids=["and others", "and another"])
def two_kinds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """An index of a place and others beside it, or of two places; and whether it is the first."""
    home = tmp_path_factory.mktemp("two")
    for number in range(32):
        save_view(home / "photos" / "dome" / f"{number}.png", 3, number)
        if request.param:
            save_view(home / "photos" / f"{number}.png", 400 + number)
        else:
            save_view(home / "photos" / "arch" / f"{number}.png", 4, number)
    return indexed(home), request.param


@pytest.fixture
def exported(made: Path, tmp_path: Path, stand_ins: None) -> Path:
    veduta.open(made).export_model(tmp_path / "model")
    return tmp_path / "model"


def change(exported: Path, **facts: Any) -> None:
    """Change what `model.json` says; None takes an entry away."""
    file = exported / "model.json"
    told = {**json.loads(file.read_text("utf-8")), **facts}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def change_arrays(exported: Path, **arrays: Any) -> None:
    file = exported / "weights.npz"
    with np.load(file) as kept:
        told = {**kept, **arrays}
    np.savez(file, **{key: value for key, value in told.items() if value is not None})


@pytest.mark.usefixtures("stand_ins")
class TestModel:
    def test_answers_as_the_index_does(self, made: Path, exported: Path, tmp_path: Path) -> None:
        opened, model = veduta.open(made), open_model(exported)
        for number, scene in enumerate((0, 1, 2, 3, 300, 301)):
            photo = save_view(tmp_path / "new.png", scene, 60 + number)
            one = opened.recognize(photo, method="linear", precision=0.8)
            other = model.recognize(photo, precision=0.8)
            assert (other.label, other.guess) == (one.label, one.guess)
            assert other.confidence == pytest.approx(one.confidence, abs=1e-12)
            assert other.threshold == one.threshold
            assert [name for name, _ in other.runners_up] == [name for name, _ in one.runners_up]
            assert other.hits == ()
        assert model.names == PLACES

    def test_large_photos_are_decoded_as_the_index_does(
        self, made: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An index with keypoints decodes more pixels than the encoder asks for."""
        monkeypatch.setattr(TinyExtractor, "long_side", 640)
        opened = veduta.open(made)
        opened.export_model(tmp_path / "wide")
        photo = tmp_path / "large.jpg"
        noise = np.random.default_rng(3).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photo)
        wide = open_model(tmp_path / "wide").recognize(photo)
        assert wide.confidence == opened.recognize(photo, method="linear").confidence
        assert wide.confidence != open_model(exported).recognize(photo).confidence

    def test_plain_files(self, exported: Path) -> None:
        assert sorted(file.name for file in exported.iterdir()) == ["model.json", "weights.npz"]
        facts = json.loads((exported / "model.json").read_text("utf-8"))
        assert facts["format"] == 1 and facts["names"] == list(PLACES)
        assert facts["encoder"] == {"name": "tiny", "identity": CentredEncoder().identity}
        with np.load(exported / "weights.npz", allow_pickle=False) as arrays:
            assert {name: arrays[name].shape for name in arrays} == {
                "middle": (192,),
                "shift": (192,),
                "weights": (192, 4),
                "bias": (4,),
            }

    def test_whole_or_not_at_all(self, exported: Path) -> None:
        assert [file.name for file in exported.parent.iterdir() if "draft" in file.name] == []

    @pytest.mark.skipif(os.name != "posix", reason="permissions of a POSIX system")
    def test_who_may_read_it_is_what_the_user_is_used_to(self, exported: Path) -> None:
        usual = exported.parent / "usual"
        usual.mkdir()
        assert exported.stat().st_mode == usual.stat().st_mode

    def test_an_existing_folder(self, made: Path, exported: Path, learning: list[str]) -> None:
        opened = veduta.open(made)
        before = (exported / "model.json").stat().st_mtime_ns
        with pytest.raises(CollectionError, match="is there already"):
            opened.export_model(exported)
        assert (exported / "model.json").stat().st_mtime_ns == before
        assert learning == []  # told before minutes of learning

    def test_a_place_that_cannot_be_written_to(self, made: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(CollectionError, match="cannot be written"):
            veduta.open(made).export_model(tmp_path / "file" / "model")

    def test_of_a_projection(self, home: Path) -> None:
        opened = veduta.open(home / "index")
        opened.project(8)
        with pytest.raises(QueryError, match="projection"):
            opened.export_model(home / "model")
        opened.project(None)
        opened.export_model(home / "model")
        photo = save_view(home / "new.png", 1, 70)
        assert open_model(home / "model").recognize(photo).guess == "bridge"

    def test_without_outsiders(self, made: Path, tmp_path: Path) -> None:
        opened = veduta.open(made)
        opened.export_model(tmp_path / "model", outsiders=False)
        with np.load(tmp_path / "model" / "weights.npz") as arrays:
            np.testing.assert_array_equal(
                arrays["weights"], opened.recognizer("linear", outsiders=False).linear.weights
            )

    def test_several_photos(self, exported: Path, tmp_path: Path) -> None:
        model = open_model(exported)
        photos = [save_view(tmp_path / f"{number}.png", 2, number) for number in (70, 71)]
        assert model.recognize(*photos).guess == "column"
        with pytest.raises(QueryError, match="at least one photo"):
            model.recognize()
        with pytest.raises(QueryError, match="precision"):
            model.recognize(photos[0], precision=0.1)

    def test_a_broken_photo(self, exported: Path, tmp_path: Path) -> None:
        (tmp_path / "page.jpg").write_text("<html>")
        with pytest.raises(PhotoError, match=r"page\.jpg"):
            open_model(exported).recognize(tmp_path / "page.jpg")

    @pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
    def test_no_model_there(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "empty").mkdir()
        with pytest.raises(NotAnIndex, match="no model there"):
            open_model(tmp_path / name)

    @pytest.mark.parametrize(
        ("facts", "told"),
        [
            ({"format": 2}, "format 2, but this Veduta reads 1"),
            ({"format": None}, "no 'format'"),
            ({"names": []}, "no names"),
            ({"names": ["a", "b"]}, "2 names"),
            ({"names": 7}, "does not read back"),
            ({"encoder": None}, "no 'encoder'"),
            ({"encoder": "tiny"}, "does not read back"),
            ({"long_side": "wide"}, "does not read back"),
            ({"encoder": {"name": "tiny"}}, "no 'identity'"),
            ({"confidence": None}, "no 'confidence'"),
            (
                {
                    "confidence": {
                        "weights": [1.0, 2.0, 3.0],
                        "thresholds": [0.5] * 50,
                        "questions": 3,
                    }
                },
                "not that of a linear recogniser",
            ),
            (
                {"confidence": {"weights": [1.0, 2.0], "thresholds": [0.5] * 49, "questions": 3}},
                "not that of a linear recogniser",
            ),
            (
                {
                    "confidence": {
                        "weights": [1.0, math.nan],
                        "thresholds": [0.5] * 50,
                        "questions": 3,
                    }
                },
                "not finite",
            ),
        ],
    )
    def test_wrong_facts(self, exported: Path, facts: dict[str, Any], told: str) -> None:
        change(exported, **facts)
        with pytest.raises(CollectionError, match=told) as caught:
            open_model(exported)
        assert str(exported) in str(caught.value) and caught.value.exit_code == 4

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", "7", "\udcff"])
    def test_facts_that_are_none(self, exported: Path, content: str) -> None:
        (exported / "model.json").write_bytes(os.fsencode(content))
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)

    @pytest.mark.parametrize(
        "arrays",
        [
            {"weights": np.zeros((192, 3))},
            {"weights": np.zeros((7, 4))},
            {"weights": np.zeros(192)},
            {"weights": np.array(3.0)},
            {"weights": np.full((192, 4), np.nan)},
            {"weights": np.full((192, 4), "text")},
            {"weights": np.full((192, 4), {}, object)},
            {"weights": None},
            {"middle": np.zeros(191)},
            {"shift": np.zeros((192, 1))},
            {"bias": np.zeros(5)},
            {"bias": np.array([0, 0, 0, np.inf])},
        ],
        ids=lambda arrays: next(iter(arrays)),
    )
    def test_wrong_arrays(self, exported: Path, arrays: dict[str, Any]) -> None:
        change_arrays(exported, **arrays)
        with pytest.raises(CollectionError, match=r"does not read back .*weights\.npz"):
            open_model(exported)

    def test_a_pickle_is_not_executed(self, exported: Path, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "executed"),)

        change_arrays(exported, weights=np.array([Evil()], object))
        assert not (tmp_path / "executed").exists()
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        (exported / "weights.npz").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
    def test_damaged_arrays(self, exported: Path, content: bytes) -> None:
        (exported / "weights.npz").write_bytes(content)
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        (exported / "weights.npz").unlink()
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)

    def test_another_version_of_the_encoder(self, exported: Path) -> None:
        change(exported, encoder={"name": "tiny", "identity": "another"})
        with pytest.raises(EncoderMismatch, match="another version of encoder 'tiny'"):
            open_model(exported)

    def test_made_for_other_descriptors(self, exported: Path) -> None:
        change_arrays(exported, middle=np.zeros(7), shift=np.zeros(7), weights=np.zeros((7, 4)))
        with pytest.raises(CollectionError, match=r"of 7 numbers.*have 192"):
            open_model(exported)
