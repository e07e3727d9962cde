"""`veduta tune` from the command line, and the page of a study."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("optuna")

from tiny_tuning import SPACE, Toy, recipe

from veduta.cli.main import run
from veduta.cli.tune import command
from veduta.errors import LearnError
from veduta.learn.recipe import Input, Network, Recipe, open_recipe
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.tuning.study import Study, read_study
from veduta.learn.tuning.study_report import study_page
from veduta.learn.tuning.tuner import tune
from veduta.pages.study_page import write_study_page

# The page


@pytest.fixture(scope="module")
def odd_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Trials of every state, choices with a name that is HTML, a key with a logarithmic range."""
    root = tmp_path_factory.mktemp("page") / "a & <b>"
    root.mkdir()

    def fails(made: Recipe, _epoch: int) -> None:
        if made.training.batch > 56:
            raise LearnError("<script>alert(1)</script> out of memory")

    space = {
        **SPACE,
        "network.layers.0.conv": {"low": 32, "high": 64, "step": 16},
        "network.weights": {"choices": ["<i>none</i>", "a" * 60, "pretrained"]},
    }
    made = replace(recipe(space), name="<b>toy</b>")
    return tune(made, root, root / "study", trials=30, train=Toy(fails))


@pytest.mark.slow
def test_the_page_says_all_and_needs_nothing_else(odd_study: Study, tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", study_page(odd_study))
    page = (tmp_path / "report.html").read_text("utf-8")

    assert "&lt;b&gt;toy&lt;" in page
    for bad in ("<b>toy", "<script", "<i>none", "<link", "@import"):
        assert bad not in page
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= namespaces
    assert page.count("<svg") == 2 + len(odd_study.axes)
    assert odd_study.best is not None
    assert f"{odd_study.best.figure:.4f}" in page
    assert "prefers-color-scheme: dark" in page
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == 30
    assert {"complete", "pruned", "failed"} <= set(re.findall(r"text state (\w+)", body))


def test_the_page_of_a_study_without_a_figure(tmp_path: Path) -> None:
    def fails(_made: Recipe, _epoch: int) -> None:
        raise LearnError("no memory")

    study = tune(recipe(), tmp_path, tmp_path / "study", trials=1, train=Toy(fails))
    write_study_page(tmp_path / "report.html", study_page(study))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "no trial is complete" in page
    assert "<svg" not in page


@pytest.mark.slow
def test_the_page_fits_desk_and_phone(odd_study: Study, browser: Any, tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", study_page(odd_study))
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.title() == "Tuning of <b>toy</b>"
        assert said == []
        page.close()


# The command


def invoke(monkeypatch: pytest.MonkeyPatch, toy: Any, *arguments: str) -> Result:
    monkeypatch.setattr("veduta.learn.runs.train.train", toy)
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture
def toml(tmp_path: Path) -> str:
    file = tmp_path / "toy.toml"
    file.write_text(recipe_toml(recipe()))
    return str(file)


def test_the_command(tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    study = tmp_path / "study"
    toy = Toy()
    done = invoke(
        monkeypatch,
        toy,
        toml,
        str(tmp_path),
        "--out",
        str(study),
        "--trials",
        "12",
        "--set",
        "training.epochs=2",
        "--space",
        "training.optimizer=adam,sgd",
    )

    assert done.exit_code == 0, done.output
    assert {made.training.epochs for made in toy.recipes} == {2}
    assert {made.training.optimizer for made in toy.recipes} == {"adam", "sgd"}
    assert len(toy.recipes) == 12
    table = done.stdout
    assert "12 trials" in table
    assert re.search(r"^ +1 +\d+ +0\.\d{4}  complete +2 ", table, re.M)
    figures = [float(one) for one in re.findall(r"(0\.\d{4})  complete", table)]
    assert figures == sorted(figures, reverse=True)
    assert "best.toml" in table
    assert "trial 12 of 12: " in done.stderr
    assert (study / "report.html").exists()
    assert open_recipe(str(study / "best.toml")).training.epochs == 2
    for line in [*table.splitlines(), *done.stderr.splitlines()]:
        assert len(line) <= 80 or tmp_path.name in line

    again = invoke(
        monkeypatch,
        toy,
        toml,
        str(tmp_path),
        "--out",
        str(study),
        "--trials",
        "12",
        "--json",
        "--set",
        "training.epochs=2",
        "--space",
        "training.optimizer=adam,sgd",
    )
    told = json.loads(again.stdout)
    assert len(toy.recipes) == 12  # nothing was left to do
    assert again.stderr == ""
    assert told["best"] in range(1, 13)
    assert [one["trial"] for one in told["trials"]] == list(range(1, 13))


def test_the_command_says_what_is_wrong(
    tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")

    def fails(_made: Recipe, _epoch: int) -> None:
        raise LearnError("one class only")

    monkeypatch.setattr("veduta.learn.runs.train.train", Toy(fails))
    out = ["--out", str(tmp_path / "study")]
    for arguments, code, message in (
        ([toml, "nowhere", *out], 2, "nowhere"),
        ([toml, str(tmp_path), *out, "--space", "training.batch=9"], 3, "KEY=LOW:HIGH"),
        ([toml, str(tmp_path), *out, "--space", "training.bach=1:9"], 3, "did you mean 'batch'"),
        ([toml, str(tmp_path), *out, "--trials", "0"], 2, "--trials"),
        ([toml, str(tmp_path), *out, "--hours", "0"], 2, "--hours"),
        ([toml, str(tmp_path), *out], 3, "failed for the same reason: one class only"),
        ([toml, str(tmp_path), "--out", str(tmp_path / "b"), "--trials", "2"], 3, "all trials"),
    ):
        assert run_command(arguments) == code
        assert message in capsys.readouterr().err


def run_command(arguments: list[str]) -> int:
    """Run the command as `veduta.cli.main` does."""
    return run(["tune", *arguments])


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")

    def interrupts(_made: Recipe, _epoch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veduta.learn.runs.train.train", Toy(interrupts))
    assert run_command([toml, str(tmp_path), "--out", str(tmp_path / "study")]) == 130
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials of one epoch, on photos that differ in colour."""
    for package in ("torch", "torchvision", "pytorch_lightning", "onnxscript"):
        pytest.importorskip(package)
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    layers = ({"flatten": True}, {"dense": 4}, {"dense": "classes"})
    made = replace(
        recipe({"network.layers.1.dense": {"low": 4, "high": 8}}, epochs=1, batch=4),
        input=Input(size=16),
        network=Network(layers=layers),
    )
    (tmp_path / "real.toml").write_text(recipe_toml(made))
    study = tmp_path / "study"
    asked = [str(tmp_path / "real.toml"), str(tmp_path / "photos"), "--out", str(study)]

    assert run_command([*asked, "--trials", "2"]) == 0, capsys.readouterr()
    said = capsys.readouterr()
    assert "2 trials (2 complete)" in said.out
    read = read_study(study)
    assert read.best is not None
    best = read.run(read.best)
    assert {"model.onnx", "model.safetensors", "card.json"} <= {one.name for one in best.iterdir()}
    card = json.loads((best / "card.json").read_text())
    assert card["values"]["network"]["layers"][1]["dense"] in range(4, 9)
    assert card["recipe_digest"] == open_recipe(str(study / "best.toml")).digest()
    assert card["val"]["accuracy"] == pytest.approx(read.best.figure)


def test_help_is_quick_to_load() -> None:
    code = (
        "import sys; import veduta.cli.tune, veduta.cli.recipes; "
        "print([one for one in ('torch', 'optuna', 'matplotlib', 'numpy') if one in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["train", "tune"])
def test_the_seed_of_a_subset_needs_a_subset(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "out"), "--subset-seed", "1"]
    assert run([name, "cnn-1", str(tmp_path), *options]) == 2
    assert "--subset-seed goes with --photos-per-class" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
