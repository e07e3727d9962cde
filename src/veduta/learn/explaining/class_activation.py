"""Class activation maps: the last feature map of a network, its channels weighted for a class.

Grad-CAM is that of captum. The other methods are a few lines each; the tests compare them with the
package grad-cam, whose import takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import QueryError
from veduta.learn.explaining.feature_maps import POOLING, FeatureLayer, last_convolution
from veduta.learn.explaining.gradient_rules import photo_gradient
from veduta.learn.explaining.network_map import NetworkMap
from veduta.learn.models.embedded_network import EfficientNetPair
from veduta.learn.models.layers import GaussianNoise, GeM, GlobalPool, Reshape

__all__ = [
    "cam",
    "eigen_cam",
    "exact_shares",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_grad_cam",
    "has_exact_shares",
    "layer_cam",
    "pooled_gradients",
    "score_cam",
]

LINEAR = (
    *POOLING,
    GlobalPool,
    GeM,
    nn.Flatten,
    Reshape,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout,
    GaussianNoise,
    nn.Identity,
)
"""Layers whose results are sums over positions, plus a constant; see `exact_shares`."""

MAX_LINEARITY_ERROR = 1e-3
"""The difference of a score to the sum of its shares and the score of an empty map, relative to
the largest of them. Other functions than linear ones differ by far more."""

MAX_MASKED_CHANNELS = 128
"""Channels that Score-CAM masks the photo with. Each costs a run of the network."""

MASKED_PHOTOS_PER_RUN = 16

FOR_A_CLASS = "layer-cam, grad-cam, grad-cam++, gradient, occlusion"
"""Methods that explain the score of a class where there is no exact map."""


def cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Divide the score of a class among positions, exactly.

    With global average pooling and one linear layer behind the feature map, this is the class
    activation map of Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR
    2016, without the factor of the number of positions. Batch norms between them are linear too.

    Args:
        network: in eval mode, from photos to scores (N, C) before a softmax or sigmoid.
        photos: (1, 3, S, S) float32, as the network takes them.
        target: the number of the class.
        layer: the feature map; None: that of `last_convolution`.

    Returns:
        A signed map. Its sum and its constant are the score.

    Raises:
        QueryError: the network has no feature map, or other layers behind it.
    """
    return exact_shares(network, photos, lambda scores: scores[:, target], layer)


def has_exact_shares(layer: FeatureLayer) -> bool:
    """Return whether only poolings and linear layers follow a feature map."""
    return _not_linear(layer) is None


def exact_shares(
    network: nn.Module,
    photos: Tensor,
    value: Callable[[Tensor], Tensor],
    layer: FeatureLayer | None = None,
    *,
    others: str = FOR_A_CLASS,
) -> NetworkMap:
    """Divide a linear function of a network's output among the positions of a feature map.

    A pooled number is a sum over positions: a mean is one of x / n, a generalised mean one of
    x^p / Σ x^p of its value (Euler's theorem for functions that are homogeneous of degree one), and
    a maximum is at one position. So a position has the sum over channels of x · ∂value/∂x.

    Args:
        network: in eval mode, from photos to outputs (N, D).
        photos: (1, 3, S, S) float32, as the network takes them.
        value: from outputs (N, D) to values (N,): linear, plus a constant.
        layer: the feature map; None: that of `last_convolution`.
        others: methods that an error names.

    Returns:
        A signed map (h, w). Its sum and its constant are the value.

    Raises:
        QueryError: what follows the feature map is not linear in this sense.
    """
    layer = layer or last_convolution(network, photos)
    if (culprit := _not_linear(layer)) is not None:
        raise QueryError(
            "An exact map needs a network that ends in pooling and one linear layer. Behind the "
            f"last feature map, {layer.name}, this one has {culprit}. Methods that "
            f"work: {others}."
        )
    # Behind the feature map of a pair of networks are lengths, which its own method holds constant.
    pair = _pair_with(network, layer)
    source = layer.module if pair is None else pair
    with ExitStack() as hooks:
        outputs = hooks.enter_context(_feature_maps(source, with_empty=True))
        if pair is not None:
            maps = hooks.enter_context(_feature_maps(layer.module))
        values = value(network(photos))
    (gradient,) = torch.autograd.grad(values[0], outputs[-1])
    gradient, features = gradient[0].double(), outputs[-1][0].detach().double()
    score, constant = values.detach().double().tolist()
    if pair is None:
        shares = (gradient * features).sum(0)
    else:
        parts, rest = (one[0].double() for one in pair.shares(maps[-1].detach()))
        shares = torch.einsum("d,dhw->hw", gradient, parts)
        constant += float(gradient @ rest)
    scale = max(abs(score), abs(constant), float(shares.abs().sum()), 1e-6)
    if not abs(float(shares.sum()) + constant - score) <= MAX_LINEARITY_ERROR * scale:
        raise QueryError(
            "An exact map needs a network that ends in pooling and one linear layer. What this one "
            f"computes behind its last feature map, {layer.name}, is not linear. Methods that "
            f"work: {others}."
        )
    found = _network_map(shares, layer)
    # Without the rounding of the map, and of GeM's floor, this is the value of an empty map.
    return NetworkMap(found.map, score - float(found.map.sum(dtype="float64")), layer.name)


def grad_cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Weight the channels by their mean gradients (Selvaraju et al., ICCV 2017), by captum.

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        The positive part of the weighted sum.

    Raises:
        QueryError: the network has no feature map.
    """
    from captum.attr import LayerGradCam

    layer = layer or last_convolution(network, photos)
    found = LayerGradCam(network, layer.module).attribute(
        photos.clone().requires_grad_(), target=target, relu_attributions=True
    )
    return _network_map(found[0, 0].detach(), layer)


def grad_cam_plus_plus(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Weight the channels by their positive gradients, as Chattopadhay et al., WACV 2018.

    As in the paper, the function that is derived is the exponential of the score, whose higher
    derivatives are powers of the first. Its own factor is left out: it is the same everywhere.

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        The positive part of the weighted sum.

    Raises:
        QueryError: the network has no feature map.
    """
    layer, features, gradient = _features_and_gradient(network, photos, target, layer)
    sums = features.sum((1, 2), keepdim=True)
    divisor = 2 * gradient**2 + sums * gradient**3
    shares = torch.where(divisor != 0, gradient**2 / divisor, 0.0)
    weights = (shares * gradient.clamp(min=0)).sum((1, 2), keepdim=True)
    return _network_map((weights * features).sum(0).clamp(min=0), layer)


def layer_cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Weight each position of each channel by its positive gradient (Jiang et al., TIP 2021).

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        The positive part of the weighted sum.

    Raises:
        QueryError: the network has no feature map.
    """
    layer, features, gradient = _features_and_gradient(network, photos, target, layer)
    return _network_map((gradient.clamp(min=0) * features).sum(0).clamp(min=0), layer)


def eigen_cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Project the features of each position on their first principal component.

    Muhammad and Yeasin, IJCNN 2020. It is the same for all classes, so `target` has no effect. The
    features are centred, and the sign is that with which strong features have positive values.

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        The positive part of the projection.

    Raises:
        QueryError: the network has no feature map.
    """
    layer, features = _features(network, photos, layer)
    features = features.double()
    rows = features.flatten(1).T
    centred = rows - rows.mean(0)
    component = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    projected = centred @ component
    if projected @ centred.sum(1) < 0:
        projected = -projected
    found = _network_map(projected.reshape(features.shape[1:]).clamp(min=0), layer)
    note = "Eigen-CAM shows the strongest pattern of the feature map, whatever the class is."
    return NetworkMap(found.map, layer=layer.name, notes=(note,))


def score_cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Weight the channels by the score of the photo seen through them.

    Wang et al., CVPR workshops 2020: each channel, enlarged and scaled to [0, 1], masks the photo,
    and the softmax of the scores over channels gives the weights. Where a network has many
    channels, only those with the largest standard deviations are tried.

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        The positive part of the weighted sum.

    Raises:
        QueryError: the network has no feature map.
    """
    layer, features = _features(network, photos, layer)
    spread = features.flatten(1).std(1, correction=0)  # also defined for one position
    channels = spread.argsort(descending=True)[:MAX_MASKED_CHANNELS]
    chosen = features[channels]
    masks = functional.interpolate(chosen[None], photos.shape[2:], mode="bilinear")[0]
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    masks = torch.where(high > low, (masks - low) / (high - low), 0.0)
    with torch.no_grad():
        scores = torch.cat(
            [
                network(photos * some[:, None])[:, target]
                for some in masks.split(MASKED_PHOTOS_PER_RUN)
            ]
        )
    weights = scores.double().softmax(0)
    weighted = torch.einsum("c,chw->hw", weights, chosen.double())
    notes: tuple[str, ...] = ()
    if len(channels) < len(features):
        notes = (
            f"Score-CAM tried the {len(channels)} channels with the largest standard deviations, "
            f"of {len(features):,}.",
        )
    found = _network_map(weighted.clamp(min=0), layer)
    return NetworkMap(found.map, layer=layer.name, notes=notes)


def guided_grad_cam(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Multiply Grad-CAM, enlarged, by the guided gradient (Selvaraju et al., ICCV 2017).

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        A map of the pixels of the network's input: the largest absolute value over channels.

    Raises:
        QueryError: the network has no feature map.
    """
    coarse = grad_cam(network, photos, target, layer)
    gradient, notes = photo_gradient(network, photos, target, "guided")
    large = functional.interpolate(
        torch.from_numpy(coarse.map)[None, None], photos.shape[2:], mode="bilinear"
    )
    product = (gradient * large)[0].abs().amax(0)
    return NetworkMap(product.numpy(), layer=coarse.layer, notes=notes)


def pooled_gradients(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer | None = None
) -> NetworkMap:
    """Compute the heat map of Chollet, "Deep Learning with Python", 2017, section 5.4.3.

    The gradient of the probability of the class is pooled over positions, its products with the
    channels are averaged over the channels, negative values become zero, and the largest one.

    Args:
        network: as for `cam`.
        photos: as for `cam`.
        target: as for `cam`.
        layer: as for `cam`.

    Returns:
        A map in [0, 1]; zeros if no value is positive.

    Raises:
        QueryError: the network has no feature map.
    """

    def log_probability(scores: Tensor) -> Tensor:
        # It has the gradient of the probability but for a factor, which the last step takes out.
        return functional.log_softmax(scores.double(), dim=1)[0, target]

    layer, features, gradient = _features_and_gradient(
        network, photos, target, layer, log_probability
    )
    heat = (gradient.mean((1, 2), keepdim=True) * features).mean(0).clamp(min=0)
    largest = heat.max()
    return _network_map(heat / largest if largest > 0 else heat, layer)


def _features(
    network: nn.Module, photos: Tensor, layer: FeatureLayer | None
) -> tuple[FeatureLayer, Tensor]:
    """Return the layer and its output (C, h, w)."""
    layer = layer or last_convolution(network, photos)
    with torch.no_grad(), _feature_maps(layer.module) as maps:
        network(photos)
    return layer, maps[-1][0].detach()


def _features_and_gradient(
    network: nn.Module,
    photos: Tensor,
    target: int,
    layer: FeatureLayer | None,
    value: Callable[[Tensor], Tensor] | None = None,
) -> tuple[FeatureLayer, Tensor, Tensor]:
    """Return the layer, its output (C, h, w) and the gradient of the score, both float64."""
    layer = layer or last_convolution(network, photos)
    with _feature_maps(layer.module) as maps:
        scores = network(photos)
    score = scores[0, target] if value is None else value(scores)
    (gradient,) = torch.autograd.grad(score, maps[-1])
    return layer, maps[-1][0].detach().double(), gradient[0].double()


@contextmanager
def _feature_maps(module: nn.Module, *, with_empty: bool = False) -> Iterator[list[Tensor]]:
    """Let the graph of gradients begin behind a module; yield a list that gets its outputs.

    Args:
        module: inside a network.
        with_empty: the network goes on with two outputs, the module's and zeros.
    """
    outputs: list[Tensor] = []

    def begin(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        start = output.detach().requires_grad_(torch.is_grad_enabled())
        outputs.append(start)
        # A rectifier in place behind the module changes the copy.
        return torch.cat([start, torch.zeros_like(start)]) if with_empty else start.clone()

    hook = module.register_forward_hook(begin)
    try:
        yield outputs
    finally:
        hook.remove()


def _not_linear(layer: FeatureLayer) -> str | None:
    """Return the name of the first layer behind a feature map that is not linear."""
    for name, module in layer.behind:
        if not isinstance(module, LINEAR):
            return f"{name} ({type(module).__name__})"
    return None


def _pair_with(network: nn.Module, layer: FeatureLayer) -> EfficientNetPair | None:
    """Return the pair of networks whose feature map the layer is."""
    for module in network.modules():
        if isinstance(module, EfficientNetPair) and module.feature_map is layer.module:
            return module
    return None


def _network_map(values: Tensor, layer: FeatureLayer) -> NetworkMap:
    return NetworkMap(values.float().numpy(), layer=layer.name)
