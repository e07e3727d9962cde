"""Reads which photos of a dataset are for training, validation and test."""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.datasets.dataset import ORIGINAL_PHOTO_COLUMN, some_of
from veduta.errors import DatasetError, LearnError, PhotoError, readable
from veduta.processor_cores import processor_cores
from veduta.text import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.datasets import Dataset

__all__ = ["DatasetSplits", "content_hashes", "read_splits"]

SPLIT_FOR_TRAINING = {
    "train": "train",
    "gallery": "train",
    "val": "val",
    "test": "test",
    "query": "test",
    "unknown": "unknown",
}
"""Gallery photos are for training, and queries for the test. Other splits are left out."""

UNKNOWN_CLASS_ID = -1
UNKNOWN_LABEL = ""

MAX_LISTED_LEAKS = 10
MAX_HASHING_THREADS = 8


@dataclass(frozen=True, slots=True)
class _Photo:
    path: str
    label: str  # UNKNOWN_LABEL in the split "unknown"
    split: str
    original: str  # the path of the photo, or of the photo that it was made from


@dataclass(frozen=True, slots=True, eq=False)
class DatasetSplits:
    """N labelled photos, divided for training, validation and test.

    Attributes:
        root: the folder that the paths are relative to.
        paths: (N,) the photos in the order of their paths.
        class_ids: (N,) int64; -1 for the photos of `unknown`.
        class_names: (C,) in alphabetical order, of the training photos.
        train: the rows of the training photos in ascending order.
        val: the rows of the validation photos in ascending order; may be empty.
        test: the rows of the test photos in ascending order; may be empty.
        held_out: the validation photos were taken from the training photos, because the dataset has
            none.
        problems: what was left out and why, and other notes, one sentence each.
        digest: 16 hex digits: BLAKE3 over paths, labels, splits and the contents of the photos.
        test_chooses: the test photos choose the epoch; there are no validation photos.
        unknown: the rows of test photos that show none of the classes, in ascending order; may be
            empty.
    """

    root: Path
    paths: tuple[str, ...]
    class_ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    test: NDArray[np.intp]
    held_out: bool
    problems: tuple[str, ...]
    digest: str
    test_chooses: bool = False
    unknown: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def choosing(self) -> NDArray[np.intp]:
        """The rows of the photos that choose the epoch and calibrate; may be empty."""
        return self.test if self.test_chooses else self.val

    def without(self, rows: Mapping[int, str]) -> DatasetSplits:
        """Return the splits without some photos, which are added to the problems.

        Args:
            rows: from the row of a photo to why it is left out.

        Raises:
            LearnError: fewer than two classes have training photos left.
        """
        if not rows:
            return self
        split_of = {
            int(row): split
            for split in ("train", "val", "test", "unknown")
            for row in getattr(self, split).tolist()
        }
        label_of = {UNKNOWN_CLASS_ID: UNKNOWN_LABEL, **dict(enumerate(self.class_names))}
        kept = [
            _Photo(path, label_of[class_id], split_of[row], path)
            for row, (path, class_id) in enumerate(
                zip(self.paths, self.class_ids.tolist(), strict=True)
            )
            if row not in rows
        ]
        removed = [(self.paths[row], reason) for row, reason in sorted(rows.items())]
        notes = [f"{readable(path)}: left out, {reason}" for path, reason in removed]
        digest = _digest([self.digest, *(path for path, _ in removed)])
        left = _splits(self.root, kept, [*self.problems, *notes], digest, held_out=self.held_out)
        return replace(left, test_chooses=self.test_chooses)


def read_splits(
    dataset: Path,
    *,
    labels: str | None = None,
    exclude: Sequence[str] = (),
    column: str = "split",
    validation: float = 0.2,
    seed: int = 0,
    allow_leak: bool = False,
    photos_per_class: int | None = None,
    subset_seed: int = 0,
    test_chooses: bool = False,
) -> DatasetSplits:
    """Read which photos of a dataset are for training, validation and test.

    Gallery photos are for training, and queries for the test. Photos of the split "unknown", and
    test photos of a class without a training photo, show none of the classes. Photos of other
    splits, and photos without a label, are left out. In a dataset without splits, all photos are
    for training.

    In a dataset without validation photos, the same share of the training photos of each class is
    held out. The choice depends only on the seed and the paths. Copies with the same bytes, and
    changed copies that the column `original_photo` names (`veduta augment`), stay together.

    A subset has at most so many training photos of each class. Copies of a photo, of both kinds,
    count as one and come with it. The choice depends only on the seed and the contents of the
    photos. Validation photos are held out of the subset; those of the dataset, and test photos, all
    stay.

    Args:
        dataset: a folder of class folders, a folder of splits with class folders, or a CSV file.
        labels: the CSV file in the folder `dataset`. `labels.csv` is read by default.
        exclude: patterns of photos and folders that are left out, as for
            `veduta.datasets.read_dataset`.
        column: the column with the splits.
        validation: the share of the training photos that is held out, in [0, 1).
        seed: decides which photos are held out.
        allow_leak: a photo of another split with the same bytes as a training photo is a problem
            instead of an error.
        photos_per_class: the largest number of training photos of a class, at least 1; None: all.
        subset_seed: decides which photos of a class are in the subset.
        test_chooses: the test photos choose the epoch. No training photo is held out, and the
            dataset's own validation photos are left out.

    Raises:
        DatasetError: the dataset cannot be read, or has no such column.
        LearnError: there are no training photos, only one class, a leak, or no test photos although
            they choose the epoch.
    """
    from veduta.datasets import read_dataset

    if not 0 <= validation < 1:
        raise LearnError(
            f"training.validation must be at least 0 and less than 1, but is {validation}"
        )
    source = read_dataset(
        dataset, labels=labels, split_column=column, keep_columns=True, exclude=exclude
    )
    photos = _photos(source, dataset, column)
    contents, unreadable = content_hashes(source.root, [photo.path for photo in photos])
    photos = [photo for photo in photos if photo.path in contents]
    problems = [*source.problems, *unreadable]
    _check_classes(dataset, photos)
    problems += _leaks(dataset, photos, contents, allow=allow_leak)
    if photos_per_class is not None:
        photos, note = _subset(photos, contents, photos_per_class, subset_seed)
        problems.append(note)
    if test_chooses:
        photos, notes = _without_validation(dataset, photos)
        problems += notes
    held_out = (
        validation > 0 and not test_chooses and not any(photo.split == "val" for photo in photos)
    )
    if held_out:
        photos, notes = _hold_out(photos, contents, validation, seed)
        problems += notes
    rows = [[one.path, one.label, one.split, contents[one.path].hex()] for one in photos]
    splits = _splits(source.root, photos, problems, _digest(rows), held_out=held_out)
    return replace(splits, test_chooses=test_chooses)


def _photos(source: Dataset, dataset: Path, column: str) -> list[_Photo]:
    """Return the photos that are not left out, in the order of their paths."""
    if column != "split" and not any(source.splits):
        columns = ", ".join(map(repr, source.further_columns)) or "none"
        raise DatasetError(
            f"{readable(dataset)}: no column {column!r} says which photos are for training; "
            f"further columns are {columns}"
        )
    has_splits = any(source.splits)
    photos = []
    path_of_row = source.path_of_row
    originals = [
        path_of_row.get(posixpath.normpath(original), original)
        for original in source.further_columns.get(ORIGINAL_PHOTO_COLUMN, source.paths)
    ]
    for path, label, name, original in zip(
        source.paths, source.labels, source.splits, originals, strict=True
    ):
        split = SPLIT_FOR_TRAINING.get(name) if has_splits else "train"
        if split == "unknown":
            photos.append(_Photo(path, UNKNOWN_LABEL, split, original or path))
        elif label is not None and split is not None:
            photos.append(_Photo(path, label, split, original or path))
    if not any(photo.split == "train" for photo in photos):
        names = ", ".join(repr(name) for name in sorted(set(source.splits)) if name) or "none"
        raise LearnError(
            f"{readable(dataset)}: no labelled photo is for training: the column {column!r} must "
            f"contain train or gallery, but contains {names}"
        )
    return sorted(photos, key=lambda photo: photo.path)


def content_hashes(root: Path, paths: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """Hash the bytes of photos.

    Args:
        root: the folder that the paths are relative to.
        paths: of the photos.

    Returns:
        Path → hash, and a note for each photo that cannot be read.
    """
    from veduta.photos import content_hash, read_bytes

    def hash_or_reason(path: str) -> bytes | str:
        try:
            return content_hash(read_bytes(root / path))
        except PhotoError as error:
            return error.reason

    hashes: dict[str, bytes] = {}
    unreadable = []
    threads = min(MAX_HASHING_THREADS, processor_cores())
    with ThreadPoolExecutor(threads, "veduta-hash") as pool:
        for path, result in zip(paths, pool.map(hash_or_reason, paths), strict=True):
            if isinstance(result, bytes):
                hashes[path] = result
            else:
                unreadable.append(f"{readable(path)}: left out, {result}")
    return hashes, unreadable


def _leaks(
    dataset: Path, photos: Sequence[_Photo], contents: Mapping[str, bytes], *, allow: bool
) -> list[str]:
    """Find photos of other splits with the same bytes as a training photo."""
    train: dict[bytes, str] = {}
    for photo in photos:
        if photo.split == "train":
            train.setdefault(contents[photo.path], photo.path)
    leaking = [p for p in photos if p.split != "train" and contents[p.path] in train]
    if not leaking:
        return []
    leaks = [
        f"{readable(photo.path)} ({photo.split}) is {readable(train[contents[photo.path]])}"
        for photo in leaking
    ]
    splits = {photo.split for photo in leaking}
    places = " or ".join(split for split in ("val", "test", "unknown") if split in splits)
    number = f"{count(len(leaks), 'photo')} of {places} {'is' if len(leaks) == 1 else 'are'}"
    if allow:
        return [f"leak allowed: {number} also in train, such as {leaks[0]}"]
    more = len(leaks) - MAX_LISTED_LEAKS
    listed = "; ".join(leaks[:MAX_LISTED_LEAKS])
    listed += f"; and {more} more" if more > 0 else ""
    raise LearnError(
        f"{readable(dataset)}: {number} also in train, byte for byte: {listed}. "
        "Remove them from one side (`veduta split --check` finds other copies too), or train "
        "anyway with --allow-leak"
    )


def _subset(
    photos: Sequence[_Photo], contents: Mapping[str, bytes], per_class: int, seed: int
) -> tuple[list[_Photo], str]:
    """Leave out training photos of classes that have more than `per_class`, and return a note."""
    from veduta.photos import content_hash

    train = [photo for photo in photos if photo.split == "train"]
    group_of = _copy_groups(train, contents)
    groups_of_label: dict[str, set[bytes]] = defaultdict(set)
    for photo in train:
        groups_of_label[photo.label].add(group_of[photo.path])
    chosen = {
        (label, group)
        for label, groups in groups_of_label.items()
        for group in sorted(groups, key=lambda one: content_hash(b"%d " % seed + one))[:per_class]
    }
    kept = [
        photo
        for photo in photos
        if photo.split != "train" or (photo.label, group_of[photo.path]) in chosen
    ]
    left = len(train) - (len(photos) - len(kept))
    note = (
        f"subset: {left:,} of {len(train):,} training photos, at most {per_class:,} of each class "
        f"and their copies, drawn with the seed {seed}"
    )
    return kept, note


def _copy_groups(train: Sequence[_Photo], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return from path to the bytes' hash of the photo, or of the photo that it was made from."""
    content_of = {photo.path: contents[photo.path] for photo in train}
    return {photo.path: content_of.get(photo.original, contents[photo.path]) for photo in train}


def _without_validation(dataset: Path, photos: Sequence[_Photo]) -> tuple[list[_Photo], list[str]]:
    """Leave out the validation photos, because the test photos choose the epoch."""
    if not any(photo.split == "test" for photo in photos):
        raise LearnError(
            f'{readable(dataset)}: training.epoch_chosen_by is "test", but there are no test '
            "photos; make some with `veduta split`, or leave the setting out"
        )
    kept = [photo for photo in photos if photo.split != "val"]
    notes = []
    if left_out := len(photos) - len(kept):
        notes = [f"{count(left_out, 'photo')} of val left out: the test photos choose the epoch"]
    return kept, notes


def _hold_out(
    photos: Sequence[_Photo], contents: Mapping[str, bytes], share: float, seed: int
) -> tuple[list[_Photo], list[str]]:
    """Move a share of the training photos to the validation photos, and return notes."""
    from veduta.curate.splitting import split

    train = [photo for photo in photos if photo.split == "train"]
    group_of = _copy_groups(train, contents)
    groups = [group_of[photo.path] for photo in train]
    chosen = split(
        [photo.path for photo in train],
        [photo.label for photo in train],
        groups,
        {"train": 1 - share, "val": share},
        seed=seed,
    )
    # A class without any training photo could not be learned, so all of its photos stay.
    trained = {photo.label for photo, name in zip(train, chosen, strict=True) if name == "train"}
    split_of = {
        photo.path: name if photo.label in trained else "train"
        for photo, name in zip(train, chosen, strict=True)
    }
    contents_of_label: dict[str, set[bytes]] = defaultdict(set)
    for photo in train:
        contents_of_label[photo.label].add(contents[photo.path])
    single = sorted(label for label, own in contents_of_label.items() if len(own) == 1)
    notes = []
    if single:
        has = "has" if len(single) == 1 else "have"
        notes = [
            f"{count(len(single), 'class', 'classes')} {has} one photo for training, so none could "
            f"be held out for validation ({some_of(map(repr, single))})"
        ]
    return [replace(one, split=split_of.get(one.path, one.split)) for one in photos], notes


def _check_classes(dataset: Path, photos: Iterable[_Photo]) -> None:
    """Raise `LearnError` if fewer than two classes have training photos."""
    names = sorted({photo.label for photo in photos if photo.split == "train"})
    if len(names) < 2:
        found = f"one class only, {names[0]!r}," if names else "no photo that can be read"
        raise LearnError(
            f"{readable(dataset)}: there is {found} for training; training needs two classes or "
            "more, each a folder of photos or a label in labels.csv"
        )


def _splits(
    root: Path, photos: Sequence[_Photo], problems: Sequence[str], digest: str, *, held_out: bool
) -> DatasetSplits:
    """Number the classes of the training photos; test photos of other classes become unknown."""
    _check_classes(root, photos)
    names = tuple(sorted({photo.label for photo in photos if photo.split == "train"}))
    class_id_of = {name: class_id for class_id, name in enumerate(names)}
    problems = list(problems)
    for split, fate in (("val", "left out"), ("test", "count as unknown, in the GAP alone")):
        strange = [one for one in photos if one.split == split and one.label not in class_id_of]
        if strange:
            classes = sorted({one.label for one in strange})
            problems.append(
                f"{count(len(strange), 'photo')} of {split} {fate}: the training photos do not "
                f"have these classes ({some_of(map(repr, classes))})"
            )
    photos = [
        replace(photo, label=UNKNOWN_LABEL, split="unknown")
        if photo.split == "test" and photo.label not in class_id_of
        else photo
        for photo in photos
    ]
    class_id_of[UNKNOWN_LABEL] = UNKNOWN_CLASS_ID
    kept = [photo for photo in photos if photo.label in class_id_of]
    rows: dict[str, list[int]] = defaultdict(list)
    for row, photo in enumerate(kept):
        rows[photo.split].append(row)
    return DatasetSplits(
        root=root,
        paths=tuple(photo.path for photo in kept),
        class_ids=np.array([class_id_of[photo.label] for photo in kept], np.int64),
        class_names=names,
        train=np.array(rows["train"], np.intp),
        val=np.array(rows["val"], np.intp),
        test=np.array(rows["test"], np.intp),
        held_out=held_out,
        problems=tuple(problems),
        digest=digest,
        unknown=np.array(rows["unknown"], np.intp),
    )


def _digest(values: object) -> str:
    from veduta.photos import content_hash

    return content_hash(json.dumps(values, ensure_ascii=True).encode()).hex()[:16]
