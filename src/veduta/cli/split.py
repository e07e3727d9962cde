"""The command `veduta split`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import (
    OutputFile,
    OutputFolder,
    device_option,
    exclude_option,
    json_option,
    labels_option,
)
from veduta.cli.printing import print_json, quoted, say, shown
from veduta.cli.progress import stages
from veduta.text import count

if TYPE_CHECKING:
    from veduta.curate.copies import CopyPair
    from veduta.curate.splitting import Leak, ShortClass
    from veduta.datasets import Dataset

# Leaks, classes and problems. --json has all of them.
_MAX_LISTED = 10
_DEFAULT_PARTS = "train=0.8,val=0.1,test=0.1"


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of the command, under the names that click gives them."""

    dataset: Path
    labels: str | None
    exclude: tuple[str, ...]
    into: str | None
    folds: int | None
    seed: int
    group_column: str | None
    find_copies: bool
    check: bool
    column: str | None
    out: Path | None
    overwrite: bool
    folders: Path | None
    links: bool
    html: Path | None
    cache: Path | None
    as_json: bool

    def refuse_contradictions(self) -> None:
        """Refuse options that contradict each other."""
        if self.check and (self.into or self.folds or self.out or self.folders):
            raise click.UsageError(
                "--check reads the split that DATASET has: leave out --into, --folds, --out and "
                "--folders."
            )
        if self.into and self.folds:
            raise click.UsageError("Either --into or --folds.")
        if self.html and not self.check:
            raise click.UsageError("--html goes with --check.")

    @property
    def split_column(self) -> str:
        """The column of the split."""
        return self.column or ("fold" if self.folds else "split")

    def parts(self) -> dict[str, float]:
        """Return name → share or number of photos."""
        from veduta.curate.splitting import parse_parts

        if self.folds:
            return {str(fold): 1 / self.folds for fold in range(self.folds)}
        return parse_parts(self.into or _DEFAULT_PARTS)


@dataclass(frozen=True, slots=True)
class _Related:
    """Which photos belong together.

    Attributes:
        pairs: copies.
        sources: (N,) where each photo comes from; None if this is not known.
        problems: photos that were left out or not compared.
    """

    pairs: Sequence[CopyPair]
    sources: Sequence[str] | None
    problems: Sequence[str]


@click.command("split")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@labels_option
@exclude_option
@click.option(
    "--into",
    metavar="PARTS",
    help="Parts and their shares, or whole numbers of photos: train,test=200.  "
    f"[default: {_DEFAULT_PARTS}]",
)
@click.option(
    "--folds", type=click.IntRange(2, 10_000), metavar="K", help="K equal parts instead, 0 to K-1."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another split.")
@click.option(
    "--group-column", metavar="COLUMN", help="Photos with one value in it stay together too."
)
@click.option(
    "--find-copies/--no-find-copies",
    default=True,
    show_default=True,
    help="Keep copies of one photo together: cut, mirrored, turned, saved again.",
)
@click.option("--check", is_flag=True, help="List the leaks of the split that DATASET has.")
@click.option(
    "--column",
    metavar="NAME",
    help="Column of the split.  [default: split; with --folds: fold]",
)
@click.option(
    "--out",
    type=OutputFile(),
    metavar="FILE",
    help="Write a labels file with the split.",
)
@click.option("--overwrite", is_flag=True, help="--out may replace a file, DATASET's own too.")
@click.option(
    "--folders",
    type=OutputFolder(),
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
    type=OutputFile(),
    metavar="FILE",
    help="With --check: write a page that shows the leaks.",
)
@click.option(
    "--cache",
    type=OutputFolder(),
    metavar="DIR",
    help="Keep descriptors and keypoints of the photos there.  [default: the user's cache folder]",
)
@device_option
@json_option
def command(**options: Any) -> int:
    """Split DATASET into parts that share no photo, nor copies of one, or check the split it has.

    \b
    veduta split DATASET --into train=0.8,val=0.1,test=0.1 --out labels.csv
    veduta split DATASET --into train,val=100,test=200 --out labels.csv
    veduta split DATASET --into query=0.2,gallery=0.8,distractor --folders DIR
    veduta split DATASET --check --html leaks.html

    DATASET is a folder with a labels.csv, with one folder for each class, or with splits; or a CSV
    file. Each part gets its share of each class. `distractor` takes the photos without a label.
    Nothing in DATASET is changed. A check that finds leaks ends with exit code 1.
    """
    return _run(_Options(**options))


def _run(options: _Options) -> int:
    from veduta.datasets import read_dataset

    options.refuse_contradictions()
    dataset = read_dataset(
        options.dataset,
        labels=options.labels,
        split_column=options.split_column,
        keep_columns=True,
        exclude=options.exclude,
    )
    sources = dataset.column(options.group_column) if options.group_column else None
    pairs, problems = _copies(dataset, options) if options.find_copies else ([], [])
    related = _Related(pairs, sources, [*dataset.problems, *problems])
    if options.check:
        return _check(dataset, related, options)
    _split(dataset, related, options)
    return 0


def _copies(dataset: Dataset, options: _Options) -> tuple[list[CopyPair], list[str]]:
    """Return the copies among the photos, and a sentence for each photo that was not compared."""
    from veduta.curate.copies import copies_among
    from veduta.curate.described_photos import describe_photos

    with stages(quiet=options.as_json) as advance:
        photos = describe_photos(dataset.files, folder=options.cache, on_progress=advance)
        pairs = copies_among(photos, on_progress=advance)
    return pairs, [
        f"{dataset.paths[position]}: not compared, {reason}"
        for position, reason in photos.problems.items()
    ]


def _check(dataset: Dataset, related: _Related, options: _Options) -> int:
    from veduta.curate.leaks_report import leaks_page
    from veduta.curate.splitting import find_leaks
    from veduta.errors import DatasetError, readable
    from veduta.pages.leaks_page import write_leaks_page

    if not any(dataset.splits):
        raise DatasetError(
            f"{readable(dataset.root)}: has no split to check: wanted a column "
            f"{options.split_column!r} in its labels file (--column names another), or folders "
            "named after splits"
        )
    leaks = find_leaks(dataset.splits, related.pairs, related.sources)
    between = _leaks_between(dataset.splits, leaks)
    lines = [f"{one} and {other}: {count(n, 'leak')}" for (one, other), n in between]
    if options.html:
        summary = f"{count(len(leaks), 'leak')}. " + "; ".join(lines)
        write_leaks_page(options.html, leaks_page(dataset, dataset.splits, leaks, summary))
    if options.as_json:
        print_json(
            {
                "dataset": str(dataset.root),
                "photos": len(dataset.paths),
                "parts": dict(Counter(dataset.splits)),
                "problems": list(related.problems),
                "leaks": [_leak_json(dataset, leak) for leak in leaks],
            }
        )
    else:
        sizes = Counter(dataset.splits).items()
        parts = ", ".join(f"{name or 'none'} {photos:,}" for name, photos in sizes)
        say(f"{shown(dataset.root)}: {count(len(dataset.paths), 'photo')}", f"  {parts}")
        for line in lines or ["no leaks"]:
            say(f"  {line}")
        _print_list([_leak_line(dataset, leak) for leak in leaks])
        if options.html:
            say(f"wrote {shown(options.html)}")
        _print_problems(related.problems)
    return 1 if leaks else 0


def _leaks_between(
    part_of: Sequence[str], leaks: Sequence[Leak]
) -> list[tuple[tuple[str, str], int]]:
    """Return ((part, other part), number of leaks), the largest number first."""
    pairs: Counter[tuple[str, str]] = Counter()
    for leak in leaks:
        one, other = sorted((part_of[leak.first], part_of[leak.second]))
        pairs[one, other] += 1
    return pairs.most_common()


def _split(dataset: Dataset, related: _Related, options: _Options) -> None:
    from veduta.curate.splitting import NO_PART, bound_together, short_classes, split
    from veduta.curate.write_split import write_folders, write_labels

    parts = options.parts()
    groups = bound_together(len(dataset.paths), related.pairs, related.sources)
    part_of = split(dataset.paths, dataset.labels, groups, parts, seed=options.seed)
    short = short_classes(dataset.labels, groups, part_of)
    if options.out:
        write_labels(
            dataset,
            part_of,
            options.out,
            column=options.split_column,
            overwrite=options.overwrite,
        )
    renamed: list[str] = []
    if options.folders:
        renamed = write_folders(dataset, part_of, options.folders, links=options.links)
    part_sizes = Counter(part_of)
    group_sizes = [size for size in Counter(groups).values() if size > 1]
    if options.as_json:
        print_json(
            {
                "dataset": str(dataset.root),
                "photos": len(part_of),
                "seed": options.seed,
                "parts": {name: part_sizes[name] for name in parts},
                "in_no_part": part_sizes[NO_PART],
                "groups": len(group_sizes),
                "photos_in_groups": sum(group_sizes),
                "copies": [
                    {
                        "paths": [dataset.paths[pair.first], dataset.paths[pair.second]],
                        "kind": pair.kind,
                        "score": pair.score,
                    }
                    for pair in related.pairs
                ],
                "short_classes": [
                    {
                        "label": one.label,
                        "photos": one.photos,
                        "groups": one.groups,
                        "not_in": list(one.missing_in),
                    }
                    for one in short
                ],
                "labels_that_are_no_folder_names": renamed,
                "problems": list(related.problems),
                "rows": [
                    {"path": path, "label": label, options.split_column: part}
                    for path, label, part in zip(
                        dataset.paths, dataset.labels, part_of, strict=True
                    )
                ],
            }
        )
        return
    labelled = sum(label is not None for label in dataset.labels)
    classes = len({label for label in dataset.labels if label is not None})
    say(
        f"{shown(dataset.root)}: {count(len(part_of), 'photo')}, {labelled:,} of them in "
        f"{count(classes, 'class', 'classes')}"
    )
    for name in parts:
        percent = 100 * part_sizes[name] / len(part_of)
        say(f"  {name:12} {part_sizes[name]:7,}  {percent:5.1f} %")
    if part_sizes[NO_PART]:
        say(f"  {count(part_sizes[NO_PART], 'photo')} in no part, and in nothing that is written")
    for name, wanted in parts.items():
        if isinstance(wanted, int) and part_sizes[name] != wanted:
            say(
                f"  {name} has {part_sizes[name]:,} and not {wanted:,}: photos that stay together "
                "do not fit"
            )
    kinds = Counter(pair.kind for pair in related.pairs)
    copies = ", ".join(f"{kind} {number:,}" for kind, number in kinds.most_common())
    say(
        f"  {count(sum(group_sizes), 'photo')} in {count(len(group_sizes), 'group')} that stay "
        "together" + (f" ({copies})" if copies else "")
    )
    if short:
        say("", f"  too few photos for every part: {len(short):,}")
    _print_list([_short_line(one) for one in short])
    _print_written(dataset, options, renamed)
    _print_problems(related.problems)


def _print_written(dataset: Dataset, options: _Options, renamed: Sequence[str]) -> None:
    """Print what was written; `renamed` are labels that are no names of folders."""
    from veduta.curate.write_split import is_dataset_by_itself

    for written in (options.out, options.folders):
        if written:
            say(f"wrote {shown(written)}")
    if options.out and not is_dataset_by_itself(dataset, options.out):
        say(
            "  its paths are relative to the photos: read it with "
            f"{quoted(dataset.root)} --labels {quoted(options.out)}"
        )
    if options.folders and renamed:
        from veduta.datasets.labels_csv import LABELS_FILE

        example = f"such as {renamed[0]!r}"
        say(
            f"  {count(len(renamed), 'label')}, {example}, cannot be the name of a folder: see "
            f"{shown(options.folders / LABELS_FILE)}"
        )
    if not (options.out or options.folders):
        say("nothing written: name a file with --out, or a folder with --folders")


def _short_line(short: ShortClass) -> str:
    groups = f" in {count(short.groups, 'group')}" if short.groups < short.photos else ""
    missing = ", ".join(short.missing_in)
    return f"{short.label}: {count(short.photos, 'photo')}{groups}, none in {missing}"


def _leak_json(dataset: Dataset, leak: Leak) -> dict[str, Any]:
    both = (leak.first, leak.second)
    return {
        "paths": [dataset.paths[position] for position in both],
        "labels": [dataset.labels[position] for position in both],
        "parts": [dataset.splits[position] for position in both],
        "kind": leak.kind,
        "score": leak.score,
    }


def _leak_line(dataset: Dataset, leak: Leak) -> str:
    one, other = (
        f"{dataset.splits[position]} {dataset.paths[position]}"
        for position in (leak.first, leak.second)
    )
    return f"{one} = {other} ({leak.kind})"


def _print_list(lines: Sequence[str]) -> None:
    for line in _wrapped(lines):
        say(line)


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    from veduta.text import printable

    for line in lines[:_MAX_LISTED]:
        yield from wrap(
            printable(line),
            80,
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    if len(lines) > _MAX_LISTED:
        yield f"    … and {len(lines) - _MAX_LISTED:,} more: --json lists all"


def _print_problems(problems: Sequence[str]) -> None:
    from veduta.errors import readable

    for problem in problems[:_MAX_LISTED]:
        say(f"veduta: {readable(problem)}", err=True)
    if len(problems) > _MAX_LISTED:
        say(f"veduta: and {len(problems) - _MAX_LISTED:,} more; --json lists all", err=True)
