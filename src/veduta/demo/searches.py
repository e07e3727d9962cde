"""The searches of the demo: build an index, search it with each query, and show the hits."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.demo.sample_photos import DemoPhotos
from veduta.errors import PhotoError
from veduta.pages.results_page import Figure, ResultRow, ResultsPage

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.evaluation.metrics import QueryResult
    from veduta.index import UpdateReport
    from veduta.search import Hit

__all__ = [
    "HITS_SHOWN",
    "Answer",
    "build_index",
    "demo_page",
    "search_own_photos",
    "search_samples",
]

HITS_SHOWN = 10
"""Hits of a query on the page."""

_MATCH_PICTURES = 1  # hits of a query that get a picture of their matches
_OWN_QUERIES = 12  # photos of the user that become queries
_QUERY_SIDE = 256  # pixels of a query on the page
_SEED = 1764

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """A query and its hits.

    Attributes:
        query: the photo.
        name: how the demo calls it.
        hits: best first.
        result: compared with the right answers, where these are known.
    """

    query: Path
    name: str
    hits: Sequence[Hit]
    result: QueryResult | None = None


def build_index(
    photos: Path, folder: Path, *, labels: str | None, on_progress: OnProgress
) -> tuple[Index, UpdateReport]:
    """Build an index anew, so that every demo shows how long that takes.

    Args:
        photos: the folder to index.
        folder: of the index; an older index in it is removed.
        labels: as for `Index.add`.
        on_progress: called with (stage, done, total).

    Returns:
        The index, and what was indexed.
    """
    from veduta import api, index

    if (folder / index.MANIFEST_FILE).exists():
        shutil.rmtree(folder)
    built = api.create(folder)
    report = built.add(
        photos,
        labels=labels,
        on_progress=lambda state: on_progress("Indexing", state.done, state.total),
        on_linking=lambda done, total: on_progress("Linking", done, total),
    )
    return built, report


def search_samples(index: Index, photos: DemoPhotos) -> list[Answer]:
    """Search with the query of each subject, and compare the hits with the right answers."""
    from veduta.evaluation.metrics import judge

    answers = []
    for subject in photos.subjects:
        query = next((photos.queries / subject.name).glob("*.jpg"))
        hits = index.search(query, k=len(index))
        right = [hit.label == subject.name for hit in hits]
        result = judge(str(query), subject.name, [hit.score for hit in hits], right)
        answers.append(Answer(query, subject.name, hits, result))
    return answers


def search_own_photos(index: Index, photos: Path) -> Iterator[Answer]:
    """Search with a dozen photos of a folder, each among the others. The choice is repeatable."""
    from veduta.photos import find_photos

    paths = [Path(os.fsdecode(photo.path)) for photo in find_photos([photos])]
    random.Random(_SEED).shuffle(paths)  # noqa: S311 - a choice that anyone can repeat
    queries = 0
    for path in paths:
        try:
            hits = index.search(path, k=HITS_SHOWN + 1)
        except PhotoError:
            continue  # The index has reported it already.
        others = [hit for hit in hits if hit.path != os.path.abspath(path)]
        yield Answer(path, os.path.relpath(path, photos), others[:HITS_SHOWN])
        queries += 1
        if queries == _OWN_QUERIES:
            return


def demo_page(
    index: Index,
    answers: Sequence[Answer],
    *,
    title: str,
    subtitle: str,
    note: str,
    figures: Sequence[Figure] = (),
) -> ResultsPage:
    """Return what the page of results shows.

    Args:
        index: the index that was searched.
        answers: one row each.
        title: the heading.
        subtitle: a line below it.
        note: a sentence on how to read the page.
        figures: measured values, where the right answers are known.
    """
    return ResultsPage(
        title=title,
        rows=(_row(index, answer) for answer in answers),
        subtitle=subtitle,
        figures=figures,
        notes=(note,),
        explains_marks=bool(figures),
    )


def _row(index: Index, answer: Answer) -> ResultRow:
    from veduta import photos
    from veduta.pages.hit import hit_tiles

    tiles = hit_tiles(index, [answer.query], answer.hits[:HITS_SHOWN], pictures=_MATCH_PICTURES)
    if answer.result:
        tiles = [replace(tile, correct=tile.label == answer.name) for tile in tiles]
    photo = photos.thumbnail(photos.load(answer.query, at_least=_QUERY_SIDE).pixels)
    return ResultRow(answer.name, None, photo, tiles)
