"""Is one picture a copy of another? Laid over each other, copies agree in every detail.

The keypoints that two pictures have in common tell the affine map between them: cutting, turning
and squeezing a photo are affine, walking around a building is not. The map is refined on the pixels
(G. Evangelidis, E. Psarakis, Parametric image alignment using enhanced correlation coefficient
maximization, PAMI 2008). Then a window of the one is compared with the same window of the other
everywhere: in a copy they correlate, whatever was done to brightness and colours; in another photo
of the same thing shadows, people and depth have moved.

A copy with a bar, a logo or writing over it does not agree everywhere. But what is left of it does
so exactly, in the positions of its keypoints and in its windows, and the edges of the one picture
are found again in most parts of the other, in the middle too. Nearly the same view agrees nowhere
exactly; two photos with the same frame or the same stamp agree in those, and nowhere else.

Positions and sizes in here are pixels of reduced pictures, about 256 at their longer side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints import Keypoints

__all__ = ["Agreement", "Sight", "agreement"]

_SIDE = 256.0
_NEAR = 1.5  # pixels within which matches agree on a map
_NEAR_PIXELS = 1.4  # the same in pixels of the whole photo, for very small ones
_FEWEST = 10  # matches that agree
_LEAST_SHARE = 0.42  # of the matches
_TRIES = 300  # of three matches each; where so many agree, 90 find the map at 99.9 %
_ALIKE = 0.95  # mean correlation of the windows of a copy
_NEARLY_ALIKE = 0.9  # of one of whose matches agree
_CLEAR_SHARE = 0.6  # or of whose windows are alike
_ALL_WINDOWS = 0.97
_FEW_KEYPOINTS = 40  # a photo with fewer is compared as a whole
_FULL = 0.9  # overlap of such photos
_SOFT = 1.0  # standard deviation
_WINDOW = 4.0  # standard deviation of a window
_LIKE_WINDOW = 0.8  # correlation of a window that is not painted over
_EXACT_WINDOW = 0.97
_LEAST_PAINTED = 0.5  # share of the matches that agree, in a copy that is painted over
_EXACTLY = 0.3  # of the distance within which matches agree
_CLOSING_IN = (0.6, 0.4, 0.3, 0.3)  # on the map of those that agree exactly
_EVIDENCE = 0.15  # least product of its three shares, see `_unpainted`
_EDGE = 2.0  # levels a pixel, of 255: weaker ones are grain
_SAME_WAY = 0.87  # cosine of the angle between edges that are one, 30 degrees
_CELLS = 6  # of a side
_SAYING = 0.03  # least share of a cell's pixels on edges
_FOUND_AGAIN = 0.6  # share of a cell's edges, where it is not painted over
_UNPAINTED = 0.5  # least share of such cells
_FLAT = 4.0  # standard deviation of the luma, of 255, in a window that shows nothing
_LEAST_TEXTURE = 0.02  # share of windows that show something
_LEAST_OVERLAP = 0.6  # of the picture that has more of it
_LEAST_OF_OTHER = 0.25  # of the picture that has less of it
_GROWTH = 5.0  # a copy is not scaled further, either way
_SQUEEZE = 2.2  # nor the one side more than the other


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One picture: `luma` (h, w) uint8, reduced; `keypoints` of the whole photo."""

    luma: NDArray[np.uint8]
    keypoints: Keypoints


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two pictures that are copies agree.

    `correlation`
        mean correlation of their windows in [-1, 1], those with more contrast counting more.
    `matches`
        the share of matching keypoints that agree on the map, in [0, 1].
    `overlap`
        how much of the picture with more around it the other one shows, a share in [0, 1].
    """

    correlation: float
    matches: float
    overlap: float


def agreement(first: Sight, second: Sight) -> Agreement | None:
    """Compare two pictures; None when they are not copies. A mirrored one has to be turned first.

    Two overlapping cuts of one photo are copies when the overlap is 60 % of one of them.
    """
    if min(len(first.keypoints), len(second.keypoints)) < _FEW_KEYPOINTS:
        return _whole(first, second)
    found = _map(first, second)
    if found is None:
        return None
    # The coarser of the two sets the grid, so that no detail is asked of it that it cannot have.
    if abs(np.linalg.det(found.there[:, :2])) < 1:
        grid, other, there = second.luma, first.luma, _inverse(found.there)
    else:
        grid, other, there = first.luma, second.luma, found.there
    other = _as_coarse(other, there)
    laid = _lay_refined(grid, other, there)
    if laid is None or not _alike(found, laid):
        laid = _unpainted(found, grid, other, there, laid)
    if laid is None:
        return None
    less, more = sorted((laid.of_grid, laid.of_other))
    if more < _LEAST_OVERLAP or less < _LEAST_OF_OTHER:
        return None
    return Agreement(laid.correlation, found.share, less)


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    """`there` (2, 3): first → second; shares of the matches that say so, roughly and exactly."""

    there: NDArray[np.float64]
    share: float
    exact: float


@dataclass(frozen=True, slots=True, eq=False)
class _Laid:
    """`picture` (h, w): the other one as it lies on the grid by the map `there`; `inside` of it.

    `windows`: where they are alike. `alike`: their share of those that show something. `exact`: the
    share of them that are more than alike. `of_grid`, `of_other`: the pictures' overlap.
    """

    there: NDArray[np.float32]
    picture: NDArray[np.uint8]
    inside: NDArray[np.float32]
    windows: NDArray[np.bool_]
    correlation: float
    alike: float
    exact: float
    of_grid: float
    of_other: float


def _whole(first: Sight, second: Sight) -> Agreement | None:
    """Compare two pictures with hardly any keypoints: whole ones only, stretched to one shape."""
    scale = np.array(second.luma.shape) / first.luma.shape
    stretch = np.array([[scale[1], 0, (scale[1] - 1) / 2], [0, scale[0], (scale[0] - 1) / 2]])
    other = _as_coarse(second.luma, stretch)
    laid = _lay_refined(first.luma, other, stretch)
    if laid is None or laid.correlation < _ALIKE or min(laid.of_grid, laid.of_other) < _FULL:
        return None
    return Agreement(laid.correlation, 0.0, min(laid.of_grid, laid.of_other))


def _map(first: Sight, second: Sight) -> _Map | None:
    """Return the map on which most matches agree; None if no copy is made like that.

    Nearness is measured in the picture that shows things smaller, whichever comes first.
    """
    from veduta.keypoints import mutual

    matches = mutual(first.keypoints, second.keypoints)
    if len(matches) < _FEWEST:
        return None
    a, b = _placed(first)[matches[:, 0]], _placed(second)[matches[:, 1]]
    longer = min(max(one.keypoints.width, one.keypoints.height) for one in (first, second))
    near = max(_NEAR, _NEAR_PIXELS * _SIDE / longer)
    there = _affine(a, b, near)
    if there is not None and np.linalg.det(there[:, :2]) > 1:
        back = _affine(b, a, near)
        there = back if back is None else _inverse(back)
    if there is None:
        return None
    large, small = np.linalg.svd(there[:, :2], compute_uv=False)
    if large > _GROWTH or small < 1 / _GROWTH or large / small > _SQUEEZE:
        return None
    near *= max(1.0, float(np.sqrt(large * small)))
    for _ in range(3):  # the map of a few matches, then of all that it finds near
        agree = _apart(a, b, there) <= near
        if agree.sum() < _FEWEST:
            return None
        there = _fitted(a[agree], b[agree])
    share = float(agree.mean())
    if share < _LEAST_SHARE:
        return None
    return _Map(_in_pixels(there, first, second), share, _exact(a, b, there, near))


def _exact(
    a: NDArray[np.float32], b: NDArray[np.float32], there: NDArray[np.float64], near: float
) -> float:
    """Return the share of matches that agree exactly on a map close to `there`."""
    for part in _CLOSING_IN:
        agree = _apart(a, b, there) <= part * near
        if agree.sum() < _FEWEST:
            return 0.0
        there = _fitted(a[agree], b[agree])
    return float((_apart(a, b, there) <= _EXACTLY * near).mean())


def _apart(
    a: NDArray[np.float32], b: NDArray[np.float32], there: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far (n,) the map takes places `a` from places `b`."""
    apart: NDArray[np.float64] = np.linalg.norm(a @ there[:, :2].T + there[:, 2] - b, axis=1)
    return apart


def _fitted(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    fitted: NDArray[np.float64] = np.linalg.lstsq(
        np.column_stack([a, np.ones(len(a))]), b, rcond=None
    )[0].T
    return fitted


def _placed(sight: Sight) -> NDArray[np.float32]:
    """Return the keypoints' positions (n, 2) where the longer side measures `_SIDE`."""
    scale = _SIDE / max(sight.keypoints.width, sight.keypoints.height)
    placed: NDArray[np.float32] = ((sight.keypoints.xy + 0.5) * scale).astype(np.float32)
    return placed


def _affine(
    a: NDArray[np.float32], b: NDArray[np.float32], near: float
) -> NDArray[np.float64] | None:
    import cv2

    there, agree = cv2.estimateAffine2D(
        a, b, method=cv2.RANSAC, ransacReprojThreshold=near, maxIters=_TRIES, confidence=0.999
    )
    if there is None or agree.sum() < _FEWEST or np.linalg.det(there[:, :2]) <= 0:
        return None
    return np.asarray(there, np.float64)


def _in_pixels(there: NDArray[np.float64], first: Sight, second: Sight) -> NDArray[np.float64]:
    """Return the map between the pixels of the reduced pictures, (0, 0) the first one's middle."""
    to_placed, to_pixels = (_SIDE / max(one.luma.shape) for one in (first, second))
    matrix = there[:, :2] * (to_placed / to_pixels)
    shift = (matrix.sum(axis=1) - 1) / 2 + there[:, 2] / to_pixels
    return np.column_stack([matrix, shift])


def _inverse(there: NDArray[np.float64]) -> NDArray[np.float64]:
    import cv2

    back: NDArray[np.float64] = cv2.invertAffineTransform(there)
    return back


def _as_coarse(other: NDArray[np.uint8], there: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Take out of `other` what does not show at the scale it is to be laid at."""
    import cv2

    growth = float(np.sqrt(abs(np.linalg.det(there[:, :2]))))
    return np.asarray(cv2.GaussianBlur(other, (0, 0), max(0.5, 0.6 * growth)), np.uint8)


def _lay_refined(
    grid: NDArray[np.uint8],
    other: NDArray[np.uint8],
    there: NDArray[np.floating[Any]],
    where: NDArray[np.bool_] | None = None,
) -> _Laid | None:
    """Lay `other` over `grid` by the map refined on the pixels, of `where` (of the grid) only.

    None if it does not converge, since nothing is alike, or if there is nothing to see.
    """
    import cv2

    start = there.astype(np.float32, order="C")
    mask = None
    if where is not None:
        size = other.shape[::-1]
        mask = cv2.warpAffine(where.astype(np.uint8), start, size, flags=cv2.INTER_NEAREST)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        _, exact = cv2.findTransformECC(grid, other, start, cv2.MOTION_AFFINE, stop, mask, 3)
    except cv2.error:
        return None
    return _lay(grid, other, np.asarray(exact, np.float32))


def _lay(
    grid: NDArray[np.uint8], other: NDArray[np.uint8], there: NDArray[np.float32]
) -> _Laid | None:
    """Lay `other` over `grid` by the map from grid to other; None if there is nothing to see."""
    import cv2

    rows, columns = grid.shape
    how = cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(other, there, (columns, rows), flags=cv2.INTER_LINEAR | how)
    seen = cv2.warpAffine(
        np.ones(other.shape, np.uint8), there, (columns, rows), flags=cv2.INTER_NEAREST | how
    )
    area = float(seen.sum())
    of_other = area * abs(float(np.linalg.det(there[:, :2]))) / other.size
    # At the border of the overlap pixels are half interpolated, or half frame.
    inside = cv2.erode(seen, np.ones((7, 7), np.uint8), borderValue=0).astype(np.float32)
    if inside.sum() < _WINDOW**2:
        return None
    picture = _soft(laid)
    correlation, contrast = _windows(_soft(grid), picture, inside)
    where = (inside > 0) & (contrast > _FLAT)
    if where.sum() < _LEAST_TEXTURE * inside.sum():
        return None
    windows = where & (correlation > _LIKE_WINDOW)
    correlation, contrast = correlation[where], contrast[where]
    mean = float((correlation * contrast).sum() / contrast.sum())
    alike = int(windows.sum())
    exact = int((correlation > _EXACT_WINDOW).sum()) / max(1, alike)
    return _Laid(
        there,
        picture,
        inside,
        windows,
        mean,
        alike / len(correlation),
        exact,
        area / grid.size,
        of_other,
    )


def _alike(found: _Map, laid: _Laid) -> bool:
    """Whether the windows are alike, as in a copy that is not painted over."""
    clear = found.share >= _CLEAR_SHARE or laid.alike >= _ALL_WINDOWS
    return laid.correlation >= (_NEARLY_ALIKE if clear else _ALIKE)


def _unpainted(
    found: _Map,
    grid: NDArray[np.uint8],
    other: NDArray[np.uint8],
    there: NDArray[np.float64],
    refined: _Laid | None,
) -> _Laid | None:
    """Lay a copy that is painted over by what is left of it; None if that is too little.

    A bar or a logo has drawn the `refined` map to itself, so the map is refined once more without
    what does not agree. Three shares then speak together: of the matches that are exact, of the
    windows that are, and of the cells whose edges are found again.
    """
    if found.share < _LEAST_PAINTED or found.exact < _EVIDENCE:
        return None
    tries = [_lay(grid, other, there.astype(np.float32)), refined]
    best = max((laid for laid in tries if laid), key=_precision, default=None)
    if best is None:
        return None
    anew = _lay_refined(grid, other, best.there, best.windows)
    if anew is not None and _precision(anew) > _precision(best):
        best = anew
    again = _found_again(_soft(grid), best)
    enough = again >= _UNPAINTED and found.exact * best.exact * again >= _EVIDENCE
    return best if enough else None


def _precision(laid: _Laid) -> float:
    """Return the share of windows that are exactly alike, which the better map makes larger."""
    return laid.alike * laid.exact


def _found_again(grid: NDArray[np.uint8], laid: _Laid) -> float:
    """Return the share of cells in which one picture has the edges of the other, of two the less.

    The two: of all cells and of those in the middle. Paint only adds edges to a picture, or hides
    some, so it is enough that one of the pictures is found in the other.
    """
    import cv2

    across, down = (
        [cv2.Scharr(picture, cv2.CV_32F, *axis, scale=1 / 32) for picture in (grid, laid.picture)]
        for axis in ((1, 0), (0, 1))
    )
    strength = [np.hypot(*both) for both in zip(across, down, strict=True)]
    together = across[0] * across[1] + down[0] * down[1]
    same = together > _SAME_WAY * strength[0] * strength[1]
    box = cv2.boundingRect(laid.inside.astype(np.uint8))
    overlap = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]

    def of_cells(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
        shares: NDArray[np.float32] = cv2.resize(
            pixels[overlap].astype(np.float32), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA
        )
        return shares

    found = []
    for one in strength:
        edges = (one > _EDGE) & (laid.inside > 0)
        of_all = of_cells(edges)
        saying = of_all >= _SAYING
        again = of_cells(edges & same) >= _FOUND_AGAIN * of_all
        found.append(
            min(
                float(again[part][saying[part]].mean()) if saying[part].any() else 0.0
                for part in (np.s_[:, :], np.s_[1:-1, 1:-1])
            )
        )
    return max(found)


def _soft(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take out the grain, and what a loss of sharpness takes out of a copy."""
    import cv2

    return np.asarray(cv2.GaussianBlur(luma, (0, 0), _SOFT), np.uint8)


def _windows(
    first: NDArray[np.uint8], second: NDArray[np.uint8], inside: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return at each pixel (h, w) the correlation of the windows around it, and their contrast.

    Windows are Gaussian; what is not `inside` has no weight. The contrast is the greater one.
    """
    import cv2

    def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = cv2.GaussianBlur(values * inside, (0, 0), _WINDOW)
        blurred /= weight
        return blurred

    weight: NDArray[np.float32] = cv2.GaussianBlur(inside, (0, 0), _WINDOW) + np.float32(1e-6)
    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = around(a), around(b)
    of_a = np.maximum(around(a * a) - mean_a**2, 0)
    of_b = np.maximum(around(b * b) - mean_b**2, 0)
    together = around(a * b) - mean_a * mean_b
    contrast: NDArray[np.float32] = np.sqrt(np.maximum(of_a, of_b))
    correlation: NDArray[np.float32] = together / np.sqrt(of_a * of_b + np.float32(1e-6))
    return correlation, contrast
