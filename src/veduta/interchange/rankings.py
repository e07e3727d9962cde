"""Rankings of a gallery in a few arrays, gathered from a file pair by pair."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable
from veduta.interchange.photo_ids import NOT_FOUND, PhotoIds, is_utf8
from veduta.text import count

__all__ = ["RankedPairs", "Rankings"]


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The rankings of Q queries, N pairs in all.

    Attributes:
        starts: (Q + 1,) int64. The ranking of query q is `rows[starts[q]:starts[q + 1]]`.
        rows: (N,) int32 positions in the gallery, best first.
        scores: (N,) float64 of these, as the file has them; None if it has none.
        problems: what the file lacks, one sentence each.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: NDArray[np.float64] | None
    problems: tuple[str, ...]

    def of_query(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return the ranking of a query.

        Args:
            number: of the query, from 0.

        Returns:
            (R,) int64 positions in the gallery, best first, each once, and (R,) float64 their
            scores; None if the file has none.
        """
        part = slice(self.starts[number], self.starts[number + 1])
        scores = None if self.scores is None else self.scores[part]
        return self.rows[part].astype(np.int64), scores


class RankedPairs:
    """The pairs of a file, in its order, until all of them are known."""

    def __init__(self, file: Path, *, scored: bool) -> None:
        """Begin without pairs.

        Args:
            file: where they are from, for messages.
            scored: whether each pair has a score.
        """
        self._file = file
        self._scored = scored
        self._query_numbers: dict[str, int] = {}
        self._gallery_numbers: dict[str, int] = {}
        self._queries, self._gallery = array("i"), array("i")
        self._scores = array("d")
        self._lines = array("q")

    def add(self, line: int, query: str, gallery: str, score: float = 0.0) -> None:
        """Add a pair.

        Args:
            line: of the file; 0 if it has no lines.
            query: id.
            gallery: id.
            score: higher is nearer.
        """
        numbers = self._query_numbers
        self._queries.append(numbers.setdefault(query, len(numbers)))
        numbers = self._gallery_numbers
        self._gallery.append(numbers.setdefault(gallery, len(numbers)))
        self._lines.append(line)
        if self._scored:
            self._scores.append(score)

    def add_query(self, query: str) -> None:
        """Note a query, which may have no pair.

        Args:
            query: id.
        """
        self._query_numbers.setdefault(query, len(self._query_numbers))

    def ranked(
        self, queries: Sequence[str], gallery: Sequence[str], *, as_trec_eval: bool = False
    ) -> Rankings:
        """Return the rankings: by scores, or in the order of the file if there are none.

        Args:
            queries: (Q,) ids.
            gallery: (G,) ids.
            as_trec_eval: compare scores as float32, and rank equal ones by the id in the file,
                the larger one first. Otherwise equal scores keep the order of the file.

        Raises:
            DatasetError: no query or not every gallery photo is of the set, or a pair comes twice.
        """
        if not self._queries:
            raise DatasetError(f"{readable(self._file)}: has no answers; wanted a ranking a query")
        query_rows = self._positions(self._query_numbers, queries, "query", "queries")
        left_out = int(np.count_nonzero(query_rows == NOT_FOUND))
        gallery_rows = self._positions(self._gallery_numbers, gallery, "gallery photo")
        query_of = query_rows[np.frombuffer(self._queries, np.int32)]
        known = np.flatnonzero(query_of != NOT_FOUND)
        query_of = query_of[known]
        numbers = np.frombuffer(self._gallery, np.int32)[known]
        rows = gallery_rows[numbers]
        self._refuse_twice(known, query_of, rows, queries, gallery)
        scores = np.frombuffer(self._scores, np.float64)[known] if self._scored else None
        keys: list[NDArray[np.generic]] = [query_of]
        if scores is not None and not as_trec_eval:
            keys = [-scores, query_of]
        elif scores is not None:
            with np.errstate(over="ignore"):
                keys = [self._descending_ids()[numbers], -scores.astype(np.float32), query_of]
        order = np.lexsort(keys)
        counts = np.bincount(query_of, minlength=len(queries))
        return Rankings(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            rows[order].astype(np.int32),
            None if scores is None else scores[order],
            self._problems(queries, counts, left_out),
        )

    def _positions(
        self, found: Iterable[str], known: Sequence[str], what: str, plural: str | None = None
    ) -> NDArray[np.int64]:
        """Return the position of each id of the file."""
        ids = list(found)
        if wrong := [each for each in ids if not is_utf8(each)]:
            raise DatasetError(
                f"{readable(self._file)}: {wrong[0]!r} is no text in UTF-8; wanted the id of a "
                f"{what}"
            )
        positions = PhotoIds(known).find(ids)
        unknown = [
            each for each, at in zip(ids, positions.tolist(), strict=True) if at == NOT_FOUND
        ]
        if unknown and (plural is None or len(unknown) == len(ids)):
            other = "gallery" if plural is None else "set"
            raise DatasetError(
                f"{readable(self._file)}: {len(unknown):,} of "
                f"{count(len(ids), what, plural)} unknown ({some_of(unknown)}); a ranking of "
                f"another {other}?"
            )
        return positions

    def _descending_ids(self) -> NDArray[np.int64]:
        """Return the rank of each gallery id of the file: 0 is the largest as bytes."""
        ids = [each.encode("utf-8") for each in self._gallery_numbers]
        ranks = np.empty(len(ids), np.int64)
        ranks[sorted(range(len(ids)), key=ids.__getitem__, reverse=True)] = np.arange(len(ids))
        return ranks

    def _refuse_twice(
        self,
        pairs: NDArray[np.int64],
        query_of: NDArray[np.int64],
        rows: NDArray[np.int64],
        queries: Sequence[str],
        gallery: Sequence[str],
    ) -> None:
        keys = query_of * np.int64(len(gallery)) + rows
        order = np.argsort(keys, kind="stable")
        again = order[1:][np.diff(keys[order]) == 0]
        if len(again):
            first = int(again.min())
            line = self._lines[int(pairs[first])]
            raise DatasetError(
                f"{readable(self._file)}{f', line {line}' if line else ''}: "
                f"{readable(gallery[rows[first]])} comes twice for the query "
                f"{readable(queries[query_of[first]])}; wanted each photo once"
            )

    def _problems(
        self, queries: Sequence[str], counts: NDArray[np.int64], left_out: int
    ) -> tuple[str, ...]:
        problems = []
        if without := [queries[number] for number in np.flatnonzero(counts == 0).tolist()]:
            problems.append(
                f"{len(without):,} of {count(len(queries), 'query', 'queries')} without an answer "
                f"in {readable(self._file.name)} ({some_of(without)})."
            )
        if left_out:
            problems.append(
                f"{count(left_out, 'query', 'queries')} of {readable(self._file.name)} not in the "
                "set, left out."
            )
        return tuple(problems)
