"""`veduta augment`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import OutputFile, OutputFolder, exclude_option, json_option, labels_option
from veduta.cli.printing import print_json, quoted, say, shown
from veduta.cli.progress import progress
from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.augmentation.augmented_dataset import AugmentedDataset
    from veduta.learn.augmentation.catalogue import Word
    from veduta.learn.augmentation.steps import Step

# --json lists all photos that were left out.
MAX_PROBLEMS_LISTED = 10


@click.command("augment")
@click.argument("source", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--list", "listed", is_flag=True, help="List the words, their values and sources.")
@click.option(
    "--preview",
    type=OutputFile(),
    metavar="FILE",
    help="Write a contact sheet of SOURCE, a photo or a folder: .png or .jpg.",
)
@click.option(
    "--out",
    type=OutputFolder(),
    metavar="DIR",
    help="Write SOURCE, a dataset, with changed copies into this new folder.",
)
@click.option(
    "--steps",
    metavar="STEPS",
    help="Steps, such as rotation=40,flip=horizontal,canny=0.8@0.1 (the last one changes a tenth "
    "of the photos).  [default: rotation, shift, shear, zoom, flip with --out; all with --preview]",
)
@click.option(
    "--recipe", metavar="NAME", help="Take the steps of a recipe: its name or its .toml file."
)
@click.option(
    "--copies",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Copies of a training photo.",
)
@labels_option
@exclude_option
@click.option(
    "--column", default="split", show_default=True, metavar="NAME", help="Column of the split."
)
@click.option("--part", metavar="WORD", help="Split whose photos are copied.  [default: train]")
@click.option("--all", "every", is_flag=True, help="Copy all photos of a dataset without a split.")
@click.option(
    "--side",
    type=click.IntRange(16, 8192),
    default=1024,
    show_default=True,
    metavar="PIXELS",
    help="Maximal long side of a copy.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Decides the random draws.",
)
@json_option
def command(
    source: Path | None,
    listed: bool,
    preview: Path | None,
    out: Path | None,
    steps: str | None,
    recipe: str | None,
    copies: int,
    labels: str | None,
    exclude: tuple[str, ...],
    column: str,
    part: str | None,
    every: bool,
    side: int,
    seed: int,
    as_json: bool,
) -> None:
    """Show what augmentation does to photos, or write changed copies of training photos.

    \b
    veduta augment --list
    veduta augment photo.jpg --preview sheet.png
    veduta augment DATASET --out DIR --copies 5 --steps rotation=40,zoom=0.2

    Only training photos are copied. Photos of other splits (validation, test, query, gallery…) stay
    unchanged, so no copy of a test photo is trained on. DIR gets a labels.csv with the columns of
    DATASET and one more: original_photo, the photo that a row is, or is a copy of. A dataset
    without a split is refused: split it first, or copy --all and then split the result with
    `veduta split DIR --group-column original_photo`. DATASET is not changed. After an interruption,
    the same command continues.
    """
    if listed + (preview is not None) + (out is not None) != 1:
        raise click.UsageError("Give one of --list, --preview FILE and --out DIR.")
    if listed:
        _print_words(as_json=as_json)
        return
    if source is None:
        raise click.UsageError("Name a photo or a dataset.")
    if steps is not None and recipe is not None:
        raise click.UsageError("Either --steps or --recipe.")
    if every and part is not None:
        raise click.UsageError("Either --all or --part.")
    chosen_steps = _steps(steps, recipe)
    if preview is not None:
        _write_preview(source, preview, chosen_steps, seed, as_json=as_json)
    elif out is not None:
        from veduta.datasets import read_dataset
        from veduta.learn.augmentation.augmented_dataset import CopyOptions, augment_dataset
        from veduta.learn.augmentation.steps import REPORTED, read_steps

        options = CopyOptions(column, part, every, copies, side, seed)
        dataset = read_dataset(
            source, labels=labels, split_column=column, keep_columns=True, exclude=exclude
        )
        with progress("Augmenting", quiet=as_json) as advance:
            augmented = augment_dataset(
                dataset,
                chosen_steps or read_steps(REPORTED),
                out,
                options,
                on_progress=advance,
            )
        _print_result(augmented, advise_split=every, as_json=as_json)


def _steps(text: str | None, recipe: str | None) -> tuple[Step, ...]:
    """Return the steps of --steps or --recipe, or none without these options."""
    from veduta.errors import RecipeError, readable
    from veduta.learn.augmentation.steps import parse_steps, read_steps

    tables: Sequence[Mapping[str, Any]] = ()
    if text is not None:
        tables = parse_steps(text)
    elif recipe is not None:
        from veduta.learn.recipe import open_recipe

        tables = open_recipe(recipe).augment
        if not tables:
            raise RecipeError(f"the recipe {readable(recipe)!r} has no augment; use --steps")
    return read_steps(tables)


def _print_words(*, as_json: bool) -> None:
    from veduta.learn.augmentation import catalogue

    if as_json:
        print_json(catalogue.as_json())
        return
    for kind in catalogue.KINDS:
        say(kind)
        for word in catalogue.words_of(kind):
            for line in _word_lines(word):
                say(line)
        say()
    say(
        *wrap(
            "The strength for a photo is drawn uniformly from 0 to the value, or (±) from -value "
            "to value; (=) it is the value. The probability is 1 unless another one is named; @ "
            "sets it: canny=0.8@0.1.",
            80,
        )
    )


def _word_lines(word: Word) -> Iterator[str]:
    value = word.default if isinstance(word.default, str) else f"{word.default:g}"
    sign = {"both ways": "±", "up to": " ", "exactly": "="}[word.drawn]
    probability = "" if word.probability == 1 else f"; probability {word.probability:g}"
    start = f"  {f'{word.name}={value}':21} {sign} "
    yield from wrap(word.about, 80, initial_indent=start, subsequent_indent=" " * len(start))
    facts = f"{word.range} ({word.unit}){probability}; {', '.join(word.source)}"
    yield from wrap(facts, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _write_preview(
    source: Path, file: Path, steps: Sequence[Step], seed: int, *, as_json: bool
) -> None:
    if file.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise click.BadParameter(f"{shown(file)}: expected a .png or a .jpg file.")
    from veduta.learn.augmentation.catalogue import WORDS
    from veduta.learn.augmentation.preview import draw_preview, preview_rows
    from veduta.learn.augmentation.steps import read_steps
    from veduta.pages.transform_sheet import write_transform_sheet

    photos, problems = _sample_photos(source)
    shown_steps = steps or read_steps([{name: True} for name in WORDS])
    rows = preview_rows(shown_steps, together=bool(steps))
    sheet, unchanged = draw_preview(photos, rows, seed=seed)
    write_transform_sheet(file, sheet)
    if as_json:
        print_json(
            {
                "sheet": str(file),
                "photos": len(photos),
                "rows": [row.name for row in rows],
                "unchanged": unchanged,
                "seed": seed,
                "problems": problems,
            }
        )
        return
    say(f"wrote {shown(file)}: {count(len(rows), 'row')}, seed {seed}")
    if tiles := sum(unchanged.values()):
        say(f"  {count(tiles, 'tile')} marked as unchanged")
    _print_problems(problems)


def _sample_photos(source: Path) -> tuple[list[Any], list[str]]:
    """Return the pixels of a photo, or of some from all over a folder; and those that failed."""
    from veduta.cli.photo_arguments import named_photos
    from veduta.errors import PhotoError
    from veduta.pages.transform_sheet import PHOTOS_IN_ROW
    from veduta.photos import load

    files = named_photos([source])
    if source.is_dir():
        # Photos at equal distances come first. The others follow in case these do not decode.
        spread = files[:: max(1, len(files) // PHOTOS_IN_ROW)]
        files = list(dict.fromkeys([*spread, *files]))
    photos: list[Any] = []
    problems: list[str] = []
    for file in files:
        try:
            photos.append(load(file, at_least=320).pixels)
        except PhotoError as error:
            if len(problems) + 1 == len(files):
                raise
            problems.append(str(error))
        if len(photos) == PHOTOS_IN_ROW:
            break
    return photos, problems


def _print_result(augmented: AugmentedDataset, *, advise_split: bool, as_json: bool) -> None:
    from veduta.datasets.dataset import ORIGINAL_PHOTO_COLUMN

    folder = shown(augmented.folder)
    if as_json:
        print_json(
            {
                "folder": str(augmented.folder),
                "photos": augmented.photos,
                "copied": augmented.copied,
                "copies": augmented.copies,
                "kept": augmented.kept,
                "group_column": ORIGINAL_PHOTO_COLUMN,
                "problems": list(augmented.problems),
            }
        )
        return
    say(
        f"wrote {folder}: {count(augmented.photos, 'unchanged photo')}, and "
        f"{augmented.copies:,} changed copies of {augmented.copied:,} of them"
    )
    if augmented.kept:
        say(f"  the interrupted run had written {count(augmented.kept, 'file')} of them")
    if advise_split:
        place = quoted(augmented.folder)
        say(f"split it with: veduta split {place} --group-column {ORIGINAL_PHOTO_COLUMN}")
    _print_problems(augmented.problems)


def _print_problems(problems: Sequence[str]) -> None:
    from veduta.errors import readable

    for problem in problems[:MAX_PROBLEMS_LISTED]:
        say(f"veduta: {readable(problem)}", err=True)
    if len(problems) > MAX_PROBLEMS_LISTED:
        hidden = len(problems) - MAX_PROBLEMS_LISTED
        say(f"veduta: and {hidden:,} more; --json lists all", err=True)
