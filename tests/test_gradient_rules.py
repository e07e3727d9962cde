"""The rules for gradients at rectifiers, and the maps that follow from them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from captum.attr import Deconvolution, GuidedBackprop  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from veduta.learn.explaining.gradient_rules import RULES, photo_gradient  # noqa: E402


def column(*values: float) -> Any:
    """A photo of three equal channels and one column of pixels."""
    return torch.tensor(values).reshape(1, 1, -1, 1).expand(1, 3, -1, 1).contiguous()


class TwoLayers(nn.Module):
    """A pixel each: hidden units 2x and -x through a rectifier, then scores a - 3b and -a + 3b."""

    def __init__(self, rectifier: Callable[[Any], Any]) -> None:
        super().__init__()
        self.rectifier = rectifier
        self.eval()

    def forward(self, photos: Any) -> Any:
        red = photos[:, 0].flatten(1)
        a, b = self.rectifier(2 * red), self.rectifier(-red)
        score = (a - 3 * b).sum(1)
        return torch.stack([score, -score], dim=1)


def red_gradient(rectifier: Callable[[Any], Any], rule: Any, target: int = 0) -> list[float]:
    gradient, _ = photo_gradient(TwoLayers(rectifier), column(1.0, -1.0), target, rule)
    assert gradient[:, 1:].abs().max() == 0  # the network does not see green and blue
    return gradient[0, 0, :, 0].tolist()


@pytest.mark.parametrize(
    ("rule", "target", "by_hand"),
    [
        # Pixel 1: a = 2 is active, b = 0 is not. Pixel -1: the other way round.
        # Class 0 sends 1 to a and -3 to b; a sends on times 2, b times -1.
        ("gradient", 0, [2.0, 3.0]),
        ("guided", 0, [2.0, 0.0]),  # -3 stops at b
        ("rectified", 0, [2.0, 2.0]),  # a lets 1 through, though it is not active at pixel -1
        # Class 1 sends -1 to a and 3 to b.
        ("gradient", 1, [-2.0, -3.0]),
        ("guided", 1, [0.0, -3.0]),
        ("rectified", 1, [-3.0, -3.0]),
    ],
)
def test_two_layers_by_hand(rule: str, target: int, by_hand: list[float]) -> None:
    assert red_gradient(torch.relu, rule, target) == by_hand


def test_relu6_by_hand() -> None:
    # a = 6 (from 8) at pixel 4: its derivative is zero there.
    network = TwoLayers(functional.relu6)
    for rule, expected in (("gradient", [0.0, 2.0]), ("guided", [0.0, 2.0])):
        gradient, _ = photo_gradient(network, column(4.0, 1.0), 0, rule)
        assert gradient[0, 0, :, 0].tolist() == expected
    gradient, _ = photo_gradient(network, column(4.0, 1.0), 0, "rectified")
    assert gradient[0, 0, :, 0].tolist() == [2.0, 2.0]


def test_silu_by_hand() -> None:
    def slope(x: float) -> float:
        sigmoid = 1 / (1 + math.exp(-x))
        return sigmoid * (1 + x * (1 - sigmoid))

    # Pixel 1: a's input is 2 and b's is -1. Pixel -1: a's is -2, where SiLU falls, and b's is 1.
    assert slope(-2) < 0 < slope(-1)
    assert red_gradient(functional.silu, "gradient") == pytest.approx(
        [2 * slope(2) + 3 * slope(-1), 2 * slope(-2) + 3 * slope(1)]
    )
    assert red_gradient(functional.silu, "guided") == pytest.approx([2 * slope(2), 0])
    assert red_gradient(functional.silu, "rectified") == [2.0, 2.0]


def test_leaky_relu_by_hand() -> None:
    def rectifier(values: Any) -> Any:
        return functional.leaky_relu(values, 0.5)

    assert red_gradient(rectifier, "gradient") == [2 + 1.5, 1 + 3]
    assert red_gradient(rectifier, "guided") == [2.0, 1.0]  # the derivative of a at pixel -1 is 0.5
    assert red_gradient(rectifier, "rectified") == [2.0, 2.0]


SAME: dict[str, list[Callable[[Any], Any]]] = {
    "relu": [
        torch.relu,
        lambda x: x.relu(),
        lambda x: x.clone().relu_(),
        functional.relu,
        lambda x: functional.relu(x, inplace=True),
        nn.ReLU(),
        nn.ReLU(inplace=True),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp_min(x, 0),
        lambda x: functional.threshold(x, 0.0, 0.0),
    ],
    "relu6": [functional.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), lambda x: x.clamp(0, 6)],
    "silu": [functional.silu, nn.SiLU(), nn.SiLU(inplace=True)],
    "leaky": [functional.leaky_relu, nn.LeakyReLU(), nn.LeakyReLU(inplace=True)],
    "elu": [functional.elu, nn.ELU(), nn.ELU(inplace=True), functional.celu, nn.CELU(inplace=True)],
    "hardswish": [functional.hardswish, nn.Hardswish(), nn.Hardswish(inplace=True)],
    "gelu": [functional.gelu, nn.GELU()],
    "mish": [functional.mish, nn.Mish(inplace=True)],
    "prelu": [nn.PReLU(init=0.25), lambda x: functional.leaky_relu(x, 0.25)],
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SAME)
def test_every_way_to_call_a_rectifier_is_the_same(name: str, rule: str) -> None:
    gradients = [red_gradient(one, rule) for one in SAME[name]]
    for one in gradients:
        assert one == pytest.approx(gradients[0], abs=1e-6)


@pytest.mark.parametrize("name", SAME)
def test_no_gradient_behind_a_rectifier_is_negative(name: str) -> None:
    class Alone(nn.Module):
        def forward(self, photos: Any) -> Any:
            weights = torch.linspace(-1, 1, photos.shape[2])[:, None]
            return (SAME[name][0](photos) * weights).sum((1, 2, 3))[:, None]

    photos = column(*torch.linspace(-4, 8, 25).tolist()).flip(2)
    plain, _ = photo_gradient(Alone().eval(), photos, 0)
    assert plain.min() < 0
    guided, _ = photo_gradient(Alone().eval(), photos, 0, "guided")
    rectified, _ = photo_gradient(Alone().eval(), photos, 0, "rectified")
    assert guided.min() >= 0
    torch.testing.assert_close(
        rectified[0, 0, :, 0], torch.linspace(-1, 1, 25).clamp(min=0), rtol=0, atol=0
    )


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(10, 3),
    ]
    network = nn.Sequential(*layers)
    with torch.no_grad():  # as after a training
        network[1].running_mean.normal_(0, 0.3)
        network[1].running_var.uniform_(0.5, 2)
    return network.eval()


def small_photo(seed: int = 1) -> Any:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("rule", "method"), [("guided", GuidedBackprop), ("rectified", Deconvolution)]
)
def test_captum_agrees_on_modules_of_relu(rule: str, method: Any) -> None:
    network, photo = small_network(), small_photo()
    ours, notes = photo_gradient(network, photo, 1, rule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks and needs gradients
        theirs = method(network).attribute(photo.clone(), target=1)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-7)
    plain, _ = photo_gradient(network, photo, 1)
    assert not torch.allclose(ours, plain)
    assert notes == ()


def test_a_resnet_that_uses_one_relu_many_times() -> None:
    """Captum needs a module for each use, which our copy of the network gives it."""
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4, width_per_group=64).eval()

    class Separate(nn.Module):
        """BasicBlock with a module for each of its two rectifiers."""

        def __init__(self, block: Any) -> None:
            super().__init__()
            self.block, self.first, self.second = block, nn.ReLU(), nn.ReLU()

        def forward(self, values: Any) -> Any:
            block = self.block
            out = self.first(block.bn1(block.conv1(values)))
            out = block.bn2(block.conv2(out))
            shortcut = values if block.downsample is None else block.downsample(values)
            return self.second(out + shortcut)

    apart = copy.deepcopy(network)
    apart.relu = nn.ReLU()
    for stage in (apart.layer1, apart.layer2, apart.layer3, apart.layer4):
        stage[0] = Separate(stage[0])
    apart.eval()
    photo = torch.rand(1, 3, 32, 32)
    for rule, method in (("guided", GuidedBackprop), ("rectified", Deconvolution)):
        ours, _ = photo_gradient(network, photo, 2, rule)
        same, _ = photo_gradient(apart, photo, 2, rule)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = method(apart).attribute(photo.clone(), target=2).detach()
        scale = theirs.abs().max()
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours / scale, same / scale, rtol=0, atol=1e-5)


def test_rectifiers_inside_another_layer() -> None:
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    fused = nn.Sequential(
        nn.Conv2d(3, 4, 3), BatchNormAct2d(4, inplace=True), nn.Flatten(), nn.Linear(144, 2)
    ).eval()
    plain = nn.Sequential(fused[0], nn.BatchNorm2d(4), nn.ReLU(), fused[2], fused[3]).eval()
    for rule in RULES:
        ours, _ = photo_gradient(fused, small_photo(), 0, rule)
        same, _ = photo_gradient(plain, small_photo(), 0, rule)
        torch.testing.assert_close(ours, same)


def test_nothing_stays_on_the_network() -> None:
    network, photo = small_network(), small_photo()
    network[0].weight.requires_grad_(False)
    network[4].weight.grad = torch.ones_like(network[4].weight)
    state = {name: one.clone() for name, one in network.state_dict().items()}
    plain = network(photo)
    for rule in RULES:
        photo_gradient(network, photo, 0, rule)
    assert photo.requires_grad is False
    assert not network.training
    assert [one.requires_grad for one in network.parameters()] == [False] + [True] * 9
    grads = [one.grad for one in network.parameters() if one.grad is not None]
    assert len(grads) == 1
    assert bool((grads[0] == 1).all())
    for part in network.modules():
        assert not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)
    assert all(torch.equal(one, state[name]) for name, one in network.state_dict().items())
    assert torch.equal(network(photo), plain)


def test_no_rule_stays_on_a_graph_after_an_error() -> None:
    from veduta.learn.explaining.gradient_rules import ruled_gradient

    leaf = column(1.0, -1.0).requires_grad_()
    score = TwoLayers(torch.relu)(leaf)[0, 0]
    stranger = torch.ones(2)  # no gradient can be asked for it
    with pytest.raises(RuntimeError):
        ruled_gradient(score, stranger, "rectified")
    (gradient,) = torch.autograd.grad(score, leaf)
    assert gradient[0, 0, :, 0].tolist() == [2.0, 3.0]


def test_a_rectifier_in_place_at_the_entrance_keeps_the_photo() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6, 2)).eval()
    photo = column(1.0, -1.0)
    before = photo.clone()
    gradient, _ = photo_gradient(network, photo, 0, "guided")
    assert torch.equal(photo, before)
    assert bool((gradient[0, :, 1] == 0).all())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_computed_where_torch_keeps_none(mode: Any) -> None:
    network, photo = small_network(), small_photo()
    expected, _ = photo_gradient(network, photo, 0, "guided")
    with mode():
        gradient, _ = photo_gradient(network, photo * 1, 0, "guided")
    assert torch.equal(gradient, expected)


def test_a_network_in_training_mode_is_refused() -> None:
    network = small_network()
    network[9].train()
    with pytest.raises(ValueError, match="training mode"):
        photo_gradient(network, small_photo(), 0)


def notes_of(rectifier: Callable[[Any], Any], rule: str) -> str:
    return " ".join(photo_gradient(TwoLayers(rectifier), column(1.0, -1.0), 0, rule)[1])


def test_notes_say_where_a_rule_has_no_meaning() -> None:
    assert notes_of(functional.relu, "guided") == ""
    assert notes_of(functional.silu, "gradient") == ""
    assert "No rectifier" in notes_of(lambda x: x, "guided")
    assert "No rectifier" in notes_of(lambda x: x.clamp(min=1e-6), "guided")
    assert "No rectifier" in notes_of(functional.hardtanh, "rectified")
    assert "SiLU" in notes_of(functional.silu, "guided")
    assert "output falls" in notes_of(functional.silu, "guided")
    assert "takes the derivative as one" in notes_of(functional.gelu, "rectified")
    assert "falls" not in notes_of(functional.leaky_relu, "guided")
    assert "and so not Sigmoid or Tanh" in notes_of(
        lambda x: torch.tanh(torch.sigmoid(torch.relu(x))), "guided"
    )

    def half_in_place(values: Any) -> Any:
        values = values * 1
        values[:, :1].relu_()
        return torch.relu(values)

    assert "part of a tensor in place" in notes_of(half_in_place, "guided")


def test_a_photo_without_influence_has_a_zero_gradient() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([[1.0, 2.0]]))

        def forward(self, photos: Any) -> Any:
            return torch.relu(self.bias).expand(len(photos), 2)

    for rule in RULES:
        gradient, _ = photo_gradient(Blind().eval(), small_photo(), 0, rule)
        assert np.array_equal(gradient.numpy(), np.zeros((1, 3, 8, 8), np.float32))
