"""The labelled collection itself: one Arrow table and what was wrong with its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import readable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NO_SPLIT", "SPLITS", "Dataset", "as_table", "some_of"]

SPLITS = ("query", "gallery", "distractor", "junk", "train", "val", "test", "unknown")
"""The values that a `split` column may hold.

`query` asks, `gallery` answers, `distractor` answers and is never right, `junk` takes no part,
`unknown` is a query that shows none of the labels (for recognition; retrieval leaves it out).
"""

NO_SPLIT = ""
"""The split of the rows of a collection that is not split."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled collection.

    `root`
        the folder that the paths are relative to.
    `table`
        one row a photo: `path` (string, relative to `root`, with forward slashes), `label` (string
        or null), `split` (string: one of `SPLITS`; in an unsplit collection "" in every row but
        those of classes named as distractors or unknown).
    `problems`
        what was left out and why, one sentence each; empty when all was well.
    """

    root: Path
    table: pa.Table
    problems: tuple[str, ...] = ()

    def without(self, dropped: Mapping[str, str]) -> Dataset:
        """Return the dataset less the photos in `dropped` (path → why), which become problems.

        For photos that turn out not to decode: they must leave the queries and the gallery, or
        every rank behind them is wrong.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        gone = pc.is_in(self.table["path"], value_set=pa.array(list(dropped), pa.string()))
        reasons = (f"{readable(path)}: left out, {why}" for path, why in dropped.items())
        return Dataset(self.root, self.table.filter(pc.invert(gone)), (*self.problems, *reasons))


def as_table(paths: list[str], labels: list[str | None], splits: list[str]) -> pa.Table:
    """Return the three columns of equal length as the table of a `Dataset`."""
    import pyarrow as pa

    columns = {"path": paths, "label": labels, "split": splits}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def some_of(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names, comma-separated, and how many more there are."""
    listed = [readable(name) for name in names]
    more = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
