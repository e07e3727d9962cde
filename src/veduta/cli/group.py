"""`veduta group`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.index_argument import default_index
from veduta.cli.options import OutputFile, html_option, index_option, json_option
from veduta.cli.printing import print_json, print_notice, say, shown
from veduta.cli.progress import progress
from veduta.errors import DatasetError
from veduta.text import count, veduta_command

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.explore.photo_groups import PhotoGroup

MAX_LISTED = 20
"""Groups that are listed. --json lists all."""


@click.command("group")
@index_option
@click.option(
    "--min-size",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    metavar="N",
    help="The smallest number of photos of a group. Copies of one photo count once.",
)
@click.option(
    "--labels",
    type=OutputFile(),
    metavar="FILE.csv",
    help="Write a table in which you name each group once; `veduta index --labels` reads it.",
)
@click.option("--overwrite", is_flag=True, help="Replace a table that is there already.")
@html_option
@json_option
def command(
    index_path: Path,
    min_size: int,
    labels: Path | None,
    overwrite: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Find the places and objects of an index: groups of photos that show the same.

    No label is needed. Photos are in one group if their keypoints agree on the geometry of one
    thing, in such a way that one wrong pair does not join two groups. The largest groups come
    first, and in each group the best photo.

    \b
    veduta group --html groups.html     look at the groups
    veduta group --labels groups.csv    name each one once, in the column label
    veduta index --labels groups.csv    recognise photos by these names
    """
    from veduta import api

    if labels and labels.exists() and not overwrite:
        # A person may have named groups in it.
        raise DatasetError(f"{shown(labels)} is there already: name another, or --overwrite it")
    with api.open(index_path) as index:
        print_notice(index)
        with progress("Verifying", "pairs", quiet=as_json) as on_progress:
            groups = index.groups(min_size=min_size, on_progress=on_progress)
        summary = _summary(groups, len(index))
        if html:
            _write_page(index, groups, summary, html)
        if labels:
            _write_labels(index, groups, labels)
        if as_json:
            print_json([group.as_json() for group in groups])
        else:
            say(summary, *_lines(groups))
            for file in filter(None, (html, labels)):
                say(f"wrote {shown(file)}")
            if labels and groups:
                say(f"Name the groups in it, then: {_next_command(index_path, labels)}")


def _next_command(index: Path, labels: Path) -> str:
    where: list[str | Path] = [] if index == default_index() else ["--index", index]
    return veduta_command("index", *where, "--labels", labels)


def _summary(groups: Sequence[PhotoGroup], photos: int) -> str:
    grouped = sum(len(group.photos) for group in groups)
    copies = sum(len(group.copies) for group in groups)
    of_copies = f", {count(copies, 'copy', 'copies')} among them" if copies else ""
    return (
        f"{count(len(groups), 'group')} with {grouped:,} of {count(photos, 'photo')}{of_copies}; "
        f"{photos - grouped:,} in no group"
    )


def _lines(groups: Sequence[PhotoGroup]) -> Iterator[str]:
    from veduta.explore.groups_report import dates_text, size_text

    for group in groups[:MAX_LISTED]:
        words = (group.name, size_text(group), dates_text(group))
        yield f"  {'  '.join(filter(None, words))}"
        yield f"    {shown(group.best.path)}"
    if len(groups) > MAX_LISTED:
        yield f"  … and {len(groups) - MAX_LISTED:,} more: --json or --html shows them"


def _write_page(index: Index, groups: Sequence[PhotoGroup], summary: str, file: Path) -> None:
    from veduta.explore.groups_report import groups_page
    from veduta.pages.groups_page import write_groups_page

    write_groups_page(file, groups_page(index.path, groups, summary))


def _write_labels(index: Index, groups: Sequence[PhotoGroup], file: Path) -> None:
    from veduta.explore.group_labels import write_group_labels

    left_out = write_group_labels(file, groups, index)
    if left_out:
        say(
            f"note: {count(len(left_out), 'photo')} left out of {shown(file)}, because a CSV file "
            f"cannot hold a name that is not UTF-8, such as {shown(left_out[0])}",
            err=True,
        )
