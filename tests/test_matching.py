"""Matching against a plain statement of the rules, and against OpenCV."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from veduta.keypoints import Keypoints, MutualMatching, RatioMatching, mutual, ratio


def rows(seed: int, count: int, width: int = 64) -> NDArray[np.int8]:
    floats = np.random.default_rng(seed).normal(size=(count, width))
    return np.rint(127 * floats / np.linalg.norm(floats, axis=1, keepdims=True)).astype(np.int8)


def bits(seed: int, count: int, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def keypoints(descriptors: NDArray[np.generic]) -> Keypoints:
    return Keypoints(np.zeros((len(descriptors), 2), np.float32), descriptors, 640, 480)


def noisy(descriptors: NDArray[np.int8], seed: int, noise: float) -> NDArray[np.int8]:
    rng = np.random.default_rng(seed)
    return np.clip(descriptors + rng.normal(0, noise, descriptors.shape), -127, 127).astype(np.int8)


def similarity(a: Keypoints, b: Keypoints) -> NDArray[np.float64]:
    if a.binary:
        different = np.unpackbits(a.descriptors[:, None] ^ b.descriptors[None], axis=2).sum(2)
        return 1 - different / (8.0 * a.descriptors.shape[1])
    return a.descriptors.astype(np.int64) @ b.descriptors.astype(np.int64).T / (127.0 * 127.0)


def plain_mutual(a: Keypoints, b: Keypoints, least: float) -> list[list[int]]:
    table = similarity(a, b)
    found = []
    for i in range(len(a)):
        j = int(np.argmax(table[i]))  # the first of equals
        if int(np.argmax(table[:, j])) == i and table[i, j] >= least:
            found.append([i, j])
    return found


PAIRS = {
    "related": (keypoints(rows(1, 90)), keypoints(noisy(rows(1, 90)[::-1], 2, 6))),
    "unrelated": (keypoints(rows(3, 70)), keypoints(rows(4, 41))),
    # Small whole numbers: full of ties.
    "ties": (keypoints(rows(5, 80, 2) // 40), keypoints(rows(6, 90, 2) // 40)),
    "binary": (keypoints(bits(7, 60)), keypoints(bits(8, 75))),
    "binary ties": (keypoints(bits(9, 60, 1)), keypoints(bits(10, 75, 1))),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("least", [-1.0, 0.0, 0.3, 0.55, 0.9])
def test_mutual_is_what_the_rule_says(name: str, least: float) -> None:
    a, b = PAIRS[name]
    expected = plain_mutual(a, b, least)
    found = mutual(a, b, min_similarity=least)
    assert found.dtype == np.intp
    assert found.shape == (len(expected), 2)
    assert found.tolist() == expected
    if least == -1:
        assert expected  # the test sees matches at all


def test_pairs_on_the_limit_are_kept() -> None:
    a = keypoints(np.array([[0b11111111], [0]], np.uint8))
    b = keypoints(np.array([[0b11111100]], np.uint8))
    assert mutual(a, b, min_similarity=0.75).tolist() == [[0, 0]]
    assert mutual(a, b, min_similarity=0.76).tolist() == []
    unit = keypoints(np.array([[127, 0]], np.int8))
    assert mutual(unit, unit, min_similarity=1.0).tolist() == [[0, 0]]


def test_of_equals_the_first_is_taken_in_both_directions() -> None:
    one, two = [100, 0], [0, 100]
    a = keypoints(np.array([one, one, two], np.int8))
    b = keypoints(np.array([two, one, one, two], np.int8))
    assert mutual(a, b, min_similarity=0.5).tolist() == [[0, 1], [2, 0]]
    # Row 1's nearest is column 0. To column 0 both rows are equally near, so row 0 is its nearest,
    # whose own nearest is column 1: nobody is mutual with column 0.
    a = keypoints(np.array([[50, 90], [50, 10]], np.int8))
    b = keypoints(np.array([[100, 0], [80, 80]], np.int8))
    table = similarity(a, b)
    assert table[0, 0] == table[1, 0]
    assert table[1].argmax() == 0 and table[0].argmax() == 1
    assert mutual(a, b, min_similarity=0.0).tolist() == [[0, 1]]


def test_mutual_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    for name in ("related", "unrelated", "binary"):
        a, b = PAIRS[name]
        # Of unequal lengths the nearest is not the one with the largest product.
        lengths = [np.linalg.norm(k.descriptors.astype(float), axis=1) for k in (a, b)]
        left, right = (
            k.descriptors if a.binary else (k.descriptors / length[:, None]).astype(np.float32)
            for k, length in zip((a, b), lengths, strict=True)
        )
        norm = cv2.NORM_HAMMING if a.binary else cv2.NORM_L2
        theirs = {(m.queryIdx, m.trainIdx) for m in cv2.BFMatcher(norm, True).match(left, right)}
        ours = set(map(tuple, mutual(a, b, min_similarity=-1.0).tolist()))
        # Rounding to whole numbers and ties may decide a few pairs differently.
        assert len(ours & theirs) >= 0.85 * len(ours | theirs), name
        assert len(ours) > 5


@pytest.mark.parametrize("name", PAIRS)
def test_matching_of_extractors(name: str) -> None:
    a, b = PAIRS[name]
    empty = keypoints(b.descriptors[:0])
    matching = MutualMatching(min_similarity=0.2)
    assert matching.pairs(a, b).tolist() == plain_mutual(a, b, 0.2)
    assert matching.pairs(a, empty).tolist() == []
    assert matching.pairs(a, a).tolist() == plain_mutual(a, a, 0.2)
    both = set(map(tuple, plain_mutual(a, b, -1.0)))
    for limit in (0.6, 0.85):
        by_ratio = ratio(a, b, max_ratio=limit).tolist()
        expected = [pair for pair in by_ratio if tuple(pair) in both]
        assert RatioMatching(max_ratio=limit).pairs(a, b).tolist() == expected
    assert RatioMatching(max_ratio=0.85).pairs(a, empty).tolist() == []
    assert RatioMatching(max_ratio=0.85).pairs(empty, a).tolist() == []


@pytest.mark.parametrize("name", PAIRS)
def test_ratio_is_lowes(name: str) -> None:
    a, b = PAIRS[name]
    if a.binary:
        table = np.rint((1 - similarity(a, b)) * 8 * a.descriptors.shape[1])
    else:
        difference = a.descriptors[:, None].astype(float) - b.descriptors[None]
        table = np.sqrt((difference**2).sum(2))
    for most in (0.75, 0.95):
        expected = []
        for i, row in enumerate(table):
            first, second = np.argsort(row, kind="stable")[:2]
            if row[first] < most * row[second]:
                expected.append([i, int(first)])
        assert ratio(a, b, max_ratio=most).tolist() == expected
    if name == "related":
        assert len(ratio(a, b)) > 80


def test_ratio_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    for name, norm in (("related", cv2.NORM_L2), ("binary", cv2.NORM_HAMMING)):
        a, b = PAIRS[name]
        left, right = (
            k.descriptors if a.binary else k.descriptors.astype(np.float32) for k in (a, b)
        )
        pairs = cv2.BFMatcher(norm).knnMatch(left, right, k=2)
        theirs = [[m.queryIdx, m.trainIdx] for m, n in pairs if m.distance < 0.9 * n.distance]
        assert ratio(a, b, max_ratio=0.9).tolist() == theirs
        assert theirs


@pytest.mark.parametrize("make", [rows, bits])
def test_few_or_no_keypoints(make: Callable[[int, int], NDArray[np.generic]]) -> None:
    none, one, many = (keypoints(make(1, count)) for count in (0, 1, 9))
    for a, b in ((none, many), (many, none), (none, none)):
        assert mutual(a, b, min_similarity=0.8).shape == ratio(a, b).shape == (0, 2)
    assert mutual(one, many, min_similarity=-1.0).tolist() == plain_mutual(one, many, -1.0)
    assert ratio(many, one).shape == (0, 2)  # nothing to compare the nearest with


def test_descriptors_of_two_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="64 × int8 and 32 × uint8"):
        mutual(keypoints(rows(1, 4)), keypoints(bits(1, 4)), min_similarity=0.8)
    with pytest.raises(ValueError, match="two methods"):
        ratio(keypoints(rows(1, 4)), keypoints(rows(1, 4, 128)))
    with pytest.raises(ValueError, match="two methods"):
        mutual(keypoints(rows(1, 0)), keypoints(bits(1, 4)), min_similarity=0.8)
