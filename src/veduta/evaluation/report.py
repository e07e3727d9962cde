"""An evaluation as people keep it: JSON, the ranked lists, the page and the picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from veduta.evaluation.metrics import QueryResult
from veduta.evaluation.summary import ClassSummary, Summary, class_table
from veduta.pages.contact_sheet import write_sheet
from veduta.pages.hit import HitTile
from veduta.pages.results_page import (
    Figure,
    ResultRow,
    ResultsPage,
    Table,
    write_results_page,
)
from veduta.text import count

__all__ = [
    "FIGURES",
    "ResultRow",
    "Thumbnail",
    "as_json",
    "counts",
    "ranked_lists",
    "result_rows",
    "sample",
    "write_html",
    "write_png",
]

Thumbnail = Callable[[str], bytes | None]
"""From a path of the dataset to JPEG bytes; None when there is no picture."""

_ON_A_PICTURE = 6  # figures, for which its title has room
_INTERVALS = "95 % bootstrap intervals over queries"

FIGURES = (
    ("Top-1", "top1", "share of the queries whose first answer is right"),
    ("Top-3", "top3", "share of the queries with a right answer among the first three"),
    ("Top-5", "top5", "share of the queries with a right answer among the first five"),
    ("Top-10", "top10", "share of the queries with a right answer among the first ten"),
    ("mAP", "map", "mean average precision over the whole ranked gallery"),
    ("Precision@10", "p10", "right answers among the first ten, divided by ten"),
    ("Recall@10", "recall10", "right answers among the first ten, divided by all right answers"),
    ("mAP@100", "map100", "mean average precision within the first hundred"),
)


def as_json(
    summary: Summary, results: Sequence[QueryResult], problems: Sequence[str] = ()
) -> dict[str, object]:
    """Return the summary's keys, and `classes` (a list of objects) and `problems` beside them."""
    classes = [
        {"label": row.label, "queries": row.queries, "top1": row.top1, "map": row.map}
        for row in class_table(results)
    ]
    return {**summary.as_json(), "classes": classes, "problems": list(problems)}


def ranked_lists(
    results: Iterable[QueryResult], gallery_paths: Sequence[str]
) -> dict[str, list[str]]:
    """Return the dictionary from query path to gallery paths, nearest first.

    `gallery_paths`: (G,), in the order that the scores had.
    """
    return {result.path: [gallery_paths[near.row] for near in result.nearest] for result in results}


def sample(results: Sequence[QueryResult], count: int) -> list[QueryResult]:
    """Return at most `count` results, evenly from the worst AP to the best, worst first.

    A page of all queries is too large to open, one of the best is an advertisement. Queries without
    a positive come last, and only when there is room for all.
    """
    judged = sorted((r for r in results if r.positives), key=lambda r: (r.ap, r.path))
    if len(results) <= count:
        return judged + [r for r in results if not r.positives]
    if len(judged) <= count:
        return judged
    if count < 2:
        return judged[:count]
    return [judged[round(i * (len(judged) - 1) / (count - 1))] for i in range(count)]


def result_rows(
    results: Iterable[QueryResult],
    gallery_paths: Sequence[str],
    gallery_labels: Sequence[str | None],
    *,
    query_photo: Thumbnail,
    thumbnail: Thumbnail,
) -> Iterator[ResultRow]:
    """Yield the rows of the page and of the picture, one query at a time.

    `gallery_paths`, `gallery_labels`: (G,), in the order that the scores had. `query_photo` gives
    the query's larger picture, `thumbnail` those of the answers.
    """
    for result in results:
        tiles = [
            HitTile(
                name=_file_name(gallery_paths[near.row]),
                label=gallery_labels[near.row],
                score=near.score,
                correct=near.correct if result.positives else None,
                thumbnail=thumbnail(gallery_paths[near.row]),
            )
            for near in result.nearest
        ]
        yield ResultRow(
            name=_file_name(result.path),
            label=result.label,
            photo=query_photo(result.path),
            tiles=tiles,
            note=_note(result),
        )


def write_html(
    file: str | os.PathLike[str],
    *,
    title: str,
    summary: Summary,
    classes: Sequence[ClassSummary],
    rows: Iterable[ResultRow],
    subtitle: str = "",
    problems: Sequence[str] = (),
) -> None:
    """Write the page: the figures, the classes weakest first, the problems, then the rows.

    `subtitle`: what was measured with (encoder, index); the counts are put before it.

    Raises `OSError` when `file` cannot be written.
    """
    figures = [
        Figure(name, getattr(summary, key), getattr(summary, f"{key}_interval"), explanation)
        for name, key, explanation in FIGURES
    ]
    weakest_first = sorted(classes, key=lambda row: (row.map, row.label))
    table = Table(
        "Each class, weakest first",
        ("class", "queries", "top-1", "mAP"),
        [(row.label, row.queries, row.top1, row.map) for row in weakest_first],
    )
    page = ResultsPage(
        title=title,
        rows=rows,
        subtitle=" · ".join(part for part in (counts(summary), _INTERVALS, subtitle) if part),
        figures=figures,
        tables=[table] if classes else [],
        notes=problems,
        explains_marks=True,
    )
    write_results_page(file, page)


def write_png(
    file: str | os.PathLike[str], *, title: str, summary: Summary, rows: Sequence[ResultRow]
) -> None:
    """Write the picture: at most `contact_sheet.MOST_ROWS` rows under a line of figures.

    Raises `ValueError` for no row or too many, `OSError` when `file` cannot be written.
    """
    shown = FIGURES[:_ON_A_PICTURE]
    figures = ", ".join(f"{name} {getattr(summary, key):.3f}" for name, key, _ in shown)
    write_sheet(file, rows, title=f"{title}: {figures}")


def counts(summary: Summary) -> str:
    """Return how many queries and photos the figures are over, as a sentence without its stop."""
    text = f"{count(summary.queries, 'query', 'queries')} against "
    text += count(summary.gallery, "gallery photo")
    if summary.distractors:
        text += f" and {count(summary.distractors, 'distractor')}"
    if summary.queries_without_positives:
        left_out = count(summary.queries_without_positives, "query", "queries")
        text += f"; {left_out} without a right answer there left out"
    return text


def _note(result: QueryResult) -> str:
    if not result.positives:
        return "no right answer in the gallery"
    right = sum(near.correct for near in result.nearest[:10])
    of = min(10, len(result.nearest))
    return (
        f"first right at rank {result.first_correct_rank} · {right} of the first {of} right · "
        f"average precision {result.ap:.2f}"
    )


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
