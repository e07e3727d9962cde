"""Comparison of runs, and `veduta compare` for runs."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from test_hostile_files import EDITS, edited
from tiny_runs import RunAndCard

from veduta.cli import compare as cli_compare
from veduta.cli.main import run as cli
from veduta.errors import VedutaError
from veduta.learn.runs.card import (
    CARD_FILE,
    read_card,
)
from veduta.learn.runs.comparison import SORT_KEYS, Run, compare_runs, read_run, table_row
from veduta.learn.runs.prediction_files import read_csv, write_csv
from veduta.learn.training.figures import ClassificationFigures

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


def altered(run: Path, folder: Path, answers: list[str] | None = None, **facts: Any) -> Path:
    """A copy of a run's card and answers, with other facts or answers."""
    folder.mkdir()
    (folder / CARD_FILE).write_text(json.dumps({**read_card(run).as_json(), **facts}))
    rows = read_csv(run / "answers.csv")
    if answers is not None:
        rows = [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)]
    write_csv(folder / "answers.csv", list(rows[0]), [list(row.values()) for row in rows])
    return folder


def test_a_changed_card_gives_only_errors_of_veduta(class_run: RunAndCard, tmp_path: Path) -> None:
    content = (class_run[0] / CARD_FILE).read_bytes().replace(b"\n", b"")
    random_number = random.Random(1)
    refused = 0
    for _ in range(EDITS):
        (tmp_path / CARD_FILE).write_bytes(edited(content, random_number))
        try:
            assert json.dumps(table_row(read_card(tmp_path)), allow_nan=False)
        except VedutaError:
            refused += 1
    assert refused > EDITS // 10


class TestCompare:
    def test_table(
        self,
        class_run: RunAndCard,
        autoencoder_run: RunAndCard,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert cli(["compare", str(autoencoder_run[0]), str(class_run[0])]) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].split() == [
            "acc",
            "top-1",
            "top-3",
            "top-10",
            "mAP",
            "parameters",
            "epochs",
            "time",
        ]
        card = class_run[1]
        assert card.test is not None and card.retrieval is not None
        shares = (
            card.test.accuracy,
            card.retrieval.top1,
            card.retrieval.top3,
            card.retrieval.top10,
            card.retrieval.map,
        )
        assert lines[2].split()[:8] == ["run", *(f"{x:.3f}" for x in shares), "2,557", "4"]
        assert "accuracy minus that of drawn" in out
        assert "the answer is the class of the nearest training photo: drawn" in err

    def test_differences(self, class_run: RunAndCard, tmp_path: Path) -> None:
        rows = read_csv(class_run[0] / "answers.csv")
        labels = [row["label"] for row in rows]
        half = [label if at % 2 else "none" for at, label in enumerate(labels)]
        runs = [
            read_run(altered(class_run[0], tmp_path / name, answers))
            for name, answers in (("half", half), ("all", labels), ("same", half))
        ]
        done = compare_runs(runs, ["half", "all", "same"])
        (best, same) = done.differences
        assert (best.run, best.photos, best.accuracy, best.first) == ("all", 40, 1.0, 0.5)
        assert best.difference == 0.5
        # The difference of each photo is 0 or 1: a binomial, whose spread is known.
        low, high = best.interval
        assert low == pytest.approx(0.5 - 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert high == pytest.approx(0.5 + 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert best.p_holm == min(1.0, 2 * best.p_value) and best.p_value < 0.01
        assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, (0.0, 0.0))
        assert done.notes == ()

    def test_what_is_not_comparable(self, class_run: RunAndCard, tmp_path: Path) -> None:
        first = read_run(class_run[0])
        assert first.answers is not None
        other = read_run(altered(class_run[0], tmp_path / "other", dataset_digest="0" * 16))
        (note,) = compare_runs([first, other], ["a", "b"]).notes
        assert "trained on different photos, labels or splits (a; b)" in note
        paths = sorted(first.answers)
        fewer = Run(first.folder, first.card, {p: first.answers[p] for p in paths[:30]})
        done = compare_runs([first, fewer], ["a", "b"])
        assert done.differences[0].photos == 30
        assert done.notes == (
            "b: compared with a on the 30 photos that both answered; 10 others are left out",
        )
        cases = {
            "no photo is judged in both": {"elsewhere.jpg": ("a", "a")},
            "40 photos have other labels": dict.fromkeys(paths, ("other", "x")),
            "has no answers.csv": None,
        }
        for told, answers in cases.items():
            done = compare_runs([first, Run(first.folder, first.card, answers)], ["a", "b"])
            assert not done.differences and told in done.notes[0]
        judged = replace(first.card, judged="val")
        done = compare_runs([first, Run(first.folder, judged, first.answers)], ["a", "b"])
        assert not done.differences
        assert "without test photos" in done.notes[0]
        assert "one is judged on test photos" in done.notes[1]

    def test_sorted(self, class_run: RunAndCard, autoencoder_run: RunAndCard) -> None:
        runs = {name: read_run(run[0]) for name, run in (("a", class_run), ("b", autoencoder_run))}
        none = replace(runs["a"].card, test=None, judged="", retrieval=None)
        runs["c"] = Run(class_run[0], none, None)

        def order(key: str | None) -> str:
            given = ["c", "a", "b"]
            return "".join(compare_runs([runs[name] for name in given], given, sort=key).names)

        accuracies = [runs[name].card.test for name in "ab"]
        assert all(isinstance(each, ClassificationFigures) for each in accuracies)
        better = "ab" if accuracies[0].accuracy >= accuracies[1].accuracy else "ba"
        assert order(None) == "cab"
        assert order("accuracy") == f"{better}c"
        assert order("recipe") == "bca"  # autoencoder_run, tiny, tiny
        smaller = sorted("cab", key=lambda name: runs[name].card.parameters.total)
        assert order("parameters") == "".join(smaller)
        with pytest.raises(ValueError, match="none of"):
            order("colour")

    def test_csv_json_and_markdown(
        self,
        class_run: RunAndCard,
        pair_run: RunAndCard,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        names = [str(class_run[0]), str(pair_run[0] / CARD_FILE)]
        assert cli(["compare", *names, "--json", "--csv", str(tmp_path / "t.csv")]) == 0
        out, err = capsys.readouterr()
        told = json.loads(out)
        assert [row["run"] for row in told["runs"]] == ["run", "two"]
        assert class_run[1].test is not None
        assert told["runs"][0]["accuracy"] == class_run[1].test.accuracy
        assert told["runs"][1]["top10"] == pair_run[1].retrieval.top10  # type: ignore[union-attr]
        assert told["differences"] == [] and "trained on different photos" in err
        with (tmp_path / "t.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert [row["run"] for row in rows] == ["run", "two"]
        assert float(rows[0]["map"]) == told["runs"][0]["map"]
        assert rows[0].keys() == told["runs"][0].keys()
        assert cli(["compare", *names, "--markdown", "--sort", "parameters"]) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[0].startswith("| run | recipe | accuracy | top-1 |")
        assert {line.count("|") for line in table} == {11}
        least = min((class_run, pair_run), key=lambda each: each[1].parameters.total)
        assert table[2].startswith(f"| {least[0].name} |")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["RUN", "RUN"],
            ["RUN", "report"],
            ["report", "other", "--markdown"],
            ["RUN", "--sort", "beauty"],
        ],
    )
    def test_wrong_calls(self, class_run: RunAndCard, tmp_path: Path, arguments: list[str]) -> None:
        for name in ("report", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "report.json").write_text("{}")
        places = {"RUN": class_run[0], "report": tmp_path / "report", "other": tmp_path / "other"}
        assert cli(["compare", *(str(places.get(word, word)) for word in arguments)]) == 2

    def test_damaged(self, copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (copied_run / "answers.csv").write_text("path,label\na,b\n")
        assert cli(["compare", str(copied_run)]) == 3
        assert "answers.csv: cannot be read as the answers of a run" in capsys.readouterr().err
        (copied_run / CARD_FILE).unlink()
        assert cli(["compare", str(copied_run)]) == 3
        assert "not finished" in capsys.readouterr().err
        assert cli(["compare", str(copied_run), "--csv", str(copied_run / "no" / "t.csv")]) == 3

    def test_words_of_the_command_line(self) -> None:
        assert tuple(SORT_KEYS) == cli_compare.SORT_KEYS
        assert cli_compare.CARD_FILE == CARD_FILE
