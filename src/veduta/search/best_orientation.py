"""Which orientation of a query to believe: as it is given, unless another one is better proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from veduta.photos.orientation import UPRIGHT, Orientation, orientation_named
from veduta.search.options import AUTO, check_orientation
from veduta.search.verdict import MIN_SAME_PROBABILITY, SAME_PLACE

if TYPE_CHECKING:
    from veduta.search.hit import Hit

__all__ = ["MIN_GAIN", "TURNS", "Attempt", "best_attempt"]

MIN_GAIN = 0.03
"""By how much the first similarity of a turned query must be higher than that of the query as it
is, if its answer is not convincing."""

MIN_LIKELY_PROBABILITY = 0.5
"""Such an answer must also have this probability. Photos of unknown things resemble some photo of
the collection a little more when they are turned, which means nothing."""

TURNS = tuple(Orientation(degrees) for degrees in (0, 90, 180, 270))
"""The orientations that a descriptor tells apart."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Attempt(Generic[Answer]):
    """The answer to a query in one orientation.

    Attributes:
        answer: any.
        convincing: whether it proves the orientation, so that no other one is tried.
        likely: whether it is more likely right than wrong, as far as that is known.
    """

    answer: Answer
    convincing: bool
    likely: bool = True

    @classmethod
    def of(
        cls,
        answer: Answer,
        hits: Sequence[Hit] | None,
        *,
        verified: bool,
        stands_out: bool = False,
    ) -> Attempt[Answer]:
        """Judge an answer by its first hit.

        With geometry, it is convincing if both photos show the same place. Without, a high
        probability or a similarity that stands out must do.

        Args:
            answer: any.
            hits: of the query in this orientation, best first. None: they have no evidence.
            verified: whether hits are verified by geometry.
            stands_out: see `veduta.search.reranking.Gallery.stands_out`. It does not count if hits
                are verified.
        """
        evidence = hits[0].evidence if hits else None
        if evidence is None:
            convincing = stands_out and not verified
            return cls(answer, convincing, likely=hits is None or len(hits) > 0)
        likelihood = evidence.probability
        likely = likelihood is None or likelihood >= MIN_LIKELY_PROBABILITY
        if verified:
            return cls(answer, evidence.verdict == SAME_PLACE, likely)
        high = likelihood is not None and likelihood >= MIN_SAME_PROBABILITY
        return cls(answer, high or stands_out, likely)


def best_attempt(
    orientation: str,
    attempt: Callable[[Orientation], Attempt[Answer]],
    similarity: Callable[[Orientation], float],
    *,
    verified: bool,
    min_gain: float = MIN_GAIN,
    is_promising: Callable[[Orientation], bool] = lambda _: True,
) -> Answer:
    """Return the answer to a query in the orientation that has the best evidence.

    The query as it is comes first. If its answer is convincing, nothing else is tried. Otherwise
    the turn is tried for which the first similarity is highest: turned photos resemble upright ones
    less. A descriptor hardly tells a photo from its mirror image, but keypoints do. So the mirror
    image of that turn is tried if hits are verified, and taken if its answer is convincing.

    Args:
        orientation: one of `veduta.search.ORIENTATIONS`.
        attempt: returns the answer in an orientation.
        similarity: returns the highest cosine similarity of the query in an orientation.
        verified: whether answers are verified by geometry. If not, mirror images are not tried.
        min_gain: by how much the similarity of a turn must be higher than that of the query as it
            is, if its answer is not convincing. Infinity: only a convincing answer is enough.
        is_promising: returns whether the answer in an orientation may be convincing. If not, the
            orientation is not tried where only a convincing answer would count. It is not asked if
            answers are not verified.

    Raises:
        QueryError: the orientation is unknown.
    """
    check_orientation(orientation)
    if orientation != AUTO:
        return attempt(orientation_named(orientation)).answer
    upright = attempt(UPRIGHT)
    if upright.convincing:
        return upright.answer
    similarities = {turn: similarity(turn) for turn in TURNS}
    turn = max(TURNS, key=similarities.__getitem__)  # Of equal ones the first: upright.
    is_nearer = similarities[turn] - similarities[UPRIGHT] >= min_gain
    turned = upright
    if turn.is_turned and (is_nearer or not verified or is_promising(turn)):
        turned = attempt(turn)
    if turned.convincing:
        return turned.answer
    mirror_image = Orientation(turn.degrees, mirrored=True)
    if verified and is_promising(mirror_image):
        mirrored = attempt(mirror_image)
        if mirrored.convincing:
            return mirrored.answer
    return turned.answer if is_nearer and turned.likely else upright.answer
