"""Encoders: tiny ONNX models with answers known by hand, and the embedded ones."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from veduta import photos
from veduta.encoders import (
    DEFAULT,
    PRESETS,
    Encoder,
    EncoderSpec,
    Settings,
    Source,
    list_encoders,
    load_encoder,
    open_encoder,
    resolve,
)
from veduta.encoders import hub as hub_room
from veduta.encoders.embedded import embedded_models
from veduta.encoders.fitting import long_side, place
from veduta.encoders.pooling import pool, unit
from veduta.encoders.runtime import openvino_installed
from veduta.errors import EncoderError, EncoderUnavailable, UnknownEncoder

# --- ONNX files without the onnx package: the few messages of its protobuf schema ---

FLOAT, UINT8, INT64 = 1, 2, 7


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: a varint or a length-delimited value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def port(name: str, kind: int, *shape: int | str) -> bytes:
    sizes = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape
    )
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))


def node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    out = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            out += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            out += field(
                5, field(1, name) + b"".join(field(8, part) for part in value) + field(20, 7)
            )
    return out


def constant(name: str, values: list[int] | list[float], kind: int) -> bytes:
    form = {FLOAT: "f", INT64: "q"}[kind]
    raw = struct.pack(f"<{len(values)}{form}", *values)
    return field(1, len(values)) + field(2, kind) + field(8, name) + field(9, raw)


def onnx(
    nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], constants: tuple[bytes, ...] = ()
) -> bytes:
    graph = field(2, "tiny")
    for number, parts in ((1, nodes), (5, constants), (11, inputs), (12, outputs)):
        graph += b"".join(field(number, part) for part in parts)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


PHOTOS = port("pixels", FLOAT, "N", 3, "H", "W")


def mirror(photos_port: bytes = PHOTOS) -> bytes:
    """The feature map is the normalised photo itself."""
    return onnx(
        [node("Identity", ["pixels"], "features")],
        [photos_port],
        [port("features", FLOAT, "N", 3, "h", "w")],
    )


def tokens() -> bytes:
    """Three tokens, one a colour channel, of 16 numbers, one a pixel."""
    return onnx(
        [node("Reshape", ["pixels", "shape"], "last_hidden_state")],
        [port("pixels", FLOAT, "N", 3, 4, 4)],
        [port("last_hidden_state", FLOAT, "N", 3, 16)],
        (constant("shape", [0, 3, 16], INT64),),
    )


def channel_means() -> bytes:
    """Bytes in, mean of each channel out."""
    return onnx(
        [
            node("Cast", ["pixels"], "numbers", to=FLOAT),
            node("ReduceMean", ["numbers"], "descriptor", axes=[1, 2], keepdims=0),
        ],
        [port("pixels", UINT8, "N", "H", "W", 3)],
        [port("descriptor", FLOAT, "N", 3)],
    )


def logarithm() -> bytes:
    """Minus infinity on black."""
    return onnx(
        [node("Log", ["pixels"], "features")],
        [PHOTOS],
        [port("features", FLOAT, "N", 3, "h", "w")],
    )


PLAIN = {"mean": [0, 0, 0], "std": [1, 1, 1], "scale": 1}


def write(folder: Path, content: bytes, settings: dict[str, object] | None = None) -> str:
    path = folder / "model.onnx"
    path.write_bytes(content)
    if settings is not None:
        path.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    return str(path)


def colour(*rgb: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), rgb, dtype=np.uint8)


def encode(encoder: Encoder, *pictures: np.ndarray) -> np.ndarray:
    return encoder.encode([encoder.prepare(picture) for picture in pictures])


def scene(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    """Coarse random patches: edges and colours at a scale that survives the resize."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return photos.resize(coarse, width, height)


# --- pooling and length one ---


def test_gem_by_hand():
    features = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 2.0]]]], dtype=np.float32)
    # (1 + 8 + 27 + 64) / 4 = 25; (3 * 1e-18 + 8) / 4 = 2.
    assert np.allclose(pool(features, "gem", 3.0), [[25 ** (1 / 3), 2 ** (1 / 3)]])


def test_gem_of_power_one_is_the_average():
    features = np.random.default_rng(0).random((2, 5, 3, 4), dtype=np.float32)
    assert np.allclose(pool(features, "gem", 1.0), pool(features, "average", 3.0), atol=1e-6)
    assert np.allclose(pool(features, "average", 3.0), features.reshape(2, 5, 12).mean(axis=2))


def test_tokens_by_hand():
    words = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert pool(words, "cls", 3.0).tolist() == [[0, 1, 2, 3]]
    assert pool(words, "mean_tokens", 3.0).tolist() == [[6, 7, 8, 9]]


def test_graph_takes_vectors_and_maps_of_one_pixel():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(pool(vectors, "graph", 3.0), vectors)
    assert np.array_equal(pool(vectors[:, :, None, None], "graph", 3.0), vectors)


@pytest.mark.parametrize(("rank", "pooling"), [(3, "gem"), (2, "cls"), (4, "graph")])
def test_pooling_of_another_rank_is_refused(rank, pooling):
    with pytest.raises(EncoderError, match="rank"):
        pool(np.zeros((2, 3, 4, 5)[:rank], dtype=np.float32), pooling, 3.0)


def test_unit_by_hand():
    assert np.allclose(unit(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0, -1]])


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-30, 1e30, 1e300])
def test_unit_of_any_size_is_of_length_one(size):
    result = unit(np.full((2, 4), size))
    assert result.dtype == np.float32
    assert np.allclose(result, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unit_refuses_undefined_numbers(value):
    with pytest.raises(EncoderError, match="undefined"):
        unit(np.array([[1.0, value]]))


def test_unit_of_nothing():
    assert unit(np.zeros((0, 7))).shape == (0, 7)


# --- fitting a photo to the network ---


def spec(**changes: object) -> EncoderSpec:
    base = EncoderSpec(
        name="test",
        model=Path("test.onnx"),
        sha256="00" * 32,
        layout="float-nchw",
        sizes=((448, 1.0),),
        output="features",
        pooling="gem",
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4000, 3000, (448, 352)),  # 336 pixels are 10.5 strides
        (3000, 4000, (352, 448)),
        (4000, 4000, (448, 448)),
        (1000, 420, (448, 192)),  # 188.2 pixels are 5.88 strides
        (1, 1, (448, 448)),
        (1, 4000, (32, 448)),
        (4000, 1, (448, 32)),
    ],
)
def test_aspect(width, height, expected):
    to = place(width, height, 448, spec())
    assert (to.width, to.height) == expected
    assert (to.left, to.top, to.right, to.bottom) == (0, 0, width, height)


def test_crop_takes_the_centre():
    to = place(400, 200, 224, spec(fit="crop", keep=0.875))
    # 0.875 of 200 is 175; the rest is shared between both sides.
    assert (to.left, to.top, to.right, to.bottom) == (112, 12, 287, 187)
    assert (to.width, to.height) == (224, 224)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_crop_of_a_line(shape):
    to = place(*shape, 224, spec(fit="crop", keep=0.875))
    assert (to.right - to.left, to.bottom - to.top) == (1, 1)


def test_long_side():
    assert long_side(spec()) == 560
    assert long_side(spec(sizes=((320, 1.0), (500, 1.0)))) == 625
    assert long_side(spec(fit="squash", sizes=((224, 1.0),))) == 280
    assert long_side(spec(fit="crop", keep=0.875, sizes=((224, 1.0),))) == 640


# --- identity ---


def test_identity_changes_with_everything_that_changes_a_descriptor():
    variants = [
        spec(),
        spec(sha256="11" * 32),
        spec(layout="float-nhwc"),
        spec(layout="uint8-nhwc"),
        spec(sizes=((320, 1.0),)),
        spec(sizes=((448, 1.0), (320, 1.0))),
        spec(sizes=((448, 2.0), (320, 1.0))),
        spec(output="other"),
        spec(fit="squash"),
        spec(fit="crop"),
        spec(fit="crop", keep=0.875),
        spec(stride=16),
        spec(scale=1.0),
        spec(mean=(0.5, 0.5, 0.5)),
        spec(std=(0.5, 0.5, 0.5)),
        spec(pooling="average"),
        spec(gem_p=4.0),
    ]
    assert len({variant.identity for variant in variants}) == len(variants)


def test_identity_keeps_still_otherwise():
    here = spec().identity
    assert here == spec(name="another", model=Path("elsewhere.onnx")).identity
    assert here == spec(sizes=((448, 3),)).identity  # one size: its weight drops out
    assert here == spec(keep=0.5).identity  # nothing is cropped
    assert spec(pooling="average", gem_p=4.0).identity == spec(pooling="average").identity
    inside = spec(layout="uint8-nhwc")
    assert inside.identity == replace(inside, mean=(0.5, 0.5, 0.5)).identity


def test_identity_is_the_same_on_every_machine():
    # Written down: a change here means that every index must be built again.
    assert spec().identity == "7d04894a75a945c4"


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": ()},
        {"sizes": ((0, 1.0),)},
        {"sizes": ((5000, 1.0),)},
        {"sizes": ((448, 0.0),)},
        {"sizes": ((448, float("nan")),)},
        {"stride": 0},
        {"keep": 0.0},
        {"keep": 1.1},
        {"gem_p": 0.0},
        {"std": (1.0, 0.0, 1.0)},
    ],
)
def test_a_field_out_of_range(changes):
    with pytest.raises(EncoderError, match="test"):
        spec(**changes)


# --- a user's own model ---


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
    encoder = load_encoder(write(tmp_path, logarithm(), {**PLAIN, "pooling": "average"}))
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


# --- the settings beside a model ---


def test_sidecar(tmp_path):
    settings = {
        "sizes": [64, [96, 0.5]],
        "stride": 16,
        "fit": "aspect",
        "pooling": "gem",
        "gem_p": 4,
        "output": "features",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
    chosen = load_encoder(write(tmp_path, mirror(), settings)).spec
    assert chosen.sizes == ((64, 1.0), (96, 0.5))
    assert (chosen.stride, chosen.gem_p, chosen.pooling) == (16, 4.0, "gem")
    assert chosen.mean == (0.5, 0.5, 0.5)
    assert chosen.std == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"sizes": "448"}', "sizes: a list"),
        ('{"sizes": [448.5]}', "sizes: a whole number"),
        ('{"sizes": [[1, 2, 3]]}', "sizes: each size"),
        ('{"mean": [0.5]}', "mean: a list of three"),
        ('{"pooling": "max"}', "pooling: one of"),
        ('{"stride": true}', "stride: a whole number"),
        ('{"gemp": 3}', "unknown key 'gemp'; did you mean 'gem_p'"),
        ('{"output": "absent"}', "no output fits output 'absent'"),
        ('{"pooling": "cls"}', "no output fits pooling 'cls'"),
        ('{"sizes": []}', "no size"),
        ("[1]", "object"),
        ("{", "not readable as JSON"),
    ],
)
def test_a_sidecar_that_is_not_understood(tmp_path, settings, message):
    path = write(tmp_path, mirror())
    (tmp_path / "model.json").write_text(settings, encoding="utf-8")
    with pytest.raises(EncoderError, match=message):
        load_encoder(path)


CLIP = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.48, 0.45, 0.40],
    "image_std": [0.26, 0.27, 0.28],
    "size": {"shortest_edge": 256},
}
SIGLIP = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": 384, "width": 384},
}
OLD_CLIP = {"crop_size": 224, "do_center_crop": True, "size": 224, "do_normalize": False}


@pytest.mark.parametrize(
    ("config", "fit", "sizes", "keep", "mean"),
    [
        (CLIP, "crop", ((224, 1.0),), 0.875, (0.48, 0.45, 0.40)),
        (SIGLIP, "squash", ((384, 1.0),), 1.0, (0.5, 0.5, 0.5)),
        (OLD_CLIP, "crop", ((224, 1.0),), 1.0, (0.0, 0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("below", [False, True])
def test_the_preprocessor_config_of_hubs(tmp_path, config, fit, sizes, keep, mean, below):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    folder = tmp_path / "onnx" if below else tmp_path
    folder.mkdir(exist_ok=True)
    chosen = load_encoder(write(folder, mirror())).spec
    assert (chosen.fit, chosen.sizes, chosen.keep, chosen.mean) == (fit, sizes, keep, mean)


def test_the_sidecar_comes_before_the_config(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP), encoding="utf-8")
    assert load_encoder(write(tmp_path, mirror(), {"sizes": [96]})).spec.sizes == ((96, 1.0),)


# --- models that are not for photos ---


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


# --- names ---


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("acurate", "'accurate'"),
        ("Fast", "'fast'"),
        ("efficientnet-light0", "'efficientnet-lite0'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(UnknownEncoder, match=f"did you mean {near}"):
        load_encoder(name)


def test_a_name_near_nothing():
    with pytest.raises(UnknownEncoder) as caught:
        load_encoder("zzz")
    assert "did you mean" not in str(caught.value)
    for part in ("'zzz'", "accurate", "fast", "hub:", "timm:", ".onnx"):
        assert part in str(caught.value)


def test_a_path_without_a_file(tmp_path):
    with pytest.raises(EncoderUnavailable, match=r"absent\.onnx.*'accurate'"):
        load_encoder(str(tmp_path / "absent.onnx"))


def test_a_path_of_another_kind(tmp_path):
    with pytest.raises(UnknownEncoder, match=r"\.onnx"):
        load_encoder(str(tmp_path / "model.pt"))


def test_a_path_is_named_in_full(tmp_path, monkeypatch):
    path = write(tmp_path, mirror())
    monkeypatch.chdir(tmp_path)
    assert load_encoder("model.onnx").name == path


@pytest.mark.parametrize(
    ("options", "message"), [({"threads": 0}, "threads"), ({"runtime": "tensorrt"}, "onnxruntime")]
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder("fast", **options)


@pytest.mark.parametrize("name", ["hub:", "hub:alone", "hub:a/b/c", "hub:a/../b/c.onnx"])
def test_hub_names_of_another_form(name):
    with pytest.raises(UnknownEncoder, match="hub:owner/name"):
        load_encoder(name)


def test_hub_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("hub:Xenova/dinov2-small")
    for part in (
        "hub:Xenova/dinov2-small",
        "veduta[hub]",
        "'accurate'",
        "preprocessor_config.json",
    ):
        assert part in str(caught.value)


class FakeHub(types.ModuleType):
    """The three calls of huggingface-hub that are used, over folders instead of a network."""

    def __init__(self, cache: Path, remote: Path | None) -> None:
        super().__init__("huggingface_hub")
        self.cache, self.remote, self.fetched = cache, remote, []

    def try_to_load_from_cache(self, repository: str, file: str) -> str | None:
        path = self.cache / repository / file
        return str(path) if path.is_file() else None

    def HfApi(self) -> FakeHub:
        return self

    def model_info(self, repository: str, timeout: float) -> types.SimpleNamespace:
        assert timeout <= 10
        return types.SimpleNamespace(
            siblings=[types.SimpleNamespace(rfilename=name) for name in self.files(repository)]
        )

    def files(self, repository: str) -> list[str]:
        if self.remote is None:
            raise ConnectionError("Name or service not known")
        root = self.remote / repository
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]

    def snapshot_download(self, repository: str, allow_patterns: list[str]) -> str:
        for name in set(self.files(repository)) & set(allow_patterns):
            target = self.cache / repository / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.remote / repository / name, target)
            self.fetched.append(name)
        return str(self.cache / repository)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "remote" / "owner" / "model" / "onnx"
    folder.mkdir(parents=True)
    write(folder, mirror())
    (folder / "vision_model.onnx").write_bytes(channel_means())
    (folder / "text_model.onnx").write_bytes(b"big")
    (folder.parent / "preprocessor_config.json").write_text(json.dumps(SIGLIP), encoding="utf-8")
    fake = FakeHub(tmp_path / "cache", tmp_path / "remote")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_hub_fetches_the_vision_part_once(hub):
    encoder = load_encoder("hub:owner/model")
    assert encoder.name == "hub:owner/model"
    assert encoder.spec.model.name == "vision_model.onnx"
    assert encoder.spec.sizes == ((384, 1.0),)
    assert sorted(hub.fetched) == ["onnx/vision_model.onnx", "preprocessor_config.json"]
    hub.remote = None
    assert load_encoder("hub:owner/model").identity == encoder.identity


def test_hub_takes_the_named_file(hub):
    encoder = load_encoder("hub:owner/model/onnx/model.onnx")
    assert encoder.spec.model.name == "model.onnx"
    assert "onnx/vision_model.onnx" not in hub.fetched


def test_hub_without_network(hub):
    hub.remote = None
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("hub:owner/model")
    for part in ("hub:owner/model", "Name or service not known", "'accurate'", "give the path"):
        assert part in str(caught.value)


def test_hub_without_such_a_file(hub):
    with pytest.raises(EncoderUnavailable, match=r"no file onnx/absent\.onnx"):
        load_encoder("hub:owner/model/onnx/absent.onnx")


def test_hub_names_the_files_there_are(hub):
    for name in ("model", "vision_model"):
        (hub.remote / "owner" / "model" / "onnx" / f"{name}.onnx").unlink()
    with pytest.raises(EncoderUnavailable, match=r"it has onnx/text_model\.onnx"):
        load_encoder("hub:owner/model")


def test_a_cached_model_without_its_config_is_completed(hub):
    load_encoder("hub:owner/model")
    (hub.cache / "owner" / "model" / "preprocessor_config.json").unlink()
    assert hub_room.cached_model("owner/model", None) is None
    assert load_encoder("hub:owner/model").spec.sizes == ((384, 1.0),)


def test_timm_without_its_library(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("timm:resnet18")
    for part in ("timm:resnet18", "veduta[timm]", "'accurate'", "give its path"):
        assert part in str(caught.value)


def test_timm_uses_what_was_exported(monkeypatch, tmp_path):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "timm").mkdir()
    path = Path(write(tmp_path / "timm", mirror(), {"sizes": [96], "pooling": "gem"}))
    path.rename(path.with_stem("resnet18.a1_in1k"))
    path.with_suffix(".json").rename(tmp_path / "timm" / "resnet18.a1_in1k.json")
    encoder = load_encoder("timm:resnet18.a1_in1k")
    assert encoder.name == "timm:resnet18.a1_in1k"
    assert encoder.spec.sizes == ((96, 1.0),)


# --- the models inside the package ---


@pytest.fixture(scope="module")
def fast() -> Encoder:
    return load_encoder("fast")


def test_presets_are_there():
    assert set(PRESETS) == {"fast", "accurate"}
    assert DEFAULT in PRESETS
    for name, preset in PRESETS.items():
        source = resolve(name)
        assert source.path.is_file()
        assert source.settings.sizes == preset.sizes


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_an_embedded_model(name):
    encoder = load_encoder(name)
    assert encoder.name == name
    assert encoder.dimension == embedded_models()[PRESETS[name].model].dimension
    assert encoder.long_side == PRESETS[name].sizes[0][0] * 5 // 4
    result = encode(encoder, scene())
    assert result.shape == (1, encoder.dimension)
    assert result.dtype == np.float32
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)
    assert json.loads(json.dumps(encoder.describe()))["identity"] == encoder.identity


def test_the_presets_have_different_identities():
    identities = {load_encoder(name).identity for name in ("fast", *embedded_models(), "accurate")}
    assert len(identities) == len(embedded_models()) + 2


def test_gem_in_the_graph_is_gem_outside_it(fast):
    source = resolve("fast")
    inside = open_encoder(replace(source, settings=replace(source.settings, output="descriptor")))
    outside = replace(source.settings, pooling="gem", output="features")
    encoder = open_encoder(replace(source, settings=outside))
    assert len({encoder.identity, inside.identity, fast.identity}) == 3
    assert np.allclose(encode(encoder, scene()), encode(inside, scene()), atol=1e-5)


def test_the_same_photo_larger_stays_near_and_another_goes_away(fast):
    first, larger, other = encode(fast, scene(), scene(600, 800), scene(seed=1))
    assert first @ larger > 0.98
    assert first @ other < first @ larger - 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (7, 5), (33, 4000)])
def test_odd_sizes(fast, size):
    result = encode(fast, scene(*size))
    assert np.isfinite(result).all()
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("level", [0, 127, 255])
def test_grey_and_blank_photos(fast, level):
    result = encode(fast, colour(level, level, level))
    assert np.isfinite(result).all()
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


def test_a_batch_is_its_photos_one_by_one(fast):
    pictures = [scene(seed=n) for n in range(3)] + [scene(400, 300)]
    together = encode(fast, *pictures)
    alone = np.concatenate([encode(fast, picture) for picture in pictures])
    assert np.allclose(together, alone, atol=1e-5)


def test_four_threads_get_what_one_gets(fast):
    prepared = [fast.prepare(scene(200 + 40 * (n % 4), 300, seed=n)) for n in range(24)]
    expected = [fast.encode([one]) for one in prepared]
    with ThreadPoolExecutor(4) as pool_of_threads:
        results = list(pool_of_threads.map(lambda one: fast.encode([one]), prepared))
    assert all(np.array_equal(a, b) for a, b in zip(expected, results, strict=True))


def test_a_damaged_embedded_file_is_refused(tmp_path):
    source = resolve("fast")
    content = bytearray(source.path.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match="not the one that belongs here"):
        open_encoder(replace(source, path=path))


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


def test_the_runtime_is_no_part_of_the_identity(fast):
    if not openvino_installed():
        pytest.skip("OpenVINO is not installed")
    other = load_encoder("fast", runtime="openvino")
    assert other.describe()["runtime"] == "openvino"
    assert other.describe()["precision"] in ("float32", "bfloat16")
    assert other.identity == fast.identity
    assert (encode(other, scene()) * encode(fast, scene())).sum() > 0.98
    prepared = [fast.prepare(scene(seed=n)) for n in range(8)]
    with ThreadPoolExecutor(4) as pool_of_threads:
        results = np.concatenate(list(pool_of_threads.map(lambda p: other.encode([p]), prepared)))
    assert ((results * fast.encode(prepared)).sum(axis=1) > 0.98).all()


def test_openvino_reports_nothing_to_its_makers():
    if not openvino_installed():
        pytest.skip("OpenVINO is not installed")
    code = (
        "import os, sys, warnings; warnings.simplefilter('error')\n"
        "import lance\n"  # warns of a fork
        "from veduta.encoders import load_encoder\n"
        "print(load_encoder('fast', runtime='openvino').describe()['runtime'])\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino", "[]"]


def test_openvino_that_disagrees_is_not_used(fast, monkeypatch):
    from veduta.encoders import loading

    class Stranger:
        runtime, precision = "openvino", "float32"
        inputs, outputs = fast._model.inputs, fast._model.outputs

        def run(self, batch, output):
            return -fast._model.run(batch, output)

    monkeypatch.setattr(loading, "openvino_installed", lambda: True)
    monkeypatch.setattr(loading, "open_openvino", lambda path, threads: Stranger())
    encoder = load_encoder("fast", runtime="openvino")
    assert encoder.describe()["runtime"] == "onnxruntime"
    assert "-1.0000" in str(encoder.describe()["notice"])

    def broken(path, threads):
        raise EncoderError("no such operation")

    monkeypatch.setattr(loading, "open_openvino", broken)
    encoder = load_encoder("fast", runtime="openvino")
    assert encoder.describe()["runtime"] == "onnxruntime"
    assert "no such operation" in str(encoder.describe()["notice"])


def test_openvino_that_is_not_installed(monkeypatch):
    from veduta.encoders import loading

    monkeypatch.setattr(loading, "openvino_installed", lambda: False)
    with pytest.raises(EncoderUnavailable, match=r"veduta\[openvino\]"):
        load_encoder("fast", runtime="openvino")


def test_a_source_of_one_s_own():
    source = Source("mine", resolve("fast").path, Settings(sizes=((96, 1.0),), output="features"))
    encoder = open_encoder(source)
    assert (encoder.name, encoder.spec.pooling, encoder.long_side) == ("mine", "gem", 120)


def test_the_list():
    entries = list_encoders()
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names)
    assert {"fast", "accurate", *embedded_models()} <= set(names)
    assert any("dinov2" in str(name) for name in names)
    for entry in entries:
        assert set(entry) == {"name", "size", "dimension", "licence", "source", "available"}
        assert isinstance(entry["size"], int)
        assert entry["licence"]
        if not str(entry["name"]).startswith("hub:"):
            assert entry["available"] is True
    fast_entry = entries[names.index("fast")]
    assert fast_entry["size"] == resolve("fast").path.stat().st_size
    assert fast_entry["dimension"] == 1280


def test_the_list_knows_what_is_cached(hub, monkeypatch):
    from veduta.encoders import listing

    monkeypatch.setattr(listing, "HUB_MODELS", (("hub:owner/model", 5, 3, "MIT", "test"),))
    assert list_encoders()[-1]["available"] is False
    load_encoder("hub:owner/model")
    entry = list_encoders()[-1]
    assert entry["available"] is True
    assert entry["size"] == len(channel_means())


def test_importing_the_room_loads_no_runtime():
    code = (
        "import sys, veduta.encoders as e; e.list_encoders.__doc__\n"
        "print(sorted({'onnxruntime', 'openvino', 'torch', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
