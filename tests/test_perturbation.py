"""Occlusion, RISE and the controls, on scorers whose right map is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_onnx import channel_means, scene, write

from veduta.encoders import OnnxEncoder, load_encoder
from veduta.errors import QueryError
from veduta.explanation.controls import centred_gaussian, random_map, sobel_edges
from veduta.explanation.perturbation import (
    blurred,
    explain_by_perturbation,
    grid_shape,
    occlusion,
    rise,
)
from veduta.explanation.scorers import (
    Scorer,
    class_scorer,
    class_scores,
    find_class,
    similarity_scorer,
)
from veduta.recognize.confidence import Confidence
from veduta.recognize.linear import LinearClassifier
from veduta.recognize.model import Model


def mean_of(weights: NDArray[np.floating]) -> Scorer:
    """Return a linear scorer: the weighted mean of the red channel, from 0 to 255."""

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        return np.array([np.sum(photo[..., 0] * weights) / weights.size for photo in photos])

    return scores


def test_occlusion_of_a_linear_scorer_is_the_weighted_difference_to_the_blurred_photo() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    weights = np.ones((60, 80))
    weights[20:30, 40:50] = 30  # one cell of the grid of 6 x 8
    found = occlusion(mean_of(weights), pixels)
    share = weights * (pixels[..., 0].astype(float) - blurred(pixels)[..., 0]) / weights.size
    coarse = share.reshape(6, 10, 8, 10).sum(axis=(1, 3))
    fine = share.reshape(12, 5, 16, 5).sum(axis=(1, 3))
    assert found.shape == (12, 16)
    # All cells of a linear scorer together lose what the whole photo loses.
    assert found.sum() == pytest.approx(share.sum(), abs=1e-4)
    assert found.reshape(6, 2, 8, 2).sum(axis=(1, 3)) == pytest.approx(coarse, abs=1e-4)
    strongest = np.argsort(-np.abs(coarse).ravel(), kind="stable")
    for rank, cell in enumerate(strongest.tolist()):
        row, column = divmod(cell, 8)
        four = found[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if rank < 12:  # a quarter of 48 cells is divided
            exact = fine[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert four == pytest.approx(exact, abs=1e-4)
        else:
            assert four == pytest.approx(np.full((2, 2), coarse[row, column] / 4), abs=1e-4)


def test_occlusion_asks_for_two_grids_and_the_photo_itself() -> None:
    seen: list[int] = []

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        seen.append(len(photos))
        return np.zeros(len(photos))

    assert not occlusion(scores, scene(60, 80)).any()
    assert sum(seen) == 1 + 48 + 12 * 4
    assert max(seen) <= 16


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2), (9, 5), (30, 400)])
def test_tiny_and_narrow_photos_have_maps(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    scorer = mean_of(np.ones(size))
    for found in (occlusion(scorer, pixels), rise(scorer, pixels, masks=3)):
        assert np.isfinite(found).all()
        assert found.shape[0] <= size[0]
        assert found.shape[1] <= size[1]
    for found in (centred_gaussian(pixels), sobel_edges(pixels), random_map(pixels)):
        assert np.isfinite(found).all()


def test_a_constant_photo_has_a_map_of_zeros() -> None:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    scorer = mean_of(np.arange(2400.0).reshape(40, 60))
    assert not occlusion(scorer, pixels).any()
    assert not rise(scorer, pixels, masks=10).any()
    assert not sobel_edges(pixels).any()


def test_rise_finds_the_only_pixels_that_count() -> None:
    pixels = np.zeros((56, 56, 3), np.uint8)
    pixels[8:16, 32:40] = 255
    weights = np.zeros((56, 56))
    weights[8:16, 32:40] = 1
    found = rise(mean_of(weights), pixels, masks=400)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 8 <= row < 16
    assert 32 <= column < 40
    # Far away the map is the noise of the masks only.
    assert np.abs(found[40:, :20]).max() < 0.2 * found.max()


def test_rise_is_the_mean_score_where_visible_minus_the_mean_score() -> None:
    pixels = scene(56, 56)
    seen: list[NDArray[np.uint8]] = []
    given = np.random.default_rng(3).random(20)

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        start = len(seen)
        seen.extend(photos)
        return given[start : start + len(photos)]

    found = rise(scores, pixels, masks=20, seed=5)
    # The masks are found again from the photos: where the two pictures differ by a lot.
    cover = blurred(pixels).astype(float)
    channel = np.abs(pixels - cover).argmax(axis=2)[..., None]
    whole, hidden = (np.take_along_axis(a, channel, 2)[..., 0] for a in (pixels, cover))
    clear = np.abs(whole - hidden) > 40
    assert clear.sum() > 100
    visible = (
        np.array([(np.take_along_axis(a, channel, 2)[..., 0] - hidden)[clear] for a in seen])
        / (whole - hidden)[clear]
    )
    expected = (given @ visible) / visible.sum(axis=0) - given.mean()
    assert found[clear] == pytest.approx(expected, abs=0.02)
    seen.clear()
    assert np.array_equal(found, rise(scores, pixels, masks=20, seed=5))


def test_grid_cells_are_nearly_square() -> None:
    assert grid_shape((300, 400), 8) == (6, 8)
    assert grid_shape((400, 300), 8) == (8, 6)
    assert grid_shape((10, 1000), 8) == (1, 8)
    assert grid_shape((2, 3), 8) == (2, 3)


def test_similarity_of_an_encoder_without_spatial_output(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path, channel_means(), {"sizes": [32], "fit": "squash"}))
    pixels, other = scene(seed=1), scene(seed=2)
    descriptor = encoder.encode([encoder.prepare(other)])[0]
    scorer = similarity_scorer(encoder, descriptor)
    own = encoder.encode([encoder.prepare(pixels)])[0]
    assert scorer([pixels, other]) == pytest.approx([float(own @ descriptor), 1.0], abs=1e-6)
    explained = explain_by_perturbation("occlusion", scorer, pixels, photo="a.jpg")
    assert explained.similarity == pytest.approx(float(own @ descriptor), abs=1e-6)
    assert explained.box == (0, 0, 400, 300)
    assert explained.constant is None
    assert explained.class_name is None
    assert explained.score is None


def test_an_unknown_class_names_the_nearest() -> None:
    assert find_class(["gate", "temple"], "temple") == 1
    with pytest.raises(QueryError, match=r"no class 'templ'.*nearest: 'temple'"):
        find_class(["gate", "temple", "shed"], "templ")


class MeanColour:
    """An encoder whose descriptor and logits are the mean colour, as given."""

    def __init__(self, logits: Sequence[str]) -> None:
        self.logits = logits

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        return (pixels,)

    def encode(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
        return np.array([one.mean(axis=(0, 1)) for (one,) in prepared], np.float32)

    def class_scores(
        self, prepared: Sequence[tuple[NDArray[np.uint8], ...]], output: str
    ) -> NDArray[np.float32]:
        assert output == "logits"
        columns = {"red": 0, "green": 1, "blue": 2}
        means = np.hstack([self.encode(prepared), np.zeros((len(prepared), 1), np.float32)])
        return means[:, [columns.get(name, 3) for name in self.logits]]


def model_of(*logits: str, linear: LinearClassifier | None = None) -> Model:
    encoder = cast("OnnxEncoder", MeanColour(logits))
    return Model(encoder, logits, linear, Confidence((1.0, 0.0), (), 0), 32)


def test_scores_of_a_class_are_those_of_the_model() -> None:
    photos = [np.full((4, 4, 3), (10, 20, 30), np.uint8), np.full((4, 4, 3), (9, 1, 2), np.uint8)]
    assert class_scorer(model_of("blue", "red", "green"), 0)(photos).tolist() == [30, 2]
    assert class_scorer(model_of("blue", "red"), 1)(photos).tolist() == [10, 9]
    # A network with one output: a column of zeros stands before it.
    one_output = model_of("zero", "green")
    assert class_scorer(one_output, 1)(photos).tolist() == [20, 1]
    assert class_scorer(one_output, 0)(photos).tolist() == [-20, -1]
    assert class_scores(one_output, photos).tolist() == [[-20, 20], [-1, 1]]
    weights = np.array([[1, 0], [0, 2], [0, 0]], np.float32)
    linear = LinearClassifier(
        np.zeros(3, np.float32), np.zeros(3, np.float32), weights, np.array([0.5, -1])
    )
    unit = np.array([[10, 20, 30], [9, 1, 2]]) / np.sqrt([[1400], [86]])
    expected = 2 * unit[:, 1] - 1
    assert class_scorer(model_of("a", "b", linear=linear), 1)(photos) == pytest.approx(expected)


def test_copies_of_a_large_photo_are_reduced_and_its_score_is_its_own() -> None:
    pixels = scene(120, 240)
    sizes: list[tuple[int, ...]] = []

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        sizes.extend(photo.shape for photo in photos)
        return np.array([photo.shape[1] for photo in photos], np.float64)

    found = explain_by_perturbation("occlusion", scores, pixels, photo="wide", long_side=60)
    assert found.similarity == 240
    assert sizes[0] == (120, 240, 3)
    assert set(sizes[1:]) == {(30, 60, 3)}
    assert found.pixels.shape == (30, 60, 3)
    assert found.box == (0, 0, 60, 30)
