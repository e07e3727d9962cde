"""`veduta train RECIPE --from RUN`: what is taken, what is said, and what is refused."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import safetensors.torch
from tiny_runs import CLASSES, DRAWING, NAMES, RunAndCard, painted, recipe_of

from veduta.cli.main import run as cli
from veduta.errors import LearnError, RecipeError
from veduta.learn.models.matched_weights import MatchedWeights
from veduta.learn.models.weights_file import read_weights
from veduta.learn.recipe import Network, Recipe, with_values
from veduta.learn.runs.card import Ancestor, Card, Start, read_card
from veduta.learn.runs.card_text import card_markdown
from veduta.learn.runs.starting_run import (
    StartingRun,
    licence_of_start,
    open_starting_run,
    start_record,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]

# The encoder of DRAWING, and a layer that names classes.
NAMING = """
input = { size = 16 }
[network]
layers = [
  { conv = 4, padding = "same", activation = "relu" }, { pool = "max" },
  { flatten = true }, { dense = 10 }, { dense = "classes" },
]
[training]
epochs = 1
learning_rate = 0.0
"""


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
def test_a_chain_of_runs(
    autoencoder_run: RunAndCard, run_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = autoencoder_run[0]
    before = contents(source)
    recipe_of(tmp_path, NAMING, "naming")
    # Other photos, other classes and another recipe; the learning rate of zero keeps the weights.
    photos = painted(tmp_path / "photos", NAMES[:3], {"train": 5, "val": 2, "test": 2}, seed=1)
    naming, call = str(tmp_path / "naming.toml"), ["train", "--from"]
    first = tmp_path / "first"
    arguments = [str(source), "--part", "encoder", naming, str(photos), "--out", str(first)]
    assert cli([*call, *arguments]) == 0
    told = capsys.readouterr()
    line = "starts from the weights of the encoder of the run drawn: 4 of 6 tensors"
    assert line in " ".join(told.err.split()) and line in " ".join(told.out.split())
    assert contents(source) == before
    encoder = safetensors.torch.load_file(source / "encoder.safetensors")
    now = safetensors.torch.load_file(first / "model.safetensors")
    assert torch.equal(now["layers.0.0.weight"], encoder["layers.1.0.weight"])
    assert torch.equal(now["layers.3.weight"], encoder["layers.4.weight"])
    card = read_card(first)
    digest = read_weights(source / "encoder.safetensors").digest
    assert card.start == Start(
        "drawn",
        MatchedWeights(digest, 4, 6, ("layers.4 (dense, 3 x 10)",), new_classes=True),
        "drawing",
        "photos",
        autoencoder_run[1].dataset_digest,
        "encoder",
    )
    assert Card.from_json(json.loads((first / "card.json").read_text())) == card
    assert card.licence.startswith("Starts from the weights of the run drawn, whose card says: We")

    # The same classes: the layer that names them is taken too.
    second = tmp_path / "second"
    assert cli([*call, str(first), naming, str(photos), "--out", str(second), "--json"]) == 0
    start = json.loads(capsys.readouterr().out)["start"]
    assert start["weights"]["used"] == start["weights"]["tensors"] == 6
    assert start["earlier"] == [
        {
            "name": "drawn",
            "digest": digest,
            "recipe": "drawing",
            "dataset": "photos",
            "dataset_digest": autoencoder_run[1].dataset_digest,
        }
    ]
    same = safetensors.torch.load_file(second / "model.safetensors")
    assert all(torch.equal(one, same[name]) for name, one in now.items())
    text = " ".join((second / "card.md").read_text("utf-8").split())
    assert "Starts from the weights of the run first: 6 of 6 tensors." in text
    chain = f"- first, digest {read_weights(first / 'model.safetensors').digest}: naming, trained"
    assert f"{chain} on photos - drawn, digest {digest}: drawing, trained on photos" in text
    assert "which photos they saw is not checked" in text


def test_runs_that_cannot_be_gone_on_from(
    class_run: RunAndCard, autoencoder_run: RunAndCard, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, CLASSES)
    with pytest.raises(LearnError, match=r"not a run; name a folder with a card.json"):
        open_starting_run(tmp_path, "", recipe)
    shutil.copy(class_run[0] / "recipe.toml", tmp_path)
    with pytest.raises(LearnError, match="the run is not finished; repeat its `veduta train`"):
        open_starting_run(tmp_path, "", recipe)
    shutil.copy(class_run[0] / "card.json", tmp_path)
    with pytest.raises(LearnError, match=r"has no model.safetensors; its weights were removed"):
        open_starting_run(tmp_path, "", recipe)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(LearnError, match=r"model.safetensors: cannot be read as safetensors"):
        open_starting_run(tmp_path, "", recipe)
    with pytest.raises(LearnError, match=r"has no decoder in a file of its own.*leave --part out"):
        open_starting_run(class_run[0], "decoder", recipe)
    with pytest.raises(RecipeError, match=r"network.weights names a file, and --from names a run"):
        open_starting_run(class_run[0], "", with_values(recipe, {"network.weights": "a.pth"}))
    frozen = with_values(recipe, {"network.backbone": "encoder:fast"})
    with pytest.raises(RecipeError, match=r'is "encoder:fast", but none in .*take the same'):
        open_starting_run(class_run[0], "", frozen)
    whole = open_starting_run(class_run[0], "", recipe)
    assert not whole.first_weights(class_run[1].classes).new_classes
    assert whole.first_weights(class_run[1].classes[::-1]).new_classes
    drawing = recipe_of(tmp_path, DRAWING)
    decoder = open_starting_run(autoencoder_run[0] / "card.json", "decoder", drawing)
    assert decoder.first_weights(()).keeps_backbone


def test_photos_of_another_scale_are_refused(class_run: RunAndCard, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    values = json.loads((class_run[0] / "card.json").read_text())
    values["values"]["network"] |= {"backbone": "torchvision:googlenet", "weights": "none"}
    (run / "card.json").write_text(json.dumps(values))
    shutil.copy(class_run[0] / "model.safetensors", run)
    recipe = Recipe("g", network=Network(backbone="torchvision:googlenet"))
    with pytest.raises(
        RecipeError, match=r'weights is "pretrained", but "none" in .* another scale'
    ):
        open_starting_run(run, "", recipe)
    assert open_starting_run(run, "", with_values(recipe, {"network.weights": "none"}))


def test_the_terms_and_the_chain_of_a_file_and_of_a_run(class_run: RunAndCard) -> None:
    matched = MatchedWeights("0" * 16, 1, 2)
    recipe = Recipe("r", network=Network(weights="/far/away.safetensors"))
    assert start_record(matched, recipe, None) == Start("away.safetensors", matched)
    assert start_record(None, recipe, None) is None
    assert licence_of_start(recipe, None).startswith("Starts from the weights in away.safetensors")
    card = replace(
        class_run[1], start=Start("older", matched, "x", "y", "z", "", (Ancestor("oldest", "1"),))
    )
    run = StartingRun("newer", card, "", read_weights(class_run[0] / "model.safetensors"))
    start = start_record(matched, recipe, run)
    assert start is not None
    assert [one.name for one in start.earlier] == ["older", "oldest"]
    # Only if every run of the chain had the same photos and splits, no test photo was trained on.
    for digest, is_said in ((card.dataset_digest, False), ("other", True)):
        before = Start("a", matched, "x", "y", digest)
        text = card_markdown(replace(card, start=before))
        assert ("which photos they saw is not" in " ".join(text.split())) == is_said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cnn-1", "photos", "--part", "encoder"], "--part is for --from RUN."),
        (["cnn-1", "--summary", "--from", "run"], "--summary shows the layers only"),
        (["cnn-1", "photos", "--from", "run", "--part", "head"], "'head' is not one of"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["train", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
