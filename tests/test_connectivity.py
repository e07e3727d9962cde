"""Parts of a graph, against a slow form from the definition, and the promise about one link."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from veduta.explore.connectivity import parts_of_graph

Pairs = list[tuple[int, int]]

LINKS = st.sets(st.sampled_from(list(combinations(range(9), 2))), max_size=14).map(sorted)


def parts(pairs: Pairs, strengths: list[int] | None = None) -> list[list[int]]:
    links = np.array(pairs, np.int64).reshape(-1, 2)
    return parts_of_graph(links, np.array(strengths or [1] * len(pairs), np.int64))


def connected(photos: set[int], pairs: Pairs) -> list[set[int]]:
    """Connected parts by repeated merging."""
    found = [{photo} for photo in photos]
    for a, b in pairs:
        touched = [part for part in found if a in part or b in part]
        found = [part for part in found if part not in touched] + [set().union(*touched)]
    return found


def without_bridges(pairs: Pairs) -> Pairs:
    """Remove each link whose removal leaves two parts of two photos or more."""
    photos = {photo for pair in pairs for photo in pair}
    kept = []
    for pair in pairs:
        left = connected(photos, [other for other in pairs if other != pair])
        sides = [part for part in left if part & set(pair)]
        if len(sides) == 1 or min(map(len, sides)) == 1:
            kept.append(pair)
    return kept


def circle(first: int, number: int) -> Pairs:
    photos = range(first, first + number)
    return sorted((min(a, b), max(a, b)) for a, b in zip(photos, [*photos[1:], first], strict=True))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], []),
        ([(0, 1)], [[0, 1]]),
        ([(0, 1), (1, 2)], [[0, 1, 2]]),
        ([(0, 1), (1, 2), (2, 3)], [[0, 1], [2, 3]]),
        ([*circle(0, 3), (2, 3), *circle(3, 3)], [[0, 1, 2], [3, 4, 5]]),
        ([*circle(0, 3), (1, 3), (2, 3), *circle(3, 3)], [[0, 1, 2, 3, 4, 5]]),
        ([*circle(0, 3), (2, 7)], [[0, 1, 2, 7]]),
    ],
    ids=["nothing", "pair", "chain of 3", "chain of 4", "one link", "two links", "a photo more"],
)
def test_by_hand(pairs: Pairs, expected: list[list[int]]) -> None:
    assert parts(sorted(pairs)) == expected


def test_a_photo_without_its_bridges_stays_with_its_strongest_link() -> None:
    chain = [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert parts(chain, [9, 5, 7, 9]) == [[0, 1], [2, 3, 4]]
    assert parts(chain, [9, 7, 5, 9]) == [[0, 1, 2], [3, 4]]
    assert parts(chain, [9, 6, 6, 9]) == [[0, 1, 2], [3, 4]], "of equal ones the first"


@given(LINKS, st.data())
def test_as_by_definition(pairs: Pairs, data: st.DataObject) -> None:
    strengths = data.draw(st.permutations(range(1, len(pairs) + 1)))
    photos = {photo for pair in pairs for photo in pair}
    kept = without_bridges(pairs)
    alone = {photo for part in connected(photos, kept) if len(part) == 1 for photo in part}

    def strongest(photo: int, others: set[int]) -> Pairs:
        own = [at for at, pair in enumerate(pairs) if photo in pair and {*pair} - {photo} <= others]
        return [pairs[max(own, key=lambda at: strengths[at])]] if own else []

    to_parts = {photo: strongest(photo, photos - alone) for photo in alone}
    to_alone = {photo: strongest(photo, alone) for photo in alone}
    for photo in alone:
        kept += to_parts[photo]
        for pair in to_alone[photo]:
            if all(to_alone[end] == [pair] and not to_parts[end] for end in pair):
                kept.append(pair)
    found = [part for part in connected(photos, kept) if len(part) > 1]
    assert parts(pairs, list(strengths)) == sorted(map(sorted, found))


def test_a_chain_of_photos_without_their_bridges_joins_no_parts() -> None:
    """The wrong link from 0 to 10 is the strongest of 10, and that from 10 is the first of 11."""
    chain = [(0, 1), (0, 10), (10, 11), (11, 12), (12, 13)]
    assert parts(chain, [1, 99, 1, 1, 1]) == [[0, 1, 10], [11, 12, 13]]


@given(LINKS, LINKS, st.data())
def test_one_link_joins_no_two_parts(one: Pairs, other: Pairs, data: st.DataObject) -> None:
    """Two collections, and one wrong link between them, as strong as any."""
    moved = [(a + 10, b + 10) for a, b in other]
    wrong = (data.draw(st.integers(0, 8)), data.draw(st.integers(10, 18)))
    pairs = sorted([*one, *moved, wrong])
    strengths = [data.draw(st.integers(1, 3)) if pair != wrong else 99 for pair in pairs]
    for part in parts(pairs, strengths):
        sides = [{photo for photo in part if (photo < 10) == side} for side in (True, False)]
        # A photo may be at the wrong place, but no two parts that held together are one now.
        held = [
            sum(len(set(before) & side) > 1 for before in parts(links))
            for links, side in ((one, sides[0]), (moved, sides[1]))
        ]
        assert min(held) == 0 or min(map(len, sides)) <= 1


@given(LINKS, st.randoms(use_true_random=False))
def test_numbers_do_not_matter(pairs: Pairs, random) -> None:
    """With strengths that all differ, other numbers of the photos give the same parts."""
    number = list(range(9))
    random.shuffle(number)
    strengths = list(range(1, len(pairs) + 1))
    renamed = [tuple(sorted((number[a], number[b]))) for a, b in pairs]
    order = sorted(range(len(pairs)), key=renamed.__getitem__)
    found = parts([renamed[at] for at in order], [strengths[at] for at in order])
    expected = [sorted(number[photo] for photo in part) for part in parts(pairs, strengths)]
    assert found == sorted(expected)


def test_a_large_place_is_one_part() -> None:
    photos: NDArray[np.int64] = np.arange(5000)
    pairs = np.concatenate([np.stack([photos[:-k], photos[k:]], axis=1) for k in (1, 2)])
    (part,) = parts_of_graph(pairs[np.lexsort(pairs.T[::-1])], np.ones(len(pairs), np.int64))
    assert len(part) == 5000
