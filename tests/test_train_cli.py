"""`veduta train` from the command line: what it says, leaves, refuses, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny import save

from veduta.cli.main import run

pytestmark = pytest.mark.filterwarnings("default")  # of the exporter, not ours

RECIPE = """
about = "A small one."
augment = [{ flip = "horizontal" }]

[input]
size = 32

[network]
layers = [
  { conv = 4, kernel = 3, activation = "relu" },
  { global = "average" },
  { dropout = 0.1 },
  { dense = "classes" },
]

[training]
epochs = 3
batch = 8
learning_rate = 0.01
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    file = tmp_path / "small.toml"
    file.write_text(RECIPE, "utf-8")
    return str(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for code, name in enumerate(("left", "right")):
        for number in range(16):
            part = "test" if number % 4 == 3 else "train"
            save(root / part / name / f"{number}.png", 50 * code + number)
    return root


@pytest.mark.slow
def test_what_it_says_and_leaves(
    recipe: str,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # paths are shown from here
    out = tmp_path / "run"
    call = ["train", recipe, str(photos), "--out", str(out), "--set", "training.epochs=2"]
    assert run(call) == 0
    told = capsys.readouterr()
    assert told.err.count("\nepoch ") + told.err.startswith("epoch ") == 2
    assert "test: accuracy" in told.out and "--encoder" in told.out
    assert max(map(len, told.out.replace(str(tmp_path), "").splitlines())) <= 80
    card = json.loads((out / "card.json").read_text("utf-8"))
    assert (
        card["epochs"] == 2
        and card["held_out"]
        # A card is given away, so it does not hold the user's folders.
        and card["command"] == "veduta train small.toml photos --out run --set training.epochs=2"
    )
    assert not (out / "checkpoint").exists()
    assert run(call) == 3
    assert "finished run" in capsys.readouterr().err
    # The recipe that it leaves trains the same network again.
    again = tmp_path / "again"
    assert run(["train", str(out / "recipe.toml"), str(photos), "--out", str(again), "--json"]) == 0
    told_again = json.loads(capsys.readouterr().out)
    assert told_again["test"] == card["test"]
    weights = [(one / "model.safetensors").read_bytes() for one in (out, again)]
    assert weights[0] == weights[1]
    # And it is an encoder and a recogniser.
    index = tmp_path / "index"
    assert run(["index", str(photos / "train"), "--index", str(index), "--encoder", str(out)]) == 0
    asked = str(photos / "test" / "left" / "3.png")
    assert run(["search", asked, "--index", str(index), "--json"]) == 0
    capsys.readouterr()
    assert run(["recognize", asked, "--model", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_killed_and_given_again_it_ends_the_same(recipe: str, photos: Path, tmp_path: Path) -> None:
    def call(out: Path) -> list[str]:
        sets = ("training.epochs=12", "training.validation=0.25")
        return [
            sys.executable,
            "-m",
            "veduta",
            "train",
            recipe,
            str(photos),
            "--out",
            str(out),
            *(part for one in sets for part in ("--set", one)),
        ]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(call(whole), check=True, capture_output=True, env=environment)
    killed = subprocess.Popen(
        call(cut), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not (cut / "checkpoint").exists() and time.monotonic() < until:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (cut / "card.json").exists()
    subprocess.run(call(cut), check=True, capture_output=True, env=environment)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    # Seconds differ, figures do not.
    one, other = ((run_ / "history.csv").read_text("utf-8") for run_ in (whole, cut))
    assert [line.split(",")[2:] for line in one.splitlines()] == [
        line.split(",")[2:] for line in other.splitlines()
    ]


def test_summary_needs_no_photos(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "cnn-1", "--summary"]) == 0
    told = capsys.readouterr().out
    assert "14,765,505" in told and max(map(len, told.splitlines())) <= 80
    assert run(["train", recipe, "--summary", "--json", "--set", "network.classes=7"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][-1]["shape"] == [7]


def test_wrong_calls(
    recipe: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", recipe]) == 2
    assert run(["train", recipe, str(photos), "--subset-seed", "1"]) == 2
    assert "--photos-per-class" in capsys.readouterr().err
    for option in (["--out", "r"], ["--labels", "l.csv"], ["--devices", "1"], [str(photos)]):
        assert run(["train", recipe, "--summary", *option]) == 2
        named = "DATASET" if option[0] == str(photos) else option[0]
        assert f"leave {named} out" in capsys.readouterr().err
    for option in (["--devices", "2"], ["--nodes", "2"]):
        assert run(["train", "linear", str(photos), *option]) == 2
        assert "linear trains a few layers behind encoder:accurate" in capsys.readouterr().err
    assert run(["train", recipe, str(photos), "--set", "training.momentum=0.5"]) == 3
    assert "training.momentum is 0.5, but the optimizer is adam" in capsys.readouterr().err
    assert run(["train", "cnn-0", str(photos)]) == 3
    assert "did you mean 'cnn-" in capsys.readouterr().err
    assert run(["train", recipe, str(photos), "--set", "training.epoch=3"]) == 3
    assert "did you mean 'training.epochs'?" in capsys.readouterr().err
    assert run(["train", recipe, str(tmp_path / "none"), "--out", str(tmp_path / "r")]) == 3
    # Not a run's folder: nothing is written into it.
    taken = tmp_path / "taken"
    save(taken / "photo.png", 1)
    assert run(["train", recipe, str(photos), "--out", str(taken)]) == 3
    assert "not a run" in capsys.readouterr().err and len(list(taken.iterdir())) == 1


@pytest.mark.slow
def test_a_leak_is_refused_by_name(
    recipe: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = photos / "test" / "left" / "copy.png"
    copied.write_bytes((photos / "train" / "left" / "0.png").read_bytes())
    call = ["train", recipe, str(photos), "--set", "training.epochs=1", "--out"]
    out = str(tmp_path / "run")
    assert run([*call, out]) == 3
    assert "copy.png" in capsys.readouterr().err
    assert run([*call, out, "--allow-leak"]) == 0
    assert "leak allowed" in capsys.readouterr().out
