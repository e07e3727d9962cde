"""The matrix of queries and gallery photos, and ranking folders without labels."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny import DescribedEncoder, TinyExtractor, save_view

from veduta.cli import evaluate as cli
from veduta.errors import DatasetError
from veduta.evaluation import evaluate, retrieval_run
from veduta.evaluation.score_matrix import open_score_matrix
from veduta.photos import load


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(retrieval_run, "load_encoder", lambda *_, **__: DescribedEncoder())
    monkeypatch.setattr(retrieval_run, "load_extractor", lambda *_: TinyExtractor())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Two flat folders without labels: three queries of three scenes, six gallery photos."""
    root = tmp_path_factory.mktemp("flat")
    for scene in range(3):
        for number in range(2):
            save_view(root / "gallery" / f"g{scene}{number}.png", scene, number)
        save_view(root / "query" / f"q{scene},ä.png", scene, 9)
    return "--queries", str(root / "query"), "--gallery", str(root / "gallery")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.command, [*map(str, arguments)])


def described(path: Path) -> Any:
    encoder = DescribedEncoder()
    return encoder.encode([encoder.prepare(load(path, at_least=64).pixels)])[0]


def read_csv(file: Path) -> tuple[list[str], list[str], np.ndarray]:
    with file.open(encoding="utf-8", newline="") as lines:
        head, *rows = csv.reader(lines)
    cells = [[float(cell or "nan") for cell in row[1:]] for row in rows]
    return head, [row[0] for row in rows], np.array(cells, np.float32)


def test_scores_are_the_cosines_of_the_descriptors(
    folders: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("s.npy", "s.csv"):
        done = call(*folders, "--encoder", "tiny", "--matrix", tmp_path / name)
        assert done.exception is None, done.output
        assert "ranked, and not judged" in done.stdout and "wrote" in done.stdout
    scores = np.load(tmp_path / "s.npy")
    names = json.loads((tmp_path / "s.npy.json").read_text("utf-8"))
    root = Path(folders[1]).parent
    assert scores.dtype == np.float32 and scores.shape == (3, 6)
    assert names["queries"] == [f"query/q{scene},ä.png" for scene in range(3)]
    assert names["answered_by"] == "descriptor alone"
    queries = np.stack([described(root / name) for name in names["queries"]])
    gallery = np.stack([described(root / name) for name in names["gallery"]])
    assert scores == pytest.approx(queries @ gallery.T, abs=2e-3), "stored as float16"
    head, rows, cells = read_csv(tmp_path / "s.csv")
    assert head == ["query", *names["gallery"]] and rows == names["queries"]
    assert np.array_equal(cells, scores), "the text reads back as the same numbers"


def test_order_of_the_scores_is_the_ranking(folders: tuple[str, ...], tmp_path: Path) -> None:
    """With re-ranking, each photo has its probability, also those that were not verified."""
    file = tmp_path / "s.npy"
    done = call(*folders, "--dict", "-k", "6", "--verify", "2", "--matrix", file)
    assert done.exception is None, done.output
    ranked = json.loads(done.stdout)
    scores, names = np.load(file), json.loads((tmp_path / "s.npy.json").read_text("utf-8"))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert names["answered_by"] == "descriptor, keypoints, graph"
    for query, row in zip(names["queries"], scores, strict=True):
        order = np.argsort(-row, kind="stable")
        assert ranked[query] == [names["gallery"][place] for place in order]


def test_the_own_photo_has_no_score(folders: tuple[str, ...], tmp_path: Path) -> None:
    gallery = folders[3]
    for name in ("s.npy", "s.csv"):
        evaluate(gallery, rerank="none", matrix=tmp_path / name, need_labels=False)
    scores = np.load(tmp_path / "s.npy")
    assert np.isnan(np.diag(scores)).all() and np.isnan(scores).sum() == 6
    assert np.array_equal(read_csv(tmp_path / "s.csv")[2], scores, equal_nan=True)


def test_a_keypoint_method_has_a_matrix(folders: tuple[str, ...], tmp_path: Path) -> None:
    done = call(*folders, "--method", "orb", "--matrix", tmp_path / "s.npy")
    assert done.exception is None, done.output
    assert np.load(tmp_path / "s.npy").shape == (3, 6)


def test_dict_of_folders_without_labels(folders: tuple[str, ...]) -> None:
    done = call(*folders, "--dict", "-k", "2")
    assert done.exception is None, done.output
    for scene in range(3):
        found = json.loads(done.stdout)[f"query/q{scene},ä.png"]
        assert sorted(found) == [f"gallery/g{scene}0.png", f"gallery/g{scene}1.png"]
    refused = call(*folders)
    assert isinstance(refused.exception, DatasetError)
    assert "--dict" in str(refused.exception), "the remedy"


@pytest.mark.parametrize("header", ["path,split", "path,split,label"])
def test_dict_and_matrix_of_a_labels_file_without_labels(
    folders: tuple[str, ...], tmp_path: Path, header: str
) -> None:
    root = Path(folders[1]).parent
    empty = "," if header.endswith("label") else ""
    rows = [
        f'"{file.relative_to(root).as_posix()}",{file.parent.name}{empty}'
        for file in sorted(root.rglob("*.png"))
    ]
    labels = tmp_path / "photos.csv"
    labels.write_text("\n".join([header, *rows]), "utf-8")
    arguments = (root, "--labels", labels, "--encoder", "tiny")
    done = call(*arguments, "--dict", "-k", "2")
    assert done.exception is None, done.output
    assert done.stdout == call(*folders, "--encoder", "tiny", "--dict", "-k", "2").stdout
    done = call(*arguments, "--matrix", tmp_path / "s.npy")
    assert done.exception is None, done.output
    assert np.load(tmp_path / "s.npy").shape == (3, 6)
    assert "label" in str(call(*arguments).exception)


def test_refused_before_any_work(folders: tuple[str, ...], tmp_path: Path) -> None:
    assert call(*folders, "--matrix", tmp_path / "s.txt").exit_code == 2
    assert call(*folders, "--matrix", tmp_path / "none" / "s.csv").exception is not None
    (tmp_path / "s.npy.json").mkdir()
    assert call(*folders, "--matrix", tmp_path / "s.npy").exception is not None
    assert call(*folders, "--task", "recognize", "--matrix", tmp_path / "s.csv").exit_code == 2


def test_an_error_leaves_the_old_files(tmp_path: Path) -> None:
    file = tmp_path / "s.npy"
    file.write_text("old")
    with (
        pytest.raises(KeyboardInterrupt),
        open_score_matrix(file, ["a", "b"], ["c"], "descriptor alone") as rows,
    ):
        rows.add(np.zeros(1))
        raise KeyboardInterrupt
    assert file.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["s.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".npy", ".csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, ending: str) -> None:
    """100 rows of 4,000 scores: 1.6 MB as float32."""
    gallery, row = [f"{number}.jpg" for number in range(4_000)], np.random.rand(4_000)
    queries = [f"q{number}.jpg" for number in range(100)]
    with open_score_matrix(tmp_path / f"s{ending}", queries, gallery, "x") as rows:
        rows.add(row)
        tracemalloc.start()
        for _ in queries[1:]:
            rows.add(row)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 0.8e6
