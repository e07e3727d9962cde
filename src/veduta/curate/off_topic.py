"""Photos that are unlike the others of their class.

The measure is the cosine between a photo and the mean of the others of its class, its copies left
out, less the median of the class, since some classes are more varied than others. A photo is off
the topic when that is further below the lower quartile than 2.2 times the distance of the quartiles
(D. Hoaglin, B. Iglewicz, Fine-tuning some resistant rules for outlier labeling, 1987).
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

__all__ = ["FENCE", "OffTopic", "find_off_topic"]

FENCE = 2.2


@dataclass(frozen=True, slots=True)
class OffTopic:
    """A photo off the topic of its class.

    `place`
        among the members.
    `similarity`
        cosine to the mean of the others.
    `usual`
        the median of that in its class.
    `beyond`
        how far it is below the lower quartile, in distances of the quartiles; at least `FENCE`.
    """

    place: int
    similarity: float
    usual: float
    beyond: float


def find_off_topic(members: ClassMembers) -> list[OffTopic]:
    """Find the photos that are off the topic of their class, in the order of the members.

    Photos of classes with fewer than `ENOUGH` photos are not judged.
    """
    places = np.flatnonzero(members.judged)
    if not len(places):
        return []
    similar = _similarities(members)
    usual = np.zeros(len(members.names))
    codes = members.codes
    order = places[np.argsort(codes[places], kind="stable")]
    for some in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        usual[codes[some[0]]] = np.median(similar[some])
    away = similar[places] - usual[codes[places]]
    lower, upper = np.quantile(away, (0.25, 0.75))
    beyond = (lower - away) / max(upper - lower, 1e-9)
    return [
        OffTopic(
            int(place), float(similar[place]), float(usual[codes[place]]), float(beyond[number])
        )
        for number, place in enumerate(places)
        if beyond[number] >= FENCE
    ]


def _similarities(members: ClassMembers) -> NDArray[np.float64]:
    """Return (M,) cosines to the mean of the others of the class; 0 for photos of none."""
    sums = np.zeros((len(members.names), members.snapshot.dimension))
    for block in members.blocks():
        named = block[members.codes[block] != UNLABELLED]
        np.add.at(sums, members.codes[named], members.descriptors(named))
    of_copies = _sums_of_copies(members)
    similar = np.zeros(len(members.rows))
    for block in members.blocks():
        named = block[members.codes[block] != UNLABELLED]
        own = members.descriptors(named).astype(np.float64)
        others = sums[members.codes[named]] - own
        for at, place in enumerate(named.tolist()):
            if place in of_copies:
                others[at] = sums[members.codes[place]] - of_copies[place]
        lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(own, axis=1)
        similar[named] = np.einsum("nd,nd->n", own, others) / np.maximum(lengths, 1e-9)
    return similar


def _sums_of_copies(members: ClassMembers) -> Mapping[int, NDArray[np.float64]]:
    """Return for each photo with copies the sum of those that have its label, itself included."""
    found: dict[int, NDArray[np.float64]] = {}
    for group in members.copies:
        codes = members.codes[list(group)]
        rows = members.descriptors(group).astype(np.float64)
        for code in np.unique(codes[codes != UNLABELLED]).tolist():
            together = rows[codes == code].sum(axis=0)
            found |= {place: together for place in group if members.codes[place] == code}
    return found
