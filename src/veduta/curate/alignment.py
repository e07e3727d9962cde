"""Decide whether one photo is a copy of another: copies agree in every detail when aligned.

The keypoints that two photos have in common give the affine map between them. Cutting, rotating and
stretching a photo are affine changes. A walk around a building is not. The map is refined on the
pixels (G. Evangelidis, E. Psarakis, Parametric image alignment using enhanced correlation
coefficient maximization, PAMI 2008). Then each window of one photo is compared with the same window
of the other. In a copy they correlate, even if brightness and colours were changed. In another
photo of the same object, shadows, people and depth have moved.

A copy with a bar, a logo or a text over it does not agree everywhere. But its uncovered part agrees
exactly, in the positions of the keypoints and in the windows. Most parts of one photo, including
the middle, have the same edges as the other. Two photos of nearly the same view agree exactly
nowhere. Two photos with the same frame or stamp agree only there.

Two exposures from one place, such as those of a webcam or of a tripod, can agree in nearly every
window. What tells them from copies is `veduta.curate.displacement`.

Positions and lengths are in pixels of reduced photos, whose long side has about 256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.curate.displacement import displacement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints import Keypoints

__all__ = ["CopyAgreement", "ReducedPhoto", "copy_agreement"]

_LONG_SIDE_PIXELS = 256.0

# Photos with fewer keypoints, such as pictures of the sky, are compared as a whole.
_MIN_KEYPOINTS = 40
# Such photos must show the same section, because no keypoints tell how they were cut.
_MIN_WHOLE_OVERLAP = 0.9

# Matches within this distance agree on an affine map. The second limit is in pixels of the whole
# photo and counts for very small photos, whose keypoints are not more accurate than their pixels.
_MAX_MATCH_DISTANCE_PIXELS = 1.5
_MAX_MATCH_DISTANCE_WHOLE_PIXELS = 1.4
# Three matches define a map, so that a few more can agree by chance.
_MIN_AGREEING_MATCHES = 10
# In copies most matches agree. Two photos of one object share fewer on any single affine map.
_MIN_AGREEING_SHARE = 0.42
# 90 samples of three matches find the map with a confidence of 99.9 % if 42 % of them agree.
_MAX_RANSAC_SAMPLES = 300
_RANSAC_CONFIDENCE = 0.999
# The map is fitted first to the matches of RANSAC, then to all matches near it.
_FITS = 3
# Copies are seldom scaled by more than this, or stretched to other proportions by more than this.
_MAX_SCALE = 5.0
_MAX_STRETCH = 2.2
# The parts of the two photos that lie in their overlap: the larger part, and the smaller one.
# Smaller overlaps agree by chance.
_MIN_LARGER_OVERLAP = 0.6
_MIN_SMALLER_OVERLAP = 0.25

# The windows. The blur removes grain and differences in sharpness.
_BLUR_PIXELS = 1.0
_WINDOW_PIXELS = 4.0
# Pixels at the border of the overlap are partly interpolated or belong to a frame.
_BORDER_KERNEL_PIXELS = 7
# Standard deviation of the luma, of 255. A window with less contrast shows nothing to compare.
_MIN_WINDOW_CONTRAST = 4.0
# If fewer windows than this share have contrast, they are too few to decide.
_MIN_CONTRAST_SHARE = 0.02
# The mean correlation of windows in a copy. It may be lower if the other evidence is clear: many
# matches agree, or nearly all windows are alike.
_MIN_CORRELATION = 0.95
_MIN_CORRELATION_IF_CLEAR = 0.9
_CLEAR_MATCH_SHARE = 0.6
_CLEAR_WINDOW_SHARE = 0.97

# Copies with something painted over them. A window correlates at least like this where it is not
# covered, and at least like that where it is an exact copy.
_MIN_UNCOVERED_CORRELATION = 0.8
_MIN_EXACT_CORRELATION = 0.97
# Paint adds keypoints, but at least half of the matches still agree.
_MIN_AGREEING_SHARE_IF_PAINTED = 0.5
# The map is fitted again to ever nearer matches, so that only exact ones remain. Distances are
# parts of the distance within which matches agree.
_EXACT_FIT_DISTANCES = (0.6, 0.4, 0.3, 0.3)
_EXACT_DISTANCE = 0.3
# The least product of three shares: exact matches, exact windows and cells with the same edges.
_MIN_EXACT_EVIDENCE = 0.15
# Grey levels in a pixel. Weaker edges are grain.
_MIN_EDGE_SLOPE = 2.0
# Cosine of 30 degrees, the largest angle between the directions of the same edge.
_MIN_EDGE_COSINE = 0.87
_CELLS_PER_SIDE = 6
# A cell with fewer edge pixels than this share shows too little to compare.
_MIN_EDGE_SHARE = 0.03
# Share of the edges of a cell that the other photo also has, if the cell is not covered.
_MIN_SAME_EDGE_SHARE = 0.6
_MIN_UNCOVERED_CELL_SHARE = 0.5

# Iterations and precision of the refinement on the pixels, and the size of its blur in pixels.
_REFINE_ITERATIONS = 30
_REFINE_PRECISION = 1e-4
_REFINE_BLUR_PIXELS = 3


@dataclass(frozen=True, slots=True, eq=False)
class ReducedPhoto:
    """What is compared of one photo.

    Attributes:
        luma: (h, w) uint8, reduced to a long side of about 256 pixels.
        keypoints: of the whole photo.
    """

    luma: NDArray[np.uint8]
    keypoints: Keypoints


@dataclass(frozen=True, slots=True)
class CopyAgreement:
    """How well two copies agree.

    Attributes:
        correlation: mean correlation of their windows in [-1, 1], weighted by contrast.
        matches: share of the matching keypoints that agree on the map, in [0, 1].
        overlap: the part of the larger section of the scene that the other photo shows, in [0, 1].
        displacement: how far the same details lie apart in the two photos, in pixels of the reduced
            photos. It is a fraction of a pixel in a copy.
    """

    correlation: float
    matches: float
    overlap: float
    displacement: float


def copy_agreement(first: ReducedPhoto, second: ReducedPhoto) -> CopyAgreement | None:
    """Compare two photos.

    Two sections of one photo are copies if they overlap in 60 % of one of them.

    Args:
        first: a photo.
        second: another photo. To find a mirrored copy, mirror one of the two before.

    Returns:
        How well they agree; None if they are not copies.
    """
    if min(len(first.keypoints), len(second.keypoints)) < _MIN_KEYPOINTS:
        return _whole_agreement(first, second)
    affine = _find_affine(first, second)
    if affine is None:
        return None
    # The coarser photo defines the pixel grid, so that it is not compared in details that it lacks.
    if abs(np.linalg.det(affine.matrix[:, :2])) < 1:
        grid, other, matrix = second.luma, first.luma, _inverse(affine.matrix)
    else:
        grid, other, matrix = first.luma, second.luma, affine.matrix
    other = _blurred_to_scale(other, matrix)
    aligned = _refine_and_align(grid, other, matrix)
    if aligned is None or not _is_plain_copy(affine, aligned):
        aligned = _align_painted_copy(affine, grid, other, matrix, aligned)
    if aligned is None:
        return None
    smaller, larger = sorted((aligned.grid_overlap, aligned.other_overlap))
    if larger < _MIN_LARGER_OVERLAP or smaller < _MIN_SMALLER_OVERLAP:
        return None
    return CopyAgreement(
        aligned.correlation, affine.agreeing_share, smaller, _displacement(grid, aligned)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    """An affine map between two photos, and the matches that support it.

    Attributes:
        matrix: (2, 3), from the first photo to the second.
        agreeing_share: share of the matches that agree on it.
        exact_share: share of the matches that agree exactly on a map close to it.
    """

    matrix: NDArray[np.float64]
    agreeing_share: float
    exact_share: float


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """A photo that was warped onto the pixel grid of another one.

    Attributes:
        matrix: (2, 3), from the grid to the other photo.
        warped: (h, w) uint8, the other photo on the grid, blurred.
        inside: (h, w) float32, 1 inside the overlap without its border, and 0 outside.
        uncovered: (h, w) bool, where windows have contrast and are alike.
        exact: (h, w) bool, where they are exact copies.
        correlation: mean of the windows, weighted by contrast.
        alike_share: share of the windows with contrast that are alike.
        exact_share: share of the alike windows that are exact copies.
        grid_overlap: part of the grid that the other photo covers.
        other_overlap: part of the other photo that covers the grid.
    """

    matrix: NDArray[np.float32]
    warped: NDArray[np.uint8]
    inside: NDArray[np.float32]
    uncovered: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    correlation: float
    alike_share: float
    exact_share: float
    grid_overlap: float
    other_overlap: float


def _whole_agreement(first: ReducedPhoto, second: ReducedPhoto) -> CopyAgreement | None:
    """Compare two photos with hardly any keypoints, as wholes stretched to the same shape."""
    scale = np.array(second.luma.shape) / first.luma.shape
    matrix = np.array([[scale[1], 0, (scale[1] - 1) / 2], [0, scale[0], (scale[0] - 1) / 2]])
    aligned = _refine_and_align(first.luma, _blurred_to_scale(second.luma, matrix), matrix)
    if aligned is None or aligned.correlation < _MIN_CORRELATION:
        return None
    overlap = min(aligned.grid_overlap, aligned.other_overlap)
    if overlap < _MIN_WHOLE_OVERLAP:
        return None
    return CopyAgreement(aligned.correlation, 0.0, overlap, _displacement(first.luma, aligned))


def _displacement(grid: NDArray[np.uint8], aligned: _Aligned) -> float:
    """Return the displacement of exact windows, which paint and other colours do not disturb.

    Of a blurred copy, too few windows are exact. Then those count that are alike. It is 0 if these
    are too few as well.
    """
    for windows in (aligned.exact, aligned.uncovered):
        found = displacement(_blurred(grid), aligned.warped, aligned.inside, windows)
        if found is not None:
            return found
    return 0.0


def _find_affine(first: ReducedPhoto, second: ReducedPhoto) -> _Affine | None:
    """Return the map on which most matches agree; None if no copy has such a map.

    Distances are measured in the photo that shows the scene smaller, so that the order of the two
    photos does not matter.
    """
    from veduta.keypoints.xfeat import XFeat

    matches = XFeat.matching.pairs(first.keypoints, second.keypoints)
    if len(matches) < _MIN_AGREEING_MATCHES:
        return None
    a, b = _positions(first)[matches[:, 0]], _positions(second)[matches[:, 1]]
    long_side = min(max(one.keypoints.width, one.keypoints.height) for one in (first, second))
    max_distance = max(
        _MAX_MATCH_DISTANCE_PIXELS,
        _MAX_MATCH_DISTANCE_WHOLE_PIXELS * _LONG_SIDE_PIXELS / long_side,
    )
    matrix = _ransac_affine(a, b, max_distance)
    if matrix is not None and np.linalg.det(matrix[:, :2]) > 1:
        backward = _ransac_affine(b, a, max_distance)
        matrix = backward if backward is None else _inverse(backward)
    if matrix is None:
        return None
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if large > _MAX_SCALE or small < 1 / _MAX_SCALE or large / small > _MAX_STRETCH:
        return None
    max_distance *= max(1.0, float(np.sqrt(large * small)))
    for _ in range(_FITS):
        agree = _distances(a, b, matrix) <= max_distance
        if agree.sum() < _MIN_AGREEING_MATCHES:
            return None
        matrix = _fitted_affine(a[agree], b[agree])
    share = float(agree.mean())
    if share < _MIN_AGREEING_SHARE:
        return None
    exact_share = _exact_match_share(a, b, matrix, max_distance)
    return _Affine(_in_luma_pixels(matrix, first, second), share, exact_share)


def _exact_match_share(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    matrix: NDArray[np.float64],
    max_distance: float,
) -> float:
    """Return the share of matches that agree exactly on a map close to `matrix`."""
    for part in _EXACT_FIT_DISTANCES:
        agree = _distances(a, b, matrix) <= part * max_distance
        if agree.sum() < _MIN_AGREEING_MATCHES:
            return 0.0
        matrix = _fitted_affine(a[agree], b[agree])
    return float((_distances(a, b, matrix) <= _EXACT_DISTANCE * max_distance).mean())


def _distances(
    a: NDArray[np.float32], b: NDArray[np.float32], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance (n,) of each mapped position of `a` from that of `b`."""
    mapped = a @ matrix[:, :2].T + matrix[:, 2]
    distances: NDArray[np.float64] = np.linalg.norm(mapped - b, axis=1)
    return distances


def _fitted_affine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    fitted: NDArray[np.float64] = np.linalg.lstsq(
        np.column_stack([a, np.ones(len(a))]), b, rcond=None
    )[0].T
    return fitted


def _positions(photo: ReducedPhoto) -> NDArray[np.float32]:
    """Return the positions (n, 2) of the keypoints in a photo with a long side of 256 pixels."""
    scale = _LONG_SIDE_PIXELS / max(photo.keypoints.width, photo.keypoints.height)
    positions: NDArray[np.float32] = ((photo.keypoints.xy + 0.5) * scale).astype(np.float32)
    return positions


def _ransac_affine(
    a: NDArray[np.float32], b: NDArray[np.float32], max_distance: float
) -> NDArray[np.float64] | None:
    import cv2

    matrix, agree = cv2.estimateAffine2D(
        a,
        b,
        method=cv2.RANSAC,
        ransacReprojThreshold=max_distance,
        maxIters=_MAX_RANSAC_SAMPLES,
        confidence=_RANSAC_CONFIDENCE,
    )
    if matrix is None or agree.sum() < _MIN_AGREEING_MATCHES:
        return None
    return None if np.linalg.det(matrix[:, :2]) <= 0 else np.asarray(matrix, np.float64)


def _in_luma_pixels(
    matrix: NDArray[np.float64], first: ReducedPhoto, second: ReducedPhoto
) -> NDArray[np.float64]:
    """Return the map between the pixels of `luma`; (0, 0) is the middle of the first pixel."""
    first_scale, second_scale = (
        _LONG_SIDE_PIXELS / max(photo.luma.shape) for photo in (first, second)
    )
    linear = matrix[:, :2] * (first_scale / second_scale)
    shift = (linear.sum(axis=1) - 1) / 2 + matrix[:, 2] / second_scale
    return np.column_stack([linear, shift])


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    import cv2

    inverse: NDArray[np.float64] = cv2.invertAffineTransform(matrix)
    return inverse


def _blurred_to_scale(other: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Remove the details of `other` that are too small for the grid that it is warped to."""
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    return np.asarray(cv2.GaussianBlur(other, (0, 0), max(0.5, 0.6 * scale)), np.uint8)


def _refine_and_align(
    grid: NDArray[np.uint8],
    other: NDArray[np.uint8],
    matrix: NDArray[np.floating[Any]],
    region: NDArray[np.bool_] | None = None,
) -> _Aligned | None:
    """Refine a map on the pixels, and warp `other` onto `grid` with it.

    Args:
        grid: (h, w) luma of one photo.
        other: luma of the other photo.
        matrix: (2, 3) map from `grid` to `other`.
        region: (h, w) the pixels of `grid` to refine on; None means all.

    Returns:
        None if the refinement does not converge, because nothing is alike, or without contrast.
    """
    import cv2

    start = matrix.astype(np.float32, order="C")
    mask = None
    if region is not None:
        size = other.shape[::-1]
        mask = cv2.warpAffine(region.astype(np.uint8), start, size, flags=cv2.INTER_NEAREST)
    criteria = (
        cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS,
        _REFINE_ITERATIONS,
        _REFINE_PRECISION,
    )
    try:
        _, refined = cv2.findTransformECC(
            grid, other, start, cv2.MOTION_AFFINE, criteria, mask, _REFINE_BLUR_PIXELS
        )
    except cv2.error:
        return None
    return _align(grid, other, np.asarray(refined, np.float32))


def _align(
    grid: NDArray[np.uint8], other: NDArray[np.uint8], matrix: NDArray[np.float32]
) -> _Aligned | None:
    """Warp `other` onto `grid` by the map from grid to other; None without contrast."""
    import cv2

    rows, columns = grid.shape
    inverse = cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(other, matrix, (columns, rows), flags=cv2.INTER_LINEAR | inverse)
    covered = cv2.warpAffine(
        np.ones(other.shape, np.uint8), matrix, (columns, rows), flags=cv2.INTER_NEAREST | inverse
    )
    area = float(covered.sum())
    other_overlap = area * abs(float(np.linalg.det(matrix[:, :2]))) / other.size
    kernel = np.ones((_BORDER_KERNEL_PIXELS, _BORDER_KERNEL_PIXELS), np.uint8)
    inside = cv2.erode(covered, kernel, borderValue=0).astype(np.float32)
    if inside.sum() < _WINDOW_PIXELS**2:
        return None
    warped = _blurred(warped)
    correlation, contrast = _window_correlation(_blurred(grid), warped, inside)
    compared = (inside > 0) & (contrast > _MIN_WINDOW_CONTRAST)
    if compared.sum() < _MIN_CONTRAST_SHARE * inside.sum():
        return None
    uncovered = compared & (correlation > _MIN_UNCOVERED_CORRELATION)
    exact = compared & (correlation > _MIN_EXACT_CORRELATION)
    correlation, contrast = correlation[compared], contrast[compared]
    alike = int(uncovered.sum())
    return _Aligned(
        matrix=matrix,
        warped=warped,
        inside=inside,
        uncovered=uncovered,
        exact=exact,
        correlation=float((correlation * contrast).sum() / contrast.sum()),
        alike_share=alike / len(correlation),
        exact_share=int(exact.sum()) / max(1, alike),
        grid_overlap=area / grid.size,
        other_overlap=other_overlap,
    )


def _is_plain_copy(affine: _Affine, aligned: _Aligned) -> bool:
    """Return whether the windows are alike as in a copy that nothing covers."""
    clear = (
        affine.agreeing_share >= _CLEAR_MATCH_SHARE or aligned.alike_share >= _CLEAR_WINDOW_SHARE
    )
    return aligned.correlation >= (_MIN_CORRELATION_IF_CLEAR if clear else _MIN_CORRELATION)


def _align_painted_copy(
    affine: _Affine,
    grid: NDArray[np.uint8],
    other: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    refined: _Aligned | None,
) -> _Aligned | None:
    """Align a copy that is partly covered by its uncovered part; None if that is too small.

    A bar or a logo attracts the refined map. So the map is refined once more on the windows that
    are alike. Three shares decide together: of the exact matches, of the exact windows, and of the
    cells with the same edges.
    """
    if affine.agreeing_share < _MIN_AGREEING_SHARE_IF_PAINTED:
        return None
    if affine.exact_share < _MIN_EXACT_EVIDENCE:
        return None
    candidates = [_align(grid, other, matrix.astype(np.float32)), refined]
    best = max((one for one in candidates if one), key=_exact_window_share, default=None)
    if best is None:
        return None
    again = _refine_and_align(grid, other, best.matrix, best.uncovered)
    if again is not None and _exact_window_share(again) > _exact_window_share(best):
        best = again
    cell_share = _same_edge_cell_share(_blurred(grid), best)
    evidence = affine.exact_share * best.exact_share * cell_share
    enough = cell_share >= _MIN_UNCOVERED_CELL_SHARE and evidence >= _MIN_EXACT_EVIDENCE
    return best if enough else None


def _exact_window_share(aligned: _Aligned) -> float:
    """Return the share of windows that are exact copies. It is larger for a better map."""
    return aligned.alike_share * aligned.exact_share


def _same_edge_cell_share(grid: NDArray[np.uint8], aligned: _Aligned) -> float:
    """Return the share of cells in which both photos have the same edges.

    The share is that of all cells or that of the cells in the middle, whichever is smaller. Paint
    adds edges to a photo or hides some. So it is enough if the edges of one photo are found in the
    other.
    """
    import cv2

    across, down = (
        [cv2.Scharr(luma, cv2.CV_32F, *axis, scale=1 / 32) for luma in (grid, aligned.warped)]
        for axis in ((1, 0), (0, 1))
    )
    slopes = [np.hypot(*both) for both in zip(across, down, strict=True)]
    product = across[0] * across[1] + down[0] * down[1]
    same_direction = product > _MIN_EDGE_COSINE * slopes[0] * slopes[1]
    left, top, width, height = cv2.boundingRect(aligned.inside.astype(np.uint8))
    overlap = np.s_[top : top + height, left : left + width]

    def cell_shares(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
        shares: NDArray[np.float32] = cv2.resize(
            pixels[overlap].astype(np.float32),
            (_CELLS_PER_SIDE, _CELLS_PER_SIDE),
            interpolation=cv2.INTER_AREA,
        )
        return shares

    all_cells, middle_cells = np.s_[:, :], np.s_[1:-1, 1:-1]
    shares = []
    for slope in slopes:
        edges = (slope > _MIN_EDGE_SLOPE) & (aligned.inside > 0)
        edge_shares = cell_shares(edges)
        compared = edge_shares >= _MIN_EDGE_SHARE
        same = cell_shares(edges & same_direction) >= _MIN_SAME_EDGE_SHARE * edge_shares
        shares.append(
            min(
                float(same[cells][compared[cells]].mean()) if compared[cells].any() else 0.0
                for cells in (all_cells, middle_cells)
            )
        )
    return max(shares)


def _blurred(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Remove grain and differences in sharpness."""
    import cv2

    return np.asarray(cv2.GaussianBlur(luma, (0, 0), _BLUR_PIXELS), np.uint8)


def _window_correlation(
    first: NDArray[np.uint8], second: NDArray[np.uint8], inside: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the correlation (h, w) of the windows around each pixel, and their contrast (h, w).

    Windows are Gaussian. Pixels that are not `inside` have no weight. The contrast is that of the
    window with more of it.
    """
    import cv2

    def window_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = cv2.GaussianBlur(values * inside, (0, 0), _WINDOW_PIXELS)
        blurred /= weight
        return blurred

    weight: NDArray[np.float32] = cv2.GaussianBlur(inside, (0, 0), _WINDOW_PIXELS)
    weight += np.float32(1e-6)
    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = window_mean(a), window_mean(b)
    variance_a = np.maximum(window_mean(a * a) - mean_a**2, 0)
    variance_b = np.maximum(window_mean(b * b) - mean_b**2, 0)
    covariance = window_mean(a * b) - mean_a * mean_b
    contrast: NDArray[np.float32] = np.sqrt(np.maximum(variance_a, variance_b))
    correlation: NDArray[np.float32] = covariance / np.sqrt(
        variance_a * variance_b + np.float32(1e-6)
    )
    return correlation, contrast
