"""`veduta augment`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import progress
from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.augmentation.catalogue import Word
    from veduta.learn.augmentation.offline import Augmented
    from veduta.learn.augmentation.steps import Step

_LISTED = 10  # photos left out; --json has all


@click.command("augment")
@click.argument("source", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--list", "listed", is_flag=True, help="List the words, their values and sources.")
@click.option(
    "--preview",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a contact sheet of SOURCE, a photo or a folder: .png or .jpg.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write SOURCE, a dataset, with changed copies into this new folder.",
)
@click.option(
    "--steps",
    metavar="STEPS",
    help="What is done: rotation=40,flip=horizontal,canny=0.8@0.1 (the last: to a tenth of the "
    "photos).  [default: with --out rotation, shift, shear, zoom and flip; each with --preview]",
)
@click.option("--recipe", metavar="NAME", help="What a recipe does: its name or its .toml file.")
@click.option(
    "--copies",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Copies of a training photo.",
)
@click.option("--labels", metavar="FILE", help="CSV in SOURCE instead of labels.csv.")
@click.option(
    "--column", default="split", show_default=True, metavar="NAME", help="Column of the split."
)
@click.option(
    "--part", metavar="WORD", help="Part of the split whose photos are copied.  [default: train]"
)
@click.option("--all", "every", is_flag=True, help="Copy all photos of a dataset without a split.")
@click.option(
    "--side",
    type=click.IntRange(16, 8192),
    default=1024,
    show_default=True,
    metavar="PIXELS",
    help="Long side of a copy at most.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Another seed, other draws.",
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

    Only training photos are copied; those of other parts (validation, test, query, gallery…) come
    over as they are, so that nothing leaks. DIR gets a labels.csv with the columns of DATASET's own
    and one more: original_photo, the photo that a row is, or is a copy of. A dataset without a
    split is refused: split it first, or copy --all and then split the result with
    `veduta split DIR --group-column original_photo`. DATASET is not changed. An interrupted run
    goes on where it was.
    """
    if listed + (preview is not None) + (out is not None) != 1:
        raise click.UsageError("Wanted is one of --list, --preview FILE and --out DIR.")
    if listed:
        _list(as_json)
        return
    if source is None:
        raise click.UsageError("Name a photo or a dataset.")
    if steps is not None and recipe is not None:
        raise click.UsageError("Either --steps or --recipe.")
    if every and part is not None:
        raise click.UsageError("Either --all or --part.")
    chosen = _steps(steps, recipe)
    if preview is not None:
        _preview(source, preview, chosen, seed, as_json)
    elif out is not None:
        from veduta.datasets import read_dataset
        from veduta.learn.augmentation.offline import augment_dataset
        from veduta.learn.augmentation.steps import REPORTED, read_steps

        table = read_dataset(source, labels=labels, split_column=column, keep_columns=True)
        with progress("Augmenting", quiet=as_json) as advance:
            done = augment_dataset(
                table,
                chosen or read_steps(REPORTED),
                out,
                column=column,
                part=part,
                every=every,
                copies=copies,
                side=side,
                seed=seed,
                on_progress=advance,
            )
        _tell(done, grouped=every, as_json=as_json)


def _steps(text: str | None, recipe: str | None) -> tuple[Step, ...]:
    """Return the steps that the call names; none where it names none."""
    from veduta.errors import RecipeError, readable
    from veduta.learn.augmentation.steps import parse_steps, read_steps

    tables: Sequence[Mapping[str, Any]] = ()
    if text is not None:
        tables = parse_steps(text)
    elif recipe is not None:
        from veduta.learn.recipe import open_recipe

        tables = open_recipe(recipe).augment
        if not tables:
            raise RecipeError(f"the recipe {readable(recipe)!r} augments nothing; name --steps")
    return read_steps(tables)


def _list(as_json: bool) -> None:
    from veduta.learn.augmentation import catalogue

    if as_json:
        print_json(catalogue.as_json())
        return
    for kind in catalogue.KINDS:
        click.echo(kind)
        for word in catalogue.named(kind):
            for line in _word_lines(word):
                click.echo(line)
        click.echo()
    click.echo(
        fill(
            "A photo's strength is drawn evenly: from 0 to the value, or (±) from -value to value; "
            "(=) it is the value. Probability 1 but where another is said; @ sets one: "
            "canny=0.8@0.1.",
            80,
        )
    )


def _word_lines(word: Word) -> Iterator[str]:
    value = word.default if isinstance(word.default, str) else f"{word.default:g}"
    sign = {"both ways": "±", "up to": " ", "exactly": "="}[word.drawn]
    chance = "" if word.probability == 1 else f"; probability {word.probability:g}"
    head = f"  {f'{word.name}={value}':21} {sign} "
    yield fill(word.about, 80, initial_indent=head, subsequent_indent=" " * len(head))
    facts = f"{word.range} ({word.unit}){chance}; {', '.join(word.source)}"
    yield fill(facts, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _preview(source: Path, file: Path, steps: Sequence[Step], seed: int, as_json: bool) -> None:
    if file.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise click.BadParameter(f"{shown(file)}: wanted a .png or a .jpg file.")
    from veduta.learn.augmentation import compose
    from veduta.learn.augmentation.catalogue import WORDS
    from veduta.learn.augmentation.steps import read_steps

    photos, left_out = _some_photos(source)
    each = steps or read_steps([{name: True} for name in WORDS])
    # Alone, a step is shown at work; together, they are as likely as they say.
    rows = [(step.text, compose([{**step.as_json(), "probability": 1}])) for step in each]
    if steps:
        rows.append(("all of them", compose([step.as_json() for step in steps])))
    from veduta.learn.augmentation.sheet import draw_sheet, write_sheet

    sheet = draw_sheet(photos, rows, seed=seed)
    try:
        write_sheet(file, sheet)
    except OSError as error:
        raise click.BadParameter(f"{shown(file)}: {error.strerror or error}.") from error
    if as_json:
        print_json(
            {
                "sheet": str(file),
                "photos": len(photos),
                "rows": [name for name, _ in rows],
                "seed": seed,
                "problems": left_out,
            }
        )
        return
    click.echo(f"wrote {shown(file)}: {count(len(rows), 'row')}, seed {seed}")
    _say(left_out)


def _some_photos(source: Path) -> tuple[list[Any], list[str]]:
    """Return the pixels of a photo, or of some from all over a folder; and what did not decode."""
    from veduta.cli.photo_arguments import named_photos
    from veduta.errors import PhotoError
    from veduta.learn.augmentation.sheet import DRAWS
    from veduta.photos import load

    names = named_photos([source])
    if source.is_dir():
        # Spread first, then the others, should some of those not decode.
        spread = names[:: max(1, len(names) // DRAWS)]
        names = list(dict.fromkeys([*spread, *names]))
    photos: list[Any] = []
    left_out: list[str] = []
    for name in names:
        try:
            photos.append(load(name, at_least=320).pixels)
        except PhotoError as error:
            if len(left_out) + 1 == len(names):
                raise
            left_out.append(str(error))
        if len(photos) == DRAWS:
            break
    return photos, left_out


def _tell(done: Augmented, *, grouped: bool, as_json: bool) -> None:
    from veduta.datasets.dataset import ORIGINAL_PHOTO_COLUMN

    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "photos": done.photos,
                "copied": done.chosen,
                "copies": done.copies,
                "kept": done.kept,
                "group_column": ORIGINAL_PHOTO_COLUMN,
                "problems": list(done.problems),
            }
        )
        return
    click.echo(
        f"wrote {shown(done.folder)}: {count(done.photos, 'photo')} as they were, "
        f"{done.copies:,} changed copies of {done.chosen:,} of them"
    )
    if done.kept:
        click.echo(f"  {count(done.kept, 'file')} of them by the run that was interrupted")
    if grouped:
        options = f"--group-column {ORIGINAL_PHOTO_COLUMN}"
        click.echo(f"split it with: veduta split {shown(done.folder)} {options}")
    _say(done.problems)


def _say(problems: Sequence[str]) -> None:
    from veduta.errors import readable

    for problem in problems[:_LISTED]:
        click.echo(f"veduta: {readable(problem)}", err=True)
    if len(problems) > _LISTED:
        click.echo(f"veduta: and {len(problems) - _LISTED:,} more; --json lists all", err=True)
