"""Photos that are unlike the other photos of their class.

The measure is the cosine similarity of a photo to the mean of the other photos of a class, without
its copies. The median of the class is subtracted, because some classes are more varied than others.
A photo is off topic if this difference is below the lower quartile by more than 2.2 times the
interquartile range (D. Hoaglin, B. Iglewicz, Fine-tuning some resistant rules for outlier labeling,
1987).

A photo lies near a class if the difference is below the lower quartile by at most 1.5 times the
interquartile range (J. Tukey, Exploratory data analysis, 1977). Of normally distributed values,
99.6 % are that high.
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

__all__ = [
    "MAX_NEAR_RANGES",
    "MIN_OUTLIER_RANGES",
    "ClassLikeness",
    "Likeness",
    "OffTopic",
    "find_off_topic",
]

MIN_OUTLIER_RANGES = 2.2
"""Interquartile ranges below the lower quartile from which on a photo is an outlier."""

MAX_NEAR_RANGES = 1.5
"""Interquartile ranges below the lower quartile up to which a photo lies near a class."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much a photo is like the photos of a class.

    Attributes:
        similarity: cosine similarity to the mean of the photos of the class, without the photo and
            its copies.
        median_similarity: the median of that in the class.
        ranges: how far it is below the lower quartile, in interquartile ranges; negative above it.
    """

    similarity: float
    median_similarity: float
    ranges: float

    @property
    def is_near(self) -> bool:
        """Whether the photo lies near the class."""
        return self.ranges <= MAX_NEAR_RANGES


@dataclass(frozen=True, slots=True)
class OffTopic:
    """A photo that is off the topic of its class.

    Attributes:
        member: position of the photo among the members.
        likeness: to its class.
    """

    member: int
    likeness: Likeness


class ClassLikeness:
    """How much photos are like the photos of classes, compared with the members of these."""

    def __init__(self, members: ClassMembers) -> None:
        """Compute the quartiles in two passes over the descriptors.

        Args:
            members: the photos of all classes. At least one is judged.
        """
        self._members = members
        self._sums = _class_sums(members)
        self._copies_of = {member: group for group in members.copies for member in group}
        class_ids = members.class_ids
        self._own = _own_similarities(members, self._sums)
        self._medians = np.zeros(len(members.names))
        judged = np.flatnonzero(members.judged)
        by_class = judged[np.argsort(class_ids[judged], kind="stable")]
        for photos in np.split(by_class, np.flatnonzero(np.diff(class_ids[by_class])) + 1):
            self._medians[class_ids[photos[0]]] = np.median(self._own[photos])
        difference = self._own[judged] - self._medians[class_ids[judged]]
        lower, upper = np.quantile(difference, (0.25, 0.75))
        self._lower, self._range = float(lower), max(float(upper - lower), 1e-9)

    def to_own(self, member: int) -> Likeness:
        """Return how much a photo is like its class.

        Args:
            member: position of a photo of a judged class.
        """
        return self._likeness(float(self._own[member]), int(self._members.class_ids[member]))

    def to_class(self, member: int, class_id: int) -> Likeness:
        """Return how much a photo is like another class.

        Args:
            member: position of the photo.
            class_id: a judged class, without the photo.
        """
        members = self._members
        total = self._sums[class_id]
        copies = [
            copy for copy in self._copies_of.get(member, ()) if members.class_ids[copy] == class_id
        ]
        if copies:
            total = total - members.descriptors(copies).astype(np.float64).sum(axis=0)
        own = members.descriptors([member])[0].astype(np.float64)
        lengths = float(np.linalg.norm(total) * np.linalg.norm(own))
        return self._likeness(float(own @ total) / max(lengths, 1e-9), class_id)

    def _likeness(self, similarity: float, class_id: int) -> Likeness:
        median = float(self._medians[class_id])
        ranges = (self._lower - (similarity - median)) / self._range
        return Likeness(similarity, median, ranges)


def find_off_topic(members: ClassMembers, likeness: ClassLikeness) -> list[OffTopic]:
    """Find the photos that are off the topic of their class, in the order of the members.

    Photos of classes with fewer than `MIN_CLASS_PHOTOS` photos are not judged.

    Args:
        members: the photos of all classes.
        likeness: of these members.
    """
    found = (
        OffTopic(member, likeness.to_own(member))
        for member in np.flatnonzero(members.judged).tolist()
    )
    return [one for one in found if one.likeness.ranges >= MIN_OUTLIER_RANGES]


def _class_sums(members: ClassMembers) -> NDArray[np.float64]:
    """Return (C, d) sums of the descriptors of each class."""
    sums = np.zeros((len(members.names), members.snapshot.dimension))
    for block in members.blocks():
        labelled = block[members.class_ids[block] != UNLABELLED]
        np.add.at(sums, members.class_ids[labelled], members.descriptors(labelled))
    return sums


def _own_similarities(members: ClassMembers, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (M,) similarities to the mean of the others of the class; 0 for photos of no class."""
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
