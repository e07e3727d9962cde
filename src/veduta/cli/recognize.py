"""`veduta recognize`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import index_option, json_option
from veduta.cli.photos_named import photos_in
from veduta.cli.printing import count, print_json, shown
from veduta.cli.progress import progress
from veduta.errors import PhotoError, readable

if TYPE_CHECKING:
    from veduta.recognize import Recognition

# As in veduta.recognize, which is not loaded for `--help`; a test keeps the two equal.
METHODS = ("evidence", "knn", "inliers", "prototypes", "linear")

Recognize = Callable[[Path], "Recognition"]


@dataclass(frozen=True, slots=True)
class Found:
    """One photo and what it was recognised as; `problem` says why it could not be."""

    photo: Path
    recognition: Recognition | None
    problem: str | None = None


@click.command("recognize")
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@index_option
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="RUN",
    help="Folder of a trained recogniser, instead of an index.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True,
    help="Weigh all evidence, or recognise by one kind of it.",
)  # fmt: skip
@click.option(
    "--precision", type=click.FloatRange(0.5, 0.99), default=0.9, show_default=True, metavar="P",
    help="Share of the names given that should be right; the rest stays unknown.",
)  # fmt: skip
@click.option(
    "--ignore-unlabelled", is_flag=True,
    help="Learn nothing from photos without a label. Otherwise they are taken as photos of "
    "something else.",
)  # fmt: skip
@click.option(
    "--filter", "folder", type=click.Path(path_type=Path), metavar="DIR",
    help="Find the photos of DIR that show --label; nothing is moved.",
)  # fmt: skip
@click.option("--label", "labels", multiple=True, help="What --filter keeps (repeatable).")
@click.option(
    "--list", "list_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the names of the kept photos there, one a line.",
)  # fmt: skip
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="RUN",
    help="Write the linear recogniser of the index as a folder for --model.",
)  # fmt: skip
@json_option
def command(
    photos: tuple[Path, ...],
    index_path: Path,
    model: Path | None,
    method: str,
    precision: float,
    ignore_unlabelled: bool,
    folder: Path | None,
    labels: tuple[str, ...],
    list_file: Path | None,
    export: Path | None,
    as_json: bool,
) -> int:
    """Name what each PHOTO shows, by the labelled photos of an index, or say that it is unknown.

    A PHOTO that is a folder stands for the photos in it. One that cannot be read is reported and
    the others are recognised (exit code 3). The first run on an index learns how far answers can be
    trusted, from the index itself.
    """
    _check(photos, folder, labels, list_file, export, model)
    recognize = _recognizer(
        index_path, model, method, precision, outsiders=not ignore_unlabelled, export=export,
        quiet=as_json,
    )  # fmt: skip
    if not photos and folder is None:
        return 0
    named = photos_in([folder] if folder is not None else photos)
    found = list(_recognized(named, recognize, quiet=as_json or len(named) < 10))
    if folder is not None:
        _print_kept(found, labels, list_file, as_json=as_json)
    elif as_json:
        print_json([_as_json(one) for one in found])
    else:
        _print(found)
    return 3 if any(one.problem for one in found) else 0


def _check(
    photos: Sequence[Path],
    folder: Path | None,
    labels: Sequence[str],
    list_file: Path | None,
    export: Path | None,
    model: Path | None,
) -> None:
    if folder is not None and (photos or not labels):
        raise click.UsageError("--filter takes a folder, a --label to keep, and no PHOTO.")
    if folder is None and (labels or list_file):
        raise click.UsageError("--label and --list go with --filter.")
    if export is not None and model is not None:
        raise click.UsageError("--export writes the recogniser of an index, not of a --model.")
    if not photos and folder is None and export is None:
        raise click.UsageError("Name a PHOTO, or a folder with --filter.")


def _recognizer(
    index_path: Path,
    model: Path | None,
    method: str,
    precision: float,
    *,
    outsiders: bool,
    export: Path | None,
    quiet: bool,
) -> Recognize:
    """Return what recognises one photo; learning is done before it comes back."""
    if model is not None:
        from veduta.recognize import open_model

        opened = open_model(model)
        return lambda photo: opened.recognize(photo, precision=precision)
    from veduta import api

    index = api.open(index_path)
    with progress("Learning", "questions", quiet=quiet) as advance:
        if export is not None:
            index.export_model(export, on_progress=advance)
            click.echo(f"wrote {shown(export)}", err=True)
        learned = index.recognizer(method, outsiders=outsiders, on_progress=advance)
    if index.notice:
        click.echo(f"veduta: {index.notice}", err=True)
    if not learned.learned:
        click.echo(
            "veduta: too few labelled photos to learn from how far answers can be trusted; "
            "confidences are those of other collections.",
            err=True,
        )
    return lambda photo: index.recognize(
        photo, method=method, precision=precision, outsiders=outsiders
    )


def _recognized(photos: Sequence[Path], recognize: Recognize, *, quiet: bool) -> Iterator[Found]:
    with progress("Recognising", quiet=quiet) as advance:
        for done, photo in enumerate(photos):
            advance(done, len(photos))
            try:
                yield Found(photo, recognize(photo))
            except PhotoError as error:
                click.echo(f"veduta: {error}", err=True)
                yield Found(photo, None, str(error))


def _as_json(found: Found) -> dict[str, object]:
    name = os.fspath(found.photo)
    if found.recognition is None:
        return {"photo": name, "problem": found.problem}
    return {"photo": name, **found.recognition.as_json()}


def _print(found: Sequence[Found]) -> None:
    for one in found:
        if one.recognition is None:
            continue  # said already
        seen = one.recognition
        name = click.style(seen.label or "unknown", bold=True)
        sure = f"  {seen.confidence:.2f}" if seen.label else f": {seen.reason}"
        click.echo(f"{shown(one.photo)}\n  {name}{sure}")
        if seen.label and seen.runners_up:
            others = (f"{other} {value:.2f}" for other, value in seen.runners_up if value >= 0.01)
            if also := ", ".join(others):
                click.echo(f"  else {also}")
        for hit in seen.hits[:3]:
            agree = hit.evidence.inliers if hit.evidence else None
            inliers = f", {count(agree, 'inlier')}" if agree is not None else ""
            label = f"  [{hit.label}]" if hit.label and not seen.label else ""
            click.echo(f"  {hit.score:6.3f}{inliers}  {shown(hit.path)}{label}")


def _print_kept(
    found: Sequence[Found], labels: Sequence[str], list_file: Path | None, *, as_json: bool
) -> None:
    kept = [one for one in found if one.recognition and one.recognition.label in labels]
    if list_file is not None:
        lines = b"".join(os.fsencode(one.photo) + b"\n" for one in kept)
        list_file.write_bytes(lines)
    if as_json:
        print_json([{**_as_json(one), "kept": one in kept} for one in found])
        return
    if list_file is None:
        for one in kept:
            click.echo(
                os.fsencode(one.photo) if not _printable(one.photo) else os.fspath(one.photo)
            )
    where = f", listed in {readable(list_file)}" if list_file is not None else ""
    click.echo(f"kept {len(kept):,} of {count(len(found), 'photo')}{where}", err=True)


def _printable(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
