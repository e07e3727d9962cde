"""Commands without the optional packages: they work, or say which extra to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from command_line import environment
from tiny import save_view
from tiny_onnx import channel_means, write

from veduta.learn.runs.card import Card, Parameters
from veduta.learn.runs.prediction_files import PhotoAnswer, write_answers
from veduta.learn.training.figures import ClassificationFigures

EXTRAS = (
    "captum", "fastapi", "h5py", "huggingface_hub", "obstore", "onnx", "onnxscript", "openvino",
    "optuna", "pandas", "pytorch_grad_cam", "pytorch_lightning", "pytorch_metric_learning",
    "ray", "safetensors", "skimage", "sklearn", "timm", "tomli_w", "torch", "torchvision",
    "uvicorn",
)  # fmt: skip

# A finder of modules would be seen by the libraries, so the folder of packages is another one.
SCRIPT = """
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
sys.path += [{site!r}, {source!r}]
from veduta.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small dataset, and links to all packages but the optional ones."""
    home = tmp_path_factory.mktemp("extras")
    for scene, name in enumerate(("a", "b")):
        for number in range(3):
            save_view(home / f"photos/{name}/{number}.png", scene, number)
    (home / "network").mkdir()
    write(home / "network", channel_means())
    site = home / "site"
    site.mkdir()
    import numpy

    for folder in {sysconfig.get_path("purelib"), str(Path(numpy.__file__).parents[1])}:
        for entry in Path(folder).iterdir():
            if entry.name.split(".")[0] not in EXTRAS and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return home


def run_without(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    import veduta

    source = str(Path(veduta.__file__).parents[1])
    script = SCRIPT.format(site=str(home / "site"), source=source)
    variables = environment(home) | {"PYTHONPATH": ""}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, cwd=home, env=variables, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr and "fault of Veduta" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "extra"),
    [
        (("augment", "photos/a/0.png", "--preview", "sheet.png"), 3, "train"),
        (("status", "--index", "s3://bucket/path"), 4, "cloud"),
        (("augment", "photos", "--all", "--out", "augmented"), 3, "train"),
        (("train", "cnn-1", "photos", "--out", "run"), 3, "train"),
        (("train", "cnn-1", "--summary"), 3, "train"),
        (("tune", "cnn-1", "photos", "--out", "study"), 3, "train"),
        (("explain", "photos/a/0.png", "--model", "network", "--method", "cam"), 3, "train"),
        (("review", "photos", "--no-open"), 3, "web"),
        (("clean", "photos", "--only", "corrupt", "--review"), 3, "web"),
        (("index", "photos", "--index", "other", "--encoder", "hub:owner/name"), 5, "hub"),
        (("index", "photos", "--index", "other", "--encoder", "timm:resnet18"), 5, "timm"),
        (("index", "photos", "--index", "other", "--ray", "local"), 3, "ray"),
        (("evaluate", "photos", "--encoder", "fast", "--runtime", "openvino"), 5, "openvino"),
    ],
)
def test_the_extra_is_named(home: Path, arguments: tuple[str, ...], code: int, extra: str) -> None:
    done = run_without(home, *arguments)
    assert done.returncode == code, done.stderr
    assert f"pip install 'veduta[{extra}]'" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_everything_else_works(home: Path) -> None:
    for arguments in (
        ("index", "photos", "--encoder", "fast", "--labels", "folders"),
        ("search", "photos/a/0.png", "--html", "page.html", "--maps"),
        ("explain", "photos/a/0.png", "--against", "photos/a/1.png", "--png", "map.png"),
        ("recognize", "--export", "recogniser"),
        ("explain", "photos/a/0.png", "--model", "recogniser", "--method", "occlusion"),
        ("recognize", "photos/a/0.png"),
        ("describe", "photos", "--html", "described.html"),
        ("augment", "--list"),
    ):
        done = run_without(home, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)


@pytest.mark.slow
def test_a_run_from_another_computer_is_compared(home: Path) -> None:
    figures = ClassificationFigures(2, 0.5, 0.5, gap=0.25)
    card = Card(
        "tiny", {}, "0", "photos", "1", {"test": 2}, ("a", "b"), False, 0, "scores", "test", None,
        figures, None, 3, Parameters(9, 9), 1, 1, 0.5, "", 0.0, {}, {}, "",
    )  # fmt: skip
    run = home / "run"
    run.mkdir()
    (run / "card.json").write_text(json.dumps(card.as_json()))
    answers = [PhotoAnswer("a.jpg", "a", "a", 0.75), PhotoAnswer("b.jpg", "b", "a", 0.5)]
    write_answers(run / "answers.csv", answers)
    done = run_without(home, "compare", "run", "--csv", "t.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:4] == ["A", "run", "0.500", "0.250"]


def test_the_packages_are_hidden(home: Path) -> None:
    names = {entry.name.split(".")[0] for entry in (home / "site").iterdir()}
    assert "numpy" in names and not names & set(EXTRAS)
    assert os.listdir(home / "photos")
