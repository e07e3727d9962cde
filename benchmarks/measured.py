"""The figures of the encoders that `veduta models` shows, from results/*.csv."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.results import SETS, Cell

FILE = "src/veduta/encoders/measured.csv"
COLUMNS = ("encoder", "set", "top1", "map", "by", "version", "date")

ALONE = "the descriptor alone"
WHOLE = "the descriptor, keypoints and graph"


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a table that measure encoders.

    Attributes:
        section: whose first table has the rows.
        rows: pattern of the labels of these rows.
        by: how the photos were ranked.
    """

    section: str
    rows: str
    by: str


SOURCES = (
    Source("accuracy", r"[\w-]+, \w+", ALONE),
    Source("methods", r".*, geometry, graph", WHOLE),
    Source("reranking", r".*\(`geometry`, the default\)\**", WHOLE),
)


def measured_csv(results: Mapping[str, Sequence[Cell]]) -> str:
    """Return top-1 and mAP of each encoder on each set as CSV, the newest of each.

    Args:
        results: section → its cells.
    """
    newest: dict[tuple[str, str, str], dict[str, str]] = {}
    for source in SOURCES:
        for row in _rows(source, results.get(source.section, ())):
            key = (row["by"], row["encoder"], row["set"])
            if key not in newest or newest[key]["date"] <= row["date"]:
                newest[key] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(newest[key] for key in sorted(newest, key=_order))
    return text.getvalue()


def _order(key: tuple[str, str, str]) -> tuple[str, str, int]:
    by, encoder, photo_set = key
    return encoder, by, SETS.index(photo_set)


def _rows(source: Source, cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Return a row for each encoder and set: from `top-1 / mAP`, or from two columns."""
    rows = []
    for (table, _), row in groupby(cells, lambda cell: (cell.table, cell.row_number)):
        own = [cell for cell in row if cell.set and cell.encoder]
        if table != 1 or not own or not re.fullmatch(source.rows, own[0].row):
            continue
        single = {cell.column: cell.value.split()[0] for cell in own if cell.value}
        pairs = [(cell, re.fullmatch(r"([\d.]+) / ([\d.]+)", cell.value)) for cell in own]
        found = [(cell, pair[1], pair[2]) for cell, pair in pairs if pair]
        if {"top-1", "mAP"} <= single.keys():
            found = [(own[0], single["top-1"], single["mAP"])]
        for cell, top1, mean in found:
            values = (cell.encoder, cell.set, top1, mean, source.by, cell.version, cell.date)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows
