"""The photos of a review: numbered, in classes, the most doubtful of each class first."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from veduta.curate.review_decisions import Decision
from veduta.curate.suspicions import Suspicion
from veduta.datasets import Dataset
from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable

__all__ = ["Album", "AlbumClass", "AlbumPhoto", "arrange"]


@dataclass(frozen=True, slots=True)
class AlbumPhoto:
    """One photo: `path` is relative to the root, `suspicions` has the surest first.

    `split` is "" where the dataset has none.
    """

    path: str
    label: str | None
    suspicions: Sequence[Suspicion] = ()
    split: str = ""

    @property
    def suggestion(self) -> Decision | None:
        """What the surest finding that wants a change suggests; else what any suggests."""
        given = [one.suggestion for one in self.suspicions if one.suggestion is not None]
        changes = (decision for decision in given if decision.verdict != "keep")
        return next(changes, given[0] if given else None)

    @property
    def doubt(self) -> tuple[bool, float]:
        """What to sort by: photos to change come before those to look at, then the surest."""
        suggestion = self.suggestion
        changes = suggestion is not None and suggestion.verdict != "keep"
        return changes, max((one.score for one in self.suspicions), default=-inf)


@dataclass(frozen=True, slots=True)
class AlbumClass:
    """The photos of one label (None: those without), by number."""

    label: str | None
    photos: Sequence[int]


@dataclass(frozen=True, slots=True)
class Album:
    """All of it. `labels`: what a photo can be relabelled as, without typing."""

    root: Path
    photos: Sequence[AlbumPhoto]
    classes: Sequence[AlbumClass]
    labels: Sequence[str]
    problems: Sequence[str]


def arrange(
    dataset: Dataset, found: Mapping[str, Sequence[Suspicion]], label: str | None = None
) -> Album:
    """Return the photos of a dataset in the order of their review; `label`: of this class only.

    Findings about photos that are not in the dataset become problems.

    Raises `DatasetError` for a label that no photo has.
    """
    paths, labels = dataset.paths, dataset.labels
    photos = []
    members: dict[str | None, list[int]] = {}
    for number, (path, own, split) in enumerate(zip(paths, labels, dataset.splits, strict=True)):
        photos.append(AlbumPhoto(path, own, found.get(posixpath.normpath(path), ()), split))
        members.setdefault(own, []).append(number)
    names = sorted(name for name in members if name is not None)
    if label is not None and label not in members:
        raise DatasetError(
            f"{readable(dataset.root)}: no photo is labelled {label!r}; it has {some_of(names)}"
        )
    order: list[str | None] = [*names, *([None] if None in members else [])]
    classes = [
        AlbumClass(
            name, sorted(members[name], key=lambda number: photos[number].doubt, reverse=True)
        )
        for name in order
        if label is None or name == label
    ]
    strangers = found.keys() - {posixpath.normpath(path) for path in paths}
    problems = list(dataset.problems)
    if strangers:
        problems.append(
            f"{len(strangers)} photos of the findings are not in the dataset "
            f"({some_of(sorted(strangers))})"
        )
    return Album(dataset.root, photos, classes, names, problems)
