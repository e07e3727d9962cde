"""Weights that a network begins with: used as far as they fit, or refused, and always said."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import safetensors.torch
from tiny_training import FLAT, LAYERS, cached, network_recipe, tiny_recipe

from veduta.errors import LearnError, RecipeError
from veduta.learn.models.networks import Net
from veduta.learn.models.weights_file import read_weights
from veduta.learn.recipe import Recipe, with_values
from veduta.learn.runs.export import save_weights
from veduta.learn.runs.train import train
from veduta.learn.training.loop import Epoch, fit
from veduta.learn.training.recipe_network import (
    FirstWeights,
    build_network,
    network_without_weights,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")

CONV = {"conv": 4, "activation": "relu"}
ENCODER = (
    {"noise": 0.1},
    {**CONV, "padding": "same"},
    {"pool": "max"},
    {"conv": 6, "padding": "same"},
    {"flatten": True},
    {"dense": 10},
)
DECODER = (
    {"dense": 64, "activation": "relu"},
    {"reshape": [4, 4, 4]},
    {"deconv": 3, "kernel": 3, "stride": 2, "padding": "same", "activation": "sigmoid"},
)
AUTOENCODER = network_recipe(ENCODER, loss="mse", decoder=DECODER)


def given(recipe: Recipe, file: Path | str) -> Recipe:
    return with_values(recipe, {"network.weights": str(file)})


def weights(net: Net) -> dict[str, Any]:
    return {name: one.detach().clone() for name, one in net.state_dict().items()}


def saved(net: torch.nn.Module, file: Path) -> Path:
    with torch.no_grad():
        for one in net.parameters():  # No number is a first value of a layer, such as zero.
            one.add_(torch.rand_like(one))
    save_weights(net, file)
    return file


def assert_equal(net: Net, source: Net, *prefixes: str) -> None:
    """Exactly the tensors with these prefixes are those of the other network."""
    other = source.state_dict()
    same = {
        name
        for name, one in net.state_dict().items()
        if name in other and one.shape == other[name].shape and torch.equal(one, other[name])
    }
    expected = {name for name in net.state_dict() if name.startswith(prefixes)}
    assert {name for name in same if "num_batches" not in name} == {
        name for name in expected if "num_batches" not in name
    }


def test_the_whole_network_of_a_run_without_a_backbone(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    source = build_network(recipe, 3)
    assert source.first_weights is None
    file = saved(source, tmp_path / "model.safetensors")
    net = build_network(given(recipe, file), 3)
    assert_equal(net, source, "layers.")
    assert net.first_weights is not None
    assert net.first_weights.text() == "8 of 8 tensors"
    assert net.first_weights.digest == read_weights(file).digest


def test_other_classes_get_a_new_last_layer(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    source = build_network(recipe, 3)
    file = saved(source, tmp_path / "model.safetensors")
    net = build_network(given(recipe, file), 5)
    assert_equal(net, source, "layers.0", "layers.1")
    assert net.first_weights is not None
    assert net.first_weights.text() == (
        "6 of 8 tensors; new: layers.4 (dense, 5 x 784); not used: layers.4 (3 x 784)"
    )
    # As many classes, but others.
    first = FirstWeights(read_weights(file), new_classes=True)
    net = build_network(recipe, 3, first=first)
    assert_equal(net, source, "layers.0", "layers.1")
    assert net.first_weights is not None
    assert "the last layer is new because the classes differ" in net.first_weights.text()
    only = tiny_recipe(layers=FLAT)
    file = saved(build_network(only, 3), tmp_path / "only.safetensors")
    with pytest.raises(LearnError, match=r"layers.1 \(dense, 3 x 768\) names the classes, which"):
        build_network(only, 3, first=FirstWeights(read_weights(file), new_classes=True))


def test_a_classifier_begins_with_the_encoder_of_an_autoencoder(tmp_path: Path) -> None:
    source = build_network(AUTOENCODER, 2)
    file = saved(source.encoder_part(), tmp_path / "encoder.safetensors")
    # Noise and pools have no weights, so their positions may differ.
    layers = (CONV | {"padding": "same"}, {"batch-norm": True}, {"flatten": True}, LAYERS[-1])
    net = build_network(given(network_recipe(layers), file), 3)
    assert torch.equal(net.layers[0][0].weight, source.layers[1][0].weight)
    assert net.first_weights is not None and net.first_weights.used == 2
    assert net.first_weights.new == (
        "layers.1 (batch-norm, 4)",
        "layers.3 (dense, 3 x 256)",
    )
    assert net.first_weights.unused == ("layers.3 (6 x 4 x 3 x 3)", "layers.5 (10 x 96)")
    siamese = network_recipe(ENCODER, loss="contrastive", features=6)
    net = build_network(given(siamese, file), 3)
    assert_equal(net, source, "layers.")
    # The file of the whole network serves as well: its decoder is not used, and that is said.
    whole = saved(source, tmp_path / "model.safetensors")
    net = build_network(given(siamese, whole), 3)
    assert_equal(net, source, "layers.")
    assert net.first_weights is not None
    assert net.first_weights.text() == (
        "6 of 6 tensors; not used: decoder.0 (64 x 10), decoder.2 (4 x 3 x 3 x 3)"
    )


def test_a_decoder_alone(tmp_path: Path) -> None:
    source = build_network(AUTOENCODER, 2)
    saved(source, tmp_path / "model.safetensors")
    file = saved(source.decoder_part(), tmp_path / "decoder.safetensors")
    net = build_network(given(AUTOENCODER, file), 2)
    assert_equal(net, source, "decoder.")
    assert net.first_weights is not None
    assert net.first_weights.new[0] == "layers.1 (conv, 4 x 3 x 3 x 3)"
    with pytest.raises(LearnError, match="none of its weights fit"):
        build_network(given(tiny_recipe(), file), 3)


def test_layers_behind_another_layer_are_new(tmp_path: Path) -> None:
    layers = ({"conv": 4}, {"conv": 5}, {"conv": 6}, {"flatten": True}, {"dense": "classes"})
    source = build_network(network_recipe(layers), 3)
    file = saved(source, tmp_path / "model.safetensors")
    changed = network_recipe((layers[0], {"conv": 7}, *layers[2:]))
    net = build_network(given(changed, file), 3)
    assert_equal(net, source, "layers.0")
    with pytest.raises(LearnError, match=r"layers.0 \(conv, 3 x 3 x 3 x 3\) in the recipe is lay"):
        build_network(given(network_recipe(({"conv": 3}, *layers[1:])), file), 3)


@pytest.mark.slow
def test_a_backbone_file_and_a_run_with_a_backbone(tmp_path: Path) -> None:
    head = ({"global": "average"}, {"dense": "classes"})
    recipe = network_recipe(head, size=32, backbone="timm:resnet18", weights="none")
    source = build_network(recipe, 3)
    file = saved(source, tmp_path / "model.safetensors")
    net = build_network(given(recipe, file), 3)
    assert_equal(net, source, "backbone.", "layers.")

    # A classifier that the file has besides is not used, and that is said.
    state = {name: one.clone() for name, one in source.backbone.network.state_dict().items()}
    published = tmp_path / "published.safetensors"
    safetensors.torch.save_file(state | {"fc.weight": torch.zeros(10, 512)}, published)
    net = build_network(given(recipe, published), 3)
    assert_equal(net, source, "backbone.")
    assert net.first_weights is not None
    assert net.first_weights.new == ("layers.1 (dense, 3 x 512)",)
    assert net.first_weights.unused == ("fc",)

    with pytest.raises(LearnError, match="begins with the weights of a backbone"):
        build_network(given(tiny_recipe(), published), 3)
    with pytest.raises(LearnError, match=r"begins with .* \(bn1.bias\), but the recipe has"):
        build_network(given(tiny_recipe(), file), 3)
    without = saved(build_network(tiny_recipe(), 3), tmp_path / "without.safetensors")
    with pytest.raises(LearnError, match="has no weights of the backbone timm:resnet18"):
        build_network(given(recipe, without), 3)

    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    del state["bn1.bias"]
    safetensors.torch.save_file(state, published)
    with pytest.raises(LearnError, match=r"conv1.weight is 64 x 1 x 7 x 7, not 64 x 3 x 7") as two:
        build_network(given(recipe, published), 3)
    assert "bn1.bias is missing" in str(two.value)


FROZEN = {"network.backbone": "encoder:fast", "input.size": 224}


def test_what_has_no_effect_without_a_backbone_is_refused() -> None:
    for parts in ("none", ["layer4"]):
        recipe = with_values(tiny_recipe(), {"network.train": parts})
        with pytest.raises(RecipeError, match=r"network.train .* but there is no backbone"):
            build_network(recipe, 3)
    frozen = with_values(tiny_recipe(layers=FLAT[1:]), FROZEN)
    build_network(with_values(frozen, {"network.train": "none"}), 3, dimension=8)
    with pytest.raises(RecipeError, match="but encoder:fast is never trained"):
        build_network(with_values(frozen, {"network.train": ["conv"]}), 3, dimension=8)


class Exploit:
    """A pickle that writes a file when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("backbone", ["", "timm:resnet18"])
@pytest.mark.parametrize("build", [build_network, network_without_weights])
def test_files_that_are_of_no_use_are_refused(tmp_path: Path, backbone: str, build: Any) -> None:
    recipe = network_recipe(FLAT, size=32, backbone=backbone)
    good = saved(build_network(network_recipe(FLAT, size=32), 3), tmp_path / "good.safetensors")
    content = good.read_bytes()
    state = safetensors.torch.load(content)
    touched = tmp_path / "touched"
    program = pickle.dumps(Exploit(touched))
    nan, whole = dict(state), dict(state)
    nan["layers.1.bias"] = torch.tensor([0.0, float("nan"), 1.0])
    whole["layers.1.bias"] = torch.tensor([1, 2, 3])
    (tmp_path / "folder.safetensors").mkdir()
    cases: list[tuple[str, bytes | None, str]] = [
        ("absent.safetensors", None, "cannot be read: No such file"),
        ("folder.safetensors", None, "is a folder"),
        ("cut.safetensors", content[:-7], "damaged or of another format"),
        ("header.safetensors", content[:20], "damaged or of another format"),
        ("empty.safetensors", b"", "damaged or of another format"),
        ("text.safetensors", b"weights " * 99, "damaged or of another format"),
        ("pickle.safetensors", program, "damaged or of another format"),
        ("pickle.pth", program, "Other formats can hold programs and are not opened"),
        ("nothing.safetensors", safetensors.torch.save({}), "holds no weights"),
        ("nan.safetensors", safetensors.torch.save(nan), "layers.1.bias holds numbers that are no"),
    ]
    if not backbone:
        cases.append(
            ("ints.safetensors", safetensors.torch.save(whole), "bias holds whole numbers")
        )
    for name, bytes_, message in cases:
        file = tmp_path / name
        if bytes_ is not None:
            file.write_bytes(bytes_)
        with pytest.raises(LearnError, match=message) as caught:
            build(given(recipe, file), 3)
        assert name in str(caught.value)
    assert not touched.exists()
    with pytest.raises(RecipeError, match="'pretraind'; expected pretrained, none, or the path"):
        build(given(recipe, "pretraind"), 3)


def test_a_probe_does_not_replace_a_last_layer_that_was_taken(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    layers = (FLAT[0], {"dense": 5}, FLAT[1])
    recipe = tiny_recipe(layers=layers, epochs=1, learning_rate=0.0, probe="before")
    images, splits = cached(coloured_dataset, recipe)
    file = read_weights(saved(build_network(recipe, 3), tmp_path / "model.safetensors"))
    for new_classes in (False, True):
        net = build_network(recipe, 3, first=FirstWeights(file, new_classes=new_classes))
        before = weights(net)
        done = weights(fit(recipe, net, splits, images, tmp_path / str(new_classes)).net)
        assert torch.equal(before["layers.1.weight"], done["layers.1.weight"])
        assert torch.equal(before["layers.2.weight"], done["layers.2.weight"]) != new_classes


def test_a_missing_file_is_refused_before_a_folder_is_made(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    for recipe in (tiny_recipe(), with_values(tiny_recipe(), FROZEN)):
        with pytest.raises(LearnError, match=r"absent\.safetensors: the weights cannot be read"):
            train(given(recipe, "absent.safetensors"), coloured_dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Stopped(Exception):
    """Stands for a kill."""


def test_a_killed_run_goes_on_only_with_the_same_first_weights(
    coloured_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veduta.learn.training.loop.MAX_CHECKPOINT_TIME_SHARE", 1e9)
    recipe = tiny_recipe()
    images, splits = cached(coloured_dataset, recipe)
    one, other = (
        read_weights(saved(build_network(recipe, 3), tmp_path / f"{name}.safetensors"))
        for name in "ab"
    )

    def trained(file: Any, out: str, on_epoch: Any = None) -> Net:
        torch.manual_seed(recipe.training.seed)
        net = build_network(recipe, 3, first=FirstWeights(file) if file else None)
        return fit(recipe, net, splits, images, tmp_path / out, on_epoch=on_epoch).net

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Stopped

    whole = trained(one, "whole")
    with pytest.raises(Stopped):
        trained(one, "cut", stop)
    with pytest.raises(LearnError, match=f'first weights: "{one.digest}" in the checkpoint, "'):
        trained(other, "cut")
    with pytest.raises(
        LearnError, match=r"nothing in this run\. Name the same weights with --from"
    ):
        trained(None, "cut")
    seen: list[int] = []
    again = trained(one, "cut", lambda epoch: seen.append(epoch.number))
    assert seen == [3]
    assert all(torch.equal(a, weights(whole)[name]) for name, a in weights(again).items())
    random = trained(None, "random")
    assert not torch.equal(random.layers[0][0].weight, whole.layers[0][0].weight)
    with pytest.raises(LearnError, match="nothing in the checkpoint"):
        trained(one, "random")
