"""`veduta recognize`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import index_option, json_option
from veduta.cli.photo_arguments import named_photos
from veduta.cli.printing import print_json, print_notice, shown
from veduta.cli.progress import progress
from veduta.errors import PhotoError, QueryError, readable
from veduta.text import count

if TYPE_CHECKING:
    from veduta.recognize import Recognition, Recognizer

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
    "--model",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of a trained recogniser or of a run, instead of an index.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=METHODS[0],
    show_default=True,
    help="Weigh all evidence, or recognise by one kind of it.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0.5, 0.99),
    default=0.9,
    show_default=True,
    metavar="P",
    help="Share of the names given that should be right; the rest stays unknown.",
)
@click.option(
    "--ignore-unlabelled",
    is_flag=True,
    help="Learn nothing from photos without a label. Otherwise they are taken as photos of "
    "something else.",
)
@click.option(
    "--filter",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Find the photos of DIR that show --label; nothing is moved.",
)
@click.option("--label", "labels", multiple=True, help="What --filter keeps (repeatable).")
@click.option(
    "--list",
    "list_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the names of the kept photos there, one a line.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Write the linear recogniser of the index as a folder for --model.",
)
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
    outsiders = not ignore_unlabelled
    if export is not None:
        _export(index_path, export, outsiders=outsiders, quiet=as_json)
    if not photos and folder is None:
        return 0
    named = named_photos([folder] if folder is not None else photos)
    recognize, names = _recognizer(
        index_path, model, method, precision, outsiders=outsiders, quiet=as_json
    )
    _check_known(labels, names)
    found = list(_recognized(named, recognize, quiet=as_json or len(named) < 10))
    whole = all(one.problem is None for one in found)
    if folder is not None:
        whole &= _print_kept(found, labels, list_file, as_json=as_json)
    elif as_json:
        print_json([_as_json(one) for one in found])
    else:
        _print(found)
    return 0 if whole else 3


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
    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"--filter: {readable(folder)} is not a folder.")
    if folder is None and (labels or list_file):
        raise click.UsageError("--label and --list go with --filter.")
    if list_file is not None and not list_file.absolute().parent.is_dir():
        raise click.UsageError(f"--list: there is no folder {readable(list_file.parent)}.")
    if model is not None:
        context = click.get_current_context()
        for name in ("index_path", "method", "ignore_unlabelled", "export"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                option = name.removesuffix("_path").replace("_", "-")
                raise click.UsageError(f"--{option} is for an index and does not go with --model.")
    if not photos and folder is None and export is None:
        raise click.UsageError("Name a PHOTO, or a folder with --filter.")


def _check_known(labels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a label that nothing can be recognised as: it would keep no photo."""
    for label in labels:
        if label not in names:
            near = get_close_matches(label, names, 3, 0) or names[:3]
            listed = ", ".join(repr(name) for name in near)
            raise QueryError(
                f"No photo has the label {label!r}, so none can be kept for it. Of the "
                f"{count(len(names), 'label')} the nearest: {listed}."
            )


def _export(index_path: Path, export: Path, *, outsiders: bool, quiet: bool) -> None:
    from veduta import api

    index = api.open(index_path)
    with progress("Learning", "questions", quiet=quiet) as advance:
        index.export_model(export, outsiders=outsiders, on_progress=advance)
    _warn(index.recognizer("linear", outsiders=outsiders))
    click.echo(f"wrote {shown(export)}", err=True)


def _recognizer(
    index_path: Path,
    model: Path | None,
    method: str,
    precision: float,
    *,
    outsiders: bool,
    quiet: bool,
) -> tuple[Recognize, Sequence[str]]:
    """Return what recognises one photo, and the labels; learning is done before it comes back."""
    from veduta.recognize import open_model
    from veduta.recognize.unknown import check_precision

    check_precision(precision)  # before minutes of learning; NaN is in any range to click
    if model is not None:
        opened = open_model(model)
        if not opened.confidence.examples:
            click.echo(
                "veduta: the run had too few validation photos to learn from how far answers can "
                "be trusted; confidences are the network's own.",
                err=True,
            )
        return lambda photo: opened.recognize(photo, precision=precision), opened.names
    from veduta import api

    index = api.open(index_path)
    with progress("Learning", "questions", quiet=quiet) as advance:
        learned = index.recognizer(method, outsiders=outsiders, on_progress=advance)
    print_notice(index)
    _warn(learned)

    def recognize(photo: Path) -> Recognition:
        return index.recognize(photo, method=method, precision=precision, outsiders=outsiders)

    return recognize, learned.labelled.names


def _warn(recognizer: Recognizer) -> None:
    if not recognizer.learned:
        click.echo(
            "veduta: too few labelled photos to learn from how far answers can be trusted; "
            "confidences are those of other collections.",
            err=True,
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
) -> bool:
    """Print or list the photos with one of the labels; tell whether all of them could be."""
    keep = [one.recognition is not None and one.recognition.label in labels for one in found]
    kept = [one.photo for one, kept in zip(found, keep, strict=True) if kept]
    odd = [photo for photo in kept if "\n" in os.fspath(photo)]  # would read as two photos
    lines = b"".join(os.fsencode(photo) + b"\n" for photo in kept if photo not in odd)
    if list_file is not None:
        try:
            list_file.write_bytes(lines)
        except OSError as error:
            why = error.strerror or error
            raise QueryError(f"{readable(list_file)}: cannot be written: {why}") from error
    if as_json:
        print_json([{**_as_json(one), "kept": kept} for one, kept in zip(found, keep, strict=True)])
    elif list_file is None:
        click.echo(lines, nl=False)
    if list_file is None and as_json:
        return True
    for photo in odd:
        click.echo(f"veduta: kept, but not listed, for a line break in it: {photo!a}", err=True)
    where = f", listed in {readable(list_file)}" if list_file is not None else ""
    click.echo(f"kept {len(kept):,} of {count(len(found), 'photo')}{where}", err=True)
    return not odd
