"""Maps from scores of changed copies of a photo: occlusion, and RISE.

They ask nothing of a network but its scores, so they explain every encoder and every model.

Covered pixels show the photo blurred. A patch of one colour would add edges of its own, and a
network has seen few photos with such patches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.explanation.explanation import Explanation
from veduta.photos import resize

if TYPE_CHECKING:
    from veduta.explanation.scorers import Scorer

__all__ = [
    "blend",
    "blurred",
    "enlarged",
    "explain_by_perturbation",
    "grid_shape",
    "occlusion",
    "rise",
]

_BLUR_SHARE = 1 / 16
"""Standard deviation of the blur, as a share of the photo's longer side."""

_OCCLUSION_CELLS = 8
"""Cells of the coarse grid along the longer side."""

_REFINED_SHARE = 0.25
"""Share of the coarse cells that are divided: those whose cover changes the score the most."""

_RISE_CELLS = 7
"""Cells of a random mask along the longer side, as in the paper."""

_RISE_SHOWN = 0.5
"""Probability that a cell of a random mask shows the photo."""

_RISE_MAP_SIDE = 56
"""Longer side of the map of RISE."""

_BATCH = 16
"""Copies of the photo that are in memory at a time."""


def explain_by_perturbation(
    method: str,
    scorer: Scorer,
    pixels: NDArray[np.uint8],
    *,
    photo: str,
    class_name: str | None = None,
    long_side: int | None = None,
) -> Explanation:
    """Explain a similarity or the score of a class by occlusion or RISE.

    Args:
        method: "occlusion" or "rise".
        scorer: gives the similarity, or the score of the class; see `veduta.explanation.scorers`.
        pixels: (h, w, 3) uint8 RGB, upright.
        photo: its name.
        class_name: the class that the scorer scores. None: it gives a similarity.
        long_side: pixels. The copies of a larger photo have this long side, which saves time: give
            one that loses nothing for the network. None: they have the size of the photo.

    Raises:
        EncoderError: as the scorer.
    """
    started = time.perf_counter()
    score = float(scorer([pixels])[0])
    if long_side is not None:
        pixels = _reduced(pixels, long_side)
    found = {"occlusion": occlusion, "rise": rise}[method](scorer, pixels)
    height, width = pixels.shape[:2]
    return Explanation(
        photo=photo,
        pixels=pixels,
        map=found,
        box=(0, 0, width, height),
        method=method,
        similarity=score if class_name is None else None,
        class_name=class_name,
        score=None if class_name is None else score,
        seconds=time.perf_counter() - started,
    )


def occlusion(scorer: Scorer, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the score loses when a cell of the photo is covered (Zeiler and Fergus, 2014).

    The photo is divided into cells, 8 along its longer side. The quarter of them whose cover
    changes the score the most are divided into four smaller cells. These share what the large cell
    loses. How they differ comes from covering each of them alone.

    Args:
        scorer: gives the score of a photo.
        pixels: (h, w, 3) uint8 RGB, upright.

    Returns:
        (H, W) float32 over the whole photo, with 16 positions along its longer side at most.
        Positive where the photo supports the score.
    """
    height, width = pixels.shape[:2]
    cover = blurred(pixels)
    whole = float(scorer([pixels])[0])
    rows, columns = grid_shape(pixels.shape, _OCCLUSION_CELLS)

    def losses(cells: list[tuple[int, int]], rows: int, columns: int) -> NDArray[np.float64]:
        covered = (_with_cell_covered(pixels, cover, cell, rows, columns) for cell in cells)
        return whole - _scores(scorer, covered)

    coarse_cells = [(row, column) for row in range(rows) for column in range(columns)]
    coarse = losses(coarse_cells, rows, columns).reshape(rows, columns)
    parts_down, parts_across = min(2, height // rows), min(2, width // columns)
    parts = parts_down * parts_across
    fine = np.repeat(np.repeat(coarse / parts, parts_down, axis=0), parts_across, axis=1)
    if parts == 1:
        return fine.astype(np.float32)
    count = max(1, round(_REFINED_SHARE * coarse.size))
    strongest = np.argsort(-np.abs(coarse), axis=None, kind="stable")[:count]
    fine_cells = [
        (parts_down * row + down, parts_across * column + across)
        for row, column in zip(*np.unravel_index(strongest, coarse.shape), strict=True)
        for down in range(parts_down)
        for across in range(parts_across)
    ]
    lost = losses(fine_cells, *fine.shape).reshape(count, parts)
    difference = lost - lost.mean(axis=1, keepdims=True)
    fine[tuple(np.transpose(fine_cells))] += difference.ravel()
    return fine.astype(np.float32)


def rise(
    scorer: Scorer, pixels: NDArray[np.uint8], *, masks: int = 128, seed: int = 0
) -> NDArray[np.float32]:
    """Return the mean score when a position is visible, minus the mean score (Petsiuk, 2018).

    Random masks of 7 cells along the longer side show about half of the photo; the rest is blurred.
    The paper's map is the mean score when a position is visible. Without the mean of all scores,
    positions that do not matter are near zero.

    Args:
        scorer: gives the score of a photo.
        pixels: (h, w, 3) uint8 RGB, upright.
        masks: the number of random masks, >= 1. The error falls with its square root.
        seed: of the masks. The same seed gives the same map.

    Returns:
        (H, W) float32 over the whole photo, 56 positions along its longer side at most. Positive
        where the photo supports the score.
    """
    height, width = pixels.shape[:2]
    shape = grid_shape(pixels.shape, _RISE_MAP_SIDE)
    cover = blurred(pixels)
    generator = np.random.default_rng(seed)
    drawn = np.stack([_random_mask(generator, shape) for _ in range(masks)])
    copies = (blend(pixels, cover, enlarged(mask, width, height)) for mask in drawn)
    scores = _scores(scorer, copies)
    visible = drawn.sum(axis=0, dtype=np.float64)
    mean = np.tensordot(scores - scores.mean(), drawn, axes=1) / np.maximum(visible, 1e-6)
    return np.asarray(mean, dtype=np.float32)


def blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a photo with so much blur that only its large areas of colour are left.

    Args:
        pixels: (h, w, 3) uint8 RGB.

    Returns:
        (h, w, 3) uint8.
    """
    import cv2

    deviation = max(0.5, _BLUR_SHARE * max(pixels.shape[:2]))
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation), dtype=np.uint8)


def blend(
    pixels: NDArray[np.uint8], cover: NDArray[np.uint8], visible: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return a photo that is partly covered.

    Args:
        pixels: (h, w, 3) uint8, what is visible.
        cover: (h, w, 3) uint8, what covers it.
        visible: (h, w) in [0, 1]: 1 shows `pixels`, 0 shows `cover`.

    Returns:
        (h, w, 3) uint8.
    """
    share = visible[:, :, None].astype(np.float32)
    return np.asarray(np.rint(pixels * share + cover * (1 - share)), dtype=np.uint8)


def grid_shape(shape: tuple[int, ...], cells: int) -> tuple[int, int]:
    """Return the rows and columns of nearly square cells, `cells` along the longer side.

    Args:
        shape: (h, w, …) of the photo.
        cells: along the longer side, at most one a pixel.
    """
    height, width = shape[:2]
    side = max(1.0, max(height, width) / cells)
    return max(1, round(height / side)), max(1, round(width / side))


def enlarged(values: NDArray[np.floating], width: int, height: int) -> NDArray[np.float32]:
    """Return a map with linear interpolation between the middles of its positions.

    Args:
        values: (H, W).
        width: of the result, in pixels.
        height: of the result, in pixels.

    Returns:
        (`height`, `width`) float32.
    """
    import cv2

    values = np.ascontiguousarray(values, dtype=np.float32)
    larger = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(larger, dtype=np.float32)


def _reduced(pixels: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Return a photo with at most that long side."""
    height, width = pixels.shape[:2]
    share = min(1.0, long_side / max(height, width))
    return resize(pixels, max(1, round(share * width)), max(1, round(share * height)))


def _with_cell_covered(
    pixels: NDArray[np.uint8],
    cover: NDArray[np.uint8],
    cell: tuple[int, int],
    rows: int,
    columns: int,
) -> NDArray[np.uint8]:
    """Return the photo with one cell of a grid of `rows` × `columns` covered."""
    height, width = pixels.shape[:2]
    (row, column), covered = cell, pixels.copy()
    area = (
        slice(row * height // rows, (row + 1) * height // rows),
        slice(column * width // columns, (column + 1) * width // columns),
    )
    covered[area] = cover[area]
    return covered


def _random_mask(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a mask (H, W) in [0, 1]: random cells, made larger and moved at random."""
    rows, columns = grid_shape(shape, _RISE_CELLS)
    cell_height, cell_width = -(-shape[0] // rows), -(-shape[1] // columns)
    shown = generator.random((rows + 1, columns + 1)) < _RISE_SHOWN
    large = enlarged(shown.astype(np.float32), (columns + 1) * cell_width, (rows + 1) * cell_height)
    top, left = generator.integers(cell_height), generator.integers(cell_width)
    return large[top : top + shape[0], left : left + shape[1]]


def _scores(scorer: Scorer, photos: Iterator[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the scores of photos that are made one batch at a time."""
    scores = []
    while batch := list(islice(photos, _BATCH)):
        scores.append(scorer(batch))
    return np.concatenate(scores)
