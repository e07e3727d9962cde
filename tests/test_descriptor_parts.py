"""A descriptor as a sum over positions: the parts add up to what the encoder gives."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_onnx import encode, scene

from veduta.encoders import load_encoder
from veduta.encoders.descriptor_parts import descriptor_parts

EMBEDDED = ["fast", "accurate", "efficientnet-lite0", "efficientnet-lite2"]


@pytest.fixture(scope="module")
def encoders():
    return {name: load_encoder(name) for name in EMBEDDED}


def total(parts):
    return parts.parts.sum((0, 1), dtype=np.float64) + parts.constant


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_parts_add_up_to_the_descriptor_of_the_package_s_encoders(name, encoders):
    encoder, photo = encoders[name], scene(90, 150)
    parts = descriptor_parts(encoder, photo)
    (descriptor,) = encode(encoder, photo)
    np.testing.assert_allclose(total(parts), descriptor, rtol=0, atol=1e-6)
    np.testing.assert_allclose(parts.descriptor, descriptor, rtol=0, atol=1e-6)
    (prepared,) = encoder.prepare(photo)
    assert parts.parts.shape[:2] == (prepared.shape[0] // 32, prepared.shape[1] // 32)
    assert parts.box == (0, 0, 150, 90)
