"""Evaluating recognition and published protocols, on tiny sets whose figures are known."""

from __future__ import annotations

import csv
import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny import CentredEncoder, TinyExtractor, save_view, view

from veduta.cli import evaluate as cli
from veduta.cli import score
from veduta.datasets import google_landmarks
from veduta.errors import CannotWrite, DatasetError, PhotoError, QueryError
from veduta.evaluation import (
    evaluate,
    evaluate_recognition,
    evaluate_revisited,
    recognition_run,
    retrieval_run,
    revisited_run,
)
from veduta.recognize import METHODS, Answer, Recognizer

PLACES = ("arch", "bridge", "column", "dome")
KEYS = {"gap", "known_named", "named_right", "unknown_rejected"}
Rows = list[tuple[str, str, str]]


class Described(CentredEncoder):
    def describe(self) -> dict[str, object]:
        return {**super().describe(), "runtime": "none", "precision": "float32"}


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (recognition_run, revisited_run, retrieval_run):
        monkeypatch.setattr(module, "load_encoder", lambda *_, **__: Described())
        monkeypatch.setattr(module, "load_extractor", lambda *_: TinyExtractor())
    for name in ("load_named_in_file", "load_extractor"):
        made = TinyExtractor if name == "load_extractor" else Described
        monkeypatch.setattr(f"veduta.search.engine.{name}", lambda *_, made=made, **__: made())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine gallery photos of each of four places, queries of five, and photos of other things."""
    root = tmp_path_factory.mktemp("tasks")
    for scene, place in enumerate((*PLACES, "elsewhere")):
        for number in range(9):
            save_view(root / "gallery" / place / f"{place}-{number}.png", scene, number)
        for number in range(20, 23):
            save_view(root / "query" / place / f"{place}-q{number}.png", scene, number)
    for scene in range(100, 110):
        save_view(root / "others" / f"d{scene}.png", scene)
    for scene in range(200, 206):
        save_view(root / "others" / f"u{scene}.png", scene)
    return root


def standard() -> Rows:
    rows = [
        (f"gallery/{place}/{place}-{number}.png", place, "gallery")
        for place in PLACES
        for number in range(9)
    ]
    rows += [
        (f"query/{place}/{place}-q{number}.png", place, "query")
        for place in PLACES
        for number in range(20, 23)
    ]
    rows += [(f"others/d{scene}.png", "", "distractor") for scene in range(100, 110)]
    rows += [(f"others/u{scene}.png", "", "unknown") for scene in range(200, 206)]
    return rows


@pytest.fixture
def dataset(photos: Path, tmp_path: Path) -> Callable[[Rows], Path]:
    """Return what writes `labels.csv` beside the photos, in a folder of this test alone."""

    def make(rows: Rows) -> Path:
        folder = tmp_path / "set"
        if not folder.exists():
            shutil.copytree(photos, folder)
        with (folder / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *rows])
        return folder

    return make


def refuse(name: str) -> None:
    raise AssertionError(f"{name} in the JSON")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.command, [*map(str, arguments)])


def figures(*arguments: str | Path) -> dict[str, Any]:
    done = call(*arguments, "--json")
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=refuse)
    return found


class TestRecognition:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_an_easy_set(self, dataset: Callable[[Rows], Path], method: str) -> None:
        found = figures(dataset(standard()), "--task", "recognize", "--method", method)
        assert found.keys() >= KEYS
        assert found["task"] == "recognize"
        assert (found["known"], found["unknown"]) == (12, 6)
        assert found["guess_right"] == found["named_right"] == 1
        assert found["gap"] > 0.9 and found["known_named"] > 0.8
        assert found["unknown_rejected"] > 0.8
        assert 0 <= found["calibration_error"] <= 1
        assert found["settings"]["method"] == method and found["settings"]["precision"] == 0.9
        assert found["settings"]["learned"] is True
        assert found["problems"] == []
        for key in KEYS:
            low, high = found[f"{key}_interval"]
            assert low <= found[key] <= high

    def test_the_figures_follow_from_the_results(self, dataset: Callable[[Rows], Path]) -> None:
        """Recomputed one query at a time, with GAP by its formula."""
        rows = standard()
        rows[40] = (rows[40][0], "dome", "query")  # a wrong truth, so that not all is right
        found = evaluate_recognition(dataset(rows), method="linear", precision=0.8)
        results, summary = found.results, found.summary
        assert len(results) == 18
        ranked = sorted((one for one in results if one.guess), key=lambda one: -one.confidence)
        right, total = 0, 0.0
        for place, one in enumerate(ranked, 1):
            if one.guess == one.label:
                right += 1
                total += right / place
        assert summary.gap == pytest.approx(total / 12)
        known = [one for one in results if one.label is not None]
        unknown = [one for one in results if one.label is None]
        named = [one for one in known if one.named]
        assert summary.known_named == pytest.approx(len(named) / 12)
        assert summary.named_right == pytest.approx(
            sum(one.guess == one.label for one in named) / len(named)
        )
        assert summary.named_right < 1
        assert summary.unknown_rejected == pytest.approx(
            sum(not one.named for one in unknown) / len(unknown)
        )
        threshold = found.settings["threshold"]
        assert all(one.named == (one.confidence >= threshold) for one in results)

    def test_results_name_their_photos(self, dataset: Callable[[Rows], Path]) -> None:
        found = evaluate_recognition(dataset(standard()), method="knn", keep=4)
        for one in found.results:
            assert len(one.nearest) == 4
            for seen in one.nearest:
                path, label = found.gallery_paths[seen.row], found.gallery_labels[seen.row]
                assert (label is None) == path.startswith("others/")
                assert label is None or label in path
                assert seen.correct == (one.label is not None and label == one.label)
            assert one.label is None or one.nearest[0].correct

    @pytest.mark.slow
    def test_it_is_what_users_get(self, dataset: Callable[[Rows], Path]) -> None:
        """The same answers as those of an index of the same photos."""
        import veduta
        from veduta import index

        root = dataset(standard())
        for path, label, split in standard():
            if split in {"gallery", "distractor"}:
                target = root / "same" / label / Path(path).name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / path, target)
        index.create_index(root / "index", Described(), TinyExtractor())
        index.update_index(
            root / "index", [root / "same"], Described(), TinyExtractor(), labels="folders"
        )
        opened = veduta.open(root / "index")
        found = evaluate_recognition(root, method="prototypes", orientation="auto")
        for one in found.results:
            seen = opened.recognize(root / one.path, method="prototypes")
            assert seen.guess == one.guess
            assert seen.confidence == pytest.approx(one.confidence, abs=2e-3)  # of float16 queries
            assert seen.label == (one.guess if one.named else None)

    @pytest.mark.slow
    @pytest.mark.parametrize("distance", [-1, 0, 1, None])
    def test_the_rule_for_unknown_is_that_of_recognize(
        self,
        dataset: Callable[[Rows], Path],
        monkeypatch: pytest.MonkeyPatch,
        distance: int | None,
    ) -> None:
        """Equal answers get equal decisions below, at and above the threshold, and without any."""
        import veduta
        from veduta import index

        root = dataset(standard())
        index.create_index(root / "index", Described())
        index.update_index(root / "index", [root / "gallery"], Described(), labels="folders")
        answer_before = Recognizer.answer

        def answer(recognizer: Recognizer, *query: Any) -> Answer:
            ranking = answer_before(recognizer, *query).ranking
            if distance is None:
                return Answer((), np.empty(0), ranking)
            threshold = recognizer.confidence.threshold(0.9)
            confidence = np.nextafter(threshold, distance * np.inf) if distance else threshold
            return Answer(("dome", "arch"), np.array([confidence, 0.0]), ranking)

        monkeypatch.setattr(Recognizer, "answer", answer)
        results = evaluate_recognition(root, method="linear", precision=0.9).results
        opened = veduta.open(root / "index")
        for result in results:
            shown = opened.recognize(root / result.path, method="linear", precision=0.9)
            assert (result.guess, result.named) == (shown.guess, shown.label is not None)
            assert result.answer == shown.label
            assert (shown.reason is None) == result.named
        assert [result.named for result in results] == [distance in (0, 1)] * 18

    def test_labels_that_the_gallery_lacks_count_as_unknown(
        self, dataset: Callable[[Rows], Path]
    ) -> None:
        rows = standard()
        rows += [(f"query/elsewhere/elsewhere-q{n}.png", "elsewhere", "query") for n in (20, 21)]
        rows += [("query/elsewhere/elsewhere-q22.png", "", "query")]
        found = figures(dataset(rows), "--task", "recognize", "--method", "linear")
        assert (found["known"], found["unknown"]) == (12, 9)
        assert found["gap"] > 0.9

    def test_unknown_photos_keep_no_label(self, dataset: Callable[[Rows], Path]) -> None:
        """A label beside the split unknown says what it is not."""
        rows = [
            (path, "dome" if split == "unknown" else label, split)
            for path, label, split in standard()
        ]
        found = figures(dataset(rows), "--task", "recognize", "--method", "knn")
        assert (found["known"], found["unknown"]) == (12, 6)

    @pytest.mark.slow
    @pytest.mark.parametrize("kept", ["query", "unknown"])
    def test_only_known_or_only_unknown_queries(
        self, dataset: Callable[[Rows], Path], kept: str
    ) -> None:
        """Shares of nothing are null, in JSON, on the screen and in the report."""
        rows = [row for row in standard() if row[2] in {"gallery", "distractor", kept}]
        folder = dataset(rows)
        report = folder / "report"
        found = figures(folder, "--task", "recognize", "--method", "knn", "--report", report)
        nothing = "unknown_rejected" if kept == "query" else "known_named"
        assert found[nothing] is None and found[f"{nothing}_interval"] == [None, None]
        json.loads((report / "report.json").read_text(), parse_constant=refuse)
        assert (report / "report.html").stat().st_size > 1000
        done = call(folder, "--task", "recognize", "--method", "knn")
        assert done.exception is None and nothing not in done.stdout
        assert "calibration error" in done.stdout

    def test_a_single_query(self, dataset: Callable[[Rows], Path]) -> None:
        rows = [row for row in standard() if row[2] in {"gallery", "distractor"}]
        found = figures(dataset([*rows, standard()[36]]), "--task", "recognize", "--method", "knn")
        assert (found["known"], found["unknown"], found["gap"]) == (1, 0, 1)

    def test_few_labelled_photos(self, dataset: Callable[[Rows], Path]) -> None:
        rows = [row for row in standard() if "gallery" not in row or row[0][-5] in "012"]
        folder = dataset(rows)
        found = figures(folder, "--task", "recognize", "--method", "linear")
        assert found["settings"]["learned"] is False
        done = call(folder, "--task", "recognize", "--method", "linear")
        assert "30 photos that share their label" in " ".join(done.stdout.split())

    def test_broken_photos_are_left_out_and_told(self, dataset: Callable[[Rows], Path]) -> None:
        folder = dataset(standard())
        (folder / "query/dome/dome-q20.png").write_text("no photo")
        (folder / "gallery/arch/arch-3.png").write_text("no photo")
        (folder / "others/u200.png").unlink()
        found = figures(folder, "--task", "recognize", "--method", "linear")
        assert (found["known"], found["unknown"]) == (11, 5)
        told = "\n".join(found["problems"])
        assert "dome-q20.png" in told and "arch-3.png" in told and "u200.png" in told

    def test_text_fits_the_terminal(self, dataset: Callable[[Rows], Path]) -> None:
        done = call(dataset(standard()), "--task", "recognize", "--method", "linear")
        assert done.exit_code == 0
        assert "12 photos of known places, 6 photos of none" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
        for key in KEYS:
            assert f"  {key}" in done.stdout

    def test_classes_named_on_the_command_line(self, photos: Path, tmp_path: Path) -> None:
        for side in ("q", "g"):
            shutil.copytree(photos / ("query" if side == "q" else "gallery"), tmp_path / side)
            shutil.move(tmp_path / side / "elsewhere", tmp_path / side / "none")
        found = figures(
            "--queries",
            tmp_path / "q",
            "--gallery",
            tmp_path / "g",
            "--task",
            "recognize",
            "--method",
            "linear",
            "--unknown",
            "none",
            "--distractors",
            "none",
        )
        assert (found["known"], found["unknown"]) == (12, 3)

    @pytest.mark.parametrize("options", [(), ("--unknown", "dome"), ("--distractors", "dome")])
    def test_an_unsplit_dataset(self, photos: Path, options: tuple[str, ...]) -> None:
        """Also where classes are named that are none: its photos would be asked for themselves."""
        done = call(photos / "gallery", "--task", "recognize", *options)
        assert isinstance(done.exception, DatasetError)
        assert "no photo is to be recognised" in str(done.exception)
        assert "--queries and --gallery" in str(done.exception)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda row: (row[0], row[1] if row[2] == "query" else "", row[2]),
                "no photo of the gallery has a label",
            ),
            (
                lambda row: row if row[2] in {"gallery", "distractor"} else None,
                "no photo is to be recognised",
            ),
            (lambda row: row if row[2] != "gallery" else None, "with the split 'gallery'"),
        ],
    )
    def test_nothing_to_recognise(
        self, dataset: Callable[[Rows], Path], change: Any, said: str
    ) -> None:
        rows = [changed for row in standard() if (changed := change(row)) is not None]
        with pytest.raises(DatasetError, match=said):
            evaluate_recognition(dataset(rows), method="knn")

    def test_one_label_alone(self, dataset: Callable[[Rows], Path]) -> None:
        rows = [row for row in standard() if row[1] == "dome" or row[2] == "unknown"]
        with pytest.raises(QueryError, match="nothing to tell it from"):
            evaluate_recognition(dataset(rows), method="knn")

    def test_arguments(self, photos: Path) -> None:
        with pytest.raises(QueryError, match="'guess'"):
            evaluate_recognition(photos, method="guess")
        for precision in (0.3, 1.0, math.nan):
            with pytest.raises(QueryError, match="precision"):
                evaluate_recognition(photos, precision=precision)


class TestSubmission:
    def test_recognition_and_score_agree(
        self, dataset: Callable[[Rows], Path], tmp_path: Path
    ) -> None:
        folder = dataset(standard())
        file, solution = tmp_path / "submission.csv", tmp_path / "solution.csv"
        found = figures(folder, "--task", "recognize", "--method", "linear", "--submission", file)
        lines = ["id,landmarks,Usage"]
        lines += [
            f"{Path(path).stem},{label},Private"
            for path, label, split in standard()
            if split in {"query", "unknown"}
        ]
        solution.write_text("\n".join(lines))
        done = CliRunner().invoke(score.command, [str(file), str(solution), "--json"])
        assert done.exception is None, done.exception
        scored = json.loads(done.stdout)
        assert scored["task"] == "recognition"
        assert scored["gap"] == pytest.approx(found["gap"], abs=1e-9)
        assert scored["predicted"] == 18

    def test_retrieval_has_a_hundred_photos_a_query(
        self, dataset: Callable[[Rows], Path], tmp_path: Path
    ) -> None:
        """As many as count, not as many as are shown: 46 here, all of the gallery."""
        folder = dataset(standard())
        file = tmp_path / "submission.csv"
        found = figures(folder, "--rerank", "none", "--submission", file)
        ranked = google_landmarks.read_retrieval_submission(file)
        assert len(ranked) == 12
        assert {len(row) for row in ranked.values()} == {46}
        solution = tmp_path / "solution.csv"
        of_place = {p: " ".join(f"{p}-{n}" for n in range(9)) for p in PLACES}
        lines = ["id,images,Usage"]
        lines += [f"{name},{of_place[name.split('-')[0]]},Public" for name in ranked]
        solution.write_text("\n".join(lines))
        done = CliRunner().invoke(score.command, [str(file), str(solution), "--json"])
        assert json.loads(done.stdout)["map100"] == pytest.approx(found["map100"], abs=1e-9)
        assert cli.MAX_SCORED_PHOTOS == google_landmarks.MAX_SCORED_PHOTOS

    def test_a_class_with_a_space_in_its_name(
        self, dataset: Callable[[Rows], Path], tmp_path: Path
    ) -> None:
        rows = [
            (path, label.replace("dome", "the dome"), split) for path, label, split in standard()
        ]
        file = tmp_path / "submission.csv"
        figures(dataset(rows), "--task", "recognize", "--method", "knn", "--submission", file)
        predictions = google_landmarks.read_recognition_submission(file).values()
        assert "the%20dome" in {prediction[0] for prediction in predictions if prediction}

    def test_no_folder_to_write_to(self, photos: Path) -> None:
        done = call(photos / "gallery", "--submission", photos / "nowhere" / "s.csv")
        assert isinstance(done.exception, CannotWrite)
        assert "its folder does not exist" in str(done.exception)


def protocol_file(photos: Path, folder: Path, **changes: Any) -> Path:
    """Write a `gnd_*.pkl` over photos of four places; each query is a part of a larger picture."""
    (folder / "jpg").mkdir(parents=True)
    gallery, queries, truths = [], [], []
    for place in PLACES:
        for number in range(9):
            gallery.append(f"{place}-{number}")
            shutil.copy(
                photos / "gallery" / place / f"{place}-{number}.png",
                folder / "jpg" / f"{place}-{number}.png",
            )
    for scene, place in enumerate(PLACES):
        framed = np.random.default_rng(scene + 900).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        framed[30:62, 40:88] = view(scene, 20)
        Image.fromarray(framed).save(folder / "jpg" / f"{place}_q.png")
        queries.append(f"{place}_q.png")
        first = 9 * scene
        truths.append(
            {
                "bbx": [40.0, 30.0, 88.0, 62.0],
                "easy": [first, first + 1, first + 2],
                "hard": [first + 3, first + 4],
                "junk": [first + 5, first + 6, first + 7, first + 8],
            }
        )
    content = {"imlist": [f"{name}.png" for name in gallery], "qimlist": queries, "gnd": truths}
    content.update(changes)
    file = folder / "gnd_tiny.pkl"
    file.write_bytes(pickle.dumps(content))
    return file


class TestRevisited:
    @pytest.mark.parametrize("rerank", ["none", "global", "geometry"])
    def test_cropped_queries_find_their_place(
        self, photos: Path, tmp_path: Path, rerank: str
    ) -> None:
        file = protocol_file(photos, tmp_path / "set")
        found = figures(file, "--rerank", rerank)
        assert found["task"] == "revisited"
        for setup, positives in (("easy", 4), ("medium", 4), ("hard", 4)):
            assert found[setup]["queries"] == positives
            assert found[setup]["map"] == pytest.approx(1)
        assert found["settings"]["rerank"] == rerank
        assert found["problems"] == []

    def test_the_box_decides(self, photos: Path, tmp_path: Path) -> None:
        """Without it the query is a small thing in a large picture of noise."""
        file = protocol_file(photos, tmp_path / "set")
        content = pickle.loads(file.read_bytes())
        for truth in content["gnd"]:
            del truth["bbx"]
        file.write_bytes(pickle.dumps(content))
        assert figures(file, "--rerank", "none")["easy"]["map"] < 0.9

    def test_against_ranking_by_hand(self, photos: Path, tmp_path: Path) -> None:
        """A truth that the ranking does not meet, and AP by trapezoids written out."""
        rng = np.random.default_rng(5)
        truths = []
        for _ in PLACES:
            rows = rng.permutation(36).tolist()
            truths.append(
                {"bbx": (40, 30, 88, 62), "easy": rows[:4], "hard": rows[4:7], "junk": rows[7:15]}
            )
        file = protocol_file(photos, tmp_path / "set", gnd=truths)
        found = evaluate_revisited(file, rerank="none")
        encoder = Described()

        def described(pixels: Any) -> Any:
            return encoder.encode([encoder.prepare(pixels)])[0]

        gallery = np.stack(
            [described(view(scene, number)) for scene in range(4) for number in range(9)]
        ).astype(np.float16)
        for name, right, junk in (
            ("easy", ("easy",), ("junk", "hard")),
            ("medium", ("easy", "hard"), ("junk",)),
            ("hard", ("hard",), ("junk", "easy")),
        ):
            expected = []
            for scene, truth in enumerate(truths):
                ranking = np.argsort(-(gallery.astype(np.float32) @ described(view(scene, 20))))
                gone = {row for kind in junk for row in truth[kind]}
                good = {row for kind in right for row in truth[kind]}
                ranks = [
                    rank
                    for rank, row in enumerate(row for row in ranking.tolist() if row not in gone)
                    if row in good
                ]
                ap = 0.0
                for at, rank in enumerate(ranks):
                    before = at / rank if rank else 1.0
                    ap += (before + (at + 1) / (rank + 1)) / 2 / len(ranks)
                expected.append(ap)
            assert found.setups[name].ap == pytest.approx(np.array(expected), abs=1e-9)
            assert found.setups[name].map == pytest.approx(np.mean(expected))

    def test_photos_that_do_not_decode(self, photos: Path, tmp_path: Path) -> None:
        """A gallery photo moves the positions of those behind it; a query is left out."""
        file = protocol_file(photos, tmp_path / "set")
        (file.parent / "jpg" / "arch-0.png").write_text("no photo")
        (file.parent / "jpg" / "column_q.png").write_text("no photo")
        found = figures(file, "--rerank", "none")
        assert found["medium"]["queries"] == 3
        assert found["medium"]["map"] == pytest.approx(1)
        told = "\n".join(found["problems"])
        assert "arch-0.png" in told and "column_q.png" in told

    def test_no_query_can_be_read(self, photos: Path, tmp_path: Path) -> None:
        file = protocol_file(photos, tmp_path / "set")
        for query in (file.parent / "jpg").glob("*_q.png"):
            query.write_text("no photo")
        with pytest.raises((DatasetError, PhotoError), match="quer"):
            evaluate_revisited(file, rerank="none")

    def test_a_box_that_leaves_its_photo(self, photos: Path, tmp_path: Path) -> None:
        file = protocol_file(photos, tmp_path / "set")
        content = pickle.loads(file.read_bytes())
        content["gnd"][0]["bbx"] = [40.2, 30.4, 120.4, 90.3]
        content["gnd"][1]["bbx"] = [-7.0, 30.4, 88.0, 99.0]
        file.write_bytes(pickle.dumps(content))
        found = figures(file, "--rerank", "none")
        assert found["medium"]["queries"] == 4
        assert any("leaves the photo" in problem for problem in found["problems"])

    def test_photos_elsewhere(self, photos: Path, tmp_path: Path) -> None:
        file = protocol_file(photos, tmp_path / "set")
        moved = shutil.move(file.parent / "jpg", tmp_path / "pictures")
        done = call(file, "--rerank", "none")
        assert isinstance(done.exception, DatasetError) and "jpg" in str(done.exception)
        found = figures(file, "--rerank", "none", "--photos", moved)
        assert found["easy"]["map"] == pytest.approx(1)

    def test_text_and_report(self, photos: Path, tmp_path: Path) -> None:
        file = protocol_file(photos, tmp_path / "set")
        done = call(file, "--rerank", "none", "--report", tmp_path / "report")
        assert done.exception is None, done.exception
        for setup in ("easy", "medium", "hard"):
            assert f"  {setup} " in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(tmp_path))
        json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=refuse)

    def test_code_in_the_file(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return Path.mkdir, (tmp_path / "executed",)

        (tmp_path / "gnd_evil.pkl").write_bytes(pickle.dumps({"gnd": Evil()}))
        done = call(tmp_path / "gnd_evil.pkl")
        assert isinstance(done.exception, DatasetError)
        assert not (tmp_path / "executed").exists()


class TestOptions:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("set", "--precision", "0.9"),
            ("set", "--photos", "x"),
            ("set", "--method", "knn"),
            ("set", "--method", "sift", "--encoder", "fast"),
            ("set", "--method", "sift", "--precision", "0.9"),
            ("set", "--task", "recognize", "--distance", "cosine"),
            ("set", "--task", "recognize", "--project", "8"),
            ("set", "--task", "recognize", "--rerank", "none"),
            ("set", "--task", "recognize", "--verify", "50"),
            ("set", "--task", "recognize", "--html", "x"),
            ("set", "--task", "recognize", "--png", "x"),
            ("set", "--task", "recognize", "--rows", "3"),
            ("set", "--task", "recognize", "--dict"),
            ("set", "--task", "recognize", "--photos", "x"),
            ("set", "--task", "recognize", "--method", "sift"),
            ("set", "--task", "recognize", "--precision", "0.4"),
            ("gnd.pkl", "--task", "recognize"),
            ("gnd.pkl", "--labels", "x"),
            ("gnd.pkl", "--unknown", "x"),
            ("gnd.pkl", "--distance", "euclidean"),
            ("gnd.pkl", "--method", "sift"),
            ("gnd.pkl", "--submission", "x"),
            ("gnd.pkl", "-k", "5"),
            ("--task", "recognize"),
            ("--queries", "x", "--task", "recognize"),
        ],
    )
    def test_what_does_not_go_together(self, arguments: tuple[str, ...], tmp_path: Path) -> None:
        done = call(*arguments, "--report", tmp_path / "report")
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output
        assert not (tmp_path / "report").exists(), "nothing is made for a call that is refused"

    def test_methods_are_those_of_the_rooms(self) -> None:
        from veduta.evaluation import METHODS as KEYPOINT_METHODS

        assert tuple(METHODS) == cli.RECOGNITION_METHODS
        assert tuple(KEYPOINT_METHODS) == cli.METHODS

    def test_help_fits_the_terminal(self) -> None:
        done = CliRunner().invoke(cli.command, ["--help"], prog_name="veduta evaluate")
        assert done.exit_code == 0
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_retrieval_still_says_its_task(photos: Path) -> None:
    assert evaluate(photos / "gallery", rerank="none").as_json()["task"] == "retrieve"
