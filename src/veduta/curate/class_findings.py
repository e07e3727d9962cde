"""What comparing photos with their classes finds: wrong labels, and photos that are off topic.

A photo that resembles no class is off topic. The recogniser that looks for wrong labels knows which
class is the nearest, and can be sure of that for a photo of something else too. So another label is
suggested only if the photo also lies near that class, as its members do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from veduta.curate.class_members import MIN_CLASS_PHOTOS, ClassMembers, class_members
from veduta.curate.findings import Finding, doubt, photo_finding
from veduta.curate.groups import copy_groups
from veduta.curate.mislabelled import Mislabelled, find_mislabelled
from veduta.curate.off_topic import (
    MAX_NEAR_RANGES,
    MIN_OUTLIER_RANGES,
    ClassLikeness,
    Likeness,
    OffTopic,
    find_off_topic,
)
from veduta.datasets import Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.curate.copies import CopyPair
    from veduta.curate.described_photos import DescribedPhotos

__all__ = ["Doubted", "JudgedClasses", "class_findings", "judge_classes"]

_SPLITS_WITHOUT_CLASS = frozenset(("distractor", "unknown"))


def class_findings(
    dataset: Dataset,
    photos: DescribedPhotos,
    positions: NDArray[np.int64],
    pairs: Sequence[CopyPair],
) -> tuple[list[Finding], list[str]]:
    """Return the findings from comparing photos with their classes, and what was not looked for.

    Args:
        dataset: all photos.
        photos: the P readable ones, described.
        positions: (P,) positions of these in the dataset.
        pairs: copies and photos of the same view, as positions in the dataset. A photo is judged
            without those that it is paired with.
    """
    labels = [dataset.labels[position] for position in positions]
    compared = np.array(
        [
            row >= 0 and (label is not None or dataset.splits[position] in _SPLITS_WITHOUT_CLASS)
            for row, label, position in zip(photos.rows, labels, positions, strict=True)
        ],
        np.bool_,
    )
    chosen = np.flatnonzero(compared)
    group_of = np.full(len(dataset.paths), -1, np.int64)
    for number, group in enumerate(copy_groups(pairs, len(dataset.paths))):
        group_of[list(group)] = number
    members = class_members(
        photos.snapshot,
        photos.rows[chosen],
        [labels[number] for number in chosen],
        group_of[positions[chosen]],
    )
    if len(set(members.class_ids[members.judged].tolist())) < 2:
        note = (
            "off-topic and mislabelled photos: wanted two classes of "
            f"{MIN_CLASS_PHOTOS} photos or more, where copies count as one photo"
        )
        return [], [note]
    judged = judge_classes(members, photos.index)

    def position_of(member: int) -> int:
        return int(positions[chosen[member]])

    findings = [
        _mislabelled_finding(dataset, position_of(one.photo.member), one, members.names)
        for one in judged.of_another_class
    ]
    findings += [
        _no_class_finding(dataset, position_of(one.photo.member), one, members.names)
        for one in judged.of_no_class
    ]
    findings += [
        _off_topic_finding(dataset, position_of(one.member), one) for one in judged.off_topic
    ]
    return findings, []


class Doubted(NamedTuple):
    """A photo of which a recogniser is confident that it shows another class.

    Attributes:
        photo: what the recogniser says.
        own: its likeness to the class of its label.
        other: its likeness to the other class.
    """

    photo: Mislabelled
    own: Likeness
    other: Likeness


class JudgedClasses(NamedTuple):
    """The photos that do not fit into their class. No photo is in two of the lists.

    Attributes:
        of_another_class: those that lie near another class.
        of_no_class: those that a recogniser takes for another class, and that lie near neither.
        off_topic: further photos that are unlike their class.
    """

    of_another_class: list[Doubted]
    of_no_class: list[Doubted]
    off_topic: list[OffTopic]


def judge_classes(members: ClassMembers, index: Path) -> JudgedClasses:
    """Find the photos that do not fit into their class.

    Args:
        members: the photos, of two judged classes or more.
        index: the folder of the index that their snapshot is of.
    """
    likeness = ClassLikeness(members)
    doubted = [
        Doubted(one, likeness.to_own(one.member), likeness.to_class(one.member, one.suggested))
        for one in find_mislabelled(members, index)
    ]
    of_another_class = [one for one in doubted if one.other.is_near]
    of_no_class = [one for one in doubted if not one.other.is_near and not one.own.is_near]
    told = {one.photo.member for one in (*of_another_class, *of_no_class)}
    off_topic = [one for one in find_off_topic(members, likeness) if one.member not in told]
    return JudgedClasses(of_another_class, of_no_class, off_topic)


def _mislabelled_finding(
    dataset: Dataset, position: int, doubted: Doubted, names: Sequence[str]
) -> Finding:
    photo, own, other = doubted
    suggested = names[photo.suggested]
    reason = (
        f"similarity {other.similarity:.2f} to {suggested}, where {other.median_similarity:.2f} is "
        f"usual, and {own.similarity:.2f} to {dataset.labels[position]}; of these classes it is "
        f"{suggested} at {_percent(photo.probability)}, says a recogniser that has not seen it"
    )
    return photo_finding(
        dataset,
        position,
        "mislabelled",
        1 - photo.own_probability,
        reason,
        suggested_label=suggested,
        probability=photo.probability,
    )


def _percent(probability: float) -> str:
    # The label of no photo is certain.
    return f"{100 * probability:.0f} %" if probability < 0.995 else "more than 99 %"


def _no_class_finding(
    dataset: Dataset, position: int, doubted: Doubted, names: Sequence[str]
) -> Finding:
    """Return the finding of a photo that is like neither its class nor the nearest other one."""
    photo, own, other = doubted
    nearest = names[photo.suggested]
    reason = (
        f"like no class: similarity {own.similarity:.2f} to {dataset.labels[position]}, where "
        f"{own.median_similarity:.2f} is usual, and {other.similarity:.2f} to {nearest}, where "
        f"{other.median_similarity:.2f} is usual"
    )
    score = doubt(min(own.ranges, other.ranges) / MAX_NEAR_RANGES)
    return photo_finding(dataset, position, "off-topic", score, reason)


def _off_topic_finding(dataset: Dataset, position: int, photo: OffTopic) -> Finding:
    own = photo.likeness
    reason = (
        f"similarity {own.similarity:.2f} to the rest of {dataset.labels[position]}, where "
        f"{own.median_similarity:.2f} is usual"
    )
    return photo_finding(
        dataset, position, "off-topic", doubt(own.ranges / MIN_OUTLIER_RANGES), reason
    )
