"""The circle of a right hit and the cross of a wrong one, in the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_veduta
from PIL import Image
from walls import scene, seen_aside

from veduta.cli.printing import mark


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in folders, an index of them, and a query in a folder of its class."""
    folder = tmp_path_factory.mktemp("marks")
    photos = {
        "photos/wall/1.png": scene(1),
        "photos/wall/2.png": seen_aside(scene(1)),
        "photos/arch/1.png": scene(2),
        "photos/arch/2.png": seen_aside(scene(2)),
        "queries/arch/q.png": scene(2)[20:, 30:],
        "queries/q.png": scene(1)[20:, 30:],
    }
    for name, pixels in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    options = ("--encoder", "fast", "--keypoints", "none", "--labels", "folders")
    done = run_veduta(folder, "index", "photos", *options)
    assert done.returncode == 0, done.stderr
    return folder


def check_marks(text: str, column: int, label: str) -> None:
    """Compare the mark of each line with the label at its end."""
    lines = text.strip().splitlines()
    expected = ["○" if line.endswith(f"[{label}]") else "×" for line in lines]
    assert [line.split()[column] for line in lines] == expected
    assert {"○", "×"} == set(expected)


@pytest.mark.slow
def test_hits_are_marked_by_the_label_of_the_query(home: Path) -> None:
    done = run_veduta(home, "search", "queries/arch/q.png", "--mark", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    check_marks(done.stdout, 2, "arch")  # the name of the query's folder
    page = (home / "page.html").read_text()
    # Two hits each, and the explanation.
    assert page.count('class="mark right"') == page.count('class="mark wrong"') == 3
    done = run_veduta(home, "search", "queries/q.png", "--shows", "wall", "--json")
    (answer,) = json.loads(done.stdout)
    assert answer["label"] == "wall"
    assert len(answer["hits"]) == 4
    assert all(hit["correct"] == (hit["label"] == "wall") for hit in answer["hits"])


@pytest.mark.slow
def test_marks_of_queries_without_a_label(home: Path) -> None:
    done = run_veduta(home, "search", "queries/q.png", "--mark")
    assert "no label is known for this query" in done.stderr and "--shows" in done.stderr
    assert "○" not in done.stdout and "×" not in done.stdout
    done = run_veduta(home, "search", "queries/q.png", "--shows", "walls")
    assert done.returncode == 3 and "'wall'" in done.stderr
    assert "○" not in run_veduta(home, "search", "queries/arch/q.png").stdout
    done = run_veduta(home, "search", "photos/wall/1.png", "--mark")
    check_marks(done.stdout, 2, "wall")


def test_an_evaluation_shows_queries_with_marks(home: Path) -> None:
    call = ("evaluate", "photos", "--encoder", "fast", "--show", "2", "-k", "3")
    done = run_veduta(home, *call)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split("\n\n")[-2:]
    for query in shown:
        first, *hits = query.strip().splitlines()
        assert len(hits) == 3
        check_marks("\n".join(hits), 1, first.split("[")[1].rstrip("]"))


def test_without_utf_8_marks_are_letters() -> None:
    code = "from veduta.cli.printing import mark; print(mark(True), mark(False), mark(None), '.')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "o x   .\n"
    assert mark(None) == " "
