"""The dataset type: one table of photos, labels and splits, and what was wrong with the source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import DatasetError, native_path, readable
from veduta.photos import PassedOver

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ORIGINAL_PHOTO_COLUMN", "Dataset", "as_table", "some_of"]

ORIGINAL_PHOTO_COLUMN = "original_photo"
"""The column of a CSV file with the photo that a changed copy was made from (`veduta augment`)."""


@dataclass(frozen=True)
class Dataset:
    """A collection of N photos, most of them labelled.

    Attributes:
        root: the folder that the paths are relative to.
        table: one row a photo. `path` is a string, relative to `root`, with forward slashes; in a
            dataset that was read with `every_photo` it is binary, since file names are bytes.
            `label` is a string or null. `split` is a string, one of
            `veduta.datasets.split_names.SPLITS`. In an unsplit dataset it is "" in every row but
            those of classes that were named as distractors or unknown. In a dataset that was read
            with `keep_columns` it may be any word.
        problems: what was left out and why, one sentence each.
        labels_file: the CSV file that the labels come from; None if folder names are the labels.
        written_splits: (N,) splits as the CSV file or the folder names have them; empty for a
            dataset that was not read from files.
        written_paths: (N,) paths as the CSV file has them; empty for a dataset of folders.
        passed_over: the files and folders that were not looked at; of a dataset of folders.
        further_columns: name → (N,) values of the other columns of the CSV file. They are read with
            `keep_columns` only.
    """

    root: Path
    table: pa.Table
    problems: tuple[str, ...] = ()
    labels_file: Path | None = None
    written_splits: tuple[str, ...] = ()
    written_paths: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)
    further_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """(N,) paths. Bytes that are not UTF-8 are Python's surrogate escapes."""
        return tuple(
            native_path(path) if isinstance(path, str) else os.fsdecode(path)
            for path in self.table["path"].to_pylist()
        )

    @cached_property
    def labels(self) -> tuple[str | None, ...]:
        """(N,) labels, None where a photo has none."""
        return tuple(self.table["label"].to_pylist())

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """(N,) splits, "" where a photo has none."""
        return tuple(self.table["split"].to_pylist())

    @property
    def path_of_row(self) -> dict[str, str]:
        """Path as the CSV file has it → path of the photo; empty for a dataset of folders."""
        return dict(zip(self.written_paths, self.paths, strict=False))

    @property
    def files(self) -> list[Path]:
        """(N,) files of the photos."""
        return [self.root / path for path in self.paths]

    def column(self, name: str) -> tuple[str, ...]:
        """Return a further column of the CSV file.

        Args:
            name: the name of the column, as it is written.

        Raises:
            DatasetError: there is no column of that name.
        """
        if name not in self.further_columns:
            found = ", ".join(map(repr, self.further_columns)) or "none"
            raise DatasetError(
                f"{readable(self.root)}: no column {name!r}; further columns are {found}"
            )
        return self.further_columns[name]

    def counted(self) -> pa.Table:
        """Return one row for each label and split: `label`, `split` and `photos` (int64)."""
        table = self.table.group_by(["label", "split"]).aggregate([("path", "count")])
        return table.rename_columns(["label", "split", "photos"])

    def with_splits(self, splits: Sequence[str]) -> Dataset:
        """Return the dataset with other splits.

        Args:
            splits: (N,) splits.
        """
        import pyarrow as pa

        column = pa.array(splits, pa.string())
        position = self.table.schema.get_field_index("split")
        return replace(self, table=self.table.set_column(position, "split", column))

    def without(self, dropped: Mapping[str, str]) -> Dataset:
        """Return the dataset without some photos, which become problems.

        Photos that do not decode must leave both queries and gallery: otherwise every rank behind
        them is wrong. The result has no `written_splits`, `written_paths` and
        `further_columns`.

        Args:
            dropped: path → reason.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        gone = pc.is_in(
            self.table["path"], value_set=pa.array(list(map(readable, dropped)), pa.string())
        )
        reasons = (f"{readable(path)}: left out, {why}" for path, why in dropped.items())
        return Dataset(
            self.root,
            self.table.filter(pc.invert(gone)),
            (*self.problems, *reasons),
            self.labels_file,
            passed_over=self.passed_over,
        )


def as_table(
    paths: Sequence[str] | Sequence[bytes], labels: Sequence[str | None], splits: Sequence[str]
) -> pa.Table:
    """Return three columns as the table of a `Dataset`.

    Args:
        paths: (N,) paths as strings, or all of them as bytes.
        labels: (N,) labels, None where a photo has none.
        splits: (N,) splits.
    """
    import pyarrow as pa

    binary = bool(paths) and isinstance(paths[0], bytes)
    return pa.table(
        {
            "path": pa.array(paths, pa.binary() if binary else pa.string()),
            "label": pa.array(labels, pa.string()),
            "split": pa.array(splits, pa.string()),
        }
    )


def some_of(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names, comma-separated, and how many more there are."""
    listed = [readable(name) for name in names]
    more = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
