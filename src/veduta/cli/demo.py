"""`veduta demo`: index and search sample photos with a known answer, or a folder of yours."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.printing import file_url, shown
from veduta.cli.progress import stages
from veduta.errors import PhotoError, QueryError, readable
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.evaluation.metrics import QueryResult
    from veduta.pages.results_page import ResultRow, ResultsPage
    from veduta.search import Hit

_SHOWN = 10  # answers of a query on the page
_PICTURED = 1  # hits of a query whose matches can be looked at
_LISTED = 5  # unreadable photos named
_ASKED = 12  # photos of the user's own that become queries
_SEED = 1764
_NOT_REAL = (
    "Views made by a program are easier than photos taken on another day by another person: "
    "docs/results.md has the figures on real ones."
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A query and its ranking; `judged` where the right answers are known."""

    query: Path
    name: str
    hits: Sequence[Hit]
    judged: QueryResult | None = None


@click.command("demo")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    help="The folder skimage/data of scikit-image, which `make demo` fetches.",
)
@click.option("--photos", type=click.Path(path_type=Path), help="Try it on this folder instead.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where the sample photos, the index and the page go.",
)
def command(source: Path | None, photos: Path | None, out: Path) -> int:
    """Try Veduta on sample photos with a known answer (--source), or on yours (--photos).

    The sample photos are photographed again by a program with a fixed seed, so the right answers
    are known and the accuracy can be told. Of yours, a dozen become queries that look for the
    photos most like them among the others. Yours are never changed.
    """
    if (source is None) == (photos is None):
        raise click.UsageError("Name either --source or --photos.")
    if source is not None:
        _on_samples(source, out)
    elif photos is not None:
        _on_yours(photos.expanduser(), out)  # `make PHOTOS=~/x` passes the tilde on
    return 0


def _on_samples(source: Path, out: Path) -> None:
    from veduta import demo
    from veduta.evaluation.summary import summarise
    from veduta.pages.results_page import Figure, ResultsPage

    _say(
        f"{len(demo.SUBJECTS)} subjects, photographed again by a program with a fixed seed "
        "(perspective, crop, light, JPEG). The photos come from scikit-image; most are CC0 or in "
        "the public domain (see NOTICE)."
    )
    photos = demo.write_photos(source, out / "photos")
    index = _index(photos.gallery, out / "index", labels="folders")
    queries = [next((photos.queries / s.name).glob("*.jpg")) for s in demo.SUBJECTS]
    started = time.monotonic()
    answers = [_judged(index, query) for query in queries]
    seconds = time.monotonic() - started
    figures = summarise([a.judged for a in answers if a.judged], gallery=len(index))
    _print_table(answers, photos.gallery)
    _print_time(answers, seconds)
    right = round(figures.top1 * figures.queries)
    low, high = figures.map_interval
    click.echo(f"Right at the first place (top-1): {right} of {figures.queries}")
    click.echo(
        f"mAP over the whole ranking: {figures.map:.3f} (95 % interval {low:.2f}-{high:.2f})"
    )
    _say(_NOT_REAL)
    page = ResultsPage(
        title="The demo of Veduta",
        rows=(_row(index, answer) for answer in answers),
        subtitle=f"{len(answers)} queries, {count(len(index), 'photo')} in the gallery",
        figures=(
            Figure("top-1", figures.top1, figures.top1_interval, "the first answer is right"),
            Figure("mAP", figures.map, figures.map_interval, "over the whole ranking"),
        ),
        notes=(_NOT_REAL,),
        explains_marks=True,
    )
    _print_next(_write(page, out / "demo.html"), queries[0], index)


def _on_yours(photos: Path, out: Path) -> None:
    from veduta.pages.results_page import ResultsPage

    index = _index(photos, out / "index-of-yours", labels=None)
    if len(index) < 2:
        raise QueryError(f"{readable(photos)}: the demo needs at least two photos to compare.")
    started = time.monotonic()
    answers = list(_among_the_others(index, photos))
    seconds = time.monotonic() - started
    _print_table(answers, photos)
    _print_time(answers, seconds)
    note = "Each query is left out of its own answers. A score of 1.000 is a copy of the query."
    _say(note)
    page = ResultsPage(
        title="Your photos, searched with some of them",
        rows=(_row(index, answer) for answer in answers),
        subtitle=f"{count(len(index), 'photo')} in {shown(photos)}",
        notes=(note,),
    )
    _print_next(_write(page, out / "demo-of-yours.html"), answers[0].query, index)


def _index(photos: Path, place: Path, *, labels: str | None) -> Index:
    """Build the index anew, so that every demo shows what building one takes."""
    from veduta import api, index

    if (place / index.MANIFEST_FILE).exists():
        shutil.rmtree(place)
    built = api.create(place)
    with stages() as advance:
        report = built.add(
            photos,
            labels=labels,
            on_progress=lambda state: advance("Indexing", state.done, state.total),
            on_linking=lambda done, total: advance("Linking", done, total),
        )
    if report.interrupted:
        raise KeyboardInterrupt
    rate = f" ({report.encoded / report.seconds:.0f} photos/s)" if report.encoded else ""
    click.echo(f"{count(report.total, 'photo')} indexed in {duration(report.seconds)}{rate}")
    for path, reason in report.unreadable[:_LISTED]:
        click.echo(f"  not read: {shown(path)}: {reason}")
    if len(report.unreadable) > _LISTED:
        rest = len(report.unreadable) - _LISTED
        click.echo(f"  and {rest:,} more: {_veduta()} status --index {_quoted(place)}")
    return built


def _judged(index: Index, query: Path) -> _Answer:
    from veduta.evaluation.metrics import judge

    subject = query.parent.name
    hits = index.search(query, k=len(index))
    right = [hit.label == subject for hit in hits]
    judged = judge(str(query), subject, [hit.score for hit in hits], right)
    return _Answer(query, subject, hits, judged)


def _among_the_others(index: Index, photos: Path) -> Iterator[_Answer]:
    from veduta.photos import find_photos

    paths = [Path(os.fsdecode(found.path)) for found in find_photos([photos])]
    random.Random(_SEED).shuffle(paths)  # noqa: S311 - a choice that anyone can repeat
    asked = 0
    for path in paths:
        try:
            hits = index.search(path, k=_SHOWN + 1)
        except PhotoError:
            continue  # said when it was indexed
        others = [hit for hit in hits if hit.path != os.path.abspath(path)]
        yield _Answer(path, os.path.relpath(path, photos), others[:_SHOWN])
        asked += 1
        if asked == _ASKED:
            return


def _print_table(answers: Sequence[_Answer], photos: Path) -> None:
    from veduta.text import printable

    names = [_fit(printable(answer.name), 30) for answer in answers]
    wide = max(len(name) for name in names)
    room = 80 - wide - len("    0.000   wrong")
    click.echo(f"\n{'query':{wide}}  {'best answer':{room}}  score")
    for name, answer in zip(names, answers, strict=True):
        best = answer.hits[0]
        found = _fit(printable(os.path.relpath(best.path, photos)), room)
        verdict = ""
        if answer.judged:
            verdict = "  right" if answer.judged.right_within(1) else "  wrong"
        click.echo(f"{name:{wide}}  {found:{room}}  {best.score:.3f}{verdict}")
    click.echo()


def _print_time(answers: Sequence[_Answer], seconds: float) -> None:
    each = 1000 * seconds / len(answers)
    click.echo(f"{len(answers)} searches, {each:.0f} ms each, reading the query included")


def _print_next(page: Path, query: Path, index: Index) -> None:
    click.echo(f"\nThe page with the {_SHOWN} best of each query:\n  {file_url(page)}\n")
    click.echo("Try next:")
    click.echo(f"  {_veduta()} search {_quoted(query)} --index {_quoted(index.path)}")
    click.echo(f"  {_veduta()} index ~/Pictures")


def _write(page: ResultsPage, file: Path) -> Path:
    from veduta.pages.results_page import write_results_page

    write_results_page(file, page)
    return file


def _row(index: Index, answer: _Answer) -> ResultRow:
    from veduta import photos
    from veduta.pages.hit import hit_tiles
    from veduta.pages.results_page import ResultRow

    best = answer.hits[:_SHOWN]
    shown = hit_tiles(index, [answer.query], best, pictures=_PICTURED)
    if answer.judged:
        shown = [replace(tile, correct=tile.label == answer.name) for tile in shown]
    photo = photos.thumbnail(photos.load(answer.query, at_least=256).pixels)
    return ResultRow(answer.name, None, photo, shown)


def _veduta() -> str:
    return _quoted(Path(sys.argv[0]))


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else "…" + text[1 - room :]


def _say(text: str) -> None:
    click.echo(click.wrap_text(text, 80))
