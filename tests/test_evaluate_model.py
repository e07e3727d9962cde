"""`evaluate --model`: test photos named by the classifier of a run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny_runs import NAMES, RunAndCard, ask_model, files_of, painted, softmax

from veduta.cli import evaluate as cli
from veduta.cli import score
from veduta.errors import DatasetError, NotAnIndex
from veduta.evaluation import evaluate_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


def call(*arguments: str | Path, command: Any = cli.command) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def figures(*arguments: str | Path, command: Any = cli.command) -> dict[str, Any]:
    done = call(*arguments, "--json", command=command)
    assert done.exception is None, done.exception
    return dict(json.loads(done.stdout))


def test_figures_are_those_of_the_network_and_of_its_card(
    class_run: RunAndCard, run_home: Path, tmp_path: Path
) -> None:
    """Accuracy by hand, from the ONNX file alone; GAP by its formula."""
    run, card = class_run
    files = (tmp_path / "submission.csv", tmp_path / "solution.csv")
    found = figures(
        run_home / "photos", "--model", run, "--submission", files[0], "--solution", files[1]
    )
    photos, labels = files_of(run_home / "photos", "test")
    logits = ask_model(run, photos)[-1]
    answers = [card.classes[row] for row in softmax(logits).argmax(axis=1)]
    accuracy = np.mean([a == b for a, b in zip(answers, labels, strict=True)])
    assert card.test is not None and 0.3 < accuracy < 1
    assert found["accuracy"] == found["guess_right"] == pytest.approx(accuracy)
    assert found["accuracy"] == pytest.approx(card.test.accuracy)
    assert found["gap"] == pytest.approx(card.test.gap, abs=1e-6)
    assert (found["known"], found["unknown"]) == (40, 0) and found["named"] == 40
    assert found["answered_by"] == "network alone" and found["descriptor_alone"] is None
    assert found["settings"]["method"] == "network" and found["settings"]["precision"] is None
    supports = {row["label"]: row["support"] for row in found["classes"]}
    assert supports == dict.fromkeys(sorted(NAMES), 8)
    scored = figures(*files, command=score.command)
    assert scored["gap"] == pytest.approx(found["gap"], abs=1e-9)


def test_photos_of_none_of_the_classes(
    class_run: RunAndCard, run_home: Path, tmp_path: Path
) -> None:
    """A folder `unknown`, and a class that the network does not know."""
    folder = Path(shutil.copytree(run_home / "photos" / "test", tmp_path / "set" / "test"))
    painted(tmp_path / "set" / "unknown", ("shed",), {"": 4}, seed=7)
    shutil.copytree(folder / NAMES[0], folder / "new class")
    (folder / NAMES[1] / "0.png").write_bytes(b"no picture")
    found = evaluate_model(tmp_path / "set", class_run[0])
    assert (found.summary.known, found.summary.unknown) == (39, 12)
    assert found.settings["precision"] == 0.9
    assert any("0.png" in problem for problem in found.problems)
    assert any("1 label that the model does not know" in note for note in found.notes)
    all_named = evaluate_model(tmp_path / "set" / "test", class_run[0], unknown=("new class",))
    assert all_named.summary.unknown == 8


def test_which_photos_are_the_test_photos(
    class_run: RunAndCard, run_home: Path, tmp_path: Path
) -> None:
    run = class_run[0]
    unsplit = evaluate_model(run_home / "photos" / "test", run)
    assert unsplit.summary.known == 40 and "all photos are named" in unsplit.notes[0]
    tested = [result.path for result in unsplit.results[:30]]
    kept = evaluate_model(run_home / "photos" / "test", run, tested=tested)
    assert [result.path for result in kept.results] == tested
    split = evaluate_model(run_home / "photos", run, tested=[split_path(tested[0])])
    assert len(split.results) == 40 and "39 test photos of 40 not among" in split.notes[0]
    with pytest.raises(DatasetError, match="no test photos"):
        table = tmp_path / "labels.csv"
        rows = [("path", "label", "split"), (str(tested[0]), NAMES[0], "train")]
        shutil.copytree(run_home / "photos" / "test", tmp_path, dirs_exist_ok=True)
        with table.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        evaluate_model(tmp_path, run)


def split_path(path: str) -> str:
    return f"test/{path}"


def test_text_report_and_what_does_not_go_together(
    class_run: RunAndCard, run_home: Path, tmp_path: Path, autoencoder_run: RunAndCard
) -> None:
    run, photos = class_run[0], run_home / "photos"
    done = call(photos, "--model", run, "--report", tmp_path / "report")
    assert done.exception is None, done.exception
    assert "named by: network alone (run)\n" in done.stdout and "macro average" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(tmp_path))
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["task"] == "recognize" and len(report["queries"]) == 40
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "Confusion matrix" in page and "gallery photos that decided" not in page
    for other in (
        ("--encoder", "fast"),
        ("--queries", photos / "test"),
        ("--method", "knn"),
        ("--task", "retrieve"),
        ("--rerank", "none"),
        ("--matrix", tmp_path / "s.csv"),
    ):
        assert call(photos, "--model", run, *other).exit_code == 2, other
    refused = call(photos, "--model", autoencoder_run[0])
    assert isinstance(refused.exception, NotAnIndex) and "--encoder" in str(refused.exception)
