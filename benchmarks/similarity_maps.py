"""Methods that explain a similarity, for the default encoder and for the same with random weights.

The network with random weights runs in torch, and so does Grad-CAM, which needs gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.explained_pairs import VerifiedPair
from benchmarks.explanation_measures import Maker, Pixels
from veduta.encoders import Encoder
from veduta.explanation import Explanation
from veduta.explanation.perturbation import explain_by_perturbation
from veduta.explanation.scorers import Scorer
from veduta.explanation.similarity import explain_similarity
from veduta.learn.explaining.class_activation import grad_cam
from veduta.learn.explaining.feature_maps import FeatureLayer
from veduta.learn.models.embedded_network import EfficientNetPair, embedded_network

NETWORK = "efficientnet-lite0-lite2"


class SimilarityTo(nn.Module):  # type: ignore[misc]
    """The similarity of photos to one descriptor, as the only score of a network."""

    def __init__(self, network: nn.Module, descriptor: Tensor) -> None:
        super().__init__()
        self.network = network
        self.descriptor = descriptor

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1)."""
        descriptors = nn.functional.normalize(self.network(photos))
        return descriptors @ self.descriptor[:, None]


def networks() -> tuple[EfficientNetPair, EfficientNetPair]:
    """Return the default encoder's network, and one with the random weights of a new network."""
    torch.manual_seed(0)
    trained, random = (embedded_network(NETWORK, pretrained=wanted) for wanted in (True, False))
    return trained.eval().requires_grad_(False), random.eval().requires_grad_(False)


def makers(encoder: Encoder, network: EfficientNetPair, pair: VerifiedPair) -> dict[str, Maker]:
    """Return the methods, as functions from the query to its explanation."""
    return {
        "shares": lambda pixels: explain_similarity(encoder, pixels, pair.hit),
        "grad-cam": _in_torch(grad_cam_of, encoder, network, pair.hit),
        "occlusion": _by_changes("occlusion", pair.scorer),
        "rise": _by_changes("rise", pair.scorer),
    }


def makers_with_random_weights(
    encoder: Encoder, network: EfficientNetPair, pair: VerifiedPair
) -> dict[str, Maker]:
    """Return the cheap methods for a network with random weights."""
    return {
        "shares": _in_torch(shares_of, encoder, network, pair.hit),
        "grad-cam": _in_torch(grad_cam_of, encoder, network, pair.hit),
    }


def _by_changes(method: str, scorer: Scorer) -> Maker:
    return lambda pixels: explain_by_perturbation(method, scorer, pixels, photo="query")


TorchMap = Callable[[EfficientNetPair, Tensor, Tensor], NDArray[np.float32]]


def grad_cam_of(
    network: EfficientNetPair, photo: Tensor, descriptor: Tensor
) -> NDArray[np.float32]:
    """Return Grad-CAM of the similarity, (h, w): channels weighted by their mean gradients."""
    layer = FeatureLayer("network.feature_map", network.feature_map, ())
    return grad_cam(SimilarityTo(network, descriptor), photo, 0, layer).map


def shares_of(network: EfficientNetPair, photo: Tensor, descriptor: Tensor) -> NDArray[np.float32]:
    """Return the shares of positions in the similarity, (h, w)."""
    seen: list[Tensor] = []
    hook = network.feature_map.register_forward_hook(lambda _, __, maps: seen.append(maps))
    with torch.no_grad():
        length = network(photo).norm()
        shares, _ = network.shares(seen[0])
    hook.remove()
    return torch.einsum("ndyx,d->yx", shares, descriptor / length).numpy()


def _in_torch(make: TorchMap, encoder: Encoder, network: EfficientNetPair, hit: Pixels) -> Maker:
    (descriptor,) = _descriptors(encoder, network, [hit])

    def explained(pixels: Pixels) -> Explanation:
        started = time.perf_counter()
        found = make(network, _inputs(encoder, [pixels]), descriptor)
        box = (0, 0, pixels.shape[1], pixels.shape[0])
        seconds = time.perf_counter() - started
        return Explanation("query", pixels, found, box, "", similarity=0.0, seconds=seconds)

    return explained


def _descriptors(encoder: Encoder, network: EfficientNetPair, photos: Sequence[Pixels]) -> Tensor:
    with torch.no_grad():
        return nn.functional.normalize(network(_inputs(encoder, photos)))


def _inputs(encoder: Encoder, photos: Sequence[Pixels]) -> Tensor:
    """Return photos of one size as the network takes them, (N, 3, h, w)."""
    prepared = np.stack([encoder.prepare(photo)[0] for photo in photos])
    return ((torch.from_numpy(prepared).float() - 127) / 128).permute(0, 3, 1, 2)
