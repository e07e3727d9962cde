"""Do two photos show the same rigid thing? They do if enough matches agree on one geometric model.

A homography is tried first. It explains a plane, and anything that is seen from far away. If
clearly more matches agree on a fundamental matrix, which also explains depth, that is taken. Both
models are estimated by PoseLib's LO-RANSAC (V. Larsson and contributors, PoseLib: minimal solvers
for camera pose estimation, 2020; K. Lebeda, J. Matas, O. Chum, Fixing the locally optimized
RANSAC, BMVC 2012) with a fixed seed.

Positions are scaled so that the longer side of each photo is 640. So a photo and its reduction give
the same result.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.idle_cores import map_with_help
from veduta.keypoints.local_consistency import locally_consistent_matches
from veduta.keypoints.shared_overlays import covered_area, only_an_overlay, stamped_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.matching import Matching

    Points = NDArray[np.float64]

__all__ = [
    "MIN_FUNDAMENTAL_GAIN",
    "MIN_INLIERS",
    "Verification",
    "agrees_with_any",
    "verify",
    "verify_many",
]

MIN_INLIERS = 20
"""The number of inliers of a homography that verifies two photos of `_FEW_KEYPOINTS` keypoints or
fewer. XFeat keypoints of different buildings of one style reach 17 (`benchmarks.verification`)."""

_FEW_KEYPOINTS = 512
"""With more keypoints than this more inliers are asked for, in proportion to their number, because
more matches agree by chance."""

MIN_FUNDAMENTAL_GAIN = 10
"""How many more matches a fundamental matrix must explain than a homography, for as many keypoints.
It allows a point anywhere on a line, so more matches agree with it by chance."""

_SCALED_SIDE = 640.0
"""The longer side of a photo after scaling. PoseLib is numerically stable at this size."""

_MAX_HOMOGRAPHY_ERROR = _SCALED_SIDE / 80
"""The largest distance of an inlier from its place by a homography, in both photos."""

_MAX_LINE_ERROR = _SCALED_SIDE / 256
"""The largest distance of an inlier from its epipolar line."""

_MIN_RANSAC_MATCHES = 8
"""Any two photos have fewer matches than this that agree on some homography."""

MIN_CONSISTENT_MATCHES = 8
"""With fewer consistent matches than this no model is looked for, which would take most of the
time, and hardly ever find one (`python -m benchmarks.shortcuts`)."""

_MAX_SCALE_CHANGE = 10.0
"""The largest change of lengths by a homography at an inlier."""

_MIN_POSITION_CORRELATION = 0.6
"""The smallest canonical correlation of positions that agree on a fundamental matrix."""

_DETAIL_AREA = 0.01
"""Inliers that cover less than this share of both photos are one detail."""

_STAMP_AREA = 0.10
_STAMP_SHIFT = 0.05
"""Inliers that cover less than `_STAMP_AREA` of both photos, and whose middle moves by less than
this share of the width and height, may be a stamp."""

_GRID_CELLS = 8
"""The grid on which the coverage of inliers is counted has 8 × 8 cells."""

_HOMOGRAPHY_ITERATIONS = 1000
_FUNDAMENTAL_ITERATIONS = 300


@dataclass(frozen=True, slots=True, eq=False)
class FoundModel:
    """The model of two photos. The attributes are those of `Verification`."""

    model: str | None
    matrix: NDArray[np.float64] | None
    inliers: NDArray[np.intp]
    inlier_coverage: float


class Verification:
    """What the geometry says about two photos.

    The matches are counted at once. The model is looked for when something of it is asked for
    first: a search ranks by the counts, and shows the models of few photos.

    Attributes:
        matches: the number of matches.
        consistent_matches: how many matches move as the matches around them do, see
            `keypoints.local_consistency`. This counts things that keep their shape locally, even
            if one model does not explain all of the photo. Matches of an overlay that both photos
            carry (`keypoints.shared_overlays`) do not count.
    """

    __slots__ = ("_found", "_look", "consistent_matches", "matches")

    def __init__(
        self, matches: int, consistent_matches: int, look: Callable[[], FoundModel]
    ) -> None:
        """Note what was counted.

        Args:
            matches: as in the attributes.
            consistent_matches: as in the attributes.
            look: looks for the model. It is called once, or once by each of several threads.
        """
        self.matches = matches
        self.consistent_matches = consistent_matches
        self._look = look
        self._found: FoundModel | None = None

    def _model(self) -> FoundModel:
        found = self._found
        if found is None:
            found = self._found = self._look()
        return found

    @property
    def model(self) -> str | None:
        """`"homography"` or `"fundamental"`. None: the photos are not verified."""
        return self._model().model

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """(3, 3), for pixels of the full-size photos. None without a model.

        A homography maps pixels of the query to pixels of the other photo. A fundamental matrix F
        fulfils x_otherᵀ F x_query = 0.
        """
        return self._model().matrix

    @property
    def inliers(self) -> NDArray[np.intp]:
        """(k, 2) index pairs into the two Keypoints: the matches that agree on the model.

        If the photos are not verified: those that agree on the best homography, which are too few
        to mean much, or none if hardly any match is consistent.
        """
        return self._model().inliers

    @property
    def inlier_coverage(self) -> float:
        """The share of the cells of an 8 × 8 grid with keypoints that have inliers, in [0, 1].

        It is the smaller share of the two photos.
        """
        return self._model().inlier_coverage

    @property
    def support(self) -> int:
        """The number of inliers, made comparable between the models.

        From the inliers of a fundamental matrix those that agree by chance are subtracted.
        """
        return len(self.inliers) - (MIN_FUNDAMENTAL_GAIN if self.model == "fundamental" else 0)


def verify(
    query: Keypoints,
    other: Keypoints,
    matches: NDArray[np.intp],
    *,
    min_consistent: int = MIN_CONSISTENT_MATCHES,
) -> Verification:
    """Look for the model on which most of `matches` agree.

    Matches of a stamp that both photos carry (`keypoints.shared_overlays`) are left out. If hardly
    any match is consistent, no model is looked for. Inliers on one line, or within one detail,
    support no model. Nor do inliers of another overlay that both photos carry, or inliers within a
    small part of both photos at the same place of both, such as a watermark or a caption. In this
    case a second homography is estimated from the other matches.

    Args:
        query: the keypoints of one photo.
        other: the keypoints of the other photo.
        matches: (m, 2) index pairs, from `Matching.pairs`.
        min_consistent: with fewer consistent matches no model is looked for.
    """
    a = _scaled_positions(query)[matches[:, 0]]
    b = _scaled_positions(other)[matches[:, 1]]
    not_overlay = ~stamped_matches(query, other, matches)
    consistent = locally_consistent_matches(a[not_overlay], b[not_overlay])
    if consistent < min_consistent:
        nothing = FoundModel(None, None, matches[:0], 0.0)
        return Verification(len(matches), consistent, lambda: nothing)
    left = inliers = np.flatnonzero(not_overlay)
    homography = None
    # The homography tells whether the matches are those of an overlay, which do not count.
    for _ in range(2):
        homography, agree = _estimate_homography(a[left], b[left])
        inliers = _distinct_positions(a, b, left[agree])
        if len(inliers) < _MIN_RANSAC_MATCHES:
            break
        if only_an_overlay(query, other, matches[left], matches[inliers]):
            not_overlay[left[agree]] = False
            consistent = locally_consistent_matches(a[not_overlay], b[not_overlay])
        elif _is_trustworthy(query, other, a[inliers], b[inliers]):
            break
        left = left[~agree]
        inliers = inliers[:0]

    def look() -> FoundModel:
        return _found_model(query, other, matches, homography, inliers, left)

    return Verification(len(matches), consistent, look)


def _found_model(
    query: Keypoints,
    other: Keypoints,
    matches: NDArray[np.intp],
    homography: Points | None,
    inliers: NDArray[np.intp],
    left: NDArray[np.intp],
) -> FoundModel:
    """Return the homography, or a fundamental matrix if clearly more matches agree on one.

    Args:
        query: the keypoints of one photo.
        other: the keypoints of the other photo.
        matches: (m, 2) index pairs.
        homography: the best one, for scaled positions.
        inliers: (k,) its inliers among the matches.
        left: (l,) the matches that are not those of an overlay.
    """
    model: str | None = None
    matrix = None
    factor = max(1.0, min(len(query), len(other)) / _FEW_KEYPOINTS)
    min_inliers = round(MIN_INLIERS * factor)
    if homography is not None and len(inliers) >= min_inliers:
        model, matrix = "homography", _homography_in_pixels(homography, query, other)
    min_fundamental_inliers = max(min_inliers, len(inliers)) + round(MIN_FUNDAMENTAL_GAIN * factor)
    if len(left) >= min_fundamental_inliers:
        a = _scaled_positions(query)[matches[:, 0]]
        b = _scaled_positions(other)[matches[:, 1]]
        fundamental, agree = _estimate_fundamental(a[left], b[left])
        candidates = _distinct_positions(a, b, left[agree])
        if (
            len(candidates) >= min_fundamental_inliers
            and _is_trustworthy(query, other, a[candidates], b[candidates])
            and _similarly_arranged(a[candidates], b[candidates])
            and not only_an_overlay(query, other, matches[left], matches[candidates])
        ):
            model, inliers = "fundamental", candidates
            matrix = _fundamental_in_pixels(fundamental, query, other)

    coverage = min(
        _coverage(query, matches[inliers, 0]),
        _coverage(other, matches[inliers, 1]),
    )
    return FoundModel(model, matrix, matches[inliers], coverage)


def verify_many(
    query: Keypoints,
    others: Sequence[Keypoints],
    matching: Matching,
    *,
    parallel: bool = True,
    on_verified: Callable[[int], None] | None = None,
) -> list[Verification]:
    """Match and verify one query against many photos.

    Args:
        query: the keypoints of the query.
        others: the keypoints of the photos, of the same kind.
        matching: how keypoints of this kind are matched, see `Extractor.matching`.
        parallel: let other threads help while processor cores are idle.
        on_verified: called with the number of photos that are verified, after each of them. If it
            raises an error, no further photo is verified.

    Returns:
        One for each of `others`, in their order. The result does not depend on `parallel`.
    """

    def verify_one(other: Keypoints) -> Verification:
        return verify(query, other, matching.pairs(query, other))

    def counted(verifications: Iterable[Verification]) -> list[Verification]:
        done = []
        for verification in verifications:
            done.append(verification)
            if on_verified is not None:
                on_verified(len(done))
        return done

    if not parallel or len(others) < 2:
        return counted(map(verify_one, others))
    with closing(map_with_help(verify_one, others)) as verifications:
        return counted(verifications)


def agrees_with_any(
    query: Keypoints, others: Sequence[Keypoints], matching: Matching, *, min_consistent: float
) -> bool:
    """Return whether a photo has so many consistent matches with one of several photos.

    No model is estimated, and the first photo that has as many ends the work.

    Args:
        query: the keypoints of the photo.
        others: the keypoints of the other photos, of the same kind.
        matching: as in `verify_many`.
        min_consistent: the smallest number of `Verification.consistent_matches`, with those of
            overlays other than stamps.
    """

    def agrees(other: Keypoints) -> bool:
        matches = matching.pairs(query, other)
        kept = matches[~stamped_matches(query, other, matches)]
        a, b = _scaled_positions(query)[kept[:, 0]], _scaled_positions(other)[kept[:, 1]]
        return locally_consistent_matches(a, b) >= min_consistent

    with closing(map_with_help(agrees, others)) as answers:
        return any(answers)


def _scaled_positions(keypoints: Keypoints) -> Points:
    scaled: Points = keypoints.xy.astype(np.float64)
    scaled *= _SCALED_SIDE / max(keypoints.width, keypoints.height)
    return scaled


def _estimate_homography(a: Points, b: Points) -> tuple[Points | None, NDArray[np.bool_]]:
    """Return the homography a → b, and which pairs agree with it, (m,) bool."""
    none_agree = np.zeros(len(a), bool)
    if len(a) < _MIN_RANSAC_MATCHES:
        return None, none_agree
    import poselib

    options = {"max_reproj_error": _MAX_HOMOGRAPHY_ERROR, **_iterations(_HOMOGRAPHY_ITERATIONS)}
    matrix, _ = poselib.estimate_homography(a, b, options, {})
    matrix = np.asarray(matrix, np.float64)
    # PoseLib returns NaN when it found no homography.
    determinant = float(np.linalg.det(matrix)) if np.isfinite(matrix).all() else 0.0
    if determinant == 0:
        return None, none_agree
    with np.errstate(all="ignore"):
        mapped, depth = _mapped(matrix, a)
        mapped_back, _ = _mapped(np.linalg.inv(matrix), b)
        # The determinant of the derivative at each point. A negative one means that the point is
        # mirrored or beyond the horizon.
        area_change = determinant / depth**3
        agree = (np.hypot(*(mapped - b).T) <= _MAX_HOMOGRAPHY_ERROR) & (
            np.hypot(*(mapped_back - a).T) <= _MAX_HOMOGRAPHY_ERROR
        )
        agree &= (area_change > _MAX_SCALE_CHANGE**-2) & (area_change < _MAX_SCALE_CHANGE**2)
    return matrix, agree


def _estimate_fundamental(a: Points, b: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Return the fundamental matrix of two photos, and which pairs agree with it, (m,) bool."""
    import poselib

    options = {"max_epipolar_error": _MAX_LINE_ERROR, **_iterations(_FUNDAMENTAL_ITERATIONS)}
    matrix, details = poselib.estimate_fundamental(a, b, options, {})
    matrix = np.asarray(matrix, np.float64)
    return matrix, np.asarray(details["inliers"], bool) & np.isfinite(matrix).all()


def _iterations(maximum: int) -> dict[str, Any]:
    return {"max_iterations": maximum, "min_iterations": maximum // 10, "success_prob": 0.999}


def _mapped(matrix: Points, points: Points) -> tuple[Points, Points]:
    """Map points (m, 2) by a homography; return them and their homogeneous scale (m,)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[:, :2] / mapped[:, 2:], mapped[:, 2]


def _distinct_positions(a: Points, b: Points, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Keep one of the pairs that share a position. SIFT gives one point several directions."""
    for points in (a, b):
        cells = np.floor(points[rows] * (2 / _MAX_HOMOGRAPHY_ERROR)).astype(np.int64)
        _, first = np.unique(cells[:, 0] * 4096 + cells[:, 1], return_index=True)
        rows = rows[np.sort(first)]
    return rows


def _is_trustworthy(query: Keypoints, other: Keypoints, a: Points, b: Points) -> bool:
    """Return whether inliers at `a` and `b` are more than a line, a single detail or a stamp."""
    areas, middles = [], []
    for keypoints, points in ((query, a), (other, b)):
        centred = points - points.mean(axis=0)
        covariance = centred.T @ centred / (len(points) - 1)
        if np.linalg.eigvalsh(covariance)[0] < _MAX_HOMOGRAPHY_ERROR**2:
            return False
        size = np.array([keypoints.width, keypoints.height])
        shares = np.sort(points / (size * (_SCALED_SIDE / size.max())), axis=0)
        areas.append(covered_area(shares))
        middles.append(shares[len(shares) // 2])
    # The larger area counts: a detail that fills the other photo is a close-up.
    if max(areas) < _DETAIL_AREA:
        return False
    shift = float(np.abs(middles[0] - middles[1]).max())
    return not (max(areas) < _STAMP_AREA and shift < _STAMP_SHIFT)


def _similarly_arranged(a: Points, b: Points) -> bool:
    """Return whether two arrangements of points resemble each other in every direction.

    A fundamental matrix with horizontal lines agrees with anything that keeps its height in the
    photo and moves sideways: a mirrored photo, or the windows along a façade. The smaller canonical
    correlation of the positions is low in such cases.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    correlations = np.linalg.svd(np.linalg.qr(a)[0].T @ np.linalg.qr(b)[0], compute_uv=False)
    not_mirrored = np.linalg.det(a.T @ b) > 0
    return bool(correlations.min() > _MIN_POSITION_CORRELATION and not_mirrored)


def _coverage(keypoints: Keypoints, rows: NDArray[np.intp]) -> float:
    """Return the share of the grid cells with keypoints in which the keypoints `rows` are."""
    if len(rows) == 0:
        return 0.0
    size = np.array([keypoints.width, keypoints.height], np.float32)
    cells = np.clip(keypoints.xy / size * _GRID_CELLS, 0, _GRID_CELLS - 1).astype(np.intp)
    cells = cells[:, 0] * _GRID_CELLS + cells[:, 1]
    occupied = np.bincount(cells, minlength=_GRID_CELLS**2) > 0
    covered = np.bincount(cells[rows], minlength=_GRID_CELLS**2) > 0
    return float(covered.sum() / occupied.sum())


def _homography_in_pixels(homography: Points, query: Keypoints, other: Keypoints) -> Points:
    """Return the homography for pixels of the full-size photos instead of scaled positions."""
    matrix = np.linalg.inv(_scaling_matrix(other)) @ homography @ _scaling_matrix(query)
    normalised: Points = matrix / (matrix[2, 2] or 1.0)
    return normalised


def _fundamental_in_pixels(fundamental: Points, query: Keypoints, other: Keypoints) -> Points:
    """Return the fundamental matrix, of length 1, for pixels of the full-size photos."""
    matrix = _scaling_matrix(other) @ fundamental @ _scaling_matrix(query)
    normalised: Points = matrix / np.linalg.norm(matrix)
    return normalised


def _scaling_matrix(keypoints: Keypoints) -> Points:
    scale = _SCALED_SIDE / max(keypoints.width, keypoints.height)
    return np.diag([scale, scale, 1.0])
