"""The report folder: the page in a browser, the JSON file, and what is on them."""

from __future__ import annotations

import getpass
import json
import math
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_evaluate_report import AWKWARD, Page
from tiny import pixels, save

from veduta.errors import VedutaError
from veduta.evaluation import Evaluation
from veduta.evaluation.classification import classification_figures, classification_statistic
from veduta.evaluation.comparison import compare, read_report
from veduta.evaluation.figures import Measured
from veduta.evaluation.metrics import NearestPhoto, judge
from veduta.evaluation.open_set import open_set_figures
from veduta.evaluation.recognition_run import RecognitionEvaluation, RecognitionResult
from veduta.evaluation.report_environment import environment
from veduta.evaluation.report_folder import make_report_folder, write_report
from veduta.evaluation.report_recognition import (
    classified,
    query_values,
    recognition_page,
)
from veduta.evaluation.report_retrieval import retrieval_page
from veduta.evaluation.revisited import revisited_figures
from veduta.evaluation.revisited_run import RevisitedEvaluation
from veduta.evaluation.summary import summarise
from veduta.files import write_text
from veduta.pages import report_page
from veduta.pages.report_page import Plot, ReportPage, ReportRow
from veduta.pages.results_page import Figure
from veduta.text import printable

EVIL = "<script>document.title='owned'</script>\"'>\N{CASTLE}\n&amp;"
COMMAND = "veduta evaluate 'a & <b>' --report out"


def retrieval(root: Path, classes: list[str], *, each: int = 2, seed: int = 0) -> Evaluation:
    """Two queries of each class against `each` photos of each, ranked by a noisy guess."""
    rng = np.random.default_rng(seed)
    labels = [name for name in classes for _ in range(each)]
    results = []
    for number, name in enumerate([*classes, *classes]):
        right = np.array([label == name for label in labels])
        scores = np.clip(0.5 * right + rng.random(len(labels)) * 0.7, 0, 1)
        results.append(judge(f"query/{number}.jpg", name, scores, right))
    return Evaluation(
        summary=summarise(results, gallery=len(labels), resamples=50),
        results=tuple(results),
        settings={"encoder": "tiny", "project": None, "rerank": "geometry", "verify": 50},
        problems=(),
        gallery_paths=tuple(f"gallery/{number}.jpg" for number in range(len(labels))),
        gallery_labels=tuple(labels),
        root=root,
        seconds=1.25,
    )


def answer(
    path: str, label: str | None, guess: str | None, confidence: float, named: bool
) -> RecognitionResult:
    nearest = (NearestPhoto(0, 0.9, label == "arch"), NearestPhoto(1, 0.4, label == "dome"))
    return RecognitionResult(path, label, guess, confidence, named, nearest)


def recognition(root: Path, results: list[RecognitionResult], **changed: Any) -> Any:
    evaluation = RecognitionEvaluation(
        summary=open_set_figures(
            [r.label for r in results],
            [r.guess for r in results],
            [r.named for r in results],
            [r.confidence for r in results],
            resamples=50,
        ),
        calibration_error=0.125,
        results=tuple(results),
        settings={"encoder": "tiny", "method": "evidence", "threshold": 0.5, "learned": True},
        thresholds=(),
        problems=(),
        gallery_paths=("gallery/0.jpg", "gallery/1.jpg", "gallery/2.jpg"),
        gallery_labels=("arch", "dome", None),
        root=root,
        seconds=0.5,
    )
    return replace(evaluation, **changed)


ANSWERS = [
    answer("query/a.jpg", "arch", "arch", 0.95, True),
    answer("query/b.jpg", "dome", "dome", 0.80, True),
    answer("query/c.jpg", "dome", "arch", 0.70, True),
    answer("query/d.jpg", None, "arch", 0.90, True),
    answer("query/e.jpg", None, "dome", 0.20, False),
    answer("query/f.jpg", "arch", "arch", 0.40, False),
    answer("query/g.jpg", None, None, 0.0, False),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number in range(6):
        save(folder / "query" / f"{number}.jpg", number)
        save(folder / "gallery" / f"{number}.jpg", 100 + number)
    for number, name in enumerate("abcdefg"):
        save(folder / "query" / f"{name}.jpg", 200 + number)
    return folder


def written(evaluation: Any, folder: Path, **options: Any) -> tuple[Page, dict[str, Any]]:
    write_report(evaluation, folder, command=COMMAND, **options)
    page = Page((folder / "report.html").read_text("utf-8"))
    return page, json.loads((folder / "report.json").read_text("utf-8"))


def rows_of(page: Page) -> list[str]:
    """The names of the queries on the page, in order."""
    return [a["alt"] or "" for a in page.every("img") if (a["alt"] or "").startswith("Query ")]


class TestRetrieval:
    def test_page_and_json(self, root: Path, tmp_path: Path) -> None:
        evaluation = replace(
            retrieval(root, ["arch", "dome", "gate"]), problems=("gone.jpg: is not there",)
        )
        page, data = written(evaluation, tmp_path / "out")
        text = re.sub(r"\s+", " ", page.text)
        assert "6 queries against 6 gallery photos" in text
        for name in ("Top-1", "mAP", "Recall@10", "mAP@100", "Precision and recall", "Calibration"):
            assert name in text
        assert f"{evaluation.summary.map:.3f}" in text
        low, high = evaluation.summary.map_interval
        assert f"{low:.3f} – {high:.3f}" in text
        assert "gone.jpg: is not there" in text
        assert COMMAND in text and "1.2 s" in text and "numpy" in text
        assert len(rows_of(page)) == 6
        assert data["task"] == "retrieve" and data["map"] == evaluation.summary.map
        assert data["query_count"] == 6 and data["command"] == COMMAND
        assert [row["path"] for row in data["queries"]] == [r.path for r in evaluation.results]
        assert [row["ap"] for row in data["queries"]] == [r.ap for r in evaluation.results]
        assert data["environment"]["veduta"] and data["generated"].startswith("20")
        assert [row["label"] for row in data["classes"]] == ["arch", "dome", "gate"]

    def test_weakest_and_strongest_queries(self, root: Path) -> None:
        evaluation = retrieval(root, [f"class{number:02}" for number in range(20)], each=3)
        aps = {r.path: r.ap for r in evaluation.results}
        weak, strong = retrieval_page(evaluation, rows=7).groups
        weakest = [shown.row.note for shown in weak.rows]
        best = [shown.row.note for shown in strong.rows]
        ordered = sorted(aps.values())
        assert len(weakest) == 4 and len(best) == 3
        for note, ap in zip(weakest, ordered, strict=False):
            assert note.endswith(f"average precision {ap:.2f}")
        for note, ap in zip(best, reversed(ordered), strict=False):
            assert note.endswith(f"average precision {ap:.2f}")

    def test_strongest_queries_show_several_classes(self, root: Path) -> None:
        right = np.array([True, False])
        results = [judge(f"q{n}", f"class{n // 5}", [0.9, 0.1], right) for n in range(20)]
        evaluation = replace(
            retrieval(root, ["arch"]), results=tuple(results), gallery_labels=("x", "y")
        )
        *_, strong = retrieval_page(evaluation, rows=6).groups
        assert len({shown.row.label for shown in strong.rows}) == 3

    def test_no_query_twice(self, root: Path, tmp_path: Path) -> None:
        page, _ = written(retrieval(root, ["arch"]), tmp_path / "out", rows=50)
        assert sorted(rows_of(page)) == ["Query 0.jpg", "Query 1.jpg"]

    def test_without_rows(self, root: Path, tmp_path: Path) -> None:
        page, data = written(retrieval(root, ["arch", "dome"]), tmp_path / "out", rows=0)
        assert page.every("img") == [] and "There is nothing to show." in page.text
        assert len(data["queries"]) == 4

    def test_calibration_only_of_probabilities(self, root: Path) -> None:
        evaluation = retrieval(root, ["arch", "dome"])
        titles = [plot.chart.title for plot in retrieval_page(evaluation, rows=0).plots]
        assert "Calibration of the scores" in titles
        for settings in ({"rerank": "none"}, {"rerank": "expansion"}, {"method": "sift"}):
            page = retrieval_page(replace(evaluation, settings=settings), rows=0)
            assert "Calibration of the scores" not in [plot.chart.title for plot in page.plots]

    def test_no_result_at_all(self, root: Path, tmp_path: Path) -> None:
        evaluation = retrieval(root, ["arch"])
        nothing = replace(
            evaluation.summary,
            queries=0,
            figures={
                **evaluation.summary.figures,
                "top1": Measured(math.nan, (math.nan, math.nan)),
                "map": Measured(math.nan, (math.nan, math.nan)),
            },
        )
        page, data = written(replace(evaluation, summary=nothing, results=()), tmp_path / "out")
        assert "There is nothing to show." in page.text
        assert "nan" not in page.text.lower()
        assert data["map"] is None and data["map_interval"] == [None, None]
        assert data["queries"] == []

    def test_queries_without_an_answer_are_told(self, root: Path, tmp_path: Path) -> None:
        evaluation = retrieval(root, ["arch"])
        lost = judge("query/2.jpg", "gone", [0.3, 0.2], [False, False])
        results = (*evaluation.results, lost)
        summary = summarise(results, gallery=2, resamples=20)
        page, data = written(replace(evaluation, summary=summary, results=results), tmp_path / "o")
        assert "1 query without a right answer in the gallery: counted, and in no mean" in page.text
        assert data["queries"][-1]["ap"] is None
        assert data["queries_without_positives"] == 1

    def test_round_trip_into_compare(self, root: Path, tmp_path: Path) -> None:
        names = ["arch", "dome", "gate"]
        for number in range(2):
            evaluation = retrieval(root, names, seed=number)
            write_report(evaluation, tmp_path / str(number), command="")
        done = compare([read_report(tmp_path / str(n) / "report.json") for n in range(2)])
        assert (done.task, done.queries) == ("retrieve", 6)
        first = next(figure for figure in done.figures if figure.metric == "map")
        assert first.value == pytest.approx(retrieval(root, names).summary.map, abs=1e-12)


class TestRecognition:
    def test_page_and_json(self, root: Path, tmp_path: Path) -> None:
        page, data = written(recognition(root, ANSWERS), tmp_path / "out")
        text = re.sub(r"\s+", " ", page.text)
        assert "4 queries that show a place of the gallery, 3 that show none" in text
        assert "against 3 gallery photos, 1 distractor among them" in text
        # GAP: 0.95 right, 0.90 wrong, 0.80 right, 0.70 wrong, 0.40 right; 4 can be right.
        assert data["gap"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
        assert data["known_named"] == 3 / 4 and data["unknown_rejected"] == 2 / 3
        assert data["accuracy"] == pytest.approx(4 / 7)
        # arch: 1 of 3 answers right, 1 of 2 found; dome: 1 of 1, 1 of 2.
        assert data["macro_f1"] == pytest.approx((2 / 5 + 2 / 3) / 2)
        assert data["accuracy_interval"][0] <= 4 / 7 <= data["accuracy_interval"][1]
        assert {"label": "dome", "answer": "arch", "photos": 1} in data["confusion"]
        assert {"label": None, "answer": "arch", "photos": 1} in data["confusion"]
        assert {"label": "arch", "answer": None, "photos": 1} in data["confusion"]
        assert f"{4 / 7:.3f}" in text and "0.125" in text
        for name in ("GAP", "Macro F1", "Risk and coverage", "Calibration", "Confusion matrix"):
            assert name in text
        assert "named arch, confidence 0.90" in text
        assert "unknown; the guess was arch, confidence 0.40" in text

    def test_mistakes_come_first(self, root: Path, tmp_path: Path) -> None:
        page, _ = written(recognition(root, ANSWERS), tmp_path / "out")
        assert rows_of(page) == [f"Query {name}.jpg" for name in ("d", "c", "f", "a", "b")]
        marks = re.findall(r'<p class="answer"><span class="mark (\w+)">', page_source(tmp_path))
        assert marks == ["wrong", "wrong", "wrong", "right", "right"]

    def test_rows_are_shared_out(self, root: Path) -> None:
        def sizes(rows: int) -> list[tuple[str, int]]:
            page = recognition_page(recognition(root, ANSWERS), None, rows=rows)
            return [(group.title, len(list(group.rows))) for group in page.groups]

        wrong, missed, right = "Wrongly named", "Wrongly left unknown", "Named right"
        assert sizes(1) == [(wrong, 1)]
        assert sizes(3) == [(wrong, 1), (missed, 1), (right, 1)]
        assert sizes(4) == [(wrong, 2), (missed, 1), (right, 1)]
        assert sizes(99) == [(wrong, 2), (missed, 1), (right, 2)]

    def test_photos_of_an_unknown_place_are_not_marked(self, root: Path, tmp_path: Path) -> None:
        written(recognition(root, [ANSWERS[3]]), tmp_path / "out")
        rows = page_source(tmp_path).split('<ol class="hits">')[1].split("</ol>")[0]
        assert rows.count("<img") == 2 and "mark" not in rows

    def test_all_known_or_all_unknown(self, root: Path, tmp_path: Path) -> None:
        for number, results in enumerate((ANSWERS[:3], ANSWERS[4:5], ANSWERS[6:])):
            page, data = written(recognition(root, results), tmp_path / f"out{number}")
            assert "nan" not in page.text.lower()
            assert len(data["queries"]) == len(results)
        assert data["gap"] is None and "accuracy" not in data

    def test_one_class(self, root: Path, tmp_path: Path) -> None:
        page, data = written(recognition(root, ANSWERS[:1]), tmp_path / "out")
        assert "Confusion matrix" in page.text and "“unknown” as a row" not in page.text
        assert data["accuracy"] == data["macro_f1"] == 1

    def test_a_class_called_unknown(self, root: Path) -> None:
        results = [answer("q", "unknown", "unknown", 0.9, True), *ANSWERS]
        evaluation = recognition(root, results)
        page = recognition_page(evaluation, classified(evaluation), rows=0)
        (matrix,) = [plot for plot in page.plots if plot.chart.title == "Confusion matrix"]
        assert "“(unknown)” as a row" in matrix.caption
        assert "(unknown)" in matrix.chart.svg()

    def test_many_classes(self, root: Path, tmp_path: Path) -> None:
        names = [f"place{number:03}" for number in range(300)]
        results = [
            answer(f"q{n}.jpg", name, names[7] if n in (40, 250) else name, 0.9, True)
            for n, name in enumerate(names)
        ]
        evaluation = recognition(root, results)
        page = recognition_page(evaluation, classified(evaluation), rows=0)
        (matrix,) = [plot for plot in page.plots if plot.wide]
        assert "60 of 300 classes, those with most mistakes" in matrix.caption
        assert {"place007", "place040", "place250"} <= set(
            re.findall(r"place\d+", svg_text(matrix))
        )
        classes, mistakes = page.tables
        assert len(classes.rows) == 300
        assert mistakes.rows == [("place040", "place007", 1), ("place250", "place007", 1)]
        shown, data = written(evaluation, tmp_path / "out", rows=0)
        assert shown.text.count("place299") >= 1 and len(data["classes"]) == 300

    def test_more_classes_than_a_table_should_have(self, root: Path) -> None:
        results = [answer(f"q{n}", f"c{n}", f"c{n % 1200}", 0.9, True) for n in range(1201)]
        evaluation = recognition(root, results)
        classes, _ = recognition_page(evaluation, classified(evaluation), rows=0).tables
        assert classes.title == "The 1,000 weakest of 1,201 classes"
        assert len(classes.rows) == 1000 and classes.rows[0][0] == "c1200"

    def test_figures_of_a_class_that_do_not_exist_are_dashes(self, root: Path) -> None:
        results = [answer("q", "arch", "dome", 0.9, True), answer("r", None, None, 0.0, False)]
        evaluation = recognition(root, results)
        classes, _ = recognition_page(evaluation, classified(evaluation), rows=0).tables
        cells = {row[0]: row for row in classes.rows}
        assert cells["arch"][1] == 1 and math.isnan(cells["arch"][2]) and cells["arch"][3] == 0
        assert cells["dome"][1] == 0 and cells["dome"][2] == 0 and math.isnan(cells["dome"][3])

    def test_query_values(self, root: Path) -> None:
        right = {
            str(row["path"])[6]: row["right"] for row in query_values(recognition(root, ANSWERS))
        }
        assert right == {
            "a": True,
            "b": True,
            "c": False,
            "d": False,
            "e": True,
            "f": False,
            "g": True,
        }

    def test_round_trip_into_compare(self, root: Path, tmp_path: Path) -> None:
        better = [replace(r, guess=r.label, named=r.label is not None) for r in ANSWERS]
        for name, results in (("a", ANSWERS), ("b", better)):
            write_report(recognition(root, results), tmp_path / name, command="")
        done = compare([read_report(tmp_path / name / "report.json") for name in "ab"])
        assert (done.task, done.queries) == ("recognize", 7)
        values = {f.metric: f.value for f in done.figures if f.difference is not None}
        assert values["named_right"] == values["unknown_rejected"] == 1


class TestClassificationStatistic:
    def test_against_copies_of_the_photos(self) -> None:
        """A photo drawn three times is three photos."""
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(3)
        names = [None, "arch", "dome", "gate", "well"]
        for _ in range(15):
            labels, answers = ([names[i] for i in rng.integers(5, size=12)] for _ in range(2))
            labels[0] = "arch"
            counts = rng.multinomial(12, np.full(12, 1 / 12), size=5).astype(float)
            found = classification_statistic(labels, answers)(counts)
            for row, (accuracy, macro) in zip(counts.astype(int), found, strict=True):
                y = [str(labels[i]) for i in range(12) for _ in range(row[i])]
                z = [str(answers[i]) for i in range(12) for _ in range(row[i])]
                assert accuracy == pytest.approx(metrics.accuracy_score(y, z), abs=1e-12)
                there = sorted({*y, *z} - {"None"})
                if there:
                    expected = metrics.f1_score(
                        y, z, labels=there, average="macro", zero_division=0
                    )
                    assert macro == pytest.approx(expected, abs=1e-12)
                else:
                    assert math.isnan(macro)

    def test_undrawn_is_the_figure_itself(self) -> None:
        labels, answers = ["a", "b", None, "a"], ["a", "a", "c", None]
        whole = classification_figures(labels, answers)
        (found,) = classification_statistic(labels, answers)(np.ones((1, 4)))
        assert found.tolist() == pytest.approx([whole.accuracy, whole.macro.f1])


class TestNames:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name in AWKWARD if "\0" not in name and name])
    def test_no_name_breaks_it(self, root: Path, tmp_path: Path, name: str) -> None:
        path = "x" if name.endswith("\ud800.jpg") else name  # no file can have that name
        results = [answer(f"query/{path}", name, name, 0.9, True), *ANSWERS]
        evaluation = recognition(
            root,
            results,
            problems=(name,),
            gallery_labels=(name, None, "x"),
            gallery_paths=(path, path, path),
            settings={"method": name, name: name},
        )
        write_report(evaluation, tmp_path / "out", command=name)
        page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
        assert page.every("script") == []
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
        assert unescape(page.text).count(printable(name)) >= 6
        data = read_report(tmp_path / "out" / "report.json")
        assert data["queries"][0]["label"] == data["command"] == name
        assert data["problems"] == [name]

    def test_the_page_needs_nothing_from_elsewhere(self, root: Path, tmp_path: Path) -> None:
        page, _ = written(recognition(root, ANSWERS), tmp_path / "out")
        for attributes in page.every("img"):
            assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
            assert attributes["alt"]
        assert {name for name, _ in page.tags}.isdisjoint({"link", "script", "iframe", "base"})
        policy = next(m for m in page.every("meta") if "http-equiv" in m)
        assert (policy["content"] or "").startswith("default-src 'none'")
        links = {a["href"] for a in page.every("a")}
        assert links <= {f"#{s['id']}" for s in page.every("section")}
        assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", page_source(tmp_path))

    def test_marks_say_right_and_wrong_in_words(self, root: Path, tmp_path: Path) -> None:
        page, _ = written(recognition(root, ANSWERS), tmp_path / "out")
        assert page.texts.count("right") == page_source(tmp_path).count('"mark right"') > 0
        assert page.texts.count("wrong") == page_source(tmp_path).count('"mark wrong"') > 0


class TestFolder:
    def test_a_folder_is_made_and_reused(self, root: Path, tmp_path: Path) -> None:
        folder = tmp_path / "some" / "where"
        for number in range(2):
            evaluation = retrieval(root, ["arch", "dome"], seed=number)
            _, data = written(evaluation, folder)
            assert data["map"] == evaluation.summary.map
        assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.json"]
        mode = (folder / "report.html").stat().st_mode & 0o777
        (folder / "other").touch()
        assert mode == (folder / "other").stat().st_mode & 0o777

    def test_a_file_in_its_place(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(VedutaError, match=r"file.*no report can be written there"):
                make_report_folder(folder)
            with pytest.raises(VedutaError, match="name a folder that can be written to"):
                write_report(retrieval(root, ["arch"]), folder, command="")
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_folder_in_a_files_place(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "report.html").mkdir()
        with pytest.raises(VedutaError, match="no report can be written there"):
            write_report(retrieval(root, ["arch"]), tmp_path, command="")
        assert not list(tmp_path.glob(".report-*"))

    def test_an_older_file_stays_until_the_new_one_is_complete(self, tmp_path: Path) -> None:
        def broken() -> Iterator[str]:
            yield "half"
            raise RuntimeError("power cut")

        write_text(tmp_path / "a.txt", ["first"])
        with pytest.raises(RuntimeError):
            write_text(tmp_path / "a.txt", broken())
        assert (tmp_path / "a.txt").read_text() == "first"
        assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]

    def test_photos_that_have_gone(self, root: Path, tmp_path: Path) -> None:
        evaluation = retrieval(root, ["arch", "dome"])
        shutil.rmtree(root)
        page, _ = written(evaluation, tmp_path / "out")
        assert page.every("img") == [] and "no preview" in page.text

    def test_environment_names_neither_user_nor_machine(self) -> None:
        said = json.dumps(environment())
        assert {"veduta", "python", "system", "cpu", "cores", "packages", "date"} == set(
            environment()
        )
        assert str(Path.home()) not in said
        assert platform.node() not in said or len(platform.node()) < 4
        assert f'"{getpass.getuser()}"' not in said


def test_nan_and_infinity_on_a_page(tmp_path: Path) -> None:
    page = ReportPage(
        title="t",
        counts="",
        method="",
        figures=[Figure("GAP", math.nan, (math.nan, 1.0), "")],
        figures_note="",
        plots=[],
        tables=[],
        groups=[],
        answers="",
        left_out=[],
    )
    report_page.write_report_page(tmp_path / "p.html", page)
    shown = (tmp_path / "p.html").read_text("utf-8")
    assert "<dd>–</dd>" in shown and "nan" not in shown.lower()
    assert ReportRow.__slots__ == ("row", "answer", "right")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, with long and hostile names and many classes."""
    root = tmp_path_factory.mktemp("pages")
    for number in range(4):
        for side in ("query", "gallery"):
            (root / side).mkdir(exist_ok=True)
            Image.fromarray(pixels(number, 480, 300 + 60 * number)).save(
                root / side / f"{number}.jpg"
            )
    long = "a_very_long_name_of_a_place_without_any_blank" * 3
    names = [EVIL, long, *(f"place_{number:03}" for number in range(298))]
    results = [
        answer(
            f"query/{n % 4}.jpg",
            name,
            names[n * 7 % 40] if n % 5 == 0 else name,
            (n % 100) / 100,
            n % 3 > 0,
        )
        for n, name in enumerate(names)
    ]
    results += [answer(f"x{n}.jpg", None, names[n], n / 40, n > 30) for n in range(40)]
    recognised = recognition(
        root, results, problems=(long, EVIL), gallery_labels=(EVIL, long, None)
    )
    write_report(recognised, root / "recognition", command=f"veduta {long} {EVIL}")
    ranked = replace(retrieval(root, names[:3], each=12), problems=(long,))
    write_report(ranked, root / "retrieval", command=COMMAND)
    return {kind: root / kind / "report.html" for kind in ("recognition", "retrieval")}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 740)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["recognition", "retrieval"])
def test_in_a_browser(
    browser: Any, pages: dict[str, Path], kind: str, width: int, height: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(pages[kind].as_uri())
    assert page.title().endswith(f": {kind.removesuffix('.html')}")
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .spoken')
           && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML)"""
    )
    assert [element[:200] for element in wide] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    charts = page.locator("figure.chart svg[role=img]")
    assert charts.count() == (5 if kind == "recognition" else 4)
    for number in range(charts.count()):
        box = charts.nth(number).bounding_box()
        assert box["width"] > 200 and box["height"] > 150
        assert charts.nth(number).get_attribute("aria-label")
    images = page.locator("img")
    assert images.count() >= 6
    shown = page.evaluate(
        """() => Promise.all(
             [...document.images].map(image => image.decode().then(() => image.naturalWidth)))"""
    )
    assert min(shown) > 0
    assert "<script>document.title" in page.inner_text("body"), "shown as text, not run"
    dark = page.evaluate(
        """() => ['color', 'backgroundColor'].map(
             name => +getComputedStyle(document.body)[name].match(/\\d+/)[0])"""
    )
    assert (
        (dark[0] > 200 and dark[1] < 50) if scheme == "dark" else (dark[0] < 50 and dark[1] > 200)
    )
    page.emulate_media(media="print")
    scrolled = page.evaluate(
        """() => [...document.querySelectorAll('.tables .scroll')].map(
             box => box.scrollHeight - box.clientHeight)"""
    )
    assert scrolled and max(scrolled) <= 1, "all rows are printed"
    assert complaints == []
    context.close()


def page_source(tmp_path: Path) -> str:
    return (tmp_path / "out" / "report.html").read_text("utf-8")


def svg_text(plot: Plot) -> str:
    return " ".join(re.findall(r"<text[^>]*>([^<]*)<", plot.chart.svg()))


def test_a_published_protocol_has_a_page_and_values_of_each_query(tmp_path: Path) -> None:
    truths = [{"easy": [0], "hard": [1], "junk": [2]}, {"easy": [3], "hard": [], "junk": []}]
    evaluation = RevisitedEvaluation(
        name="gnd_<b>",
        queries=("a.jpg", "b.jpg"),
        gallery=4,
        distractors=1,
        setups=revisited_figures([[0, 2, 1, 3], [0, 1, 2, 3]], truths),
        settings={"encoder": "fast", "rerank": "none"},
        problems=("c.jpg: does not decode",),
        seconds=1.0,
    )
    write_report(evaluation, tmp_path / "out", command="veduta evaluate gnd.pkl")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "gnd_&lt;b&gt;" in page and "c.jpg: does not decode" in page
    data = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert data["task"] == "revisited"
    first, second = data["queries"]
    assert first["path"] == "a.jpg" and first["ap_easy"] == first["ap_hard"] == 1.0, "no junk left"
    assert second["ap_hard"] is None and second["ap_easy"] == pytest.approx(0.125)
