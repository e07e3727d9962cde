"""The labelled sets of photos that the benchmarks of accuracy use, and what is known about them."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

SETS = ("landmarks30", "same_place", "objects20", "domains4")
DEFAULT_DATA = Path("../shared/data")

# These places of landmarks30 stand in one courtyard. A photo of one often shows another.
ONE_COMPLEX = ("alai_darwaza", "alai_minar", "iron_pillar", "qutub_minar")


def add_data_option(options: argparse.ArgumentParser) -> None:
    """Add `--data`, the folder of the sets."""
    options.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, help="folder of the labelled sets"
    )


def present_sets(
    options: argparse.ArgumentParser, data: Path, names: Sequence[str] = SETS
) -> list[str]:
    """Return the names of the sets that `data` has; end the program if it has none."""
    present = [name for name in names if (data / name).is_dir()]
    if not present:
        options.error(f"{data} has none of the sets {', '.join(names)}")
    return present


def require_sets(options: argparse.ArgumentParser, data: Path, names: Sequence[str]) -> None:
    """End the program if `data` lacks one of the sets."""
    for name in names:
        if not (data / name).is_dir():
            options.error(f"{data} has no {name}")


def corridor_positives(folder: Path) -> dict[str, set[str]]:
    """Return query path → paths of its positives, for the corridor of same_place.

    Args:
        folder: of a set. If it has no such file, the result is empty.
    """
    file = folder / "corridor_positives.csv"
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["query"]: set(row["positives"].split()) for row in csv.DictReader(lines)}
