"""What a table remembers of a row between two runs: one JSON file for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from veduta.files import write_text
from veduta.learn.tables.figures import Value
from veduta.safe_names import safe_name
from veduta.validation import InvalidValue, read_json

__all__ = ["RECORDS_FOLDER", "RowRecord", "State", "TrainedOn", "read_record", "write_record"]

RECORDS_FOLDER = "rows"
FORMAT_VERSION = 1

State = Literal["done", "weights missing", "photos missing", "failed", "unfinished", "not run"]
"""How far a row is. "unfinished": its training began. "not run": nothing was done yet."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What decides the weights of a trained row.

    Attributes:
        recipe: the digest of the recipe.
        photos: the digest of the training photos.
        weights: a digest of the files whose weights the recipe takes; "" if it names none.
    """

    recipe: str
    photos: str
    weights: str = ""


@dataclass(frozen=True, slots=True)
class RowRecord:
    """A row after a run.

    Attributes:
        row: its name.
        state: how far it is.
        trained_on: of the run in its folder; None for a row without a recipe, or before a run.
        measured_on: a digest of what decides the figures; "" without figures.
        photos: the digest of the queries and the gallery; "" if they were not searched.
        figures: key → value.
        queries: the number of queries that the figures of the search are over.
        gallery: the number of gallery photos.
        parameters: of the network; None without a network, or where it is not known.
        epochs: that were trained.
        seconds: the time of the training.
        notes: sentences that a reader of the figures should know.
        error: why there are no figures, and the remedy.
        version: of the format.
    """

    row: str
    state: State = "not run"
    trained_on: TrainedOn | None = None
    measured_on: str = ""
    photos: str = ""
    figures: Mapping[str, Value] = field(default_factory=dict)
    queries: int = 0
    gallery: int = 0
    parameters: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""
    version: int = FORMAT_VERSION

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self)


def read_record(folder: Path, row: str) -> RowRecord:
    """Return what is remembered of a row. A record that does not read counts as none.

    Args:
        folder: of the table.
        row: the name of the row.
    """
    try:
        record = read_json(_file(folder, row), RowRecord)
    except (OSError, InvalidValue):
        return RowRecord(row)
    return record if record.version == FORMAT_VERSION and record.row == row else RowRecord(row)


def write_record(folder: Path, record: RowRecord) -> None:
    """Write what is to be remembered of a row.

    Args:
        folder: of the table.
        record: the record.

    Raises:
        OSError: it cannot be written.
    """
    file = _file(folder, record.row)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(record.as_json(), indent=1) + "\n")


def _file(folder: Path, row: str) -> Path:
    return folder / RECORDS_FOLDER / f"{safe_name(row)}.json"
