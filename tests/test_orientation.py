"""The eight orientations of a photo, against Pillow and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from veduta.photos.orientation import ALL_ORIENTATIONS, UPRIGHT, Orientation, orientation_named
from veduta.search import ORIENTATIONS

T = Image.Transpose
# Pillow turns counter-clockwise. A transposition swaps the axes: a quarter, then mirrored.
PILLOW = {
    "upright": (),
    "90": (T.ROTATE_270,),
    "180": (T.ROTATE_180,),
    "270": (T.ROTATE_90,),
    "mirrored": (T.FLIP_LEFT_RIGHT,),
    "90-mirrored": (T.TRANSPOSE,),
    "180-mirrored": (T.FLIP_TOP_BOTTOM,),
    "270-mirrored": (T.TRANSVERSE,),
}
orientations = st.sampled_from(ALL_ORIENTATIONS)
sides = st.integers(1, 9)


def photo(width: int, height: int) -> np.ndarray:
    """Return a photo in which every pixel has its own colour."""
    return np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)


def test_every_orientation_has_a_name_for_the_command_line() -> None:
    assert [one.name for one in ALL_ORIENTATIONS] == list(PILLOW)
    assert ("auto", *PILLOW) == ORIENTATIONS
    assert Orientation(0, False) == UPRIGHT
    with pytest.raises(KeyError):
        orientation_named("auto")


@pytest.mark.parametrize("name", PILLOW)
def test_a_photo_is_turned_as_pillow_turns_it(name: str) -> None:
    orientation = orientation_named(name)
    image = Image.fromarray(photo(7, 4))
    for step in PILLOW[name]:
        image = image.transpose(step)
    turned = orientation.apply(photo(7, 4))
    assert np.array_equal(turned, np.asarray(image))
    assert turned.flags.c_contiguous
    assert orientation.size(7, 4) == image.size


@given(orientations, sides, sides)
def test_the_inverse_brings_a_photo_back(orientation: Orientation, width: int, height: int) -> None:
    pixels = photo(width, height)
    assert np.array_equal(orientation.inverse.apply(orientation.apply(pixels)), pixels)


@given(orientations, sides, sides, st.data())
def test_points_and_boxes_move_with_the_pixels(
    orientation: Orientation, width: int, height: int, data: st.DataObject
) -> None:
    pixels = photo(width, height)
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    box_width = data.draw(st.integers(1, width - x))
    box_height = data.draw(st.integers(1, height - y))
    turned = orientation.apply(pixels)

    ((u, v),) = orientation.points(np.array([(x, y)]), width, height)
    assert np.array_equal(turned[v, u], pixels[y, x])
    left, top, across, down = orientation.box((x, y, box_width, box_height), width, height)
    part = pixels[y : y + box_height, x : x + box_width]
    assert np.array_equal(turned[top : top + down, left : left + across], orientation.apply(part))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("upright", "not turned"),
        ("180", "turned by 180° clockwise"),
        ("mirrored", "mirrored"),
        ("270-mirrored", "turned by 270° clockwise and mirrored"),
    ],
)
def test_the_words_say_what_is_done(name: str, words: str) -> None:
    assert orientation_named(name).words == words
