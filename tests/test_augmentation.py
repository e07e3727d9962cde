"""Augmentation: every word against figures computed by hand or in another way."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, radians, sin

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from tiny import pixels

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torchvision.transforms import v2  # noqa: E402

from veduta.errors import RecipeError  # noqa: E402
from veduta.learn.augmentation import (  # noqa: E402
    blur,
    catalogue,
    colour,
    compose,
    cropping,
    edges,
    geometry,
    morphology,
    noise,
)
from veduta.learn.augmentation.composing import FUNCTIONS  # noqa: E402
from veduta.learn.augmentation.steps import parse_steps, read_steps  # noqa: E402

WORDS = list(catalogue.WORDS)
SURE = {"probability": 1}
FIXED = {"flip", "grey", "superpixels"}  # nothing is drawn for these where they are sure
KERAS = [{"rotation": 40}, {"shift": 0.2}, {"shear": 20}, {"zoom": 0.2}, {"flip": "horizontal"}]


def photo(height: int = 64, width: int = 48, seed: int = 0) -> torch.Tensor:
    made = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    return torch.from_numpy(made)


def plain(value: float, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.full((3, height, width), round(value), dtype=torch.uint8)


def seeded(transform: Callable[[torch.Tensor], torch.Tensor], seed: int, of: torch.Tensor):
    torch.manual_seed(seed)
    return transform(of)


# Properties of every word


def test_every_word_has_what_does_it() -> None:
    geometric = {word.name for word in catalogue.words_of("geometry")}
    assert set(FUNCTIONS) | geometric == set(WORDS)
    assert not set(FUNCTIONS) & geometric
    assert {word.kind for word in catalogue.WORDS.values()} == set(catalogue.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("word", WORDS)
def test_shape_type_and_repeatability(word: str) -> None:
    transform = compose([{word: True, **SURE}])
    before = photo(360, 300)
    given = before.clone()
    once, again = (seeded(transform, 7, given) for _ in range(2))
    assert torch.equal(given, before), "the photo given was written into"
    assert once.shape == given.shape
    assert once.dtype == torch.uint8
    assert once.is_contiguous()
    assert torch.equal(once, again)
    assert not torch.equal(once, given)
    others = [seeded(transform, seed, given) for seed in range(8, 30)]
    assert all(torch.equal(once, other) for other in others) == (word in FIXED)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (40, 1)])
@pytest.mark.parametrize("word", WORDS)
def test_tiny_photos_and_the_ends_of_the_range(word: str, shape: tuple[int, int]) -> None:
    known = catalogue.WORDS[word]
    values = catalogue.FLIPS if word == "flip" else (known.low, known.default, known.high)
    for value in values:
        made = compose([{word: value, **SURE}])(photo(*shape))
        assert made.shape == (3, *shape)
        assert made.dtype == torch.uint8


@pytest.mark.parametrize(
    "word",
    [word.name for word in catalogue.WORDS.values() if word.probability == 1],
)
def test_strength_zero_changes_nothing(word: str) -> None:
    """These words are done to every photo, so small strengths must do little."""
    given = photo()
    assert torch.equal(compose([{word: 0}])(given), given)


def test_words_together_and_layouts() -> None:
    steps = [{word: True} for word in WORDS if word != "superpixels"]
    given = photo(40, 60)
    made = seeded(compose(steps), 3, given)
    assert made.shape == given.shape
    # Pixels one after the other, as decoders and OpenCV lay them out, give the same.
    turned = given.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(seeded(compose(steps), 3, turned), made)
    assert torch.equal(compose([])(turned), given)


def test_chance_is_torchs_own() -> None:
    transform = compose([*KERAS, {"brightness": 0.2}, {"paper-noise": 0.5}])
    np.random.seed(0)
    first = seeded(transform, 1, photo())
    np.random.seed(1)
    assert torch.equal(first, seeded(transform, 1, photo()))


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
    ],
)
def test_what_is_no_photo(given: torch.Tensor) -> None:
    with pytest.raises(TypeError, match=r"\(3, H, W\)"):
        compose([{"rotation": 40}])(given)


def test_probability() -> None:
    transform = compose([{"grey": 1, "probability": 0.25}])
    given = photo(4, 4)
    torch.manual_seed(0)
    changed = sum(not torch.equal(transform(given), given) for _ in range(2000))
    assert 440 < changed < 560  # 500, give or take three standard deviations
    never = compose([{"flip": "horizontal", "probability": 0}, {"grey": 1, "probability": 0}])
    assert torch.equal(never(given), given)


# Geometry


def test_a_quarter_turn_and_mirrors() -> None:
    given = photo(31, 31)
    turned = geometry.warp(given, geometry.rotation(90))
    assert np.array_equal(turned.numpy(), np.rot90(given.numpy(), axes=(1, 2)))
    across = geometry.warp(given, geometry.flip(horizontal=True, vertical=False))
    assert np.array_equal(across.numpy(), given.numpy()[:, :, ::-1])
    down = geometry.warp(given, geometry.flip(horizontal=False, vertical=True))
    assert np.array_equal(down.numpy(), given.numpy()[:, ::-1])


def test_a_shift_repeats_the_border() -> None:
    given = photo(20, 30)
    moved = geometry.warp(given, geometry.shift(4, -3)).numpy()
    padded = np.pad(given.numpy(), ((0, 0), (3, 0), (0, 4)), mode="edge")
    assert np.array_equal(moved, padded[:, :20, 4:])


def keras_place(rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> tuple:
    """Where Keras' ImageDataGenerator takes each pixel from; its matrices act on (row, column)."""
    theta, shear = radians(25), radians(15)
    turn = np.array([[cos(theta), -sin(theta), 0], [sin(theta), cos(theta), 0], [0, 0, 1]])
    move = np.array([[1, 0, 0.1 * height], [0, 1, -0.15 * width], [0, 0, 1]])
    slant = np.array([[1, -sin(shear), 0], [0, cos(shear), 0], [0, 0, 1]])
    scale = np.diag([1.1, 0.85, 1])
    middle = np.array([[1, 0, height / 2 - 0.5], [0, 1, width / 2 - 0.5], [0, 0, 1]])
    whole = middle @ turn @ move @ slant @ scale @ np.linalg.inv(middle)
    places = np.stack([rows, columns, np.ones_like(rows)]).reshape(3, -1).astype(float)
    found = (whole @ places).reshape(3, height, width)
    return found[0], found[1]


def test_the_warp_is_keras_own() -> None:
    """A photo whose values say where they are tells from where each pixel was taken."""
    height, width = 100, 120
    rows, columns = np.mgrid[:height, :width]
    given = torch.from_numpy(np.stack([rows, columns, rows + columns]).astype(np.uint8))
    # Keras' rows come first, ours its columns: the same turn has the other sign.
    matrix = (
        geometry.rotation(-25)
        @ geometry.shift(-0.15 * width, 0.1 * height)
        @ geometry.shear(15)
        @ geometry.zoom(0.85, 1.1)
    )
    made = geometry.warp(given, matrix).numpy().astype(float)
    row, column = keras_place(rows, columns, height, width)
    assert np.abs(made[0] - row.clip(0, height - 1)).max() <= 0.6
    assert np.abs(made[1] - column.clip(0, width - 1)).max() <= 0.6


def test_steps_side_by_side_are_one_warp_in_their_order() -> None:
    chain = compose(
        [{"shift": 0.5}, {"flip": "horizontal", **SURE}, {"brightness": 0.2}, {"rotation": 9}]
    )
    warps = [part for part in chain.transforms if isinstance(part, geometry.Warp)]
    assert [[step.word.name for step in warp.steps] for warp in warps] == [
        ["shift", "flip"],
        ["rotation"],
    ]
    given = photo(20, 30)
    moved = geometry.warp(given, geometry.shift(4, 0))
    both = geometry.warp(
        given, geometry.shift(4, 0) @ geometry.flip(horizontal=True, vertical=False)
    )
    assert torch.equal(both, moved.flip(2))


def test_draws_fill_the_range_and_no_more() -> None:
    (warp,) = compose([{"rotation": 30}]).transforms[1:-1]
    torch.manual_seed(0)
    turns = []
    for _ in range(500):
        matrix = warp.make_params([photo(4, 4)])["matrix"]
        turns.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert -30 <= min(turns) < -28
    assert 28 < max(turns) <= 30
    (warp,) = compose([{"flip": "both", **SURE}]).transforms[1:-1]
    drawn = [np.diag(warp.make_params([photo(4, 4)])["matrix"])[:2] for _ in range(400)]
    sides = np.array(drawn)
    assert {tuple(one) for one in drawn} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert 140 < (sides[:, 0] < 0).sum() < 260


# Colour


def test_brightness_light_contrast_saturation() -> None:
    assert torch.equal(colour.brightness(plain(100), 0.2), plain(120))
    assert torch.equal(colour.brightness(plain(200), 1), plain(255))
    assert torch.equal(colour.light(plain(100), 0.2), plain(151))
    assert torch.equal(colour.light(plain(100), -1), plain(0))
    halves = torch.cat([plain(50, 8, 8), plain(150, 8, 8)], dim=2)  # mean 100
    assert torch.equal(
        colour.contrast(halves, 0.5), torch.cat([plain(25, 8, 8), plain(175, 8, 8)], dim=2)
    )
    red = torch.tensor([200, 0, 0], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 8, 8)
    grey = 0.2989 * 200
    assert colour.saturation(red, -0.5)[:, 0, 0].tolist() == pytest.approx(
        [(200 + grey) / 2, grey / 2, grey / 2], abs=1
    )
    whole = colour.grey(photo(), 1).int()
    assert torch.equal(whole[0], whole[1])
    assert torch.equal(whole[0], whole[2])


@pytest.mark.parametrize("strength", [-1, -0.3, 0, 0.5, 1])
def test_sharpness_is_torchvisions(strength: float) -> None:
    given = photo()
    theirs = v2.functional.adjust_sharpness(given, 1 + strength).int()
    assert (colour.sharpness(given, strength).int() - theirs).abs().max() <= 1


# Noise


def test_gaussian_noise_has_that_deviation() -> None:
    torch.manual_seed(0)
    noisy = noise.gaussian_noise(plain(128, 256, 256), 0.1).double()
    assert noisy.mean().item() == pytest.approx(128, abs=0.6)  # the fraction is cut off
    assert noisy.std().item() == pytest.approx(25.5, rel=0.02)
    assert abs(np.corrcoef(noisy[0].flatten(), noisy[1].flatten())[0, 1]) < 0.02


def test_salt_and_pepper_shares() -> None:
    torch.manual_seed(0)
    salted = noise.salt_and_pepper(plain(128, 256, 256), 0.1)
    assert torch.equal(salted[0], salted[1])
    assert {0, 128, 255} == set(salted.unique().tolist())
    assert (salted[0] == 0).double().mean().item() == pytest.approx(0.05, abs=0.004)
    assert (salted[0] == 255).double().mean().item() == pytest.approx(0.05, abs=0.004)
    peppered = noise.pepper(plain(128, 256, 256), 0.1)
    assert {0, 128} == set(peppered.unique().tolist())
    assert (peppered[0] == 0).double().mean().item() == pytest.approx(0.1, abs=0.006)


def test_paper_has_a_texture_and_only_darkens() -> None:
    torch.manual_seed(0)
    paper = noise.paper_noise(plain(200, 256, 256), 0.5)
    assert torch.equal(paper[0], paper[1])
    assert 100 <= int(paper.min()) < 120
    assert 180 < int(paper.max()) <= 200
    assert paper.double().mean().item() == pytest.approx(150, abs=3)
    grain = paper[0].double().numpy()
    beside = np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]
    apart = np.corrcoef(grain[:, 100:].ravel(), grain[:, :-100].ravel())[0, 1]
    assert beside > 0.3
    assert beside > apart + 0.2  # neighbours are alike, as no white noise is
    assert torch.equal(noise.paper_noise(plain(0), 1), plain(0))


# Blur


def windows(given: torch.Tensor, side: int, mode: str = "reflect") -> np.ndarray:
    """(3, H, W, side × side): what a square around each pixel holds."""
    half = side // 2
    padded = np.pad(given.numpy(), ((0, 0), (half, half), (half, half)), mode=mode)
    found = sliding_window_view(padded, (side, side), axis=(1, 2))
    return found.reshape(*found.shape[:3], -1)


def test_average_and_median_of_a_square() -> None:
    given = photo(100, 130)  # the shorter side has 100 pixels: 0.05 of it are 5
    mean = windows(given, 5).mean(axis=3)
    assert np.abs(blur.average_blur(given, 0.05).numpy() - mean).max() <= 0.51
    median = np.median(windows(given, 5, "edge"), axis=3)
    assert np.array_equal(blur.median_blur(given, 0.05).numpy(), median)


def test_gaussian_blur_against_its_formula() -> None:
    given = plain(0, 101, 101)
    given[:, 50, 50] = 255
    made = blur.gaussian_blur(given, 0.02).double().numpy()  # a standard deviation of 2.02 pixels
    row, column = np.mgrid[:101, :101] - 50
    wanted = 255 * np.exp(-(row**2 + column**2) / (2 * 2.02**2)) / (2 * np.pi * 2.02**2)
    assert np.abs(made[0] - wanted).max() < 1.0


def test_bilateral_blur_keeps_an_edge_that_a_mean_does_not() -> None:
    given = torch.cat([plain(20, 100, 50), plain(220, 100, 50)], dim=2)
    noisy = given.int() + torch.from_numpy(
        np.random.default_rng(0).integers(-10, 11, (3, 100, 100))
    )
    noisy = noisy.clamp(0, 255).to(torch.uint8)
    kept, mean = (one(noisy, 0.05).double() for one in (blur.bilateral_blur, blur.average_blur))
    assert (kept[:, :, 50] - kept[:, :, 49]).mean() > 180
    assert (mean[:, :, 50] - mean[:, :, 49]).mean() < 80
    assert kept[:, 5:-5, 5:40].std() < 0.6 * noisy[:, 5:-5, 5:40].double().std()


# Morphology


def extremes(given: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value in a square around each pixel, within the photo."""
    half, (_, height, width) = side // 2, given.shape
    low, high = np.empty_like(given), np.empty_like(given)
    for row in range(height):
        for column in range(width):
            square = given[
                :, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1
            ]
            low[:, row, column] = square.min(axis=(1, 2))
            high[:, row, column] = square.max(axis=(1, 2))
    return low, high


@pytest.mark.parametrize(("side", "share"), [(3, 0.01), (5, 0.1)])
def test_morphology_against_the_definition(side: int, share: float) -> None:
    given = photo(50, 55)
    whole = given.numpy()
    low, high = extremes(whole, side)
    opened, closed = extremes(low, side)[1], extremes(high, side)[0]
    for function, wanted in (
        (morphology.erosion, low),
        (morphology.dilation, high),
        (morphology.opening, opened),
        (morphology.gradient, high - low),
        (morphology.top_hat, whole - opened),
        (morphology.black_hat, closed - whole),
    ):
        assert np.array_equal(function(given, share).numpy(), wanted), function.__name__


# Edges


def test_canny_draws_the_outline_that_opaque() -> None:
    given = plain(40, 60, 60)
    given[:, 20:40, 20:40] = 200
    drawn = edges.canny(given, 1)
    line = (drawn != given).all(dim=0)
    assert torch.equal((drawn != given).any(dim=0), line)
    assert (drawn[:, line] == 255).all()
    rows, columns = torch.nonzero(line, as_tuple=True)
    away = torch.stack([rows, columns]).double() - 29.5
    assert away.abs().max(dim=0).values.min() >= 8  # nothing inside, nothing far outside
    assert away.abs().max() <= 12
    assert 60 <= int(line.sum()) <= 90  # once around the square
    half = edges.canny(given, 0.5)
    assert set(half[:, line].unique().tolist()) <= {148, 228}  # half way from 40, 200 to 255
    assert torch.equal(edges.canny(given, 0), given)


def test_edges_add_the_height_of_a_step() -> None:
    given = torch.cat([plain(50, 30, 15), plain(90, 30, 15)], dim=2)
    drawn = edges.edges(given, 0.5)
    assert drawn[0, 15, 13:17].tolist() == [50, 70, 110, 90]
    assert torch.equal(edges.edges(plain(50), 1), plain(50))


# Framing


def test_crop_shows_a_part_of_that_size() -> None:
    columns = torch.arange(200).expand(3, 100, 200).to(torch.uint8)
    torch.manual_seed(0)
    starts = []
    for _ in range(50):
        made = cropping.crop(columns, 0.4)[0, 50].double()
        assert (made[-1] - made[0]).item() == pytest.approx(119, abs=2)
        starts.append(made[0].item())
    assert min(starts) < 10
    assert 70 < max(starts) <= 81


def test_pad_puts_a_border_around() -> None:
    made = cropping.pad(plain(200, 100, 200), 0.25)
    # A share of 0.25 on either side: the photo fills 1 / 1.5 of each.
    seen = made[0] > 100
    assert int(seen.any(dim=0).sum()) == pytest.approx(133, abs=1)
    assert int(seen.any(dim=1).sum()) == pytest.approx(67, abs=1)
    assert made[:, 0].max() == 0
    assert made[:, 50, 100].tolist() == [200, 200, 200]


def test_resize_loses_detail_only() -> None:
    board = torch.zeros(3, 64, 64, dtype=torch.uint8)
    board[:, ::2, ::2] = 200
    board[:, 1::2, 1::2] = 200
    assert torch.equal(cropping.resize(board, 0.5), plain(100))
    assert torch.equal(cropping.resize(plain(77), 0.9), plain(77))


def test_superpixels_are_patches_of_the_mean_colour() -> None:
    halves = torch.cat([plain(30, 80, 40), plain(220, 80, 40)], dim=2)
    assert torch.equal(cropping.superpixels(halves, 40), halves)
    given = torch.from_numpy(pixels(0, 80, 80).copy()).permute(2, 0, 1)
    made = cropping.superpixels(given, 40)
    assert 20 <= len(torch.unique(made.reshape(3, -1), dim=1).T) <= 60
    assert made.double().mean().item() == pytest.approx(given.double().mean().item(), abs=0.5)


def test_a_large_photo_is_segmented_small_and_coloured_whole() -> None:
    given = torch.cat([plain(30, 300, 600), plain(220, 300, 600)], dim=2)
    made = cropping.superpixels(given, 40)
    away = (made.int() - given.int()).abs()
    assert away[:, :, :560].max() <= 15  # of 190: patches keep to one side, up to a few pixels
    assert away[:, :, 640:].max() <= 15


# Steps


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"rotatoin": 40},
            r"augment\.0: unknown augmentation 'rotatoin'; did you mean 'rotat",
        ),
        ({"xyzzy": 1}, "known are rotation, shift"),
        (
            {"rotation": 200},
            r"augment\.0\.rotation: expected a number from 0 to 180 \(degrees\).*not 200",
        ),
        ({"rotation": -1}, "from 0 to 180"),
        ({"rotation": float("nan")}, "not nan"),
        ({"rotation": "40"}, "not '40'"),
        ({"rotation": False}, "not False"),
        ({"rotation": [40]}, r"not \[40\]"),
        ({"flip": "sideways"}, "expected one of horizontal, vertical, both, not 'sideways'"),
        ({"flip": 1}, "expected one of .*, not 1"),
        ({"superpixels": 1}, "from 2 to 5000"),
        ({"grey": 1, "probability": 1.5}, r"probability: expected a number from 0 to 1"),
        ({"grey": 1, "probability": True}, "not True"),
        ({"grey": 1, "flip": "both"}, "one word in each table.*found grey and flip"),
        ({"probability": 1}, "found none"),
        ({}, "found none"),
        ("rotation", "a table such as"),
    ],
)
def test_steps_that_are_refused(step: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compose([step])  # type: ignore[list-item]


@pytest.mark.parametrize("word", [word for word in WORDS if word != "flip"])
def test_values_out_of_range(word: str) -> None:
    known = catalogue.WORDS[word]
    for value in (known.low - 0.1, known.high * 1.01 + 0.01):
        with pytest.raises(RecipeError, match=f"from {known.low:g} to {known.high:g}"):
            read_steps([{word: value}])
    assert isinstance(known.default, float)
    assert known.low < known.default <= known.high


def test_steps_of_a_command_line() -> None:
    assert parse_steps("rotation=40, flip=vertical@0.3,grey,canny@0.1") == [
        {"rotation": 40.0},
        {"flip": "vertical", "probability": 0.3},
        {"grey": True},
        {"canny": True, "probability": 0.1},
    ]
    for text in ("", "rotation=40,,", "=40", "rotation=", "grey@"):
        with pytest.raises(RecipeError, match="is not a step"):
            parse_steps(text)
    with pytest.raises(RecipeError, match="not 'often'"):
        read_steps(parse_steps("grey@often"))
