"""What both photos bear, a logo, a banner, a watermark, must not make them show the same place.

Made-up photos are 1200 × 900 pixels; the i-th keypoints of both match, unless said otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from veduta.keypoints import Keypoints, Verification, verify

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
