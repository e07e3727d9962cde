"""A descriptor as a sum over positions: the parts add up to what the encoder gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_onnx import (
    FLOAT,
    INT64,
    PLAIN,
    constant,
    encode,
    logarithm,
    mirror,
    node,
    onnx,
    port,
    scene,
    tokens,
    write,
)

from veduta.encoders import PRESETS, Projection, load_encoder, open_encoder
from veduta.encoders.descriptor_parts import descriptor_parts, has_parts, require_parts
from veduta.encoders.embedded import centre_of, embedded_models, embedded_source
from veduta.errors import EncoderError

SMALL = ((96, 1.0),)
"""A size at which the package's networks are fast."""


@pytest.fixture(scope="module")
def embedded():
    """The package's networks at a small size."""
    return {name: open_encoder(embedded_source(name, name, SMALL)) for name in embedded_models()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A function that opens a tiny model with some settings."""

    def opened(content=None, **changes):
        folder = tmp_path_factory.mktemp("tiny")
        return load_encoder(write(folder, content or mirror(), PLAIN | changes))

    return opened


def total(parts):
    return parts.parts.sum((0, 1), dtype=np.float64) + parts.constant


def assert_adds_up(encoder, photo, other=None):
    """The parts are those of the descriptor, and products with any vector are a map's sum."""
    parts = descriptor_parts(encoder, photo)
    (descriptor,) = encode(encoder, photo)
    np.testing.assert_allclose(parts.descriptor, descriptor, rtol=0, atol=1e-6)
    np.testing.assert_allclose(total(parts), descriptor, rtol=0, atol=1e-6)
    direction = descriptor if other is None else encode(encoder, other)[0]
    added = parts.map(direction).sum(dtype=np.float64) + parts.constant_of(direction)
    assert added == pytest.approx(float(descriptor @ direction), abs=1e-5)
    return parts


@pytest.mark.parametrize("name", [*PRESETS, *embedded_models()])
def test_parts_of_every_embedded_encoder_and_preset(name):
    encoder, photo = load_encoder(name, threads=2), scene(30, 150)
    parts = assert_adds_up(encoder, photo, scene(120, 20, seed=1))
    (prepared,) = encoder.prepare(photo)
    assert parts.parts.shape == (
        prepared.shape[0] // 32,
        prepared.shape[1] // 32,
        encoder.dimension,
    )
    assert parts.box == (0, 0, 150, 30)
    assert parts.layer == "features"


@pytest.mark.parametrize("name", embedded_models())
@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.full((40, 60, 3), 255, np.uint8),
        np.full((1, 1, 3), 7, np.uint8),
        np.repeat(scene(60, 40)[:, :, :1], 3, axis=2),
        scene(3, 200),
    ],
    ids=["black", "white", "one pixel", "grey", "panorama"],
)
def test_parts_of_photos_that_show_little(name, photo, embedded):
    parts = assert_adds_up(embedded[name], photo, scene())
    assert np.isfinite(parts.parts).all()


@pytest.mark.parametrize("name", embedded_models())
def test_parts_of_several_sizes_are_on_the_finest_grid(name):
    encoder = open_encoder(embedded_source("sizes", name, ((160, 1.0), (96, 0.5), (64, 2.0))))
    assert assert_adds_up(encoder, scene()).parts.shape[:2] == (4, 5)


def test_the_centres_are_those_in_the_graphs():
    onnx_package = pytest.importorskip("onnx")
    for model in embedded_models().values():
        constants = {one.name: one for one in onnx_package.load(model.path).graph.initializer}
        for network in model.networks:
            stored = onnx_package.numpy_helper.to_array(constants[f"{network}/common"])
            np.testing.assert_array_equal(centre_of(network), stored)


class TestByHand:
    PHOTO = np.array([[[3, 0, 1], [0, 4, 1]], [[1, 0, 1], [0, 0, 1]]], np.uint8)
    """Four pixels, which are the four positions of a network that changes nothing."""

    def test_average(self, tiny):
        encoder = tiny(pooling="average", sizes=[2], fit="squash")
        parts = descriptor_parts(encoder, self.PHOTO)
        # Sums of the channels: 4, 4, 4. So every value is divided by 4 √3.
        np.testing.assert_allclose(parts.parts, self.PHOTO / (4 * np.sqrt(3)), rtol=1e-6)
        assert not parts.constant.any()

    def test_gem(self, tiny):
        encoder = tiny(pooling="gem", gem_p=2, sizes=[2], fit="squash")
        parts = descriptor_parts(encoder, self.PHOTO)
        # Mean squares: 10/4, 16/4, 4/4. The length of their roots is √7.5.
        value = np.sqrt([2.5, 4, 1]) / np.sqrt(7.5)
        shares = np.array([[[0.9, 0, 0.25], [0, 1, 0.25]], [[0.1, 0, 0.25], [0, 0, 0.25]]])
        np.testing.assert_allclose(parts.parts, shares * value, atol=1e-6)

    def test_two_sizes(self, tiny):
        encoder = tiny(pooling="average", sizes=[[1, 2.0], [2, 1.0]], fit="squash")
        photo = np.zeros((2, 2, 3), np.uint8)
        photo[0, 0] = 40  # One pixel of it is the mean, 10.
        parts = descriptor_parts(encoder, photo)
        # Both descriptors are (1, 1, 1)/√3. The one of weight 2 is divided among all positions.
        np.testing.assert_allclose(
            parts.parts[:, :, 0] * np.sqrt(3), np.array([[1 + 0.5, 0.5], [0.5, 0.5]]) / 3, atol=1e-6
        )

    def test_sides_that_do_not_divide_each_other(self, tiny):
        encoder = tiny(pooling="average", sizes=[2, 3], fit="squash")
        parts = assert_adds_up(encoder, scene(30, 30))
        assert parts.parts.shape == (3, 3, 3)

    def test_tokens_with_a_register(self, tiny):
        encoder = tiny(vision_transformer(registers=1), pooling="mean_tokens", fit="squash")
        photo = scene(4, 4)
        parts = assert_adds_up(encoder, photo)
        pixels = photo.astype(float)
        # The register is the mean of the 16 tokens, so the mean of all 17 is that mean, too.
        length = np.linalg.norm(pixels.mean((0, 1)))
        np.testing.assert_allclose(parts.parts, pixels / 17 / length, rtol=1e-5)
        np.testing.assert_allclose(parts.constant, pixels.mean((0, 1)) / 17 / length, rtol=1e-5)

    def test_tokens_without_registers_have_no_constant(self, tiny):
        encoder = tiny(vision_transformer(registers=0), pooling="mean_tokens", fit="squash")
        parts = assert_adds_up(encoder, scene(4, 4))
        assert parts.parts.shape == (4, 4, 3)
        assert not parts.constant.any()


def vision_transformer(registers):
    """Tokens: the mean pixel as the first one and as each register, then the 16 pixels."""
    names = ["mean"] * (1 + registers)
    return onnx(
        [
            node("Reshape", ["pixels", "shape"], "planes"),
            node("Transpose", ["planes"], "patches", perm=[0, 2, 1]),
            node("ReduceMean", ["patches"], "mean", axes=[1], keepdims=1),
            node("Concat", [*names, "patches"], "last_hidden_state", axis=1),
        ],
        [port("pixels", FLOAT, "N", 3, 4, 4)],
        [port("last_hidden_state", FLOAT, "N", 17 + registers, 3)],
        (constant("shape", [0, 3, 16], INT64),),
    )


def test_a_photo_without_any_activation_belongs_to_no_position(tiny):
    encoder = tiny(pooling="average", sizes=[4], fit="squash")
    parts = assert_adds_up(encoder, np.zeros((4, 4, 3), np.uint8))
    assert not parts.parts.any()
    np.testing.assert_allclose(parts.constant, 1 / np.sqrt(3))


@pytest.mark.parametrize(
    ("fit", "box"),
    [("aspect", (0, 0, 90, 40)), ("squash", (0, 0, 90, 40)), ("crop", (35, 10, 20, 20))],
)
def test_the_box_is_what_the_network_gets(fit, box, tiny):
    encoder = tiny(
        pooling="gem", sizes=[32, 64], fit=fit, **({"keep": 0.5} if fit == "crop" else {})
    )
    photo = np.zeros((40, 90, 3), np.uint8)
    x, y, width, height = box
    photo[y : y + height, x : x + width] = 200
    parts = assert_adds_up(encoder, photo)
    assert parts.box == box
    # The network sees nothing but the white box, so no position stands out.
    shares = parts.parts.sum(axis=2)
    assert shares.min() == pytest.approx(shares.max(), rel=1e-4)


@pytest.fixture(scope="module")
def projections(embedded):
    """A rotation, and one that enlarges some axes a thousand times, as whitening may do."""
    photos = [scene(64, 96, seed=seed) for seed in range(8)]
    mean = encode(embedded["efficientnet-lite0"], *photos).mean(axis=0)
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(len(mean), 24)))
    return [
        Projection(mean, np.asarray(axes * scales, np.float32), 0.0, len(photos))
        for scales in (1.0, np.geomspace(1, 1000, 24))
    ]


class TestProjection:
    @pytest.mark.parametrize("number", [0, 1], ids=["rotated", "enlarged"])
    def test_maps_add_up(self, number, projections, embedded):
        encoder, projection = embedded["efficientnet-lite0"], projections[number]
        query, hit = scene(64, 96, seed=3), scene(96, 64, seed=40)
        described = projection.apply(encode(encoder, query, hit))
        similarity = float(described[0] @ described[1])
        both = [descriptor_parts(encoder, photo).projected(projection) for photo in (query, hit)]
        for one, other in (both, both[::-1]):
            np.testing.assert_allclose(
                one.map(other.descriptor).sum(dtype=np.float64) + one.constant_of(other.descriptor),
                similarity,
                rtol=0,
                atol=1e-5,
            )

    @pytest.mark.parametrize("number", [None, 0, 1], ids=["plain", "rotated", "enlarged"])
    def test_all_positions_add_the_descriptor(self, number, projections, embedded):
        parts = descriptor_parts(embedded["efficientnet-lite0"], scene())
        if number is not None:
            parts = parts.projected(projections[number])
        height, width = parts.parts.shape[:2]
        everything = parts.of_positions(np.ones((height, width)))
        np.testing.assert_allclose(everything, parts.descriptor, atol=1e-5)
        left = np.tile(np.arange(width) < 1, (height, 1)).astype(float)
        halves = parts.of_positions(left) + parts.of_positions(1 - left)
        np.testing.assert_allclose(halves, parts.descriptor, atol=1e-5)

    def test_a_projected_descriptor_of_length_zero_belongs_to_no_position(self, tiny):
        encoder, photo = tiny(pooling="average", sizes=[2], fit="squash"), scene(2, 2)
        (descriptor,) = encode(encoder, photo)
        projection = Projection(descriptor, np.eye(3, dtype=np.float32), 0.0, 1)
        parts = descriptor_parts(encoder, photo).projected(projection)
        direction = np.array([1.0, 2.0, 3.0])
        assert not parts.map(direction).any()
        assert parts.constant_of(direction) == pytest.approx(6 / np.sqrt(3))
        half = parts.of_positions(np.array([[1, 0], [1, 0]]))
        np.testing.assert_allclose(half, 0.5 / np.sqrt(3))

    def test_a_projection_of_another_encoder_is_refused(self, tiny):
        parts = descriptor_parts(tiny(pooling="average", sizes=[2], fit="squash"), scene(2, 2))
        stranger = Projection(np.zeros(5, np.float32), np.eye(5, dtype=np.float32), 0.0, 1)
        with pytest.raises(EncoderError, match="descriptors"):
            parts.projected(stranger)


@pytest.fixture(scope="module")
def drawn(tiny):
    """Encoders of every pooling and fit, with several sizes."""
    return [
        tiny(pooling=pooling, fit=fit, sizes=sizes, stride=1)
        for pooling in ("gem", "average")
        for fit in ("aspect", "crop", "squash")
        for sizes in ([5], [[3, 1.0], [7, 0.25]])
    ]


@settings(max_examples=60)
@given(
    number=st.integers(0, 11),
    photo=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    other=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
)
def test_the_parts_of_any_photo_add_up(number, photo, other, drawn):
    assert_adds_up(drawn[number], photo, other)


class TestOtherEncoders:
    @pytest.mark.parametrize("pooling", ["cls", "mean_tokens"])
    def test_tokens_that_are_no_positions(self, pooling, tiny):
        encoder = tiny(tokens(), pooling=pooling, fit="squash")
        with pytest.raises(EncoderError, match="occlusion and rise"):
            descriptor_parts(encoder, scene(4, 4))

    def test_without_a_run_of_the_network(self, tiny):
        assert has_parts(tiny(pooling="gem", sizes=[4]))
        encoder = tiny(tokens(), pooling="cls", fit="squash")
        assert not has_parts(encoder)
        with pytest.raises(EncoderError, match=r"model\.onnx' has no map.*occlusion and rise"):
            require_parts(encoder)

    def test_an_output_of_the_package_s_graph_that_is_not_centred(self, tmp_path):
        model = embedded_models()["efficientnet-lite0"]
        path = write(tmp_path, model.path.read_bytes(), {"output": "descriptor", "sizes": [64]})
        encoder = load_encoder(path)
        assert not has_parts(encoder)
        centred = write(tmp_path, model.path.read_bytes(), {"output": "centred", "sizes": [64]})
        assert_adds_up(load_encoder(centred), scene())

    def test_an_encoder_of_another_program(self):
        class Stranger:
            name = "stranger"

        assert not has_parts(Stranger())
        with pytest.raises(EncoderError, match=r"'stranger'.*occlusion and rise"):
            descriptor_parts(Stranger(), scene())

    def test_infinite_numbers_are_refused(self, tmp_path):
        path = write(tmp_path, logarithm(), PLAIN | {"pooling": "average", "sizes": [8]})
        encoder = load_encoder(path)
        with pytest.raises(EncoderError, match="infinite"):
            descriptor_parts(encoder, np.zeros((8, 8, 3), np.uint8))

    def test_an_array_that_is_no_photo(self, embedded):
        with pytest.raises(EncoderError, match="a photo must be"):
            descriptor_parts(embedded["efficientnet-lite0"], np.zeros((4, 4), np.uint8))
