"""`veduta score`: a submission and its solution in, mAP@100 or GAP out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from veduta.cli import main, score
from veduta.datasets import google_landmarks as gld
from veduta.errors import DatasetError

RETRIEVAL = "id,images,Usage\na,x y,Public\nb,z,Private\nc,None,Ignored\n"
RECOGNITION = "id,landmarks,Usage\na,7,Public\nb,,Public\nc,8 9,Private\nd,,Ignored\n"


@pytest.fixture
def run(tmp_path: Path):
    def call(submission: str, solution: str, *options: str) -> Result:
        files = [tmp_path / "submission.csv", tmp_path / "solution.csv"]
        for file, text in zip(files, (submission, solution), strict=True):
            file.write_text(text, encoding="utf-8")
        return CliRunner().invoke(score.command, [*map(str, files), *options])

    return call


def figures(result: Result) -> dict:
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


class TestRetrieval:
    def test_by_hand(self, run) -> None:
        done = figures(run("id,images\na,n x n y\nb,z\nc,x\n", RETRIEVAL, "--json"))
        assert done["task"] == "retrieval"
        # a: right at ranks 2 and 4 of two; b: right at once.
        assert done["map100"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 2)
        low, high = done["map100_interval"]
        assert 0.5 <= low <= done["map100"] <= high <= 1
        assert (done["queries"], done["ignored"], done["missing"]) == (2, 1, 0)

    def test_one_leaderboard(self, run) -> None:
        rows = "id,images\na,n x n y\nb,z\n"
        assert figures(run(rows, RETRIEVAL, "--usage", "Public", "--json"))["map100"] == 0.5
        assert figures(run(rows, RETRIEVAL, "--usage", "private", "--json"))["map100"] == 1.0

    def test_queries_without_a_row_and_rows_that_are_too_long(self, run) -> None:
        late = " ".join([f"n{number}" for number in range(100)] + ["x", "y"])
        done = figures(run(f"id,images\na,{late}\n", RETRIEVAL, "--json"))
        assert done["map100"] == 0
        assert (done["missing"], done["rows_cut"]) == (1, 1)
        text = run(f"id,images\na,{late}\n", RETRIEVAL).stdout
        assert "1 of them not answered, each scores 0" in text
        assert "1 row with more than 100 photos, the first 100 count" in text

    def test_text(self, run) -> None:
        text = run("id,images\na,x y\nb,z\n", RETRIEVAL).stdout
        assert text.splitlines() == [
            "retrieval, queries: 2",
            "  mAP@100  1.00000   95 % [1.00000, 1.00000]",
            "  1 more in the solution are not scored",
        ]


class TestRecognition:
    SUBMISSION = "id,landmarks\na,7 0.5\nb,7 0.9\nc,9 0.4\nd,7 1\n"

    def test_by_hand(self, run) -> None:
        done = figures(run(self.SUBMISSION, RECOGNITION, "--json"))
        assert done["task"] == "recognition"
        # By confidence: b wrong (it shows none), a right, c right; two queries have a landmark.
        assert done["gap"] == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert (done["queries"], done["with_landmark"], done["predicted"]) == (3, 2, 3)
        assert done["accuracy"] == 1.0
        low, high = done["gap_interval"]
        assert 0 <= low <= done["gap"] <= high <= 1

    def test_text(self, run) -> None:
        lines = run(self.SUBMISSION, RECOGNITION).stdout.splitlines()
        assert lines[0] == "recognition, queries: 2 with a landmark, 1 without"
        assert lines[1].startswith("  GAP      0.58333   95 % [")
        assert max(map(len, lines)) <= 80

    def test_against_the_formula(self, run) -> None:
        """GAP as Perronnin, Liu and Renders (CVPR 2009) write it, over 200 random queries."""
        rng = random.Random(5)
        truth = {f"q{number:03}": rng.choice(["", "1", "2", "1 2"]) for number in range(200)}
        named = {
            query: (rng.choice("123"), rng.choice([0.1, 0.25, 0.5, 0.75]))
            for query in truth
            if rng.random() < 0.8
        }
        solution = "id,landmarks\n" + "".join(f"{q},{marks}\n" for q, marks in truth.items())
        rows = [f"{q},{label} {sure}\n" for q, (label, sure) in named.items()]
        rng.shuffle(rows)
        done = figures(run("id,landmarks\n" + "".join(rows), solution, "--json"))
        order = sorted(named, key=lambda query: (-named[query][1], query))
        hits = [named[query][0] in truth[query].split() for query in order]
        total = sum(sum(hits[: i + 1]) / (i + 1) for i in range(len(hits)) if hits[i])
        assert done["gap"] == pytest.approx(total / sum(map(bool, truth.values())), abs=1e-12)


class TestMistakes:
    @pytest.mark.parametrize(
        ("submission", "solution", "said"),
        [
            ("id,images\na,x\n", RECOGNITION, "is of retrieval, but "),
            (RETRIEVAL, "id,images\na,x\n", "name the submission first, the solution second"),
            ("id,photos\na,x\n", RETRIEVAL, "cannot tell retrieval from recognition; found 'id'"),
            ("id,images\na,x\nq,x\n", RETRIEVAL, "a query that "),
            ("id,landmarks\na,7 nan\n", RECOGNITION, "line 2: the confidence is 'nan'"),
            ("id,landmarks\na,7 1\na,7 1\n", RECOGNITION, "line 3: a is already on line 2"),
        ],
    )
    def test_are_told(self, run, submission: str, solution: str, said: str) -> None:
        result = run(submission, solution)
        assert isinstance(result.exception, DatasetError)
        assert said in str(result.exception)
        assert "submission.csv" in str(result.exception)

    def test_the_exit_code(self, tmp_path: Path, capsys) -> None:
        absent = str(tmp_path / "absent.csv")
        assert main.run(["score", absent, absent]) == 3
        assert "absent.csv: cannot be read" in capsys.readouterr().err


def test_the_usages_are_those_of_the_reader() -> None:
    assert score.USAGES == gld.USAGES


def test_a_byte_order_mark(run) -> None:
    assert (
        figures(run("\ufeffid,images\na,x y\nb,z\n", "\ufeff" + RETRIEVAL, "--json"))["map100"] == 1
    )
