"""Comparing reports: pairing, significance, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import paired_bootstrap
from veduta.evaluation.comparison import compare, holm, read_report
from veduta.evaluation.metrics import judge_ranked
from veduta.evaluation.open_set import OPEN_SET_METRICS, open_set_figures
from veduta.evaluation.summary import summarise


def retrieval(seed: int, queries: int = 40, shift: float = 0.0) -> dict:
    """A report of made-up rankings; the last query has no right answer."""
    rng = np.random.default_rng(seed)
    results = []
    for number in range(queries):
        chance = 0.0 if number == queries - 1 else min(1.0, 0.1 + 0.02 * number + shift)
        relevant = rng.random(30) < chance
        if chance:
            relevant[-1] = True
        results.append(judge_ranked(f"{number}.jpg", "arch", relevant))
    summary = summarise(results, gallery=30, distractors=3)
    rows = [result.as_json() for result in results]
    return json.loads(json.dumps({"task": "retrieve", **summary.as_json(), "queries": rows}))


def recognition(seed: int, queries: int = 60, skill: float = 0.7) -> dict:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(queries):
        label = ["arch", "dome", None][number % 3]
        guess = label if label and rng.random() < skill else "gate"
        confidence = round(float(rng.random() + (guess == label)), 2)
        rows.append(
            {
                "path": f"{number}.jpg",
                "label": label,
                "guess": guess,
                "confidence": confidence,
                "named": confidence > 0.8,
            }
        )
    return {"task": "recognize", "gallery": 9, "queries": rows}


def cell(comparison, metric: str, system: str):
    (found,) = [f for f in comparison.figures if (f.metric, f.system) == (metric, system)]
    return found


class TestRetrieval:
    def test_values_are_those_of_the_reports(self) -> None:
        first, second = retrieval(1), retrieval(2, shift=0.2)
        done = compare([first, second], ["a", "b"])
        assert (done.task, done.systems, done.queries) == ("retrieve", ("a", "b"), 39)
        for metric in ("top1", "top3", "top5", "top10", "map", "p10", "recall10", "map100"):
            for name, report in (("a", first), ("b", second)):
                found = cell(done, metric, name)
                assert found.value == pytest.approx(report[metric], abs=1e-12)
                assert found.interval == pytest.approx(report[f"{metric}_interval"], abs=1e-12)

    def test_the_difference_is_that_of_the_paired_bootstrap(self) -> None:
        first, second = retrieval(1), retrieval(2, shift=0.2)
        done = compare([first, second], ["a", "b"])
        values = [
            [row["ap"] for row in r["queries"] if row["ap"] is not None] for r in (first, second)
        ]
        paired = paired_bootstrap(np.array(values[0])[:, None], np.array(values[1])[:, None])
        found = cell(done, "map", "b")
        assert found.difference == pytest.approx(float(paired.difference[0]))
        assert found.difference_interval == pytest.approx(tuple(paired.interval[0]))
        assert found.p_value == found.p_holm == pytest.approx(float(paired.p_value[0]))
        assert found.p_value < 0.05
        assert cell(done, "map", "a").difference is None

    def test_a_report_beside_itself(self) -> None:
        report = retrieval(1)
        done = compare([report, copy.deepcopy(report)])
        assert done.systems == ("report 1", "report 2")
        for figure in done.figures[1::2]:
            assert (figure.difference, figure.p_value) == (0.0, 1.0)
            assert figure.difference_interval == (0.0, 0.0)

    def test_queries_are_paired_by_path(self) -> None:
        report = retrieval(1)
        turned = copy.deepcopy(report)
        turned["queries"].reverse()
        done = compare([report, turned])
        assert cell(done, "map", "report 2").p_value == 1.0

    def test_what_is_not_shared_is_left_out_and_said(self) -> None:
        first, second = retrieval(1), retrieval(1)
        del first["queries"][0], second["queries"][5:7]
        second["gallery"] = 31
        done = compare([first, second], ["a", "b"])
        assert done.queries == 36
        assert done.notes == (
            "a: 2 queries left out that not every report has",
            "b: 1 query left out that not every report has",
            "the number of gallery photos differs: a 30, b 31",
            "1 query left out that have no right answer in the gallery in some report",
        )

    def test_a_figure_that_one_report_lacks(self) -> None:
        first, second = retrieval(1), retrieval(2)
        for row in second["queries"]:
            del row["recall10"]
        done = compare([first, second], ["a", "b"])
        assert "recall10" not in {figure.metric for figure in done.figures}
        assert "no recall10: b does not have recall10 of each query" in done.notes
        del second["queries"][3]["ap"]
        with pytest.raises(DatasetError, match="b: not every query has its ap"):
            compare([first, second], ["a", "b"])

    def test_json(self) -> None:
        done = compare([retrieval(1), retrieval(2)], ["a", "b"], seed=3)
        read = json.loads(json.dumps(done.as_json(), allow_nan=False))
        assert read["systems"] == ["a", "b"] and read["seed"] == 3
        row = read["figures"][1]
        assert (row["metric"], row["system"]) == ("top1", "b")
        assert len(row["interval"]) == len(row["difference_interval"]) == 2
        assert done == compare([retrieval(1), retrieval(2)], ["a", "b"], seed=3)


KEYS = [metric.key for metric in OPEN_SET_METRICS]


class TestRecognition:
    def test_values_are_those_of_the_open_set(self) -> None:
        first, second = recognition(1), recognition(2, skill=0.95)
        done = compare([first, second], ["a", "b"])
        assert [figure.metric for figure in done.figures[::2]] == KEYS
        for name, report in (("a", first), ("b", second)):
            rows = report["queries"]
            columns = [
                [row[key] for row in rows] for key in ("label", "guess", "named", "confidence")
            ]
            figures = open_set_figures(*columns)
            for metric in KEYS:
                found = cell(done, metric, name)
                assert found.value == pytest.approx(getattr(figures, metric), abs=1e-12)
                assert found.interval == pytest.approx(getattr(figures, f"{metric}_interval"))
        gap = cell(done, "gap", "b")
        assert gap.difference == pytest.approx(gap.value - cell(done, "gap", "a").value)
        assert gap.difference_interval[0] <= gap.difference <= gap.difference_interval[1]
        assert gap.p_value < 0.05

    def test_without_a_guess_and_without_strangers(self) -> None:
        first = recognition(1)
        first["queries"] = [row for row in first["queries"] if row["label"]]
        second = copy.deepcopy(first)
        second["queries"][0].update(guess=None, confidence=None, named=False)
        done = compare([first, second])
        rejected = cell(done, "unknown_rejected", "report 2")
        assert math.isnan(rejected.value) and math.isnan(rejected.p_value)
        assert json.loads(json.dumps(done.as_json(), allow_nan=False))

    def test_rows_that_lack_something(self) -> None:
        first, second = recognition(1), recognition(2)
        del second["queries"][3]["guess"]
        with pytest.raises(
            DatasetError, match=r"b: 3\.jpg: .* missing required field `guess`; write one with"
        ):
            compare([first, second], ["a", "b"])
        second["queries"][3].update(guess=None, named=True)
        with pytest.raises(DatasetError, match="b: query 3 is answered without a guess"):
            compare([first, second], ["a", "b"])


class TestHolm:
    def test_by_hand(self) -> None:
        # Ascending 0.01, 0.02, 0.04: times 3, 2, 1, none below the one before.
        assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
        assert holm([0.5, 0.6]) == [1.0, 1.0]
        assert holm([]) == []

    def test_nan_is_not_counted(self) -> None:
        found = holm([math.nan, 0.02])
        assert math.isnan(found[0]) and found[1] == 0.02

    def test_of_three_systems(self) -> None:
        reports = [retrieval(1), retrieval(2, shift=0.3), retrieval(3, shift=0.02)]
        done = compare(reports)
        found = [cell(done, "map", name) for name in done.systems[1:]]
        assert [f.p_holm for f in found] == holm([f.p_value for f in found])
        assert found[0].p_holm == pytest.approx(2 * found[0].p_value)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("report", "message"),
        [
            (
                [1, 2],
                "b: no report: Expected `object`, got `array`; write one with `veduta evaluate",
            ),
            ({"top1": 1}, "b: no report: Object missing required field `task`; write one with"),
            ({}, "b: no report: Object missing required field `task`; write one with"),
            ({"task": "retrieve"}, "b: no report: .* field `queries`; write one with"),
            ({"task": "cook", "queries": []}, "b: the task is 'cook'; wanted 'retrieve'"),
            (
                {"task": "retrieve", "queries": {}},
                "b: no report: queries: Expected `array`, got `object`",
            ),
            (
                {"task": "retrieve", "queries": [{"ap": 1}]},
                r"b: no report: queries\[0\]: Object missing required field `path`; write one with",
            ),
            (
                {"task": "retrieve", "queries": [{"path": "x"}, 3]},
                r"b: no report: queries\[1\]: Expected `object`, got `int`",
            ),
            (
                {"task": "retrieve", "queries": [{"path": "x"}, {"path": "x"}]},
                "b: has the query x twice",
            ),
            ({"task": "retrieve", "queries": []}, "no query is in all of a, b"),
            (
                {"task": "retrieve", "queries": [{"path": "0.jpg", "label": "gate"}]},
                r"0\.jpg shows 'arch' in a and 'gate' in b",
            ),
            (
                {"task": "retrieve", "queries": [{"path": "0.jpg", "label": "arch", "ap": "high"}]},
                r"b: 0\.jpg: ap: Expected `bool \| float \| null`, got `str`; write one with",
            ),
        ],
    )
    def test_what_is_no_report(self, report: object, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            compare([retrieval(1), report], ["a", "b"])

    def test_different_tasks(self) -> None:
        with pytest.raises(DatasetError, match="a is of retrieve, b is of recognize"):
            compare([retrieval(1), recognition(1)], ["a", "b"])

    def test_no_query_with_a_right_answer(self) -> None:
        report = retrieval(1)
        report["queries"] = report["queries"][-1:]
        with pytest.raises(DatasetError, match="no query has a right answer"):
            compare([report, report])

    def test_one_report_or_one_name_twice(self) -> None:
        with pytest.raises(ValueError, match="1 reports"):
            compare([retrieval(1)])
        with pytest.raises(ValueError, match="2 reports with the names"):
            compare([retrieval(1), retrieval(2)], ["a", "a"])


class TestReading:
    def test_a_report_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        file = tmp_path / "report.json"
        file.write_text('{"task": "retrieve"}', "utf-8-sig")
        assert read_report(file) == {"task": "retrieve"}

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"<html>", "not valid JSON"),
            (b"", "not valid JSON"),
            (b"\xff\xfe\x00", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[1]", "Expected `object`, got `array`"),
        ],
    )
    def test_what_is_no_report(self, tmp_path: Path, data: bytes, message: str) -> None:
        file = tmp_path / "report.json"
        file.write_bytes(data)
        with pytest.raises(
            DatasetError, match=rf"report\.json: no report: {message}.*; write one with"
        ):
            read_report(file)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"No such file.*--report DIR"):
            read_report(tmp_path / "absent.json")
