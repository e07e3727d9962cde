"""The photos of a table: what the rows are trained on, and what all of them are measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.datasets import Dataset, open_dataset
from veduta.datasets.dataset import as_table
from veduta.errors import LearnError, readable
from veduta.learn.data.splits import DatasetSplits, content_hashes, read_splits
from veduta.learn.tables.table_file import DataSet, Table
from veduta.photos import content_hash
from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

__all__ = ["MeasuredPhotos", "TablePhotos"]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPhotos:
    """The queries and the gallery of a table.

    Attributes:
        dataset: with the splits "query" and "gallery".
        digest: 16 hex digits over paths, labels, splits and the contents of the photos.
        query_of_content: hash of the bytes → path, of the queries.
    """

    dataset: Dataset
    digest: str
    query_of_content: dict[bytes, str]


class TablePhotos:
    """Reads the photos of a table, each data set once.

    Attributes:
        allow_leak: a test photo or query with the same bytes as a training photo is no error.
    """

    def __init__(self, table: Table, *, allow_leak: bool) -> None:
        """Read nothing yet.

        Args:
            table: with the paths of its photos.
            allow_leak: a test photo or query with the same bytes as a training photo is no error.
        """
        self._table = table
        self.allow_leak = allow_leak
        self._splits: dict[tuple[str, float, int, bool], DatasetSplits] = {}
        self._measured: MeasuredPhotos | None = None

    def missing(self, data: str) -> str:
        """Return why the photos of a data set are not there, and the remedy; "" if they are.

        Args:
            data: the name of the data set; "" if the table has none.
        """
        if not data:
            return "no photos to train on; give --data PATH"
        owner = self._table.data[data].of or data
        path = self._table.data_set(data).path
        if not path:
            return f"no path for the data set {owner}; give --data {owner}=PATH"
        if not Path(path).exists():
            return f"{readable(path)}: does not exist; give --data {owner}=PATH"
        return ""

    @property
    def _first(self) -> str:
        """The first data set with photos of its own, or ""."""
        return next((name for name, one in self._table.data.items() if not one.of), "")

    def missing_queries(self) -> str:
        """Return why there is nothing to measure with, and the remedy; "" if there is."""
        if self._table.queries:
            folders = Path(self._table.queries), Path(self._table.gallery)
            absent = next((one for one in folders if not one.is_dir()), None)
            return "" if absent is None else f"{readable(absent)}: not a folder"
        missing = self.missing(self._first)
        return missing and f"{missing}, or both --queries and --gallery"

    def splits(self, data: str, recipe: Recipe) -> DatasetSplits:
        """Return the photos that a recipe is trained on.

        Args:
            data: the name of a data set.
            recipe: says how many photos are held out.

        Raises:
            DatasetError: the data set cannot be read.
            LearnError: it cannot be trained on, or queries of the table are in it.
        """
        training = recipe.training
        test_chooses = training.epoch_chosen_by == "test"
        key = data, training.validation, training.seed, test_chooses
        if key not in self._splits:
            self._splits[key] = self._read(self._table.data_set(data), *key[1:])
        return self._splits[key]

    def check_leak(self, data: str, splits: DatasetSplits) -> None:
        """Check that no query is a photo that a row is trained on.

        Args:
            data: the name of the data set, for the message.
            splits: its photos.

        Raises:
            LearnError: there are such queries, and they are not allowed.
        """
        if self.allow_leak:
            return
        queries = self.measured().query_of_content
        rows = [*splits.train.tolist(), *splits.val.tolist()]
        contents, _ = content_hashes(splits.root, [splits.paths[row] for row in rows])
        leaks = [(queries[one], path) for path, one in contents.items() if one in queries]
        if leaks:
            query, path = leaks[0]
            number = "1 query is" if len(leaks) == 1 else f"{len(leaks):,} queries are"
            raise LearnError(
                f"{number} also among the training photos of the data set {data}, byte for byte, "
                f"such as {readable(query)} ({readable(path)}). Remove them from one side, or give "
                "--allow-leak"
            )

    def measured(self) -> MeasuredPhotos:
        """Return the queries and the gallery.

        Raises:
            DatasetError: they cannot be read.
            LearnError: the data set has no test photos, or there is no data set.
        """
        if self._measured is None:
            self._measured = self._read_measured()
        return self._measured

    def _read_measured(self) -> MeasuredPhotos:
        if self._table.queries:
            queries, gallery = (Path(one) for one in (self._table.queries, self._table.gallery))
            dataset = open_dataset(Path(), queries=queries, gallery=gallery)
        else:
            dataset = self._own_test_photos()
        contents, problems = content_hashes(dataset.root, dataset.paths)
        rows = [
            [path, label, split, contents[path].hex()]
            for path, label, split in zip(
                dataset.paths, dataset.labels, dataset.splits, strict=True
            )
            if path in contents
        ]
        if not rows:
            raise LearnError("; ".join(problems))
        queries_of = {
            contents[str(path)]: str(path) for path, _, split, _ in rows if split == "query"
        }
        digest = content_hash(json.dumps(rows, ensure_ascii=True).encode()).hex()[:16]
        return MeasuredPhotos(dataset, digest, queries_of)

    def _own_test_photos(self) -> Dataset:
        """Return the test photos of the first data set as queries, its others as the gallery."""
        if missing := self.missing_queries():
            raise LearnError(missing)
        options = self._table.data_set(self._first)
        splits = self._read(options, 0.0, 0, False)
        if not len(splits.test):
            raise LearnError(
                f"{readable(options.path)}: {count(len(splits.train), 'training photo')} and no "
                "test photo, so there is nothing to measure with; give --queries and --gallery, or "
                "split the data set with `veduta split`"
            )
        of_row = dict.fromkeys(splits.test.tolist(), "query")
        of_row |= dict.fromkeys(splits.train.tolist(), "gallery")
        rows = sorted(of_row)
        table = as_table(
            [splits.paths[row] for row in rows],
            [splits.class_names[splits.class_ids[row]] for row in rows],
            [of_row[row] for row in rows],
        )
        return Dataset(splits.root, table, splits.problems)

    def _read(
        self, options: DataSet, validation: float, seed: int, test_chooses: bool
    ) -> DatasetSplits:
        return read_splits(
            Path(options.path),
            labels=options.labels or None,
            exclude=options.exclude,
            column=options.column,
            validation=validation,
            seed=seed,
            allow_leak=self.allow_leak,
            photos_per_class=options.photos_per_class or None,
            subset_seed=options.subset_seed,
            test_chooses=test_chooses,
        )
