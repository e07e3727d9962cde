"""Class folders that are no classes: photos of things that nobody looks for.

Public sets keep such photos in a folder beside the classes ("confusion_classes", "distractors",
"none"). Read as a class, they would be right answers to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable
from veduta.text import composed

__all__ = ["exclude_classes"]

# The split that each side of a dataset gives to photos of its excluded classes.
EXCLUDED_SPLIT = {"gallery": "distractor", "query": "unknown"}


def exclude_classes(
    dataset: Dataset, *, distractors: Sequence[str] = (), unknown: Sequence[str] = ()
) -> Dataset:
    """Return the dataset with the photos of some classes as distractors and as unknown queries.

    These photos lose their label. In an unsplit dataset, both arguments work on all photos of the
    class.

    Args:
        dataset: the photos.
        distractors: classes whose gallery photos get the split `distractor`.
        unknown: classes whose queries get the split `unknown`.

    Raises:
        DatasetError: a class does not exist; or it is in both arguments and the dataset is unsplit;
            or a split dataset has the class on the other side too, where it would still be a class,
            and the other argument does not name it.
    """
    if not distractors and not unknown:
        return dataset
    distractors, unknown = list(map(composed, distractors)), list(map(composed, unknown))
    labels, splits = list(dataset.labels), list(dataset.splits)
    root = readable(dataset.root)
    excluded = {"distractor": frozenset(distractors), "unknown": frozenset(unknown)}
    missing = sorted((excluded["distractor"] | excluded["unknown"]) - set(labels))
    if missing:
        classes = some_of(sorted({label for label in labels if label is not None}), 10)
        raise DatasetError(f"{root}: no class {some_of(missing)} (found: {classes})")
    twice = sorted(excluded["distractor"] & excluded["unknown"])
    if twice and NO_SPLIT in splits:
        raise DatasetError(
            f"{root}: {some_of(twice)} cannot be both distractors and unknown, since queries and "
            "gallery are not apart; name a folder of each, or decide for one"
        )
    left: dict[str, set[str]] = {"query": set(), "gallery": set()}
    for row, (label, split) in enumerate(zip(labels, splits, strict=True)):
        for side, new_split in EXCLUDED_SPLIT.items():
            if label in excluded[new_split] and split in {NO_SPLIT, side}:
                labels[row], splits[row] = None, new_split
                break
        else:
            if split in left and label in excluded["distractor"] | excluded["unknown"]:
                left[split].add(label)
    for side, classes_left in left.items():
        if classes_left:
            raise DatasetError(
                f"{root}: {some_of(sorted(classes_left))} has photos with the split {side!r} too; "
                f"name it under {EXCLUDED_SPLIT[side]!r} as well, or take those photos out"
            )
    table = as_table(dataset.paths, labels, splits)
    return Dataset(
        dataset.root,
        table,
        dataset.problems,
        dataset.labels_file,
        passed_over=dataset.passed_over,
    )
