"""The exact maps against gradient × input in PyTorch, which shares no code with them.

A channel's pooled value is homogeneous of some degree in the feature map, so by Euler's theorem it
is the sum of gradient × input over the positions, divided by that degree. The lengths are held
constant.
"""

from __future__ import annotations

import numpy as np
import pytest
from tiny_onnx import scene

from veduta.encoders import Projection, open_encoder
from veduta.encoders.descriptor_parts import descriptor_parts
from veduta.encoders.embedded import embedded_models, embedded_source

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from veduta.learn.models.embedded_network import (  # noqa: E402
    EfficientNetPair,
    embedded_network,
)

DEGREE = 1.5
"""Of the square root of a mean cube."""

FLOAT_MODELS = [name for name in embedded_models() if not name.endswith("-int8")]
"""PyTorch has no twin of the networks in eight bits: see `test_eight_bits.py` for their sums."""


@pytest.fixture(scope="module")
def pair():
    return embedded_network("efficientnet-lite0-lite2", pretrained=True).eval()


def gradient_times_input(network, photo, direction, projection):
    """Return the map (h, w) of the descriptor's product with a vector, by autograd."""
    pixels = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None]
    maps, halves = [], []
    for early, late, common in zip(network.early, network.late, network.common, strict=True):
        with torch.no_grad():
            features = late(early((pixels - 127) / 128)).double()
        maps.append(features.requires_grad_())
        pooled = features.clamp(min=1e-6).pow(3).mean((2, 3)).sqrt()
        centred = pooled / pooled.norm().detach() - common.double()
        halves.append(centred / centred.norm().detach())
    descriptor = torch.cat(halves, dim=1)
    descriptor = descriptor / descriptor.norm().detach()
    if projection is not None:
        mean, matrix = (torch.from_numpy(one).double() for one in projection)
        projected = (descriptor - mean) @ matrix
        descriptor = projected / projected.norm().detach()
    (descriptor[0] @ torch.from_numpy(direction).double()).backward()
    return sum((one.grad * one).detach().sum(dim=(0, 1)) for one in maps).numpy() / DEGREE


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_maps_are_those_of_autograd(name, pair):
    encoder = open_encoder(embedded_source(name, name, ((96, 1.0),)))
    photos = [scene(64, 96, seed=seed) for seed in (1, 2)]
    plain = [descriptor_parts(encoder, photo) for photo in photos]
    mean = (plain[0].descriptor + plain[1].descriptor) / 4
    matrix = np.random.default_rng(0).normal(size=(encoder.dimension, 64)).astype(np.float32)
    projected = [one.projected(Projection(mean, matrix, 0.0, 1)) for one in plain]
    for parts, projection in ((plain, None), (projected, (mean, matrix))):
        query, hit = parts
        wanted = gradient_times_input(network_of(name, pair), photos[0], hit.descriptor, projection)
        np.testing.assert_allclose(query.map(hit.descriptor), wanted, rtol=0, atol=1e-5)
        assert np.abs(wanted).max() > 0.01  # The tolerance is small beside the map.


def network_of(name, pair):
    """Return one of the networks of a pair, as a pair of one, or the pair."""
    if name == "efficientnet-lite0-lite2":
        return pair
    row = ["efficientnet-lite0", "efficientnet-lite2"].index(name)
    alone = EfficientNetPair([], pair.common[row : row + 1])
    alone.early, alone.late = pair.early[row : row + 1], pair.late[row : row + 1]
    return alone
