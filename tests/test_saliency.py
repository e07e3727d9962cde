"""Saliency and activation maps: by hand, against captum, and on every kind of network."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from captum.attr import IntegratedGradients, NoiseTunnel, Saliency  # noqa: E402
from torch import nn  # noqa: E402

from veduta.learn.explaining import saliency  # noqa: E402
from veduta.learn.explaining.activation_maps import activation_map  # noqa: E402
from veduta.learn.explaining.gradient_rules import RULES  # noqa: E402
from veduta.learn.explaining.saliency import (  # noqa: E402
    integrated_gradients,
    saliency_map,
    smoothgrad,
)


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5)]
    layers += [nn.Flatten(), nn.Linear(8 * 16, 10), nn.ReLU(), nn.Linear(10, 3)]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        network[1].running_mean.normal_(0, 0.3)
        network[1].running_var.uniform_(0.5, 2)
    return network.eval()


def small_photo(seed: int = 1, side: int = 16) -> Any:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def score_of(network: nn.Module, photo: Any, target: int) -> float:
    with torch.no_grad():
        return float(network(photo)[0, target])


def scaled(values: NDArray[Any]) -> NDArray[Any]:
    return (values - values.min()) / (values.max() - values.min())


def weighted_network() -> nn.Module:
    """Two channels of features, 2 x 2: red, and green - 1; the scores are weighted sums of them."""
    first, last = nn.Conv2d(3, 2, 1), nn.Linear(8, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]).reshape(2, 3, 1, 1))
        first.bias.copy_(torch.tensor([0.0, -1]))
        last.weight.copy_(torch.tensor([[1.0, 1, 1, 5, -1, -1, -1, -1], [-1.0] * 8]))
        last.bias.zero_()
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), last).eval()


RED, GREEN = [[1.0, 2.0], [3.0, 4.0]], [[0.0, 2.0], [1.5, 4.0]]
WEIGHTED_PHOTO = torch.tensor([[RED, GREEN, [[9.0, 9.0], [9.0, 9.0]]]])


def test_saliency_by_hand() -> None:
    # Gradients of class 0: red 1, 1, 1, 5; green 0 (not active at the first pixel), -1, -1, -1.
    # Maxima of the absolute gradients: 1, 1, 1, 5. From the smallest to the largest: 0 to 1.
    answer = saliency_map(weighted_network(), WEIGHTED_PHOTO, 0)
    assert answer.map.tolist() == [[0, 0], [0, 1]]
    assert (answer.constant, answer.layer, answer.notes) == (None, None, ())
    # Class 1: all gradients are -1, so with either rule nothing is left.
    for rule in ("guided", "rectified"):
        assert not saliency_map(weighted_network(), WEIGHTED_PHOTO, 1, rule).map.any()


def test_activation_by_hand() -> None:
    # Mean gradients of class 0: red (1 + 1 + 1 + 5) / 4 = 2, green -1.
    # Features: red 1 2 / 3 4, green 0 1 / 0.5 3. Map: 2 3 / 5.5 5, then from 0 to 1.
    network = weighted_network()
    answer = activation_map(network, WEIGHTED_PHOTO, 0, network[1])
    np.testing.assert_allclose(answer.map, [[0, 1 / 3.5], [1, 3 / 3.5]], atol=1e-6)
    assert answer.layer == "1"
    # Class 1: red -1 and green -1, so the positive part is nothing. keras-vis' division by the
    # largest gradient, which is -1, would turn the map to what speaks against the class.
    assert not activation_map(network, WEIGHTED_PHOTO, 1, network[1]).map.any()


@pytest.mark.parametrize("inplace", [False, True])
def test_the_rules_act_behind_the_layer(inplace: bool) -> None:
    # Layer 0 has no rectifier; the rectifier behind it decides which gradients reach it.
    network = weighted_network()
    network[1].inplace = inplace
    features = np.array([[[1, 2], [3, 4]], [[-1, 1], [0.5, 3]]])
    # Gradients of class 0 behind the rectifier: red 1 1 1 5, green -1 each.
    for rule, green_weight in (("gradient", -0.75), ("guided", 0.0), ("rectified", 0.0)):
        expected = np.maximum(2 * features[0] + green_weight * features[1], 0)
        answer = activation_map(network, WEIGHTED_PHOTO, 0, network[0], rule)
        np.testing.assert_allclose(answer.map, scaled(expected), atol=1e-6)
        assert answer.notes == ()


def test_no_rectifier_behind_the_layer() -> None:
    network = weighted_network()
    plain = activation_map(network, WEIGHTED_PHOTO, 0, network[1])
    for rule in ("guided", "rectified"):
        answer = activation_map(network, WEIGHTED_PHOTO, 0, network[1], rule)
        assert np.array_equal(answer.map, plain.map)
        assert answer.notes == (
            f"No rectifier is on the way of the gradient, so the {rule} rule has no effect.",
        )


def test_activation_as_keras_vis_writes_it() -> None:
    """The formula in numpy, with the gradients that autograd gives for the layer's output."""
    network, photo = small_network(), small_photo()
    features = network[:8](photo).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[8:](features)[0, 2], features)
    gradients, values = gradient[0].numpy(), features[0].detach().numpy()
    heat = np.zeros(values.shape[1:])
    for channel, weight in enumerate(gradients.mean((1, 2))):
        heat += weight * values[channel]
    expected = np.maximum(heat, 0)
    answer = activation_map(network, photo, 2, network[6])
    np.testing.assert_allclose(answer.map, scaled(expected), atol=1e-5)


def test_an_unused_layer_is_refused_and_leaves_no_hook() -> None:
    network, other = small_network(), nn.ReLU()
    with pytest.raises(ValueError, match="did not use"):
        activation_map(network, small_photo(), 0, other)
    assert not other._forward_hooks
    with pytest.raises(RuntimeError):
        activation_map(network, torch.zeros(1, 4, 16, 16), 0, network[6])
    assert not network[6]._forward_hooks


def test_captum_agrees_on_saliency() -> None:
    network, photo = small_network(), small_photo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Saliency(network).attribute(photo.clone(), target=1)[0].amax(0)
    ours = saliency_map(network, photo, 1).map
    assert (ours.dtype, ours.shape, ours.min(), ours.max()) == (np.float32, (16, 16), 0, 1)
    np.testing.assert_allclose(ours, scaled(theirs.detach().numpy()), atol=1e-6)


def test_smoothgrad_is_the_mean_of_noisy_gradients() -> None:
    network, photo = small_network(), small_photo()
    std = 0.15 * float(photo.max() - photo.min())
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = NoiseTunnel(Saliency(network)).attribute(
            photo.clone(),
            nt_samples=2000,
            nt_samples_batch_size=500,
            stdevs=std,
            target=1,
            abs=False,
        )
    limit = scaled(theirs[0].abs().amax(0).detach().numpy())
    ours = smoothgrad(network, photo, 1)
    plain = saliency_map(network, photo, 1)

    def likeness(values: NDArray[Any]) -> float:
        return float(np.corrcoef(values.ravel(), limit.ravel())[0, 1])

    assert likeness(ours.map) > 0.9
    assert likeness(ours.map) > likeness(plain.map)


def test_smoothgrad_repeats_and_keeps_the_state_of_the_generator() -> None:
    network, photo = small_network(), small_photo()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = smoothgrad(network, photo, 0)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(first.map, smoothgrad(network, photo, 0).map)
    assert not np.array_equal(first.map, smoothgrad(network, photo, 0, seed=1).map)


def test_integrated_gradients_by_hand() -> None:
    # The blank photo has red 2.5 and green 1.875 everywhere. Red is active all along the way, so
    # its shares are weight times difference: -1.5 -0.5 0.5 7.5. Green - 1 is 0.875 in the blank
    # photo; behind the rectifier it becomes 0 1 0.5 3, so its shares are 0.875 -0.125 0.375 -2.125.
    answer = integrated_gradients(weighted_network(), WEIGHTED_PHOTO, 0)
    np.testing.assert_allclose(answer.map, [[-0.625, -0.625], [0.875, 5.375]], atol=0.03)
    assert answer.constant == pytest.approx(8 * 2.5 - 4 * 0.875)
    assert float(answer.map.sum()) + answer.constant == pytest.approx(
        score_of(weighted_network(), WEIGHTED_PHOTO, 0), abs=0.05
    )


def test_captum_agrees_on_integrated_gradients() -> None:
    network, photo = small_network(), small_photo()
    ours = integrated_gradients(network, photo, 1)
    blank = photo.mean((2, 3), keepdim=True).expand_as(photo)
    theirs = IntegratedGradients(network).attribute(photo, blank, target=1, n_steps=500)
    limit = theirs[0].sum(0).detach().numpy()
    assert np.abs(ours.map - limit).max() < 0.08 * np.abs(limit).max()
    assert ours.map.min() < 0 < ours.map.max()


@pytest.mark.parametrize("target", [0, 1])
def test_integrated_gradients_sum_to_the_score(target: int) -> None:
    network, photo = small_network(target), small_photo(target)
    answer = integrated_gradients(network, photo, target)
    score = score_of(network, photo, target)
    assert answer.constant is not None
    gap = score - answer.constant - float(answer.map.sum(dtype=np.float64))
    assert abs(gap) <= 0.02 * abs(score - answer.constant)
    (note,) = answer.notes
    assert float(note.split("score by ")[1].split(",")[0]) == pytest.approx(gap, rel=0.06, abs=2e-7)


def test_the_way_is_cut_until_the_gaps_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    network, photo = small_network(), small_photo()
    monkeypatch.setattr(saliency, "MOST_STEPS", 48)
    for share, steps in ((0.0, 48), (10.0, 32)):
        monkeypatch.setattr(saliency, "GAP_SHARE", share)
        assert f"after {steps} steps" in integrated_gradients(network, photo, 1).notes[0]


def test_cuts_help_where_the_score_changes_only_near_the_blank_photo() -> None:
    class Early(nn.Module):
        """It rises within the first fiftieth of the way and is flat behind it."""

        def forward(self, photos: Any) -> Any:
            red = photos[:, :1]
            away = (red - red.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3))
            return nn.functional.hardtanh(away * 50 / 0.25)[:, None]

    photo = torch.zeros(1, 3, 4, 4)
    photo[..., :2] = 0.5  # all red pixels are 0.25 away from their mean
    network = Early().eval()
    answer = integrated_gradients(network, photo, 0)
    assert score_of(network, photo, 0) == 1
    assert answer.constant == 0
    assert answer.map.sum() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(answer.map, 1 / 16, atol=0.002)  # all pixels moved alike
    blank = photo.mean((2, 3), keepdim=True).expand_as(photo)
    plain = IntegratedGradients(network).attribute(photo, blank, target=0, n_steps=8)
    assert abs(float(plain.sum()) - 1) > 0.2


def test_a_constant_photo_gives_finite_maps() -> None:
    network = small_network()
    layer = network[6]
    photo = torch.full((1, 3, 16, 16), 0.5)
    maps = [saliency_map(network, photo, 0, rule) for rule in RULES]
    maps += [activation_map(network, photo, 0, layer, rule) for rule in RULES]
    maps.append(smoothgrad(network, photo, 0))
    assert all(np.isfinite(one.map).all() for one in maps)
    blank = integrated_gradients(network, photo, 0)
    assert not blank.map.any()  # the photo is its own blank photo
    assert blank.constant == pytest.approx(score_of(network, photo, 0), abs=1e-6)


def test_no_gradient_gives_zeros() -> None:
    network = small_network()
    with torch.no_grad():
        network[11].weight.zero_()
    photo = small_photo()
    maps = [saliency_map(network, photo, 0, rule).map for rule in RULES]
    maps += [activation_map(network, photo, 0, network[6], rule).map for rule in RULES]
    blank = integrated_gradients(network, photo, 0)
    maps += [smoothgrad(network, photo, 0).map, blank.map]
    assert not any(one.any() for one in maps)
    assert "after 32 steps" in blank.notes[0]  # no gap, so no more steps


def test_nothing_stays_on_the_network() -> None:
    network, photo = small_network(), small_photo()
    state = {name: one.clone() for name, one in network.state_dict().items()}
    for one in (smoothgrad, integrated_gradients, saliency_map):
        one(network, photo, 0)
    activation_map(network, photo, 0, network[6])
    assert not photo.requires_grad
    assert not any(part.training for part in network.modules())
    assert all(one.requires_grad and one.grad is None for one in network.parameters())
    assert all(torch.equal(one, state[name]) for name, one in network.state_dict().items())
    for part in network.modules():
        assert not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)


@pytest.mark.parametrize("function", [smoothgrad, integrated_gradients, saliency_map])
def test_a_network_in_training_mode_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="training mode"):
        function(small_network().train(), small_photo(), 0)


def test_maps_lie_where_the_network_looks() -> None:
    class Corner(nn.Module):
        """It sees the upper right corner, of 8 x 4 pixels, of a wide photo."""

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
            self.dense = nn.Linear(4 * 8, 2)

        def forward(self, photos: Any) -> Any:
            return self.dense(self.features(photos)[:, :, :2, -4:].flatten(1))

    torch.manual_seed(0)
    network = Corner().eval()
    photo = torch.rand(1, 3, 12, 20)
    maps = [saliency_map(network, photo, 0, rule).map for rule in RULES]
    maps += [smoothgrad(network, photo, 0).map, integrated_gradients(network, photo, 0).map]
    for one in maps:
        assert one.shape == (12, 20)
        assert one[:5, 11:].any()  # the convolution sees one pixel more
        assert not one[5:].any()
        assert not one[:, :11].any()
    for rule in RULES:
        one = activation_map(network, photo, 0, network.features, rule).map
        assert one.shape == (6, 10)
        # The gradients are pooled over all positions, so the features count everywhere.
        assert one.any()


def test_random_weights_change_guided_maps_less_than_gradients() -> None:
    """Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018."""
    # A photo with edges: the guided map is close to them, whatever the weights are.
    photo = torch.zeros(1, 3, 16, 16)
    photo[:, :, 4:12, 6:11] = 1.0

    def likeness(rule: Any) -> float:
        maps = [saliency_map(small_network(seed), photo, 0, rule).map.ravel() for seed in range(12)]
        pairs = [np.corrcoef(maps[k], maps[k + 1])[0, 1] for k in range(0, 12, 2)]
        return float(np.mean(pairs))

    assert likeness("guided") > likeness("gradient")
    assert likeness("rectified") > likeness("gradient")


FAMILIES = [
    "timm:resnet18",
    "timm:vgg11",
    "timm:legacy_xception",
    "torchvision:googlenet",
    "embedded:efficientnet-lite0",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_backbones(name: str) -> None:
    from veduta.learn.models.backbones import build_backbone

    side = 64
    torch.manual_seed(0)
    backbone = build_backbone(name, "none", side)
    channels = backbone.shape[0]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if len(backbone.shape) == 3 else []
    network = nn.Sequential(backbone, *pool, nn.Linear(channels, 3)).eval()
    photo = small_photo(side=side)
    guided = saliency_map(network, photo, 0, "guided")
    rectified = saliency_map(network, photo, 0, "rectified")
    for answer in (guided, rectified):
        assert answer.map.shape == (side, side)
        assert (answer.map.min(), answer.map.max()) == (0, 1)
        assert answer.notes == ()  # ReLU and ReLU6 alone
    assert not np.allclose(guided.map, rectified.map, atol=0.01)
    layer = backbone if pool else backbone.network.inception5b  # GoogLeNet pools by itself
    assert activation_map(network, photo, 0, layer, "guided").map.shape == (2, 2)
