"""The rule for "unknown", and the result that users see."""

from __future__ import annotations

import json

import numpy as np
import pytest

from veduta.errors import QueryError
from veduta.recognize import Answer, Decision, decide, recognition_of
from veduta.recognize.confidence import Confidence
from veduta.recognize.unknown import NEVER
from veduta.search import Hit
from veduta.search.hit import Evidence
from veduta.search.reranking import Ranking

NOBODY = np.empty(0, np.intp)


def hit(name: str, place: str | None, inliers: int | None = None) -> Hit:
    evidence = Evidence(0.5, inliers) if inliers is not None else None
    return Hit(name, 0.5, 0.4, place, 40, 30, None, 7, evidence)


def answer_of(**confidences: float) -> Answer:
    ranking = Ranking(NOBODY, np.empty(0, np.float32), np.empty(0))
    return Answer(tuple(confidences), np.array(list(confidences.values())), ranking)


class TestRule:
    def test_a_name_needs_the_threshold(self) -> None:
        answer = answer_of(a=0.7, b=0.2)
        assert decide(answer, 0.7) == Decision("a", "a", 0.7, 0.7)
        above = float(np.nextafter(0.7, 1))
        assert decide(answer, above) == Decision(None, "a", 0.7, above)
        assert decide(answer, NEVER) == Decision(None, "a", 0.7, NEVER)
        assert decide(answer_of(a=1.0), NEVER).label is None

    def test_without_labels(self) -> None:
        assert decide(answer_of(), 0.0) == Decision(None, None, 0.0, 0.0)


class TestRecognition:
    SURE = Confidence((1.0, 0.0), tuple(0.4 + at / 100 for at in range(40)) + (2.0,) * 10, 90)
    """Names are given from 0.4 on for a precision of 0.5, from 0.6 for 0.7, never for 0.9."""
    HITS = (hit("1", "a"), hit("2", "b"), hit("3", "a"), hit("4", None), hit("5", "a"))

    def test_named(self) -> None:
        found = recognition_of(answer_of(a=0.7, b=0.2, c=0.1), self.SURE, 0.7, self.HITS)
        assert (found.label, found.guess, found.reason) == ("a", "a", None)
        assert (found.confidence, found.threshold) == (0.7, pytest.approx(0.6))
        assert found.runners_up == (("b", 0.2), ("c", 0.1))
        assert [one.path for one in found.hits] == ["1", "3", "5"]

    def test_exactly_at_the_threshold(self) -> None:
        least = self.SURE.threshold(0.7)
        assert recognition_of(answer_of(a=least), self.SURE, 0.7, ()).label == "a"
        assert recognition_of(answer_of(a=np.nextafter(least, 0)), self.SURE, 0.7, ()).label is None

    def test_five_hits_and_four_runners_up_at_most(self) -> None:
        many = {letter: 0.9 - at / 20 for at, letter in enumerate("abcdefgh")}
        found = recognition_of(
            answer_of(**many), self.SURE, 0.5, [hit(str(at), "a") for at in range(9)]
        )
        assert [name for name, _ in found.runners_up] == list("bcde")
        assert len(found.hits) == 5
        found = recognition_of(
            answer_of(a=0.1), self.SURE, 0.5, [hit(str(at), "b") for at in range(9)]
        )
        assert len(found.hits) == 5

    def test_a_name_without_a_photo_among_the_hits(self) -> None:
        found = recognition_of(answer_of(a=0.9), self.SURE, 0.5, [hit("1", "b")])
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
        found = recognition_of(answer_of(**confidences), self.SURE, precision, hits)
        assert found.label is None
        assert found.reason is not None and found.reason.startswith(reason)
        assert found.guess == next(iter(confidences), None)
        assert found.hits == tuple(hits)

    def test_json(self) -> None:
        found = recognition_of(answer_of(a=0.71234567, b=0.2), self.SURE, 0.7, [hit("1", "a", 12)])
        told = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert told["label"] == told["guess"] == "a"
        assert told["confidence"] == 0.712346 and told["threshold"] == 0.6
        assert told["runners_up"] == [{"label": "b", "confidence": 0.2}]
        assert told["hits"][0]["inliers"] == 12 and told["reason"] is None
        told = recognition_of(answer_of(), self.SURE, 0.9, ()).as_json()
        assert told["threshold"] is None and told["confidence"] == 0 and told["hits"] == []

    def test_a_precision_out_of_range(self) -> None:
        with pytest.raises(QueryError, match="precision"):
            recognition_of(answer_of(a=0.7), self.SURE, 1.0, ())
