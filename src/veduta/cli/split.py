"""`veduta split`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import stages
from veduta.text import count

if TYPE_CHECKING:
    from veduta.curate.copies import CopyPair
    from veduta.curate.splitting import Leak
    from veduta.datasets import Dataset

_LISTED = 10  # of a kind; --json has all
_DEFAULT = "train=0.8,val=0.1,test=0.1"


@dataclass(frozen=True, slots=True)
class _Found:
    """What holds photos together: copies, sources, and what could not be looked at."""

    pairs: Sequence[CopyPair]
    sources: Sequence[str] | None
    problems: Sequence[str]


@click.command("split")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--labels", metavar="FILE", help="CSV in DATASET instead of labels.csv.")
@click.option("--into", metavar="PARTS", help=f"Parts and their shares.  [default: {_DEFAULT}]")
@click.option(
    "--folds", type=click.IntRange(min=2), metavar="K", help="K equal parts instead, 0 to K-1."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another split.")
@click.option(
    "--group-column", metavar="COLUMN", help="Photos with one value in it stay together too."
)
@click.option(
    "--find-copies/--no-find-copies",
    default=True,
    show_default=True,
    help="Keep copies of one photo together: cut, mirrored, saved again.",
)
@click.option("--check", is_flag=True, help="List the leaks of the split that DATASET has.")
@click.option(
    "--column",
    metavar="NAME",
    help="Column of the split.  [default: split; with --folds: fold]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a labels file with the split.",
)
@click.option("--overwrite", is_flag=True, help="--out may replace a file, DATASET's own too.")
@click.option(
    "--folders",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a new folder: part/label/photo.",
)
@click.option(
    "--links/--copies",
    default=True,
    show_default=True,
    help="What --folders holds: links to the photos, or copies.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --check: write a page that shows the leaks.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep what is known of the photos there.  [default: the user's cache folder]",
)
@json_option
def command(
    dataset: Path,
    labels: str | None,
    into: str | None,
    folds: int | None,
    seed: int,
    group_column: str | None,
    find_copies: bool,
    check: bool,
    column: str | None,
    out: Path | None,
    overwrite: bool,
    folders: Path | None,
    links: bool,
    html: Path | None,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Split DATASET into parts that share no photo, nor copies of one, or check the split it has.

    \b
    veduta split DATASET --into train=0.8,val=0.1,test=0.1 --out labels.csv
    veduta split DATASET --into query=0.2,gallery=0.8,distractor --folders DIR
    veduta split DATASET --check --html leaks.html

    DATASET is a folder with a labels.csv, of one folder a class, or of splits, or a CSV file. Each
    part gets its share of each class. `distractor` takes the photos without a label. Nothing in
    DATASET is changed. A check that finds leaks ends with exit code 1.
    """
    from veduta.datasets import read_dataset

    if check and (into or folds or out or folders):
        raise click.UsageError("--check looks at the split that is there: no --into, no --out.")
    if into and folds:
        raise click.UsageError("Either --into or --folds.")
    if html and not check:
        raise click.UsageError("--html goes with --check.")
    column = column or ("fold" if folds else "split")
    table = read_dataset(dataset, labels=labels, split_column=column, keep_columns=True)
    sources = table.column(group_column) if group_column else None
    pairs, problems = _copies(table, cache, quiet=as_json) if find_copies else ([], [])
    found = _Found(pairs, sources, [*table.problems, *problems])
    if check:
        return _check(table, found, column, html, as_json=as_json)
    parts = _parts(into or _DEFAULT, folds)
    _split(
        table,
        found,
        parts,
        seed,
        column,
        out,
        folders,
        overwrite=overwrite,
        links=links,
        as_json=as_json,
    )
    return 0


def _parts(into: str, folds: int | None) -> dict[str, float]:
    from veduta.curate.splitting import parse_parts

    return {str(fold): 1 / folds for fold in range(folds)} if folds else parse_parts(into)


def _copies(table: Dataset, cache: Path | None, *, quiet: bool) -> tuple[list[CopyPair], list[str]]:
    """Return the copies among the photos, and which of them could not be looked at."""
    from veduta.curate.copies import copies_among
    from veduta.curate.photo_index import describe_photos

    with stages(quiet=quiet) as advance:
        photos = describe_photos(table.files, folder=cache, on_progress=advance)
        pairs = copies_among(photos, on_progress=advance)
    return pairs, [
        f"{table.paths[at]}: not compared, {reason}" for at, reason in photos.problems.items()
    ]


def _check(table: Dataset, found: _Found, column: str, html: Path | None, *, as_json: bool) -> int:
    from veduta.curate.leaks_report import leaks_page
    from veduta.curate.splitting import find_leaks
    from veduta.errors import DatasetError, readable
    from veduta.pages.leaks_page import write_leaks_page

    if not any(table.splits):
        raise DatasetError(
            f"{readable(table.root)}: has no split to check: wanted a column {column!r} in its "
            "labels file (--column names another), or folders named after splits"
        )
    leaks = find_leaks(table.splits, found.pairs, found.sources)
    between = _between(table.splits, leaks)
    lines = [f"{one} and {other}: {count(n, 'leak')}" for (one, other), n in between]
    if html:
        summary = f"{count(len(leaks), 'leak')}. " + "; ".join(lines)
        try:
            write_leaks_page(html, leaks_page(table, table.splits, leaks, summary))
        except OSError as error:
            raise click.BadParameter(f"{shown(html)}: {error.strerror}.") from error
    if as_json:
        print_json(
            {
                "dataset": str(table.root),
                "photos": len(table.paths),
                "parts": dict(Counter(table.splits)),
                "problems": list(found.problems),
                "leaks": [_leak_json(table, table.splits, leak) for leak in leaks],
            }
        )
    else:
        sizes = ", ".join(f"{name or 'none'} {n:,}" for name, n in Counter(table.splits).items())
        click.echo(f"{shown(table.root)}: {count(len(table.paths), 'photo')}\n  {sizes}")
        for line in lines or ["no leaks"]:
            click.echo(f"  {line}")
        for line in _listed(_leak_line(table, table.splits, leak) for leak in leaks):
            click.echo(line)
        if html:
            click.echo(f"wrote {shown(html)}")
        _tell(found.problems)
    return 1 if leaks else 0


def _between(chosen: Sequence[str], leaks: Sequence[Leak]) -> list[tuple[tuple[str, str], int]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for leak in leaks:
        one, other = sorted((chosen[leak.first], chosen[leak.second]))
        pairs[one, other] += 1
    return pairs.most_common()


def _split(
    table: Dataset,
    found: _Found,
    parts: dict[str, float],
    seed: int,
    column: str,
    out: Path | None,
    folders: Path | None,
    *,
    overwrite: bool,
    links: bool,
    as_json: bool,
) -> None:
    from veduta.curate.splitting import bound_together, short_classes, split
    from veduta.curate.write_split import write_folders, write_labels

    groups = bound_together(len(table.paths), found.pairs, found.sources)
    chosen = split(table.paths, table.labels, groups, parts, seed=seed)
    short = short_classes(table.labels, groups, chosen)
    if out:
        write_labels(table, chosen, out, column=column, overwrite=overwrite)
    if folders:
        write_folders(table, chosen, folders, links=links)
    sizes = Counter(chosen)
    together = [size for size in Counter(groups).values() if size > 1]
    if as_json:
        print_json(
            {
                "dataset": str(table.root),
                "photos": len(chosen),
                "seed": seed,
                "parts": {name: sizes[name] for name in parts},
                "groups": len(together),
                "photos_in_groups": sum(together),
                "copies": [
                    {
                        "paths": [table.paths[pair.first], table.paths[pair.second]],
                        "kind": pair.kind,
                        "score": pair.score,
                    }
                    for pair in found.pairs
                ],
                "short_classes": [
                    {"label": label, "photos": photos, "groups": apart, "not_in": list(lacking)}
                    for label, photos, apart, lacking in short
                ],
                "problems": list(found.problems),
                "rows": [
                    {"path": path, "label": label, column: part}
                    for path, label, part in zip(table.paths, table.labels, chosen, strict=True)
                ],
            }
        )
        return
    labelled = sum(label is not None for label in table.labels)
    classes = len({label for label in table.labels if label is not None})
    click.echo(
        f"{shown(table.root)}: {count(len(chosen), 'photo')}, {labelled:,} of them in "
        f"{count(classes, 'class', 'classes')}"
    )
    for name in parts:
        click.echo(f"  {name:12} {sizes[name]:7,}  {100 * sizes[name] / len(chosen):5.1f} %")
    kinds = Counter(pair.kind for pair in found.pairs)
    told = ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common())
    click.echo(
        f"  {count(sum(together), 'photo')} in {count(len(together), 'group')} that stay together"
        + (f" ({told})" if told else "")
    )
    if short:
        click.echo(f"\n  too few photos for every part: {len(short):,}")
    for line in _listed(_short_line(*row) for row in short):
        click.echo(line)
    for place in (out, folders):
        if place:
            click.echo(f"wrote {shown(place)}")
    if not (out or folders):
        click.echo("nothing written: name a file with --out, or a folder with --folders")
    _tell(found.problems)


def _short_line(label: str, photos: int, apart: int, lacking: Sequence[str]) -> str:
    held = f" in {count(apart, 'group')}" if apart < photos else ""
    return f"{label}: {count(photos, 'photo')}{held}, none in {', '.join(lacking)}"


def _leak_json(table: Dataset, chosen: Sequence[str], leak: Leak) -> dict[str, Any]:
    both = (leak.first, leak.second)
    return {
        "paths": [table.paths[at] for at in both],
        "labels": [table.labels[at] for at in both],
        "parts": [chosen[at] for at in both],
        "kind": leak.kind,
        "score": leak.score,
    }


def _leak_line(table: Dataset, chosen: Sequence[str], leak: Leak) -> str:
    one, other = (f"{chosen[at]} {table.paths[at]}" for at in (leak.first, leak.second))
    return f"{one} = {other} ({leak.kind})"


def _listed(lines: Iterator[str]) -> Iterator[str]:
    from veduta.text import printable

    every = list(lines)
    for line in every[:_LISTED]:
        yield fill(
            printable(line),
            80,
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    if len(every) > _LISTED:
        yield f"    … and {len(every) - _LISTED:,} more: --json lists all"


def _tell(problems: Sequence[str]) -> None:
    from veduta.errors import readable

    for problem in problems[:_LISTED]:
        click.echo(f"veduta: {readable(problem)}", err=True)
    if len(problems) > _LISTED:
        click.echo(f"veduta: and {len(problems) - _LISTED:,} more; --json lists all", err=True)
