"""The card of a run: read, written, and told to a person."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny_runs import NAMES, RunAndCard

from veduta.errors import (
    LearnError,
)
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import open_recipe
from veduta.learn.runs.card import (
    CARD_FILE,
    Card,
    Parameters,
    read_card,
)
from veduta.learn.runs.card_text import card_markdown
from veduta.learn.runs.prediction_files import read_csv, write_csv
from veduta.learn.runs.provenance import hardware, weights_licence

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


class TestCard:
    def test_round_trip(self, class_run: RunAndCard, autoencoder_run: RunAndCard) -> None:
        for folder, card in (class_run, autoencoder_run):
            assert read_card(folder) == card == read_card(folder / CARD_FILE)
            assert Card.from_json(json.loads(json.dumps(card.as_json()))) == card

    def test_facts(self, class_run: RunAndCard, run_home: Path) -> None:
        card = class_run[1]
        assert card.classes == tuple(sorted(NAMES))
        assert (
            card.photos == {"train": 70, "val": 45, "test": 40, "unknown": 0} and not card.held_out
        )
        assert card.dataset == "photos"
        assert card.dataset_digest == read_splits(run_home / "photos").digest
        assert card.recipe_digest == open_recipe(str(run_home / "tiny.toml")).digest()
        assert card.values == open_recipe(str(run_home / "tiny.toml")).as_json()
        # conv 3·9·4 + 4, batch norm 4·2 and 4·2 statistics, dense 4·7·7·12 + 12, dense 12·5 + 5
        trainable = 112 + 8 + 2364 + 65
        assert card.parameters == Parameters(trainable + 8, trainable)
        assert card.parameters.non_trainable == 8
        assert card.versions["torch"] == torch.__version__.partition("+")[0]
        assert card.hardware["gpu"] == "" or torch.cuda.is_available()
        assert card.command == "veduta train tiny" and card.seed == 0
        assert card.confidence_questions == 90  # 45 photos, each also with its class hidden

    def test_held_out(self, pair_run: RunAndCard) -> None:
        assert pair_run[1].held_out and pair_run[1].photos["val"] > 0
        text = " ".join((pair_run[0] / "card.md").read_text("utf-8").split())
        assert "were taken out of the training photos (seed 0)" in text

    def test_for_a_person(self, class_run: RunAndCard, autoencoder_run: RunAndCard) -> None:
        for folder, card in (class_run, autoencoder_run):
            lines = (folder / "card.md").read_text("utf-8").splitlines()
            assert max(map(len, lines)) <= 80
            text = " ".join(" ".join(lines).split())
            assert card.test is not None and f"{card.test.accuracy:.4f}" in text
            assert "test photos chose nothing: they were used once" in text
            assert "tower\\x0a2" in text
            assert ("class of the training photo whose" in text) == (folder == autoencoder_run[0])
        assert "fitted to 90 examples" in " ".join((class_run[0] / "card.md").read_text().split())

    def test_says_when_the_test_is_no_test(self, class_run: RunAndCard) -> None:
        without = replace(class_run[1], test=None, retrieval=None, judged="val")
        text = " ".join(card_markdown(without).split())
        assert "There are no test photos" in text and "used once" not in text
        bare = replace(without, val=None, judged="", problems=("x " * 60, "y"))
        text = card_markdown(bare)
        assert "nothing was measured" in text and "\n- x x" in text and "\n- y\n" in text
        unfitted = card_markdown(replace(class_run[1], confidence_questions=0))
        assert "the network's own probability" in " ".join(unfitted.split())
        two = card_markdown(replace(class_run[1], classes=("a", "b")))
        assert "photos of other things also get one of these names" in " ".join(two.split())

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(LearnError, match="not a run; name a folder with a card"):
            read_card(tmp_path)
        (tmp_path / "recipe.toml").touch()
        with pytest.raises(LearnError, match="not finished"):
            read_card(tmp_path)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"format": 2}, "format 2"),
            ({"seed": ...}, "missing required field `seed`"),
            ({"val": {"photos": 3}}, "val: .*missing required field `accuracy`"),
            ({"val": 3}, "val: Expected"),
            ({"parameters": {}}, "parameters: .*missing required field `total`"),
            ({"classes": ["a", 3]}, "classes.*: Expected"),
        ],
    )
    def test_damaged(self, copied_run: Path, change: dict[str, Any], told: str) -> None:
        values = json.loads((copied_run / CARD_FILE).read_text("utf-8")) | change
        kept = {key: value for key, value in values.items() if value is not ...}
        (copied_run / CARD_FILE).write_text(json.dumps(kept))
        with pytest.raises(LearnError, match=told) as caught:
            read_card(copied_run)
        assert str(copied_run) in str(caught.value)

    @pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
    def test_no_json(self, copied_run: Path, text: str) -> None:
        (copied_run / CARD_FILE).write_bytes(text.encode("latin-1"))
        with pytest.raises(LearnError, match="cannot be read as the card"):
            read_card(copied_run)

    @pytest.mark.parametrize(
        ("network", "told"),
        [
            ({"backbone": "", "weights": "pretrained"}, "from scratch"),
            ({"backbone": "timm:resnet18", "weights": "none"}, "from scratch"),
            ({"backbone": "timm:resnet18.a1_in1k", "weights": "pretrained"}, "apache-2.0"),
            ({"backbone": "embedded:efficientnet-lite0", "weights": "pretrained"}, "Apache-2.0"),
            ({"backbone": "torchvision:resnet18", "weights": "pretrained"}, "BSD-3-Clause"),
            ({"backbone": "encoder:fast", "weights": "none"}, "Apache-2.0"),
            ({"backbone": "encoder:other.onnx", "weights": "pretrained"}, "not known"),
            ({"backbone": "timm:x", "weights": "my/w.safetensors"}, "in w.safetensors"),
        ],
    )
    def test_terms(self, network: dict[str, str], told: str) -> None:
        if network["backbone"].startswith("timm"):
            pytest.importorskip("timm")
        said = weights_licence(network)
        assert told in said and "belong to their owners" in said

    def test_names_of_a_gpu(self) -> None:
        assert hardware("cpu")["gpu"] == "" and hardware("Fast 9000")["gpu"] == "Fast 9000"

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        rows = [["b\udcffd", 'a"b\n,c', "", 3]]
        write_csv(tmp_path / "odd.csv", ["w", "x", "y", "z"], rows)
        (read,) = read_csv(tmp_path / "odd.csv")
        assert read == {"w": "b\udcffd", "x": 'a"b\n,c', "y": "", "z": "3"}
        assert b"b\xffd" in (tmp_path / "odd.csv").read_bytes()
