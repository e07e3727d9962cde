"""The picture of the matches: what is in it, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veduta import photos
from veduta.keypoints import Keypoints, Verification, draw_matches, load_extractor, verify
from veduta.keypoints.drawing import _caption
from veduta.keypoints.verification import FoundModel
from veduta.keypoints.xfeat import XFeat

MATCHING = XFeat.matching


def grey(width: int, height: int, level: int = 90) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def grid(width: int, height: int, columns: int = 8, rows: int = 6) -> Keypoints:
    x, y = np.meshgrid(np.linspace(0.2, 0.8, columns) * width, np.linspace(0.2, 0.8, rows) * height)
    xy = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
    codes = np.random.default_rng(1).normal(size=(len(xy), 64))
    codes *= 127 / np.linalg.norm(codes, axis=1, keepdims=True)
    return Keypoints(xy, np.rint(codes).astype(np.int8), width, height)


def drawn(
    first: Any, second: Any, a: Keypoints, b: Keypoints, found: Verification, **options: Any
) -> Image.Image:
    """Draw two photos, with the matches of their keypoints unless others are given."""
    matches = options.pop("matches", None)
    matches = MATCHING.pairs(a, b) if matches is None else matches
    return draw_matches(first, second, a, b, found, matches=matches, **options)


def same(a: Keypoints, b: Keypoints) -> Verification:
    found = verify(a, b, MATCHING.pairs(a, b))
    assert found.model == "homography"
    return found


def array(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture).astype(np.int64)


def coloured(picture: Image.Image) -> NDArray[np.bool_]:
    pixels = array(picture)
    return pixels.max(axis=2) - pixels.min(axis=2) > 40


def test_both_photos_lie_side_by_side_with_lines_between() -> None:
    a, b = grid(800, 600), grid(400, 300)
    picture = drawn(grey(400, 300), grey(800, 600, 150), a, b, same(a, b))
    assert picture.mode == "RGB"
    assert picture.width == 1600
    pixels = array(picture)
    # Photos of one shape are shown at one size, and the gap between them is white.
    assert (pixels[5, 5] == 90).all()
    assert (pixels[5, -5] == 150).all()
    assert (pixels[5, 800] == 255).all()
    lines = coloured(picture)
    assert lines[:, 796:804].any()  # they cross the gap
    top, bottom = np.flatnonzero(lines.any(axis=1))[[0, -1]]
    shown = 794 * 0.75
    assert top == pytest.approx(0.2 * shown, abs=5)
    assert bottom == pytest.approx(0.8 * shown, abs=5)


def test_wide_photos_are_stacked() -> None:
    a, b = grid(2000, 300), grid(2000, 400)
    picture = drawn(grey(1000, 150), grey(1000, 200, 150), a, b, same(a, b))
    assert picture.size[0] <= 1600
    pixels = array(picture)
    assert (pixels[3, 3] == 90).all()
    assert (pixels[-60, 3] == 150).all()
    assert picture.size[0] > 1500  # each has the whole width


@pytest.mark.parametrize(
    ("first", "second"), [((4000, 300), (300, 4000)), ((3, 2), (2, 5)), ((1, 1), (1600, 1))]
)
def test_any_two_shapes_make_a_picture(first: tuple[int, int], second: tuple[int, int]) -> None:
    a, b = grid(*first), grid(*second)
    for found in (
        verify(a, b, MATCHING.pairs(a, b)),
        verify(b, a, np.empty((0, 2), np.intp)),
    ):
        picture = drawn(grey(*first), grey(*second), a, b, found)
        assert 200 <= picture.width <= 1600
        assert 44 < picture.height <= 844


def test_the_width_is_a_limit() -> None:
    a = grid(800, 600)
    found = same(a, a)
    assert drawn(grey(80, 60), grey(80, 60), a, a, found, width=500).width == 500
    assert drawn(grey(80, 60), grey(80, 60), a, a, found, width=10).width == 200


def test_unverified_photos_get_faint_lines_only() -> None:
    a, b = grid(800, 600), grid(800, 600)
    rng = np.random.default_rng(1)
    b = Keypoints(rng.permutation(b.xy), b.descriptors, 800, 600)
    matches = MATCHING.pairs(a, b)
    found = verify(a, b, matches)
    assert found.model is None
    for given in (None, matches):
        picture = drawn(grey(80, 60), grey(80, 60), a, b, found, matches=given)
        assert not coloured(picture).any()
        assert (array(picture)[:590, :790] != 90).any()
    bare = drawn(grey(80, 60), grey(80, 60), a, b, found, matches=matches[:0])
    assert (array(bare)[:590, :790] == 90).all()


def test_only_some_of_many_lines_are_drawn_evenly() -> None:
    a = grid(800, 600, 16, 12)
    found = same(a, a)
    many = coloured(drawn(grey(80, 60), grey(80, 60), a, a, found, lines=300))
    few = coloured(drawn(grey(80, 60), grey(80, 60), a, a, found, lines=3))
    assert 0 < few.sum() < many.sum() / 4
    reach = [np.flatnonzero(drawn.any(axis=1))[[0, -1]] for drawn in (many, few)]
    assert reach[0].tolist() == reach[1].tolist()  # the highest and the lowest are among them
    assert not coloured(drawn(grey(80, 60), grey(80, 60), a, a, found, lines=0)).any()


def test_caption_says_what_was_found() -> None:
    def caption(model: str | None, agree: int, matches: int, drawn: int = 100) -> str:
        inliers = np.zeros((agree, 2), np.intp)
        found = Verification(matches, agree, lambda: FoundModel(model, None, inliers, 0.5))
        return _caption(found, drawn)

    assert caption("homography", 143, 210, 143) == "143 of 210 matches agree · homography"
    assert (
        caption("fundamental", 143, 210)
        == "143 of 210 matches agree · fundamental matrix · 100 drawn"
    )
    assert caption(None, 7, 35) == "Not verified: only 7 of 35 matches agree"
    assert caption(None, 0, 1) == "Not verified: only 0 of 1 match agree"
    assert caption(None, 0, 0) == "Not verified: no keypoints match"


def test_a_caption_is_written_below(tmp_path: Path) -> None:
    a = grid(800, 600)
    picture = drawn(grey(80, 60), grey(80, 60), a, a, same(a, a))
    bar = array(picture)[-44:]
    ink = (bar < 128).all(axis=2)
    assert 300 < ink.sum() < 0.2 * ink.size
    assert not ink[:, :100].any() and not ink[:, -100:].any()  # in the middle
    picture.save(tmp_path / "match.png")


def test_photos_are_left_as_they_are() -> None:
    a = grid(800, 600)
    pixels = grey(80, 60)
    pixels.setflags(write=False)
    found = same(a, a)
    first = drawn(pixels, pixels, a, a, found)
    assert first.tobytes() == drawn(pixels, pixels, a, a, found).tobytes()


def test_real_photos_of_one_place(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("same_place") / "images" / "triplets"
    extractor = load_extractor("xfeat")
    names = ("scene0_0.jpg", "scene0_1.jpg", "scene3_0.jpg")
    read = [photos.load(folder / name, at_least=extractor.long_side) for name in names]
    points = [extractor.extract(photo.pixels, photo.width, photo.height) for photo in read]
    found = verify(points[0], points[1], MATCHING.pairs(points[0], points[1]))
    assert found.model is not None
    assert found.inlier_coverage > 0.3
    assert drawn(read[0].pixels, read[1].pixels, points[0], points[1], found).width > 800
    other = verify(points[0], points[2], MATCHING.pairs(points[0], points[2]))
    assert other.model is None
    assert other.inlier_coverage < 0.3
