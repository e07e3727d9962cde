"""Answers of other programs: rank a gallery by given descriptors, or take a given ranking.

Memory holds the descriptors of some queries and of a block of the gallery, and the scores of these
queries: never queries × gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import readable
from veduta.evaluation.protocol_judge import Answer, GivenOrder
from veduta.interchange.descriptor_files import DescriptorTable, open_descriptors
from veduta.interchange.ranking_files import read_ranking
from veduta.search.distances import distances

__all__ = ["GivenAnswers", "open_given_answers"]

_BLOCK_QUERIES = 64
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class GivenAnswers:
    """The answers to Q queries, and where they are from.

    Attributes:
        answers: one for each query, in their order; read one at a time.
        settings: for reports: `answers` in words, `file` the names of the files.
        problems: what was left out of the files, one sentence each.
    """

    answers: Iterator[Answer]
    settings: dict[str, Any]
    problems: tuple[str, ...]


def open_given_answers(
    queries: Sequence[str],
    gallery: Sequence[str],
    *,
    descriptors: Sequence[Path] = (),
    ranking: Path | None = None,
    distance: str = "cosine",
) -> GivenAnswers:
    """Open the answers of another program.

    Args:
        queries: (Q,) ids.
        gallery: (G,) ids.
        descriptors: files of descriptors, see `veduta.interchange.descriptor_files`.
        ranking: a file of rankings, see `veduta.interchange.ranking_files`; not with `descriptors`.
        distance: how descriptors are compared, one of `veduta.search.DISTANCES`.

    Returns:
        The answers, in the order of the queries.

    Raises:
        DatasetError: a file cannot be read, lacks photos, or is of another gallery.
        ValueError: both or neither are named.
    """
    if bool(descriptors) == (ranking is not None):
        raise ValueError("name descriptors or a ranking")
    if ranking is not None:
        rankings = read_ranking(ranking, queries, gallery)
        settings = {"answers": "given ranking", "file": readable(ranking.name)}
        orders = (GivenOrder(*rankings.of_query(number)) for number in range(len(queries)))
        return GivenAnswers(orders, settings, rankings.problems)
    table = open_descriptors(descriptors)
    settings = {
        "answers": "given descriptors",
        "file": ", ".join(readable(file.name) for file in descriptors),
        "dimension": table.dimension,
        "distance": distance,
    }
    rows = table.rows_of(queries), table.rows_of(gallery)
    return GivenAnswers(_scores(table, *rows, distance), settings, table.problems)


def _scores(
    table: DescriptorTable,
    queries: NDArray[np.int64],
    gallery: NDArray[np.int64],
    distance: str,
) -> Iterator[NDArray[np.float32]]:
    """Yield (G,) scores of each query."""
    for _, raw in table.blocks(queries, _BLOCK_QUERIES):
        block = _of_length_one(raw) if distance == "cosine" else raw
        scores = np.empty((len(block), len(gallery)), np.float32)
        for part, rows in table.blocks(gallery, _BLOCK_ROWS):
            if distance == "cosine":
                scores[:, part] = block @ _of_length_one(rows).T
            else:
                scores[:, part] = [-distances(rows, query, distance) for query in block]
        yield from scores


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
