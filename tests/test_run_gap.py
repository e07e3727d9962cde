"""The GAP of a run: by hand, in its card, and by `veduta score`."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny_runs import RunAndCard

from veduta.cli.main import run as cli
from veduta.learn.runs.card import read_card
from veduta.learn.runs.landmark_files import gap_of_answers, write_landmark_files
from veduta.learn.runs.prediction_files import PhotoAnswer, read_answers, write_answers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


def gap_by_hand(answers: list[PhotoAnswer]) -> float:
    """1 / M Σ P(i) rel(i), as the competition states it."""
    right = total = 0
    ordered = sorted(answers, key=lambda one: -(one.confidence or 0))
    for rank, one in enumerate(ordered, start=1):
        if one.answer == one.label:
            right += 1
            total += right / rank
    return total / sum(one.label is not None for one in answers)


def scored(run: Path, capsys: pytest.CaptureFixture[str]) -> float:
    files = [str(run / name) for name in ("submission.csv", "solution.csv")]
    assert cli(["score", *files, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["gap"]


def test_card_score_and_hand_agree(
    class_run: RunAndCard,
    pair_run: RunAndCard,
    autoencoder_run: RunAndCard,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for (folder, card), unknown in ((class_run, 0), (pair_run, 5), (autoencoder_run, 0)):
        assert card.test is not None and card.val is not None and card.val.gap is not None
        assert card.test.gap == scored(folder, capsys)
        answers = read_answers(folder / "answers.csv")
        assert card.test.gap == pytest.approx(gap_by_hand(answers), abs=1e-12)
        assert card.test.unknown == sum(one.label is None for one in answers) == unknown
        assert card.photos["unknown"] == unknown and card.test.photos == len(answers) - unknown
        text = " ".join((folder / "card.md").read_text("utf-8").split())
        assert f"{card.test.gap:.4f}" in text and "GAP (global average precision)" in text
        assert ("5 more photos show none of the classes" in text) == bool(unknown)
    assert read_card(class_run[0]) == class_run[1]


def test_an_example_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        PhotoAnswer("test/a b/1.jpg", "a b", "a b", 0.9),
        PhotoAnswer("unknown/2.jpg", None, "a b", 0.8),
        PhotoAnswer("test/c/3.jpg", "c", "c", 0.7),
        PhotoAnswer("test/c/4.jpg", "c", "a b", 0.6),
    ]
    wanted = (1 / 1 + 2 / 3) / 3
    assert gap_of_answers(answers) == pytest.approx(wanted)
    assert gap_by_hand(answers) == pytest.approx(wanted)
    write_landmark_files(tmp_path, answers)
    assert scored(tmp_path, capsys) == gap_of_answers(answers)
    assert (tmp_path / "solution.csv").read_text() == (
        "id,landmarks,Usage\n1,a%20b,Private\n2,,Private\n3,c,Private\n4,c,Private\n"
    )


def test_equal_confidences_are_in_the_order_of_the_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # "a b" is written as "a%20b", which comes before "a!b" in one order and after it in the other.
    for names in (("x/a b.jpg", "y/a!b.jpg"), ("y/1.jpg", "x/1.jpg"), ("b.jpg", "a.jpg")):
        right, wrong = (PhotoAnswer(names[at], "c", "cd"[at], 0.5) for at in (0, 1))
        for answers in ([right, wrong], [wrong, right]):
            write_landmark_files(tmp_path, answers)
            assert gap_of_answers(answers) == scored(tmp_path, capsys)


def test_no_gap(tmp_path: Path) -> None:
    assert gap_of_answers([]) is None
    assert gap_of_answers([PhotoAnswer("a", None, "b", 0.5)]) is None
    assert gap_of_answers([PhotoAnswer("a", "b", "b", None)]) is None
    answers = [PhotoAnswer("a", None, "b", 1 / 3), PhotoAnswer("b", "b", "b", 1e-300)]
    write_answers(tmp_path / "answers.csv", answers)
    assert read_answers(tmp_path / "answers.csv") == answers
    for confidence in ("nan", "inf", "much"):
        (tmp_path / "bad.csv").write_text(f"path,label,answer,confidence\na,b,b,{confidence}\n")
        with pytest.raises(ValueError, match=r"confidence|could not convert"):
            read_answers(tmp_path / "bad.csv")
