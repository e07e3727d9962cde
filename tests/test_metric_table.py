"""A metric that is declared in one place is shown in every place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import CentredEncoder, save_view

from veduta.cli import compare as cli_compare
from veduta.cli import evaluate as cli_evaluate
from veduta.evaluation import evaluate, metrics, open_set, retrieval_run
from veduta.evaluation.metrics import Metric, QueryResult, judge
from veduta.evaluation.open_set import OpenSetFigures, OpenSetMetric, open_set_figures
from veduta.evaluation.summary import summarise


class Described(CentredEncoder):
    def describe(self) -> dict[str, object]:
        return {**super().describe(), "runtime": "none", "precision": "float32"}


@pytest.fixture
def reciprocal_rank(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """Add the mean reciprocal rank to the table, and to nothing else."""
    metric = Metric(
        key="mrr",
        title="Reciprocal rank",
        explanation="one over the rank of the first right answer",
        query_key="rr",
        of_query=lambda positions, count: (
            float(1 / (positions[0] + 1)) if len(positions) else (0.0 if count else math.nan)
        ),
    )
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, metric))
    return metric


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(retrieval_run, "load_encoder", lambda *_, **__: Described())
    for scene, place in enumerate(("arch", "dome")):
        for number in range(3):
            save_view(tmp_path / "set" / place / f"{number}.png", scene, number)
    return tmp_path / "set"


def test_a_metric_is_declared_once(reciprocal_rank: Metric, dataset: Path, tmp_path: Path) -> None:
    evaluation = evaluate(dataset, rerank="none")
    assert evaluation.summary.mrr == 1.0
    assert evaluation.summary.mrr_interval == (1.0, 1.0)
    assert evaluation.as_json()["mrr"] == 1.0
    assert evaluation.as_json()["mrr_interval"] == [1.0, 1.0]
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        arguments = [str(dataset), "--rerank", "none", "--report", folder]
        done = CliRunner().invoke(cli_evaluate.command, arguments)
        assert done.exception is None, done.exception
        assert "  mrr      1.000   95 % [1.000, 1.000]" in done.stdout.splitlines()
    report = json.loads(Path(folders[0], "report.json").read_text("utf-8"))
    assert report["mrr"] == 1.0
    assert [row["rr"] for row in report["queries"]] == [1.0] * 6
    page = Path(folders[0], "report.html").read_text("utf-8")
    assert "<dt>Reciprocal rank</dt>" in page
    assert "one over the rank of the first right answer" in page
    compared = CliRunner().invoke(cli_compare.command, [*folders, "--json"])
    figures = json.loads(compared.stdout)["comparisons"][0]["figures"]
    assert [f["value"] for f in figures if f["metric"] == "mrr"] == [1.0, 1.0]
    table = CliRunner().invoke(cli_compare.command, folders).stdout
    assert any(line.split()[:3] == ["mrr", "A", "1.000"] for line in table.splitlines())


def test_its_value_of_one_query(reciprocal_rank: Metric) -> None:
    result = judge("q", "a", [0.9, 0.5], [False, True])
    assert result.rr == 0.5
    assert list(result.as_json())[3:8] == ["ap", "p10", "recall10", "ap100", "rr"]
    lost = judge("q", "a", [0.9], [False])
    assert math.isnan(lost.rr) and lost.as_json()["rr"] is None


def test_names_that_are_no_metric() -> None:
    result = judge("q", "a", [0.9], [True])
    with pytest.raises(AttributeError, match="'rr'"):
        _ = result.rr
    summary = summarise([result], gallery=1)
    for name in ("mrr", "mrr_interval", "_interval"):
        with pytest.raises(AttributeError, match=f"'{name}'"):
            getattr(summary, name)


def test_results_and_summaries_can_be_copied() -> None:
    import copy
    import pickle

    result = judge("q", "a", [0.9], [True])
    summary = summarise([result], gallery=1)
    for value in (result, summary):
        assert copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(value)) == value
    assert isinstance(result, QueryResult)


def test_an_open_set_metric_is_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = OpenSetMetric(
        key="guessed",
        title="Guessed",
        explanation="share of the queries that have a guess",
        display_order=9,
        statistic=open_set._share(lambda q: q.guessed, lambda q: np.ones(len(q.known), np.bool_)),
    )
    monkeypatch.setattr(open_set, "OPEN_SET_METRICS", (*open_set.OPEN_SET_METRICS, metric))
    figures = open_set_figures(["a", None], ["a", None], [True, False], [0.9, 0.0])
    assert isinstance(figures, OpenSetFigures)
    assert figures.guessed == 0.5
    assert list(figures.as_json())[:8] == [
        "gap",
        "known_named",
        "named_right",
        "named_right_overall",
        "unknown_rejected",
        "auroc",
        "guess_right",
        "guessed",
    ]
