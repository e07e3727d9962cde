"""Whole evaluations of published protocols, by the real command: figures, reports and refusals."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from tiny import save_view

from veduta.cli.evaluate import PROTOCOL_NAMES
from veduta.datasets.judged_set import JudgedSet, Judgements
from veduta.datasets.protocols import PROTOCOLS, open_protocol
from veduta.errors import DatasetError
from veduta.evaluation import evaluate_protocol
from veduta.evaluation.protocol_judge import GivenOrder, ProtocolJudge
from veduta.evaluation.protocol_metrics import PROTOCOL_METRICS, shown_metrics
from veduta.evaluation.protocol_photos import with_boxes_inside


@pytest.fixture(scope="module")
def holidays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of three photos each, named as Holidays names them."""
    folder = tmp_path_factory.mktemp("sets") / "holidays"
    (folder / "jpg").mkdir(parents=True)
    for number in range(4):
        for view in range(3):
            save_view(folder / "jpg" / f"{1000 + number}{view:02}.jpg", number, view)
    return folder


def evaluated(dataset: Path, *arguments: str | Path) -> dict[str, Any]:
    done = run_veduta(dataset.parent, "evaluate", dataset, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_folder_is_recognised_and_measured(holidays: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    figures = evaluated(holidays, "--encoder", "fast", "--report", report)
    assert (figures["task"], figures["protocol"]) == ("protocol", "holidays")
    assert (figures["queries"], figures["gallery"], figures["distractors"]) == (4, 12, 0)
    assert figures["map"] == 1.0
    assert figures["map_interval"] == [1.0, 1.0]
    written = json.loads((report / "report.json").read_text())
    assert [query["path"] for query in written["queries"]] == [
        f"{1000 + i}00.jpg" for i in range(4)
    ]
    assert all(query["first_correct_rank"] == 1 for query in written["queries"])
    assert "Holidays: retrieval by its published protocol" in (report / "report.html").read_text()
    text = run_veduta(holidays.parent, "evaluate", holidays, "--encoder", "fast")
    assert "Holidays: 4 queries, 12 gallery photos" in text.stdout
    assert max(map(len, text.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_a_search_leaves_the_own_photo_of_a_query_out(holidays: Path) -> None:
    ranked = run_veduta(
        holidays.parent, "evaluate", holidays, "--dict", "-k", "20", "--protocol", "holidays"
    )
    assert ranked.returncode == 0, ranked.stderr
    lists = json.loads(ranked.stdout)
    assert {len(photos) for photos in lists.values()} == {11}
    assert all(query not in photos for query, photos in lists.items())
    for query, photos in lists.items():
        assert {photo[:4] for photo in photos[:2]} == {query[:4]}


@pytest.mark.slow
def test_missing_photos_are_refused_unless_allowed(holidays: Path, tmp_path: Path) -> None:
    ukbench = tmp_path / "ukbench"
    ukbench.mkdir()
    for number in range(8):
        save_view(ukbench / f"ukbench{number:05}.jpg", number // 4, number % 4)
    opened = open_protocol(ukbench)
    for number in (1, 6, 7):
        (ukbench / f"ukbench{number:05}.jpg").unlink()
    with pytest.raises(Exception, match=r"3 of 8 query photos \(ukbench00001.jpg, .*\) and 3 of 8"):
        evaluate_protocol(opened, encoder="fast")
    less = evaluate_protocol(opened, encoder="fast", allow_missing=True)
    assert len(less.results) == 5
    assert "do not compare with published ones" in less.problems[0]


def test_a_photo_that_does_not_decode_shifts_no_other(holidays: Path, tmp_path: Path) -> None:
    broken = tmp_path / "holidays"
    shutil.copytree(holidays, broken)
    (broken / "jpg" / "100101.jpg").write_bytes(b"no photo")
    (broken / "jpg" / "100200.jpg").write_bytes(b"no photo")  # a query
    figures = evaluated(broken, "--encoder", "fast")
    assert (figures["queries"], figures["gallery"]) == (3, 10)
    assert figures["map"] == 1.0
    assert any("2 photos left out that do not decode" in each for each in figures["problems"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "oxford"], "no protocol 'oxford'; known are"),
        (["--protocol", "ukbench"], "no photo. The protocol ukbench expects:"),
        (["--variant", "hard"], "the protocol holidays has no variant 'hard'"),
        (["--task", "recognize", "--protocol", "holidays"], "--task does not go with"),
        (["--matrix", "m.npy"], "--matrix does not go with: a published protocol"),
        (["--ranking", "a", "--descriptors", "b"], "either --descriptors or --ranking"),
    ],
)
def test_wrong_calls(holidays: Path, arguments: list[str], words: str) -> None:
    done = run_veduta(holidays.parent, "evaluate", holidays, *arguments)
    assert done.returncode in (2, 3)
    assert words in " ".join(done.stderr.split())


def test_the_layout_that_was_expected_is_shown(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    done = run_veduta(tmp_path, "evaluate", tmp_path, "--protocol", "holidays")
    assert done.returncode == 3
    assert "The protocol holidays expects:" in done.stderr
    assert "100000.jpg" in done.stderr
    assert "Found: photo.jpg" in done.stderr


def with_boxes(holidays: Path, *boxes: tuple[int, int, int, int] | None) -> JudgedSet:
    """Return the set with its first query alone, and that query once with each box."""
    opened = open_protocol(holidays)
    chosen = opened.without(set(opened.queries[len(boxes) :]), set())
    return replace(chosen, protocol="instre", own=None, boxes=boxes)


@pytest.mark.slow
def test_a_query_is_cropped_to_its_box(holidays: Path) -> None:
    whole = evaluate_protocol(open_protocol(holidays), encoder="fast")
    boxed = evaluate_protocol(with_boxes(holidays, None, (4, 4, 20, 16)), encoder="fast")
    scores = [result.nearest[0].score for result in boxed.results]
    assert scores[0] == pytest.approx(1, abs=0.01)  # the photo itself, which is not left out here
    assert scores[1] < 0.99
    assert len(whole.results) == 4


def test_a_box_is_cut_to_its_photo_or_refused(holidays: Path) -> None:
    cut = with_boxes_inside(with_boxes(holidays, (-5, 0, 25, 30), None))
    assert cut.boxes == ((0, 0, 20, 30), None)
    assert "100000.jpg: the box (-5, 0, 20, 30) leaves the photo" in cut.problems[0]
    with pytest.raises(DatasetError, match=r"100100.jpg: the box .* is empty or outside the photo"):
        with_boxes_inside(with_boxes(holidays, None, (9000, 0, 10, 10)))


def test_every_protocol_has_figures_and_every_figure_a_reader() -> None:
    assert PROTOCOLS.keys() == PROTOCOL_METRICS.keys()
    assert all(shown_metrics(name) for name in PROTOCOLS)


def test_the_command_line_and_the_documents_name_every_protocol() -> None:
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)
    docs = Path(__file__).resolve().parents[1] / "docs"
    tables = (docs / "evaluation.md").read_text("utf-8")
    pages = (docs / "protocols.md").read_text("utf-8")
    for name, protocol in PROTOCOLS.items():
        assert f"`{name}`" in tables, name
        folder = protocol.layout.strip().splitlines()[0].split("/")[0].split()[0]
        assert folder in pages, (name, folder)


def tiny(protocol: str, **more: Any) -> JudgedSet:
    return JudgedSet(
        protocol=protocol,
        name="tiny",
        root=Path(),
        queries=("q0", "q1", "q2"),
        gallery=("a", "b", "c", "d"),
        query_paths=("q0", "q1", "q2"),
        gallery_paths=("a", "b", "c", "d"),
        positives=more.pop("positives", Judgements.of([[0], [1, 2], []])),
        **more,
    )


def test_both_conventions_for_queries_without_a_right_photo() -> None:
    places = np.array([[0.0, 0.0], [100.0, 0.0], [900.0, 0.0]])
    gallery = np.array([[3.0, 4.0], [125.0, 0.0], [100.0, 0.0], [5000.0, 0.0]])
    judge = ProtocolJudge(tiny("places", query_places=places, gallery_places=gallery))
    judge.add(0, np.array([0.9, 0.1, 0.2, 0.3]))
    judge.add(1, np.array([0.9, 0.1, 0.2, 0.3]))
    judge.add(2, np.array([0.1, 0.2, 0.3, 0.9]))
    figures = judge.figures()
    assert (figures.queries, figures.queries_without_positives) == (2, 1)
    assert figures.recall1 == 0.5  # q0 is right; q1 is not; q2 has no right photo
    assert figures.recall5 == 1.0
    assert figures.with_all_queries["recall1"] == pytest.approx(1 / 3)
    assert figures.with_all_queries["recall5"] == pytest.approx(2 / 3)
    within = {group: values[0] for group, _, values in figures.tables["distance"]}
    assert within == {"1": 0, "5": 1 / 3, "10": 1 / 3, "25": 1 / 3, "50": 1 / 3, "100": 2 / 3}


def test_names_are_those_of_the_first_answer() -> None:
    judged = tiny(
        "met",
        positives=Judgements.of([[0], [1, 2], []]),
        query_labels=("x", "y", None),
        gallery_labels=("x", "y", "y", "z"),
    )
    judge = ProtocolJudge(judged)
    judge.add(0, np.array([0.5, 0.4, 0.3, 0.2]))  # right, confidence 0.5
    judge.add(1, np.array([0.1, 0.2, 0.8, 0.3]))  # right, confidence 0.8
    judge.add(2, np.array([0.1, 0.2, 0.3, 0.7]))  # no exhibit, confidence 0.7
    figures = judge.figures()
    # By confidence: right, wrong, right. Precision at the right ones: 1 and 2/3.
    assert figures.gap == pytest.approx((1 + 2 / 3) / 2)
    assert figures.gap_without_distractors == 1.0
    assert figures.accuracy == 1.0


def test_pairs_of_all_queries_are_pooled_and_ties_count_against_the_system() -> None:
    judge = ProtocolJudge(tiny("disc21", positives=Judgements.of([[0], [1], []])))
    judge.add(0, GivenOrder(np.array([0]), np.array([0.9])))
    judge.add(1, GivenOrder(np.array([1, 3]), np.array([0.5, 0.5])))  # right and wrong, equal
    judge.add(2, GivenOrder(np.array([2]), np.array([0.7])))  # a wrong pair between them
    figures = judge.figures()
    # right, wrong, wrong, right: precision 1 and 2/4.
    assert figures.micro_ap == pytest.approx((1 + 2 / 4) / 2)
    assert figures.recall_at_precision90 == 0.5


def test_a_ranking_without_scores_cannot_be_pooled() -> None:
    judge = ProtocolJudge(tiny("disc21", positives=Judgements.of([[0], [1], []])))
    with pytest.raises(Exception, match="the ranking has none; write a TREC run or a CSV file"):
        judge.add(0, GivenOrder(np.array([0])))


def test_a_group_is_judged_without_the_right_photos_of_the_others() -> None:
    judged = tiny(
        "ilias",
        positives=Judgements.of([[0, 1, 2], [], []]),
        groups={"scale": ("small", "large", "large")},
    )
    judge = ProtocolJudge(judged)
    judge.add(0, np.array([0.1, 0.9, 0.8, 0.5]))  # b, c (large), d (wrong), a (small)
    rows = {name: values[0] for name, _, values in judge.figures().tables["scale"]}
    assert rows["large"] == 1.0
    assert rows["small"] == 0.5  # d stands before a


def test_first_answers_keep_the_order_of_the_gallery_in_ties_and_leave_out_what_they_must() -> None:
    judged = tiny(
        "gpr1200",
        positives=Judgements.of([[1], [0], [0]]),
        own=np.array([0, 1, 2]),
    )
    judge = ProtocolJudge(judged, keep=2)
    judge.add(0, np.array([1.0, 0.5, 0.5, 0.5]))
    assert [near.row for near in judge.results[0].nearest] == [1, 2]
    judge.add(1, GivenOrder(np.array([1, 3, 0])))
    assert [near.row for near in judge.results[1].nearest] == [3, 0]
    assert judge.results[1].first_correct_rank == 2
    assert math.isnan(judge.results[1].nearest[0].score)
