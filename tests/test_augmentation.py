"""Augmentation: every word against figures worked out by hand or another way, and no leak."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from tiny import pixels

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torchvision.transforms import v2  # noqa: E402

from veduta.cli.main import run  # noqa: E402
from veduta.curate.splitting import find_leaks  # noqa: E402
from veduta.datasets import open_dataset, read_dataset  # noqa: E402
from veduta.errors import DatasetError, RecipeError, StorageFull  # noqa: E402
from veduta.learn.augmentation import (  # noqa: E402
    blur,
    catalogue,
    colour,
    compose,
    edges,
    framing,
    geometry,
    morphology,
    noise,
    offline,
)
from veduta.learn.augmentation.composing import FUNCTIONS  # noqa: E402
from veduta.learn.augmentation.steps import parse_steps, read_steps  # noqa: E402
from veduta.photos import load  # noqa: E402

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
    geometric = {word.name for word in catalogue.named("geometry")}
    assert set(FUNCTIONS) | geometric == set(WORDS)
    assert not set(FUNCTIONS) & geometric
    assert {word.kind for word in catalogue.WORDS.values()} == set(catalogue.KINDS)


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
    turned = geometry.warp(given, geometry.rotated(90))
    assert np.array_equal(turned.numpy(), np.rot90(given.numpy(), axes=(1, 2)))
    across = geometry.warp(given, geometry.flipped(True, False))
    assert np.array_equal(across.numpy(), given.numpy()[:, :, ::-1])
    down = geometry.warp(given, geometry.flipped(False, True))
    assert np.array_equal(down.numpy(), given.numpy()[:, ::-1])


def test_a_shift_repeats_the_border() -> None:
    given = photo(20, 30)
    moved = geometry.warp(given, geometry.shifted(4, -3)).numpy()
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
        geometry.rotated(-25)
        @ geometry.shifted(-0.15 * width, 0.1 * height)
        @ geometry.sheared(15)
        @ geometry.zoomed(0.85, 1.1)
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
    moved = geometry.warp(given, geometry.shifted(4, 0))
    both = geometry.warp(given, geometry.shifted(4, 0) @ geometry.flipped(True, False))
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
        made = framing.crop(columns, 0.4)[0, 50].double()
        assert (made[-1] - made[0]).item() == pytest.approx(119, abs=2)
        starts.append(made[0].item())
    assert min(starts) < 10
    assert 70 < max(starts) <= 81


def test_pad_puts_a_border_around() -> None:
    made = framing.pad(plain(200, 100, 200), 0.25)
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
    assert torch.equal(framing.resize(board, 0.5), plain(100))
    assert torch.equal(framing.resize(plain(77), 0.9), plain(77))


def test_superpixels_are_patches_of_the_mean_colour() -> None:
    halves = torch.cat([plain(30, 80, 40), plain(220, 80, 40)], dim=2)
    assert torch.equal(framing.superpixels(halves, 40), halves)
    given = torch.from_numpy(pixels(0, 80, 80).copy()).permute(2, 0, 1)
    made = framing.superpixels(given, 40)
    assert 20 <= len(torch.unique(made.reshape(3, -1), dim=1).T) <= 60
    assert made.double().mean().item() == pytest.approx(given.double().mean().item(), abs=0.5)


def test_a_large_photo_is_segmented_small_and_coloured_whole() -> None:
    given = torch.cat([plain(30, 300, 600), plain(220, 300, 600)], dim=2)
    made = framing.superpixels(given, 40)
    away = (made.int() - given.int()).abs()
    assert away[:, :, :560].max() <= 15  # of 190: patches keep to one side, up to a few pixels
    assert away[:, :, 640:].max() <= 15


# Steps


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"rotatoin": 40},
            r"augment\.0: no augmentation is called 'rotatoin'; did you mean 'rotat",
        ),
        ({"xyzzy": 1}, "known are rotation, shift"),
        ({"rotation": 200}, r"augment\.0\.rotation: a number from 0 to 180 \(degrees\).*not 200"),
        ({"rotation": -1}, "from 0 to 180"),
        ({"rotation": float("nan")}, "not nan"),
        ({"rotation": "40"}, "not '40'"),
        ({"rotation": False}, "not False"),
        ({"rotation": [40]}, r"not \[40\]"),
        ({"flip": "sideways"}, "'sideways' is none of horizontal, vertical, both"),
        ({"flip": 1}, "1 is none of"),
        ({"superpixels": 1}, "from 2 to 5000"),
        ({"grey": 1, "probability": 1.5}, r"probability: a number from 0 to 1"),
        ({"grey": 1, "probability": True}, "not True"),
        ({"grey": 1, "flip": "both"}, "one word a table.*found grey and flip"),
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
        with pytest.raises(RecipeError, match="is no step"):
            parse_steps(text)
    with pytest.raises(RecipeError, match="not 'often'"):
        read_steps(parse_steps("grey@often"))


# Datasets


def save(path: Path, seed: int, width: int = 48, height: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path)


def dataset(root: Path, splits: dict[str, int] | None = None, classes: int = 2) -> Path:
    """Classes of photos of 40 × 30 pixels, with a column of splits and one more."""
    rows = []
    for label in range(classes):
        for split, photos in (splits or {"train": 3, "val": 1, "test": 1}).items():
            for number in range(photos):
                path = f"photos/c{label}/{split}{number}.jpg"
                save(root / path, len(rows), width=40, height=30)
                rows.append([path, f"class {label}", split, f"note, {number}"])
    write_rows(root / "labels.csv", ["path", "label", "split", "note"], rows)
    return root


def write_rows(file: Path, header: list[str], rows: list[list[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def augmented(source: Path, out: Path, **options: object) -> offline.Augmented:
    steps = read_steps(options.pop("steps", KERAS))  # type: ignore[arg-type]
    column = str(options.get("column", "split"))
    table = read_dataset(source, split_column=column, keep_columns=True)
    return offline.augment_dataset(table, steps, out, **options)  # type: ignore[arg-type]


def test_only_training_photos_are_copied(tmp_path: Path) -> None:
    source, out = dataset(tmp_path / "data"), tmp_path / "out"
    before = content(source)
    done = augmented(source, out, copies=4)
    assert content(source) == before
    assert (done.photos, done.chosen, done.copies, done.kept) == (10, 6, 4, 0)
    assert done.problems == ()
    rows = rows_of(out / "labels.csv")
    assert list(rows[0]) == ["path", "label", "split", "note", "original_photo"]
    assert len(rows) == 10 + 6 * 4
    assert len({row["path"] for row in rows}) == len(rows)
    written = {row["path"]: (out / row["path"]).read_bytes() for row in rows}
    assert {*written, "labels.csv", "augmentation.json"} == set(content(out))
    originals = {row["path"]: row for row in rows if row["path"] == row["original_photo"]}
    assert {path: written[path] for path in originals} == {
        path: data for path, data in before.items() if path != "labels.csv"
    }
    copies = [row for row in rows if row["path"] not in originals]
    for row in copies:
        of = originals[row["original_photo"]]
        assert of["split"] == "train"
        assert {**row, "path": of["path"]} == of
        with Image.open(out / row["path"]) as opened:
            assert (opened.format, opened.size) == ("JPEG", (40, 30))
    assert len({written[row["path"]] for row in copies}) == len(copies)


def test_no_copy_crosses_a_split(tmp_path: Path) -> None:
    """The sources that the column names never lie in two parts, of any column of splits."""
    source = dataset(tmp_path / "data", {"query": 1, "gallery": 3, "train": 2, "": 1})
    rows = rows_of(source / "labels.csv")
    others = [[*row.values(), "train" if at % 3 else "test"] for at, row in enumerate(rows)]
    write_rows(source / "labels.csv", ["path", "label", "split", "note", "cls"], others)
    for column, part in (("split", None), ("split", "gallery"), ("cls", None), ("cls", "test")):
        out = tmp_path / f"{column}-{part}"
        augmented(source, out, column=column, part=part, copies=2)
        for each in ("split", "cls"):
            table = read_dataset(out, split_column=each, keep_columns=True)
            sources = table.column("original_photo")
            assert find_leaks(table.splits, [], sources) == []
            asked = {table.splits[at] for at, path in enumerate(table.paths) if path != sources[at]}
            if each == column:
                assert asked == {part or "train"}


def test_the_same_call_gives_the_same_files(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        augmented(source, tmp_path / name, copies=2, seed=seed)
    first, again, other = (content(tmp_path / name) for name in "abc")
    assert first == again
    changed = {path for path in first if first[path] != other[path]}
    assert changed == {path for path in first if "~" in path} | {"augmentation.json"}


def test_drawing_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    augmented(dataset(tmp_path / "data"), tmp_path / "out", copies=1)
    assert torch.equal(torch.rand(3), wanted)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    source, out = dataset(tmp_path / "data"), tmp_path / "out"

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augmented(source, out, copies=3, on_progress=stop)
    assert not (out / "labels.csv").exists()
    with pytest.raises(DatasetError, match=r"other settings \(seed\)"):
        augmented(source, out, copies=3, seed=1)
    with pytest.raises(DatasetError, match=r"other settings \(steps, copies\)"):
        augmented(source, out, copies=2, steps=[{"grey": 1}])
    done = augmented(source, out, copies=3)
    assert done.kept == 3 * 4
    augmented(source, tmp_path / "whole", copies=3)
    assert content(out) == content(tmp_path / "whole")
    with pytest.raises(DatasetError, match="finished augmentation already"):
        augmented(source, out, copies=3)


def test_a_full_disk_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = dataset(tmp_path / "data"), tmp_path / "out"
    write, written = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > 9:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", os.fspath(self))
        return write(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageFull, match=r"the disk is full.*run the same command again"):
            augmented(source, out)
    augmented(source, out)
    augmented(source, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_folders_that_are_refused(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty"):
        augmented(source, full)
    (full / "augmentation.json").write_text('["no record"]')
    with pytest.raises(DatasetError, match="is not empty"):
        augmented(source, full)
    with pytest.raises(DatasetError, match="not a folder"):
        augmented(source, full / "mine.txt")
    for inside in (source, source / "photos" / "new"):
        with pytest.raises(DatasetError, match="lies in the dataset"):
            augmented(source, inside)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(DatasetError, match="lies in the dataset"):
        augmented(source, tmp_path / "link" / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        augmented(source, tmp_path / "file" / "new")


def test_a_dataset_without_a_split(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data", {"": 10})
    with pytest.raises(DatasetError, match=r"no split.*veduta split.*--all.*--group-column"):
        augmented(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = augmented(source, tmp_path / "out", every=True, copies=2)
    assert (done.photos, done.chosen) == (20, 20)
    assert list(rows_of(tmp_path / "out" / "labels.csv")[0]) == [
        "path",
        "label",
        "note",
        "original_photo",
    ]
    code = run(
        [
            "split",
            str(tmp_path / "out"),
            "--no-find-copies",
            "--group-column",
            "original_photo",
            "--out",
            str(tmp_path / "out" / "split.csv"),
        ]
    )
    assert code == 0
    table = read_dataset(tmp_path / "out", labels="split.csv", keep_columns=True)
    assert set(table.splits) == {"train", "val", "test"}
    assert find_leaks(table.splits, [], table.column("original_photo")) == []


def test_splits_that_name_no_training_part(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data", {"query": 1, "gallery": 2})
    with pytest.raises(DatasetError, match=r"in the part 'train'.*gallery 4, query 2; --column"):
        augmented(source, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"has a split.*leave --all out"):
        augmented(source, tmp_path / "out", every=True)


def test_folders_of_splits(tmp_path: Path) -> None:
    for part in ("Training", "validation", "test"):
        for number in range(2):
            save(tmp_path / "data" / part / "a b" / f"{number}.png", number)
    done = augmented(tmp_path / "data", tmp_path / "out", copies=1)
    assert (done.photos, done.chosen) == (6, 2)
    table = read_dataset(tmp_path / "out", keep_columns=True)
    assert dict(zip(table.paths, table.splits, strict=True)) == {
        "Training/a b/0.png": "train",
        "Training/a b/0~1.jpg": "train",
        "Training/a b/1.png": "train",
        "Training/a b/1~1.jpg": "train",
        "validation/a b/0.png": "val",
        "validation/a b/1.png": "val",
        "test/a b/0.png": "test",
        "test/a b/1.png": "test",
    }
    assert set(table.labels) == {"a b"}
    assert len(open_dataset(tmp_path / "out").table) == 8


def test_copies_of_copies_belong_to_the_first(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data", {"train": 1, "test": 1}, classes=1)
    augmented(source, tmp_path / "once", copies=1)
    augmented(tmp_path / "once", tmp_path / "twice", copies=1)
    rows = rows_of(tmp_path / "twice" / "labels.csv")
    assert list(rows[0]).count("original_photo") == 1
    trained = {row["path"]: row["original_photo"] for row in rows if row["split"] == "train"}
    assert len(trained) == 4
    assert set(trained.values()) == {"photos/c0/train0.jpg"}


def test_hostile_files_and_names(tmp_path: Path) -> None:
    source = tmp_path / "data"
    good = [
        "a.jpg",
        "a.png",
        "A.JPG",
        "x?y\n.jpg",
        "CON.jpg",
        "...hidden.jpg",
        "no ending",
        "labels.csv.jpg",
        "d:e/ü.jpg",
        "a~1.jpg",
        "labels",
    ]
    for number, name in enumerate(good):
        made = source / name
        made.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(made, "JPEG")
    (source / "broken.jpg").write_bytes((source / "a.jpg").read_bytes()[:200])
    (source / "page.jpg").write_bytes(b"<html><body>not a photo</body></html>")
    (source / "empty.jpg").write_bytes(b"")
    (source / "broken-test.jpg").write_bytes(b"\xff\xd8 nothing")
    rows = [[name, "l,\n\"'=1", "train"] for name in (*good, "broken.jpg", "page.jpg", "empty.jpg")]
    rows += [["broken-test.jpg", "b", "test"], ["gone.jpg", "b", "train"]]
    write_rows(source / "data.csv", ["path", "label", "split"], rows)
    table = read_dataset(source, labels="data.csv", keep_columns=True)
    done = offline.augment_dataset(table, read_steps(KERAS), tmp_path / "out", copies=1)
    assert done.chosen == len(good)
    assert done.photos == len(good) + 1  # a photo that is not changed is not looked into
    told = "\n".join(done.problems)
    for name in ("broken.jpg: left out", "page.jpg: left out", "empty.jpg: left out", "1 missing"):
        assert name in told
    read = read_dataset(tmp_path / "out", keep_columns=True)
    assert len(read.paths) == 2 * len(good) + 1
    assert read.problems == ()
    assert set(read.labels) == {"l,\n\"'=1", "b"}
    folded = {path.casefold() for path in read.paths}
    assert len(folded) == len(read.paths)
    for path in read.paths:
        assert not set(path) & set('?:\n"*<>|\\')
        assert not path.startswith(".")
    assert len(open_dataset(tmp_path / "out").table) == len(read.paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_that_takes_the_place_of_a_photo(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    table = read_dataset(source, keep_columns=True)
    (source / "photos/c0/train0.jpg").unlink()
    os.mkfifo(source / "photos/c0/train0.jpg")
    done = offline.augment_dataset(table, read_steps(KERAS), tmp_path / "out", copies=1)
    assert done.chosen == 5
    assert "a pipe" in done.problems[0]


def test_not_one_training_photo_can_be_read(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data", {"train": 1, "test": 1}, classes=1)
    (source / "photos/c0/train0.jpg").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"not one.*can be read: photos/c0/train0\.jpg"):
        augmented(source, tmp_path / "out")


def test_a_copy_is_as_large_as_wanted_and_upright(tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "train" / "a").mkdir(parents=True)
    turned = Image.new("RGB", (800, 400), "white")
    turned.paste("black", (0, 0, 400, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: black is on top then
    turned.save(source / "train" / "a" / "1.jpg", exif=exif)
    save(source / "test" / "a" / "1.jpg", 0)
    augmented(source, tmp_path / "out", copies=1, side=100, steps=[])
    with Image.open(tmp_path / "out" / "train/a/1~1.jpg") as copy:
        assert copy.size == (50, 100)
        assert copy.getpixel((25, 10)) < (30, 30, 30)
        assert copy.getpixel((25, 90)) > (220, 220, 220)


# The command


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["augment", "--list"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"  {word}=" in out for word in WORDS)
    assert run(["augment", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["word"] for one in listed] == WORDS
    assert listed[0] == {
        "word": "rotation",
        "kind": "geometry",
        "about": "turned",
        "unit": "degrees",
        "values": [0, 180],
        "default": 40.0,
        "drawn": "both ways",
        "probability": 1,
        "source": ["landmark capstone", "image search competition"],
    }


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from veduta.cli.main import run; run(['augment', '--list']); "
        "print([name for name in ('torch', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def size_of(file: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(file) as opened:
        return opened.format, opened.size


def test_a_sheet_of_each_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.png", 0, width=400, height=300)
    for name, seed in (("1.png", "0"), ("2.png", "0"), ("3.png", "1")):
        call = ["augment", str(tmp_path / "a.png"), "--preview", str(tmp_path / name)]
        assert run([*call, "--seed", seed]) == 0
    assert f"{len(WORDS)} rows, seed 1" in capsys.readouterr().out
    first, again, other = ((tmp_path / f"{n}.png").read_bytes() for n in (1, 2, 3))
    assert first == again != other
    kind, (width, height) = size_of(tmp_path / "1.png")
    assert kind == "PNG"
    assert 800 < width < 2000
    assert 1500 < height < 4000


def test_a_sheet_of_steps_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    for number in range(6):
        save(photos / f"{number}.png", number, width=60, height=80)
    (photos / "0.png").write_bytes(b"nothing")
    call = ["augment", str(photos), "--preview", str(tmp_path / "s.jpg"), "--json"]
    assert run([*call, "--steps", "rotation=20,canny=1@0.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 4
    assert told["rows"] == ["rotation=20", "canny=1", "all of them"]
    assert "0.png" in told["problems"][0]
    assert size_of(tmp_path / "s.jpg")[0] == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "one of --list, --preview FILE and --out DIR"),
        (["--list", "--out", "x"], 2, "one of --list"),
        (["--out", "x"], 2, "Name a photo or a dataset"),
        (["photo.png", "--preview", "x.gif"], 2, "wanted a .png or a .jpg"),
        (["photo.png", "--preview", "none/x.png"], 2, "No such file or directory"),
        (["photo.png", "--preview", "x.png", "--steps", "rotate=4"], 3, "did you mean 'rotation'?"),
        (["photo.png", "--preview", "x.png", "--steps", "zoom=4"], 3, "from 0 to 0.9"),
        (["photo.png", "--preview", "x.png", "--recipe", "none"], 3, "no recipe is called"),
        (["photo.png", "--preview", "x.png", "--recipe", "bare.toml"], 3, "augments nothing"),
        (["photo.png", "--preview", "x.png", "--recipe", "a", "--steps", "b"], 2, "Either --st"),
        (["text.jpg", "--preview", "x.png"], 3, "text.jpg: not a photo"),
        (["texts", "--preview", "x.png"], 3, "text.jpg: not a photo"),
        (["empty", "--preview", "x.png"], 3, "no photo in this folder"),
        (["gone", "--preview", "x.png"], 2, "does not exist"),
        (["data", "--out", "x", "--copies", "0"], 2, "copies"),
        (["data", "--out", "x", "--all", "--part", "a"], 2, "Either --all or --part"),
        (["data", "--out", "x", "--part", "other"], 3, "no photo is in the part 'other'"),
        (["data", "--out", "x", "--column", "none"], 3, "has no split"),
        (["data", "--out", "x", "--labels", "none.csv"], 3, "none.csv"),
        (["empty", "--out", "x"], 3, "empty"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photo.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for text in ("text.jpg", "texts/text.jpg"):
        (tmp_path / text).write_text("no photo at all")
    (tmp_path / "bare.toml").write_text('about = "nothing"\n')
    dataset(tmp_path / "data")
    assert run(["augment", *arguments]) == code
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.png").exists()


def test_the_command_writes_a_dataset(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    (source / "photos/c0/train0.jpg").write_bytes(b"nothing")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "veduta",
            "augment",
            "data",
            "--out",
            "out",
            "--copies",
            "2",
            "--steps",
            "grey@1",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote out: 9 photos as they were, 2 changed copies of 5 of them" in done.stdout
    assert "photos/c0/train0.jpg: left out" in done.stderr
    with Image.open(tmp_path / "out/photos/c1/train0~2.jpg") as copy:
        red, green, blue = np.moveaxis(np.asarray(copy).astype(int), 2, 0)
    assert max(np.abs(red - green).max(), np.abs(red - blue).max()) <= 4


def test_a_dataset_by_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = dataset(tmp_path / "data")
    (tmp_path / "mine.toml").write_text('augment = [{flip = "vertical", probability = 1}]\n')
    call = ["augment", "data", "--out", "flipped", "--copies", "2", "--recipe", "mine.toml"]
    assert run([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": "flipped",
        "photos": 10,
        "copied": 6,
        "copies": 2,
        "kept": 0,
        "group_column": "original_photo",
        "problems": [],
    }
    with Image.open(tmp_path / "flipped/photos/c1/train0~1.jpg") as copy:
        made = np.asarray(copy).astype(int)
    with Image.open(source / "photos/c1/train0.jpg") as original:
        mirrored = np.asarray(original)[::-1].astype(int)
    assert np.abs(made - mirrored).mean() < 12  # saved again as JPEG
    assert run(call) == 3
    assert "finished augmentation" in capsys.readouterr().err


def test_real_photos_of_all_kinds(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Every broken, odd or misnamed file is copied or named, and what is copied decodes."""
    table = read_dataset(shared_data("messy"), keep_columns=True)
    steps = read_steps([{"rotation": 40}, {"gaussian-noise": 0.1}])
    done = offline.augment_dataset(table, steps, tmp_path / "out", every=True, copies=1, side=64)
    left_out = {problem.split(": left out")[0] for problem in done.problems}
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert len(rows) == 2 * done.chosen
    assert done.chosen + len(left_out & set(table.paths)) == len(table.paths)
    assert len(left_out) > 3
    for row in rows:
        assert max(load(tmp_path / "out" / row["path"]).pixels.shape) >= 1
