"""The measured unit costs, and what the plan assumes besides them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import ROOT, Cell, read_cells

__all__ = ["ASSUMPTIONS", "COSTS", "Assumptions", "Searched", "Spread", "UnitCosts"]

COSTS = ROOT / "results" / "pipeline_costs.csv"
ASSUMPTIONS = ROOT / "benchmarks" / "plan_assumptions.toml"

_PHOTO, _FIGURES, _STEPS, _SEARCHED = 1, 2, 3, 4
"""The tables of the section pipeline_costs."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A cost of a photo.

    Attributes:
        mean: of the measurements.
        shares: ascending, from 0 to 1.
        values: the quantiles at these shares.
    """

    mean: float
    shares: tuple[float, ...]
    values: tuple[float, ...]

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw between the quantiles, evenly, and scale so that the mean is the measured one."""
        middles = (np.array(self.values[1:]) + self.values[:-1]) / 2
        mean = float(middles @ np.diff(self.shares))
        drawn = np.interp(rng.random(shape), self.shares, self.values)
        return np.asarray(drawn * (self.mean / mean))


@dataclass(frozen=True, slots=True)
class Searched:
    """A search by cells that was measured.

    Attributes:
        photos: in the collection.
        cells: of the collection.
        compared: codes of a query.
        milliseconds: of a query, the median.
        recall: of the ten nearest.
    """

    photos: int
    cells: int
    compared: int
    milliseconds: float
    recall: float


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """What `benchmarks.pipeline_costs` measured.

    Attributes:
        spreads: cost of a photo or pair, with its unit → its spread.
        figures: what a photo has in an index, with its unit → figure.
        steps: step of a collection, with its unit → the median.
        searched: the searches by cells.
        provenance: date, machine and command.
    """

    spreads: Mapping[str, Spread]
    figures: Mapping[str, float]
    steps: Mapping[str, float]
    searched: Sequence[Searched]
    provenance: str

    @classmethod
    def read(cls, file: Path = COSTS) -> Self:
        """Read the CSV file of the section.

        Raises:
            ValueError: it is missing, or is of another version of the benchmark.
        """
        remedy = "Measure again: python -m benchmarks.pipeline_costs --docs PAGE"
        if not file.is_file():
            raise ValueError(f"{file} is missing. {remedy}")
        try:
            return cls._of(read_cells(file))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{file} is of another version: {error!r}. {remedy}") from error

    @classmethod
    def _of(cls, cells: Sequence[Cell]) -> Self:
        tables: dict[int, dict[str, dict[str, str]]] = {}
        for (table, number), row in groupby(cells, lambda cell: (cell.table, cell.row_number)):
            own = list(row)
            name = own[0].row if table != _SEARCHED else str(number)
            tables.setdefault(table, {})[name] = {cell.column: cell.value for cell in own}
        first = cells[0]
        return cls(
            spreads={name: _spread(row) for name, row in tables[_PHOTO].items()},
            figures={name: _number(row["figure"]) for name, row in tables[_FIGURES].items()},
            steps={name: _number(row["median"]) for name, row in tables[_STEPS].items()},
            searched=[
                Searched(
                    *(int(_number(row[name])) for name in ("photos", "cells", "codes compared")),
                    *(_number(row[name]) for name in ("ms a query", "recall@10")),
                )
                for row in tables[_SEARCHED].values()
            ],
            provenance=f"{first.date}, `{first.command}`",
        )


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _spread(row: Mapping[str, str]) -> Spread:
    percents = [column for column in row if column.endswith(" %")]
    return Spread(
        _number(row["mean"]),
        tuple(_number(column.removesuffix(" %")) / 100 for column in percents),
        tuple(_number(row[column]) for column in percents),
    )


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is assumed. `plan_assumptions.toml` says what each is, with its unit."""

    date: str
    block_photos: float
    worker_cores: float
    worker_network_mb_s: float
    storage_mb_s: float
    hours_to_failure: float
    harsh_hours_to_failure: float
    restart_seconds: float
    straggler_share: float
    straggler_factor: float
    driver_cores: float
    driver_memory_gb: float
    driver_disk_tb: float
    driver_disk_mb_s: float
    open_files: float
    disk_read_ms: float
    link_block_photos: float
    link_halo: float
    verified_photos: float
    dollars_core_hour: float
    dollars_core_hour_interruptible: float
    dollars_gb_month: float
    dollars_gb_month_disk: float
    dollars_gb_egress: float
    dollars_million_reads: float

    @classmethod
    def read(cls, file: Path = ASSUMPTIONS) -> Self:
        """Read a file of assumptions.

        Raises:
            ValueError: an assumption is missing, unknown, or no number that makes sense.
        """
        return cls(**{name: value for name, (value, _) in read_assumptions(file).items()})


def read_assumptions(file: Path = ASSUMPTIONS) -> dict[str, tuple[Any, str]]:
    """Return name → value and what it is.

    Raises:
        ValueError: as for `Assumptions.read`.
    """
    entries = tomllib.loads(file.read_text("utf-8"))
    wanted = {field.name for field in fields(Assumptions)}
    for name in sorted(wanted ^ entries.keys()):
        raise ValueError(f"{file}: {name} is {'missing' if name in wanted else 'unknown'}")
    for name, entry in entries.items():
        value = entry.get("value")
        numeric = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not (numeric or (name == "date" and isinstance(value, str))):
            raise ValueError(f"{file}: {name} is {value!r}. Write a number above 0.")
    return {name: (entry["value"], entry["what"]) for name, entry in entries.items()}
