"""`veduta demo`: index and search sample photos with a known answer, or a folder of yours."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from veduta.cli.options import OutputFolder
from veduta.cli.printing import file_url, quoted, say, shown
from veduta.cli.progress import stages
from veduta.errors import QueryError, readable
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.demo import Answer
    from veduta.evaluation.summary import Summary
    from veduta.pages.results_page import ResultsPage

_LINE = 80  # characters
_MAX_NAME = 30  # characters of a query
_LISTED = 5  # unreadable photos that are named
_SYNTHETIC_NOTE = (
    "Views made by a program are easier than photos taken on another day by another person: "
    "docs/results.md has the figures on real ones."
)


@click.command("demo")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    help="The folder skimage/data of scikit-image, which `make demo` fetches.",
)
@click.option("--photos", type=click.Path(path_type=Path), help="Try it on this folder instead.")
@click.option(
    "--out",
    type=OutputFolder(),
    default=Path(".demo"),
    show_default=True,
    help="Folder of the sample photos, the index and the page.",
)
def command(source: Path | None, photos: Path | None, out: Path) -> int:
    """Try Veduta on sample photos with a known answer (--source), or on yours (--photos).

    A program with a fixed seed makes other views of the sample photos, so the right answers are
    known and the accuracy is measured. Of your photos, a dozen become queries, and each is searched
    among the others. Your photos are never changed.
    """
    if (source is None) == (photos is None):
        raise click.UsageError("Name either --source or --photos.")
    if source is not None:
        _try_samples(source, out)
    elif photos is not None:
        _try_own_photos(photos.expanduser(), out)  # `make PHOTOS=~/x` does not expand the tilde.
    return 0


def _try_samples(source: Path, out: Path) -> None:
    from veduta import demo
    from veduta.evaluation.summary import summarise
    from veduta.pages.results_page import Figure

    _print_wrapped(
        f"{len(demo.SUBJECTS)} subjects, photographed again by a program with a fixed seed "
        "(perspective, crop, light, JPEG). The photos come from scikit-image; most are CC0 or in "
        "the public domain (see NOTICE)."
    )
    photos = demo.write_photos(source, out / "photos", subjects=demo.SUBJECTS)
    index = _index(photos.gallery, out / "index", labels="folders")
    started = time.monotonic()
    answers = demo.search_samples(index, photos)
    seconds = time.monotonic() - started
    summary = summarise([answer.result for answer in answers if answer.result], gallery=len(index))
    _print_answers(answers, photos.gallery, seconds)
    _print_summary(summary)
    _print_wrapped(_SYNTHETIC_NOTE)
    page = demo.demo_page(
        index,
        answers,
        title="The demo of Veduta",
        subtitle=f"{len(answers)} queries, {count(len(index), 'photo')} in the gallery",
        note=_SYNTHETIC_NOTE,
        figures=(
            Figure("top-1", summary.top1, summary.top1_interval, "the first answer is right"),
            Figure("mAP", summary.map, summary.map_interval, "over the whole ranking"),
        ),
    )
    _write(page, out / "demo.html", answers[0].query, index)


def _try_own_photos(photos: Path, out: Path) -> None:
    from veduta import demo

    index = _index(photos, out / "index-of-yours", labels=None)
    if len(index) < 2:
        raise QueryError(f"{readable(photos)}: the demo needs at least two photos to compare.")
    started = time.monotonic()
    answers = list(demo.search_own_photos(index, photos))
    _print_answers(answers, photos, time.monotonic() - started)
    note = "Each query is left out of its own answers. A score of 1.000 is a copy of the query."
    _print_wrapped(note)
    page = demo.demo_page(
        index,
        answers,
        title="Your photos, searched with some of them",
        subtitle=f"{count(len(index), 'photo')} in {shown(photos)}",
        note=note,
    )
    _write(page, out / "demo-of-yours.html", answers[0].query, index)


def _index(photos: Path, folder: Path, *, labels: str | None) -> Index:
    from veduta.demo import build_index

    with stages() as advance:
        index, report = build_index(photos, folder, labels=labels, on_progress=advance)
    if report.interrupted:
        raise KeyboardInterrupt
    rate = f" ({report.encoded / report.seconds:.0f} photos/s)" if report.encoded else ""
    say(f"{count(report.total, 'photo')} indexed in {duration(report.seconds)}{rate}")
    for path, reason in report.unreadable[:_LISTED]:
        say(f"  not read: {shown(path)}: {reason}")
    if len(report.unreadable) > _LISTED:
        rest = len(report.unreadable) - _LISTED
        say(f"  and {rest:,} more: {_program()} status --index {quoted(folder)}")
    return index


def _print_answers(answers: Sequence[Answer], photos: Path, seconds: float) -> None:
    from veduta.text import printable

    names = [_fitted(printable(answer.name), _MAX_NAME) for answer in answers]
    name_width = max(len(name) for name in names)
    path_width = _LINE - name_width - len("    0.000   wrong")
    say("", f"{'query':{name_width}}  {'best answer':{path_width}}  score")
    for name, answer in zip(names, answers, strict=True):
        best = answer.hits[0]
        path = _fitted(printable(os.path.relpath(best.path, photos)), path_width)
        verdict = ""
        if answer.result:
            verdict = "  right" if answer.result.right_within(1) else "  wrong"
        say(f"{name:{name_width}}  {path:{path_width}}  {best.score:.3f}{verdict}")
    each = 1000 * seconds / len(answers)
    say("", f"{len(answers)} searches, {each:.0f} ms each, reading the query included")


def _print_summary(summary: Summary) -> None:
    right = round(summary.top1 * summary.queries)
    low, high = summary.map_interval
    say(f"Right at the first place (top-1): {right} of {summary.queries}")
    say(f"mAP over the whole ranking: {summary.map:.3f} (95 % interval {low:.2f}-{high:.2f})")


def _write(page: ResultsPage, file: Path, query: Path, index: Index) -> None:
    """Write the page, and print where it is and what to try next."""
    from veduta.demo.searches import HITS_SHOWN
    from veduta.pages.results_page import write_results_page

    write_results_page(file, page)
    say("", f"The page with the {HITS_SHOWN} best of each query:", f"  {file_url(file)}", "")
    say("Try next:")
    say(f"  {_program()} search {quoted(query)} --index {quoted(index.path)}")
    say(f"  {_program()} index ~/Pictures")
    say("", "Search these photos in your browser:")
    say(f"  {_program()} serve {quoted(index.path)} --open")


def _program() -> str:
    """Return how this program was called."""
    return quoted(Path(sys.argv[0]))


def _fitted(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


def _print_wrapped(text: str) -> None:
    say(*wrap(text, _LINE))
