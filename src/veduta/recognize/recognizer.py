"""The recogniser of one labelled collection: trained, and sure of itself as far as it may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.keypoints import Keypoints
from veduta.recognize import held_out
from veduta.recognize.confidence import Confidence, fit
from veduta.recognize.labelled import Labelled
from veduta.recognize.linear import Linear, train
from veduta.recognize.methods import GEOMETRIC, METHODS, Asked
from veduta.search.reranking import Ranking

DEFAULTS = Path(__file__).with_name("defaults.json")
METHOD = "evidence"
PRECISION = 0.9

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a photo may show.

    Attributes:
        names: labels, likeliest first; empty when nothing speaks for any.
        confidences: (c,) that each is right, in [0, 1].
        ranking: the gallery photos that were looked at, nearest first.
    """

    names: tuple[str, ...]
    confidences: NDArray[np.float64]
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class Recognizer:
    """Names what photos show.

    Attributes:
        known: the labelled collection.
        linear: trained on it.
        method: one of `METHODS`.
        confidence: what the method's answers are worth.
        learned: whether that was learned from this collection, or is general experience since the
            collection has too few labelled photos.
    """

    known: Labelled
    linear: Linear
    method: str
    confidence: Confidence
    learned: bool

    @property
    def geometric(self) -> bool:
        """Whether the method asks for the keypoints of a photo."""
        return self.method in GEOMETRIC

    def answer(
        self, descriptor: NDArray[np.float32], keypoints: Sequence[Keypoints] = ()
    ) -> Answer:
        """Say what a photo may show.

        Args:
            descriptor: (d,) float32, of length one.
            keypoints: of the photo, or of several photos of one thing.
        """
        asked = Asked(
            descriptor=descriptor,
            keypoints=keypoints,
            linear=self.linear.scores(descriptor[None])[0],
            without=np.empty(0, np.intp),
        )
        found = METHODS[self.method](self.known, asked)
        confidences = self.confidence.of(found.features)
        order = np.argsort(-confidences, kind="stable")
        names = tuple(self.known.names[code] for code in found.codes[order].tolist())
        return Answer(names, confidences[order], found.ranking)


def learn(
    known: Labelled,
    method: str = METHOD,
    *,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Recognizer:
    """Train on a labelled collection, and fit confidence on questions that it asks itself.

    Args:
        known: the collection.
        method: one of `METHODS`.
        seed: of the choice of questions.
        on_progress: called with (done, total) questions.

    Raises:
        QueryError: no method has that name.
    """
    check(method)
    training = train(known)
    asked = held_out.questions(method, known, training, seed=seed, on_progress=on_progress)
    if any(q.right.any() for q in asked) and not all(q.right.any() for q in asked):
        return Recognizer(known, training.linear, method, fit(asked), learned=True)
    return Recognizer(known, training.linear, method, default_confidence(method), learned=False)


def check(method: str) -> None:
    """Raise `QueryError` unless `method` is one of `METHODS`."""
    if method not in METHODS:
        raise QueryError(f"{method!r} is no way to recognise. Known: {', '.join(METHODS)}.")


def default_confidence(method: str) -> Confidence:
    """Return what answers of a method are worth on collections in general.

    Fitted by `tools/fit_recognition.py`.
    """
    entry = _defaults()[method]
    return Confidence(tuple(entry["weights"]), tuple(entry["thresholds"]), entry["questions"])


@cache
def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = json.loads(DEFAULTS.read_text("utf-8"))
    return defaults
