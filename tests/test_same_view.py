"""Two exposures of one view are no copies: their details do not lie at the same places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_cleaning import photo

from veduta.curate.alignment import CopyAgreement
from veduta.curate.copies import SAME_VIEW, _kind_and_score, find_copies
from veduta.curate.displacement import displacement
from veduta.curate.splitting import bound_together


def luma(shift: float = 0.0) -> NDArray[np.uint8]:
    """A photo that is smooth enough for the shift of a part of a pixel."""
    sharp = np.asarray(photo(3).convert("L"))
    moved = cv2.warpAffine(
        sharp,
        np.array([[1, 0, shift], [0, 1, 0]], np.float32),
        sharp.shape[::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), 1.5), np.uint8)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 0.8])
def test_the_displacement_is_measured(shift: float) -> None:
    everywhere = np.ones((240, 320), np.float32)
    moved = np.clip(luma(shift) * 0.7 + 30, 0, 255).astype(np.uint8)
    measured = displacement(luma(), moved, everywhere, everywhere > 0)
    assert measured == pytest.approx(shift, abs=0.08)


def painted(photo: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Strokes of other grey levels all over, at the places of the photo's own details."""
    rng = np.random.default_rng(seed)
    made = photo.astype(np.int16)
    for _ in range(300):
        x, y = rng.integers(0, 310), rng.integers(0, 230)
        w, h = rng.integers(2, 10, 2)
        made[y : y + h, x : x + w] += rng.integers(-40, 40)
    return np.asarray(
        cv2.GaussianBlur(np.clip(made, 0, 255).astype(np.uint8), (0, 0), 1.0), np.uint8
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_that_no_shift_explains_is_none(seed: int) -> None:
    everywhere = np.ones((240, 320), np.float32)
    there = luma()
    assert displacement(painted(there, seed), there, everywhere, everywhere > 0) < 0.1
    moved = displacement(painted(there, seed), luma(0.8), everywhere, everywhere > 0)
    assert moved is not None and moved > 0.3


def test_nothing_to_measure() -> None:
    flat, everywhere = np.full((60, 80), 90, np.uint8), np.ones((60, 80), np.float32)
    assert displacement(flat, flat, everywhere, everywhere > 0) is None


def test_displaced_details_make_it_another_exposure() -> None:
    copy = CopyAgreement(correlation=0.96, matches=0.8, overlap=1.0, displacement=0.1)
    other = CopyAgreement(correlation=0.96, matches=0.8, overlap=1.0, displacement=0.6)
    assert _kind_and_score(copy, False, None) == ("same picture", 0.96)
    assert _kind_and_score(other, False, None) == (SAME_VIEW, 0.96)
    assert _kind_and_score(other, True, None) == (SAME_VIEW, 0.96)


@pytest.mark.slow
def test_webcams_and_pans(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """They are found, are no copies, and stay in one part of a split."""
    scenes = shared_data("scenes") / "images"
    files = [
        scenes / name
        for name in (
            "wc_chamonix/02.jpg",
            "wc_chamonix/03.jpg",
            "mv_vienna_skyline/01.jpg",
            "mv_vienna_skyline/03.jpg",
            "mg_corridor/01.jpg",
            "mg_corridor/02.jpg",
        )
    ]
    pairs = find_copies(files, folder=tmp_path)
    assert {(pair.first, pair.second, pair.kind) for pair in pairs} == {
        (0, 1, SAME_VIEW),
        (2, 3, SAME_VIEW),
        (4, 5, SAME_VIEW),
    }
    assert bound_together(len(files), pairs) == [0, 0, 2, 2, 4, 4]
