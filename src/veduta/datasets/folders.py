"""Folders of photos: which layout they have, and the labels and splits that their names give.

The folders directly below the root are splits when every one of them that holds photos is named
after a split, and there are several of them, or one that holds folders of photos. Otherwise they
are classes: a folder `test` beside a folder `tower` is the class "test". In a folder of splits the
next folder is the class. Names of splits stand in `veduta.datasets.split_names`.

A label is the name of its folder in the Unicode form NFC, so two folders whose names look the same
are one class.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.labels_csv import LABELS_FILE, read_labels_dataset
from veduta.datasets.split_names import NO_SPLIT, split_named
from veduta.errors import DatasetError, NoLabels, PhotoError, readable
from veduta.photos.finding import PassedOver, find_photos, sub_folders
from veduta.text import composed

__all__ = ["FolderLayout", "labels_from_folders", "read_folder_pair", "read_folders"]

LABELLED_SPLITS = frozenset({"query", "gallery", "train", "val", "test"})
"""Splits whose photos should have a label. In the others a missing label is no problem."""


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """What the folders directly below a root stand for.

    Attributes:
        root: the folder, absolute, as bytes and with a separator at its end.
        splits: folder name as bytes → split; empty if the folders are classes.
    """

    root: bytes
    splits: Mapping[bytes, str]

    @classmethod
    def of(cls, root: str | os.PathLike[str], *, exclude: Sequence[str] = ()) -> FolderLayout:
        """Return the layout of a folder. A folder that cannot be listed has no splits.

        Args:
            root: the folder.
            exclude: patterns of what is passed over, as for `veduta.photos.find_photos`.
        """
        base = os.path.join(os.fsencode(os.path.abspath(root)), b"")
        return cls(base, _split_folders(base, exclude))

    def label(self, path: bytes) -> str | None:
        """Return the label of a photo; None if it lies in no class folder or outside the root.

        Args:
            path: the absolute path of the photo. Links are not followed.
        """
        if not path.startswith(self.root):
            return None
        return self.label_and_split(self.parts(path))[0]

    def label_and_split(self, parts: Sequence[bytes]) -> tuple[str | None, str]:
        """Return the label and the split of a photo.

        Args:
            parts: the folders from the root to the photo, and its name.
        """
        folders = parts[:-1]
        split = NO_SPLIT
        if self.splits and folders:
            split = self.splits.get(folders[0], NO_SPLIT)
            folders = folders[1:] if split else []
        return (_label(folders[0]) if folders else None), split

    def doubled_classes(
        self, root: str | os.PathLike[str], photos: Iterable[Sequence[bytes]]
    ) -> list[str]:
        """Return a sentence for each class that has several folders whose names look the same.

        Args:
            root: the folder, for the sentence.
            photos: the folders from the root to each photo, and its name.
        """
        names: dict[tuple[bytes, str], set[bytes]] = defaultdict(set)
        for parts in photos:
            depth = 1 if len(parts) > 1 and parts[0] in self.splits else 0
            if len(parts) > depth + 1 and not parts[depth].isascii():
                names[b"/".join(parts[:depth]), _label(parts[depth])].add(parts[depth])
        return [
            f"{readable(root)}: {len(folders)} folders are one class, {label!r}, because their "
            "names differ only in their Unicode form; move their photos into one folder"
            for (_, label), folders in names.items()
            if len(folders) > 1
        ]

    def parts(self, path: bytes) -> list[bytes]:
        """Return the folders from the root to a photo, and its name.

        Args:
            path: the absolute path of a photo in the root.
        """
        return _parts(path[len(self.root) :])


def labels_from_folders(
    paths: Iterable[str | bytes | os.PathLike[str]], root: str | os.PathLike[str]
) -> Iterator[str | None]:
    r"""Yield for each path the name of its class folder.

    Links are not followed, so a linked class folder keeps the name of its link.

    Args:
        paths: the photos.
        root: the folder that holds the class folders, or the folders of splits.

    Yields:
        The label, in the order of `paths`. Bytes that are not UTF-8 come out as `\xNN`. None for a
        photo in no class folder or outside the root.
    """
    layout = FolderLayout.of(root)
    for path in paths:
        yield layout.label(os.path.abspath(os.fsencode(path)))


def read_folders(
    root: Path,
    *,
    every_photo: bool = False,
    exclude: Sequence[str] = (),
    need_labels: bool = True,
) -> Dataset:
    """Read a folder of class folders, or of splits with class folders in them.

    The folder of a split may hold a `labels.csv`, which is read in place of its class folders.

    Args:
        root: the folder.
        every_photo: keep photos that cannot be read, that have names that are not UTF-8, and that
            lie beside the folders of splits; accept photos without any label.
        exclude: patterns of what is passed over, as for `veduta.photos.find_photos`.
        need_labels: whether photos without any label are refused.

    Returns:
        The dataset, in the order of the paths.

    Raises:
        DatasetError: there is no photo, or no photo has a label.
    """
    layout = FolderLayout.of(root, exclude=exclude)
    passed_over = PassedOver()
    photos, problems = _list_photos(
        root, layout, passed_over, every_photo=every_photo, exclude=exclude
    )
    for folder, split in sorted(layout.splits.items()):
        file = root / os.fsdecode(folder) / LABELS_FILE
        if os.path.lexists(file):
            part = read_labels_dataset(file, exclude=exclude)
            photos = [photo for photo in photos if photo.path.split(b"/")[0] != folder]
            photos += [
                _Photo(folder + b"/" + os.fsencode(path), label, split, readable(folder))
                for path, label in zip(part.paths, part.labels, strict=True)
            ]
            problems += part.problems
    if every_photo:
        return _dataset(root, photos, [], passed_over, as_bytes=True)
    if layout.splits:
        beside = [readable(photo.path) for photo in photos if not photo.split]
        photos = [photo for photo in photos if photo.split]
        if beside:
            problems.append(
                f"{readable(root)}: {len(beside)} in no folder of a split, left out "
                f"({some_of(beside)})"
            )
    if need_labels:
        _check_labels(root, layout, photos)
    return _dataset(root, photos, [*problems, *_unlabelled(root, photos)], passed_over)


def read_folder_pair(
    queries: Path, gallery: Path, *, exclude: Sequence[str] = (), need_labels: bool = True
) -> Dataset:
    """Read two folders of class folders as the splits `query` and `gallery`.

    Args:
        queries: the folder of queries.
        gallery: the folder of gallery photos.
        exclude: patterns of what is passed over, as for `veduta.photos.find_photos`.
        need_labels: whether a folder without any label is refused.

    Returns:
        The dataset. Its root is the deepest folder that holds both.

    Raises:
        DatasetError: one folder holds the other, or one has no labelled photo.
    """
    pair = [Path(os.path.abspath(folder)) for folder in (queries, gallery)]
    root = Path(os.path.commonpath(pair))
    if root in pair:
        raise DatasetError(
            f"{readable(queries)} and {readable(gallery)}: one holds the other, so photos would be "
            "found as their own answer; give two folders side by side, or one folder of classes"
        )
    both: list[_Photo] = []
    passed_over = PassedOver()
    problems: list[str] = []
    for folder, split in zip(pair, ("query", "gallery"), strict=True):
        photos, own_problems = _list_photos(
            folder, FolderLayout(b"", {}), passed_over, exclude=exclude
        )
        if need_labels and not any(photo.label for photo in photos):
            raise NoLabels(
                f"{readable(folder)}: no labels: wanted one folder of photos for each class inside "
                "it, or a labels.csv for the whole dataset"
            )
        prefix = os.fsencode(folder.relative_to(root).as_posix())
        both += [_Photo(prefix + b"/" + photo.path, photo.label, split, split) for photo in photos]
        problems += [*own_problems, *_unlabelled(folder, photos)]
    return _dataset(root, both, problems, passed_over)


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo of a folder; `path` is relative to the root of the dataset."""

    path: bytes
    label: str | None
    split: str
    written_split: str


def _split_folders(base: bytes, exclude: Sequence[str]) -> dict[bytes, str]:
    """Return folder → split of the folders of a root, or nothing if they are classes."""
    folders = sub_folders(base, exclude)
    named = {folder: split_named(readable(folder)) for folder in folders}
    if not any(named.values()):
        return {}
    splits: dict[bytes, str] = {}
    for folder, split in named.items():
        if _holds_photo(base, folder, exclude):
            if split is None:
                return {}
            splits[folder] = split
    if len(splits) == 1:
        (folder,) = splits
        return splits if _holds_folders_of_photos(base, folder, exclude) else {}
    return splits


def _holds_photo(base: bytes, folder: bytes, exclude: Sequence[str]) -> bool:
    found = find_photos([os.path.join(base, folder)], exclude=exclude, roots=[base])
    try:
        return next(found, None) is not None
    except PhotoError:  # The folder cannot be listed. Reading it reports that.
        return True


def _holds_folders_of_photos(base: bytes, folder: bytes, exclude: Sequence[str]) -> bool:
    top = os.path.join(base, folder, b"")
    found = find_photos([top], exclude=exclude, roots=[base])
    try:
        return any(len(_parts(photo.path[len(top) :])) > 1 for photo in found)
    except PhotoError:
        return False


def _list_photos(
    root: Path,
    layout: FolderLayout,
    passed_over: PassedOver,
    *,
    every_photo: bool = False,
    exclude: Sequence[str] = (),
) -> tuple[list[_Photo], list[str]]:
    """Return the photos below a folder, and which were left out unless `every_photo`."""
    if not root.is_dir():
        raise DatasetError(f"{readable(root)}: not a folder")
    base = os.path.join(os.fsencode(os.path.abspath(root)), b"")
    listed: list[tuple[list[bytes], _Photo]] = []
    unreadable: list[str] = []
    not_utf8: list[str] = []
    for candidate in find_photos([base], exclude=exclude, passed_over=passed_over):
        parts = _parts(candidate.path[len(base) :])
        path = b"/".join(parts)
        if not every_photo and candidate.size < 0:
            unreadable.append(readable(path))
        elif not every_photo and not _is_utf8(path):
            not_utf8.append(readable(path))
        else:
            label, split = layout.label_and_split(parts)
            written = readable(parts[0]) if split else ""
            listed.append((parts, _Photo(path, label, split, written)))
    problems = []
    if unreadable:
        problems.append(
            f"{readable(root)}: {len(unreadable)} cannot be read, left out ({some_of(unreadable)})"
        )
    if not_utf8:
        problems.append(
            f"{readable(root)}: {len(not_utf8)} left out, their names are not UTF-8 "
            f"({some_of(not_utf8)}); rename them"
        )
    if not listed:
        raise DatasetError("; ".join(problems) or f"{readable(root)}: holds no photos")
    listed.sort(key=lambda pair: pair[0])  # Linked photos are listed last.
    problems += layout.doubled_classes(root, (parts for parts, _ in listed))
    return [photo for _, photo in listed], problems


def _check_labels(root: Path, layout: FolderLayout, photos: Sequence[_Photo]) -> None:
    """Raise `DatasetError` if no photo has a label."""
    classes = {photo.label for photo in photos if photo.label is not None}
    folders = [readable(folder) for folder in layout.splits] if layout.splits else list(classes)
    if folders and all(map(split_named, folders)) and (not classes or not layout.splits):
        raise NoLabels(
            f"{readable(root)}: its folders ({some_of(sorted(folders))}) are splits, not classes; "
            "put one folder of photos for each class inside them, or name the folder of queries "
            "and the folder of gallery photos (--queries, --gallery)"
        )
    if not classes:
        raise NoLabels(
            f"{readable(root)}: no labels: wanted a labels.csv with the columns path and label, or "
            "one folder of photos for each class, or a folder of queries and one of gallery photos"
        )


def _unlabelled(root: Path, photos: Sequence[_Photo]) -> list[str]:
    """Return a problem if some photos should have a label and have none."""
    paths = [
        readable(photo.path)
        for photo in photos
        if photo.label is None and photo.split in (NO_SPLIT, *LABELLED_SPLITS)
    ]
    if not paths or len(paths) == len(photos):
        return []
    return [
        f"{readable(root)}: {len(paths)} in no class folder, so without a label ({some_of(paths)})"
    ]


def _dataset(
    root: Path,
    photos: Sequence[_Photo],
    problems: Sequence[str],
    passed_over: PassedOver,
    *,
    as_bytes: bool = False,
) -> Dataset:
    paths: list[bytes] | list[str] = [photo.path for photo in photos]
    if not as_bytes:
        paths = [photo.path.decode("utf-8") for photo in photos]
    labels, splits = [photo.label for photo in photos], [photo.split for photo in photos]
    written = tuple(photo.written_split for photo in photos)
    return Dataset(
        root,
        as_table(paths, labels, splits),
        tuple(problems),
        written_splits=written,
        passed_over=passed_over,
    )


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _label(folder: bytes) -> str:
    return composed(readable(folder))


def _parts(path: bytes) -> list[bytes]:
    """Return the folders and the name in a path of this system."""
    if os.path.altsep:
        path = path.replace(os.fsencode(os.path.altsep), os.fsencode(os.path.sep))
    return path.split(os.fsencode(os.path.sep))
