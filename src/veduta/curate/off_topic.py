"""Photos that are unlike the other photos of their class.

The measure is the cosine similarity of a photo to the mean of the other photos of its class,
without its copies. The median of the class is subtracted, because some classes are more varied than
others. A photo is off topic if this difference is below the lower quartile by more than 2.2 times
the interquartile range (D. Hoaglin, B. Iglewicz, Fine-tuning some resistant rules for outlier
labeling, 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.recognize.labelled_gallery import UNLABELLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.curate.class_members import ClassMembers

__all__ = ["MIN_OUTLIER_RANGES", "OffTopic", "find_off_topic"]

MIN_OUTLIER_RANGES = 2.2
"""Interquartile ranges below the lower quartile from which on a photo is an outlier."""


@dataclass(frozen=True, slots=True)
class OffTopic:
    """A photo that is off the topic of its class.

    Attributes:
        member: position of the photo among the members.
        similarity: cosine similarity to the mean of the other photos of its class.
        median_similarity: the median of that in its class.
        ranges: how far it is below the lower quartile, in interquartile ranges; at least
            `MIN_OUTLIER_RANGES`.
    """

    member: int
    similarity: float
    median_similarity: float
    ranges: float


def find_off_topic(members: ClassMembers) -> list[OffTopic]:
    """Find the photos that are off the topic of their class, in the order of the members.

    Photos of classes with fewer than `MIN_CLASS_PHOTOS` photos are not judged.

    Args:
        members: the photos of all classes.
    """
    judged = np.flatnonzero(members.judged)
    if not len(judged):
        return []
    similarity = _similarities(members)
    median = np.zeros(len(members.names))
    class_ids = members.class_ids
    by_class = judged[np.argsort(class_ids[judged], kind="stable")]
    for photos in np.split(by_class, np.flatnonzero(np.diff(class_ids[by_class])) + 1):
        median[class_ids[photos[0]]] = np.median(similarity[photos])
    difference = similarity[judged] - median[class_ids[judged]]
    lower, upper = np.quantile(difference, (0.25, 0.75))
    ranges = (lower - difference) / max(upper - lower, 1e-9)
    return [
        OffTopic(
            member=int(member),
            similarity=float(similarity[member]),
            median_similarity=float(median[class_ids[member]]),
            ranges=float(ranges[number]),
        )
        for number, member in enumerate(judged)
        if ranges[number] >= MIN_OUTLIER_RANGES
    ]


def _similarities(members: ClassMembers) -> NDArray[np.float64]:
    """Return (M,) similarities to the mean of the others of the class; 0 for photos of no class."""
    sums = np.zeros((len(members.names), members.snapshot.dimension))
    for block in members.blocks():
        labelled = block[members.class_ids[block] != UNLABELLED]
        np.add.at(sums, members.class_ids[labelled], members.descriptors(labelled))
    copy_sums = _copy_sums(members)
    similarities = np.zeros(len(members.rows))
    for block in members.blocks():
        labelled = block[members.class_ids[block] != UNLABELLED]
        own = members.descriptors(labelled).astype(np.float64)
        others = sums[members.class_ids[labelled]] - own
        for row, member in enumerate(labelled.tolist()):
            if member in copy_sums:
                others[row] = sums[members.class_ids[member]] - copy_sums[member]
        lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(own, axis=1)
        similarities[labelled] = np.einsum("nd,nd->n", own, others) / np.maximum(lengths, 1e-9)
    return similarities


def _copy_sums(members: ClassMembers) -> Mapping[int, NDArray[np.float64]]:
    """Return for each photo with copies the sum of those with its label, including itself."""
    sums: dict[int, NDArray[np.float64]] = {}
    for group in members.copies:
        class_ids = members.class_ids[list(group)]
        rows = members.descriptors(group).astype(np.float64)
        for class_id in np.unique(class_ids[class_ids != UNLABELLED]).tolist():
            total = rows[class_ids == class_id].sum(axis=0)
            sums |= {member: total for member in group if members.class_ids[member] == class_id}
    return sums
