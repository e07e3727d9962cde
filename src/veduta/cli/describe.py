"""`veduta describe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import stages
from veduta.text import count

if TYPE_CHECKING:
    from veduta.explore import ClassSizes, Description

_EACH = 10  # classes at either end
_LISTED = 10  # files of a kind; --json has all
_NAME, _BAR = 34, 24  # characters


@click.command("describe")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--labels", metavar="FILE", help="CSV in DATASET instead of labels.csv.")
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@click.option(
    "--photos/--no-photos",
    default=True,
    show_default=True,
    help="Read the photos, or count the classes alone.",
)
@json_option
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="DIR", help="Write one picture a chart."
)
def command(
    dataset: Path | None,
    labels: str | None,
    queries: Path | None,
    gallery: Path | None,
    photos: bool,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> None:
    """Say what DATASET holds: classes, their balance, photos, copies across splits.

    DATASET is a folder of one folder a class, with a labels.csv, or of splits (train and test,
    query and gallery); or a CSV file, such as Google Landmarks' id,url,landmark_id, which is
    counted without photos however long it is. Or name --queries and --gallery.
    """
    from veduta.explore import describe

    if dataset is None and (queries is None or gallery is None):
        raise click.UsageError("Name a DATASET, or both --queries and --gallery.")
    with stages(quiet=as_json) as advance:
        done = describe(
            dataset or Path(),
            labels=labels,
            queries=queries,
            gallery=gallery,
            photos=photos,
            on_progress=advance,
        )
    pictures: list[Path] = []
    try:
        if html:
            from veduta.explore.description_report import description_page
            from veduta.pages.description_page import write_description_page

            write_description_page(html, description_page(done))
        if png:
            from veduta.explore.description_report import write_charts

            pictures = write_charts(png, done)
    except OSError as error:
        place = shown(error.filename or png or html or "")
        raise click.BadParameter(f"{place}: {error.strerror}.") from error
    if as_json:
        print_json(done.as_json())
        return
    for line in _lines(done):
        click.echo(line)
    if html:
        click.echo(f"wrote {shown(html)}")
    if png:
        click.echo(f"wrote {count(len(pictures), 'picture')} into {shown(png)}")
    for problem in done.problems:
        click.echo(f"left out: {problem}", err=True)


def _lines(done: Description) -> Iterator[str]:
    sizes = done.sizes
    without = f", {sizes.unlabelled:,} without a label" if sizes.unlabelled else ""
    classes = count(len(sizes.names), "class", "classes")
    yield f"{done.name}: {count(sizes.photos, 'photo')}, {classes}{without}"
    splits = [f"{name} {photos:,}" for name, photos in sizes.splits.items() if name]
    if splits:
        yield "  " + ", ".join(splits)
    yield from _class_lines(sizes)
    if done.lacking():
        yield ""
    for (one, other), names in done.lacking().items():
        lacking = f"{count(len(names), 'class', 'classes')} of {one} not in {other}: {_some(names)}"
        yield fill(lacking, 80, initial_indent="  ", subsequent_indent="    ")
    if done.facts is not None:
        told = done.as_json()
        yield from _photo_lines(told["files"])
        yield from _copy_lines(told["duplicates"], split=len(sizes.splits) > 1)


def _class_lines(sizes: ClassSizes) -> Iterator[str]:
    uneven = sizes.imbalance()
    single = 100 * uneven.single / len(sizes.names)
    yield "\nClasses"
    yield (
        f"  photos in a class     {uneven.smallest:,} to {uneven.largest:,} "
        f"({_number(uneven.ratio)} times), median {uneven.median:,g}, mean {uneven.mean:,.1f}"
    )
    yield f"  with a single photo   {uneven.single:,} ({single:.1f} %)"
    yield f"  effective classes     {uneven.effective:,.1f}  as many of equal size are as varied"
    yield f"  Gini coefficient      {uneven.gini:.2f}  0 all alike, towards 1 one has it all"
    names, values = sizes.names, sizes.sizes.tolist()
    if len(names) <= 2 * _EACH:
        yield from _bars("all classes", names, values, values[0])
    else:
        yield from _bars("most frequent", names[:_EACH], values[:_EACH], values[0])
        yield from _bars("least frequent", names[-_EACH:], values[-_EACH:], values[0])


def _bars(title: str, names: Sequence[str], values: Sequence[int], longest: int) -> Iterator[str]:
    yield f"\n  {title:{_NAME}}  {'photos':>11}"
    for name, value in zip(names, values, strict=True):
        bar = "█" * round(_BAR * value / longest)
        yield f"  {_fitted(name):{_NAME}}  {value:11,}  {bar}".rstrip()


def _photo_lines(files: Mapping[str, Any]) -> Iterator[str]:
    bad = files["unreadable"]
    yield "\nPhotos"
    yield f"  read                  {files['read']:,}, {len(bad):,} unreadable"
    if files["read"]:
        yield f"  width, pixels         {_range(files['width'])}"
        yield f"  height, pixels        {_range(files['height'])}"
        yield f"  megapixels            {_range(files['megapixels'])}"
        yield f"  aspect ratio          {_range(files['aspect_ratio'])}"
        kilobytes = {key: value / 1e3 for key, value in files["bytes"].items()}
        total = files["bytes"]["total"] / 1e6
        yield f"  kilobytes             {_range(kilobytes)}; {total:,.0f} MB in all"
        yield f"  formats               {_counts(files['formats'])}"
        yield f"  colour modes          {_counts(files['colour_modes'])}"
    yield from _listed(
        "named for another format", [f"{row['path']}: {row['format']}" for row in files["misnamed"]]
    )
    yield from _listed("unreadable", [f"{row['path']}: {row['reason']}" for row in bad])


def _copy_lines(found: Mapping[str, Any], *, split: bool) -> Iterator[str]:
    yield "\nDuplicates"
    yield f"  same bytes            {count(len(found['exact']), 'group')}"
    yield f"  same picture          {count(len(found['near']), 'group')}, saved in another way"
    yield f"  spare photos          {found['spare']:,}"
    for row in found["copies_between_splits"]:
        photos = count(row["photos"], "photo")
        yield f"  across splits         {photos} of {row['of']} also in {row['in']}"
    if split and not found["copies_between_splits"]:
        yield "  across splits         none"
    for title, key in (("across splits", "across_splits"), ("under two labels", "across_labels")):
        yield from _listed(title, [" = ".join(row["paths"]) for row in found[key]])


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    from veduta.text import printable

    if lines:
        yield f"\n  {title}: {len(lines):,}"
    for line in lines[:_LISTED]:
        yield fill(
            printable(line),
            80,
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    if len(lines) > _LISTED:
        yield f"    … and {len(lines) - _LISTED:,} more: --json lists all"


def _range(values: Mapping[str, float]) -> str:
    low, middle, high = (_number(values[key]) for key in ("smallest", "median", "largest"))
    return f"{low} to {high}, median {middle}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in values.items())


def _fitted(name: str) -> str:
    from veduta.text import printable

    plain = printable(name)
    return plain if len(plain) <= _NAME else plain[: _NAME - 1] + "…"


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f", and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(_fitted(name) for name in names[:limit]) + more
