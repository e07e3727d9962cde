"""Classification and calibration figures, by hand and as scikit-learn has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    precision_recall_fscore_support,
)

from veduta.evaluation.calibration_error import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from veduta.evaluation.classification import Averages, ClassFigures, classification_figures

NONE = "~none of the classes"
LABELS = ("arch", "arch", "arch", "dome", "dome", None, None)
ANSWERS = ("arch", "arch", "dome", "dome", None, None, "arch")


class TestClassification:
    def test_by_hand(self) -> None:
        figures = classification_figures(LABELS, ANSWERS)
        # Right: two arches, a dome, and one photo of nothing that got no answer.
        assert figures.accuracy == pytest.approx(4 / 7)
        assert figures.classes == (
            ClassFigures("arch", *[pytest.approx(2 / 3)] * 3, 3, 3),
            ClassFigures("dome", 0.5, 0.5, 0.5, 2, 2),
        )
        assert figures.balanced_accuracy == pytest.approx(7 / 12)
        assert figures.macro == Averages(*[pytest.approx(7 / 12)] * 3)
        assert figures.weighted.recall == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 5)
        assert figures.micro == Averages(*[pytest.approx(3 / 5)] * 3)
        assert (figures.photos, figures.unanswered) == (7, 2)
        assert figures.confusion_matrix().tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 1]]

    def test_json(self) -> None:
        read = json.loads(json.dumps(classification_figures(LABELS, ANSWERS).as_json()))
        assert read["classes"][1] == {
            "label": "dome",
            "precision": 0.5,
            "recall": 0.5,
            "f1": 0.5,
            "support": 2,
            "answered": 2,
        }
        assert {"label": None, "answer": "arch", "photos": 1} in read["confusion"]
        assert {"label": "dome", "answer": None, "photos": 1} in read["confusion"]
        assert sum(cell["photos"] for cell in read["confusion"]) == 7
        assert set(read["micro"]) == {"precision", "recall", "f1"}

    def test_what_would_divide_by_zero_is_zero(self) -> None:
        figures = classification_figures(["arch", "arch"], ["dome", None])
        arch, dome = figures.classes
        assert (arch.precision, arch.recall, arch.f1, arch.answered) == (0.0, 0.0, 0.0, 0)
        assert (dome.precision, dome.recall, dome.f1, dome.support) == (0.0, 0.0, 0.0, 0)
        assert figures.balanced_accuracy == 0.0
        strangers = classification_figures([None, None], ["dome", None])
        assert (strangers.accuracy, strangers.balanced_accuracy) == (0.5, 0.0)
        assert strangers.weighted == strangers.micro == Averages(0.0, 0.0, 0.0)

    def test_a_class_may_be_called_unknown(self) -> None:
        figures = classification_figures(["unknown", None], ["unknown", "unknown"])
        assert figures.confusion_matrix().tolist() == [[1, 0], [1, 0]]
        assert figures.accuracy == 0.5

    def test_very_many_classes_take_no_matrix(self) -> None:
        names = [str(number) for number in range(100_000)]
        figures = classification_figures(names, [*names[1:], names[0]])
        assert figures.accuracy == 0.0
        assert figures.cells.shape == (100_000, 3)

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="1 labels and 2 answers"):
            classification_figures(["a"], ["a", "b"])
        with pytest.raises(ValueError, match="0 labels"):
            classification_figures([], [])
        with pytest.raises(ValueError, match="no photo shows a class"):
            classification_figures([None], [None])

    @pytest.mark.slow
    def test_as_scikit_learn(self) -> None:
        rng = np.random.default_rng(21)
        for case in range(300):
            names = [f"c{i}" for i in range(rng.integers(1, 8))]
            choices = np.array([*names, NONE])
            size = int(rng.integers(1, 60))
            shown = rng.choice(choices, size)
            given = np.where(rng.random(size) < 0.5, shown, rng.choice(choices, size))
            labels = sorted({*shown, *given} - {NONE})
            if not labels:
                continue
            figures = classification_figures(
                [None if name == NONE else str(name) for name in shown],
                [None if name == NONE else str(name) for name in given],
            )
            assert figures.accuracy == pytest.approx(accuracy_score(shown, given), abs=1e-12)
            matrix = confusion_matrix(shown, given, labels=[*labels, NONE])
            assert np.array_equal(figures.confusion_matrix(), matrix)
            each = precision_recall_fscore_support(shown, given, labels=labels, zero_division=0)
            ours = [[c.precision, c.recall, c.f1, c.support] for c in figures.classes]
            assert np.allclose(np.array(ours).T, each, rtol=0, atol=1e-12)
            for average in ("macro", "weighted", "micro"):
                theirs = precision_recall_fscore_support(
                    shown, given, labels=labels, average=average, zero_division=0
                )[:3]
                mine = getattr(figures, average)
                assert (mine.precision, mine.recall, mine.f1) == pytest.approx(theirs, abs=1e-12)
            # Theirs takes unknown for a class, and warns of a class never shown or a single one.
            if NONE not in shown and {*given} <= {*shown} and len(labels) > 1:
                theirs = balanced_accuracy_score(shown, given)
                assert figures.balanced_accuracy == pytest.approx(theirs, abs=1e-12), case


class TestReliability:
    def test_by_hand(self) -> None:
        # (0, 0.5] holds 0.1 wrong, 0.5 right; (0.5, 1] holds 0.9 right, 0.7 wrong, 0.8 right.
        bins = reliability([0.1, 0.5, 0.9, 0.7, 0.8], [0, 1, 1, 0, 1], bins=2)
        assert bins.edges.tolist() == [0.0, 0.5, 1.0]
        assert bins.counts.tolist() == [2, 3]
        assert bins.confidence == pytest.approx(np.array([0.3, 0.8]))
        assert bins.share_right == pytest.approx(np.array([0.5, 2 / 3]))
        assert bins.expected_error == pytest.approx(2 / 5 * 0.2 + 3 / 5 * (0.8 - 2 / 3))
        assert bins.largest_error == pytest.approx(0.2)

    def test_edges_and_empty_bins(self) -> None:
        bins = reliability([0.0, 1.0], [False, True], bins=4)
        assert bins.counts.tolist() == [1, 0, 0, 1]
        assert np.isnan(bins.confidence[1:3]).all()
        assert bins.expected_error == 0.0
        read = json.loads(json.dumps(bins.as_json(), allow_nan=False))
        assert read["bins"][1] == {
            "above": 0.25,
            "to": 0.5,
            "count": 0,
            "confidence": None,
            "share_right": None,
        }

    def test_bins_of_equal_counts(self) -> None:
        values = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95]
        bins = reliability(values, [1] * 6, bins=3, equal_counts=True)
        assert bins.counts.tolist() == [2, 2, 2]
        assert bins.edges.tolist() == [0.9, 0.91, 0.93, 0.95]
        # All of them fall into one bin of equal width out of three.
        assert reliability(values, [1] * 6, bins=3).counts.tolist() == [0, 0, 6]

    def test_equal_confidences_share_a_bin(self) -> None:
        bins = reliability([0.5] * 5 + [0.7], [1, 1, 0, 0, 0, 1], bins=3, equal_counts=True)
        assert bins.counts.tolist() == [5, 1]
        assert bins.share_right.tolist() == [0.4, 1.0]
        assert reliability([0.5] * 4, [1] * 4, bins=3, equal_counts=True).counts.tolist() == [4]
        assert reliability([0.5], [1], bins=9, equal_counts=True).counts.tolist() == [1]

    def test_nothing_and_no_probabilities_are_refused(self) -> None:
        with pytest.raises(ValueError, match="judgements"):
            reliability([], [])
        for wrong in (1.5, -0.1, float("nan")):
            with pytest.raises(ValueError, match="probabilities"):
                reliability([wrong], [True])
        with pytest.raises(ValueError, match="0 bins"):
            reliability([0.5], [True], bins=0)

    def test_as_the_formula_in_slow_form(self) -> None:
        rng = np.random.default_rng(22)
        for _ in range(1000):
            size, bins = int(rng.integers(1, 80)), int(rng.integers(1, 20))
            # Tenths are often equal, and on the edges of ten bins.
            values = (rng.integers(0, 11, size) / 10).tolist()
            right = (rng.random(size) < 0.6).tolist()
            error = 0.0
            for low, high in zip(
                np.linspace(0, 1, bins + 1), np.linspace(0, 1, bins + 1)[1:], strict=False
            ):
                members = [
                    (c, r)
                    for c, r in zip(values, right, strict=True)
                    if low < c <= high or (low == 0 and c == 0)
                ]
                if members:
                    mean = sum(c for c, _ in members) / len(members)
                    share = sum(r for _, r in members) / len(members)
                    error += len(members) / size * abs(mean - share)
            assert expected_calibration_error(values, right, bins=bins) == pytest.approx(
                error, abs=1e-9
            )
            adaptive = reliability(values, right, bins=bins, equal_counts=True)
            assert adaptive.counts.sum() == size and len(adaptive.counts) <= bins
            assert (adaptive.counts > 0).all()

    def test_brier_score(self) -> None:
        assert brier_score([0.5, 0.5], [True, False]) == 0.25
        rng = np.random.default_rng(23)
        values, right = rng.random(500), rng.random(500) < 0.5
        assert brier_score(values, right) == pytest.approx(brier_score_loss(right, values))
