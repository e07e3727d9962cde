"""What a trained network is worth: the figures that a run's card holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClassificationFigures", "RetrievalFigures"]


@dataclass(frozen=True, slots=True)
class ClassificationFigures:
    """How well the photos of one split were classified; shares are in [0, 1].

    Attributes:
        photos: the number of photos.
        accuracy: the share of photos with the right class.
        balanced_accuracy: the mean recall of the classes that have photos.
        top3: the share of photos whose class is among the 3 most probable; None with at most 3
            classes or without scores.
        top10: the share of photos whose class is among the 10 most probable; None with at most 10
            classes or without scores.
        loss: the mean cross-entropy of the probabilities (natural logarithm), without label
            smoothing, margins and penalties; None without scores.
        reconstruction: the mean squared error of pixels in [0, 1]; None for a network that does not
            reconstruct.
        gap: the global average precision of the answers, surest first; None if it was not computed.
        unknown: the number of further photos that show none of the classes; the GAP alone counts
            them.
    """

    photos: int
    accuracy: float
    balanced_accuracy: float
    top3: float | None = None
    top10: float | None = None
    loss: float | None = None
    reconstruction: float | None = None
    gap: float | None = None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """How well test photos retrieve training photos of their class by the cosine of the features.

    Attributes:
        queries: test photos with a photo of their class in the gallery.
        unanswerable: test photos without one; they do not count.
        gallery: the number of training photos.
        top1: the share of queries whose first photo is of their class.
        top3: the share of queries with a photo of their class among the first 3.
        top10: the share of queries with a photo of their class among the first 10.
        map: the mean average precision over the whole gallery.
        top5: the share of queries with a photo of their class among the first 5; None in the cards
            of earlier versions.
    """

    queries: int
    unanswerable: int
    gallery: int
    top1: float
    top3: float
    top10: float
    map: float
    top5: float | None = None
