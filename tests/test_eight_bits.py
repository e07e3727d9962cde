"""Networks in eight bits: the same on every processor, and near 32 bits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.avx2_only import can_hide, descriptors, keypoints
from numpy.typing import NDArray
from tiny_onnx import scene

from veduta.encoders import PRESETS, Encoder, load_encoder
from veduta.encoders.descriptor_parts import descriptor_parts
from veduta.encoders.embedded import embedded_models, embedded_source
from veduta.encoders.loading import open_encoder
from veduta.keypoints import xfeat

EIGHT, FULL = "accurate-int8", "accurate"
MODEL = embedded_models()[PRESETS[EIGHT].model]
KEYPOINT_MODEL = Path(xfeat.__file__).parent / "models" / f"{xfeat.XFeat.model}.onnx"
FULL_MODEL = embedded_models()[PRESETS[FULL].model]


def described(encoder: Encoder, *photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    return encoder.encode([encoder.prepare(photo) for photo in photos])


@pytest.fixture(scope="module")
def small() -> Encoder:
    return open_encoder(embedded_source("small", MODEL.name, ((96, 1.0),)))


def test_it_is_in_eight_bits() -> None:
    manifest = json.loads((MODEL.path.parent / "manifest.json").read_text("utf-8"))["models"]
    assert "int8" in manifest[MODEL.name]["precision"]
    assert MODEL.size < 0.6 * FULL_MODEL.size
    assert (MODEL.networks, MODEL.dimension, MODEL.pooling, MODEL.root) == (
        (FULL_MODEL.networks, FULL_MODEL.dimension, FULL_MODEL.pooling, FULL_MODEL.root)
    )


def test_an_index_says_in_which_precision_it_was_made(small: Encoder) -> None:
    assert small.describe()["precision"] == "int8"
    assert load_encoder(FULL).describe()["precision"] == "float32"


@pytest.mark.parametrize(("path", "convolutions"), [(MODEL.path, 70), (KEYPOINT_MODEL, 13)])
def test_no_two_products_overflow_sixteen_bits(path: Path, convolutions: int) -> None:
    """AVX2 adds the products of two neighbours in 16 bits, and saturates there."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(path).graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    checked = 0
    for node in graph.node:
        if node.op_type != "Conv" or made[node.input[1]].op_type != "DequantizeLinear":
            continue
        weight = constants[made[node.input[1]].input[0]].astype(int)
        assert weight.dtype.kind == "i" and np.abs(weight).max() <= 127
        if weight.shape[1] == 1:  # Depthwise layers add in 32 bits.
            continue
        rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1, 2)
        for sign in (1, -1):
            assert 255 * np.maximum(sign * rows, 0).sum(axis=2).max() < 2**15
        checked += 1
    assert checked >= convolutions


@pytest.mark.skipif(not can_hide(), reason="this machine cannot hide instructions from a process")
def test_a_processor_without_vnni_gives_the_same_descriptors() -> None:
    photos = np.stack([scene(64, 96, seed=seed) for seed in range(3)])
    here, _ = descriptors(photos, MODEL.name, 96, avx2_only=False)
    there, _ = descriptors(photos, MODEL.name, 96, avx2_only=True)
    np.testing.assert_array_equal(here, there)
    assert len({row.tobytes() for row in here}) == 3


@pytest.mark.skipif(not can_hide(), reason="this machine cannot hide instructions from a process")
def test_a_processor_without_vnni_gives_nearly_the_same_keypoints() -> None:
    """The layers in 32 bits differ in their last digits there, as in the network of 32 bits."""
    photos = [scene(192, 256, seed=seed) for seed in range(3)]
    here, there = (
        keypoints(photos, xfeat.XFeat.model, avx2_only=avx2_only) for avx2_only in (False, True)
    )
    for one, other in zip(here, there, strict=True):
        assert len(one) > 100
        rows = {tuple(xy): row for xy, row in zip(other.xy, other.descriptors, strict=True)}
        both = [
            (row, rows[tuple(xy)])
            for xy, row in zip(one.xy, one.descriptors, strict=True)
            if tuple(xy) in rows
        ]
        assert len(both) > 0.98 * len(one)
        a, b = np.array(both).astype(np.float64).transpose(1, 0, 2)
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosines.min() > 0.99


def test_descriptors_are_near_those_of_32_bits(small: Encoder) -> None:
    full = open_encoder(embedded_source("full", FULL_MODEL.name, ((96, 1.0),)))
    photos = [scene(120, 160, seed=seed) for seed in range(6)]
    cosines = described(small, *photos) @ described(full, *photos).T
    assert np.diagonal(cosines).min() > 0.95
    assert (cosines.argmax(axis=1) == np.arange(6)).all()


def test_a_similarity_is_divided_among_positions_exactly(small: Encoder) -> None:
    one, other = scene(120, 160, seed=1), scene(160, 120, seed=2)
    parts = descriptor_parts(small, one)
    direction = described(small, other)[0]
    similarity = float(described(small, one)[0] @ direction)
    found = parts.map(direction).sum(dtype=np.float64) + parts.constant_of(direction)
    assert found == pytest.approx(similarity, abs=1e-5)


def test_both_have_the_same_settings() -> None:
    """But for the model, they describe a photo in the same way."""
    eight, full = (load_encoder(name) for name in (EIGHT, FULL))
    differing: dict[str, Any] = {"name": "", "model": Path(), "sha256": ""}
    assert dataclasses.replace(eight.spec, **differing) == dataclasses.replace(
        full.spec, **differing
    )
