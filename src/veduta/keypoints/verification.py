"""Do two photos show the same rigid thing? Matches that agree on one geometric model say so.

A homography is tried first: it explains a plane, or anything seen from afar. Where clearly more
matches agree on a fundamental matrix (the thing has depth and the camera moved) that is taken.
Both are estimated by PoseLib's LO-RANSAC (V. Larsson and contributors, PoseLib: minimal solvers
for camera pose estimation, 2020; K. Lebeda, J. Matas, O. Chum, Fixing the locally optimized
RANSAC, BMVC 2012) with a fixed seed.

All lengths in here are shares of a photo's longer side, so a photo and its reduction behave alike.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.keypoints.local_consistency import agreeing
from veduta.keypoints.matching import LEAST, mutual
from veduta.keypoints.shared_overlays import covered, only_a_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

__all__ = ["Verification", "verify", "verify_many"]

ENOUGH = 20
"""Inliers of a homography from which on two photos count as the same: XFeat keypoints of different
buildings of one style reach 17 (`benchmarks.verification`)."""
CLEARLY_MORE = 10
"""How many more matches a fundamental matrix has to explain, since it leaves a point a whole line
on which to agree by chance."""

_SIDE = 640.0  # the longer side to which positions are scaled, for PoseLib's numerics
_NEAR = _SIDE / 80  # an inlier of a homography is as near as this in both photos
_NEAR_LINE = _SIDE / 256  # an inlier of a fundamental matrix is as near as this to its line
_ALIKE = 0.6  # the least correlation of positions that agree on a fundamental matrix
_SHRINK = 10.0  # a homography does not change lengths more than this at any inlier
_GRID = 8  # spread is counted in _GRID × _GRID cells
_SOME = 8  # fewer inliers are what any two photos have
_SPOT = 0.01  # inliers within less of both photos are one detail
_STAMP = 0.10  # inliers within less of both photos, at the same place of both, may be a stamp
_SAME_PLACE = 0.05  # of width and height


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What the geometry says of two photos."""

    model: str | None
    """ "homography" or "fundamental"; None: not verified."""
    matrix: NDArray[np.float64] | None
    """(3, 3). Homography: query pixels → gallery pixels. Fundamental: x_galleryᵀ F x_query = 0."""
    inliers: NDArray[np.intp]
    """(k, 2) index pairs into the two Keypoints: the matches that agree. When nothing is verified,
    those that agree on the best homography: too few to mean much, yet more than none."""
    matches: int
    """How many matches there were to agree."""
    agreeing: int
    """How many of the matches move as the matches around them do, see `keypoints.agreement`: of any
    thing that keeps its shape locally, whether one model explains all of it or not. The matches of
    a mark that both photos bear, see `keypoints.marks`, do not count."""
    spread: float
    """In [0, 1]: of the cells of an 8 × 8 grid that hold keypoints, the share that holds inliers;
    the smaller of the two photos."""

    @property
    def support(self) -> int:
        """The inliers as evidence, the same measure for both models.

        A homography's count as they are, a fundamental matrix's less what it takes by chance.
        """
        return len(self.inliers) - (CLEARLY_MORE if self.model == "fundamental" else 0)


def verify(query: Keypoints, other: Keypoints, matches: NDArray[np.intp]) -> Verification:
    """Look for the model on which most of `matches` agree.

    Args:
        query: the keypoints of one photo.
        other: those of the other.
        matches: (m, 2) index pairs, as from `mutual`.

    Inliers on one line, or within one detail, support no model. Nor do those of a mark that was put
    on both photos (`keypoints.marks`), or that lie within a small part of both and at the same
    place of both, as a watermark or a frame's caption would; the other matches are then asked
    again.
    """
    a = _scaled(query)[matches[:, 0]]
    b = _scaled(other)[matches[:, 1]]
    left = kept = np.arange(len(matches))
    genuine = np.ones(len(matches), bool)
    matrix = None
    for _ in range(2):
        matrix, agree = _homography(a[left], b[left])
        kept = _distinct(a, b, left[agree])
        if len(kept) < _SOME:
            break
        if only_a_mark(query, other, matches[left], matches[kept]):
            genuine[left[agree]] = False
        elif _trustworthy(query, other, a[kept], b[kept]):
            break
        left = left[~agree]
        kept = kept[:0]

    model: str | None = None
    if matrix is not None and len(kept) >= ENOUGH:
        model, matrix = "homography", _in_pixels(matrix, query, other)
    else:
        matrix = None
    if len(left) >= max(ENOUGH, len(kept)) + CLEARLY_MORE:
        fundamental, agree = _fundamental(a[left], b[left])
        through = _distinct(a, b, left[agree])
        if (
            len(through) >= max(ENOUGH, len(kept)) + CLEARLY_MORE
            and _trustworthy(query, other, a[through], b[through])
            and _alike(a[through], b[through])
            and not only_a_mark(query, other, matches[left], matches[through])
        ):
            model, kept = "fundamental", through
            matrix = _lines_in_pixels(fundamental, query, other)

    spread = min(_spread(query, matches[kept, 0]), _spread(other, matches[kept, 1]))
    moving = agreeing(a[genuine], b[genuine])
    return Verification(model, matrix, matches[kept], len(matches), moving, spread)


def verify_many(
    query: Keypoints,
    others: Sequence[Keypoints],
    *,
    least: float = LEAST,
    threads: int | None = None,
) -> list[Verification]:
    """Match and verify one query against many photos.

    Args:
        query: the keypoints of the query.
        others: those of the photos, with descriptors of the same kind.
        least: as in `mutual`.
        threads: how many photos at once; None: one a core.

    Returns:
        One for each of `others`, in their order; the same whatever `threads` is.
    """

    def one(other: Keypoints) -> Verification:
        return verify(query, other, mutual(query, other, least=least))

    threads = min(threads or os.cpu_count() or 1, len(others))
    if threads <= 1:
        return [one(other) for other in others]
    with ThreadPoolExecutor(threads, thread_name_prefix="veduta-verify") as pool:
        return list(pool.map(one, others))


def _scaled(keypoints: Keypoints) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = keypoints.xy.astype(np.float64)
    scaled *= _SIDE / max(keypoints.width, keypoints.height)
    return scaled


def _homography(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Return the homography a → b and which pairs agree: (m,) bool."""
    nobody = np.zeros(len(a), bool)
    if len(a) < _SOME:
        return None, nobody
    import poselib

    options = {"max_reproj_error": _NEAR, **_budget(1000)}
    matrix, _ = poselib.estimate_homography(a, b, options, {})
    matrix = np.asarray(matrix, np.float64)
    # PoseLib returns NaN when it found none.
    determinant = float(np.linalg.det(matrix)) if np.isfinite(matrix).all() else 0.0
    if determinant == 0:
        return None, nobody
    with np.errstate(all="ignore"):
        there, depth = _through(matrix, a)
        back, _ = _through(np.linalg.inv(matrix), b)
        # The determinant of the derivative at each point. Where it is negative the point is seen
        # mirrored or lies beyond the horizon.
        area = determinant / depth**3
        agree = (np.hypot(*(there - b).T) <= _NEAR) & (np.hypot(*(back - a).T) <= _NEAR)
        agree &= (area > _SHRINK**-2) & (area < _SHRINK**2)
    return matrix, agree


def _fundamental(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import poselib

    options = {"max_epipolar_error": _NEAR_LINE, **_budget(300)}
    matrix, found = poselib.estimate_fundamental(a, b, options, {})
    matrix = np.asarray(matrix, np.float64)
    return matrix, np.asarray(found["inliers"], bool) & np.isfinite(matrix).all()


def _budget(iterations: int) -> dict[str, Any]:
    return {
        "max_iterations": iterations,
        "min_iterations": iterations // 10,
        "success_prob": 0.999,
    }


def _through(
    matrix: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points (m, 2) by a homography; return them and their homogeneous scale (m,)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[:, :2] / mapped[:, 2:], mapped[:, 2]


def _distinct(
    a: NDArray[np.float64], b: NDArray[np.float64], rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Keep one of the pairs that share a place: SIFT gives one point several directions."""
    for points in (a, b):
        cells = np.floor(points[rows] * (2 / _NEAR)).astype(np.int64)
        _, first = np.unique(cells[:, 0] * 4096 + cells[:, 1], return_index=True)
        rows = rows[np.sort(first)]
    return rows


def _trustworthy(
    query: Keypoints, other: Keypoints, a: NDArray[np.float64], b: NDArray[np.float64]
) -> bool:
    """Whether inliers at `a` and `b` are no line, no single detail, and no stamp."""
    shares, middles = [], []
    for keypoints, points in ((query, a), (other, b)):
        if np.linalg.eigvalsh(np.cov(points.T))[0] < _NEAR**2:
            return False
        size = np.array([keypoints.width, keypoints.height])
        within = np.sort(points / (size * (_SIDE / size.max())), axis=0)
        shares.append(covered(within))
        middles.append(within[len(within) // 2])
    # A detail that fills the other photo is a close-up of it, and welcome.
    if max(shares) < _SPOT:
        return False
    moved = float(np.abs(middles[0] - middles[1]).max())
    return not (max(shares) < _STAMP and moved < _SAME_PLACE)


def _alike(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two arrangements of points resemble each other in every direction.

    A fundamental matrix with level lines agrees with anything that kept its height in the photo,
    wherever it went sideways: a mirrored photo, windows along a façade. The smaller canonical
    correlation of the positions tells.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    correlations = np.linalg.svd(np.linalg.qr(a)[0].T @ np.linalg.qr(b)[0], compute_uv=False)
    return bool(correlations.min() > _ALIKE and np.linalg.det(a.T @ b) > 0)


def _spread(keypoints: Keypoints, chosen: NDArray[np.intp]) -> float:
    if len(chosen) == 0:
        return 0.0
    size = np.array([keypoints.width, keypoints.height], np.float32)
    places = np.clip(keypoints.xy / size * _GRID, 0, _GRID - 1).astype(np.intp)
    cells = places[:, 0] * _GRID + places[:, 1]
    held = np.bincount(cells, minlength=_GRID**2) > 0
    covered = np.bincount(cells[chosen], minlength=_GRID**2) > 0
    return float(covered.sum() / held.sum())


def _in_pixels(
    homography: NDArray[np.float64], query: Keypoints, other: Keypoints
) -> NDArray[np.float64]:
    """Return the homography for pixels of the full-size photos instead of scaled positions."""
    whole = np.linalg.inv(_scaling(other)) @ homography @ _scaling(query)
    scaled: NDArray[np.float64] = whole / (whole[2, 2] or 1.0)
    return scaled


def _lines_in_pixels(
    fundamental: NDArray[np.float64], query: Keypoints, other: Keypoints
) -> NDArray[np.float64]:
    """Return the fundamental matrix, of length 1, for pixels of the full-size photos."""
    whole = _scaling(other) @ fundamental @ _scaling(query)
    scaled: NDArray[np.float64] = whole / np.linalg.norm(whole)
    return scaled


def _scaling(keypoints: Keypoints) -> NDArray[np.float64]:
    scale = _SIDE / max(keypoints.width, keypoints.height)
    return np.diag([scale, scale, 1.0])
