"""`veduta explain`: which regions of a photo decide a similarity or a class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.explain_files import write_files
from veduta.cli.explain_text import print_explanations
from veduta.cli.index_argument import IndexPath, default_index, local_index
from veduta.cli.options import (
    CropType,
    OutputFile,
    device_option,
    html_option,
    json_option,
)
from veduta.cli.photo_arguments import named_photos
from veduta.cli.printing import print_json, print_notice, say, shown
from veduta.cli.progress import progress
from veduta.errors import EncoderError, LearnError, PhotoError, QueryError, VedutaError
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.encoders import Encoder
    from veduta.explanation import Explanation
    from veduta.explanation.methods import Subject
    from veduta.search import Hit

ALL_METHODS = "all"

_CLASS_SHEET_PHOTOS = 24
"""Photos of a class sheet, at most."""

_EXIT_UNREADABLE = 3

_REFUSALS = (QueryError, EncoderError, LearnError)
"""Errors of one method, or of one photo, such as a region that is not within it."""

Box = tuple[int, int, int, int]
Explain = Callable[[str | None], "Explanation"]
"""Makes the map of one photo, or of two, by the method of a name; None: the default method."""


@click.command("explain")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="PHOTO",
    help="Explain the similarity of each PHOTO to this one.",
)
@click.option(
    "--index",
    "index_path",
    type=IndexPath(),
    metavar="PATH",
    help="Explain the similarity of each PHOTO to its best hit in this index.  [default: "
    "$VEDUTA_INDEX, or the user's data folder]",
)
@click.option(
    "--hits",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    metavar="N",
    help="How many hits of the index are explained.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Explain the class that this trained network or recogniser gives; with --against the "
    "similarity of its embeddings.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Explain the score of this class, not of the likeliest one.",
)
@click.option("--encoder", metavar="NAME", help="Encoder for --against: see `veduta models`.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="How the map is made (repeatable), or all.  [default: the exact shares or the class "
    "activation map where the network allows it]",
)
@click.option(
    "--region",
    type=CropType(),
    help="Show which part of the other photo answers to this region of PHOTO, in pixels.",
)
@click.option(
    "--class-sheet", is_flag=True, help="Put up to 24 photos side by side, by one method."
)
@device_option
@json_option
@click.option(
    "--png", type=OutputFile(), metavar="FILE", help="Write the photos with their maps, for print."
)
@html_option
@click.option(
    "--npy", type=OutputFile(), metavar="FILE", help="Write the numbers of the map, for NumPy."
)
def command(
    photos: tuple[Path, ...],
    against: Path | None,
    index_path: Path | str | None,
    hits: int,
    model: Path | None,
    class_name: str | None,
    encoder: str | None,
    methods: tuple[str, ...],
    region: Box | None,
    class_sheet: bool,
    as_json: bool,
    png: Path | None,
    html: Path | None,
    npy: Path | None,
) -> int:
    """Show which regions of each PHOTO decide a similarity, or the class that a network gives.

    \b
    veduta explain statue.jpg --index DIR --png why.png
    veduta explain a.jpg --against b.jpg
    veduta explain statue.jpg --model RUN --method all --html why.html

    Methods of a similarity and of a class: shares, grad-cam, occlusion, rise. Of a class only: cam,
    grad-cam++, layer-cam, eigen-cam, score-cam, guided-grad-cam, pooled-gradients, activation,
    activation-guided, activation-rectified, gradient, guided, rectified, smoothgrad,
    integrated-gradients.

    A PHOTO that is a folder stands for the photos in it. One that cannot be explained is reported,
    the others are explained, and the exit code is 3. --json prints one object for one map, and a
    list for several.
    """
    wanted = _Wanted(against, index_path, hits, model, class_name, encoder, region)
    _check_options(wanted, class_sheet=class_sheet, methods=methods)
    chosen = _chosen_methods(methods, wanted)
    paths = named_photos(photos)
    if class_sheet:
        paths = _spread(paths)
    maps = len(paths) * len(chosen) * hits
    _check_outputs(maps * (2 if wanted.subject == "similarity" else 1), maps, png, npy)
    groups: list[list[Explanation]] = []
    printed: list[dict[str, object]] = []
    failures = _Failures(only=len(paths) * hits == 1, against=against)
    left_out = _LeftOut({})
    explain = _explainer(wanted)
    with progress("Explaining", "maps", quiet=as_json) as advance:
        made = count()

        def on_map() -> None:
            advance(next(made), maps)

        def answer(found: list[Explanation]) -> None:
            if as_json:
                printed.extend(map(_as_json, found))
            else:
                print_explanations(found, after_others=failures.explained > 0)
            if png or html or npy:  # or else the photos need not stay in memory
                groups.append(found)
            failures.explained += 1

        for photo in paths:
            with failures.reported():
                for one in explain(photo):
                    with failures.reported():
                        answer(_by_all_methods(one, chosen, on_map, left_out))
    left_out.say()
    if as_json:
        print_json(printed[0] if maps == len(printed) == 1 else printed)
    write_files(groups, class_sheet=class_sheet, png=png, html=html, npy=npy)
    return _EXIT_UNREADABLE if failures.happened else 0


@dataclass(slots=True)
class _Failures:
    """The photos and hits that cannot be explained, while others can.

    Attributes:
        only: whether there is only one photo, with one hit. Then nothing else is left to explain.
        against: the other photo of all photos, or None.
        explained: how many photos or hits were explained.
        happened: whether one could not be explained.
    """

    only: bool
    against: Path | None
    explained: int = 0
    happened: bool = False

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Print an error of the block, so that the next photo or hit can be explained.

        Raises:
            VedutaError: the error will come again with each of the next photos.
        """
        try:
            yield
        except (PhotoError, *_REFUSALS) as error:
            if isinstance(error, PhotoError):
                concerns_all = os.fspath(error.path) == str(self.against)
            else:  # What worked for one photo can work for others.
                concerns_all = self.explained == 0
            if self.only or concerns_all:
                raise
            say(f"veduta: {error}", err=True)
            self.happened = True


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """The methods that gave no map of some photo: for each reason their names."""

    names: dict[str, list[str]]

    def add(self, method: str | None, error: VedutaError) -> None:
        """Note a method. Its name is not part of the reason, so that methods share one."""
        names = self.names.setdefault(str(error).replace(f"method {method} ", "method "), [])
        if method is not None and method not in names:
            names.append(method)

    def say(self) -> None:
        """Say in one line for each reason which methods were left out."""
        for reason, names in self.names.items():
            say(f"veduta: left out {', '.join(names)}: {reason}", err=True)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a map shall explain, as the options say it."""

    against: Path | None
    index_path: Path | str | None
    hits: int
    model: Path | None
    class_name: str | None
    encoder: str | None
    region: Box | None

    @property
    def subject(self) -> Subject:
        return "class" if self.model is not None and self.against is None else "similarity"

    @property
    def searches(self) -> bool:
        """Whether the other photo is a hit of an index."""
        return self.model is None and self.against is None


def _check_options(wanted: _Wanted, *, class_sheet: bool, methods: Sequence[str]) -> None:
    """Refuse options that do not go together."""
    if wanted.index_path is not None and not wanted.searches:
        raise click.UsageError("--index does not go with --against or --model.")
    if wanted.hits != 1 and not wanted.searches:
        raise click.UsageError("--hits goes with --index.")
    if wanted.encoder is not None and (wanted.against is None or wanted.model is not None):
        raise click.UsageError("--encoder goes with --against, without --model.")
    if wanted.class_name is not None and wanted.subject != "class":
        raise click.UsageError("--class goes with --model, without --against.")
    if wanted.region is not None and wanted.subject == "class":
        raise click.UsageError("--region goes with two photos: --against or --index.")
    if class_sheet and (wanted.subject != "class" or len(methods) > 1 or ALL_METHODS in methods):
        raise click.UsageError("--class-sheet goes with --model and one --method.")
    if wanted.searches and wanted.index_path is None and not _has_default_index():
        raise click.UsageError(
            "Say what to explain: --against PHOTO, --index PATH or --model RUN. (There is no "
            "default index.)"
        )


def _has_default_index() -> bool:
    from veduta.index import holds_index

    default = default_index()
    return not isinstance(default, Path) or holds_index(default)


def _chosen_methods(names: Sequence[str], wanted: _Wanted) -> list[str | None]:
    """Return the names of the methods; None is the default of what is explained.

    Raises:
        QueryError: no method has that name, or it explains something else.
    """
    from veduta.explanation.methods import method_for, methods_for, require_packages

    if ALL_METHODS not in names:
        chosen = [method_for(name, wanted.subject).name for name in names]
        return list(dict.fromkeys(chosen)) or [None]
    with_torch = wanted.model is not None  # The others need no network of torch.
    if with_torch:
        try:
            require_packages("grad-cam")
        except LearnError as error:
            say(f"veduta: {error}", err=True)
            with_torch = False
    return list(methods_for(wanted.subject, with_torch=with_torch))


def _check_outputs(panels: int, maps: int, png: Path | None, npy: Path | None) -> None:
    from veduta.pages.explanation_sheet import MAX_PANELS

    if npy is not None and maps != 1:
        raise click.UsageError("--npy takes one photo, one --method and one hit.")
    if png is not None and panels > MAX_PANELS:
        raise QueryError(
            f"A picture holds {MAX_PANELS} maps, and these are {panels:,}: name fewer photos or "
            "methods, or write a page with --html."
        )


def _spread(photos: Sequence[Path]) -> list[Path]:
    """Return as many photos as a class sheet holds, from all over the list."""
    if len(photos) <= _CLASS_SHEET_PHOTOS:
        return list(photos)
    say(f"veduta: {_CLASS_SHEET_PHOTOS} of {len(photos):,} photos, at equal distances", err=True)
    step = len(photos) / _CLASS_SHEET_PHOTOS
    return [photos[int(step * number)] for number in range(_CLASS_SHEET_PHOTOS)]


def _explainer(wanted: _Wanted) -> Callable[[Path], list[Explain]]:
    """Return a function from a photo to what makes its maps: one for each hit, or only one."""
    from veduta import api

    if wanted.searches:
        index = api.open(local_index(wanted.index_path or default_index()))
        print_notice(index)
        return partial(_explain_hits, index, wanted)
    encoder: Encoder | None = None
    if wanted.model is None:
        from veduta.encoders import DEFAULT, load_encoder

        encoder = load_encoder(wanted.encoder or DEFAULT, threads=processor_cores())

    def explain(photo: Path) -> list[Explain]:
        return [
            lambda method: api.explain(
                photo,
                against=wanted.against,
                model=wanted.model,
                class_name=wanted.class_name,
                method=method,
                region=wanted.region,
                encoder=encoder,
            )
        ]

    return explain


def _explain_hits(index: Index, wanted: _Wanted, photo: Path) -> list[Explain]:
    """Return what explains each of the best hits. The photo itself is no hit.

    Raises:
        QueryError: the index has no other photo.
    """
    hits = [hit for hit in index.search(photo, k=wanted.hits + 1) if not _same_file(hit, photo)]
    if not hits:
        raise QueryError(f"{shown(index.path)}: the index has no other photo than the PHOTO.")
    return [
        partial(
            lambda hit, method: index.explain(photo, hit, method=method, region=wanted.region), hit
        )
        for hit in hits[: wanted.hits]
    ]


def _same_file(hit: Hit, photo: Path) -> bool:
    return os.path.realpath(hit.path) == os.path.realpath(photo)


def _by_all_methods(
    explain: Explain,
    methods: Sequence[str | None],
    on_map: Callable[[], None],
    left_out: _LeftOut,
) -> list[Explanation]:
    """Return a map by each method that this network and these photos allow.

    Args:
        explain: makes one map.
        methods: names; None is the default.
        on_map: called before each map.
        left_out: gets the methods that give no map, if another one does.

    Raises:
        VedutaError: no method gives a map; the reason of the first.
    """
    found: list[Explanation] = []
    refused: list[tuple[str | None, VedutaError]] = []
    for method in methods:
        on_map()
        try:
            found.append(_checked(explain(method)))
        except _REFUSALS as error:
            refused.append((method, error))
    if not found:
        raise refused[0][1]
    for method, reason in refused:
        left_out.add(method, reason)
    return found


def _checked(explanation: Explanation) -> Explanation:
    """Return the explanation if its maps are finite.

    Raises:
        EncoderError: a value of a map is infinite or no number.
    """
    import numpy as np

    for one in (explanation, explanation.against):
        if one is not None and not np.isfinite(one.map).all():
            raise EncoderError(
                f"{shown(one.photo)}: the map by {one.method} has values that are infinite or no "
                "numbers, so the weights of the network are damaged or its training failed; train "
                "it again, or take another encoder."
            )
    return explanation


def _as_json(explanation: Explanation) -> dict[str, object]:
    """Return the JSON of an explanation, with the size and the strongest region of each photo."""
    from veduta.explanation.wording import region_of

    fields = explanation.as_json()
    height, width = explanation.pixels.shape[:2]
    region = region_of(explanation)
    fields.pop("against", None)  # It comes last, with its own strongest region.
    fields["size"] = [width, height]
    fields["strongest"] = region and {
        "place": region.place,
        "box": list(region.box),
        "share_of_sum": region.share_of_sum,
        "share_of_photo": region.share_of_photo,
    }
    if explanation.against is not None:
        fields["against"] = _as_json(explanation.against)
    return fields
