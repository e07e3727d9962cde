"""The neutral form of every protocol: queries, a gallery, and what is right for each query.

A reader of `veduta.datasets.protocols` turns the files of one published protocol into a
`JudgedSet`. Everything after that is the same for all protocols.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["NO_POSITION", "Box", "JudgedSet", "Judgements", "unique_ids"]

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

OnProgress = Callable[[str, int, int], None]
"""Takes (stage, done, total)."""

_Number = TypeVar("_Number", np.float64, np.datetime64)

_NO_DATES = np.empty(0, "datetime64[D]")

NO_POSITION = -1
"""Stands for "not in the gallery" where a position in the gallery is wanted."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """A list of gallery photos for each of Q queries, in one array, so that millions fit in memory.

    Attributes:
        starts: (Q + 1,) int64. The list of query q is `positions[starts[q]:starts[q + 1]]`.
        positions: (N,) int64 positions in the gallery, ascending and different within a list.
        grades: (N,) float64 above 0: how relevant the photo is. 1 where the protocol has no grades.
    """

    starts: NDArray[np.int64]
    positions: NDArray[np.int64]
    grades: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        lists: Iterable[Iterable[int] | NDArray[np.int64]],
        grades: Iterable[Sequence[float]] | None = None,
    ) -> Judgements:
        """Return judgements from a list of positions for each query.

        Args:
            lists: (Q,) lists of positions, in any order.
            grades: (Q,) lists of grades, in the order of the positions; None: all grades are 1.

        Raises:
            ValueError: a position comes twice in a list, or the numbers of grades differ.
        """
        rows = [np.fromiter(each, np.int64) for each in lists]
        graded = (
            [np.ones(len(row)) for row in rows]
            if grades is None
            else [np.asarray(each, np.float64) for each in grades]
        )
        if [len(row) for row in rows] != [len(row) for row in graded]:
            raise ValueError("there are not as many grades as positions")
        orders = [np.argsort(row, kind="stable") for row in rows]
        rows = [row[order] for row, order in zip(rows, orders, strict=True)]
        if any((np.diff(row) == 0).any() for row in rows):
            raise ValueError("a position comes twice in one list")
        return cls(
            np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
            np.concatenate([*rows, np.empty(0, np.int64)]),
            np.concatenate([*(g[order] for g, order in zip(graded, orders, strict=True)), []]),
        )

    @classmethod
    def of_equal_labels(
        cls,
        queries: Sequence[str | None],
        gallery: Sequence[str | None],
        own: NDArray[np.int64] | None = None,
    ) -> Judgements:
        """Return judgements where a gallery photo with the label of the query is right.

        Args:
            queries: (Q,) labels; None for none.
            gallery: (G,) labels; None for none.
            own: (Q,) the position of each query's own photo, which is not right; None: no query is
                in the gallery.
        """
        of_label: dict[str, list[int]] = {}
        for position, label in enumerate(gallery):
            if label is not None:
                of_label.setdefault(label, []).append(position)
        arrays = {label: np.array(rows, np.int64) for label, rows in of_label.items()}
        nothing = np.empty(0, np.int64)
        lists = []
        for query, label in enumerate(queries):
            rows = nothing if label is None else arrays.get(label, nothing)
            lists.append(rows if own is None else rows[rows != own[query]])
        return cls.of(lists)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of_query(self, query: int) -> NDArray[np.int64]:
        """Return (n,) int64: the positions of the photos that are listed for a query."""
        return self.positions[self.starts[query] : self.starts[query + 1]]

    def grades_of(self, query: int) -> NDArray[np.float64]:
        """Return (n,) float64: the grades of these photos."""
        return self.grades[self.starts[query] : self.starts[query + 1]]

    def query_of(self) -> NDArray[np.int64]:
        """Return (N,) int64: the query of each position."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def stays(self, queries: NDArray[np.bool_], gallery: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which of the N judgements are of queries and gallery photos that stay.

        Args:
            queries: (Q,) bool: which queries stay.
            gallery: (G,) bool: which gallery photos stay.
        """
        return np.asarray(queries[self.query_of()] & gallery[self.positions])

    def some(self, queries: NDArray[np.bool_], gallery: NDArray[np.bool_]) -> Judgements:
        """Return the judgements of some queries and gallery photos, which move up.

        Args:
            queries: (Q,) bool: which queries stay.
            gallery: (G,) bool: which gallery photos stay.
        """
        new_positions = np.cumsum(gallery) - 1
        stays = self.stays(queries, gallery)
        counts = np.bincount(self.query_of()[stays], minlength=len(self))[queries]
        return Judgements(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            new_positions[self.positions[stays]],
            self.grades[stays],
        )


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """A set of Q queries and G gallery photos with its judgements.

    Photos are named by ids, as the files of the protocol name them: descriptors and rankings of
    other programs use the same ids. The distractors are the last photos of the gallery. Equal
    scores rank in the order of the gallery.

    Attributes:
        protocol: the name of the protocol, a key of `veduta.datasets.protocols.PROTOCOLS`.
        name: of the set, with its variant.
        root: the folder that paths are relative to.
        queries: (Q,) ids, all different.
        gallery: (G,) ids, all different. A query and a gallery photo may have the same id.
        query_paths: (Q,) paths of the photos.
        gallery_paths: (G,) paths of the photos. Of distractors that are unpacked elsewhere they are
            absolute.
        positives: the photos that are right for each query. A distractor is never right.
        junk: the photos that are taken out before ranking: neither right nor wrong. The own photo
            of a query that is in the gallery is not listed; `own` has it.
        own: (Q,) int64: the position of the query's own photo in the gallery, which is taken out
            before ranking; -1 if it is not there, or if the protocol ranks it.
        distractors: how many of the G photos are distractors.
        boxes: (Q,) the part of each photo that is the query, None for the whole photo; empty if no
            query has a box.
        query_labels: (Q,) what each query shows, None for nothing that the gallery shows; empty if
            the protocol has no labels.
        gallery_labels: (G,) what each gallery photo shows; empty if the protocol has no labels.
        query_places: (Q, 2) float64 east and north in metres, or (Q, 1) frame numbers; empty if the
            protocol has none.
        gallery_places: (G, 2) or (G, 1), like `query_places`.
        query_dates: (Q,) datetime64[D] when each photo was taken, NaT if that is not known; empty
            if the protocol has no dates.
        gallery_dates: (G,) datetime64[D], like `query_dates`.
        groups: name of a grouping, such as "scale" → (N,) the name of the group of each positive,
            in the order of `positives.positions`.
        problems: what was left out and why, one sentence each.
        notes: facts that a reader of the figures must know, one sentence each.
        unpack: writes the photos to their paths, where the published files hold them as bytes. It
            is called with what takes (stage, done, total). None: the photos are files already.
    """

    protocol: str
    name: str
    root: Path
    queries: tuple[str, ...]
    gallery: tuple[str, ...]
    query_paths: tuple[str, ...]
    gallery_paths: tuple[str, ...]
    positives: Judgements
    junk: Judgements | None = None
    own: NDArray[np.int64] | None = None
    distractors: int = 0
    boxes: tuple[Box | None, ...] = ()
    query_labels: tuple[str | None, ...] = ()
    gallery_labels: tuple[str | None, ...] = ()
    query_places: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    gallery_places: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    query_dates: NDArray[np.datetime64] = field(default_factory=lambda: _NO_DATES)
    gallery_dates: NDArray[np.datetime64] = field(default_factory=lambda: _NO_DATES)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unpack: Callable[[OnProgress | None], None] | None = None

    def own_position(self, query: int) -> int | None:
        """Return the position in the gallery of the query's own photo; None if it is not there."""
        own = NO_POSITION if self.own is None else int(self.own[query])
        return None if own == NO_POSITION else own

    def left_out(self, query: int) -> NDArray[np.int64]:
        """Return (n,) int64: the positions that are taken out before ranking."""
        out = np.empty(0, np.int64) if self.junk is None else self.junk.of_query(query)
        own = self.own_position(query)
        return out if own is None else np.append(out, own)

    def box(self, query: int) -> Box | None:
        """Return the part of the photo that is the query; None for the whole photo."""
        return self.boxes[query] if self.boxes else None

    def without(self, queries: Collection[str], gallery: Collection[str]) -> JudgedSet:
        """Return the set without some photos. Those behind them move up.

        Args:
            queries: ids of queries.
            gallery: ids of gallery photos.
        """
        query_stays = np.array([each not in queries for each in self.queries], np.bool_)
        gallery_stays = np.array([each not in gallery for each in self.gallery], np.bool_)
        new_positions = np.where(gallery_stays, np.cumsum(gallery_stays) - 1, NO_POSITION)
        stays = self.positives.stays(query_stays, gallery_stays)
        own = self.own
        if own is not None:
            moved = np.where(own == NO_POSITION, NO_POSITION, new_positions[own])
            own = moved[query_stays]
        regular = len(self.gallery) - self.distractors
        return replace(
            self,
            queries=_some(self.queries, query_stays),
            gallery=_some(self.gallery, gallery_stays),
            query_paths=_some(self.query_paths, query_stays),
            gallery_paths=_some(self.gallery_paths, gallery_stays),
            positives=self.positives.some(query_stays, gallery_stays),
            junk=None if self.junk is None else self.junk.some(query_stays, gallery_stays),
            own=own,
            distractors=int(gallery_stays[regular:].sum()),
            boxes=_some(self.boxes, query_stays),
            query_labels=_some(self.query_labels, query_stays),
            gallery_labels=_some(self.gallery_labels, gallery_stays),
            query_places=_rows(self.query_places, query_stays),
            gallery_places=_rows(self.gallery_places, gallery_stays),
            query_dates=_rows(self.query_dates, query_stays),
            gallery_dates=_rows(self.gallery_dates, gallery_stays),
            groups={name: _some(values, stays) for name, values in self.groups.items()},
        )

    def with_problems(self, *problems: str) -> JudgedSet:
        """Return the set with further problems.

        Args:
            problems: one sentence each.
        """
        return replace(self, problems=(*self.problems, *problems))

    def missing_photos(self) -> tuple[list[str], list[str]]:
        """Return the ids of the queries and of the gallery photos whose files do not exist."""
        return tuple(  # type: ignore[return-value]
            [
                each
                for each, path in zip(ids, paths, strict=True)
                if not os.path.isfile(self.root / path)
            ]
            for ids, paths in (
                (self.queries, self.query_paths),
                (self.gallery, self.gallery_paths),
            )
        )


def unique_ids(file: str | os.PathLike[str], what: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Return ids, and refuse those that come twice.

    Args:
        file: the file that has them, for the message.
        what: what they are the ids of, such as "queries".
        ids: the ids.

    Raises:
        DatasetError: an id comes twice.
    """
    if len(set(ids)) < len(ids):
        twice = sorted(each for each, times in Counter(ids).items() if times > 1)
        raise DatasetError(
            f"{readable(file)}: {count(len(twice), 'id')} of the {what} twice ({some_of(twice)}); "
            "each must be there once"
        )
    return tuple(ids)


def _some(values: tuple, stays: NDArray[np.bool_]) -> tuple:  # type: ignore[type-arg]
    return tuple(value for value, stay in zip(values, stays, strict=True) if stay) if values else ()


def _rows(values: NDArray[_Number], stays: NDArray[np.bool_]) -> NDArray[_Number]:
    return values[stays] if len(values) else values
