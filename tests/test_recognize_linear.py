"""The labelled gallery and the linear classifier, against training from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from recognition_galleries import CLOSE, crowd, gallery_of, labelled_crowd

from veduta.errors import QueryError
from veduta.recognize import LabelledGallery
from veduta.recognize.labelled_gallery import UNLABELLED
from veduta.recognize.linear import RIDGE, train


class TestLabelled:
    def test_codes_counts_and_sums(self) -> None:
        labelled = LabelledGallery.of(
            gallery_of([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]]), ["b", "a", "b", None]
        )
        assert labelled.names == ("a", "b")
        assert labelled.class_ids.tolist() == [1, 0, 1, UNLABELLED]
        assert labelled.outsiders.tolist() == [3]
        assert labelled.counts.tolist() == [1, 2]
        assert labelled.sums == pytest.approx(np.array([[0, 1], [1.6, 0.8]]), **CLOSE)
        assert labelled.examples.tolist() == [True] * 4

    def test_unlabelled_photos_that_may_show_anything_are_no_examples(self) -> None:
        labelled = LabelledGallery.of(
            gallery_of([[1, 0], [0, 1], [-1, 0]]), ["b", None, "a"], outsiders=False
        )
        assert labelled.outsiders.tolist() == []
        assert labelled.examples.tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("labels", "outsiders"), [(["a"], True), (["a", "a"], True), (["a", None], False)]
    )
    def test_nothing_to_tell_it_from(self, labels: list[str | None], outsiders: bool) -> None:
        """Who knows one thing alone would take everything for it."""
        with pytest.raises(QueryError, match="label a, so there is nothing to tell it from"):
            LabelledGallery.of(gallery_of(np.eye(2)[: len(labels)]), labels, outsiders=outsiders)

    @pytest.mark.parametrize("labels", [[], [None, None]])
    def test_nothing_to_recognise(self, labels: list[str | None]) -> None:
        with pytest.raises(QueryError, match=r"No photo .* has a label.*--labels"):
            LabelledGallery.of(gallery_of(np.eye(2)[: len(labels)].reshape(-1, 2)), labels)


class FromScratch:
    """Ridge regression with an intercept that is not shrunk, by its normal equations in float64.

    As in `veduta.recognize.linear`, the descriptors are centred by the mean of all examples and
    the ridge is a share of the mean square over all examples, whoever is left out.
    """

    def __init__(self, labelled: LabelledGallery) -> None:
        rows = labelled.gallery.snapshot.descriptors.astype(np.float64)
        self.examples = (labelled.class_ids >= 0) | np.isin(
            np.arange(len(rows)), labelled.outsiders
        )
        off = rows - rows[self.examples].mean(axis=0)
        off /= np.linalg.norm(off, axis=1, keepdims=True)
        self.rows = off - off[self.examples].mean(axis=0)
        self.targets = (labelled.class_ids[:, None] == np.arange(len(labelled.names))).astype(
            np.float64
        )
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
        labelled = labelled_crowd(outsiders=outsiders)
        scratch = FromScratch(labelled)
        found = train(labelled).linear.scores(labelled.gallery.snapshot.descriptors)
        for row in (0, 7, 59, 65):
            assert found[row] == pytest.approx(scratch.scores(row), abs=1e-5)

    @pytest.mark.parametrize("outsiders", [True, False])
    @pytest.mark.parametrize(
        "without", [[3], [3, 4], [3, 9, 27, 41], [3, 65, 69], list(range(3, 60, 6))]
    )
    def test_held_out_is_training_again(self, outsiders: bool, without: list[int]) -> None:
        """One photo, several of several labels, with unlabelled ones, and all of one label."""
        labelled = labelled_crowd(outsiders=outsiders)
        rows = np.array(without, np.intp)
        found = train(labelled).held_out(3, rows)
        assert found == pytest.approx(FromScratch(labelled).scores(3, without), abs=2e-5)

    def test_an_outsider_held_out(self) -> None:
        labelled = labelled_crowd()
        found = train(labelled).held_out(66, np.array([60, 66]))
        assert found == pytest.approx(FromScratch(labelled).scores(66, [60, 66]), abs=2e-5)

    def test_held_out_is_near_to_what_a_gallery_without_them_says(self) -> None:
        """It keeps the means, which move a little: the order of the labels is the same."""
        rows, labels = crowd(each=20)
        labelled = LabelledGallery.of(gallery_of(rows), labels)
        training = train(labelled)
        for row in range(0, 120, 17):
            rest = np.arange(len(rows)) != row
            less = LabelledGallery.of(
                gallery_of(rows[rest]), [labels[at] for at in np.flatnonzero(rest)]
            )
            again = train(less).linear.scores(labelled.gallery.snapshot.descriptors[[row]])[0]
            held_out = training.held_out(row, np.array([row]))
            assert held_out == pytest.approx(again, abs=0.02)
            assert held_out.argmax() == again.argmax()

    def test_several_blocks_are_as_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labelled = labelled_crowd()
        whole = train(labelled).linear
        monkeypatch.setattr("veduta.recognize.linear._BLOCK_ROWS", 7)
        monkeypatch.setattr("veduta.recognize.labelled_gallery._BLOCK_ROWS", 7)
        apart = train(labelled).linear
        np.testing.assert_allclose(apart.weights, whole.weights, atol=1e-5)
        np.testing.assert_allclose(apart.centred_mean, whole.centred_mean, atol=1e-6)
        np.testing.assert_allclose(labelled_crowd().sums, labelled.sums, atol=1e-4)

    def test_a_score_is_about_one_for_its_own_and_zero_for_others(self) -> None:
        labelled = labelled_crowd(spread=0.05, each=20)
        scores = train(labelled).linear.scores(labelled.gallery.snapshot.descriptors[:120])
        own = scores[np.arange(120), labelled.class_ids[:120]]
        assert own.min() > 0.8
        scores[np.arange(120), labelled.class_ids[:120]] = 0
        assert np.abs(scores).max() < 0.25

    @pytest.mark.parametrize("labels", [["a", None], ["a", "b"], ["a", "a", None]])
    def test_very_few_photos(self, labels: list[str | None]) -> None:
        labelled = LabelledGallery.of(gallery_of(np.eye(3)[: len(labels)]), labels)
        scores = train(labelled).linear.scores(np.eye(3, dtype=np.float32))
        assert np.isfinite(scores).all()

    def test_equal_descriptors(self) -> None:
        labelled = LabelledGallery.of(gallery_of([[1, 0]] * 4), ["a", "a", "b", None])
        scores = train(labelled).linear.scores(np.array([[1, 0]], np.float32))
        assert scores[0] == pytest.approx([0.5, 0.25], abs=1e-5)
