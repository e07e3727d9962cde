"""Score submissions to the two tasks of the Google Landmarks Dataset v2.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2: A Large-Scale Benchmark for Instance-Level
Recognition and Retrieval", CVPR 2020, and the rules of its two competitions.

Retrieval, mAP@100:

- Of each list the first 100 count. Precision at each right photo is summed, over the number of
  right photos or 100, whichever is less.
- A photo that is listed again counts as wrong and keeps its rank.
- A query that the submission lacks, or has an empty list for, scores 0.

Recognition, GAP:

- A prediction is right if it is any of the landmarks of its query.
- All predictions go into one list by confidence, equal ones by the query's id. A prediction for a
  query without a landmark is wrong. The sum of the precision at the right ones is divided by the
  number of queries that have a landmark, so that a query without a prediction scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import (
    RESAMPLES,
    bootstrap_intervals,
    bootstrap_statistic,
    percentile_intervals,
)
from veduta.evaluation.figures import Interval
from veduta.evaluation.metrics import average_precision_at
from veduta.evaluation.open_set import gap_statistic, global_average_precision

__all__ = [
    "LandmarkRecognition",
    "LandmarkRetrieval",
    "landmark_recognition",
    "landmark_retrieval",
]

_Truth = TypeVar("_Truth")

_COUNTED_PHOTOS = 100
_LISTED_IDS = 3


@dataclass(frozen=True, slots=True)
class LandmarkRetrieval:
    """The score of a retrieval.

    Attributes:
        map100: in [0, 1].
        map100_interval: its 95 % bootstrap interval over queries.
        queries: how many the mean is over.
        missing: how many of these have no list in the submission.
        queries_without_positives: how many more the solution has, with no right photo.
        ap100: query id → its value, for those in the mean.
    """

    map100: float
    map100_interval: Interval
    queries: int
    missing: int
    queries_without_positives: int
    ap100: Mapping[str, float] = field(repr=False)

    def as_json(self) -> dict[str, object]:
        """Return the figures, without those of each query, as JSON types."""
        return {
            "map100": self.map100,
            "map100_interval": list(self.map100_interval),
            "queries": self.queries,
            "missing": self.missing,
            "queries_without_positives": self.queries_without_positives,
        }


@dataclass(frozen=True, slots=True)
class LandmarkRecognition:
    """The score of a recognition.

    Attributes:
        gap: in [0, 1].
        gap_interval: its 95 % bootstrap interval over queries.
        accuracy: of the queries with a landmark, the share that is predicted right.
        queries: how many the solution has.
        with_landmark: how many of these have a landmark.
        predicted: how many have a prediction.
    """

    gap: float
    gap_interval: Interval
    accuracy: float
    queries: int
    with_landmark: int
    predicted: int

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, as JSON types."""
        return {
            "gap": self.gap,
            "gap_interval": list(self.gap_interval),
            "accuracy": self.accuracy,
            "queries": self.queries,
            "with_landmark": self.with_landmark,
            "predicted": self.predicted,
        }


def landmark_retrieval(
    submission: Mapping[str, Sequence[str]],
    solution: Mapping[str, AbstractSet[str] | Sequence[str]],
    *,
    ignored: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LandmarkRetrieval:
    """Return the mAP@100 of a submission.

    Args:
        submission: query id → ids of index photos, best first.
        solution: query id → the ids of its right photos.
        ignored: ids of queries that take no part, such as those of usage "Ignored".
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The score.

    Raises:
        DatasetError: the submission has a query that the solution lacks, or no query of the
            solution has a right photo.
    """
    truths = _without(solution, ignored)
    _check_known(submission, truths, ignored)
    ap100: dict[str, float] = {}
    for query, photos in truths.items():
        if right := frozenset(photos):
            listed = submission.get(query, ())[:_COUNTED_PHOTOS]
            seen: set[str] = set()
            relevant = []
            for photo in listed:
                relevant.append(photo in right and photo not in seen)
                seen.add(photo)
            ap100[query] = average_precision_at(relevant, _COUNTED_PHOTOS, len(right))
    if not ap100:
        raise DatasetError(f"none of the {len(truths)} queries of the solution has a right photo")
    values = np.array(list(ap100.values()))
    low, high = bootstrap_intervals(values[:, None], resamples=resamples, seed=seed)[0].tolist()
    return LandmarkRetrieval(
        map100=float(values.mean()),
        map100_interval=(low, high),
        queries=len(ap100),
        missing=sum(not submission.get(query) for query in ap100),
        queries_without_positives=len(truths) - len(ap100),
        ap100=ap100,
    )


def landmark_recognition(
    submission: Mapping[str, tuple[str, float] | None],
    solution: Mapping[str, AbstractSet[str]],
    *,
    ignored: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LandmarkRecognition:
    """Return the GAP of a submission.

    Args:
        submission: query id → the predicted landmark and the confidence in it, or None.
        solution: query id → its landmarks, empty if the photo shows none.
        ignored: ids of queries that take no part, such as those of usage "Ignored".
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The score.

    Raises:
        DatasetError: the submission has a query that the solution lacks or a confidence that is
            NaN, or no query of the solution has a landmark.
    """
    truths = _without(solution, ignored)
    _check_known(submission, truths, ignored)
    queries = sorted(truths)
    answerable = np.array([bool(truths[query]) for query in queries], np.bool_)
    if not answerable.any():
        raise DatasetError(f"none of the {len(queries)} queries of the solution has a landmark")
    predicted = np.zeros(len(queries), np.bool_)
    right = np.zeros(len(queries), np.bool_)
    confidences = np.full(len(queries), -math.inf)
    for row, query in enumerate(queries):
        if (prediction := submission.get(query)) is not None:
            landmark, confidences[row] = prediction
            predicted[row], right[row] = True, landmark in truths[query]
            if math.isnan(confidences[row]):
                raise DatasetError(f"the confidence of query {query} is NaN; wanted a number")
    statistic = gap_statistic(confidences, right, answerable, predicted)
    drawn = bootstrap_statistic(statistic, len(queries), resamples=resamples, seed=seed)
    low, high = percentile_intervals(drawn)[0].tolist()
    with_landmark = int(answerable.sum())
    return LandmarkRecognition(
        gap=global_average_precision(confidences[predicted], right[predicted], with_landmark),
        gap_interval=(low, high),
        accuracy=float(right.sum() / with_landmark),
        queries=len(queries),
        with_landmark=with_landmark,
        predicted=int(predicted.sum()),
    )


def _without(solution: Mapping[str, _Truth], ignored: Collection[str]) -> dict[str, _Truth]:
    left_out = frozenset(ignored)
    return {query: truth for query, truth in solution.items() if query not in left_out}


def _check_known(
    submission: Mapping[str, object], solution: Mapping[str, object], ignored: Collection[str]
) -> None:
    unknown = sorted(submission.keys() - solution.keys() - frozenset(ignored))
    if unknown:
        more = f" and {len(unknown) - _LISTED_IDS:,} more" if len(unknown) > _LISTED_IDS else ""
        raise DatasetError(
            f"the submission answers {', '.join(unknown[:_LISTED_IDS])}{more}, which the solution "
            "does not have; check that both are of the same set of queries"
        )
