"""The trained network as ONNX and safetensors files."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import onnxruntime
from tiny_runs import CLASSES, PAIR, SIDE, RunAndCard, ask_model, files_of, recipe_of, softmax

import veduta
from veduta.errors import (
    LearnError,
)
from veduta.learn.data.image_cache import normalise
from veduta.learn.recipe import open_recipe
from veduta.learn.runs.export import export_network, load_weights, save_weights
from veduta.learn.training.recipe_network import build_network

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("one_torch_thread"),
]


class TestExport:
    def test_onnx_is_torch(self, class_run: RunAndCard, run_home: Path) -> None:
        recipe = open_recipe(str(class_run[0] / "recipe.toml"))
        net = build_network(recipe, 5)
        load_weights(net, class_run[0] / "model.safetensors")
        net.eval()
        files, _ = files_of(run_home / "photos", "test")
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        batch = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), recipe.input)
        with torch.no_grad():
            outputs = net(batch)
        features, logits = ask_model(class_run[0], files)
        scale = float(outputs.features.abs().max())
        np.testing.assert_allclose(features, outputs.features, atol=1e-5 * scale)
        np.testing.assert_allclose(logits, outputs.scores, atol=1e-4)
        assert 0 <= class_run[1].onnx_difference <= 1e-4

    def test_ports(self, class_run: RunAndCard) -> None:
        session = onnxruntime.InferenceSession(str(class_run[0] / "model.onnx"))
        (port,) = session.get_inputs()
        assert (port.name, port.type) == ("photos", "tensor(float)")
        assert isinstance(port.shape[0], str) and port.shape[1:] == [3, SIDE, SIDE]
        found = [(one.name, one.shape[1:]) for one in session.get_outputs()]
        assert found == [("descriptor", [12]), ("logits", [5])]

    def test_same_network_same_bytes_without_a_trace_of_this_machine(
        self, class_run: RunAndCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recipe = open_recipe(str(class_run[0] / "recipe.toml"))
        net = build_network(recipe, 5).train()
        load_weights(net, class_run[0] / "model.safetensors")
        export_network(net, recipe, tmp_path)
        assert net.training
        exported = (tmp_path / "model.onnx").read_bytes()
        assert exported == (class_run[0] / "model.onnx").read_bytes()
        assert str(Path(veduta.__file__).parent).encode() not in exported
        assert capsys.readouterr() == ("", "")

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [1.0, 200.0], ids=["usual", "saturated"])
    def test_a_single_sigmoid_becomes_two_columns(
        self, run_home: Path, tmp_path: Path, scale: float
    ) -> None:
        recipe = recipe_of(tmp_path, PAIR)
        torch.manual_seed(1)
        net = build_network(recipe, 2).eval()
        with torch.no_grad():
            for weights in net.layers[-1].parameters():
                weights.mul_(scale)
        assert export_network(net, recipe, tmp_path) <= 1e-4
        files, _ = files_of(run_home / "pair", "test")
        features, logits = ask_model(tmp_path, files, 0, 1)
        assert logits.shape == (12, 2) and features.shape == (12, 6)
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        with torch.no_grad():
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            second = net(batch).scores[:, 0].numpy()  # its sigmoid is in place again
        np.testing.assert_allclose(softmax(logits)[:, 1], second, atol=1e-5)

    @pytest.mark.parametrize("behind", ["", ", { dropout = 0.5 }"], ids=["last", "before dropout"])
    def test_a_softmax_is_left_out(self, tmp_path: Path, behind: str) -> None:
        last = '{ dense = "classes", activation = "softmax" }' + behind
        text = CLASSES.replace('{ dense = "classes" }', last)
        recipe = recipe_of(tmp_path, text.replace("[training]", "features = 6\n[training]"))
        net = build_network(recipe, 4).eval()
        assert net.gives_probabilities
        with torch.no_grad():
            net.score_part().layers[6].weight.mul_(40)
        assert export_network(net, recipe, tmp_path) <= 1e-4
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        batch = np.random.default_rng(0).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
        (logits,) = session.run(["logits"], {"photos": batch})
        with torch.no_grad():
            shares = net(torch.from_numpy(batch)).scores.numpy()  # its softmax is in place again
            scores = net.score_part()(torch.from_numpy(batch)).numpy()
        np.testing.assert_allclose(softmax(logits), shares, atol=1e-5)
        np.testing.assert_allclose(logits, scores, rtol=1e-4, atol=1e-3)
        assert np.ptp(logits, axis=1).max() > 110  # a logarithm of a float32 would end at -103

    def test_probabilities_that_are_the_features(self, tmp_path: Path) -> None:
        text = CLASSES.replace('"classes" }', '"classes", activation = "softmax" }')
        recipe = recipe_of(tmp_path, text.replace("[training]", "features = 7\n[training]"))
        net = build_network(recipe, 4).eval()
        assert export_network(net, recipe, tmp_path) <= 1e-4
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        batch = np.random.default_rng(0).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
        features, logits = session.run(None, {"photos": batch})
        np.testing.assert_allclose(np.exp(logits), features, atol=1e-6)
        np.testing.assert_allclose(features.sum(axis=1), 1, rtol=1e-5)

    def test_a_network_that_broke(self, class_run: RunAndCard, tmp_path: Path) -> None:
        recipe = open_recipe(str(class_run[0] / "recipe.toml"))
        net = build_network(recipe, 5).eval()
        with torch.no_grad():
            next(iter(net.layers[-1].parameters())).fill_(math.nan)
        with pytest.raises(LearnError, match="other numbers than torch"):
            export_network(net, recipe, tmp_path / "run")
        assert list((tmp_path / "run").iterdir()) == []

    def test_weights_of_another_network(self, class_run: RunAndCard, tmp_path: Path) -> None:
        net = build_network(open_recipe(str(class_run[0] / "recipe.toml")), 6)
        with pytest.raises(LearnError, match="another network"):
            load_weights(net, class_run[0] / "model.safetensors")
        (tmp_path / "none.safetensors").write_bytes(b"nothing")
        for name in ("none", "missing"):
            with pytest.raises(LearnError, match="cannot be read"):
                load_weights(net, tmp_path / f"{name}.safetensors")
        with pytest.raises(LearnError, match="cannot be written"):
            save_weights(net, tmp_path / "no folder" / "weights.safetensors")
