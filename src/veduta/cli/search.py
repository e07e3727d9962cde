"""`veduta search`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import (
    CropType,
    FiniteFloat,
    device_option,
    html_option,
    index_option,
    json_option,
    orientation_option,
    rerank_options,
)
from veduta.cli.photo_arguments import named_photos
from veduta.cli.printing import bounds, file_url, mark, print_json, print_notice, say, shown
from veduta.cli.query_labels import QueryLabels, is_correct
from veduta.errors import PhotoError, QueryError
from veduta.search.options import DISTANCES, SearchOptions
from veduta.text import count

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.pages.results_page import ResultRow
    from veduta.search import Hit, Hits

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m", "%Y")

_QUERY_SIDE = 640
"""Long side of a query photo on the page, in pixels."""

_MATCH_PICTURES = 5
"""How many hits of a query have a picture of their matches on the page."""

_MAP_PICTURES = 5
"""How many hits of a query have a picture of the map of their similarity with --maps."""

_MAX_LISTED_COPIES = 5
"""Of one hit. --json and --html have all of them."""

_EXIT_UNREADABLE = 3

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The photos of one query and their hits."""

    photos: list[Path]
    hits: Hits
    label: str | None = None

    @property
    def query(self) -> str:
        """The paths of the query as one name."""
        return " + ".join(os.fspath(photo) for photo in self.photos)


@click.command("search")
@click.argument("queries", nargs=-1, required=True, type=click.Path(path_type=Path))
@index_option
@click.option("-k", default=10, show_default=True, metavar="N", help="Hits per query.")
@click.option("--together", is_flag=True, help="Take all queries as photos of one thing.")
@click.option("--crop", type=CropType(), help="Search for a region of the query, in pixels.")
@click.option("--label", "labels", multiple=True, help="Only photos with this label (repeatable).")
@click.option(
    "--not",
    "wrong",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PHOTO",
    help="This photo of the index is no hit: it is wrong (repeatable).",
)
@click.option("--under", type=click.Path(path_type=Path), help="Only photos in this folder.")
@click.option(
    "--after", type=click.DateTime(_DATES), help="Only photos taken at this time or later."
)
@click.option("--before", type=click.DateTime(_DATES), help="Only photos taken earlier.")
@click.option(
    "--min-score",
    type=FiniteFloat(),
    metavar="S",
    help="Only hits with at least this score: a probability, or the cosine with --rerank none.",
)
@orientation_option
@rerank_options
@click.option(
    "--distance",
    type=click.Choice(DISTANCES),
    default="cosine",
    show_default=True,
    help="How descriptors are compared; scores of the others are minus the distance.",
)
@click.option("--exact", is_flag=True, help="Look at all photos, also in a large collection.")
@click.option(
    "--fold-copies",
    is_flag=True,
    help="List copies of one photo as one hit: files of the same content, or saved again.",
)
@click.option(
    "--mark",
    "marked",
    is_flag=True,
    help="Mark each hit: ○ has the label of the query, × another one or none (o and x "
    "without UTF-8). "
    "The label is that of the query in the index, or the name of its folder.",
)
@click.option("--shows", metavar="LABEL", help="The label of the queries, for --mark.")
@click.option("--regions", is_flag=True, help="Print which region of a hit matches: x,y,w,h.")
@device_option
@json_option
@click.option("--dict", "as_dict", is_flag=True, help='Print {"query": ["gallery", …], …} as JSON.')
@html_option
@click.option(
    "--maps",
    is_flag=True,
    help="On the page, show which regions of the query and of its first hits are similar; this "
    "takes about a second for each hit.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def command(
    queries: tuple[Path, ...],
    index_path: Path,
    k: int,
    together: bool,
    crop: Box | None,
    labels: tuple[str, ...],
    wrong: tuple[Path, ...],
    under: Path | None,
    after: datetime | None,
    before: datetime | None,
    min_score: float | None,
    orientation: str,
    rerank: str,
    verify: int,
    distance: str,
    exact: bool,
    fold_copies: bool,
    marked: bool,
    shows: str | None,
    regions: bool,
    as_json: bool,
    as_dict: bool,
    html: Path | None,
    maps: bool,
    open_page: bool,
) -> int:
    """Rank the photos of an index by their similarity to each QUERY photo.

    A QUERY that is a folder stands for the photos in it. A QUERY that cannot be read is reported,
    the others are answered, and the exit code is 3.
    """
    from veduta import api

    if maps and not (html or open_page):
        raise click.UsageError("--maps goes with --html or --open: the maps stand on the page.")
    index = api.open(index_path)
    if maps:
        from veduta.encoders.descriptor_parts import require_parts

        require_parts(index.encoder)  # before the search, which may take long
    options = SearchOptions(
        k=k,
        labels=labels,
        under=under,
        after=after,
        before=before,
        min_score=min_score,
        distance=distance,
        exact=exact,
        rerank=rerank,
        verify=verify,
        fold_copies=fold_copies,
        not_ids=_ids_of(index, wrong),
        orientation=orientation,
    )
    labels_of_queries = QueryLabels(index, shows) if marked or shows is not None else None
    all_read = True
    answers: list[Answer] = []
    photos = named_photos(queries)
    for group in [photos] if together else [[photo] for photo in photos]:
        try:
            hits = index.search(*group, options=options, crop=crop)
        except PhotoError as error:
            if together:
                raise
            say(f"veduta: {error}", err=True)
            all_read = False
            continue
        label = labels_of_queries.of(group) if labels_of_queries else None
        answers.append(Answer(group, hits, label))
        if labels_of_queries and label is None:
            say(
                f"veduta: {shown(answers[-1].query)}: no label is known for this query, so its "
                "hits have no marks; name it with --shows LABEL.",
                err=True,
            )
    print_notice(index)
    _print_undated(index, options)
    if any(hit.score_kind == "evidence" for answer in answers for hit in answer.hits):
        say(
            "veduta: the scores order the hits and are no probabilities, because no calibration "
            "was fitted for the keypoints of this index.",
            err=True,
        )
    if as_dict:
        print_json({answer.query: [hit.path for hit in answer.hits] for answer in answers})
    elif as_json:
        print_json([_as_json(answer, marked=labels_of_queries is not None) for answer in answers])
    else:
        _print(answers, regions=regions)
    if html or open_page:
        _write_page(index, answers, crop, html, open_page, maps=maps)
    return 0 if all_read else _EXIT_UNREADABLE


def _ids_of(index: Index, wrong: Sequence[Path]) -> tuple[int, ...]:
    """Return the ids of photos of the index."""
    if not wrong:
        return ()
    id_of_path = {photo.path: photo.id for photo in index}
    for path in wrong:
        if os.path.abspath(path) not in id_of_path:
            raise QueryError(f"--not {shown(path)}: the index has no such photo.")
    return tuple(id_of_path[os.path.abspath(path)] for path in wrong)


def _as_json(answer: Answer, *, marked: bool) -> dict[str, object]:
    hits = answer.hits.as_json()
    fields = {"query": answer.query, "orientation": answer.hits.orientation.name}
    if not marked:
        return {**fields, "hits": hits}
    for hit, hit_fields in zip(answer.hits, hits, strict=True):
        hit_fields["correct"] = is_correct(hit, answer.label)
    return {**fields, "label": answer.label, "hits": hits}


def _print(answers: Sequence[Answer], *, regions: bool) -> None:
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            if number:
                say()
            say(bold=shown(answer.query))
        if answer.hits.orientation.is_turned:
            say(f"The query was {answer.hits.orientation.words} to be compared.")
        if not answer.hits:
            say("No photo fits.")
        inlier_texts = [_inliers(hit) for hit in answer.hits]
        width = max(map(len, inlier_texts), default=0)
        for rank, (hit, inliers) in enumerate(zip(answer.hits, inlier_texts, strict=True), 1):
            label = f"  [{hit.label}]" if hit.label else ""
            column = f"{inliers:>{width}}  " if width else ""
            if answer.label is not None:
                column += f"{mark(is_correct(hit, answer.label))}  "
            say(f"{rank:3}  {hit.score:6.3f}  {column}{shown(hit.path)}{label}")
            if regions and hit.evidence and hit.evidence.region:
                say(f"{'':13}{bounds(hit.evidence.region)}")
            if hit.evidence and hit.evidence.found_in:
                say(f"{'':13}found in the region {','.join(map(str, hit.evidence.found_in))}")
            _print_copies(hit.copies or ())


def _print_copies(copies: Sequence[str]) -> None:
    for path in copies[:_MAX_LISTED_COPIES]:
        say(f"{'':13}copy: {shown(path)}")
    if len(copies) > _MAX_LISTED_COPIES:
        say(f"{'':13}… {count(len(copies), 'copy', 'copies')} in all: --json lists them")


def _print_undated(index: Index, options: SearchOptions) -> None:
    """Say how many photos the limits of time leave out because they have no date."""
    from veduta.index import open_snapshot
    from veduta.search.filters import undated_photos

    if options.after is None and options.before is None:
        return
    if undated := undated_photos(open_snapshot(index.path), options):
        have = "has" if undated.photos == 1 else "have"
        say(
            f"veduta: {count(undated.photos, 'photo')} of the index {have} no date of exposure, so "
            f"the time of the last change of the file counts. {undated.left_out:,} left out by it.",
            err=True,
        )


def _inliers(hit: Hit) -> str:
    if hit.evidence is None or hit.evidence.inliers is None:
        return ""
    return count(hit.evidence.inliers, "inlier")


def _write_page(
    index: Index,
    answers: Sequence[Answer],
    crop: Box | None,
    html: Path | None,
    open_page: bool,
    *,
    maps: bool,
) -> None:
    """Write the page to `html`, or to a temporary file that stays, and open it if wanted."""
    from veduta.pages.results_page import ResultsPage, write_results_page

    if html is None:
        handle, name = tempfile.mkstemp(prefix="veduta-", suffix=".html")
        os.close(handle)
        html = Path(name)
    page = ResultsPage(
        title="Veduta: search",
        rows=(_page_row(index, answer, crop, maps=maps) for answer in answers),
        subtitle=f"in {shown(index.path)}",
        explains_marks=any(answer.label is not None for answer in answers),
    )
    write_results_page(html, page)
    say(f"wrote {shown(html)}", err=True)
    if open_page:
        click.launch(file_url(html))


def _page_row(index: Index, answer: Answer, crop: Box | None, *, maps: bool) -> ResultRow:
    from veduta import photos
    from veduta.pages.hit import hit_tiles
    from veduta.pages.results_page import ResultRow

    photo = photos.load(answer.photos[0], at_least=_QUERY_SIDE)
    several = len(answer.photos) > 1
    orientation = answer.hits.orientation
    tiles = hit_tiles(
        index,
        answer.photos,
        answer.hits,
        pictures=_MATCH_PICTURES,
        maps=_MAP_PICTURES if maps else 0,
        crop=crop,
    )
    return ResultRow(
        name=answer.query if several else os.path.basename(answer.query),
        label=answer.label,
        photo=photos.thumbnail(photo.pixels, _QUERY_SIDE),
        note=f"{orientation.words} to be compared" if orientation.is_turned else "",
        tiles=[
            replace(tile, correct=is_correct(hit, answer.label))
            for tile, hit in zip(tiles, answer.hits, strict=True)
        ],
    )
