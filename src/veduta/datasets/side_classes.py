"""Classes that are none: photos among the class folders that show nothing that is looked for.

Public sets keep them in a folder beside the classes ("confusion_classes", "distractors", "none").
Read as a class, they would be right answers to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable

__all__ = ["with_side_classes"]


def with_side_classes(
    dataset: Dataset, *, distractors: Sequence[str] = (), unknown: Sequence[str] = ()
) -> Dataset:
    """Return the dataset with the photos of these classes as distractors and as unknown queries.

    Gallery photos of a class in `distractors` get the split `distractor`, queries of a class in
    `unknown` the split `unknown`, and both lose their label. In an unsplit dataset both work on
    all photos of the class.

    Raises `DatasetError` when a class is not there, when it is in both lists of an unsplit dataset,
    and when a split dataset has the class on the other side too and the other list does not name
    it: there it would still be a class.
    """
    if not distractors and not unknown:
        return dataset
    paths, labels, splits = (dataset.table[name].to_pylist() for name in ("path", "label", "split"))
    root = readable(dataset.root)
    named = {"distractor": frozenset(distractors), "unknown": frozenset(unknown)}
    missing = sorted((named["distractor"] | named["unknown"]) - set(labels))
    if missing:
        classes = some_of(sorted({label for label in labels if label is not None}), 10)
        raise DatasetError(f"{root}: no class {some_of(missing)} (found: {classes})")
    twice = sorted(named["distractor"] & named["unknown"])
    if twice and NO_SPLIT in splits:
        raise DatasetError(
            f"{root}: {some_of(twice)} cannot be both distractors and unknown, since queries and "
            "gallery are not apart; name a folder of each, or decide for one"
        )
    left: dict[str, set[str]] = {"query": set(), "gallery": set()}
    for row, (label, split) in enumerate(zip(labels, splits, strict=True)):
        for side, becomes in (("gallery", "distractor"), ("query", "unknown")):
            if label in named[becomes] and split in {NO_SPLIT, side}:
                labels[row], splits[row] = None, becomes
                break
        else:
            if split in left and label in named["distractor"] | named["unknown"]:
                left[split].add(label)
    for side, becomes in (("query", "unknown"), ("gallery", "distractor")):
        if left[side]:
            raise DatasetError(
                f"{root}: {some_of(sorted(left[side]))} has photos with the split {side!r} too; "
                f"name it under {becomes!r} as well, or take those photos out"
            )
    return Dataset(dataset.root, as_table(paths, labels, splits), dataset.problems)
