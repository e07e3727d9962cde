"""`describe`: everything about a collection that can be said without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.curate.duplicates import Copy, Duplicates, find_duplicates
from veduta.datasets import Dataset
from veduta.errors import DatasetError, readable
from veduta.explore.classes import ClassSizes, class_sizes, density, size_histogram
from veduta.explore.photos_seen import PhotosSeen, look_at
from veduta.explore.sources import open_source

__all__ = ["Description", "describe"]

_ASKED_OF = (("query", "gallery"), ("test", "train"), ("val", "train"), ("test", "gallery"))

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` found.

    `source`
        what was described, as it was given.
    `dataset`, `seen`, `duplicates`
        None where no photo was read.
    """

    source: Path
    sizes: ClassSizes
    dataset: Dataset | None = None
    seen: PhotosSeen | None = None
    duplicates: Duplicates | None = None

    @property
    def name(self) -> str:
        """The last part of the source's path, printable."""
        return readable(os.path.basename(os.path.abspath(self.source)))

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out before a photo was read."""
        return self.dataset.problems if self.dataset else ()

    def lacking(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return (split, other) → classes of the one that the other has no photo of.

        For queries and their gallery, test and training photos, and the reverse; pairs of splits
        that have the same classes are left out.
        """
        have = self.sizes.by_split
        pairs = [(a, b) for pair in _ASKED_OF for a, b in (pair, pair[::-1]) if {a, b} <= set(have)]
        found = {(a, b): self.sizes.only_in(a, b) for a, b in pairs}
        return {pair: names for pair, names in found.items() if names}

    def copies_between(self) -> dict[tuple[str, str], int]:
        """Return (split, other) → photos of the one that have a copy in the other."""
        if self.duplicates is None or self.dataset is None:
            return {}
        splits = self.dataset.table["split"].to_pylist()
        between: dict[tuple[str, str], set[int]] = {}
        for copy in self.duplicates.across_splits:
            pair = splits[copy.first], splits[copy.second]
            between.setdefault(pair, set()).add(copy.first)
        return {pair: len(photos) for pair, photos in sorted(between.items())}

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it; paths are relative to the collection."""
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
            "problems": list(self.problems),
        }

    def write_html(self, file: str | os.PathLike[str]) -> None:
        """Write one page that needs nothing else. Raises `OSError` when it cannot be written."""
        from veduta.pages.description_page import write_page

        write_page(file, self)

    def write_png(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write one PNG a chart into `folder`, which is made, and return the files.

        Where photos were read, `contact_sheet.png` shows some of them.

        Raises `OSError` when one cannot be written.
        """
        from veduta.pages.class_samples import Shelf, class_rows
        from veduta.pages.class_sheet import write_class_sheet
        from veduta.pages.description_charts import charts

        into = Path(folder)
        into.mkdir(parents=True, exist_ok=True)
        written = []
        for name, chart in charts(self).items():
            written.append(into / f"{name}.png")
            written[-1].write_bytes(chart.png())
        if self.dataset is not None and self.seen is not None:
            frequent, others = class_rows(self, Shelf(self.dataset))
            if rows := frequent + others:
                written.append(into / "contact_sheet.png")
                write_class_sheet(written[-1], rows)
        return written

    def _class_sizes(self) -> list[dict[str, Any]]:
        split = [name for name in self.sizes.splits if name]
        columns = [self.sizes.by_split[name].tolist() for name in split]
        return [
            {
                "label": label,
                "photos": size,
                **({"splits": dict(zip(split, parts, strict=True))} if split else {}),
            }
            for label, size, *parts in zip(
                self.sizes.names, self.sizes.sizes.tolist(), *columns, strict=True
            )
        ]

    def _histogram(self) -> dict[str, Any]:
        counts, edges = size_histogram(self.sizes)
        return {"classes": counts.tolist(), "edges": edges.tolist()}

    def _density(self) -> dict[str, Any] | None:
        estimate = density(self.sizes)
        if estimate is None:
            return None
        at, height = estimate
        over = "log10(photos)" if self.sizes.wide else "photos"
        return {"over": over, "photos": at.tolist(), "density": height.tolist()}

    def _files(self) -> dict[str, Any] | None:
        if self.seen is None or self.dataset is None:
            return None
        seen, paths = self.seen, self.dataset.table["path"].to_pylist()
        pixels = seen.widths.astype(np.float64) * seen.heights
        return {
            "read": len(seen.rows),
            "unreadable": [{"path": paths[at], "reason": why} for at, why in seen.unreadable],
            "width": spread(seen.widths),
            "height": spread(seen.heights),
            "megapixels": spread(pixels / 1e6),
            "aspect_ratio": spread(seen.widths / seen.heights),
            "bytes": {**spread(seen.sizes), "total": int(seen.sizes.sum())},
            "formats": dict(seen.formats),
            "colour_modes": dict(seen.modes),
            "misnamed": [{"path": paths[at], "format": kind} for at, kind in seen.misnamed],
        }

    def _duplicates(self) -> dict[str, Any] | None:
        if self.duplicates is None or self.dataset is None:
            return None
        found, paths = self.duplicates, self.dataset.table["path"].to_pylist()

        def named(groups: Sequence[Sequence[int]]) -> list[list[str]]:
            return [[paths[at] for at in group] for group in groups]

        def pairs(copies: Sequence[Copy]) -> list[dict[str, Any]]:
            return [
                {
                    "paths": [paths[copy.first], paths[copy.second]],
                    "same_bytes": copy.same_bytes,
                    "likeness": round(copy.likeness, 4),
                }
                for copy in copies
            ]

        return {
            "exact": named(found.exact),
            "near": named(found.near),
            "spare": found.spare,
            "copies_between_splits": [
                {"of": a, "in": b, "photos": n} for (a, b), n in self.copies_between().items()
            ],
            "across_splits": pairs(found.across_splits),
            "across_labels": pairs(found.across_labels),
        }


def spread(values: NDArray[Any]) -> dict[str, float]:
    """Return the smallest, median and largest value, empty without any."""
    if not len(values):
        return {}
    low, middle, high = np.quantile(values.astype(np.float64), (0, 0.5, 1)).tolist()
    return {"smallest": low, "median": middle, "largest": high}


def describe(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    photos: bool = True,
    on_progress: Tell | None = None,
) -> Description:
    """Describe a labelled collection.

    `path`
        a folder of class folders; a folder with a `labels.csv`; a folder of splits (`train` and
        `test`, `query` and `gallery`) with class folders in each; a CSV file, whose rows are
        counted as they stream by when it names no photos on this disk (Google Landmarks:
        `id,url,landmark_id` or `landmark_id,images`).
    `labels`, `queries`, `gallery`
        as for `veduta.datasets.open_dataset`.
    `photos`
        read the photos; without, the classes alone are counted, and a CSV file may name photos
        that are not there.
    `on_progress`
        told what is going on, how much of it is done, and of how much.

    A photo that cannot be read is listed with the reason and stops nothing.

    Raises `DatasetError`, naming the file and what was wanted, when no labels can be had.
    """

    def told(doing: str) -> Callable[[int, int], None] | None:
        if on_progress is None:
            return None
        return lambda done, total: on_progress(doing, done, total)

    given = Path(path)
    source = open_source(
        given,
        labels=labels,
        queries=queries,
        gallery=gallery,
        photos=photos,
        on_progress=told("Counting"),
    )
    sizes = class_sizes(source.counted)
    if not sizes.names:
        raise DatasetError(f"{readable(given)}: holds no labelled photo")
    if source.dataset is None or not photos:
        return Description(given, sizes, source.dataset)
    table = source.dataset.table
    seen = look_at(source.dataset.root, table["path"].to_pylist(), told("Reading"))
    found = find_duplicates(
        seen, table["split"].to_pylist(), table["label"].to_pylist(), told("Comparing")
    )
    return Description(given, sizes, source.dataset, seen, found)
