"""Backbones: frozen parts, weights from files and from the hub, unknown names."""

from __future__ import annotations

import io
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

import safetensors.torch
import torch
from fake_hub import FakeHub
from tiny_training import network_recipe
from torch import nn

from veduta.errors import LearnError, RecipeError
from veduta.learn.models.backbones import build_backbone, weights_on_machine
from veduta.learn.models.summary import count_parameters
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")


def snapshot(module):
    return {name: one.detach().clone() for name, one in module.state_dict().items()}


def step(net, size):
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=0.1)
    net.train()
    scores = net(torch.randn(4, 3, size, size)).scores
    nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()


HEAD = ({"global": "average"}, {"dense": "classes"})


@pytest.mark.slow
@pytest.mark.parametrize("train", ["none", ("layer4",), ("layer4.1.conv2", "layer4.1.bn2"), "all"])
def test_frozen_parts_do_not_move(train):
    recipe = network_recipe(HEAD, size=32, backbone="timm:resnet18", weights="none", train=train)
    net = build_network(recipe, 3)
    before = snapshot(net.backbone.network)
    step(net, 32)
    learning = {"none": (), "all": ("",)}.get(train, train)
    # Batch norms whose own numbers are frozen keep their statistics; the others' move.
    moved = {
        name for name, one in snapshot(net.backbone.network).items() if (one != before[name]).any()
    }
    free = {name for name in before if name.startswith(tuple(learning))}
    assert moved <= free
    assert {name for name in free if name.endswith(("running_mean", "running_var"))} <= moved
    # At the start, timm's blocks are closed by a zero: not every weight has a gradient yet.
    assert bool(moved & {name for name in free if name.endswith("weight")}) == (train != "none")
    assert net.training
    assert all(one.requires_grad for one in net.layers.parameters())


def test_a_backbone_can_wait():
    recipe = network_recipe(
        HEAD, size=32, backbone="timm:resnet18", weights="none", train=("layer4",)
    )
    net = build_network(recipe, 3).train()
    net.set_backbone_trainable(False)
    before = snapshot(net.backbone)
    step(net, 32)
    assert all(torch.equal(one, before[name]) for name, one in snapshot(net.backbone).items())
    net.set_backbone_trainable(True)
    assert net.backbone.network.layer4.training
    assert not net.backbone.network.layer3.training
    learning = {name for name, one in net.backbone.network.named_parameters() if one.requires_grad}
    assert learning
    assert all(name.startswith("layer4") for name in learning)


def test_unknown_parameters_and_networks_are_named():
    with pytest.raises(RecipeError, match=r"begins with \"layr4\"; did you mean 'layer4'"):
        build_network(
            network_recipe(
                HEAD, size=64, backbone="timm:resnet18", weights="none", train=("layr4",)
            ),
            3,
        )
    for name, near in (
        ("timm:resnet19", "timm:resnet18"),
        ("torchvision:googlenett", "torchvision:googlenet"),
        ("embedded:efficientnet-lite1", "embedded:efficientnet-lite"),
    ):
        with pytest.raises(RecipeError, match=f"did you mean '{near}"):
            build_backbone(name, "none", 64)
    with pytest.raises(RecipeError, match="expected embedded:NAME"):
        build_backbone("resnet18", "none", 64)
    with pytest.raises(RecipeError, match="Invalid pretrained tag"):
        build_backbone("timm:resnet18.nobody", "none", 64)
    with pytest.raises(RecipeError, match="does not take photos of 65 x 65"):
        build_backbone("timm:vit_tiny_patch16_224", "none", 65)


def test_backbones_leave_their_classifiers_behind():
    # Published sizes less their last layers: VGG16's three, ResNet18's one, GoogLeNet's one.
    with torch.device("meta"):
        vgg = build_backbone("timm:vgg16", "none", 256)
        resnet = build_backbone("timm:resnet18", "none", 224)
        googlenet = build_backbone("torchvision:googlenet", "none", 224)
    assert (vgg.shape, count_parameters(vgg)[0]) == ((512, 8, 8), 14_714_688)
    assert (resnet.shape, count_parameters(resnet)[0]) == ((512, 7, 7), 11_689_512 - 513_000)
    assert (googlenet.shape, count_parameters(googlenet)[0]) == ((1024,), 6_624_904 - 1_025_000)


def test_networks_with_tokens_give_their_own_vector():
    backbone = build_backbone("timm:vit_tiny_patch16_224", "none", 224)
    assert backbone.shape == (192,)


def test_the_backbone_is_the_librarys_network():
    import timm

    backbone = build_backbone("timm:resnet18", "none", 64).eval()
    other = timm.create_model("resnet18", num_classes=0).eval()
    other.load_state_dict(backbone.network.state_dict())
    photos = torch.randn(2, 3, 64, 64)
    assert torch.allclose(backbone(photos).mean((2, 3)), other(photos), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["timm:resnet18.tv_in1k", "timm:legacy_xception.tf_in1k", "torchvision:googlenet"]
)
def test_weights_out_of_reach_name_the_three_ways(name, monkeypatch, tmp_path):
    import urllib.request

    import huggingface_hub

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(LearnError) as caught:
        build_backbone(name, "pretrained", 224)
    message = str(caught.value)
    assert name in message
    for way in ("hub is reachable", ".safetensors file", "embedded:efficientnet-lite2"):
        assert way in message


def test_weights_in_the_hubs_cache_need_no_hub(monkeypatch, tmp_path):
    import huggingface_hub
    import timm

    published = timm.create_model("resnet18", num_classes=1000)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(published.state_dict(), file)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(file))
    backbone = build_backbone("timm:resnet18.tv_in1k", "pretrained", 64)
    assert torch.equal(backbone.network.layer4[1].conv2.weight, published.layer4[1].conv2.weight)


def test_published_torchvision_weights_load(monkeypatch):
    from torchvision import models

    published = models.googlenet(weights=None, init_weights=True, aux_logits=True)
    asked = {}

    def load(url, **options):
        asked.update(options, url=url)
        return published.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    backbone = build_backbone("torchvision:googlenet", "pretrained", 64)
    assert asked["weights_only"] is True
    assert torch.equal(backbone.network.conv1.conv.weight, published.conv1.conv.weight)
    # They were trained on photos of another scale than the one they are now given.
    assert backbone.network.transform_input


def test_which_weights_have_to_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(tmp_path, None))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert weights_on_machine("embedded:efficientnet-lite0", "pretrained")
    for name in ("timm:resnet18.tv_in1k", "torchvision:resnet18"):
        assert weights_on_machine(name, "none")
        assert not weights_on_machine(name, "pretrained")
    # What does not exist is named when it is built.
    assert weights_on_machine("torchvision:resnet0", "pretrained")
    (tmp_path / "timm/resnet18.tv_in1k").mkdir(parents=True)
    (tmp_path / "timm/resnet18.tv_in1k/model.safetensors").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/resnet18-f37072fd.pth").touch()
    assert weights_on_machine("timm:resnet18.tv_in1k", "pretrained")
    assert weights_on_machine("torchvision:resnet18", "pretrained")
