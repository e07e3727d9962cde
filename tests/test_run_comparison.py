"""Runs in the table of `veduta compare`, alone and beside reports."""

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

from veduta.cli.main import run as cli
from veduta.errors import VedutaError
from veduta.evaluation.compared_systems import SystemTable, compare_systems
from veduta.learn.runs.card import CARD_FILE, read_card
from veduta.learn.runs.comparison import Run, read_run, row_of_card, system_of_run
from veduta.learn.runs.prediction_files import PhotoAnswer, read_csv, write_csv

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
            assert json.dumps(row_of_card(read_card(tmp_path), "a"), allow_nan=False)
        except VedutaError:
            refused += 1
    assert refused > EDITS // 10


def compared(**runs: Run) -> SystemTable:
    return compare_systems([system_of_run(run, name) for name, run in runs.items()])


class TestCompare:
    def test_runs_and_reports_in_one_table(
        self,
        class_run: RunAndCard,
        autoencoder_run: RunAndCard,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The report answers the photos of the run, and two more that show none of its classes."""
        answers = read_csv(class_run[0] / "answers.csv")
        queries = [
            {
                "path": row["path"],
                "label": row["label"],
                "guess": row["label"] if number % 4 else row["answer"],
                "confidence": 0.9 - number / 100,
                "named": number % 2 == 0,
            }
            for number, row in enumerate(answers)
        ]
        for name in ("u1", "u2"):
            strange = {"path": name, "label": None, "guess": "zoo", "confidence": 0.1}
            queries.append(strange | {"named": False})
        report = {"task": "recognize", "answered_by": "descriptor alone", "queries": queries}
        report |= {"gap": 0.9, "guess_right": 0.875, "accuracy": 0.5, "settings": {"method": "knn"}}
        (tmp_path / "knn").mkdir()
        (tmp_path / "knn" / "report.json").write_text(json.dumps(report))
        folders = [str(tmp_path / "knn"), str(class_run[0]), str(autoencoder_run[0])]
        assert cli(["compare", *folders]) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert max(map(len, lines)) <= 80
        card = class_run[1]
        assert card.test is not None and card.retrieval is not None and card.test.gap is not None
        shares = (card.test.accuracy, card.test.gap, card.retrieval.top1, card.retrieval.top3)
        shares += (card.retrieval.top5 or -1, card.retrieval.top10, card.retrieval.map)
        assert lines[0].split()[:7] == ["acc", "GAP", "top-1", "top-3", "top-5", "top-10", "mAP"]
        assert lines[1].split()[:7] == ["A", "knn", "0.875", "0.900", "–", "–", "–"]
        assert lines[2].split()[:10] == ["B", "run", *(f"{x:.3f}" for x in shares), "2,557"]
        assert "A knn: named by descriptor alone, method knn" in lines
        assert "B run: named by network alone, ranked by descriptor alone" in lines
        assert "recognition: A, B, C on 40 queries that all have" in lines
        for metric in ("known_named", "auroc"):  # a network never says "unknown"
            assert metric not in out
        assert "knn: 2 queries left out that not every report has" in err
        assert "not on the same test photos" not in err  # of the classes

        assert cli(["compare", *folders, "--json", "--csv", str(tmp_path / "t.csv")]) == 0
        told = json.loads(capsys.readouterr().out)
        (comparison,) = told["comparisons"]
        figures = {(one["metric"], one["system"]): one for one in comparison["figures"]}
        assert {metric for metric, _ in figures} == {"gap", "guess_right"}
        right = [row["label"] == row["answer"] for row in answers]
        wanted = sum(right) / 40 - sum(r or at % 4 > 0 for at, r in enumerate(right)) / 40
        assert figures["guess_right", "run"]["difference"] == pytest.approx(wanted)
        # Every second answer of the report is "unknown"; its guesses are compared all the same.
        (changes, _) = comparison["changed"]
        assert changes["worse"] == sum(not r and at % 4 > 0 for at, r in enumerate(right))
        assert figures["gap", "run"]["value"] == pytest.approx(card.test.gap, abs=1e-12)
        with (tmp_path / "t.csv").open(newline="") as rows:
            read = list(csv.DictReader(rows))
        assert [row["gap"] for row in read[:2]] == ["0.9", repr(card.test.gap)]
        assert read[0]["top1"] == read[0]["parameters"] == ""

    def test_differences(self, class_run: RunAndCard, tmp_path: Path) -> None:
        rows = read_csv(class_run[0] / "answers.csv")
        labels = [row["label"] for row in rows]
        half = [label if at % 2 else "none" for at, label in enumerate(labels)]
        table = compared(
            **{
                name: read_run(altered(class_run[0], tmp_path / name, answers))
                for name, answers in (("half", half), ("all", labels), ("same", half))
            }
        )
        (comparison,) = table.comparisons
        first, best, same = [
            one for one in comparison.comparison.figures if one.metric == "guess_right"
        ]
        assert (first.value, best.value, best.difference) == (0.5, 1.0, 0.5)
        # The difference of each photo is 0 or 1: a binomial, whose spread is known.
        assert best.difference_interval is not None and best.p_value is not None
        low, high = best.difference_interval
        assert low == pytest.approx(0.5 - 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert high == pytest.approx(0.5 + 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert best.p_holm == min(1.0, 2 * best.p_value) and best.p_value < 0.01
        assert (same.difference, same.p_value, same.difference_interval) == (0.0, 1.0, (0.0, 0.0))
        assert comparison.changes[0].better == 20
        assert table.notes == ()

    def test_what_is_not_comparable(
        self, class_run: RunAndCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = altered(class_run[0], tmp_path / "other", dataset_digest="0" * 16)
        assert cli(["compare", str(class_run[0]), str(other)]) == 0
        err = capsys.readouterr().err
        assert "trained on different photos, labels or splits (run; other)" in err
        first = read_run(class_run[0])
        assert first.answers is not None
        table = compared(a=first, b=replace(first, answers=first.answers[:30]))
        assert table.comparisons[0].comparison.queries == 30
        assert "a: 10 queries left out that not every report has" in table.notes
        assert any("a (40 photos); b (30 photos)" in note for note in table.notes)
        cases: dict[str, tuple[PhotoAnswer, ...] | None] = {
            "they share no query": (PhotoAnswer("elsewhere.jpg", "a", "a", 0.5),),
            "40 queries have other labels": tuple(
                replace(one, label="other") for one in first.answers
            ),
            "without answers.csv": None,
        }
        for told, answers in cases.items():
            table = compared(a=first, b=replace(first, answers=answers))
            assert not table.comparisons and any(told in note for note in table.notes)
        on_val = replace(first, card=replace(first.card, judged="val"))
        table = compared(a=first, b=on_val)
        assert not table.comparisons
        assert any("without test photos" in note for note in table.notes)
        assert any("one is judged on test photos" in note for note in table.notes)
        chosen = replace(first, card=replace(first.card, epoch_chosen_by="test"))
        told = "the test photos chose the epoch of training, so the figures are optimistic"
        assert compared(a=chosen).notes == (f"a: {told}",)
        both = replace(chosen, folder=chosen.folder.with_name("other"))
        table = compared(a=chosen, b=both, c=first)
        assert f"a, b: {told}" in table.notes
        assert sum(told in note for note in table.notes) == 1

    def test_a_run_without_the_figure(self, class_run: RunAndCard, tmp_path: Path) -> None:
        """A run of an earlier version: no GAP in its card, and six digits in its answers."""
        folder = altered(class_run[0], tmp_path / "old")
        values = json.loads((folder / CARD_FILE).read_text("utf-8"))
        for split in ("val", "test"):
            for key in ("gap", "unknown"):
                del values[split][key]
        (folder / CARD_FILE).write_text(json.dumps(values))
        rows = [
            row | {"confidence": f"{float(row['confidence']):.6f}"}
            for row in read_csv(folder / "answers.csv")
        ]
        write_csv(folder / "answers.csv", list(rows[0]), [list(row.values()) for row in rows])
        assert class_run[1].test is not None
        (system,) = compared(old=read_run(folder)).systems
        assert system.row["gap"] == pytest.approx(class_run[1].test.gap, abs=0.01)
        assert "computed from the rounded confidences" in system.notes[0]
        for row in rows:
            del row["confidence"]
        write_csv(folder / "answers.csv", list(rows[0]), [list(row.values()) for row in rows])
        table = compared(old=read_run(folder), new=read_run(class_run[0]))
        assert table.systems[0].row["gap"] is None
        figures = table.comparisons[0].comparison.figures
        assert {one.metric for one in figures} == {"guess_right"}
        assert figures[1].difference == 0

    def test_damaged(self, copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        row = "path,label,answer\na,b,b\n"
        for text in ("path,label\na,b\n", f"{row}a,b,b\n"):
            (copied_run / "answers.csv").write_text(text)
            assert cli(["compare", str(copied_run)]) == 3
            assert "answers.csv: cannot be read as the answers" in capsys.readouterr().err
        (copied_run / CARD_FILE).unlink()
        assert cli(["compare", str(copied_run)]) == 3
        assert "not finished" in capsys.readouterr().err
        assert cli(["compare", str(copied_run), str(copied_run)]) == 3
