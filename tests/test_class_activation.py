"""Class activation maps, against numbers worked out by hand and against the package grad-cam."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from torch import nn
from torch.nn import functional

from veduta.errors import QueryError
from veduta.learn.explaining import class_activation
from veduta.learn.explaining.class_activation import (
    cam,
    eigen_cam,
    exact_shares,
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    layer_cam,
    pooled_gradients,
    score_cam,
)
from veduta.learn.explaining.feature_maps import FeatureLayer, last_convolution, last_map
from veduta.learn.models.layers import build_layers

pytestmark = pytest.mark.usefixtures("one_torch_thread")

METHODS = (
    grad_cam,
    grad_cam_plus_plus,
    layer_cam,
    eigen_cam,
    score_cam,
    guided_grad_cam,
    pooled_gradients,
)


def of_layers(*tables: dict[str, object], side: int = 16, classes: int = 3) -> nn.Sequential:
    """The layers of a recipe with random weights and biases, in eval mode."""
    torch.manual_seed(7)
    layers = build_layers(tables, (3, side, side), classes, "test")
    network = nn.Sequential(*(layer.module for layer in layers))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, -1, 1)
    return network.eval().requires_grad_(False)


CONVOLUTIONS = ({"conv": 6, "activation": "relu"}, {"pool": "max"}, {"conv": 5, "kernel": 2})
AVERAGED = (*CONVOLUTIONS, {"activation": "relu"}, {"global": "average"}, {"dense": "classes"})
DENSE = (
    *(*CONVOLUTIONS, {"activation": "relu"}, {"pool": "max"}, {"flatten": True}),
    *({"dense": 8, "activation": "relu"}, {"dense": "classes"}),
)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dense() -> nn.Sequential:
    return of_layers(*DENSE)


def total(found: class_activation.NetworkMap) -> float:
    assert found.constant is not None
    return float(found.map.astype(np.float64).sum()) + found.constant


class ByHand(nn.Module):
    """A convolution of one pixel, a rectifier, and one score: 2 · mean of channel 0 - channel 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1, bias=False)
        self.first.weight = nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None])
        self.relu = nn.ReLU()
        self.last = nn.Linear(2, 2)
        self.last.weight = nn.Parameter(torch.tensor([[0.0, 0.0], [2.0, -1.0]]))
        self.last.bias = nn.Parameter(torch.tensor([0.0, 0.5]))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.first(photos)).mean((2, 3)))


class TestByHand:
    """Red is [[4, 0], [0, 2]] and green is [[1, 0], [3, -8]], which the rectifier makes 0.

    The means of the channels are 1.5 and 1, so the score is 2 · 1.5 - 1 + 0.5 = 2.5. The gradient
    is 2 / 4 = 0.5 at each position of channel 0, and -1 / 4 = -0.25 at those of channel 1.
    """

    @pytest.fixture
    def asked(self) -> tuple[nn.Module, torch.Tensor, int]:
        red, green = [[4.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [3.0, -8.0]]
        blue = [[9.0, 9.0], [9.0, 9.0]]
        network = ByHand().eval().requires_grad_(False)
        return network, torch.tensor([[red, green, blue]]), 1

    def test_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        found = cam(*asked)
        np.testing.assert_allclose(found.map, [[1.75, 0], [-0.75, 1]])
        assert found.constant == pytest.approx(0.5) and total(found) == pytest.approx(2.5)
        assert found.layer == "relu"

    def test_grad_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        np.testing.assert_allclose(grad_cam(*asked).map, [[1.75, 0], [0, 1]])

    def test_grad_cam_plus_plus(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        # Sum of channel 0: 6. Its share: 0.25 / (0.5 + 6 · 0.125) = 0.2, its weight: 4 · 0.2 · 0.5.
        np.testing.assert_allclose(grad_cam_plus_plus(*asked).map, [[1.6, 0], [0, 0.8]], rtol=1e-6)

    def test_layer_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        np.testing.assert_allclose(layer_cam(*asked).map, [[2, 0], [0, 1]])

    def test_pooled_gradients(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        # The factor of the softmax, which also knows the class 0, is taken out by the division.
        np.testing.assert_allclose(
            pooled_gradients(*asked).map, np.array([[1.75, 0], [0, 1]]) / 1.75, rtol=1e-6
        )

    def test_eigen_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        rows = np.array([[4, 1], [0, 0], [0, 3], [2, 0]], float) - [1.5, 1]
        values, vectors = np.linalg.eigh(rows.T @ rows)
        projected = rows @ vectors[:, values.argmax()]
        projected *= np.sign(projected @ rows.sum(1))
        found = eigen_cam(*asked)
        np.testing.assert_allclose(found.map.ravel(), np.maximum(projected, 0), atol=1e-6)
        assert found.notes == (
            "Eigen-CAM shows the strongest pattern of the feature map, whatever the class is.",
        )
        np.testing.assert_array_equal(eigen_cam(*asked[:2], 0).map, found.map)

    def test_score_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        # The masks are [[1, 0], [0, 1/2]] and [[1/3, 0], [1, 0]].
        scores = [
            2 * (4 + 1) / 4 - 1 / 4 + 0.5,
            2 * (4 / 3) / 4 - (1 / 3 + 3) / 4 + 0.5,
        ]
        weights = np.exp(scores) / np.exp(scores).sum()
        channels = np.array([[[4, 0], [0, 2]], [[1, 0], [3, 0]]])
        np.testing.assert_allclose(
            score_cam(*asked).map, np.tensordot(weights, channels, 1), rtol=1e-6
        )

    def test_guided_grad_cam(self, asked: tuple[nn.Module, torch.Tensor, int]) -> None:
        # The guided gradient is 0.5 in red where red is positive; green has a negative one.
        np.testing.assert_allclose(guided_grad_cam(*asked).map, [[0.875, 0], [0, 0.5]])


TAILS: dict[str, tuple[dict[str, object], ...]] = {
    "average": ({"activation": "relu"}, {"global": "average"}, {"dense": "classes"}),
    "maximum": ({"activation": "relu"}, {"global": "max"}, {"dense": "classes"}),
    "gem": ({"activation": "relu"}, {"global": "gem"}, {"dense": "classes"}),
    "flatten": ({"activation": "relu"}, {"flatten": True}, {"dropout": 0.5}, {"dense": "classes"}),
    "batch norms": (
        *({"activation": "relu"}, {"pool": "average"}, {"batch-norm": True}, {"flatten": True}),
        *({"batch-norm": True}, {"noise": 0.1}, {"dense": "classes"}),
    ),
    "two dense": ({"global": "average"}, {"dense": 4}, {"batch-norm": True}, {"dense": "classes"}),
}


class TestCam:
    @pytest.mark.parametrize("tail", TAILS)
    @pytest.mark.parametrize("target", [0, 2])
    def test_the_map_and_the_constant_are_the_score(
        self, tail: str, target: int, photos: torch.Tensor
    ) -> None:
        network = of_layers(*CONVOLUTIONS, *TAILS[tail])
        found = cam(network, photos, target)
        assert total(found) == pytest.approx(float(network(photos)[0, target]), abs=1e-5)
        side = found.map.shape[0]
        assert found.map.shape == (side, side) and side > 1
        # The constant is the score of an empty feature map.
        layer = last_convolution(network, photos)
        behind = network[int(layer.name.split(".")[0]) + 1 :]
        channels = 5
        empty = behind(torch.zeros(1, channels, side, side))[0, target]
        assert found.constant == pytest.approx(float(empty), abs=1e-4)

    def test_folded_by_hand(self, photos: torch.Tensor) -> None:
        """A batch norm between pooling and layer: its factor belongs to the weights."""
        network = of_layers(
            *CONVOLUTIONS, {"global": "average"}, {"batch-norm": True}, {"dense": "classes"}
        )
        features = network[:3](photos)[0].double()
        norm, last = network[4], network[5]
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weights = (last.weight[1] * factor).double()
        expected = torch.einsum("c,chw->hw", weights, features) / features[0].numel()
        found = cam(network, photos, 1)
        np.testing.assert_allclose(found.map, expected, atol=1e-6)
        constant = last.bias[1] + last.weight[1] @ (norm.bias - factor * norm.running_mean)
        assert found.constant == pytest.approx(float(constant), abs=1e-5)

    def test_it_is_the_plain_formula(self, photos: torch.Tensor) -> None:
        network = of_layers(*AVERAGED)
        features = network[:4](photos)[0]
        expected = torch.einsum("c,chw->hw", network[-1].weight[2], features) / features[0].numel()
        np.testing.assert_allclose(cam(network, photos, 2).map, expected, atol=1e-6)

    def test_it_refuses_dense_layers(self, dense: nn.Sequential, photos: torch.Tensor) -> None:
        with pytest.raises(QueryError, match=r"6\.1 \(ReLU\).*layer-cam"):
            cam(dense, photos, 0)

    def test_it_refuses_functions_that_are_no_layers(self, photos: torch.Tensor) -> None:
        class Functional(nn.Module):
            def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
                super().__init__()
                self.maps, self.last = of_layers(*CONVOLUTIONS), nn.Linear(5, 3)
                self.function = function

            def forward(self, photos: torch.Tensor) -> torch.Tensor:
                return self.last(self.function(self.maps(photos)).mean((2, 3)))

        curved = Functional(torch.tanh).eval().requires_grad_(False)
        with pytest.raises(QueryError, match=r"computes behind its last feature map, maps.*linear"):
            cam(curved, photos, 0)
        # A rectifier only leaves positions out.
        rectified = Functional(functional.relu).eval().requires_grad_(False)
        expected = float(rectified(photos)[0, 0])
        assert total(cam(rectified, photos, 0)) == pytest.approx(expected, abs=1e-5)

    def test_an_embedding_is_a_sum_too(self, photos: torch.Tensor) -> None:
        network = of_layers(*CONVOLUTIONS, {"flatten": True}, {"dense": 7})
        direction = torch.randn(7, generator=torch.Generator().manual_seed(1))
        found = exact_shares(network, photos, lambda outputs: outputs @ direction)
        assert total(found) == pytest.approx(float(network(photos)[0] @ direction), abs=1e-5)


class TestAgainstGradCam:
    """The package scales maps to [0, 1] and enlarges them, so its raw maps are compared."""

    @pytest.fixture
    def theirs(self) -> Callable[..., np.ndarray]:
        package = pytest.importorskip("pytorch_grad_cam")

        def computed(kind: str, network: nn.Module, photos: torch.Tensor, target: int):
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

            layer = last_convolution(network, photos).module
            with getattr(package, kind)(model=network, target_layers=[layer]) as method:
                raw: list[np.ndarray] = []
                whole = method.get_cam_image
                method.get_cam_image = lambda *args, **more: (
                    raw.append(whole(*args, **more)) or raw[0]
                )
                method(photos.clone().requires_grad_(), targets=[ClassifierOutputTarget(target)])
            return np.maximum(raw[0][0], 0)

        return computed

    @pytest.mark.parametrize(
        ("kind", "own"),
        [
            ("GradCAM", grad_cam),
            ("GradCAMPlusPlus", grad_cam_plus_plus),
            ("LayerCAM", layer_cam),
            ("ScoreCAM", score_cam),
        ],
    )
    def test_it_agrees(
        self,
        kind: str,
        own: Callable[..., class_activation.NetworkMap],
        theirs: Callable[..., np.ndarray],
        photos: torch.Tensor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        network = of_layers(*DENSE)
        # The package adds 1e-6 to the divisor of Grad-CAM++, which is nothing with these weights.
        network[-1].weight.mul_(1000)
        # It enlarges the masks of Score-CAM with aligned corners, unlike the code of the paper.
        enlarge = partial(nn.Upsample, mode="bilinear", align_corners=False)
        monkeypatch.setattr(nn, "UpsamplingBilinear2d", enlarge)
        expected = theirs(kind, network, photos, 1)
        assert expected.max() > 0
        np.testing.assert_allclose(own(network, photos, 1).map, expected, rtol=1e-4, atol=1e-6)

    def test_eigen_cam_but_for_its_sign(
        self, theirs: Callable[..., np.ndarray], dense: nn.Sequential, photos: torch.Tensor
    ) -> None:
        found = eigen_cam(dense, photos, 1).map
        features = dense[:4](photos)[0].flatten(1).T.double().numpy()
        centred = features - features.mean(0)
        component = np.linalg.svd(centred, full_matrices=False)[2][0]
        one, other = (np.maximum(sign * centred @ component, 0).ravel() for sign in (1, -1))
        expected = theirs("EigenCAM", dense, photos, 1).ravel()
        assert min(np.abs(expected - one).max(), np.abs(expected - other).max()) < 1e-5
        assert min(np.abs(found.ravel() - one).max(), np.abs(found.ravel() - other).max()) < 1e-5


class TestAgainstCaptum:
    def test_guided_grad_cam(self, dense: nn.Sequential, photos: torch.Tensor) -> None:
        from captum.attr import GuidedGradCam

        layer = last_convolution(dense, photos)
        with pytest.warns(UserWarning, match="Setting backward hooks"):
            theirs = GuidedGradCam(dense, layer.module).attribute(
                photos.clone().requires_grad_(), target=1, interpolate_mode="bilinear"
            )
        expected = theirs[0].abs().amax(0).detach()
        assert float(expected.max()) > 0
        np.testing.assert_allclose(guided_grad_cam(dense, photos, 1).map, expected, atol=1e-6)


class TestPooledGradients:
    def test_the_report_in_its_own_words(self, photos: torch.Tensor) -> None:
        """The lines of the book in numpy, for the sigmoid of one unit."""
        network = of_layers(*DENSE[:-1], {"dense": 1})
        output = network[:4](photos).requires_grad_()
        torch.sigmoid(network[4:](output))[0, 0].backward()
        pooled = output.grad.numpy().mean(axis=(0, 2, 3))
        value = output.detach().numpy()[0] * pooled[:, None, None]
        heatmap = np.maximum(value.mean(axis=0), 0)
        heatmap /= heatmap.max()

        class TwoScores(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, photos: torch.Tensor) -> torch.Tensor:
                score = self.network(photos)
                return torch.cat([-score, score], 1)

        found = pooled_gradients(TwoScores().eval(), photos, 1)
        np.testing.assert_allclose(found.map, heatmap, atol=1e-6)
        assert found.map.max() == 1 and found.map.min() == 0

    def test_of_three_classes_by_a_softmax(
        self, dense: nn.Sequential, photos: torch.Tensor
    ) -> None:
        output = dense[:4](photos).requires_grad_()
        dense[4:](output).softmax(1)[0, 2].backward()
        weighted = (
            (output.grad.mean((2, 3), keepdim=True) * output).mean(1)[0].detach().clamp(min=0)
        )
        np.testing.assert_allclose(
            pooled_gradients(dense, photos, 2).map, weighted / weighted.max(), atol=1e-5
        )

    def test_a_certain_answer_has_a_map(self, photos: torch.Tensor) -> None:
        """The probability is 1 in float32, where its gradient would be 0."""
        network = of_layers(*DENSE)
        network[-1].weight.mul_(1000)
        target = int(network(photos).argmax())
        assert float(network(photos).softmax(1)[0, target]) == 1
        found = pooled_gradients(network, photos, target)
        assert np.isfinite(found.map).all()


class TestEdges:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_dead_network_gives_zeros(self, method: Callable[..., object]) -> None:
        network = of_layers(*DENSE)
        network[2].bias.fill_(-1000)
        found = method(network, torch.zeros(1, 3, 16, 16), 1)
        assert isinstance(found, class_activation.NetworkMap)
        np.testing.assert_array_equal(found.map, 0)

    @pytest.mark.parametrize("method", [*METHODS, cam])
    def test_nothing_stays_on_the_network(
        self, method: Callable[..., object], photos: torch.Tensor
    ) -> None:
        network = of_layers(*AVERAGED)
        before = {name: one.clone() for name, one in network.state_dict().items()}
        asked = photos.clone()
        method(network, asked, 0)
        assert torch.equal(asked, photos) and not asked.requires_grad and asked.grad is None
        for module in network.modules():
            assert not module._forward_hooks and not module._backward_hooks
            assert not module._forward_pre_hooks and not module.training
        for name, one in network.state_dict().items():
            assert torch.equal(one, before[name])
        for parameter in network.parameters():
            assert parameter.grad is None and not parameter.requires_grad

    def test_hooks_go_when_the_network_fails(self, dense: nn.Sequential) -> None:
        layer = FeatureLayer("2", dense[2], ())
        with pytest.raises(RuntimeError):
            layer_cam(dense, torch.zeros(1, 4, 16, 16), 0, layer)
        assert not dense[2]._forward_hooks

    def test_a_rectifier_in_place_behind_the_layer(self, photos: torch.Tensor) -> None:
        network = of_layers(*CONVOLUTIONS, {"global": "average"}, {"dense": "classes"})
        network.insert(3, nn.ReLU(inplace=True).eval())
        layer = FeatureLayer("2", network[2], ())
        for method in METHODS:
            assert np.isfinite(method(network, photos, 0, layer).map).all()
        plain = nn.Sequential(*network[:3], nn.ReLU(), *network[4:]).eval()
        np.testing.assert_allclose(
            layer_cam(network, photos, 0, layer).map, layer_cam(plain, photos, 0, layer).map
        )

    def test_many_channels(self, photos: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(class_activation, "MAX_MASKED_CHANNELS", 2)
        found = score_cam(of_layers(*AVERAGED), photos, 0)
        assert found.notes == (
            "Score-CAM tried the 2 channels with the largest standard deviations, of 5.",
        )


class TestFeatureLayers:
    def test_of_own_layers(self, dense: nn.Sequential, photos: torch.Tensor) -> None:
        assert last_convolution(dense, photos).name == "3"  # the rectifier behind the convolution
        assert last_map(dense, photos).name == "4"
        assert [name for name, _ in last_convolution(dense, photos).behind] == [
            *("4", "5", "6.0", "6.1", "7"),
        ]

    def test_of_dense_layers_alone(self, photos: torch.Tensor) -> None:
        network = of_layers({"flatten": True}, {"dense": "classes"})
        for find in (last_convolution, last_map):
            with pytest.raises(QueryError, match=r"no layer whose output is a map.*occlusion"):
                find(network, photos)

    @pytest.mark.parametrize(
        ("name", "layer", "channels"),
        [
            ("embedded:efficientnet-lite0-lite2-textured", "0.network.feature_map", 2960),
            ("torchvision:resnet18", "0.network.layer4", 512),
        ],
    )
    def test_of_backbones(self, name: str, layer: str, channels: int) -> None:
        from veduta.learn.models.backbones import build_backbone

        network = nn.Sequential(build_backbone(name, "none", 64)).eval()
        photos = torch.rand(1, 3, 64, 64)
        found = last_convolution(network, photos)
        assert found.name == layer
        shapes = []
        found.module.register_forward_hook(lambda *call: shapes.append(call[2].shape))
        network(photos)
        assert shapes[-1][1] == channels and shapes[-1][2] == shapes[-1][3] > 1

    def test_of_tokens(self) -> None:
        from torchvision.models import VisionTransformer

        network = VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=2)
        with pytest.raises(QueryError, match="Methods that work: gradient"):
            last_convolution(network.eval(), torch.zeros(1, 3, 32, 32))
