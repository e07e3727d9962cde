"""The package's own networks, against its ONNX files and its default encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torch

from veduta.learn.models.backbones import build_backbone
from veduta.learn.recipe import open_recipe
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_embedded_network_is_the_onnx_one(name):
    import onnxruntime

    skimage = pytest.importorskip("skimage.data")
    import veduta.encoders.embedded as embedded

    photo = skimage.coffee()[64:352, 100:484]  # 288 x 384
    session = onnxruntime.InferenceSession(
        Path(embedded.FOLDER) / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(["features"], {"photos": photo[None]})
    recipe = open_recipe("finetune")
    mean, std = (torch.tensor(one)[:, None, None] for one in (recipe.input.mean, recipe.input.std))
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255
    backbone = build_backbone(f"embedded:{name}", "pretrained", 288).eval()
    with torch.inference_mode():
        features = backbone(((pixels - mean) / std)[None]).numpy()
    assert features.shape == wanted.shape == (1, 1280, 9, 12)
    assert wanted.max() == 6.0
    assert np.abs(features - wanted).max() < 1e-3
    assert backbone.shape == (1280, 9, 9)


@pytest.mark.slow
def test_the_embedded_pair_is_the_encoder_accurate():
    skimage = pytest.importorskip("skimage.data")
    from veduta.encoders import PRESETS, load_encoder

    assert f"embedded:{PRESETS['accurate'].model}" == open_recipe("supcon").network.backbone
    photo = skimage.astronaut()[:384, :384]
    encoder = load_encoder("accurate")
    (wanted,) = encoder.encode([encoder.prepare(photo)])
    recipe = open_recipe("supcon")
    mean, std = (torch.tensor(one)[:, None, None] for one in (recipe.input.mean, recipe.input.std))
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255
    backbone = build_backbone(recipe.network.backbone, "pretrained", 384).eval()
    with torch.inference_mode():
        (found,) = backbone(((pixels - mean) / std)[None]).numpy()
    assert backbone.shape == (2560,)
    assert np.linalg.norm(found[:1280]) == pytest.approx(1, abs=1e-5)
    assert np.abs(found / np.sqrt(2) - wanted).max() < 1e-4


@pytest.mark.slow
def test_the_textured_pair_has_the_moments_of_its_channels_behind_the_descriptor():
    plain, textured = (
        build_backbone(f"embedded:efficientnet-lite0-lite2{more}", "pretrained", 64).eval()
        for more in ("", "-textured")
    )
    photos = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        halves, found = plain(photos).numpy(), textured(photos).numpy()
        maps = [
            late[0](early(photos)).double().numpy()
            for early, late in zip(plain.network.early, plain.network.late, strict=True)
        ]
    assert textured.shape == (3360,) and textured.descriptor_size == 2560
    np.testing.assert_array_equal(found[:, :2560], halves)
    flat = [one.reshape(*one.shape[:2], -1) for one in maps]
    wanted = np.concatenate([f(one, axis=2) for one in flat for f in (np.mean, np.std)], axis=1)
    wanted *= 4 / np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.abs(found[:, 2560:] - wanted).max() < 1e-4


def test_only_the_layer_that_names_classes_sees_textures():
    recipe = open_recipe("finetune", ["input.size=64", "network.weights=none"])
    net = build_network(recipe, 5).eval()
    photos = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        out, all_of_it = net(photos), net.backbone(photos)
        assert net.feature_size == 2560 and net.layers[-1].in_features == 3360
        assert torch.equal(out.features, all_of_it[:, :2560])
        assert torch.equal(out.features, net.features(photos))
        assert torch.equal(out.scores, net.layers[-1](all_of_it))


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "-textured"])
def test_the_embedded_pair_learns_of_a_photo_on_which_nothing_fires(more):
    """The slope of a root at zero is infinite."""
    pair = build_backbone(f"embedded:efficientnet-lite0-lite2{more}", "none", 64)
    with torch.no_grad():
        for one in pair.network.late[0][-2].parameters():
            one.zero_()
    pair(torch.zeros(2, 3, 64, 64)).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in pair.parameters())


def test_the_embedded_network_without_its_weights_is_random():
    one, other = (build_backbone("embedded:efficientnet-lite0", "none", 64) for _ in range(2))
    assert not torch.equal(one.network.head.weight, other.network.head.weight)
    out = one(torch.randn(1, 3, 64, 64))
    assert torch.isfinite(out).all()
    assert float(out.detach().std()) > 0.01
