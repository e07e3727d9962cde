"""Verification on scenes whose geometry is known, and on what must never pass for the same place.

Made-up photos are 1200 × 900 pixels; a scene is a list of positions in each and who matches whom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from veduta.keypoints import (
    MIN_FUNDAMENTAL_GAIN,
    MIN_INLIERS,
    Keypoints,
    Matching,
    Verification,
    agrees_with_any,
    overlap,
    verification,
    verify,
    verify_many,
)
from veduta.keypoints.verification import MIN_CONSISTENT_MATCHES, FoundModel
from veduta.keypoints.xfeat import XFeat

WIDTH, HEIGHT = 1200, 900
MATCHING = XFeat.matching
Points = NDArray[np.float64]


def keypoints(
    xy: Points, width: int = WIDTH, height: int = HEIGHT, seed: int | None = None
) -> Keypoints:
    rng = np.random.default_rng(seed)
    floats = rng.normal(size=(len(xy), 64))
    unit = floats / np.linalg.norm(floats, axis=1, keepdims=True)
    codes = np.rint(127 * unit).astype(np.int8)
    return Keypoints(np.asarray(xy, np.float32).reshape(-1, 2), codes, width, height)


def anywhere(seed: int, count: int, width: int = WIDTH, height: int = HEIGHT) -> Points:
    return np.random.default_rng(seed).uniform((0, 0), (width - 1, height - 1), (count, 2))


def through(matrix: NDArray[np.float64], points: Points) -> Points:
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return mapped[:, :2] / mapped[:, 2:]


def check(a: Points, b: Points) -> Verification:
    """Verify scenes where the i-th point of one matches the i-th of the other."""
    matches = np.repeat(np.arange(len(a))[:, None], 2, axis=1)
    return verify(keypoints(a), keypoints(b), matches)


TILTED = np.array([[0.9, -0.1, 60.0], [0.08, 0.95, 20.0], [5e-5, 2e-5, 1.0]])


def test_homography_is_found_among_wrong_matches() -> None:
    a = anywhere(1, 150)
    b = through(TILTED, a)
    b[:60] = anywhere(2, 60)  # 40 % wrong
    b[60:] += np.random.default_rng(3).normal(0, 1, (90, 2))
    found = check(a, b)
    assert found.model == "homography"
    assert found.matches == 150
    right = set(range(60, 150))
    inliers = found.inliers[:, 0].tolist()
    assert len(right & set(inliers)) >= 80
    assert len(set(inliers) - right) <= 4
    assert found.support == len(found.inliers)
    # In pixels of the full-size photos.
    corners = np.array([[100.0, 100], [1100, 100], [1100, 800], [100, 800]])
    assert found.matrix is not None
    assert np.abs(through(found.matrix, corners) - through(TILTED, corners)).max() < 6


def test_sizes_of_the_photos_do_not_matter() -> None:
    a = anywhere(1, 100)
    b = through(TILTED, a)
    b[:30] = anywhere(2, 30)
    matches = np.repeat(np.arange(100)[:, None], 2, axis=1)
    reference = check(a, b)
    large = keypoints(a * 4, WIDTH * 4, HEIGHT * 4)
    small = keypoints(b / 3, WIDTH // 3, HEIGHT // 3)
    found = verify(large, small, matches)
    assert found.model == "homography"
    assert found.inliers.tolist() == reference.inliers.tolist()
    assert found.inlier_coverage == pytest.approx(reference.inlier_coverage, abs=0.06)
    assert found.matrix is not None
    middle = np.array([[600.0, 450]])
    assert np.abs(through(found.matrix, middle * 4) * 3 - through(TILTED, middle)).max() < 3


def test_depth_needs_a_fundamental_matrix() -> None:
    rng = np.random.default_rng(4)
    count = 140
    space = np.c_[rng.uniform(-3, 3, count), rng.uniform(-2, 2, count), rng.uniform(4, 12, count)]
    camera = np.array([[1000.0, 0, 600], [0, 1000, 450], [0, 0, 1]])
    angle = 0.12
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    step = np.array([-1.2, 0.2, 0.3])
    a = space @ camera.T
    b = (space @ turn.T + step) @ camera.T
    a, b = a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:]
    seen = ((a > 0) & (a < (WIDTH, HEIGHT)) & (b > 0) & (b < (WIDTH, HEIGHT))).all(axis=1)
    a, b = a[seen], b[seen]
    assert len(a) > 70
    found = check(a, b)
    assert found.model == "fundamental"
    assert len(found.inliers) > 0.85 * len(a)
    assert found.support == len(found.inliers) - MIN_FUNDAMENTAL_GAIN
    assert found.matrix is not None
    # x_otherᵀ F x_query = 0: the distance from each point to its line, in pixels.
    lines = np.c_[a, np.ones(len(a))] @ found.matrix.T
    distance = np.abs((lines * np.c_[b, np.ones(len(b))]).sum(1)) / np.hypot(*lines[:, :2].T)
    assert np.median(distance) < 1
    assert np.linalg.norm(found.matrix) == pytest.approx(1)


def test_a_plane_stays_a_homography() -> None:
    a = anywhere(5, 120)
    b = through(TILTED, a)
    b[:30] = anywhere(6, 30)
    assert check(a, b).model == "homography"


def test_identical_photos() -> None:
    a = anywhere(7, 300)
    found = check(a, a)
    assert found.model == "homography"
    assert found.matrix is not None
    assert np.allclose(found.matrix, np.eye(3), atol=1e-4)
    assert len(found.inliers) > 250  # all, but for those that nearly share a place
    assert found.inlier_coverage == 1.0


def test_a_close_up_is_verified() -> None:
    # The query shows a twentieth of the other photo.
    a = anywhere(8, 60)
    b = a * 0.22 + (500, 300)
    found = check(a, b)
    assert found.model == "homography"
    whole = verify(keypoints(b), keypoints(a), np.repeat(np.arange(60)[:, None], 2, axis=1))
    assert whole.model == "homography"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8, MIN_INLIERS - 1])
def test_few_matches_verify_nothing(count: int) -> None:
    a = anywhere(9, count)
    found = check(a, a)
    assert found.model is None
    assert found.matrix is None
    assert found.matches == count
    assert found.inliers.shape[1] == 2
    assert 0 <= found.inlier_coverage <= 1


def test_from_enough_on_they_are_verified() -> None:
    a = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2) * 150.0 + 80
    assert check(a[: MIN_INLIERS - 1], a[: MIN_INLIERS - 1]).model is None
    found = check(a[:MIN_INLIERS], a[:MIN_INLIERS])
    assert found.model == "homography"
    assert len(found.inliers) == MIN_INLIERS


def test_random_matches_verify_nothing() -> None:
    for seed in range(40):
        found = check(anywhere(seed, 60), anywhere(seed + 1000, 60))
        assert found.model is None
        assert len(found.inliers) < MIN_INLIERS


def test_a_line_supports_no_model() -> None:
    steps = np.linspace(50, 1100, 80)
    rng = np.random.default_rng(1)
    a = np.c_[steps, 0.5 * steps + 100] + rng.normal(0, 1, (80, 2))
    b = a + np.array((10, -20))
    found = check(a, b)
    assert found.model is None
    assert len(found.inliers) == 0


def test_a_detail_supports_no_model() -> None:
    a = anywhere(1, 80) * 0.06 + (200, 300)
    b = a + np.array((400, 100))
    assert check(a, b).model is None


@pytest.mark.parametrize("place", [(930, 790), (30, 20), (450, 400)])
def test_a_stamp_does_not_decide(place: tuple[float, float]) -> None:
    # The same mark of 250 × 90 pixels in two photos that share nothing else.
    stamp = anywhere(1, 70) * 0.21 * (1, 0.5) + place
    a = np.r_[stamp, anywhere(2, 40)]
    b = np.r_[stamp, anywhere(3, 40)]
    found = check(a, b)
    assert found.model is None
    assert len(found.inliers) < MIN_INLIERS
    assert found.inlier_coverage < 0.3


def test_behind_a_stamp_the_scene_is_found() -> None:
    stamp = anywhere(1, 70) * 0.21 * (1, 0.5) + (930, 790)
    scene = anywhere(2, 50) * 0.85
    found = check(np.r_[stamp, scene], np.r_[stamp, through(TILTED, scene)])
    # By a fundamental matrix the stamp may agree, too: a plane in front of another.
    assert found.model is not None
    assert (found.inliers[:, 0] >= 70).sum() > 40
    assert found.inlier_coverage > 0.5


def test_many_points_onto_one_do_not_count() -> None:
    a = anywhere(1, 100)
    b = np.full_like(a, 500) + np.random.default_rng(1).normal(0, 1, a.shape)
    found = check(a, b)
    assert found.model is None
    assert len(found.inliers) < MIN_INLIERS
    # Nor does a scene that shrinks to a thirtieth.
    assert check(a, a / 30 + 400).model is None


def test_points_at_one_place_count_once() -> None:
    a = np.repeat(anywhere(1, 12), 2, axis=0)
    found = check(a, a + np.array((20, 10)))
    assert len(found.inliers) == 12
    assert found.model is None


def test_a_mirrored_photo_is_another_photo() -> None:
    a = anywhere(1, 120)
    b = a.copy()
    b[:, 0] = WIDTH - 1 - b[:, 0]
    assert check(a, b).model is None


def test_points_that_only_keep_their_height_verify_nothing() -> None:
    # As windows along a façade that match other windows of the row.
    a = anywhere(1, 150)
    b = np.c_[np.random.default_rng(2).permutation(a[:, 0]), a[:, 1] * 0.9 + 30]
    assert check(a, b).model is None


def test_points_beyond_the_horizon_do_not_count() -> None:
    # This homography sends x = 600 to infinity and turns what is beyond around.
    flip = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 600, 0, 1]])
    a = anywhere(1, 200)
    a = a[np.abs(a[:, 0] - 600) > 150]
    b = through(flip, a)
    found = check(a, b)
    if found.model == "homography":
        sides = a[found.inliers[:, 0], 0] > 600
        assert sides.all() or not sides.any()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8000, 40), (40, 8000)])
def test_odd_sizes_do_not_raise(width: int, height: int) -> None:
    a = keypoints(anywhere(1, 50, width, height), width, height)
    b = keypoints(anywhere(2, 50))
    matches = np.repeat(np.arange(50)[:, None], 2, axis=1)
    for found in (verify(a, b, matches), verify(b, a, matches), verify(a, a, matches)):
        assert 0 <= found.inlier_coverage <= 1


def test_no_keypoints() -> None:
    none = keypoints(np.empty((0, 2)))
    some = keypoints(anywhere(1, 30))
    for a, b in ((none, some), (some, none), (none, none)):
        found = verify_many(a, [b], MATCHING)[0]
        assert (found.model, found.matches, found.inlier_coverage) == (None, 0, 0.0)
        assert found.inliers.shape == (0, 2)
        assert overlap(a, b, found) is None


def test_inlier_coverage_is_the_share_of_cells() -> None:
    # One keypoint in the middle of each cell of the 8 × 8 grid; the matched ones are the left 4
    # columns in both photos, but the other photo has keypoints in the left 6 columns only.
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2)
    a = (grid + 0.5) * (WIDTH / 8, HEIGHT / 8)
    inside = np.flatnonzero(grid[:, 0] < 4)
    b = a[grid[:, 0] < 6]
    matches = np.c_[inside, np.searchsorted(np.flatnonzero(grid[:, 0] < 6), inside)]
    found = verify(keypoints(a), keypoints(b), matches)
    assert len(found.inliers) == 32
    assert found.inlier_coverage == 32 / 64
    assert verify(keypoints(b), keypoints(b), matches[:, [1, 1]]).inlier_coverage == pytest.approx(
        32 / 48
    )


def test_many_is_one_by_one_on_any_number_of_threads() -> None:
    query = keypoints(anywhere(1, 200), seed=1)
    others = []
    for seed in range(6):
        xy = through(TILTED, query.xy.astype(float))
        wrong = np.random.default_rng(seed).permutation(200)[: 30 * seed]
        xy[wrong] = anywhere(seed, len(wrong))
        others.append(Keypoints(xy.astype(np.float32), query.descriptors, WIDTH, HEIGHT))
    others.append(keypoints(anywhere(3, 50), seed=9))
    expected = [verify(query, other, MATCHING.pairs(query, other)) for other in others]
    assert [found.model for found in expected][:2] == ["homography"] * 2
    assert expected[-1].model is None
    for parallel in (False, True):
        found = verify_many(query, others, MATCHING, parallel=parallel)
        assert [(f.model, f.matches, f.inlier_coverage) for f in found] == [
            (e.model, e.matches, e.inlier_coverage) for e in expected
        ]
        for f, e in zip(found, expected, strict=True):
            assert f.inliers.tolist() == e.inliers.tolist()
            assert (f.matrix is None) == (e.matrix is None)
            assert f.matrix is None or np.array_equal(f.matrix, e.matrix)
    assert verify_many(query, [], MATCHING) == []


def test_hardly_any_agreement_ends_the_work() -> None:
    """Seven matches move alike among many that do not: no model, whoever looks for it."""
    a = anywhere(1, 60)
    b = anywhere(2, 60)
    b[:7] = a[:7] + np.array((20, 10))
    matches = np.repeat(np.arange(60)[:, None], 2, axis=1)
    quick = check(a, b)
    full = verify(keypoints(a), keypoints(b), matches, min_consistent=0)
    assert quick.consistent_matches == full.consistent_matches < MIN_CONSISTENT_MATCHES
    assert quick.model is full.model is None and quick.matches == full.matches == 60
    assert len(quick.inliers) == 0 < len(full.inliers)
    assert quick.inlier_coverage == 0


def test_a_model_is_looked_for_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = verification._found_model

    def noted(*values: Any) -> FoundModel:
        looked.append(len(looked))
        return real(*values)

    monkeypatch.setattr(verification, "_found_model", noted)
    query = keypoints(anywhere(1, 200), seed=1)
    moved = through(TILTED, query.xy.astype(float)).astype(np.float32)
    stamped = query.xy * 0 + anywhere(4, 200).astype(np.float32)
    stamped[:40] = query.xy[:40]
    for xy in (moved, stamped, anywhere(5, 200).astype(np.float32)):
        other = Keypoints(xy, query.descriptors, WIDTH, HEIGHT)
        looked.clear()
        (found,) = verify_many(query, [other], MATCHING)
        consistent = found.consistent_matches
        assert found.matches == 200 and not looked
        inliers, model = found.inliers, found.model
        assert len(looked) == (consistent >= MIN_CONSISTENT_MATCHES), "once for both"
        assert (model is None) == (len(inliers) < MIN_INLIERS)
        assert found.consistent_matches == consistent


class Counted:
    """A matching that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def pairs(self, query: Keypoints, other: Keypoints) -> NDArray[np.intp]:
        self.asked += 1
        return MATCHING.pairs(query, other)


def test_one_photo_that_agrees_is_enough() -> None:
    query = keypoints(anywhere(1, 200), seed=1)
    same = Keypoints(
        through(TILTED, query.xy.astype(float)).astype(np.float32),
        query.descriptors,
        WIDTH,
        HEIGHT,
    )
    others = [keypoints(anywhere(seed, 200), seed=seed) for seed in range(2, 6)]
    consistent = verify(query, same, MATCHING.pairs(query, same)).consistent_matches
    assert consistent > 100

    def agrees(photos: list[Keypoints], least: float, matching: Matching = MATCHING) -> bool:
        return agrees_with_any(query, photos, matching, min_consistent=least)

    assert agrees([*others, same], 100)
    assert agrees([*others, same], consistent)
    assert not agrees([*others, same], consistent + 1)
    assert not agrees(others, 8)
    assert not agrees([], 8)
    counted = Counted()
    assert agrees([same] * 500, 100, counted)
    assert counted.asked < 100, "the first photo answers"


def test_after_an_error_no_photo_begins() -> None:
    query = keypoints(anywhere(1, 200), seed=1)
    counted = Counted()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        verify_many(query, [query] * 500, counted, on_verified=stop)
    # The threads take photos in their order. So what had not been cancelled would come first.
    verify_many(query, [query] * 2, counted)
    assert counted.asked < 100 and caught.value.__traceback__ is not None


def test_a_stamp_is_no_agreement() -> None:
    stamp = np.array((600.0, 450.0)) + np.random.default_rng(5).uniform(-30, 30, (40, 2))
    codes = keypoints(stamp, seed=3).descriptors
    photos = []
    for seed in (1, 2):
        alone = keypoints(anywhere(seed, 500), seed=seed)
        xy = np.concatenate([alone.xy, stamp.astype(np.float32)])
        photos.append(Keypoints(xy, np.concatenate([alone.descriptors, codes]), WIDTH, HEIGHT))
    assert len(MATCHING.pairs(*photos)) >= 40
    assert not agrees_with_any(photos[0], [photos[1]], MATCHING, min_consistent=8)


def test_overlap_is_the_grown_hull_of_the_inliers() -> None:
    a = np.stack(np.meshgrid(np.arange(6), np.arange(6)), axis=-1).reshape(-1, 2) * 100.0 + 200
    b = a + np.array((450, 0))  # the right column lies at 1150, nearer to the edge than the margin
    found = check(a, b)
    assert found.model == "homography"
    regions = overlap(keypoints(a), keypoints(b), found)
    assert regions is not None
    margin = 0.02 * WIDTH
    assert regions[0].dtype == np.float32
    assert regions[0].min(axis=0) == pytest.approx((200 - margin, 200 - margin))
    assert regions[0].max(axis=0) == pytest.approx((700 + margin, 700 + margin))
    assert regions[1].max(axis=0) == pytest.approx((1150 + margin, 700 + margin))
    shifted = overlap(
        keypoints(a), keypoints(a + np.array((490, -195))), check(a, a + np.array((490, -195)))
    )
    assert shifted is not None
    assert shifted[1].max(axis=0)[0] == WIDTH - 1
    assert shifted[1].min(axis=0)[1] == 0
    # A convex polygon: it turns the same way at every corner.
    for region in (*regions, *shifted):
        edges = np.roll(region, -1, axis=0) - region
        after = np.roll(edges, -1, axis=0)
        assert (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] > -1e-2).all()


def test_overlap_area_of_a_square() -> None:
    a = np.array([[x, y] for x in (300, 400, 500, 600, 700) for y in (200, 300, 400, 500, 600)])
    regions = overlap(keypoints(a), keypoints(a), check(a, a))
    assert regions is not None
    x, y = regions[0].astype(float).T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    margin = 0.02 * WIDTH
    circle = 8 * np.sin(np.pi / 8) * margin**2  # of 16 corners
    assert area == pytest.approx(400**2 + 4 * 400 * margin + circle, rel=1e-4)
