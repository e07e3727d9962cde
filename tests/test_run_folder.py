"""Files of a run folder, and its figures computed again by scikit-learn."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import onnxruntime
from sklearn import metrics
from tiny_runs import MEAN, NAMES, SIDE, STD, RunAndCard, ask_model, files_of, softmax

from veduta.errors import (
    NotAnIndex,
)
from veduta.files import atomic_files
from veduta.learn.data.image_cache import cache_images
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import open_recipe
from veduta.learn.runs.card import (
    CARD_FILE,
)
from veduta.learn.runs.export import load_weights
from veduta.learn.runs.history import read_history, write_curves, write_history
from veduta.learn.runs.prediction_files import read_csv
from veduta.learn.training import scoring
from veduta.learn.training.figures import RetrievalFigures
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.schedule import Epoch
from veduta.recognize import open_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


class TestFolder:
    def test_all_of_it_and_nothing_else(self, class_run: RunAndCard) -> None:
        found = {str(file.relative_to(class_run[0])) for file in class_run[0].rglob("*")} - {
            ".lock"
        }
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
            "submission.csv",
            "solution.csv",
        }

    def test_settings_of_the_encoder(self, class_run: RunAndCard) -> None:
        assert json.loads((class_run[0] / "model.json").read_text("utf-8")) == {
            "sizes": [SIDE],
            "fit": "squash",
            "mean": list(MEAN),
            "std": list(STD),
            "scale": 1 / 255,
            "pooling": "graph",
            "output": "descriptor",
        }

    def test_nothing_appears_when_something_fails(self, tmp_path: Path) -> None:
        (tmp_path / CARD_FILE).write_text("old")

        def fail() -> None:
            with atomic_files(tmp_path, last=CARD_FILE) as draft:
                (draft / "a").write_text("new")
                raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            fail()
        assert [file.name for file in tmp_path.iterdir()] == [CARD_FILE]
        assert (tmp_path / CARD_FILE).read_text() == "old"

    def test_what_says_that_all_is_there_comes_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "stale").touch()
        moved = []
        move = Path.replace

        def watched(self: Path, target: Path) -> Path:
            moved.append((self.name, (tmp_path / CARD_FILE).exists()))
            return move(self, target)

        monkeypatch.setattr(Path, "replace", watched)
        with atomic_files(tmp_path, last=CARD_FILE) as draft:
            (draft / CARD_FILE).touch()
            (draft / "z").touch()
            (draft / "b").mkdir()
        assert moved == [("b", False), ("z", False), (CARD_FILE, False)]
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["b", CARD_FILE, "z"]

    def test_epochs(self, class_run: RunAndCard) -> None:
        folder, card = class_run
        rows = read_csv(folder / "history.csv")
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
        best = max(range(4), key=lambda row: (float(rows[row]["val_accuracy"]), -row))
        assert card.best_epoch == best + 1 and card.epochs == 4
        kept = float(rows[best]["val_accuracy"])
        assert card.val is not None and card.val.accuracy == pytest.approx(kept, abs=1e-6)
        history = read_history(folder / "history.csv")
        assert [epoch.val_accuracy for epoch in history] == [
            float(row["val_accuracy"]) for row in rows
        ]
        assert [epoch.number for epoch in history] == [1, 2, 3, 4]

    def test_pictures_are_drawn(self, class_run: RunAndCard) -> None:
        for name in ("accuracy", "loss", "confusion"):
            with Image.open(class_run[0] / f"{name}.png") as drawn:
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
        write_history(history, tmp_path / "history.csv")
        assert repr(read_history(tmp_path / "history.csv")) == repr(history)

    def test_a_history_that_is_none(self, tmp_path: Path) -> None:
        for text in ("epoch,seconds\n1,2\n", "epoch\nx\n"):
            (tmp_path / "history.csv").write_text(text)
            with pytest.raises(ValueError, match=r"no column 'learning_rate'|invalid literal"):
                read_history(tmp_path / "history.csv")


class TestFigures:
    """Each number again, by scikit-learn, from ONNX Runtime's outputs for Pillow's pixels."""

    @pytest.fixture(scope="class")
    def outputs(self, class_run: RunAndCard, run_home: Path) -> dict[str, Any]:
        found = {}
        for part in ("train", "val", "test"):
            files, labels = files_of(run_home / "photos", part)
            features, logits = ask_model(class_run[0], files)
            found[part] = files, np.array(labels), features, softmax(logits)
        return found

    @pytest.mark.parametrize("part", ["val", "test"])
    def test_classification(
        self, class_run: RunAndCard, outputs: dict[str, Any], part: str
    ) -> None:
        _, labels, _, shares = outputs[part]
        answers = np.array(sorted(NAMES))[shares.argmax(axis=1)]
        figures = getattr(class_run[1], part)
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

    def test_retrieval(self, class_run: RunAndCard, outputs: dict[str, Any]) -> None:
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
        found = class_run[1].retrieval
        assert found is not None
        assert (found.queries, found.unanswerable, found.gallery) == (40, 0, 70)
        assert found.map == pytest.approx(np.mean(precisions), abs=1e-6)
        for k, value in ((1, found.top1), (3, found.top3), (10, found.top10)):
            assert value == pytest.approx(ranked[:, :k].any(axis=1).mean())

    def test_report(self, class_run: RunAndCard, outputs: dict[str, Any]) -> None:
        _, labels, _, shares = outputs["test"]
        answers = np.array(sorted(NAMES))[shares.argmax(axis=1)]
        report = metrics.classification_report(labels, answers, output_dict=True, zero_division=0)
        lines = (class_run[0] / "classification.txt").read_text("utf-8").splitlines()
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

    def test_confusion_and_answers(self, class_run: RunAndCard, outputs: dict[str, Any]) -> None:
        files, labels, _, shares = outputs["test"]
        names = sorted(NAMES)
        answers = np.array(names)[shares.argmax(axis=1)]
        with (class_run[0] / "confusion.csv").open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        assert header[1:] == names and [row[0] for row in rows] == names
        counts = [[int(value) for value in row[1:]] for row in rows]
        assert counts == metrics.confusion_matrix(labels, answers, labels=names).tolist()
        read = {row["path"]: row for row in read_csv(class_run[0] / "answers.csv")}
        assert len(read) == 40
        for file, label, answer in zip(files, labels, answers, strict=True):
            row = read[f"test/{label}/{file.name}"]
            assert (row["label"], row["answer"]) == (label, answer)
            recognised = open_model(class_run[0]).recognize(file)
            assert float(row["confidence"]) == pytest.approx(recognised.confidence, abs=1e-5)

    def test_a_query_without_an_answer_and_a_tie(self) -> None:
        gallery = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
        codes = np.array([0, 1, 1])
        queries = np.array([[2, 0], [1, 0]], np.float32)
        found = scoring.evaluate_retrieval(queries, np.array([1, 7]), gallery, codes)
        # 0 is nearest, then the diagonal, then the other: right at ranks 2 and 3.
        mean = pytest.approx((1 / 2 + 2 / 3) / 2)
        assert found == RetrievalFigures(1, 1, 3, 0.0, 1.0, 1.0, mean, 1.0)
        assert scoring.evaluate_retrieval(queries, np.array([7, 7]), gallery, codes) is None
        assert scoring.evaluate_retrieval(queries[:0], codes[:0], gallery, codes) is None
        tie = scoring.predict_by_nearest(np.ones((1, 2), np.float32), gallery[:2], codes[:2])
        assert tie.class_ids.tolist() == [0] and tie.confidence[0] == pytest.approx(0.5**0.5)

    def test_batches_hide_nothing(
        self, class_run: RunAndCard, run_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = open_recipe(str(class_run[0] / "recipe.toml"))
        parts = read_splits(run_home / "photos")
        pictures, parts = cache_images(parts, recipe.input, workers=1, max_bytes=1 << 20)
        net = build_network(recipe, 5).train()
        whole = scoring.run_network(net, pictures, parts.test)
        assert net.training
        monkeypatch.setattr(scoring, "BATCH_SIZE", 7)
        again = scoring.run_network(net, pictures, parts.test)
        for one, other in zip(whole, again, strict=True):
            assert one is not None and other is not None
            # Sums of float32 in another order: processors differ in the last bits.
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert whole[1] is not None
        np.testing.assert_allclose(whole[1].sum(axis=1), 1)
        features, shares = scoring.run_network(net, pictures, parts.test[:0])
        assert features.shape == (0, 12) and shares is not None and shares.shape == (0, 5)


class TestAutoencoder:
    def test_leaves_both_halves(self, autoencoder_run: RunAndCard) -> None:
        folder, card = autoencoder_run
        names = {file.name for file in folder.iterdir()}
        assert {"encoder.safetensors", "decoder.safetensors", "decoder.onnx"} <= names
        assert "recognizer" not in names and "accuracy.png" not in names
        assert card.answers == "nearest training photo" and card.features == 10

    def test_halves_reload_apart(self, autoencoder_run: RunAndCard, run_home: Path) -> None:
        folder, card = autoencoder_run
        recipe = open_recipe(str(folder / "recipe.toml"))
        encoder, decoder = (
            build_network(recipe, 5).encoder_part(),
            build_network(recipe, 5).decoder_part(),
        )
        load_weights(encoder, folder / "encoder.safetensors")
        load_weights(decoder, folder / "decoder.safetensors")
        files, _ = files_of(run_home / "photos", "test")
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        wanted = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            features = encoder.eval()(wanted)
            drawn = decoder.eval()(features).numpy()
        (described,) = ask_model(folder, files, 0, 1)
        np.testing.assert_allclose(described, features, atol=1e-5)
        session = onnxruntime.InferenceSession(str(folder / "decoder.onnx"))
        (again,) = session.run(["photos"], {"features": described})
        np.testing.assert_allclose(again, drawn, atol=1e-5)
        assert card.test is not None
        error = float(((drawn - wanted.numpy()) ** 2).mean())
        assert card.test.reconstruction == pytest.approx(error, rel=1e-4)

    def test_answers_are_those_of_the_nearest(
        self, autoencoder_run: RunAndCard, run_home: Path
    ) -> None:
        folder, card = autoencoder_run
        (files, labels), (known, classes) = (
            files_of(run_home / "photos", part) for part in ("test", "train")
        )
        (queries,), (gallery,) = ask_model(folder, files, 0, 1), ask_model(folder, known, 0, 1)
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

    def test_cannot_recognise(self, autoencoder_run: RunAndCard) -> None:
        with pytest.raises(NotAnIndex, match="no recogniser"):
            open_model(autoencoder_run[0])
