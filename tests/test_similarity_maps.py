"""Maps of similarities and of the scores of linear models: exact, and where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_onnx import PLAIN, encode, mirror, scene, tokens, write

from veduta.encoders import Projection, load_encoder, open_encoder
from veduta.encoders.descriptor_parts import descriptor_parts
from veduta.encoders.embedded import embedded_source
from veduta.errors import EncoderError, PhotoError, QueryError
from veduta.explanation.class_shares import explain_model_class
from veduta.explanation.similarity import explain_similarity
from veduta.recognize import Model
from veduta.recognize.confidence import Confidence
from veduta.recognize.linear import LinearClassifier

QUERY, HIT = scene(64, 96, seed=1), scene(96, 64, seed=2)


@pytest.fixture(scope="module")
def encoder():
    return open_encoder(embedded_source("small", "efficientnet-lite0", ((96, 1.0),)))


@pytest.fixture(scope="module")
def pixel_encoder(tmp_path_factory):
    """Each pixel of a photo of 8 × 8 pixels is a position."""
    folder = tmp_path_factory.mktemp("pixels")
    own = {"pooling": "average", "sizes": [8], "fit": "squash"}
    return load_encoder(write(folder, mirror(), PLAIN | own))


def assert_adds_up(explanation):
    for one in (explanation, explanation.against):
        assert one.sum + one.constant == pytest.approx(one.similarity, abs=1e-5)


class TestSimilarity:
    def test_both_maps_add_up_to_the_similarity(self, encoder):
        explanation = explain_similarity(encoder, QUERY, HIT)
        descriptors = encode(encoder, QUERY, HIT)
        assert explanation.similarity == pytest.approx(float(descriptors[0] @ descriptors[1]))
        assert_adds_up(explanation)
        assert explanation.map.dtype == np.float32
        assert (explanation.map.shape, explanation.against.map.shape) == ((2, 3), (3, 2))
        assert explanation.as_json()["against"]["photo"] == "the other photo"
        assert explanation.notes == ()

    def test_the_maps_are_swapped_when_the_photos_are(self, encoder):
        one, other = (
            explain_similarity(encoder, QUERY, HIT),
            explain_similarity(encoder, HIT, QUERY),
        )
        np.testing.assert_array_equal(one.map, other.against.map)
        np.testing.assert_array_equal(one.against.map, other.map)

    def test_a_map_is_the_table_of_pairs_of_positions_summed(self, encoder):
        explanation = explain_similarity(encoder, QUERY, HIT)
        query, hit = (descriptor_parts(encoder, photo) for photo in (QUERY, HIT))
        pairs = np.einsum("abk,cdk->abcd", query.parts, hit.parts)
        np.testing.assert_allclose(
            pairs.sum((2, 3)) + query.parts @ hit.constant, explanation.map, atol=1e-6
        )

    def test_with_a_projection(self, encoder):
        rng = np.random.default_rng(0)
        mean = encode(encoder, scene(seed=5))[0] / 2
        matrix = rng.normal(size=(len(mean), 7)).astype(np.float32)
        projection = Projection(mean, matrix, 0.0, 1)
        explanation = explain_similarity(encoder, QUERY, HIT, projection=projection)
        projected = projection.apply(encode(encoder, QUERY, HIT))
        assert explanation.similarity == pytest.approx(float(projected[0] @ projected[1]), abs=1e-6)
        assert_adds_up(explanation)

    def test_what_both_photos_show_stands_out(self, encoder):
        """The left half of one photo is the right half of the other."""
        shared, left, right = (scene(160, 160, seed=seed) for seed in (11, 12, 13))
        query, hit = np.hstack([shared, left]), np.hstack([right, shared])
        fine = open_encoder(embedded_source("fine", "efficientnet-lite0", ((320, 1.0),)))
        explanation = explain_similarity(fine, query, hit)
        half = explanation.map.shape[1] // 2
        assert explanation.map[:, :half].sum() > 1.5 * explanation.map[:, half:].sum()
        answer = explain_similarity(fine, query, hit, region=(0, 0, 160, 160)).against.map
        assert answer[:, half:].sum() > answer[:, :half].sum()

    def test_paths_are_names_and_large_photos_are_decoded_smaller(self, encoder, tmp_path):
        file = tmp_path / "large.jpg"
        Image.fromarray(scene(1200, 1600)).save(file)
        explanation = explain_similarity(encoder, file, str(file), other_name="the same")
        assert explanation.photo == str(file)
        assert explanation.against.photo == "the same"
        assert explanation.pixels.shape[1] < 1600
        assert explanation.box == (0, 0, explanation.pixels.shape[1], explanation.pixels.shape[0])
        assert explanation.similarity == pytest.approx(1, abs=1e-6)
        larger = explain_similarity(encoder, file, file, at_least=1600)
        assert larger.pixels.shape == (1200, 1600, 3)

    def test_the_part_that_the_network_does_not_get_is_named(self, tmp_path):
        path = write(tmp_path, mirror(), PLAIN | {"pooling": "gem", "sizes": [8], "fit": "crop"})
        explanation = explain_similarity(load_encoder(path), scene(20, 60), scene(20, 20))
        assert explanation.box == (20, 0, 20, 20)
        assert "20 × 20 of 60 × 20" in explanation.notes[0]
        assert explanation.against.notes == ()

    @pytest.mark.parametrize(
        "photo",
        [np.full((50, 40, 3), 90, np.uint8), np.full((1, 1, 3), 9, np.uint8), scene(2, 99)],
        ids=["constant", "one pixel", "tiny"],
    )
    def test_photos_that_show_little(self, photo, encoder):
        explanation = explain_similarity(encoder, photo, HIT)
        assert_adds_up(explanation)
        assert np.isfinite(explanation.map).all()

    def test_a_grey_photo_and_one_with_transparency(self, encoder, tmp_path):
        grey, clear = tmp_path / "grey.png", tmp_path / "clear.png"
        Image.fromarray(QUERY[:, :, 0]).save(grey)
        Image.fromarray(np.dstack([HIT, HIT[:, :, 0]])).save(clear)
        assert_adds_up(explain_similarity(encoder, grey, clear))

    def test_a_network_of_low_precision_is_noted(self, encoder, monkeypatch):
        exact = encoder.outputs_of

        def rounded(photo, *outputs):
            results = exact(photo, *outputs)
            return tuple(np.asarray(one, np.float16).astype(np.float32) for one in results)

        monkeypatch.setattr(encoder, "outputs_of", rounded)
        explanation = explain_similarity(encoder, QUERY, HIT)
        gap = explanation.sum + explanation.constant - explanation.similarity
        assert 1e-5 < abs(gap) < 1e-2
        assert f"differ from what they explain by {abs(gap):.1g}" in explanation.notes[0]


class TestRegion:
    def test_the_answer_is_the_pairs_of_the_region(self, encoder):
        # The region is the first of 2 × 3 positions, and half of the one right of it.
        explanation = explain_similarity(encoder, QUERY, HIT, region=(0, 0, 48, 32))
        query, hit = (descriptor_parts(encoder, photo) for photo in (QUERY, HIT))
        wanted = hit.parts @ (query.parts[0, 0] + query.parts[0, 1] / 2 + query.constant * 1.5 / 6)
        np.testing.assert_allclose(explanation.against.map, wanted, atol=1e-6)
        whole = explain_similarity(encoder, QUERY, HIT)
        np.testing.assert_array_equal(explanation.map, whole.map)
        assert explanation.region == (0, 0, 48, 32)
        share = whole.map[0, 0] + whole.map[0, 1] / 2 + whole.constant * 1.5 / 6
        assert explanation.region_share == pytest.approx(float(share), abs=1e-6)
        assert explanation.as_json()["region_share"] == explanation.region_share
        assert_adds_up(explanation)

    @settings(max_examples=12)
    @given(column=st.integers(1, 95), projected=st.booleans())
    def test_the_answers_to_two_parts_of_a_photo_add_up(self, column, projected, encoder):
        axes = np.eye(encoder.dimension, 50, dtype=np.float32)
        zeros = np.zeros(encoder.dimension, np.float32)
        projection = Projection(zeros, axes, 0.0, 1) if projected else None
        whole, left, right = (
            explain_similarity(encoder, QUERY, HIT, region=region, projection=projection)
            for region in ((0, 0, 96, 64), (0, 0, column, 64), (column, 0, 96 - column, 64))
        )
        np.testing.assert_allclose(
            left.against.map + right.against.map, whole.against.map, atol=1e-6
        )
        without = explain_similarity(encoder, QUERY, HIT, projection=projection)
        np.testing.assert_allclose(whole.against.map, without.against.map, atol=1e-6)
        assert left.region_share + right.region_share == pytest.approx(whole.similarity, abs=1e-5)
        assert whole.region_share == pytest.approx(whole.similarity, abs=1e-5)
        for one in (whole, left, right):
            assert_adds_up(one)

    def test_a_region_counts_in_pixels_of_the_file(self, encoder, tmp_path):
        file = tmp_path / "large.jpg"
        Image.fromarray(scene(960, 1440)).save(file)
        large = explain_similarity(encoder, file, HIT, region=(720, 480, 720, 480), at_least=1440)
        Image.fromarray(scene(960, 1440)).save(tmp_path / "large.jpg", quality=95)
        small = explain_similarity(
            encoder, tmp_path / "large.jpg", HIT, region=(720, 480, 720, 480)
        )
        width = small.pixels.shape[1]
        assert width < 1440
        assert small.region == tuple(round(side * width / 1440) for side in (720, 480, 720, 480))
        assert small.region_share == pytest.approx(large.region_share, abs=0.02)

    def test_a_region_of_one_pixel_is_enough(self, encoder):
        point = explain_similarity(encoder, QUERY, HIT, region=(90, 60, 1, 1))
        cell = explain_similarity(encoder, QUERY, HIT, region=(64, 32, 32, 32))
        np.testing.assert_allclose(point.against.map * 32 * 32, cell.against.map, atol=1e-5)

    @pytest.mark.parametrize(
        ("region", "message"),
        [
            ((0, 0, 97, 10), "96 × 64 pixels"),
            ((-1, 0, 5, 5), "not within the photo"),
            ((0, 0, 0, 5), "not within the photo"),
            ((0, 0, 1.5, 5), "whole pixels"),
            ((0, 0, 5), "x, y, width, height"),
        ],
    )
    def test_a_region_that_is_not_in_the_photo(self, region, message, encoder):
        with pytest.raises(QueryError, match=message):
            explain_similarity(encoder, QUERY, HIT, region=region)

    def test_a_region_that_the_network_does_not_get(self, tmp_path):
        path = write(tmp_path, mirror(), PLAIN | {"pooling": "gem", "sizes": [8], "fit": "crop"})
        with pytest.raises(QueryError, match="centre"):
            explain_similarity(
                load_encoder(path), scene(20, 60), scene(20, 20), region=(0, 0, 9, 9)
            )


class TestRefusals:
    def test_an_encoder_without_positions(self, tmp_path):
        path = write(tmp_path, tokens(), PLAIN | {"pooling": "cls", "fit": "squash"})
        with pytest.raises(EncoderError, match="occlusion and rise"):
            explain_similarity(load_encoder(path), QUERY, HIT)

    def test_a_photo_that_is_not_readable(self, encoder, tmp_path):
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"\xff\xd8\xff\xe0 no photo")
        with pytest.raises(PhotoError, match=r"broken\.jpg"):
            explain_similarity(encoder, QUERY, broken)
        with pytest.raises(QueryError, match="array"):
            explain_similarity(encoder, QUERY[:, :, 0], HIT)


class TestClasses:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, encoder):
        rng = np.random.default_rng(3)
        dimension = encoder.dimension
        linear = LinearClassifier(
            encode(encoder, scene(seed=9))[0] / 2,
            rng.normal(0, 0.01, dimension).astype(np.float32),
            rng.normal(size=(dimension, 3)).astype(np.float32),
            np.array([0.2, 0.3, 0.5]),
        )
        confidence = Confidence((1.0, 0.0), (), 0)
        return Model(encoder, ("cathedral", "statue", "bridge"), linear, confidence, 96)

    @pytest.mark.parametrize("name", ["cathedral", "statue", "bridge"])
    def test_the_map_adds_up_to_the_score(self, name, model):
        explanation = explain_model_class(model, QUERY, name)
        scores = model.linear.scores(encode(model.encoder, QUERY))[0]
        assert explanation.score == pytest.approx(scores[model.names.index(name)], abs=1e-6)
        assert explanation.sum + explanation.constant == pytest.approx(explanation.score, abs=1e-5)
        assert explanation.as_json()["class"] == name
        assert explanation.similarity is None

    def test_without_a_name_it_is_the_class_of_the_highest_score(self, model):
        scores = model.linear.scores(encode(model.encoder, QUERY))[0]
        assert explain_model_class(model, QUERY).class_name == model.names[scores.argmax()]

    def test_a_class_that_the_model_lacks(self, model):
        with pytest.raises(QueryError, match="'cathedral'"):
            explain_model_class(model, QUERY, "cathedrals")

    def test_a_model_of_a_network(self, model):
        network = Model(model.encoder, model.names, None, model.confidence, 96)
        with pytest.raises(QueryError, match="occlusion and rise"):
            explain_model_class(network, QUERY)
