"""`veduta recognize`: name what photos show, or say that it is unknown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import (
    FiniteFloat,
    OutputFile,
    OutputFolder,
    device_option,
    index_option,
    json_option,
    orientation_option,
)
from veduta.cli.photo_arguments import named_photos
from veduta.cli.printing import print_json, print_names, print_notice, say, shown
from veduta.cli.progress import progress
from veduta.errors import PhotoError, QueryError, readable
from veduta.files import write_bytes
from veduta.text import composed, count

if TYPE_CHECKING:
    from veduta.recognize import Recognition, Recognizer

# A copy from veduta.recognize, which is too slow to load for `--help`. A test keeps the two equal.
METHODS = ("evidence", "knn", "inliers", "prototypes", "linear")

Recognize = Callable[[Path], "Recognition"]


_MAX_PRINTED_HITS = 3


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """One photo and its recognition, or the `problem` why it has none."""

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
    type=FiniteFloat(0.5, 0.99),
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
    type=OutputFile(),
    metavar="FILE",
    help="Write the names of the kept photos there, one per line.",
)
@click.option(
    "--export",
    type=OutputFolder(),
    metavar="RUN",
    help="Write the linear recogniser of the index as a folder for --model.",
)
@partial(orientation_option, photo="the photo")
@device_option
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
    orientation: str,
    as_json: bool,
) -> int:
    """Name what each PHOTO shows, by the labelled photos of an index, or say that it is unknown.

    A PHOTO that is a folder stands for the photos in it. A photo that cannot be read is reported,
    and the others are recognised (exit code 3). The first run on an index trains a recogniser and
    calibrates its confidence on the photos of the index, which takes a while.
    """
    _check(photos, folder, labels, list_file, export, model)
    outsiders = not ignore_unlabelled
    if export is not None:
        _export(index_path, export, outsiders=outsiders, quiet=as_json)
    if not photos and folder is None:
        return 0
    paths = named_photos([folder] if folder is not None else photos)
    recognize, names = _recognizer(
        index_path,
        model,
        method,
        precision,
        outsiders=outsiders,
        orientation=orientation,
        quiet=as_json,
    )
    labels = tuple(map(composed, labels))
    _check_known(labels, names)
    results = list(_recognized(paths, recognize, quiet=as_json or len(paths) < 10))
    complete = all(result.problem is None for result in results)
    if folder is not None:
        complete &= _print_kept(results, labels, list_file, as_json=as_json)
    elif as_json:
        print_json([_as_json(result) for result in results])
    else:
        _print(results)
    return 0 if complete else 3


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
    if model is not None:
        context = click.get_current_context()
        for name in ("index_path", "method", "ignore_unlabelled", "orientation", "export"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                option = name.removesuffix("_path").replace("_", "-")
                raise click.UsageError(f"--{option} is for an index and does not go with --model.")
    if not photos and folder is None and export is None:
        raise click.UsageError("Name a PHOTO, or a folder with --filter.")


def _check_known(labels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a label that no photo of the index has: it would keep no photo."""
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
    with progress("Learning", quiet=quiet) as advance:
        index.export_model(export, outsiders=outsiders, on_progress=advance)
    _warn(index.recognizer("linear", outsiders=outsiders), index_path)
    say(f"wrote {shown(export)}", err=True)


def _recognizer(
    index_path: Path,
    model: Path | None,
    method: str,
    precision: float,
    *,
    outsiders: bool,
    orientation: str,
    quiet: bool,
) -> tuple[Recognize, Sequence[str]]:
    """Return a function that recognises one photo, and the labels. Learning is done before."""
    from veduta.recognize import open_model
    from veduta.recognize.unknown import check_precision

    # Learning takes minutes, so the precision is checked first. click accepts NaN in any range.
    check_precision(precision)
    if model is not None:
        loaded = open_model(model)
        if not loaded.confidence.examples:
            say(
                "veduta: the run had too few validation photos to calibrate the confidence; "
                "it is that of the network itself.",
                err=True,
            )
        return lambda photo: loaded.recognize(photo, precision=precision), loaded.names
    from veduta import api

    index = api.open(index_path)
    with progress("Learning", quiet=quiet) as advance:
        recognizer = index.recognizer(method, outsiders=outsiders, on_progress=advance)
    print_notice(index)
    _warn(recognizer, index_path)

    def recognize(photo: Path) -> Recognition:
        return index.recognize(
            photo,
            method=method,
            precision=precision,
            outsiders=outsiders,
            orientation=orientation,
        )

    return recognize, recognizer.labelled.names


def _warn(recognizer: Recognizer, index_path: Path) -> None:
    from veduta.index import Manifest

    if recognizer.why_not_learned is None:
        return
    say(f"veduta: {recognizer.why_not_learned}", err=True)
    if Manifest.read(index_path).projection is not None:
        say(
            "veduta: that confidence was fitted without a projection, and this index has one. So "
            "more photos of its labels may stay unknown; a lower --precision gives more names.",
            err=True,
        )


def _recognized(
    photos: Sequence[Path], recognize: Recognize, *, quiet: bool
) -> Iterator[PhotoResult]:
    with progress("Recognising", quiet=quiet) as advance:
        for done, photo in enumerate(photos):
            advance(done, len(photos))
            try:
                yield PhotoResult(photo, recognize(photo))
            except PhotoError as error:
                say(f"veduta: {error}", err=True)
                yield PhotoResult(photo, None, str(error))


def _as_json(result: PhotoResult) -> dict[str, object]:
    name = os.fspath(result.photo)
    if result.recognition is None:
        return {"photo": name, "problem": result.problem}
    return {"photo": name, **result.recognition.as_json()}


def _print(results: Sequence[PhotoResult]) -> None:
    from veduta.recognize import MIN_SHOWN_CONFIDENCE

    for result in results:
        if result.recognition is None:
            continue  # the problem was printed when the photo was read
        recognition = result.recognition
        why = f"  {recognition.confidence:.2f}" if recognition.label else f": {recognition.reason}"
        say(shown(result.photo))
        if recognition.orientation.is_turned:
            say(f"  the photo was {recognition.orientation.words} to be compared")
        say(why, bold=f"  {recognition.label or 'unknown'}")
        if recognition.label:
            others = [
                f"{label} {confidence:.2f}"
                for label, confidence in recognition.runners_up
                if confidence >= MIN_SHOWN_CONFIDENCE
            ]
            if others:
                say(f"  else {', '.join(others)}")
        for hit in recognition.hits[:_MAX_PRINTED_HITS]:
            inliers = hit.evidence.inliers if hit.evidence else None
            agreeing = f", {count(inliers, 'inlier')}" if inliers is not None else ""
            label = f"  [{hit.label}]" if hit.label and not recognition.label else ""
            say(f"  {hit.score:6.3f}{agreeing}  {shown(hit.path)}{label}")


def _print_kept(
    results: Sequence[PhotoResult],
    labels: Sequence[str],
    list_file: Path | None,
    *,
    as_json: bool,
) -> bool:
    """Print or list the photos with one of the labels; return whether all of them could be."""
    keep = [
        result.recognition is not None and result.recognition.label in labels for result in results
    ]
    kept = [result.photo for result, kept in zip(results, keep, strict=True) if kept]
    # A line break in a name would make two lines, which read as two photos.
    unlisted = [photo for photo in kept if "\n" in os.fspath(photo)]
    listed = [os.fspath(photo) for photo in kept if photo not in unlisted]
    if list_file is not None:
        write_bytes(list_file, b"".join(os.fsencode(name) + b"\n" for name in listed))
    if as_json:
        print_json(
            [{**_as_json(result), "kept": kept} for result, kept in zip(results, keep, strict=True)]
        )
    elif list_file is None and not print_names(listed):
        say(
            "veduta: control characters in names are escaped here; --list FILE has them as they "
            "are",
            err=True,
        )
    if list_file is None and as_json:
        return True
    for photo in unlisted:
        say(f"veduta: kept, but not listed, for a line break in it: {photo!a}", err=True)
    where = f", listed in {readable(list_file)}" if list_file is not None else ""
    say(f"kept {len(kept):,} of {count(len(results), 'photo')}{where}", err=True)
    return not unlisted
