"""Which photos a network learns from, which judge it while it does, and which it is tested on."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, LearnError, PhotoError, readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.datasets import Dataset

__all__ = ["ORIGINAL", "DatasetSplits", "read_splits"]

# Gallery photos are trained on and queries are tested on. Other splits take no part.
PART_OF_SPLIT = {
    "train": "train",
    "gallery": "train",
    "val": "val",
    "test": "test",
    "query": "test",
}

ORIGINAL = "original_photo"
"""The column of a labels file that says which photo a row is, or is a changed copy of."""

_SHOWN = 10  # leaks that a message lists


@dataclass(frozen=True, slots=True)
class _Photo:
    path: str
    label: str
    part: str
    original: str  # the photo that it is, or is a changed copy of


@dataclass(frozen=True, slots=True, eq=False)
class DatasetSplits:
    """N labelled photos in three parts.

    `root`
        the folder that the paths are relative to.
    `paths`, `class_ids`
        (N,) the photos in the order of their paths, and int64 the number of each one's class.
    `class_names`
        (C,) the classes, in alphabetical order: those of the photos to train on.
    `train`, `val`, `test`
        rows of the photos, rising; `val` and `test` may be empty.
    `held_out`
        `val` was taken out of the photos to train on here, since the dataset names none.
    `problems`
        what was left out and why, and what may surprise, one sentence each.
    `digest`
        16 hex digits: BLAKE3 over paths, labels, parts and the content of the photos.
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

    def without(self, rows: Mapping[int, str]) -> DatasetSplits:
        """Return the parts less some photos (row → why), which become problems.

        Raises:
            LearnError: fewer than two classes are left to train on.
        """
        if not rows:
            return self
        part_of = {
            int(row): part
            for part in ("train", "val", "test")
            for row in getattr(self, part).tolist()
        }
        left = [
            _Photo(path, self.class_names[self.class_ids[row]], part_of[row], path)
            for row, path in enumerate(self.paths)
            if row not in rows
        ]
        gone = [(self.paths[row], why) for row, why in sorted(rows.items())]
        reasons = [f"{readable(path)}: left out, {why}" for path, why in gone]
        digest = _digest([self.digest, *(path for path, _ in gone)])
        return _parts(self.root, left, [*self.problems, *reasons], digest, held_out=self.held_out)


def read_splits(
    dataset: Path,
    *,
    labels: str | None = None,
    column: str = "split",
    validation: float = 0.2,
    seed: int = 0,
    allow_leak: bool = False,
) -> DatasetSplits:
    """Read which photos are for training, validation and test.

    A row says train (or gallery), val (or validation), test (or query); rows with any other word,
    or without a label, take no part. Without any words, all photos are to train on. Where no photo
    is for validation, a share of those to train on is held out: of every class the same share, the
    same photos for the same seed and names, and copies of the same bytes together, as are the
    changed copies that the column `original_photo` tells of (`veduta augment`).

    Args:
        dataset: a folder of classes, a folder of splits with classes in them, or a labels file.
        labels: the CSV file in the folder `dataset`; `labels.csv` is read unasked.
        column: the column of it that holds the words.
        validation: share in [0, 1) that is held out; 0: none.
        seed: another one, other photos are held out.
        allow_leak: photos of val or test whose bytes are also in train become a problem instead of
            an error.

    Raises:
        DatasetError: the dataset does not read, or has no such column.
        LearnError: nothing to train on, one class only, or a leak.
    """
    from veduta.datasets import read_dataset

    if not 0 <= validation < 1:
        raise LearnError(f"training.validation is a share, 0 to below 1, not {validation}")
    photo_set = read_dataset(dataset, labels=labels, split_column=column, keep_columns=True)
    photos = _photos(photo_set, dataset, column)
    contents, unreadable = _contents(photo_set.root, [photo.path for photo in photos])
    photos = [photo for photo in photos if photo.path in contents]
    problems = [*photo_set.problems, *unreadable]
    _check_classes(dataset, photos)
    problems += _leaks(dataset, photos, contents, allow=allow_leak)
    held_out = validation > 0 and not any(photo.part == "val" for photo in photos)
    if held_out:
        photos, lonely = _hold_out(photos, contents, validation, seed)
        problems += lonely
    rows = [[one.path, one.label, one.part, contents[one.path].hex()] for one in photos]
    return _parts(photo_set.root, photos, problems, _digest(rows), held_out=held_out)


def _photos(photo_set: Dataset, dataset: Path, column: str) -> list[_Photo]:
    """Return the rows that take part, in the order of their paths."""
    if column != "split" and not any(photo_set.splits):
        found = ", ".join(map(repr, photo_set.further_columns)) or "none"
        raise DatasetError(
            f"{readable(dataset)}: no column {column!r} says which photos to train on; "
            f"further columns are {found}"
        )
    named = any(photo_set.splits)
    photos = []
    originals = photo_set.further_columns.get(ORIGINAL, photo_set.paths)
    for path, label, split, original in zip(
        photo_set.paths, photo_set.labels, photo_set.splits, originals, strict=True
    ):
        part = PART_OF_SPLIT.get(split) if named else "train"
        if label is not None and part is not None:
            photos.append(_Photo(path, label, part, original or path))
    if not any(photo.part == "train" for photo in photos):
        words = ", ".join(repr(word) for word in sorted(set(photo_set.splits)) if word) or "none"
        raise LearnError(
            f"{readable(dataset)}: no labelled photo is for training: the column {column!r} must "
            f"say train or gallery; it says {words}"
        )
    return sorted(photos, key=lambda photo: photo.path)


def _contents(root: Path, paths: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """Return path → hash of the bytes, and what cannot be read."""
    from veduta.photos import content_hash, read_bytes

    def hashed(path: str) -> bytes | str:
        try:
            return content_hash(read_bytes(root / path))
        except PhotoError as error:
            return error.reason

    contents: dict[str, bytes] = {}
    unreadable = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "veduta-hash") as pool:
        for path, found in zip(paths, pool.map(hashed, paths), strict=True):
            if isinstance(found, bytes):
                contents[path] = found
            else:
                unreadable.append(f"{readable(path)}: left out, {found}")
    return contents, unreadable


def _leaks(
    dataset: Path, photos: Iterable[_Photo], contents: Mapping[str, bytes], *, allow: bool
) -> list[str]:
    """Look for photos of val and test that are also in train, byte for byte."""
    learned: dict[bytes, str] = {}
    for photo in photos:
        if photo.part == "train":
            learned.setdefault(contents[photo.path], photo.path)
    leaks = [
        f"{readable(photo.path)} ({photo.part}) is {readable(learned[contents[photo.path]])}"
        for photo in photos
        if photo.part != "train" and contents[photo.path] in learned
    ]
    if not leaks:
        return []
    many = "1 photo of val or test is" if len(leaks) == 1 else f"{len(leaks)} of val and test are"
    if allow:
        return [f"leak allowed: {many} also in train, such as {leaks[0]}"]
    more = f"\n  and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
    listed = "".join(f"\n  {leak}" for leak in leaks[:_SHOWN])
    raise LearnError(
        f"{readable(dataset)}: {many} also in train, byte for byte:{listed}{more}\n"
        "Remove them from one side (`veduta split --check` finds other copies too), or train all "
        "the same with --allow-leak"
    )


def _hold_out(
    photos: Sequence[_Photo], contents: Mapping[str, bytes], share: float, seed: int
) -> tuple[list[_Photo], list[str]]:
    """Move a share of the photos of train to val."""
    from veduta.curate.splitting import split

    learned = [photo for photo in photos if photo.part == "train"]
    # Changed copies of photos of the same bytes belong together as well.
    content_of = {photo.path: contents[photo.path] for photo in learned}
    groups = [content_of.get(photo.original, contents[photo.path]) for photo in learned]
    chosen = split(
        [photo.path for photo in learned],
        [photo.label for photo in learned],
        groups,
        {"train": 1 - share, "val": share},
        seed=seed,
    )
    learning = {photo.label for photo, part in zip(learned, chosen, strict=True) if part == "train"}
    part_of = {
        photo.path: part if photo.label in learning else "train"
        for photo, part in zip(learned, chosen, strict=True)
    }
    different: dict[str, set[bytes]] = defaultdict(set)
    for photo in learned:
        different[photo.label].add(contents[photo.path])
    lonely = sorted(label for label, own in different.items() if len(own) == 1)
    problems = []
    if lonely:
        classes = "1 class has" if len(lonely) == 1 else f"{len(lonely)} classes have"
        problems = [
            f"{classes} one photo to train on, so none could be held out for validation "
            f"({some_of(map(repr, lonely))})"
        ]
    moved = [replace(one, part=part_of.get(one.path, one.part)) for one in photos]
    return moved, problems


def _check_classes(dataset: Path, photos: Iterable[_Photo]) -> None:
    names = sorted({photo.label for photo in photos if photo.part == "train"})
    if len(names) < 2:
        found = f"one class only, {names[0]!r}" if names else "no photo that can be read"
        raise LearnError(
            f"{readable(dataset)}: there is {found} to train on; two classes or more are wanted, "
            "each a folder of photos or a label in labels.csv"
        )


def _parts(
    root: Path, photos: Sequence[_Photo], problems: Sequence[str], digest: str, *, held_out: bool
) -> DatasetSplits:
    """Number the classes that can be learned; what shows others leaves."""
    _check_classes(root, photos)
    names = tuple(sorted({photo.label for photo in photos if photo.part == "train"}))
    code_of = {name: code for code, name in enumerate(names)}
    problems = list(problems)
    for part in ("val", "test"):
        strange = [one for one in photos if one.part == part and one.label not in code_of]
        if strange:
            classes = sorted({one.label for one in strange})
            problems.append(
                f"{len(strange)} photos of {part} left out: their classes are not in train, so a "
                f"network cannot name them ({some_of(map(repr, classes))})"
            )
    known = [photo for photo in photos if photo.label in code_of]
    rows: dict[str, list[int]] = defaultdict(list)
    for row, photo in enumerate(known):
        rows[photo.part].append(row)
    return DatasetSplits(
        root=root,
        paths=tuple(photo.path for photo in known),
        class_ids=np.array([code_of[photo.label] for photo in known], np.int64),
        class_names=names,
        train=np.array(rows["train"], np.intp),
        val=np.array(rows["val"], np.intp),
        test=np.array(rows["test"], np.intp),
        held_out=held_out,
        problems=tuple(problems),
        digest=digest,
    )


def _digest(values: object) -> str:
    from veduta.photos import content_hash

    return content_hash(json.dumps(values, ensure_ascii=True).encode()).hex()[:16]
