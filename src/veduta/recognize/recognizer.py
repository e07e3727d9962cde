"""A trained recogniser of one labelled collection, with its calibrated confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.keypoints import Keypoints
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.recognize.confidence import Confidence, StoredConfidence, fit
from veduta.recognize.held_out import held_out_examples, what_is_missing
from veduta.recognize.labelled_gallery import LabelledGallery
from veduta.recognize.linear import LinearClassifier, train
from veduta.recognize.methods import GEOMETRIC, METHODS, RecognitionQuery, check_method
from veduta.recognize.unknown import Answer
from veduta.search import VERIFIED_PHOTOS, EncodedQuery, hits_of
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.options import AUTO
from veduta.search.query_views import QueryViews
from veduta.validation import read_json

__all__ = [
    "DEFAULTS_FILE",
    "METHOD",
    "PRECISION",
    "WITHOUT_BACKGROUND",
    "WITH_BACKGROUND",
    "Recognizer",
    "default_confidence",
    "fit_recognizer",
]

DEFAULTS_FILE = Path(__file__).with_name("defaults.json")
WITH_BACKGROUND, WITHOUT_BACKGROUND = "with background", "without background"
"""The parts of that file."""

METHOD = "evidence"
PRECISION = 0.9

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A trained recogniser.

    Attributes:
        labelled: the labelled collection.
        linear: the linear classifier that was trained on it.
        method: one of `METHODS`.
        confidence: turns the evidence of the method into probabilities.
        learned: whether the confidence was fitted on this collection. If not, the confidence is
            that of other collections, and `why_not_learned` says why.
    """

    labelled: LabelledGallery
    linear: LinearClassifier
    method: str
    confidence: Confidence
    learned: bool

    @property
    def why_not_learned(self) -> str | None:
        """Why the confidence is that of other collections, as a sentence; None: it is not."""
        if self.learned:
            return None
        # The last reason is for a collection none of whose held-out photos got the right name.
        missing = what_is_missing(self.labelled) or "held-out photos that get their name are needed"
        sentence = f"The confidence is that of other collections. To fit it to this one, {missing}."
        strangers_unknown = len(self.labelled.names) < 3 and not len(self.labelled.outsiders)
        if strangers_unknown and not len(self.labelled.background):
            sentence += (
                " Veduta does not know how other things look to the encoder of this index, so "
                "photos of them may get a name: index such photos too, without a label."
            )
        return sentence

    @property
    def geometric(self) -> bool:
        """Whether the method uses the keypoints of a photo."""
        return self.method in GEOMETRIC

    def answer(
        self, descriptor: NDArray[np.float32], keypoints: Sequence[Keypoints] = ()
    ) -> Answer:
        """Return the labels that a photo may have.

        Args:
            descriptor: (d,) float32, of length one.
            keypoints: of the photo, or of several photos of one thing.

        Returns:
            The labels with their confidences, likeliest first.
        """
        query = RecognitionQuery(
            descriptor=descriptor,
            keypoints=keypoints,
            linear_scores=self.linear.scores(descriptor[None])[0],
            excluded_rows=np.empty(0, np.intp),
        )
        candidates = METHODS[self.method](self.labelled, query)
        confidences = self.confidence.probabilities(candidates.features)
        order = np.argsort(-confidences, kind="stable")
        names = tuple(
            self.labelled.names[class_id] for class_id in candidates.class_ids[order].tolist()
        )
        return Answer(names, confidences[order], candidates.ranking)

    def answer_in_orientation(
        self, views: QueryViews, orientation: str
    ) -> tuple[Answer, EncodedQuery]:
        """Return the labels that a photo may have, in the orientation in which it fits best.

        With "auto" only geometry turns the photo: a first hit with the verdict "same place". A
        higher similarity is not enough here: the best of several answers is a name more often than
        each of them, and a photo of something unknown must stay without a name. So a method or an
        index without geometry takes the photo as it is.

        Args:
            views: the photo, or several photos of one thing.
            orientation: one of `veduta.search.ORIENTATIONS`.

        Returns:
            The answer, and the query that it is for.

        Raises:
            PhotoError: a photo cannot be read.
            QueryError: the orientation is unknown.
        """
        snapshot = self.labelled.gallery.snapshot
        if orientation == AUTO and not views.verified:
            orientation = UPRIGHT.name

        def attempt(turn: Orientation) -> Attempt[tuple[Answer, EncodedQuery]]:
            query = views.encoded(turn)
            answer = self.answer(query.descriptor, query.keypoints)
            hits = hits_of(snapshot, answer.ranking, 1, query)
            return Attempt.of((answer, query), hits, verified=views.verified)

        return best_attempt(
            orientation,
            attempt,
            partial(views.first_similarity, snapshot),
            verified=views.verified,
            min_gain=math.inf,
            is_promising=partial(views.is_promising, self.labelled.gallery, VERIFIED_PHOTOS),
        )


def fit_recognizer(
    labelled: LabelledGallery,
    method: str = METHOD,
    *,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Recognizer:
    """Train on a labelled collection, and fit the confidence on its own held-out photos.

    Args:
        labelled: the collection.
        method: one of `METHODS`.
        seed: for the choice of held-out photos.
        on_progress: called with (done, total) held-out photos.

    Returns:
        The recogniser.

    Raises:
        QueryError: no method has that name.
    """
    check_method(method)
    training = train(labelled)
    examples = held_out_examples(method, labelled, training, seed=seed, on_progress=on_progress)
    has_answer = [bool(example.right.any()) for example in examples]
    if any(has_answer) and not all(has_answer):
        return Recognizer(labelled, training.linear, method, fit(examples), learned=True)
    confidence = default_confidence(method, background=len(labelled.background) > 0)
    return Recognizer(labelled, training.linear, method, confidence, learned=False)


def default_confidence(method: str, *, background: bool) -> Confidence:
    """Return the confidence of a method on collections in general.

    It was fitted by `tools/fit_recognition.py`.

    Args:
        method: one of `METHODS`.
        background: whether the collection is told from a background.

    Returns:
        The fitted confidence.
    """
    return _defaults()[WITH_BACKGROUND if background else WITHOUT_BACKGROUND][method].confidence()


@cache
def _defaults() -> dict[str, dict[str, StoredConfidence]]:
    return read_json(DEFAULTS_FILE, dict[str, dict[str, StoredConfidence]])
