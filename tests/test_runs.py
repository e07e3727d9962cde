"""What a run leaves: the network as files, its card and figures, as encoder and as recogniser."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import onnxruntime
from sklearn import metrics

import veduta
from veduta import photos
from veduta.cli import compare as cli_compare
from veduta.cli.main import run as cli
from veduta.encoders import load_encoder
from veduta.errors import (
    CollectionError,
    EncoderError,
    EncoderMismatch,
    EncoderUnavailable,
    LearnError,
    NotAnIndex,
    UnknownEncoder,
)
from veduta.files import atomic_files
from veduta.learn.data.image_cache import cache_images, normalise
from veduta.learn.data.splits import read_splits
from veduta.learn.models.networks import build
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.runs.card import (
    CARD,
    Card,
    Parameters,
    hardware,
    read_card,
    weights_licence,
)
from veduta.learn.runs.card_text import card_markdown
from veduta.learn.runs.comparison import SORTED_BY, Run, compare_runs, open_run
from veduta.learn.runs.curves import write_curves
from veduta.learn.runs.export import export, load_weights, save_weights
from veduta.learn.runs.prediction_files import read_csv, write_csv
from veduta.learn.runs.run import train
from veduta.learn.training import scoring
from veduta.learn.training.figures import ClassificationFigures, RetrievalFigures
from veduta.learn.training.schedule import Epoch
from veduta.recognize import open_model
from veduta.recognize.confidence import PRECISIONS
from veduta.recognize.network_scores import fit_confidence, log_odds

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIDE = 16
NAMES = ("arch, the “old”", 'dome|"1"', "tower\n2", "ärch", "zoo")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

CLASSES = """
about = "A tiny network."
[input]
size = 16
mean = [0.4, 0.5, 0.6]
std = [0.2, 0.25, 0.3]
[network]
layers = [
  { conv = 4, activation = "relu" }, { batch-norm = true }, { pool = "max" }, { flatten = true },
  { dense = 12 }, { dropout = 0.2 }, { dense = "classes" },
]
[training]
epochs = 4
batch = 16
learning_rate = 0.01
"""
PAIR = """
input = { size = 16 }
[network]
layers = [
  { conv = 4, activation = "relu" }, { pool = "max" }, { flatten = true },
  { dense = 6, activation = "relu" }, { dense = 1, activation = "sigmoid" },
]
[loss]
name = "binary-cross-entropy"
[training]
epochs = 2
"""
DRAWING = """
input = { size = 16 }
[network]
layers = [
  { noise = 0.1 }, { conv = 4, padding = "same", activation = "relu" }, { pool = "max" },
  { flatten = true }, { dense = 10 },
]
decoder = [
  { dense = 256, activation = "relu" }, { reshape = [4, 8, 8] },
  { deconv = 3, kernel = 3, stride = 2, padding = "same", activation = "sigmoid" },
]
[loss]
name = "mse"
[training]
epochs = 2
monitor = "val_loss"
"""


def painted(
    root: Path, names: tuple[str, ...], counts: dict[str, int], side: int = SIDE, seed: int = 0
) -> Path:
    """Noise in a colour of each class, close enough to each other that some are confused."""
    generator = np.random.default_rng(seed)
    for part, count in counts.items():
        for code, name in enumerate(names):
            folder = root / part / name
            folder.mkdir(parents=True)
            colour = 255 * np.array([code / len(names), 0.5, 1 - code / len(names)])
            for number in range(count):
                tint = colour + generator.normal(0, 45, 3)
                noise = generator.normal(0, 50, (side, side, 3)) + tint
                pixels = np.clip(noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def recipe_of(folder: Path, text: str, name: str = "tiny") -> Recipe:
    file = folder / f"{name}.toml"
    file.write_text(text, "utf-8")
    return open_recipe(str(file))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("runs")
    painted(home / "photos", NAMES, {"train": 14, "val": 9, "test": 8})
    painted(home / "pair", ("gate", "temple"), {"train": 8, "test": 6}, seed=1)
    yield home
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(home: Path) -> tuple[Path, Card]:
    """A run on five classes."""
    recipe = recipe_of(home, CLASSES)
    return home / "run", train(recipe, home / "photos", home / "run", command="veduta train tiny")


@pytest.fixture(scope="module")
def pair(home: Path) -> tuple[Path, Card]:
    """A run on two classes with a single output."""
    return home / "two", train(recipe_of(home, PAIR, "pair"), home / "pair", home / "two")


@pytest.fixture(scope="module")
def drawing(home: Path) -> tuple[Path, Card]:
    """A run of an autoencoder."""
    recipe = recipe_of(home, DRAWING, "drawing")
    return home / "drawn", train(recipe, home / "photos", home / "drawn")


@pytest.fixture
def copied(made: tuple[Path, Card], tmp_path: Path) -> Path:
    """The run in another place."""
    return Path(shutil.copytree(made[0], tmp_path / "moved"))


def asked(run: Path, files: list[Path], mean: Any = MEAN, std: Any = STD) -> list[NDArray[Any]]:
    """Ask `model.onnx` by hand: Pillow, numpy and ONNX Runtime alone."""
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float64) for file in files])
    batch = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(run / "model.onnx"))
    return session.run(None, {"photos": batch})


def files_of(root: Path, part: str) -> tuple[list[Path], list[str]]:
    files = sorted((root / part).glob("*/*.png"))
    return files, [file.parent.name for file in files]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class TestFolder:
    def test_all_of_it_and_nothing_else(self, made: tuple[Path, Card]) -> None:
        found = {str(file.relative_to(made[0])) for file in made[0].rglob("*")} - {".lock"}
        assert found == {
            "recipe.toml",
            "model.onnx",
            "model.json",
            "model.safetensors",
            "recognizer",
            "recognizer/model.json",
            "card.json",
            "card.md",
            "history.csv",
            "accuracy.png",
            "loss.png",
            "answers.csv",
            "classification.txt",
            "confusion.csv",
            "confusion.png",
        }

    def test_settings_of_the_encoder(self, made: tuple[Path, Card]) -> None:
        assert json.loads((made[0] / "model.json").read_text("utf-8")) == {
            "sizes": [SIDE],
            "fit": "squash",
            "mean": list(MEAN),
            "std": list(STD),
            "scale": 1 / 255,
            "pooling": "graph",
            "output": "descriptor",
        }

    def test_nothing_appears_when_something_fails(self, tmp_path: Path) -> None:
        (tmp_path / CARD).write_text("old")

        def fail() -> None:
            with atomic_files(tmp_path, last=CARD) as draft:
                (draft / "a").write_text("new")
                raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            fail()
        assert [file.name for file in tmp_path.iterdir()] == [CARD]
        assert (tmp_path / CARD).read_text() == "old"

    def test_what_says_that_all_is_there_comes_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "stale").touch()
        moved = []
        move = Path.replace

        def watched(self: Path, target: Path) -> Path:
            moved.append((self.name, (tmp_path / CARD).exists()))
            return move(self, target)

        monkeypatch.setattr(Path, "replace", watched)
        with atomic_files(tmp_path, last=CARD) as draft:
            (draft / CARD).touch()
            (draft / "z").touch()
            (draft / "b").mkdir()
        assert moved == [("b", False), ("z", False), (CARD, False)]
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["b", CARD, "z"]

    def test_epochs(self, made: tuple[Path, Card]) -> None:
        rows = read_csv(made[0] / "history.csv")
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
        best = max(range(4), key=lambda at: (float(rows[at]["val_accuracy"]), -at))
        assert made[1].best_epoch == best + 1 and made[1].epochs == 4
        kept = float(rows[best]["val_accuracy"])
        assert made[1].val is not None and made[1].val.accuracy == pytest.approx(kept, abs=1e-6)

    def test_pictures_are_drawn(self, made: tuple[Path, Card]) -> None:
        for name in ("accuracy", "loss", "confusion"):
            with Image.open(made[0] / f"{name}.png") as drawn:
                assert drawn.width == 1200
                assert len(drawn.convert("RGB").getcolors(1 << 20) or []) > 20

    @pytest.mark.parametrize("values", [[0.5], [0.5, math.nan, 0.7]])
    def test_curves_of_few_or_undefined_values(self, tmp_path: Path, values: list[float]) -> None:
        history = [
            Epoch(number, 1.0, 0.1, value, None, None, None)
            for number, value in enumerate(values, 1)
        ]
        write_curves(history, len(values), "tiny", tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["loss.png"]


class TestFigures:
    """Each number again, by scikit-learn, from ONNX Runtime's outputs for Pillow's pixels."""

    @pytest.fixture(scope="class")
    def outputs(self, made: tuple[Path, Card], home: Path) -> dict[str, Any]:
        found = {}
        for part in ("train", "val", "test"):
            files, labels = files_of(home / "photos", part)
            features, logits = asked(made[0], files)
            found[part] = files, np.array(labels), features, softmax(logits)
        return found

    @pytest.mark.parametrize("part", ["val", "test"])
    def test_classification(
        self, made: tuple[Path, Card], outputs: dict[str, Any], part: str
    ) -> None:
        _, labels, _, shares = outputs[part]
        answers = np.array(sorted(NAMES))[shares.argmax(axis=1)]
        figures = getattr(made[1], part)
        names = sorted(NAMES)
        assert 0.3 < figures.accuracy < 1  # neither by chance nor beyond doubt
        assert figures.photos == len(labels)
        assert figures.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
        assert figures.balanced_accuracy == pytest.approx(
            metrics.balanced_accuracy_score(labels, answers)
        )
        assert figures.top3 == pytest.approx(
            metrics.top_k_accuracy_score(labels, shares, k=3, labels=names)
        )
        assert figures.top10 is None  # there are five classes
        assert figures.loss == pytest.approx(
            metrics.log_loss(labels, shares, labels=names), rel=1e-4
        )
        assert figures.reconstruction is None

    def test_retrieval(self, made: tuple[Path, Card], outputs: dict[str, Any]) -> None:
        (_, labels, queries, _), (_, known, gallery, _) = outputs["test"], outputs["train"]
        queries, gallery = (
            each / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
            for each in (queries, gallery)
        )
        similar = queries @ gallery.T
        precisions = [
            metrics.average_precision_score(known == label, row)
            for label, row in zip(labels, similar, strict=True)
        ]
        ranked = known[np.argsort(-similar, axis=1)] == labels[:, None]
        found = made[1].retrieval
        assert found is not None
        assert (found.queries, found.unanswerable, found.gallery) == (40, 0, 70)
        assert found.map == pytest.approx(np.mean(precisions), abs=1e-6)
        for k, value in ((1, found.top1), (3, found.top3), (10, found.top10)):
            assert value == pytest.approx(ranked[:, :k].any(axis=1).mean())

    def test_report(self, made: tuple[Path, Card], outputs: dict[str, Any]) -> None:
        _, labels, _, shares = outputs["test"]
        answers = np.array(sorted(NAMES))[shares.argmax(axis=1)]
        report = metrics.classification_report(labels, answers, output_dict=True, zero_division=0)
        lines = (made[0] / "classification.txt").read_text("utf-8").splitlines()
        assert lines[0] == "40 test photos"
        for name, shown in [
            *((name, name.replace("\n", "\\x0a")) for name in NAMES),
            ("macro avg", "macro avg"),
            ("weighted avg", "weighted avg"),
        ]:
            (line,) = [line for line in lines if line.startswith(f"{shown} ")]
            found = [float(value) for value in line.removeprefix(shown).split()]
            wanted = report[name]
            assert found == pytest.approx(
                [wanted[key] for key in ("precision", "recall", "f1-score", "support")], abs=5e-5
            )
        (line,) = [line for line in lines if line.startswith("accuracy")]
        assert float(line.split()[1]) == pytest.approx(report["accuracy"], abs=5e-5)

    def test_confusion_and_answers(self, made: tuple[Path, Card], outputs: dict[str, Any]) -> None:
        files, labels, _, shares = outputs["test"]
        names = sorted(NAMES)
        answers = np.array(names)[shares.argmax(axis=1)]
        with (made[0] / "confusion.csv").open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        assert header[1:] == names and [row[0] for row in rows] == names
        counts = [[int(value) for value in row[1:]] for row in rows]
        assert counts == metrics.confusion_matrix(labels, answers, labels=names).tolist()
        read = {row["path"]: row for row in read_csv(made[0] / "answers.csv")}
        assert len(read) == 40
        for file, label, answer, share in zip(files, labels, answers, shares, strict=True):
            row = read[f"test/{label}/{file.name}"]
            assert (row["label"], row["answer"]) == (label, answer)
            assert float(row["confidence"]) == pytest.approx(share.max(), abs=1e-5)

    def test_a_query_without_an_answer_and_a_tie(self) -> None:
        gallery = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
        codes = np.array([0, 1, 1])
        queries = np.array([[2, 0], [1, 0]], np.float32)
        found = scoring.evaluate_retrieval(queries, np.array([1, 7]), gallery, codes)
        # 0 is nearest, then the diagonal, then the other: right at ranks 2 and 3.
        assert found == RetrievalFigures(1, 1, 3, 0.0, 1.0, 1.0, pytest.approx((1 / 2 + 2 / 3) / 2))
        assert scoring.evaluate_retrieval(queries, np.array([7, 7]), gallery, codes) is None
        assert scoring.evaluate_retrieval(queries[:0], codes[:0], gallery, codes) is None
        tie = scoring.predict_by_nearest(np.ones((1, 2), np.float32), gallery[:2], codes[:2])
        assert tie.class_ids.tolist() == [0] and tie.confidence[0] == pytest.approx(0.5**0.5)

    def test_batches_hide_nothing(
        self, made: tuple[Path, Card], home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = open_recipe(str(made[0] / "recipe.toml"))
        parts = read_splits(home / "photos")
        pictures, parts = cache_images(parts, recipe.input, workers=1, max_bytes=1 << 20)
        net = build(recipe, 5).train()
        whole = scoring.run_network(net, pictures, parts.test)
        assert net.training
        monkeypatch.setattr(scoring, "BATCH", 7)
        again = scoring.run_network(net, pictures, parts.test)
        for one, other in zip(whole, again, strict=True):
            assert one is not None and other is not None
            # Sums of float32 in another order: processors differ in the last bits.
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert whole[1] is not None
        np.testing.assert_allclose(whole[1].sum(axis=1), 1)
        features, shares = scoring.run_network(net, pictures, parts.test[:0])
        assert features.shape == (0, 12) and shares is not None and shares.shape == (0, 5)


class TestExport:
    def test_onnx_is_torch(self, made: tuple[Path, Card], home: Path) -> None:
        recipe = open_recipe(str(made[0] / "recipe.toml"))
        net = build(recipe, 5)
        load_weights(net, made[0] / "model.safetensors")
        net.eval()
        files, _ = files_of(home / "photos", "test")
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        batch = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), recipe.input)
        with torch.no_grad():
            outputs = net(batch)
        features, logits = asked(made[0], files)
        scale = float(outputs.features.abs().max())
        np.testing.assert_allclose(features, outputs.features, atol=1e-5 * scale)
        np.testing.assert_allclose(logits, outputs.scores, atol=1e-4)
        assert 0 <= made[1].onnx_difference <= 1e-4

    def test_ports(self, made: tuple[Path, Card]) -> None:
        session = onnxruntime.InferenceSession(str(made[0] / "model.onnx"))
        (port,) = session.get_inputs()
        assert (port.name, port.type) == ("photos", "tensor(float)")
        assert isinstance(port.shape[0], str) and port.shape[1:] == [3, SIDE, SIDE]
        found = [(one.name, one.shape[1:]) for one in session.get_outputs()]
        assert found == [("descriptor", [12]), ("logits", [5])]

    def test_same_network_same_bytes_without_a_trace_of_this_machine(
        self, made: tuple[Path, Card], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recipe = open_recipe(str(made[0] / "recipe.toml"))
        net = build(recipe, 5).train()
        load_weights(net, made[0] / "model.safetensors")
        export(net, recipe, tmp_path)
        assert net.training
        exported = (tmp_path / "model.onnx").read_bytes()
        assert exported == (made[0] / "model.onnx").read_bytes()
        assert str(Path(veduta.__file__).parent).encode() not in exported
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("scale", [1.0, 200.0], ids=["usual", "saturated"])
    def test_a_single_sigmoid_becomes_two_columns(
        self, home: Path, tmp_path: Path, scale: float
    ) -> None:
        recipe = recipe_of(tmp_path, PAIR)
        torch.manual_seed(1)
        net = build(recipe, 2).eval()
        with torch.no_grad():
            for weights in net.layers[-1].parameters():
                weights.mul_(scale)
        assert export(net, recipe, tmp_path) <= 1e-4
        files, _ = files_of(home / "pair", "test")
        features, logits = asked(tmp_path, files, 0, 1)
        assert logits.shape == (12, 2) and features.shape == (12, 6)
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        with torch.no_grad():
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            second = net(batch).scores[:, 0].numpy()  # its sigmoid is in place again
        np.testing.assert_allclose(softmax(logits)[:, 1], second, atol=1e-5)

    def test_softmax_becomes_its_logarithm(self, tmp_path: Path) -> None:
        text = CLASSES.replace('{ dense = "classes" }', '{ dense = 4, activation = "softmax" }')
        recipe = recipe_of(tmp_path, text)
        net = build(recipe, 4).eval()
        assert net.gives_probabilities
        assert export(net, recipe, tmp_path) <= 1e-4
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        batch = np.random.default_rng(0).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
        (logits,) = session.run(["logits"], {"photos": batch})
        np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
        with torch.no_grad():
            shares = net(torch.from_numpy(batch)).scores.numpy()
        np.testing.assert_allclose(np.exp(logits), shares, atol=1e-6)

    def test_a_network_that_broke(self, made: tuple[Path, Card], tmp_path: Path) -> None:
        recipe = open_recipe(str(made[0] / "recipe.toml"))
        net = build(recipe, 5).eval()
        with torch.no_grad():
            next(iter(net.layers[-1].parameters())).fill_(math.nan)
        with pytest.raises(LearnError, match="other numbers than torch"):
            export(net, recipe, tmp_path / "run")
        assert list((tmp_path / "run").iterdir()) == []

    def test_weights_of_another_network(self, made: tuple[Path, Card], tmp_path: Path) -> None:
        net = build(open_recipe(str(made[0] / "recipe.toml")), 6)
        with pytest.raises(LearnError, match="another network"):
            load_weights(net, made[0] / "model.safetensors")
        (tmp_path / "none.safetensors").write_bytes(b"nothing")
        for name in ("none", "missing"):
            with pytest.raises(LearnError, match="cannot be read"):
                load_weights(net, tmp_path / f"{name}.safetensors")
        with pytest.raises(LearnError, match="cannot be written"):
            save_weights(net, tmp_path / "no folder" / "weights.safetensors")


class TestAutoencoder:
    def test_leaves_both_halves(self, drawing: tuple[Path, Card]) -> None:
        folder, card = drawing
        names = {file.name for file in folder.iterdir()}
        assert {"encoder.safetensors", "decoder.safetensors", "decoder.onnx"} <= names
        assert "recognizer" not in names and "accuracy.png" not in names
        assert card.answers == "nearest training photo" and card.features == 10

    def test_halves_reload_apart(self, drawing: tuple[Path, Card], home: Path) -> None:
        folder, card = drawing
        recipe = open_recipe(str(folder / "recipe.toml"))
        encoder, decoder = build(recipe, 5).encoder_part(), build(recipe, 5).decoder_part()
        load_weights(encoder, folder / "encoder.safetensors")
        load_weights(decoder, folder / "decoder.safetensors")
        files, _ = files_of(home / "photos", "test")
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        wanted = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            features = encoder.eval()(wanted)
            drawn = decoder.eval()(features).numpy()
        (described,) = asked(folder, files, 0, 1)
        np.testing.assert_allclose(described, features, atol=1e-5)
        session = onnxruntime.InferenceSession(str(folder / "decoder.onnx"))
        (again,) = session.run(["photos"], {"features": described})
        np.testing.assert_allclose(again, drawn, atol=1e-5)
        assert card.test is not None
        error = float(((drawn - wanted.numpy()) ** 2).mean())
        assert card.test.reconstruction == pytest.approx(error, rel=1e-4)

    def test_answers_are_those_of_the_nearest(self, drawing: tuple[Path, Card], home: Path) -> None:
        folder, card = drawing
        (files, labels), (known, classes) = (
            files_of(home / "photos", part) for part in ("test", "train")
        )
        (queries,), (gallery,) = asked(folder, files, 0, 1), asked(folder, known, 0, 1)
        cosine = 1 - metrics.pairwise.cosine_distances(queries, gallery)
        answers = np.array(classes)[cosine.argmax(axis=1)]
        assert card.test is not None and card.retrieval is not None
        assert card.test.accuracy == pytest.approx((answers == np.array(labels)).mean())
        assert card.test.accuracy == card.retrieval.top1
        assert card.test.loss is None and card.test.top3 is None
        read = {row["path"]: row["answer"] for row in read_csv(folder / "answers.csv")}
        assert [
            read[f"test/{label}/{file.name}"] for file, label in zip(files, labels, strict=True)
        ] == answers.tolist()

    def test_cannot_recognise(self, drawing: tuple[Path, Card]) -> None:
        with pytest.raises(NotAnIndex, match="no recogniser"):
            open_model(drawing[0])


class TestCard:
    def test_round_trip(self, made: tuple[Path, Card], drawing: tuple[Path, Card]) -> None:
        for folder, card in (made, drawing):
            assert read_card(folder) == card == read_card(folder / CARD)
            assert Card.of(json.loads(json.dumps(card.as_json()))) == card

    def test_facts(self, made: tuple[Path, Card], home: Path) -> None:
        card = made[1]
        assert card.classes == tuple(sorted(NAMES))
        assert card.photos == {"train": 70, "val": 45, "test": 40} and not card.held_out
        assert card.dataset == "photos"
        assert card.dataset_digest == read_splits(home / "photos").digest
        assert card.recipe_digest == open_recipe(str(home / "tiny.toml")).digest()
        assert card.values == open_recipe(str(home / "tiny.toml")).as_json()
        # conv 3·9·4 + 4, batch norm 4·2 and 4·2 statistics, dense 4·7·7·12 + 12, dense 12·5 + 5
        trainable = 112 + 8 + 2364 + 65
        assert card.parameters == Parameters(trainable + 8, trainable)
        assert card.parameters.non_trainable == 8
        assert card.versions["torch"] == torch.__version__.partition("+")[0]
        assert card.hardware["gpu"] == "" or torch.cuda.is_available()
        assert card.command == "veduta train tiny" and card.seed == 0
        assert card.confidence_questions == 90  # 45 photos, each also with its class hidden

    def test_held_out(self, pair: tuple[Path, Card]) -> None:
        assert pair[1].held_out and pair[1].photos["val"] > 0
        text = " ".join((pair[0] / "card.md").read_text("utf-8").split())
        assert "were taken out of the training photos (seed 0)" in text

    def test_for_a_person(self, made: tuple[Path, Card], drawing: tuple[Path, Card]) -> None:
        for folder, card in (made, drawing):
            lines = (folder / "card.md").read_text("utf-8").splitlines()
            assert max(map(len, lines)) <= 80
            text = " ".join(" ".join(lines).split())
            assert card.test is not None and f"{card.test.accuracy:.4f}" in text
            assert "test photos chose nothing: they were looked at once" in text
            assert "tower\\x0a2" in text
            assert ("class of the training photo whose" in text) == (folder == drawing[0])
        assert "fitted on 90 questions" in " ".join((made[0] / "card.md").read_text().split())

    def test_says_when_the_test_is_no_test(self, made: tuple[Path, Card]) -> None:
        without = replace(made[1], test=None, retrieval=None, judged="val")
        text = " ".join(card_markdown(without).split())
        assert "There are no test photos" in text and "looked at once" not in text
        bare = replace(without, val=None, judged="", problems=("x " * 60, "y"))
        text = card_markdown(bare)
        assert "nothing was measured" in text and "\n- x x" in text and "\n- y\n" in text
        unfitted = card_markdown(replace(made[1], confidence_questions=0))
        assert "the network's own probabilities" in " ".join(unfitted.split())
        two = card_markdown(replace(made[1], classes=("a", "b")))
        assert "photos of something else are named too" in " ".join(two.split())

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(LearnError, match="no run there"):
            read_card(tmp_path)
        (tmp_path / "recipe.toml").touch()
        with pytest.raises(LearnError, match="not finished"):
            read_card(tmp_path)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"format": 2}, "format 2"),
            ({"seed": ...}, "has no seed"),
            ({"val": {"photos": 3}}, "not as it should be"),
            ({"val": 3}, "not as it should be"),
            ({"parameters": {}}, "not as it should be"),
        ],
    )
    def test_damaged(self, copied: Path, change: dict[str, Any], told: str) -> None:
        values = json.loads((copied / CARD).read_text("utf-8")) | change
        kept = {key: value for key, value in values.items() if value is not ...}
        (copied / CARD).write_text(json.dumps(kept))
        with pytest.raises(LearnError, match=told) as caught:
            read_card(copied)
        assert str(copied) in str(caught.value)

    @pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
    def test_no_json(self, copied: Path, text: str) -> None:
        (copied / CARD).write_bytes(text.encode("latin-1"))
        with pytest.raises(LearnError, match="does not read as the card"):
            read_card(copied)

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


class TestEncoder:
    def test_descriptors_are_the_features_of_training(
        self, made: tuple[Path, Card], tmp_path: Path
    ) -> None:
        """Through an index, of photos of another size and shape."""
        recipe = open_recipe(str(made[0] / "recipe.toml"))
        painted(tmp_path / "photos", ("a", "b"), {"": 3}, side=50)
        generator = np.random.default_rng(3)
        wide = generator.integers(0, 256, (90, 1300, 3), dtype=np.uint8)
        Image.fromarray(wide).save(tmp_path / "photos" / "a" / "wide.jpg")
        parts = read_splits(tmp_path / "photos", validation=0)
        pictures, parts = cache_images(parts, recipe.input, workers=1, max_bytes=1 << 20)
        net = build(recipe, 5)
        load_weights(net, made[0] / "model.safetensors")
        features, _ = scoring.run_network(net, pictures, parts.train)
        index = veduta.create(tmp_path / "index", encoder=str(made[0]))
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
            encoder = index.engine.encoder
            prepared = encoder.prepare(photos.load(path, at_least=1024).pixels)
            (described,) = encoder.encode([prepared])
            assert described @ feature / np.linalg.norm(feature) == pytest.approx(1, abs=1e-4)

    def test_by_folder_from_anywhere(
        self, made: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = load_encoder(str(made[0] / "model.onnx"))
        monkeypatch.chdir(made[0].parent)
        for name in ("run", "./run", str(made[0])):
            encoder = load_encoder(name)
            assert (encoder.name, encoder.identity) == (str(made[0]), whole.identity)
        assert whole.dimension == 12

    def test_other_folders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[Path, Card]
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
        shutil.copytree(made[0], "fast")
        assert load_encoder("fast").dimension == 1280

    def test_class_scores(self, made: tuple[Path, Card], home: Path) -> None:
        encoder = load_encoder(str(made[0]))
        files, _ = files_of(home / "photos", "test")
        prepared = [encoder.prepare(photos.load(file).pixels) for file in files[:11]]
        scores = encoder.class_scores(prepared, "logits")
        np.testing.assert_allclose(scores, asked(made[0], files[:11])[1], atol=1e-4)
        assert encoder.class_scores([], "logits").shape == (0, 5)
        with pytest.raises(EncoderError, match="no output 'other'"):
            encoder.class_scores(prepared, "other")


class TestRecogniser:
    def test_names_what_the_network_says(
        self, copied: Path, made: tuple[Path, Card], home: Path
    ) -> None:
        """Of a run that was moved."""
        files, _ = files_of(home / "photos", "test")
        shares = softmax(asked(made[0], files)[1])
        for model in (open_model(copied), open_model(copied / "recognizer")):
            assert model.names == tuple(sorted(NAMES))
            assert model.confidence.questions == 90
            for file, share in list(zip(files, shares, strict=True))[::9]:
                seen = model.recognize(file)
                assert seen.guess == model.names[share.argmax()]
                ranked = [seen.guess, *(name for name, _ in seen.runners_up)]
                assert ranked == [model.names[code] for code in np.argsort(-share)]
                odds = math.log(share.max() / (1 - share.max()))
                slope, constant = model.confidence.weights
                wanted = 1 / (1 + math.exp(-(slope * odds + constant)))
                assert seen.confidence == pytest.approx(wanted, abs=1e-4)

    def test_facts(self, made: tuple[Path, Card]) -> None:
        facts = json.loads((made[0] / "recognizer" / "model.json").read_text("utf-8"))
        assert facts["scores"] == "logits"
        assert facts["encoder"]["name"] == "../model.onnx"
        assert facts["encoder"]["identity"] == load_encoder(str(made[0])).identity

    def test_on_the_command_line(
        self, copied: Path, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files, labels = files_of(home / "photos", "test")
        assert cli(["recognize", "--model", str(copied), "--json", *map(str, files)]) == 0
        out, err = capsys.readouterr()
        answers = json.loads(out)
        assert err == "" and [row["guess"] in NAMES for row in answers] == [True] * 40
        guessed = sum(row["guess"] == label for row, label in zip(answers, labels, strict=True))
        card = read_card(copied)
        assert card.test is not None and guessed == round(40 * card.test.accuracy)

    def test_says_that_confidences_are_the_networks_own(
        self, pair: tuple[Path, Card], home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Two validation photos teach nothing."""
        assert pair[1].confidence_questions == 0
        (file, *_), _ = files_of(home / "pair", "test")
        assert cli(["recognize", "--model", str(pair[0]), "--precision", "0.5", str(file)]) == 0
        out, err = capsys.readouterr()
        assert "too few validation photos" in err
        seen = open_model(pair[0]).recognize(file, precision=0.5)
        (share,) = softmax(asked(pair[0], [file], 0, 1)[1])
        assert seen.confidence == pytest.approx(share.max(), abs=1e-5)
        assert seen.label == ("gate", "temple")[share.argmax()] and seen.label in out

    def test_several_photos(self, made: tuple[Path, Card], home: Path) -> None:
        files, _ = files_of(home / "photos", "test")
        some = files[:3]
        mean = asked(made[0], some)[1].mean(axis=0)
        assert open_model(made[0]).recognize(*some).guess == sorted(NAMES)[mean.argmax()]

    def test_saved_again_elsewhere(self, made: tuple[Path, Card], tmp_path: Path) -> None:
        open_model(made[0]).save(tmp_path / "deep" / "model")
        assert open_model(tmp_path / "deep" / "model").names == tuple(sorted(NAMES))

    @pytest.mark.parametrize(
        ("facts", "told"),
        [
            ({"scores": "cubic"}, "its scores are 'cubic'"),
            ({"names": ["a", "b"]}, "has 2 names, but its network 5 classes"),
            ({"scores": "linear"}, "does not read back"),
        ],
    )
    def test_wrong_facts(self, copied: Path, facts: dict[str, Any], told: str) -> None:
        file = copied / "recognizer" / "model.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | facts))
        with pytest.raises(CollectionError, match=told):
            open_model(copied)

    def test_an_encoder_that_is_gone_or_another(
        self, copied: Path, drawing: tuple[Path, Card]
    ) -> None:
        shutil.copy(drawing[0] / "model.onnx", copied / "model.onnx")
        with pytest.raises(EncoderMismatch):
            open_model(copied)
        (copied / "model.onnx").unlink()
        with pytest.raises(EncoderUnavailable, match="no such file"):
            open_model(copied)


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
        assert fitted.questions == 800
        assert 0 < fitted.weights[0] < 0.5
        confident = fitted.of(log_odds(10 * logits).max(axis=1)[:, None])
        # Half of the questions are unanswerable, so it is below the share of right answers.
        right = (logits.argmax(axis=1) == codes).mean()
        assert 0.4 < confident.mean() < right
        assert fitted.threshold(0.6) < fitted.threshold(0.9)

    @pytest.mark.parametrize("codes", [[0] * 29, [0] * 40], ids=["too few", "no mistake"])
    def test_nothing_to_learn_from(self, codes: list[int]) -> None:
        logits = np.tile([3.0, 0.0], (len(codes), 1))
        fitted = fit_confidence(logits, np.array(codes))
        assert (fitted.questions, fitted.thresholds) == (0, PRECISIONS)
        assert fitted.of(np.array([[math.log(3)]])) == pytest.approx(0.75)


def altered(run: Path, folder: Path, answers: list[str] | None = None, **facts: Any) -> Path:
    """A copy of a run's card and answers, with other facts or answers."""
    folder.mkdir()
    (folder / CARD).write_text(json.dumps({**read_card(run).as_json(), **facts}))
    rows = read_csv(run / "answers.csv")
    if answers is not None:
        rows = [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)]
    write_csv(folder / "answers.csv", list(rows[0]), [list(row.values()) for row in rows])
    return folder


class TestCompare:
    def test_table(
        self,
        made: tuple[Path, Card],
        drawing: tuple[Path, Card],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert cli(["compare", str(drawing[0]), str(made[0])]) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].split() == [
            "acc",
            "top-1",
            "top-3",
            "top-10",
            "mAP",
            "parameters",
            "epochs",
            "time",
        ]
        card = made[1]
        assert card.test is not None and card.retrieval is not None
        shares = (
            card.test.accuracy,
            card.retrieval.top1,
            card.retrieval.top3,
            card.retrieval.top10,
            card.retrieval.map,
        )
        assert lines[2].split()[:8] == ["run", *(f"{x:.3f}" for x in shares), "2,557", "4"]
        assert "accuracy minus that of drawn" in out
        assert "answers are those of the nearest training photo: drawn" in err

    def test_differences(self, made: tuple[Path, Card], tmp_path: Path) -> None:
        rows = read_csv(made[0] / "answers.csv")
        labels = [row["label"] for row in rows]
        half = [label if at % 2 else "none" for at, label in enumerate(labels)]
        runs = [
            open_run(altered(made[0], tmp_path / name, answers))
            for name, answers in (("half", half), ("all", labels), ("same", half))
        ]
        done = compare_runs(runs, ["half", "all", "same"])
        (best, same) = done.differences
        assert (best.run, best.photos, best.accuracy, best.first) == ("all", 40, 1.0, 0.5)
        assert best.difference == 0.5
        # The difference of each photo is 0 or 1: a binomial, whose spread is known.
        low, high = best.interval
        assert low == pytest.approx(0.5 - 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert high == pytest.approx(0.5 + 1.96 * 0.5 / 40**0.5, abs=0.03)
        assert best.p_holm == min(1.0, 2 * best.p_value) and best.p_value < 0.01
        assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, (0.0, 0.0))
        assert done.notes == ()

    def test_what_is_not_comparable(self, made: tuple[Path, Card], tmp_path: Path) -> None:
        first = open_run(made[0])
        assert first.answers is not None
        other = open_run(altered(made[0], tmp_path / "other", dataset_digest="0" * 16))
        (note,) = compare_runs([first, other], ["a", "b"]).notes
        assert "trained on different photos, labels or parts (a; b)" in note
        paths = sorted(first.answers)
        fewer = Run(first.folder, first.card, {p: first.answers[p] for p in paths[:30]})
        done = compare_runs([first, fewer], ["a", "b"])
        assert done.differences[0].photos == 30
        assert done.notes == (
            "b: compared with a on the 30 photos that both answered; 10 others are left out",
        )
        cases = {
            "no photo is judged in both": {"elsewhere.jpg": ("a", "a")},
            "40 photos have other labels": dict.fromkeys(paths, ("other", "x")),
            "has no answers.csv": None,
        }
        for told, answers in cases.items():
            done = compare_runs([first, Run(first.folder, first.card, answers)], ["a", "b"])
            assert not done.differences and told in done.notes[0]
        judged = replace(first.card, judged="val")
        done = compare_runs([first, Run(first.folder, judged, first.answers)], ["a", "b"])
        assert not done.differences
        assert "without test photos" in done.notes[0]
        assert "one is judged on test photos" in done.notes[1]

    def test_sorted(self, made: tuple[Path, Card], drawing: tuple[Path, Card]) -> None:
        runs = {name: open_run(run[0]) for name, run in (("a", made), ("b", drawing))}
        none = replace(runs["a"].card, test=None, judged="", retrieval=None)
        runs["c"] = Run(made[0], none, None)

        def order(key: str | None) -> str:
            given = ["c", "a", "b"]
            return "".join(compare_runs([runs[name] for name in given], given, sort=key).names)

        accuracies = [runs[name].card.test for name in "ab"]
        assert all(isinstance(each, ClassificationFigures) for each in accuracies)
        better = "ab" if accuracies[0].accuracy >= accuracies[1].accuracy else "ba"
        assert order(None) == "cab"
        assert order("accuracy") == f"{better}c"
        assert order("recipe") == "bca"  # drawing, tiny, tiny
        smaller = sorted("cab", key=lambda name: runs[name].card.parameters.total)
        assert order("parameters") == "".join(smaller)
        with pytest.raises(ValueError, match="none of"):
            order("colour")

    def test_csv_json_and_markdown(
        self,
        made: tuple[Path, Card],
        pair: tuple[Path, Card],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        names = [str(made[0]), str(pair[0] / CARD)]
        assert cli(["compare", *names, "--json", "--csv", str(tmp_path / "t.csv")]) == 0
        out, err = capsys.readouterr()
        told = json.loads(out)
        assert [row["run"] for row in told["runs"]] == ["run", "two"]
        assert made[1].test is not None
        assert told["runs"][0]["accuracy"] == made[1].test.accuracy
        assert told["runs"][1]["top10"] == pair[1].retrieval.top10  # type: ignore[union-attr]
        assert told["differences"] == [] and "trained on different photos" in err
        with (tmp_path / "t.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert [row["run"] for row in rows] == ["run", "two"]
        assert float(rows[0]["map"]) == told["runs"][0]["map"]
        assert rows[0].keys() == told["runs"][0].keys()
        assert cli(["compare", *names, "--markdown", "--sort", "parameters"]) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[0].startswith("| run | recipe | accuracy | top-1 |")
        assert {line.count("|") for line in table} == {11}
        least = min((made, pair), key=lambda each: each[1].parameters.total)
        assert table[2].startswith(f"| {least[0].name} |")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["RUN", "RUN"],
            ["RUN", "report"],
            ["report", "other", "--markdown"],
            ["RUN", "--sort", "beauty"],
        ],
    )
    def test_wrong_calls(
        self, made: tuple[Path, Card], tmp_path: Path, arguments: list[str]
    ) -> None:
        for name in ("report", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "report.json").write_text("{}")
        places = {"RUN": made[0], "report": tmp_path / "report", "other": tmp_path / "other"}
        assert cli(["compare", *(str(places.get(word, word)) for word in arguments)]) == 2

    def test_damaged(self, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (copied / "answers.csv").write_text("path,label\na,b\n")
        assert cli(["compare", str(copied)]) == 3
        assert "answers.csv: does not read as the answers of a run" in capsys.readouterr().err
        (copied / CARD).unlink()
        assert cli(["compare", str(copied)]) == 3
        assert "not finished" in capsys.readouterr().err
        assert cli(["compare", str(copied), "--csv", str(copied / "no" / "t.csv")]) == 3

    def test_words_of_the_command_line(self) -> None:
        assert tuple(SORTED_BY) == cli_compare.SORTED_BY
        assert cli_compare.CARD == CARD
