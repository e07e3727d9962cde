"""What both photos bear, a logo, a banner, a watermark, must not make them show the same place.

Made-up photos are 1200 × 900 pixels; the i-th keypoints of both match, unless said otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from veduta.keypoints import Keypoints, Verification, verify
from veduta.keypoints.shared_overlays import stamped_matches

WIDTH, HEIGHT = 1200, 900
Points = NDArray[np.float64]


def anywhere(seed: int, count: int) -> Points:
    return np.random.default_rng(seed).uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (count, 2))


def jittered(points: Points, seed: int = 0) -> Points:
    """As the same thing is found again: to within about a pixel of the 640 looked at."""
    return points + np.random.default_rng(seed).normal(0, 1.2, points.shape)


def within(points: Points, left: float, top: float, wide: float, high: float) -> Points:
    return points * (wide / WIDTH, high / HEIGHT) + (left, top)


def keypoints(xy: Points, width: int = WIDTH, height: int = HEIGHT) -> Keypoints:
    inside = np.clip(xy, 0, (width - 1, height - 1)).astype(np.float32)
    return Keypoints(inside, np.zeros((len(xy), 64), np.int8), width, height)


def check(a: Points, b: Points, alone: int = 0) -> Verification:
    """Verify; `alone` keypoints of each photo, anywhere, match nothing."""
    matches = np.repeat(np.arange(len(a))[:, None], 2, axis=1)
    first, second = (np.r_[xy, anywhere(seed, alone)] for xy, seed in ((a, 91), (b, 92)))
    return verify(keypoints(first), keypoints(second), matches)


MARKS = {
    "a large logo": (40, 40, 520, 420),
    "a banner": (0, 700, 1199, 199),
    "a column of text": (900, 0, 260, 899),
}


@pytest.mark.parametrize("place", MARKS.values(), ids=MARKS)
def test_a_mark_on_photos_of_other_things_does_not_decide(
    place: tuple[float, float, float, float],
) -> None:
    mark = within(anywhere(1, 80), *place)
    found = check(mark, jittered(mark), alone=400)
    assert found.model is None
    assert len(found.inliers) < 20
    assert found.consistent_matches < 8, "what the mark has in common says nothing of the place"


@pytest.mark.parametrize("move", [(0, 0), (600, -500)])
def test_a_mark_on_empty_pictures_does_not_decide(move: tuple[float, float]) -> None:
    mark = within(anywhere(1, 70), 60, 560, 420, 260)
    found = check(mark, jittered(mark) + np.array(move))
    assert found.model is None and found.consistent_matches < 8


def test_a_mark_of_so_many_pixels_on_photos_of_two_sizes() -> None:
    mark = within(anywhere(1, 70), 20, 20, 300, 150)
    matches = np.repeat(np.arange(70)[:, None], 2, axis=1)
    small = keypoints(jittered(mark) + np.array((80, 300)), 800, 600)
    found = verify(keypoints(mark), small, matches)
    assert found.model is None


def test_beside_a_mark_the_scene_is_found() -> None:
    mark = within(anywhere(1, 90), 40, 40, 520, 420)
    scene = anywhere(2, 60)
    turned = (scene - 450) @ np.array([[0.93, -0.06], [0.05, 0.9]]).T + 480
    found = check(np.r_[mark, scene], np.r_[jittered(mark), jittered(turned, 3)], alone=250)
    assert found.model is not None
    assert (found.inliers[:, 0] >= 90).sum() > 40


@pytest.mark.parametrize(
    "view",
    [
        [[1.0, -0.026], [0.026, 1.0]],  # the camera held 1.5° aslant
        [[0.92, 0.0], [0.0, 1.0]],  # from the side
        [[0.94, 0.0], [0.0, 0.94]],  # from farther away
    ],
    ids=["aslant", "aside", "farther"],
)
def test_a_sign_photographed_twice_is_no_mark(view: list[list[float]]) -> None:
    sign = within(anywhere(1, 60), 300, 250, 480, 380)
    again = (sign - (540, 440)) @ np.array(view).T + (560, 450)
    found = check(sign, jittered(again), alone=300)
    assert found.model == "homography"
    assert found.consistent_matches > 40


def test_a_copy_is_no_mark() -> None:
    # Two thirds of the keypoints are found again and match.
    a = anywhere(1, 300)
    found = check(a, jittered(a), alone=150)
    assert found.model == "homography" and len(found.inliers) > 200


def test_a_blurred_copy_is_no_mark() -> None:
    # Of its keypoints few are found again, but they lie all over it.
    a = anywhere(1, 90)
    found = check(a, jittered(a), alone=420)
    assert found.model == "homography" and len(found.inliers) > 70


def test_a_cut_out_is_no_mark() -> None:
    whole = anywhere(1, 400)
    corner, width, height = np.array((200, 150)), 700, 500
    shown = (whole >= corner) & (whole < corner + np.array((width, height)))
    inside = np.flatnonzero(shown.all(axis=1))
    # At its size in pixels it has many keypoints that the whole photo has not.
    more = np.random.default_rng(5).uniform(0, (width, height), (400, 2))
    cut = np.r_[jittered(whole[inside] - corner), more]
    matches = np.c_[inside[:60], np.arange(60)]
    found = verify(keypoints(whole), keypoints(cut, width, height), matches)
    assert found.model == "homography" and len(found.inliers) > 50


def test_a_copy_of_a_picture_with_one_thing_in_it() -> None:
    # Nothing is to be seen around it, and the thing is larger than marks mostly are.
    thing = within(anywhere(1, 120), 350, 200, 520, 480)
    assert check(thing, jittered(thing)).model == "homography"


SMALL, LARGE = (800, 600), (900, 1300)


def stamp(size: tuple[int, int]) -> Points:
    """Return the keypoints of a stamp on a photo: a logo in the middle, letters near the corners.

    It is scaled with the width of the photo.
    """
    width, height = size
    rng = np.random.default_rng(7)
    logo = rng.uniform((-0.14, -0.03), (0.14, 0.03), (16, 2)) * width + (width / 2, height / 2)
    letter = rng.uniform(-0.003, 0.003, (4, 2)) * width
    corners = [(x * width, y * height) for x in (0.12, 0.88) for y in (0.1, 0.9)]
    return np.r_[logo, *(letter + corner for corner in corners)]


def stamped_photos(
    scene: Points, again: Points, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> tuple[Keypoints, Keypoints, NDArray[np.intp]]:
    """Return two photos with one stamp, of a scene each, and 500 keypoints that match nothing."""
    photos = []
    for seed, (points, size) in enumerate(zip((scene, again), sizes, strict=True)):
        rng = np.random.default_rng(seed)
        drawn = stamp(size) + rng.normal(0, 0.6, stamp(size).shape)
        photos.append(keypoints(np.r_[drawn, points, rng.uniform((0, 0), size, (500, 2))], *size))
    matches = np.repeat(np.arange(len(stamp(SMALL)) + len(scene))[:, None], 2, axis=1)
    return photos[0], photos[1], matches


@pytest.mark.parametrize("sizes", [(SMALL, LARGE), (LARGE, SMALL), (SMALL, SMALL)])
def test_a_stamp_that_is_scaled_with_the_photo_is_no_evidence(
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    nothing = np.empty((0, 2))
    query, other, matches = stamped_photos(nothing, nothing, sizes)
    assert stamped_matches(query, other, matches).all()
    found = verify(query, other, matches)
    assert found.model is None
    assert found.consistent_matches == 0
    assert found.matches == len(matches), "they are matches, but no evidence"


def test_beside_a_scaled_stamp_the_scene_is_found() -> None:
    scene = np.random.default_rng(3).uniform((50, 50), (700, 500), (60, 2))
    again = (scene - 350) @ np.array([[1.1, -0.2], [0.2, 1.2]]).T + 480
    query, other, matches = stamped_photos(scene, again, (SMALL, LARGE))
    stamped = stamped_matches(query, other, matches)
    assert stamped[: len(stamp(SMALL))].all() and stamped.sum() < len(stamp(SMALL)) + 6
    found = verify(query, other, matches)
    assert found.model == "homography" and len(found.inliers) > 50


def test_what_a_fixed_camera_sees_twice_is_no_stamp() -> None:
    # At night few keypoints are found again. They keep their places, but lie all over the photo.
    few = anywhere(1, 28)
    matches = np.repeat(np.arange(28)[:, None], 2, axis=1)
    photos = [keypoints(np.r_[jittered(few, seed), anywhere(seed, 480)]) for seed in (91, 92)]
    assert not stamped_matches(photos[0], photos[1], matches).any()
    assert verify(photos[0], photos[1], matches).model == "homography"


def test_a_copy_in_another_size_is_no_stamp() -> None:
    thing = within(anywhere(1, 120), 500, 400, 120, 100)
    small = keypoints(jittered(thing, 2) / 2, WIDTH // 2, HEIGHT // 2)
    matches = np.repeat(np.arange(120)[:, None], 2, axis=1)
    assert not stamped_matches(keypoints(thing), small, matches).any()


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 400), st.integers(1, 400))
def test_any_photos_and_matches_can_be_asked(seed: int, count: int, wide: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    one = keypoints(rng.uniform(0, 1, (40, 2)) * (wide, high), wide, high)
    other = keypoints(rng.uniform(0, 1, (30, 2)) * (high, wide), high, wide)
    matches = np.stack([rng.integers(0, 40, count), rng.integers(0, 30, count)], axis=1)
    stamped = stamped_matches(one, other, matches)
    assert stamped.shape == (count,) and stamped.dtype == bool
