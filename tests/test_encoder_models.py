"""A user's own ONNX models: tiny ones, with answers known by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny_onnx import (
    FLOAT,
    INT64,
    PHOTOS,
    PLAIN,
    UINT8,
    channel_means,
    colour,
    encode,
    logarithm_of_means,
    mirror,
    node,
    onnx,
    port,
    tokens,
    write,
)

from veduta.encoders import (
    load_encoder,
    open_encoder,
    resolve,
)
from veduta.errors import EncoderError


def test_a_float_model_gets_normalised_colours(tmp_path):
    settings = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.2], "pooling": "average"}
    encoder = load_encoder(write(tmp_path, mirror(), settings))
    expected = np.array([(1 - 0.1) / 0.5, (0.8 - 0.2) / 0.4, (0.4 - 0.3) / 0.2])
    result = encode(encoder, colour(255, 204, 102))
    assert result.dtype == np.float32
    assert np.allclose(result, [expected / np.linalg.norm(expected)], atol=1e-5)


def test_a_byte_model_gets_bytes(tmp_path):
    encoder = load_encoder(write(tmp_path, channel_means()))
    assert encoder.dimension == 3
    assert np.allclose(encode(encoder, colour(30, 40, 0)), [[0.6, 0.8, 0]], atol=1e-6)


def test_channels_last(tmp_path):
    content = onnx(
        [node("ReduceMean", ["pixels"], "embedding", axes=[1, 2], keepdims=0)],
        [port("pixels", FLOAT, "N", "H", "W", 3)],
        [port("embedding", FLOAT, "N", 3)],
    )
    encoder = load_encoder(write(tmp_path, content, PLAIN))
    assert encoder.spec.layout == "float-nhwc"
    assert np.allclose(encode(encoder, colour(0, 30, 40)), [[0, 0.6, 0.8]], atol=1e-6)


def test_a_feature_map_is_pooled_by_gem_at_the_photo_s_own_shape(tmp_path):
    encoder = load_encoder(write(tmp_path, mirror(), PLAIN))
    assert (encoder.spec.pooling, encoder.spec.fit, encoder.long_side) == ("gem", "aspect", 560)
    assert encoder.prepare(colour(0, 0, 0, size=(300, 400)))[0].shape == (352, 448, 3)
    half = colour(10, 0, 0, size=(448, 448))
    half[:, 224:] = (0, 20, 0)
    # Red: (1000 / 2) ** (1/3); green: (8000 / 2) ** (1/3), twice that. The floor leaves blue 1e-6.
    assert np.allclose(encode(encoder, half), [np.array([1, 2, 0]) / 5**0.5], atol=1e-2)


def test_tokens_give_the_first(tmp_path):
    encoder = load_encoder(write(tmp_path, tokens(), PLAIN))
    assert (encoder.spec.pooling, encoder.spec.fit, encoder.dimension) == ("cls", "squash", 16)
    assert encoder.spec.sizes == ((4, 1.0),)
    assert np.allclose(encode(encoder, colour(7, 1, 0, size=(4, 4))), 0.25)


def test_two_sizes_are_added_by_weight(tmp_path):
    # A wide photo, red on the left two thirds: at a size of one pixel it is a mix, at four not.
    settings = {**PLAIN, "pooling": "gem", "gem_p": 3.0, "fit": "squash"}
    path = write(tmp_path, mirror(), settings)
    picture = colour(0, 0, 90, size=(30, 30))
    picture[:, :20] = (90, 0, 0)
    parts = {}
    for side in (1, 30):
        source = replace(
            resolve(path), settings=replace(resolve(path).settings, sizes=((side, 1),))
        )
        parts[side] = encode(open_encoder(source), picture)
    both = resolve(path)
    both = replace(both, settings=replace(both.settings, sizes=((1, 3.0), (30, 1.0))))
    mixed = 3 * parts[1] + parts[30]
    assert np.abs(parts[1] - parts[30]).max() > 0.05
    assert np.allclose(
        encode(open_encoder(both), picture), mixed / np.linalg.norm(mixed), atol=1e-6
    )


def test_a_batch_of_mixed_shapes_keeps_its_order(tmp_path):
    encoder = load_encoder(write(tmp_path, channel_means()))
    shapes = [(40, 60), (60, 40), (40, 60), (1, 1), (60, 40)] * 4
    pictures = [colour(10 * n + 5, 0, 100, size=shape) for n, shape in enumerate(shapes)]
    result = encode(encoder, *pictures)
    reds = result[:, 0] / result[:, 2]
    assert np.allclose(reds, [(10 * n + 5) / 100 for n in range(len(shapes))], atol=1e-5)
    assert all(before < after for before, after in pairwise(reds))


def test_no_photos_give_no_descriptors(tmp_path):
    encoder = load_encoder(write(tmp_path, channel_means()))
    assert encoder.encode([]).shape == (0, 3)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_of_one_batch_size(tmp_path, batch):
    content = mirror(port("pixels", FLOAT, batch, 3, "H", "W"))
    encoder = load_encoder(write(tmp_path, content, {**PLAIN, "pooling": "average"}))
    result = encode(encoder, *(colour(n, 50, 0) for n in (0, 10, 20, 30, 40)))
    assert np.allclose(result[:, 0] / result[:, 1], [0, 0.2, 0.4, 0.6, 0.8], atol=1e-5)


def test_blank_photos_give_finite_unit_vectors(tmp_path):
    encoder = load_encoder(write(tmp_path, mirror(), {**PLAIN, "pooling": "average"}))
    result = encode(encoder, colour(0, 0, 0), colour(1, 0, 0))
    assert np.allclose(result, [np.full(3, 3**-0.5), [1, 0, 0]])


def test_undefined_numbers_are_refused(tmp_path):
    encoder = load_encoder(write(tmp_path, logarithm_of_means(), PLAIN))
    assert np.isfinite(encode(encoder, colour(5, 5, 5))).all()
    with pytest.raises(EncoderError, match="undefined"):
        encode(encoder, colour(0, 0, 0))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_photos(tmp_path, wrong):
    encoder = load_encoder(write(tmp_path, channel_means()))
    with pytest.raises(EncoderError, match="uint8"):
        encoder.prepare(wrong)


def test_a_separate_weights_file_is_part_of_the_identity(tmp_path):
    # The name of the weights file stands in the model, here as the name of its graph's node.
    content = onnx(
        [node("Identity", ["pixels"], "model.onnx_data")],
        [PHOTOS],
        [port("model.onnx_data", FLOAT, "N", 3, "h", "w")],
    )
    path = write(tmp_path, content)
    identities = [load_encoder(path).identity]
    for weights in (b"one", b"two"):
        (tmp_path / "model.onnx_data").write_bytes(weights)
        identities.append(load_encoder(path).identity)
    assert len(set(identities)) == 3
    (tmp_path / "model.onnx.data").write_bytes(b"a stranger's")
    assert load_encoder(path).identity == identities[-1]


def test_a_model_of_text_is_refused(tmp_path):
    content = onnx(
        [node("Identity", ["pixel_values"], "image_embeds")],
        [port("input_ids", INT64, "N", "T"), port("pixel_values", FLOAT, "N", 3, "H", "W")],
        [port("image_embeds", FLOAT, "N", 3, "H", "W")],
    )
    with pytest.raises(EncoderError) as caught:
        load_encoder(write(tmp_path, content))
    for part in ("model.onnx", "'input_ids' (int64, ? × ?)", "'pixel_values'", "vision_model.onnx"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        port("pixels", FLOAT, "N", 10),
        port("pixels", FLOAT, "N", 1, 28, 28),
        port("pixels", INT64, "N", 3, "H", "W"),
        port("pixels", UINT8, "N", 3, "H", "W"),
    ],
)
def test_an_input_that_takes_no_photo(tmp_path, wrong):
    content = onnx(
        [node("Cast", ["pixels"], "numbers", to=FLOAT), node("Flatten", ["numbers"], "descriptor")],
        [wrong],
        [port("descriptor", FLOAT, "N", "D")],
    )
    with pytest.raises(EncoderError, match=r"not a model for photos.*wanted is one input"):
        load_encoder(write(tmp_path, content))


def test_a_fixed_shape_that_is_no_square(tmp_path):
    content = mirror(port("pixels", FLOAT, "N", 3, 224, 320))
    with pytest.raises(EncoderError, match="224 × 320"):
        load_encoder(write(tmp_path, content))


def test_a_fixed_size_against_the_settings(tmp_path):
    content = mirror(port("pixels", FLOAT, "N", 3, 32, 32))
    assert load_encoder(write(tmp_path, content)).spec.sizes == ((32, 1.0),)
    with pytest.raises(EncoderError, match="squares of 32 pixels only"):
        load_encoder(write(tmp_path, content, {"sizes": [64]}))


@pytest.mark.parametrize("content", [b"", b"not a model", b"<html></html>", mirror()[:40]])
def test_files_that_are_no_models(tmp_path, content):
    with pytest.raises(EncoderError, match=r"model\.onnx"):
        load_encoder(write(tmp_path, content))
