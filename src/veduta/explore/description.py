"""Describing what a labelled collection holds, without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.curate.hash_duplicates import DuplicatePair, Duplicates, find_duplicates
from veduta.curate.photo_scan import PhotoScan, scan_photos
from veduta.datasets import Dataset, read_dataset
from veduta.datasets.label_counts import count_labels, find_label_list
from veduta.datasets.reading import find_labels_file
from veduta.errors import DatasetError, readable
from veduta.explore.classes import ClassSizes, class_sizes
from veduta.photos import PassedOver

__all__ = ["Description", "describe"]

# Pairs of splits whose classes are compared, in both directions.
COMPARED_SPLITS = (("query", "gallery"), ("test", "train"), ("val", "train"), ("test", "gallery"))

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Description:
    """The result of `describe`.

    Attributes:
        source: the path that was described, as the caller gave it.
        sizes: the classes and their sizes.
        dataset: the photos and their labels. None if only the classes were counted.
        facts: facts about the photos. None if no photo was read.
        duplicates: copies among the photos. None if no photo was read.
    """

    source: Path
    sizes: ClassSizes
    dataset: Dataset | None = None
    facts: PhotoScan | None = None
    duplicates: Duplicates | None = None

    @property
    def name(self) -> str:
        """The last part of the source's path, printable."""
        return readable(os.path.basename(os.path.abspath(self.source)))

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out before any photo was read, and labels that may be one."""
        problems = self.dataset.problems if self.dataset else ()
        return (*problems, *_similar_labels(self.sizes.names))

    @property
    def passed_over(self) -> PassedOver:
        """The files and folders that were not looked at."""
        return self.dataset.passed_over if self.dataset else PassedOver()

    def lacking(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Compare the classes of queries and gallery, and of test, validation and training photos.

        Returns:
            (split, other split) → the classes of `split` that have no photo in `other split`. Pairs
            of splits with the same classes are left out.
        """
        splits = self.sizes.by_split
        pairs = [
            (a, b)
            for pair in COMPARED_SPLITS
            for a, b in (pair, pair[::-1])
            if {a, b} <= set(splits)
        ]
        lacking = {(a, b): self.sizes.only_in(a, b) for a, b in pairs}
        return {pair: names for pair, names in lacking.items() if names}

    def copies_between(self) -> dict[tuple[str, str], int]:
        """Return (split, other split) → photos of `split` that have a copy in `other split`."""
        if self.duplicates is None or self.dataset is None:
            return {}
        splits = self.dataset.splits
        between: dict[tuple[str, str], set[int]] = {}
        for copy in self.duplicates.across_splits:
            pair = splits[copy.first], splits[copy.second]
            between.setdefault(pair, set()).add(copy.first)
        return {pair: len(photos) for pair, photos in sorted(between.items())}

    def as_json(self) -> dict[str, Any]:
        """Return the description as plain values. Paths are relative to the collection."""
        return {
            "source": readable(self.source),
            "photos": self.sizes.photos,
            "classes": len(self.sizes.names),
            "unlabelled": self.sizes.unlabelled,
            "splits": {name: n for name, n in self.sizes.splits.items() if name},
            "imbalance": asdict(self.sizes.imbalance()),
            "class_sizes": self._class_sizes(),
            "histogram": self._histogram(),
            "density": self._density(),
            "lacking": [
                {"classes_of": a, "not_in": b, "labels": list(names)}
                for (a, b), names in self.lacking().items()
            ],
            "files": self._files(),
            "duplicates": self._duplicates(),
            "passed_over": self.passed_over.as_json(),
            "problems": list(self.problems),
        }

    def _class_sizes(self) -> list[dict[str, Any]]:
        splits = [name for name in self.sizes.splits if name]
        columns = [self.sizes.by_split[name].tolist() for name in splits]
        return [
            {
                "label": label,
                "photos": size,
                **({"splits": dict(zip(splits, counts, strict=True))} if splits else {}),
            }
            for label, size, *counts in zip(
                self.sizes.names, self.sizes.sizes.tolist(), *columns, strict=True
            )
        ]

    def _histogram(self) -> dict[str, Any]:
        counts, edges = self.sizes.histogram()
        return {"classes": counts.tolist(), "edges": edges.tolist()}

    def _density(self) -> dict[str, Any] | None:
        estimate = self.sizes.density()
        if estimate is None:
            return None
        photos, density = estimate
        over = "log10(photos)" if self.sizes.wide else "photos"
        return {"over": over, "photos": photos.tolist(), "density": density.tolist()}

    def _files(self) -> dict[str, Any] | None:
        if self.facts is None or self.dataset is None:
            return None
        facts, paths = self.facts, self.dataset.paths
        pixels = facts.widths.astype(np.float64) * facts.heights
        return {
            "read": len(facts.positions),
            "unreadable": [{"path": paths[row], "reason": why} for row, why in facts.unreadable],
            "width": _quantiles(facts.widths),
            "height": _quantiles(facts.heights),
            "megapixels": _quantiles(pixels / 1e6),
            "aspect_ratio": _quantiles(facts.widths / facts.heights),
            "bytes": {**_quantiles(facts.sizes), "total": int(facts.sizes.sum())},
            "formats": dict(facts.formats),
            "colour_modes": dict(facts.colour_modes),
            "misnamed": [{"path": paths[row], "format": kind} for row, kind in facts.misnamed],
        }

    def _duplicates(self) -> dict[str, Any] | None:
        if self.duplicates is None or self.dataset is None:
            return None
        duplicates, paths = self.duplicates, self.dataset.paths

        def named(groups: Sequence[Sequence[int]]) -> list[list[str]]:
            return [[paths[row] for row in group] for group in groups]

        def pairs(copies: Sequence[DuplicatePair]) -> list[dict[str, Any]]:
            return [
                {
                    "paths": [paths[copy.first], paths[copy.second]],
                    "same_bytes": copy.same_bytes,
                    "likeness": round(copy.correlation, 4),
                }
                for copy in copies
            ]

        return {
            "exact": named(duplicates.exact),
            "near": named(duplicates.near),
            "spare": duplicates.spare,
            "copies_between_splits": [
                {"of": a, "in": b, "photos": n} for (a, b), n in self.copies_between().items()
            ],
            "across_splits": pairs(duplicates.across_splits),
            "across_labels": pairs(duplicates.across_labels),
        }


def describe(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    exclude: Sequence[str] = (),
    photos: bool = True,
    on_progress: OnProgress | None = None,
) -> Description:
    """Describe a labelled collection.

    A photo that cannot be read is listed with the reason. The others are described all the same.

    Args:
        path: a folder of class folders; a folder with a `labels.csv`; a folder of splits (`train`
            and `test`, `query` and `gallery`) with class folders in each; or a CSV file. The rows
            of a Google Landmarks file (`id,url,landmark_id` or `landmark_id,images`) are counted
            in blocks, without photos.
        labels: as for `veduta.datasets.open_dataset`.
        queries: as for `veduta.datasets.open_dataset`.
        gallery: as for `veduta.datasets.open_dataset`.
        exclude: as for `veduta.datasets.open_dataset`.
        photos: read the photos. If False, only the classes are counted, and a CSV file may name
            photos that do not exist.
        on_progress: called with (stage, done, total).

    Raises:
        DatasetError: there are no labels. The message names the file and what was wanted.
    """

    def progress_of(stage: str) -> Callable[[int, int], None] | None:
        if on_progress is None:
            return None
        return lambda done, total: on_progress(stage, done, total)

    source = Path(path)
    named_folders = queries is not None or gallery is not None
    file = None if named_folders else find_labels_file(source, labels)
    dataset = None
    label_list = find_label_list(file) if file is not None and file.is_file() else None
    if label_list is not None and not (
        label_list.has_groups or (photos and label_list.names_photos)
    ):
        sizes = class_sizes(count_labels(label_list, progress_of("Counting")))
    else:
        dataset = read_dataset(
            source, labels=labels, queries=queries, gallery=gallery, exclude=exclude
        )
        sizes = class_sizes(dataset.counted())
    if not sizes.names:
        raise DatasetError(f"{readable(source)}: holds no labelled photo")
    if dataset is None or not photos:
        return Description(source, sizes, dataset)
    facts = scan_photos(
        dataset.paths, root=dataset.root, fingerprints=True, on_progress=progress_of("Reading")
    )
    duplicates = find_duplicates(facts, dataset.splits, dataset.labels, progress_of("Comparing"))
    return Description(source, sizes, dataset, facts, duplicates)


def _similar_labels(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for labels that differ only in blanks or in upper and lower case."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    for group in alike.values():
        if len(group) > 1:
            listed = " and ".join(map(repr, sorted(group)))
            yield f"the labels {listed} differ only in blanks or case; are they one class?"


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    """Return the smallest, median and largest value; nothing if there are no values."""
    if not len(values):
        return {}
    low, middle, high = np.quantile(values.astype(np.float64), (0, 0.5, 1)).tolist()
    return {"smallest": low, "median": middle, "largest": high}
