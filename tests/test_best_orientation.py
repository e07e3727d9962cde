"""Which orientation is believed, and what is tried for it, with made answers."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veduta.errors import QueryError
from veduta.photos.orientation import ALL_ORIENTATIONS, UPRIGHT, Orientation, orientation_named
from veduta.search import ORIENTATIONS
from veduta.search.best_orientation import MIN_GAIN, Attempt, best_attempt
from veduta.search.hit import Evidence, Hit

TURNS = ALL_ORIENTATIONS[:4]
similarities = st.lists(st.sampled_from([0.1, 0.2, 0.2 + MIN_GAIN, 0.5]), min_size=4, max_size=4)


class Trials:
    """A query whose answer in an orientation is the orientation itself."""

    def __init__(
        self,
        similarity: list[float],
        convincing: set[Orientation],
        unlikely: Collection[Orientation] = (),
        unpromising: Collection[Orientation] = (),
    ) -> None:
        self.unlikely = unlikely
        self.unpromising = unpromising
        self.similarity = dict(zip(TURNS, similarity, strict=True))
        self.convincing = convincing
        self.tried: list[Orientation] = []
        self.compared: list[Orientation] = []
        self.asked: list[Orientation] = []

    def attempt(self, orientation: Orientation) -> Attempt[Orientation]:
        self.tried.append(orientation)
        likely = orientation not in self.unlikely
        return Attempt(orientation, orientation in self.convincing, likely)

    def first_similarity(self, orientation: Orientation) -> float:
        self.compared.append(orientation)
        return self.similarity[orientation]

    def is_promising(self, orientation: Orientation) -> bool:
        self.asked.append(orientation)
        return orientation not in self.unpromising

    def best(self, name: str = "auto", *, verified: bool = True, gain: float = MIN_GAIN) -> str:
        return best_attempt(
            name,
            self.attempt,
            self.first_similarity,
            verified=verified,
            min_gain=gain,
            is_promising=self.is_promising,
        ).name


def test_a_convincing_answer_costs_nothing_more() -> None:
    trials = Trials([0.1, 0.9, 0.9, 0.9], set(ALL_ORIENTATIONS))
    assert trials.best() == "upright"
    assert trials.tried == [UPRIGHT] and not trials.compared


@pytest.mark.parametrize("name", ORIENTATIONS[1:])
def test_a_named_orientation_is_the_only_one(name: str) -> None:
    trials = Trials([0.1, 0.9, 0.9, 0.9], {UPRIGHT})
    assert trials.best(name) == name
    assert trials.tried == [orientation_named(name)] and not trials.compared


def test_an_unknown_orientation_is_refused() -> None:
    with pytest.raises(QueryError, match=r"no orientation '45'.*auto, upright, 90, 180"):
        Trials([0.1] * 4, set()).best("45")


def test_without_proof_a_turn_must_be_clearly_nearer() -> None:
    assert Trials([0.5, 0.2, 0.5, 0.5], set()).best() == "upright", "upright wins ties"
    nearly = 0.5 + MIN_GAIN - 1e-6
    assert Trials([0.5, 0.2, nearly, 0.1], set()).best() == "upright"
    assert Trials([0.5, 0.2, 0.5 + 2 * MIN_GAIN, 0.1], set()).best() == "180"
    assert Trials([0.1, 0.2, 0.9, 0.1], set()).best(gain=math.inf) == "upright"
    assert Trials([0.1, 0.2, 0.9, 0.1], set(), {Orientation(180)}).best() == "upright"


def test_proof_is_enough() -> None:
    nearly = [0.5, 0.2, 0.1, 0.5001]
    assert Trials(nearly, {Orientation(270)}).best(gain=math.inf) == "270"
    trials = Trials(nearly, {Orientation(270, mirrored=True)})
    assert trials.best(gain=math.inf) == "270-mirrored"
    assert [one.name for one in trials.tried] == ["upright", "270", "270-mirrored"]


def test_mirror_images_need_geometry() -> None:
    trials = Trials([0.5, 0.2, 0.1, 0.1], {Orientation(mirrored=True)})
    assert trials.best(verified=False) == "upright"
    assert trials.best(verified=True) == "mirrored"


def test_what_promises_nothing_is_not_tried() -> None:
    half, mirrored = Orientation(180), Orientation(180, mirrored=True)
    nearly = [0.5, 0.2, 0.51, 0.1]
    trials = Trials(nearly, {half, mirrored}, unpromising={half, mirrored})
    assert trials.best() == "upright"
    assert trials.tried == [UPRIGHT] and trials.asked == [half, mirrored]
    trials = Trials(nearly, {half, mirrored}, unpromising={half})
    assert trials.best() == "180-mirrored" and trials.tried == [UPRIGHT, mirrored]


def test_a_clearly_nearer_turn_is_tried_without_a_promise() -> None:
    half, mirrored = Orientation(180), Orientation(180, mirrored=True)
    clearly = [0.5, 0.2, 0.5 + 2 * MIN_GAIN, 0.1]
    trials = Trials(clearly, set(), unpromising={half, mirrored})
    assert trials.best() == "180"
    assert trials.tried == [UPRIGHT, half] and trials.asked == [mirrored]


def test_without_geometry_nothing_is_promised() -> None:
    half = Orientation(180)
    trials = Trials([0.5, 0.2, 0.51, 0.1], {half}, unpromising={half})
    assert trials.best(verified=False) == "180" and not trials.asked


some_orientations = st.sets(st.sampled_from(ALL_ORIENTATIONS))


@given(similarities, some_orientations, some_orientations, st.booleans())
def test_against_a_rule_written_in_another_way(
    similarity: list[float],
    convincing: set[Orientation],
    unlikely: set[Orientation],
    verified: bool,
) -> None:
    trials = Trials(similarity, convincing, unlikely)
    found = trials.best(verified=verified)
    highest = similarity.index(max(similarity))
    proved = [
        name
        for name, counts in (
            ("upright", True),
            (TURNS[highest].name, True),
            (Orientation(TURNS[highest].degrees, mirrored=True).name, verified),
        )
        if counts and orientation_named(name) in convincing
    ]
    clearly = similarity[highest] - similarity[0] >= MIN_GAIN and TURNS[highest] not in unlikely
    assert found == [*proved, TURNS[highest].name if clearly else "upright"][0]
    assert len(trials.tried) == len(set(trials.tried)) <= 3
    assert len(trials.compared) in (0, 4)


@pytest.mark.parametrize(
    ("evidence", "verified", "convincing", "likely"),
    [
        (None, False, False, True),
        (Evidence(0.95, 40, 60, "homography", 0.3), True, True, True),
        (Evidence(0.85, 40, 60, "homography", 0.3), True, False, True),
        (Evidence(0.95, 12, 60, None, 0.1), True, False, True),
        (Evidence(0.49, 12, 60, None, 0.1), True, False, False),
        (Evidence(0.95), True, False, True),
        (Evidence(0.95), False, True, True),
        (Evidence(0.85), False, False, True),
        (Evidence(0.3), False, False, False),
        (Evidence(None, 40, 60, "homography", 0.3), True, True, True),
        (Evidence(None, 12, 60, None, 0.3), True, False, True),
    ],
)
def test_an_answer_is_judged_by_its_first_hit(
    evidence: Evidence | None, verified: bool, convincing: bool, likely: bool
) -> None:
    hit = Hit("a.jpg", 0.9, 0.5, None, 4, 3, None, 1, evidence)
    assert Attempt.of(7, [hit], verified=verified) == Attempt(7, convincing, likely)


@pytest.mark.parametrize(
    ("evidence", "verified", "convincing"),
    [
        (None, False, True),
        (Evidence(0.3), False, True),
        (None, True, False),
        (Evidence(0.95, 12, 60, None, 0.1), True, False),
    ],
)
def test_a_similarity_that_stands_out_is_enough_without_geometry(
    evidence: Evidence | None, verified: bool, convincing: bool
) -> None:
    hit = Hit("a.jpg", 0.9, 0.5, None, 4, 3, None, 1, evidence)
    attempt = Attempt.of(7, [hit], verified=verified, stands_out=True)
    assert attempt.convincing == convincing


def test_no_hit_is_no_evidence() -> None:
    assert Attempt.of(7, [], verified=True) == Attempt(7, False, False)
    assert Attempt.of(7, None, verified=True) == Attempt(7, False, True)
