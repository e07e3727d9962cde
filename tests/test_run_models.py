"""A run as an encoder and as a recogniser."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny_runs import NAMES, RunAndCard, ask_model, files_of, painted, softmax

import veduta
from veduta import photos
from veduta.cli.main import run as cli
from veduta.encoders import load_encoder
from veduta.errors import (
    CollectionError,
    EncoderError,
    EncoderMismatch,
    EncoderUnavailable,
    UnknownEncoder,
)
from veduta.learn.data.image_cache import cache_images
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import open_recipe
from veduta.learn.runs.card import (
    read_card,
)
from veduta.learn.runs.export import load_weights
from veduta.learn.training import scoring
from veduta.learn.training.recipe_network import build_network
from veduta.recognize import open_model
from veduta.recognize.confidence import PRECISIONS
from veduta.recognize.network_scores import fit_confidence, log_odds
from veduta.search import Engine

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


class TestEncoder:
    def test_descriptors_are_the_features_of_training(
        self, class_run: RunAndCard, tmp_path: Path
    ) -> None:
        """Through an index, of photos of another size and shape."""
        recipe = open_recipe(str(class_run[0] / "recipe.toml"))
        painted(tmp_path / "photos", ("a", "b"), {"": 3}, side=50)
        generator = np.random.default_rng(3)
        wide = generator.integers(0, 256, (90, 1300, 3), dtype=np.uint8)
        Image.fromarray(wide).save(tmp_path / "photos" / "a" / "wide.jpg")
        parts = read_splits(tmp_path / "photos", validation=0)
        pictures, parts = cache_images(parts, recipe.input, workers=1, max_bytes=1 << 20)
        net = build_network(recipe, 5)
        load_weights(net, class_run[0] / "model.safetensors")
        features, _ = scoring.run_network(net, pictures, parts.train)
        index = veduta.create(tmp_path / "index", encoder=str(class_run[0]))
        index.add(tmp_path / "photos")
        for row, feature in zip(parts.train, features, strict=True):
            path = parts.root / parts.paths[row]
            hits = index.search(path, k=20, rerank="none")
            (itself,) = [
                hit
                for hit in hits
                if Path(hit.path).name == path.name
                and Path(hit.path).parent.name == path.parent.name
            ]
            assert itself.similarity > 0.999
            encoder = Engine(index.path).encoder
            prepared = encoder.prepare(photos.load(path, at_least=1024).pixels)
            (described,) = encoder.encode([prepared])
            assert described @ feature / np.linalg.norm(feature) == pytest.approx(1, abs=1e-4)

    def test_by_folder_from_anywhere(
        self, class_run: RunAndCard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = load_encoder(str(class_run[0] / "model.onnx"))
        monkeypatch.chdir(class_run[0].parent)
        for name in ("run", "./run", str(class_run[0])):
            encoder = load_encoder(name)
            assert (encoder.name, encoder.identity) == (str(class_run[0]), whole.identity)
        assert whole.dimension == 12

    def test_other_folders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, class_run: RunAndCard
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("begun").mkdir()
        Path("begun/recipe.toml").touch()
        with pytest.raises(EncoderUnavailable, match=r"has no model\.onnx yet"):
            load_encoder("begun")
        Path("empty").mkdir()
        with pytest.raises(UnknownEncoder, match=r"neither an \.onnx file nor the folder of a run"):
            load_encoder("./empty")
        with pytest.raises(UnknownEncoder, match="the folder of a run"):
            load_encoder("empty")
        with pytest.raises(UnknownEncoder):
            load_encoder("~nobody")
        # A folder does not hide what has a name.
        shutil.copytree(class_run[0], "fast")
        assert load_encoder("fast").dimension == 1280

    def test_class_scores(self, class_run: RunAndCard, run_home: Path) -> None:
        encoder = load_encoder(str(class_run[0]))
        files, _ = files_of(run_home / "photos", "test")
        prepared = [encoder.prepare(photos.load(file).pixels) for file in files[:11]]
        scores = encoder.class_scores(prepared, "logits")
        np.testing.assert_allclose(scores, ask_model(class_run[0], files[:11])[1], atol=1e-4)
        assert encoder.class_scores([], "logits").shape == (0, 5)
        with pytest.raises(EncoderError, match="no output 'other'"):
            encoder.class_scores(prepared, "other")


class TestRecogniser:
    def test_names_what_the_network_says(
        self, copied_run: Path, class_run: RunAndCard, run_home: Path
    ) -> None:
        """Of a run that was moved."""
        files, _ = files_of(run_home / "photos", "test")
        shares = softmax(ask_model(class_run[0], files)[1])
        for model in (open_model(copied_run), open_model(copied_run / "recognizer")):
            assert model.names == tuple(sorted(NAMES))
            assert model.confidence.examples == 90
            for file, share in list(zip(files, shares, strict=True))[::9]:
                seen = model.recognize(file)
                assert seen.guess == model.names[share.argmax()]
                ranked = [seen.guess, *(name for name, _ in seen.runners_up)]
                assert ranked == [model.names[code] for code in np.argsort(-share)]
                odds = math.log(share.max() / (1 - share.max()))
                slope, constant = model.confidence.weights
                wanted = 1 / (1 + math.exp(-(slope * odds + constant)))
                assert seen.confidence == pytest.approx(wanted, abs=1e-4)

    def test_facts(self, class_run: RunAndCard) -> None:
        facts = json.loads((class_run[0] / "recognizer" / "model.json").read_text("utf-8"))
        assert facts["scores"] == "logits"
        assert facts["encoder"]["name"] == "../model.onnx"
        assert facts["encoder"]["identity"] == load_encoder(str(class_run[0])).identity

    def test_on_the_command_line(
        self, copied_run: Path, run_home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files, labels = files_of(run_home / "photos", "test")
        assert cli(["recognize", "--model", str(copied_run), "--json", *map(str, files)]) == 0
        out, err = capsys.readouterr()
        answers = json.loads(out)
        assert err == "" and [row["guess"] in NAMES for row in answers] == [True] * 40
        guessed = sum(row["guess"] == label for row, label in zip(answers, labels, strict=True))
        card = read_card(copied_run)
        assert card.test is not None and guessed == round(40 * card.test.accuracy)

    def test_says_that_confidences_are_the_networks_own(
        self, pair_run: RunAndCard, run_home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Two validation photos teach nothing."""
        assert pair_run[1].confidence_questions == 0
        (file, *_), _ = files_of(run_home / "pair", "test")
        assert cli(["recognize", "--model", str(pair_run[0]), "--precision", "0.5", str(file)]) == 0
        out, err = capsys.readouterr()
        assert "too few validation photos" in err
        seen = open_model(pair_run[0]).recognize(file, precision=0.5)
        (share,) = softmax(ask_model(pair_run[0], [file], 0, 1)[1])
        assert seen.confidence == pytest.approx(share.max(), abs=1e-5)
        assert seen.label == ("gate", "temple")[share.argmax()] and seen.label in out

    def test_several_photos(self, class_run: RunAndCard, run_home: Path) -> None:
        files, _ = files_of(run_home / "photos", "test")
        some = files[:3]
        mean = ask_model(class_run[0], some)[1].mean(axis=0)
        assert open_model(class_run[0]).recognize(*some).guess == sorted(NAMES)[mean.argmax()]

    def test_saved_again_elsewhere(self, class_run: RunAndCard, tmp_path: Path) -> None:
        open_model(class_run[0]).save(tmp_path / "deep" / "model")
        assert open_model(tmp_path / "deep" / "model").names == tuple(sorted(NAMES))

    @pytest.mark.parametrize(
        ("facts", "told"),
        [
            ({"scores": "cubic"}, "scores: Invalid enum value 'cubic'"),
            ({"names": ["a", "b"]}, "has 2 names, but its network 5 classes"),
            ({"scores": "linear"}, "does not read back"),
        ],
    )
    def test_wrong_facts(self, copied_run: Path, facts: dict[str, Any], told: str) -> None:
        file = copied_run / "recognizer" / "model.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | facts))
        with pytest.raises(CollectionError, match=told):
            open_model(copied_run)

    def test_an_encoder_that_is_gone_or_another(
        self, copied_run: Path, autoencoder_run: RunAndCard
    ) -> None:
        shutil.copy(autoencoder_run[0] / "model.onnx", copied_run / "model.onnx")
        with pytest.raises(EncoderMismatch):
            open_model(copied_run)
        (copied_run / "model.onnx").unlink()
        with pytest.raises(EncoderUnavailable, match="no such file"):
            open_model(copied_run)


class TestConfidence:
    def test_log_odds(self) -> None:
        logits = np.random.default_rng(0).normal(0, 6, (200, 7))
        shares = softmax(logits)
        with np.errstate(divide="ignore"):
            wanted = np.log(shares / (1 - shares))
        clear = shares < 0.99  # beyond, the plain formula is the less exact one
        np.testing.assert_allclose(log_odds(logits)[clear], wanted[clear], atol=1e-9)
        assert log_odds(np.array([[900.0, -900.0]])).tolist() == [[1800.0, -1800.0]]
        three = np.array([[500.0, 0.0, 0.0]])
        assert log_odds(three)[0, 0] == pytest.approx(500 - math.log(2))

    def test_is_learned(self) -> None:
        """A network that is too sure of itself is taken at what its answers are worth."""
        generator = np.random.default_rng(1)
        codes = generator.integers(0, 4, 400)
        logits = generator.normal(0, 1, (400, 4))
        logits[np.arange(400), codes] += 2
        fitted = fit_confidence(10 * logits, codes)
        assert fitted.examples == 800
        assert 0 < fitted.weights[0] < 0.5
        confident = fitted.probabilities(log_odds(10 * logits).max(axis=1)[:, None])
        # Half of the questions are unanswerable, so it is below the share of right answers.
        right = (logits.argmax(axis=1) == codes).mean()
        assert 0.4 < confident.mean() < right
        assert fitted.threshold(0.6) < fitted.threshold(0.9)

    @pytest.mark.parametrize("codes", [[0] * 29, [0] * 40], ids=["too few", "no mistake"])
    def test_nothing_to_learn_from(self, codes: list[int]) -> None:
        logits = np.tile([3.0, 0.0], (len(codes), 1))
        fitted = fit_confidence(logits, np.array(codes))
        assert (fitted.examples, fitted.thresholds) == (0, PRECISIONS)
        assert fitted.probabilities(np.array([[math.log(3)]])) == pytest.approx(0.75)
