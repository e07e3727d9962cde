"""`veduta search`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import DISTANCES, CropType, index_option, json_option
from veduta.cli.printing import file_url, print_json, shown
from veduta.errors import PhotoError, QueryError, readable

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.search import Hit
    from veduta.search.gallery_page import ResultRow

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y")

_QUERY_PHOTO = 640  # pixels, long side on the page
_JOIN = " + "

Answer = tuple[str, "list[Hit]"]


@click.command("search")
@click.argument("queries", nargs=-1, required=True, type=click.Path(path_type=Path))
@index_option
@click.option("-k", default=10, show_default=True, metavar="N", help="Hits a query.")
@click.option("--together", is_flag=True, help="Take all queries as photos of one thing.")
@click.option("--crop", type=CropType(), help="Search for a region of the query, in pixels.")
@click.option("--label", "labels", multiple=True, help="Only photos with this label (repeatable).")
@click.option("--under", type=click.Path(path_type=Path), help="Only photos in this folder.")
@click.option("--after", type=click.DateTime(_DATES), help="Only photos taken then or later.")
@click.option("--before", type=click.DateTime(_DATES), help="Only photos taken earlier.")
@click.option("--min-score", type=float, metavar="S", help="Only hits with at least this score.")
@click.option(
    "--distance", type=click.Choice(DISTANCES), default="cosine", show_default=True,
    help="How descriptors are compared; scores of the others are minus the distance.",
)  # fmt: skip
@click.option("--exact", is_flag=True, help="Do not use the approximate index, if there is one.")
@json_option
@click.option("--dict", "as_dict", is_flag=True, help='Print {"query": ["gallery", …], …} as JSON.')
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def command(
    queries: tuple[Path, ...],
    index_path: Path,
    k: int,
    together: bool,
    crop: tuple[int, int, int, int] | None,
    labels: tuple[str, ...],
    under: Path | None,
    after: datetime | None,
    before: datetime | None,
    min_score: float | None,
    distance: str,
    exact: bool,
    as_json: bool,
    as_dict: bool,
    html: Path | None,
    open_page: bool,
) -> int:
    """Rank the photos of an index by their likeness to each QUERY photo.

    A QUERY that is a folder stands for the photos in it. A QUERY that cannot be read is reported
    and the others are answered (exit code 3).
    """
    from veduta import api

    index = api.open(index_path)
    failed = False
    answers: list[Answer] = []
    for group in _groups(queries, together):
        try:
            hits = index.search(
                *group, k=k, label=labels, under=under, after=after, before=before,
                min_score=min_score, crop=crop, distance=distance, exact=exact,
            )  # fmt: skip
        except PhotoError as error:
            if together:
                raise
            click.echo(f"veduta: {error}", err=True)
            failed = True
            continue
        answers.append((_JOIN.join(os.fspath(photo) for photo in group), hits))
    if index.notice:
        click.echo(f"veduta: {index.notice}", err=True)
    if as_dict:
        print_json({query: [hit.path for hit in hits] for query, hits in answers})
    elif as_json:
        print_json(
            [{"query": query, "hits": [hit.as_json() for hit in hits]} for query, hits in answers]
        )
    else:
        _print(answers)
    if html or open_page:
        _write_page(index, answers, html, open_page)
    return 3 if failed else 0


def _groups(queries: Sequence[Path], together: bool) -> list[list[Path]]:
    from veduta.photos import find_photos

    photos: list[Path] = []
    for query in queries:
        if query.is_dir():
            inside = [Path(os.fsdecode(found.path)) for found in find_photos([query])]
            if not inside:
                raise QueryError(f"{readable(query)}: no photo in this folder.")
            photos += inside
        else:
            photos.append(query)
    return [photos] if together else [[photo] for photo in photos]


def _print(answers: Sequence[Answer]) -> None:
    for number, (query, hits) in enumerate(answers):
        if len(answers) > 1:
            click.echo(("\n" if number else "") + click.style(shown(query), bold=True))
        if not hits:
            click.echo("No photo fits.")
        for rank, hit in enumerate(hits, 1):
            label = f"  [{hit.label}]" if hit.label else ""
            click.echo(f"{rank:3}  {hit.score:6.3f}  {shown(hit.path)}{label}")


def _write_page(index: Index, answers: Sequence[Answer], html: Path | None, show: bool) -> None:
    """Write the page to `html`, or to a temporary file that outlives us, and open it if asked."""
    from veduta.search.gallery_page import GalleryPage, write_page

    if html is None:
        handle, name = tempfile.mkstemp(prefix="veduta-", suffix=".html")
        os.close(handle)
        html = Path(name)
    page = GalleryPage(title="Veduta: search", subtitle=f"in {shown(index.path)}")
    write_page(html, page, (_page_row(index, query, hits) for query, hits in answers))
    click.echo(f"wrote {shown(html)}", err=True)
    if show:
        click.launch(file_url(html))


def _page_row(index: Index, query: str, hits: list[Hit]) -> ResultRow:
    from veduta import photos
    from veduta.search.gallery_page import ResultRow, ResultTile

    first = query.split(_JOIN, maxsplit=1)[0]
    tiles = [
        ResultTile(
            name=hit.name,
            label=hit.label,
            score=hit.score,
            thumbnail=thumbnail or None,
            link=file_url(Path(hit.path)),
        )
        for hit, thumbnail in zip(hits, index.thumbnails(hits), strict=True)
    ]
    return ResultRow(
        name=query if _JOIN in query else os.path.basename(query),
        label=None,
        photo=photos.thumbnail(photos.load(first, at_least=_QUERY_PHOTO).pixels, _QUERY_PHOTO),
        tiles=tiles,
    )
