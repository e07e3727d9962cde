"""Rankings of other programs: every form, the order of trec_eval, every kind of damage."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from veduta.errors import CannotWrite, DatasetError
from veduta.evaluation.given_answers import open_given_answers
from veduta.interchange.ranking_files import Rankings, read_ranking, write_run

QUERIES = ["q1", "q2", "q3"]
GALLERY = ["a", "b", "c", "d"]


def read(
    tmp_path: Path, text: str | bytes, name: str = "run.txt", queries: list[str] = QUERIES
) -> Rankings:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ranking(tmp_path / name, queries, GALLERY)


def names(rankings: Rankings, query: int) -> str:
    rows, scores = rankings.of_query(query)
    assert rows.dtype == np.int64
    assert scores is None or (len(scores) == len(rows) and scores.dtype == np.float64)
    return "".join(GALLERY[row] for row in rows)


def scores_of(rankings: Rankings, query: int) -> list[float]:
    scores = rankings.of_query(query)[1]
    assert scores is not None
    return scores.tolist()


def refusal(
    tmp_path: Path, text: str | bytes, name: str = "run.txt", queries: list[str] = QUERIES
) -> str:
    with pytest.raises(DatasetError) as error:
        read(tmp_path, text, name, queries)
    return str(error.value).removeprefix(f"{tmp_path}/")


RUN = """\
q2 Q0 b 1 0.5 tag
q1 Q0 a 9 -1 tag

q1\tQ0\tc\t1\t2.5e0\ttag
q2 Q0 d 2 7 tag
"""
RUN_OF_PYTREC_EVAL = {"q2": {"b": 0.5, "d": 7}, "q1": {"a": -1.0, "c": 2.5}}
PREDICTIONS = "query_id,reference_id,score\nq2,b,0.5\nq1,a,-1\nq1,c,2.5\nq2,d,7\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.txt", RUN),
        ("run", "\ufeff" + RUN.replace("\n", "\r\n")),
        ("run.json", json.dumps(RUN_OF_PYTREC_EVAL)),
        ("run.txt", "\ufeff" + json.dumps(RUN_OF_PYTREC_EVAL)),
        ("run.csv", PREDICTIONS),
        ("run.txt", "\ufeff\n" + PREDICTIONS.replace(",", ";")),
    ],
)
def test_scores_are_sorted(tmp_path: Path, name: str, text: str) -> None:
    rankings = read(tmp_path, text, name)
    assert [names(rankings, query) for query in range(3)] == ["ca", "db", ""]
    assert scores_of(rankings, 0) == [2.5, -1]
    assert scores_of(rankings, 1) == [7, 0.5]
    assert scores_of(rankings, 2) == []
    assert rankings.problems == (f"1 of 3 queries without an answer in {name} (q3).",)


@pytest.mark.parametrize(
    "text",
    [
        '{"q2": ["d", "b"], "q1": ["c", "a"], "q3": []}',
        ' \n{"q1": ["c", "a"], "q2": ["d", "b"]}',
        "id,images\r\nq2,d b\r\nq1,c  a\r\nq3,\r\n",
        "images,id\nc a,q1\nd b,q2\n",
    ],
)
def test_lists_keep_their_order(tmp_path: Path, text: str) -> None:
    rankings = read(tmp_path, text)
    assert [names(rankings, query) for query in range(3)] == ["ca", "db", ""]
    assert [rankings.of_query(query)[1] for query in range(3)] == [None] * 3
    assert rankings.problems == ("1 of 3 queries without an answer in run.txt (q3).",)


def test_nothing_is_told_if_all_queries_have_answers(tmp_path: Path) -> None:
    assert read(tmp_path, '{"q1": ["a"], "q2": ["a"], "q3": ["a"]}').problems == ()


def test_equal_scores_of_a_run_rank_as_in_trec_eval(tmp_path: Path) -> None:
    run = "".join(f"q1 Q0 {photo} 0 0.5 t\n" for photo in "bdac")
    assert names(read(tmp_path, run), 0) == "dcba"
    answer = {"q1": {"a": 0.5, "c": 0.5, "b": 0.75}}
    assert names(read(tmp_path, json.dumps(answer)), 0) == "bca"


def test_scores_of_a_run_are_compared_as_float32(tmp_path: Path) -> None:
    rankings = read(tmp_path, "q1 Q0 a 1 0.500000000002 t\nq1 Q0 b 2 0.500000000001 t\n")
    assert names(rankings, 0) == "ba"
    assert scores_of(rankings, 0) == [0.500000000001, 0.500000000002]


def test_equal_ids_are_compared_as_bytes_of_the_file(tmp_path: Path) -> None:
    """As bytes "a.jpg" is larger than "a-b.jpg", although "a" is smaller than "a-b"."""
    file = tmp_path / "run.txt"
    file.write_text("q Q0 a-b.jpg 1 1 t\nq Q0 a.jpg 2 1 t\nq Q0 é.jpg 3 1 t\n")
    rows, _ = read_ranking(file, ["q"], ["a", "a-b", "é"]).of_query(0)
    assert rows.tolist() == [2, 0, 1]


def test_equal_predictions_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "query_id,reference_id,score\nq1,b,1\nq1,d,1\nq1,a,1\nq1,c,1.0000000001\n"
    assert names(read(tmp_path, text), 0) == "cbda"


def test_rankings_are_those_of_trec_eval(tmp_path: Path) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(5)
    gallery = [f"{number}" for number in range(40)]
    # Few values, some of which differ only as float64
    values = rng.choice([0.25, 0.25 + 1e-12, 0.5, 0.5 + 1e-9, 1e300, 1e299], 40)
    run = {"q": dict(zip(gallery, values.tolist(), strict=True))}
    (tmp_path / "run.json").write_text(json.dumps(run))
    write_run(tmp_path / "run.txt", [("q", *pair) for pair in run["q"].items()])
    for name in ("run.json", "run.txt"):
        rows = read_ranking(tmp_path / name, ["q"], gallery).of_query(0)[0].tolist()
        for photo in gallery:
            judge = pytrec_eval.RelevanceEvaluator({"q": {photo: 1}}, {"recip_rank"})
            rank = 1 / judge.evaluate(run)["q"]["recip_rank"]
            assert rows.index(int(photo)) + 1 == round(rank)


def test_ids_may_lack_their_ending(tmp_path: Path) -> None:
    text = "q1.jpg Q0 a.png 1 2 t\nq1.jpg Q0 b 1 1 t\n"
    assert names(read(tmp_path, text), 0) == "ab"
    (tmp_path / "run.txt").write_text(text)
    rankings = read_ranking(tmp_path / "run.txt", ["q1.jpg"], ["b.jpg", "a.jpg", "a.png"])
    assert rankings.of_query(0)[0].tolist() == [2, 0]


def test_folders_are_not_guessed(tmp_path: Path) -> None:
    assert "1 of 1 gallery photo unknown (x/a)" in refusal(tmp_path, '{"q1": ["x/a"]}')


# What is refused


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "x", "1e999"])
def test_scores_that_are_no_finite_numbers(tmp_path: Path, score: str) -> None:
    message = refusal(tmp_path, f"q1 Q0 a 1 1 t\nq1 Q0 b 1 {score} t\n")
    assert message.startswith("run.txt, line 2: the score ")
    assert message.endswith("is no finite number")
    text = f"query_id,reference_id,score\nq1,a,1\n\nq1,b,{score}\n"
    assert refusal(tmp_path, text, "x.csv").startswith("x.csv, line 4: the score ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"q1": {"a": NaN}}', "not valid JSON: NaN is no finite number"),
        ('{"q1": {"a": 1e999}}', "query q1: the score of a is inf"),
        ('{"q1": {"a": "1"}}', "query q1: [...]: Expected `float`"),
        ('{"q1": {"a": 1}, "q2": ["a"]}', "query q2: Expected `object`"),
        ('{"q1": ["a"], "q2": {"a": 1}}', "query q2: Expected `array`"),
        ('{"q1": ["a", 2]}', "query q1: [1]: Expected `str`"),
        ('{"q1": "a"}', "query q1: Expected `array`"),
        ('{"q1": {"a": 1, "b": 2, "a": 3}}', "the key 'a' comes twice"),
        ('{"q1": ["a"], "q1": ["b"]}', "the key 'q1' comes twice"),
        ('{"q1": ["a", "b", "a"]}', "a comes twice for the query q1"),
        ('{"q1": ["a", ', "not valid JSON"),
        ('{"q1": ["a"]} x', "not valid JSON"),
        ('["a"]', 'wanted {"query"'),
        ("{}", 'wanted {"query"'),
        ('{"q1": []}', "has no answers"),
        ('{"q1": ' + "[" * 10**5 + "}", "not valid JSON"),
        (b'{"q1": ["\xff"]}', "not UTF-8"),
        ('{"q1": ["\\ud800"]}', "'\\ud800' is no text in UTF-8"),
        ('{"\\ud800": ["a"]}', "'\\ud800' is no text in UTF-8"),
        ('{"q1": {"\\ud800": 5}}', "'\\ud800' is no text in UTF-8"),
    ],
)
def test_json_that_is_no_ranking(tmp_path: Path, text: str | bytes, fault: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("run.txt")
    assert fault in message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("q1 Q0 a 1 1 t\nq1 Q0 b 1 1\n", ", line 2: 5 words; wanted 6"),
        ("q1 Q0 a 1 1 t\nq1 Q0 b c 1 1 t\n", ", line 2: 7 words"),
        (b"q1 Q0 a 1 1 t\nq1 Q0 \xff 1 1 t\n", ", line 2: not UTF-8"),
        ("q1 Q0 a 1 1 t\n\nq1 Q0 b 2 0 t\nq1 Q0 a 3 0 t\n", ", line 4: a comes twice"),
        ("q1 Q0 a 1 1 t\nq1 Q0 a.jpg 2 0 t\n", ": 1 of 2 gallery photos unknown (a.jpg)"),
        ("query_id,reference_id,score\nq1,a,1\nq2,a,1\nq1,a,2\n", ", line 4: a comes twice"),
        ("query_id,reference_id,score\nq1,a\n", ", line 2: 2 fields"),
        ("query_id,reference_id,score\n", ": has no answers"),
        (b"query_id,reference_id,score\nq1,\xff,1\n", ", line 2: not UTF-8"),
        ("id,images\nq1,a b a\n", ", line 2: a comes twice for the query q1"),
        ("id,images\nq1,a\nq2,b\nq1,c\n", ", line 4: the query q1 is in line 2 too"),
        ("", ": is empty; wanted a TREC run"),
        ("\ufeff \n\n", ": is empty"),
        ("q1,a,0.5\n", ": begins with 'q1,a,0.5'; wanted a TREC run"),
        ("q1 0 a 1\n", ": begins with 'q1 0 a 1'"),
        (b"\x89PNG\r\n\x1a\n", ", line 1: not UTF-8"),
    ],
)
def test_lines_that_are_no_ranking(tmp_path: Path, text: str | bytes, fault: str) -> None:
    assert f"run.txt{fault}" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "form",
    [
        lambda q, photo: f"{q} Q0 {photo} 1 1 t\n",
        lambda q, photo: json.dumps({q: [photo]}),
        lambda q, photo: f"id,images\n{q},{photo}\n",
        lambda q, photo: f"query_id,reference_id,score\n{q},{photo},1\n",
    ],
)
def test_unknown_ids(tmp_path: Path, form) -> None:
    assert refusal(tmp_path, form("q9", "a")) == (
        "run.txt: 1 of 1 query unknown (q9); a ranking of another set?"
    )
    assert refusal(tmp_path, form("q1", "z")) == (
        "run.txt: 1 of 1 gallery photo unknown (z); a ranking of another gallery?"
    )


def test_the_first_unknown_ids_are_named(tmp_path: Path) -> None:
    assert "7 of 8 gallery photos unknown (1, 2, 3, 4, 5, and 2 more)" in refusal(
        tmp_path, json.dumps({"q1": list("a1234567")})
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_ranking(file, QUERIES, GALLERY)


def test_half_a_million_predictions_take_seconds(tmp_path: Path) -> None:
    queries = [f"Q{number:05}" for number in range(5000)]
    gallery = [f"R{number:06}" for number in range(100_000)]
    lines = (
        f"Q{number % 5000:05},R{number * 7 % 99_991:06},{number % 997 / 997}\n"
        for number in range(500_000)
    )
    file = tmp_path / "predictions.csv"
    file.write_text("query_id,reference_id,score\n" + "".join(lines))
    start = time.process_time()
    rankings = read_ranking(file, queries, gallery)
    assert time.process_time() - start < 15
    assert rankings.problems == ()
    rows, scores = rankings.of_query(4999)
    assert len(rows) == 100
    assert scores is not None
    assert (np.diff(scores) <= 0).all()
    assert set(rows.tolist()) == {number * 7 % 99_991 for number in range(4999, 500_000, 5000)}


# Writing


def test_a_run_is_read_back(tmp_path: Path) -> None:
    rows = [("q2", "b", 0.1 + 0.2), ("q2", "a", 0.25), ("q1", "é.jpg", -1e-20), ("q1", "d", -3)]
    write_run(tmp_path / "run.txt", rows)
    assert (tmp_path / "run.txt").read_text("utf-8").splitlines() == [
        "q2 Q0 b 1 0.30000000000000004 veduta",
        "q2 Q0 a 2 0.25 veduta",
        "q1 Q0 é.jpg 1 -1e-20 veduta",
        "q1 Q0 d 2 -3.0 veduta",
    ]
    rankings = read_ranking(tmp_path / "run.txt", ["q1", "q2"], ["a", "b", "é.jpg", "d"])
    assert [rankings.of_query(query)[0].tolist() for query in (0, 1)] == [[2, 3], [1, 0]]
    assert scores_of(rankings, 0) == [-1e-20, -3]
    assert scores_of(rankings, 1) == [0.1 + 0.2, 0.25]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (("q", "a b", 1.0), "cannot hold 'a b'"),
        (("", "a", 1.0), "cannot hold ''"),
        (("q", "\udcff", 1.0), "is not UTF-8"),
        (("q", "a", float("nan")), "the score of a for the query q is nan"),
    ],
)
def test_what_a_run_cannot_hold_leaves_the_old_file(
    tmp_path: Path, row: tuple[str, str, float], fault: str
) -> None:
    (tmp_path / "run.txt").write_text("old")
    with pytest.raises(DatasetError, match=re.escape(fault)):
        write_run(tmp_path / "run.txt", [("q", "x", 2.0), row])
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
    with pytest.raises(CannotWrite):
        write_run(tmp_path / "none/run.txt", [])


def test_given_rankings_are_the_answers(tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text(RUN)
    given = open_given_answers(QUERIES, GALLERY, ranking=tmp_path / "run.txt")
    assert given.problems == ("1 of 3 queries without an answer in run.txt (q3).",)
    assert [each.rows.tolist() for each in given.answers] == [[2, 0], [3, 1], []]


def test_queries_that_the_set_leaves_out_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    file.write_text("id,images\nignored,g1 g2\nq1,g2 g1\nalso,g1\n")
    rankings = read_ranking(file, ["q1"], ["g1", "g2"])
    assert rankings.of_query(0)[0].tolist() == [1, 0]
    assert rankings.problems == ("2 queries of submission.csv not in the set, left out.",)
    file.write_text("id,images\nignored,g1\nq1,g2 g2\n")
    with pytest.raises(DatasetError, match=r"line 3: g2 comes twice for the query q1"):
        read_ranking(file, ["q1"], ["g1", "g2"])
