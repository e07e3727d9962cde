"""`veduta explain` in a process of its own: its figures, its files and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from PIL import Image
from tiny import save

import veduta
from veduta.explanation import METHODS

A, B = "photos/dome/0.png", "photos/tower/1.png"


def explained(home: Path, *arguments: str | Path) -> Any:
    done = run_veduta(home, "explain", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_figures_are_those_of_python_and_add_up(explained_home: Path) -> None:
    found = explained(explained_home, A, "--against", B, "--encoder", "fast", "--npy", "map.npy")
    expected = veduta.explain(explained_home / A, against=explained_home / B, encoder="fast")
    assert found["method"] == "shares" and found["photo"] == A
    assert found["sum"] + found["constant"] == pytest.approx(found["similarity"], abs=1e-5)
    other = found["against"]
    assert other["sum"] + other["constant"] == pytest.approx(found["similarity"], abs=1e-5)
    assert found["similarity"] == pytest.approx(expected.similarity, abs=1e-6)
    assert found["shape"] == list(expected.map.shape)
    assert 0 < found["seconds"] < 30
    values = np.load(explained_home / "map.npy", allow_pickle=False)
    assert values.dtype == np.float32
    assert values == pytest.approx(expected.map, abs=1e-6)
    assert values.sum() == pytest.approx(found["sum"], abs=1e-4)


def test_the_best_hit_of_an_index_is_explained(explained_home: Path) -> None:
    query = save(explained_home / "query.png", 0)
    found = explained(explained_home, query.name, "--index", explained_home / "index")
    index = veduta.open(explained_home / "index")
    (hit,) = index.search(query, k=1)
    expected = index.explain(query, hit)
    assert found["against"]["photo"] == hit.path
    assert found["similarity"] == pytest.approx(expected.similarity, abs=1e-6)
    assert found["sum"] + found["constant"] == pytest.approx(found["similarity"], abs=1e-5)


def test_the_score_of_a_class(explained_home: Path) -> None:
    found = explained(explained_home, B, "--model", "recogniser", "--class", "dome")
    expected = veduta.explain(
        explained_home / B, model=explained_home / "recogniser", class_name="dome"
    )
    assert (found["class"], "similarity" in found) == ("dome", False)
    assert found["score"] == pytest.approx(expected.score, abs=1e-5)
    assert found["sum"] + found["constant"] == pytest.approx(found["score"], abs=1e-5)


def test_a_region_of_the_photo(explained_home: Path) -> None:
    both = (A, "--against", B, "--encoder", "fast")
    found = explained(explained_home, *both, "--region", "0,0,20,16")
    expected = veduta.explain(
        explained_home / A, against=explained_home / B, encoder="fast", region=(0, 0, 20, 16)
    ).against
    assert expected is not None
    assert found["against"]["sum"] == pytest.approx(expected.sum, abs=1e-5)
    assert found["against"]["sum"] != pytest.approx(
        explained(explained_home, *both)["against"]["sum"]
    )


@pytest.mark.slow
def test_pictures_and_pages_show_the_photo(explained_home: Path) -> None:
    both = (A, "--against", B, "--encoder", "fast")
    done = run_veduta(explained_home, "explain", *both, "--png", "why.png", "--html", "why.html")
    assert done.returncode == 0, done.stderr
    assert "wrote why.png" in done.stderr + done.stdout
    with Image.open(explained_home / "why.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    page = (explained_home / "why.html").read_text("utf-8")
    assert "data:image/" in page and "<script src" not in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((A, "--against", B, "--method", "oclusion"), 3, "did you mean occlusion?"),
        ((A, "--against", B, "--method", "smoothgrad"), 3, "shares, grad-cam, occlusion, rise"),
        ((A, "--against", "nowhere.jpg"), 3, "nowhere.jpg"),
        ((A, "--against", B, "--region", "0,0,90,10"), 3, "48 × 32"),
        ((A, "--against", B, "--region", "0,0"), 2, "x,y,width,height"),
        ((A, "--model", "recogniser", "--class", "domee"), 3, "'dome'"),
        ((A, "--model", "recogniser", "--method", "cam"), 3, "shares, occlusion, rise"),
        ((A, "--model", "photos"), 4, "no model there"),
        ((A, "--index", "photos"), 4, "veduta index FOLDER"),
        ((A, "--against", B, "--model", "recogniser", "--class", "dome"), 2, "--class"),
        ((A, "--against", B, "--png", "nowhere/why.png"), 3, "nowhere/why.png"),
    ],
)
def test_bad_input(explained_home: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run_veduta(explained_home, "explain", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_all_methods_are_named_in_the_help(explained_home: Path) -> None:
    done = run_veduta(explained_home, "explain", "--help")
    assert done.returncode == 0
    text = "".join(done.stdout.split())  # A line may end within a name.
    assert [name for name in METHODS if f"{name}," not in text and f"{name}." not in text] == []
