"""`veduta describe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import (
    OutputFolder,
    device_option,
    exclude_option,
    html_option,
    json_option,
    labels_option,
)
from veduta.cli.printing import print_json, say, shown
from veduta.cli.progress import stages
from veduta.text import count

if TYPE_CHECKING:
    from veduta.explore import ClassSizes, Description

END_CLASSES = 10
"""Classes that are listed at either end of the order by size."""

MAX_LISTED = 10
"""Files of a kind that are listed. --json lists all."""

NAME_WIDTH = 34
"""Characters of a class name."""

BAR_WIDTH = 24
"""Characters of the longest bar."""


@click.command("describe")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@labels_option
@exclude_option
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@click.option(
    "--photos/--no-photos",
    default=True,
    show_default=True,
    help="Read the photos, or count the classes alone.",
)
@device_option
@json_option
@html_option
@click.option("--png", type=OutputFolder(), metavar="DIR", help="Write each chart as a picture.")
def command(
    dataset: Path | None,
    labels: str | None,
    exclude: tuple[str, ...],
    queries: Path | None,
    gallery: Path | None,
    photos: bool,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> None:
    """Describe DATASET: its classes, their balance, its photos, and copies across splits.

    DATASET is a folder with one folder for each class; a folder with a labels.csv; a folder of
    splits (train and test, queries and database), each with its class folders; or a CSV file. A
    list of Google Landmarks (id,url,landmark_id) is counted without photos, whatever its length.
    Or name --queries and --gallery.
    """
    from veduta.explore import describe
    from veduta.photos.passed_over_text import passed_over_lines

    if dataset is None and (queries is None or gallery is None):
        raise click.UsageError("Name a DATASET, or both --queries and --gallery.")
    with stages(quiet=as_json) as advance:
        description = describe(
            dataset or Path(),
            labels=labels,
            exclude=exclude,
            queries=queries,
            gallery=gallery,
            photos=photos,
            on_progress=advance,
        )
    charts: list[Path] = []
    if html:
        from veduta.explore.description_report import description_page
        from veduta.pages.description_page import write_description_page

        write_description_page(html, description_page(description))
    if png:
        from veduta.explore.description_report import write_charts

        charts = write_charts(png, description)
    if as_json:
        print_json(description.as_json())
        return
    for line in _lines(description):
        say(line)
    if html:
        say(f"wrote {shown(html)}")
    if png:
        say(f"wrote {count(len(charts), 'picture')} into {shown(png)}")
    for line in passed_over_lines(description.passed_over):
        say(line)
    for problem in description.problems:
        say(f"note: {problem}", err=True)


def _lines(description: Description) -> Iterator[str]:
    sizes = description.sizes
    without = f", {sizes.unlabelled:,} without a label" if sizes.unlabelled else ""
    classes = count(len(sizes.names), "class", "classes")
    yield f"{description.name}: {count(sizes.photos, 'photo')}, {classes}{without}"
    splits = [f"{name} {photos:,}" for name, photos in sizes.splits.items() if name]
    if splits:
        yield "  " + ", ".join(splits)
    yield from _class_lines(sizes)
    lacking = description.lacking()
    if lacking:
        yield ""
    for (split, other), names in lacking.items():
        line = f"{count(len(names), 'class', 'classes')} of {split} not in {other}: {_some(names)}"
        yield from wrap(line, 80, initial_indent="  ", subsequent_indent="    ")
    if description.facts is not None:
        values = description.as_json()
        yield from _photo_lines(values["files"])
        yield from _copy_lines(values["duplicates"], is_split=len(sizes.splits) > 1)


def _class_lines(sizes: ClassSizes) -> Iterator[str]:
    imbalance = sizes.imbalance()
    single = 100 * imbalance.single / len(sizes.names)
    yield ""
    yield "Classes"
    yield (
        f"  photos in a class     {imbalance.smallest:,} to {imbalance.largest:,} "
        f"({_number(imbalance.ratio)} times), median {imbalance.median:,g}, "
        f"mean {imbalance.mean:,.1f}"
    )
    yield f"  with a single photo   {imbalance.single:,} ({single:.1f} %)"
    yield f"  effective classes     {imbalance.effective:,.1f}  so many equal ones are as diverse"
    yield f"  Gini coefficient      {imbalance.gini:.2f}  0 if all are alike, near 1 if one has all"
    names, photos = sizes.names, sizes.sizes.tolist()
    if len(names) <= 2 * END_CLASSES:
        yield from _bars("all classes", names, photos, photos[0])
    else:
        yield from _bars("most frequent", names[:END_CLASSES], photos[:END_CLASSES], photos[0])
        yield from _bars("least frequent", names[-END_CLASSES:], photos[-END_CLASSES:], photos[0])


def _bars(title: str, names: Sequence[str], values: Sequence[int], longest: int) -> Iterator[str]:
    yield ""
    yield f"  {title:{NAME_WIDTH}}  {'photos':>11}"
    for name, value in zip(names, values, strict=True):
        bar = "█" * round(BAR_WIDTH * value / longest)
        yield f"  {_fitted(name):{NAME_WIDTH}}  {value:11,}  {bar}".rstrip()


def _photo_lines(files: Mapping[str, Any]) -> Iterator[str]:
    unreadable = files["unreadable"]
    yield ""
    yield "Photos"
    yield f"  read                  {files['read']:,}, {len(unreadable):,} unreadable"
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
    yield from _listed("unreadable", [f"{row['path']}: {row['reason']}" for row in unreadable])


def _copy_lines(duplicates: Mapping[str, Any], *, is_split: bool) -> Iterator[str]:
    yield ""
    yield "Duplicates"
    yield f"  same bytes            {count(len(duplicates['exact']), 'group')}"
    yield f"  same picture          {count(len(duplicates['near']), 'group')}, saved in another way"
    yield f"  spare photos          {duplicates['spare']:,}"
    for row in duplicates["copies_between_splits"]:
        photos = count(row["photos"], "photo")
        yield f"  across splits         {photos} of {row['of']} also in {row['in']}"
    if is_split and not duplicates["copies_between_splits"]:
        yield "  across splits         none"
    for title, key in (("across splits", "across_splits"), ("under two labels", "across_labels")):
        yield from _listed(title, [" = ".join(row["paths"]) for row in duplicates[key]])


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    from veduta.text import printable

    if lines:
        yield ""
        yield f"  {title}: {len(lines):,}"
    for line in lines[:MAX_LISTED]:
        yield from wrap(
            printable(line),
            80,
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    if len(lines) > MAX_LISTED:
        yield f"    … and {len(lines) - MAX_LISTED:,} more: --json lists all"


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
    return plain if len(plain) <= NAME_WIDTH else plain[: NAME_WIDTH - 1] + "…"


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f", and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(_fitted(name) for name in names[:limit]) + more
