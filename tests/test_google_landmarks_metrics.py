"""The figures of the Google Landmarks Dataset v2: by hand, and as its rules in slow form."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import numpy as np
import pytest

from veduta.errors import DatasetError
from veduta.evaluation.google_landmarks import landmark_recognition, landmark_retrieval


class TestRetrieval:
    SOLUTION: ClassVar = {"q1": {"a", "b"}, "q2": {"c"}, "q3": {"d"}}

    def test_by_hand(self) -> None:
        submission = {"q1": ["x", "a", "b"], "q2": ["c", "x"]}
        figures = landmark_retrieval(submission, self.SOLUTION)
        # (1/2 + 2/3) / 2, 1, and nothing for the query that is missing.
        assert figures.ap100 == {"q1": pytest.approx(7 / 12), "q2": 1.0, "q3": 0.0}
        assert figures.map100 == pytest.approx((7 / 12 + 1) / 3)
        assert (figures.queries, figures.missing, figures.queries_without_positives) == (3, 1, 0)
        low, high = figures.map100_interval
        assert 0 <= low < figures.map100 < high <= 1
        read = json.loads(json.dumps(figures.as_json(), allow_nan=False))
        assert read["map100"] == figures.map100 and "ap100" not in read

    def test_a_photo_listed_again_keeps_its_rank_and_finds_nothing(self) -> None:
        again = landmark_retrieval({"q1": ["a", "a", "b"]}, {"q1": {"a", "b"}})
        assert again.map100 == pytest.approx((1 + 2 / 3) / 2)

    def test_only_the_first_hundred_count(self) -> None:
        right = [f"r{i}" for i in range(150)]
        assert landmark_retrieval({"q": right}, {"q": set(right)}).map100 == 1.0
        late = [f"x{i}" for i in range(100)] + ["r0"]
        assert landmark_retrieval({"q": late}, {"q": {"r0"}}).map100 == 0.0

    def test_ignored_and_empty_queries(self) -> None:
        solution = {**self.SOLUTION, "q4": set(), "q5": {"e"}}
        figures = landmark_retrieval({"q5": ["e"], "q2": ["c"]}, solution, ignored=["q5"])
        assert (figures.queries, figures.queries_without_positives) == (3, 1)
        assert figures.map100 == pytest.approx(1 / 3)
        assert figures.missing == 2

    def test_bad_input(self) -> None:
        with pytest.raises(DatasetError, match="answers q7, q8, q9 and 1 more, which the solution"):
            landmark_retrieval({f"q{i}": [] for i in (9, 8, 7, 99)}, self.SOLUTION)
        with pytest.raises(DatasetError, match="none of the 1 queries"):
            landmark_retrieval({}, {"q1": ()})

    def test_as_the_rules_in_slow_form(self) -> None:
        rng = np.random.default_rng(51)
        photos = [f"p{i}" for i in range(160)]
        for _ in range(1000):
            count = int(rng.integers(1, 5))
            solution = {
                f"q{i}": set(rng.choice(photos, int(rng.integers(0, 130))).tolist())
                for i in range(count)
            }
            submission = {
                query: rng.choice(photos, int(rng.integers(0, 150))).tolist()
                for query in solution
                if rng.random() < 0.8
            }
            values = []
            for query, right in solution.items():
                if not right:
                    continue
                total, hits = 0.0, []
                for rank, photo in enumerate(submission.get(query, [])[:100], 1):
                    if photo in right and photo not in hits:
                        hits.append(photo)
                        total += len(hits) / rank
                values.append(total / min(len(right), 100))
            if not values:
                continue
            figures = landmark_retrieval(submission, solution, resamples=1)
            assert figures.map100 == pytest.approx(sum(values) / len(values), abs=1e-9)


class TestRecognition:
    SOLUTION: ClassVar = {"q1": {"7", "8"}, "q2": {"9"}, "q3": {"9"}, "q4": frozenset()}

    def test_by_hand(self) -> None:
        submission = {"q1": ("8", 3.0), "q2": ("7", 2.0), "q4": ("9", 9.5), "q3": ("9", 1.0)}
        figures = landmark_recognition(submission, self.SOLUTION)
        # By confidence: q4 shows nothing, q1 right, q2 wrong, q3 right. Three have a landmark.
        assert figures.gap == pytest.approx((1 / 2 + 2 / 4) / 3)
        assert figures.accuracy == pytest.approx(2 / 3)
        assert (figures.queries, figures.with_landmark, figures.predicted) == (4, 3, 4)
        low, high = figures.gap_interval
        assert 0 <= low < figures.gap < high <= 1
        assert json.loads(json.dumps(figures.as_json()))["gap"] == figures.gap

    def test_a_query_without_a_prediction_is_absent_and_still_counts(self) -> None:
        for submission in ({"q2": ("9", 0.1)}, {"q2": ("9", 0.1), "q3": None, "q4": None}):
            figures = landmark_recognition(submission, self.SOLUTION)
            assert figures.gap == pytest.approx(1 / 3)
            assert figures.predicted == 1

    def test_equal_confidences_go_by_the_id(self) -> None:
        # q2 comes before q3, in whatever order the submission has them.
        wrong_first = {"q3": ("9", 0.5), "q2": ("7", 0.5)}
        right_first = {"q3": ("7", 0.5), "q2": ("9", 0.5)}
        assert landmark_recognition(wrong_first, self.SOLUTION).gap == pytest.approx(1 / 2 / 3)
        assert landmark_recognition(right_first, self.SOLUTION).gap == pytest.approx(1 / 3)

    def test_ignored_queries(self) -> None:
        figures = landmark_recognition(
            {"q4": ("9", 9.0), "q1": ("7", 1.0)}, self.SOLUTION, ignored={"q4", "q2"}
        )
        assert figures.gap == pytest.approx(1 / 2)
        assert (figures.queries, figures.predicted) == (2, 1)

    def test_bad_input(self) -> None:
        with pytest.raises(DatasetError, match="answers q9, which the solution does not have"):
            landmark_recognition({"q9": ("7", 1.0)}, self.SOLUTION)
        with pytest.raises(DatasetError, match="confidence of query q1 is NaN"):
            landmark_recognition({"q1": ("7", math.nan)}, self.SOLUTION)
        with pytest.raises(DatasetError, match="has a landmark"):
            landmark_recognition({}, {"q4": frozenset()})

    def test_as_the_rules_in_slow_form(self) -> None:
        rng = np.random.default_rng(52)
        for _ in range(1000):
            count = int(rng.integers(1, 30))
            solution = {
                f"q{i:02}": frozenset(map(str, rng.integers(0, 5, rng.integers(0, 3))))
                for i in rng.permutation(count)
            }
            if not any(solution.values()):
                continue
            submission = {
                query: (str(rng.integers(0, 5)), float(rng.integers(0, 6)))
                if rng.random() < 0.9
                else None
                for query in rng.permutation(list(solution)).tolist()
            }
            listed = [(query, *answer) for query, answer in submission.items() if answer]
            listed.sort(key=lambda entry: (-entry[2], entry[0]))
            gap, hits = 0.0, 0
            for rank, (query, landmark, _) in enumerate(listed, 1):
                if landmark in solution[query]:
                    hits += 1
                    gap += hits / rank
            gap /= sum(1 for truth in solution.values() if truth)
            found = landmark_recognition(submission, solution, resamples=1)
            assert found.gap == pytest.approx(gap, abs=1e-9)
