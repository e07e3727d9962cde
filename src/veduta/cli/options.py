"""Options that several commands share."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from veduta.cli.index_argument import IndexPath, changes_index, default_index, reads_index
from veduta.devices import DEVICES, VARIABLE, device_named, device_of_process, require_provider
from veduta.files import check_writable, check_writable_folder
from veduta.search.options import EFFORTS, ORIENTATIONS, RERANK_MODES


def index_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--index PATH` of an index that is read, passed as a Path. See `reads_index`."""
    return _index_option(reads_index(function))


def changed_index_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--index PATH` of an index that is changed, passed as a Path. See `changes_index`."""
    return _index_option(changes_index(function))


def verified_index_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--index PATH` of an index that is changed, whose copy is looked at for damage first."""
    return _index_option(changes_index(function, verify=True))


def _index_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--index",
        "index_path",
        type=IndexPath(),
        default=default_index,
        show_default="$VEDUTA_INDEX, or the user's data folder",
        metavar="PATH",
        help="Folder of the index, or its address in an object store, such as s3://bucket/path.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def labels_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--labels FILE` of a dataset, passed as `labels`."""
    return click.option(
        "--labels", metavar="FILE", help="CSV file in the dataset, instead of labels.csv."
    )(function)


def exclude_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--exclude PATTERN`, which may be repeated, passed as a tuple `exclude`."""
    return click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Pass over what this pattern matches, in the syntax of gitignore, such as 'raw/' or "
        "'*-edited.jpg' (repeatable). A file .vedutaignore in a folder holds such patterns, too.",
    )(function)


def html_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--html FILE`, passed as `html`."""
    return click.option("--html", type=OutputFile(), metavar="FILE", help="Write an HTML page.")(
        function
    )


def orientation_option(
    function: Callable[..., Any],
    *,
    default: str = "auto",
    photo: str = "the query",
) -> Callable[..., Any]:
    """Add `--orientation NAME`.

    Args:
        function: the command.
        default: the name that is taken if none is given.
        photo: what the help calls the photo that is turned.
    """
    return click.option(
        "--orientation",
        type=click.Choice(ORIENTATIONS),
        default=default,
        show_default=True,
        metavar="NAME",
        help=f"Take {photo} as it is (upright), or turn it clockwise: 90, 180, 270, mirrored, "
        "90-mirrored, 180-mirrored or 270-mirrored. auto tries these if nothing convincing is "
        "found for it as it is.",
    )(function)


def runtime_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--runtime NAME`."""
    return click.option(
        "--runtime",
        type=click.Choice(("onnxruntime", "openvino")),
        help="The library that runs the network. openvino uses bfloat16 if the processor has it.",
    )(function)


def device_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--device NAME`. It holds for the whole command, and is not passed to it."""

    def choose(ctx: click.Context, _option: click.Parameter, name: str | None) -> None:
        if name is None:
            return
        ctx.with_resource(device_of_process(name))
        device = device_named(name)
        if not device.is_processor:
            require_provider(device)  # Before any work.

    return click.option(
        "--device",
        type=click.Choice(tuple(DEVICES)),
        callback=choose,
        expose_value=False,
        help=f"What runs the networks, see docs/devices.md.  [default: ${VARIABLE}, or cpu]",
    )(function)


def rerank_options(
    function: Callable[..., Any],
    *,
    default: str | None = "auto",
    shown_default: str | bool = True,
) -> Callable[..., Any]:
    """Add `--rerank MODE`, `--effort NAME` and `--verify N`.

    Args:
        function: the command.
        default: of the mode; None if it depends on other options.
        shown_default: what the help says about it; True: the default itself.
    """
    rerank = click.option(
        "--rerank",
        type=click.Choice(RERANK_MODES),
        default=default,
        show_default=shown_default,
        help="Re-rank by the neighbour graph (global), also by the geometry of keypoints "
        "(geometry), not at all (none), or by all that the index has (auto).",
    )
    verify = click.option(
        "--verify",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many of the nearest photos are verified by geometry, instead of an --effort.",
    )
    numbers = ", ".join(f"{name} ({number})" for name, number in EFFORTS.items())
    effort = click.option(
        "--effort",
        type=click.Choice(tuple(EFFORTS)),
        help="How many of the nearest photos are verified by geometry: "
        f"{numbers}.  [default: normal]",
    )

    @functools.wraps(function)
    def with_verify(*args: Any, **options: Any) -> Any:
        name, number = options.pop("effort"), options["verify"]
        if name is not None and number is not None:
            raise click.UsageError("--effort and --verify say the same. Give one of them.")
        options["verify"] = number or EFFORTS[name or "normal"]
        return function(*args, **options)

    return rerank(effort(verify(with_verify)))


class FiniteFloat(click.FloatRange):
    """A number in a range. NaN and infinity are in none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class OutputFile(click.Path):
    """A file that the command writes. Whether it can be written is tested before any work."""

    name = "file"
    check: Callable[[Path], None] = staticmethod(check_writable)

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Args:
            value: the path.
            param: the option.
            ctx: of the command.

        Raises:
            CannotWrite: nothing can be written there.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        self.check(path)
        return path


PRINTED = Path("-")
"""What `FileOrPrinted` returns if the command is to print."""


class FileOrPrinted(OutputFile):
    """A file that the command writes, or "-" to print."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or `PRINTED`."""
        return PRINTED if str(value) == "-" else super().convert(value, param, ctx)


class OutputFolder(OutputFile):
    """A folder that the command writes into. Whether it can is tested before any work."""

    name = "folder"
    check = staticmethod(check_writable_folder)


class CropType(click.ParamType[tuple[int, int, int, int]]):
    """A region `x,y,w,h` of a photo, in pixels."""

    name = "x,y,w,h"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Parse four whole numbers."""
        try:
            x, y, width, height = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not x,y,width,height in whole pixels.", param, ctx)
        return x, y, width, height


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the dataset of a training, and `--set`, passed as `changes`."""
    for option in (
        click.option(
            "--allow-leak",
            is_flag=True,
            help="Train even if test photos are among the training photos.",
        ),
        click.option(
            "--subset-seed",
            type=click.IntRange(0),
            callback=_check_subset_seed,
            metavar="S",
            help="Seed of --photos-per-class; another one draws other photos.  [default: 0]",
        ),
        click.option(
            "--photos-per-class",
            type=click.IntRange(1),
            is_eager=True,
            metavar="N",
            help="Train on at most N photos of each class, drawn at random; test photos all stay.",
        ),
        click.option(
            "--column",
            default="split",
            show_default=True,
            metavar="NAME",
            help="Column of the labels file with train, val or test.",
        ),
        exclude_option,
        labels_option,
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change the recipe, such as training.epochs=3 (repeatable).",
        ),
    ):
        function = option(function)
    return function


def _check_subset_seed(context: click.Context, _: click.Parameter, value: int | None) -> int:
    if value is not None and context.params.get("photos_per_class") is None:
        raise click.UsageError("--subset-seed goes with --photos-per-class.")
    return value or 0
