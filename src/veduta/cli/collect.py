"""`veduta collect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import stages
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.collect import Progress, Summary

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class BytesType(click.ParamType[int]):
    """A number of bytes: 500000, 500k, 64M, 1.5G."""

    name = "bytes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse a number with an optional k, M or G (powers of 1000) behind it."""
        text = str(value).strip().lower().removesuffix("b")
        unit = text[-1:] if text[-1:] in _UNITS else ""
        try:
            number = int(float(text.removesuffix(unit)) * _UNITS[unit])
        except (ValueError, OverflowError):
            number = 0
        if number < 1:
            self.fail(f"'{value}' is not a number of bytes like 500k, 64M or 1G.", param, ctx)
        return number


def _seconds(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return click.option(
        name,
        type=click.FloatRange(min=0, min_open=True),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


@click.command("collect")
@click.argument(
    "sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the photos, one folder a label inside it.",
)
@click.option("--url-column", metavar="NAME", help="Column of the URLs.  [default: url]")
@click.option(
    "--label-column", metavar="NAME", help="Column of the labels.  [default: label, landmark_id]"
)
@click.option("--id-column", metavar="NAME", help="Column of the file names.  [default: id]")
@click.option(
    "--resize",
    type=click.IntRange(min=1),
    metavar="N",
    help="Scale down to a long side of N pixels; implies --format jpeg.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("jpeg",)),
    help="Write RGB JPEG of quality 90.  [default: the bytes as they come]",
)
@click.option("--no-decode", is_flag=True, help="Look at the format only, do not decode photos.")
@click.option(
    "--max-bytes",
    type=BytesType(),
    default="64M",
    show_default=True,
    metavar="N[k|M|G]",
    help="Largest photo that is fetched.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests at a time.",
)
@click.option(
    "--per-host",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    metavar="N",
    help="Requests at a time to one host.",
)
@_seconds("--connect-timeout", 10, "For a connection to stand.")
@_seconds("--read-timeout", 20, "Between two pieces of an answer.")
@_seconds("--timeout", 120, "For one request as a whole.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Further requests after 429, 5xx or a lost connection.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Try again what failed for good in an earlier run."
)
@click.option("--user-agent", metavar="TEXT", help="Say who collects, with an address to write to.")
@click.option("--ignore-robots-tag", is_flag=True, help="Collect in spite of X-Robots-Tag.")
@click.option(
    "--allow-private", is_flag=True, help="Also fetch from private and loopback addresses."
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a row has no photo at the end.")
@json_option
def command(
    sources: tuple[Path, ...],
    folder: Path,
    url_column: str | None,
    label_column: str | None,
    id_column: str | None,
    resize: int | None,
    form: str | None,
    no_decode: bool,
    max_bytes: int,
    connections: int,
    per_host: int,
    connect_timeout: float,
    read_timeout: float,
    timeout: float,
    retries: int,
    retry_failed: bool,
    user_agent: str | None,
    ignore_robots_tag: bool,
    allow_private: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Fetch the photos that SOURCE names into DIR/label/id.ext.

    \b
    photos.csv     id,url,landmark_id as in Google Landmarks, or any CSV
    eiffel.txt     URLs, one a line; the file's name is the label

    What is already there is not fetched again, so the same command goes on after an interruption.
    DIR/collected.parquet says what became of each row. Exits with 1 when there is no photo at all.
    """
    if no_decode and (form or resize):
        raise click.UsageError("--resize and --format need decoded photos: drop --no-decode.")
    from veduta.collect import USER_AGENT, Columns, Settings, collect

    try:
        settings = Settings(
            connections=connections,
            per_host=per_host,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            total_timeout=timeout,
            retries=retries,
            max_bytes=max_bytes,
            allow_private=allow_private,
            ignore_robots_tag=ignore_robots_tag,
            decode=not no_decode,
            resize=resize,
            jpeg=form == "jpeg",
            retry_failed=retry_failed,
            user_agent=user_agent or USER_AGENT,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    now = {"collected": 0, "failed": 0}

    def note() -> str:
        return (
            f"{now['collected']:,} collected, {now['failed']:,} failed" if any(now.values()) else ""
        )

    with stages("rows", quiet=as_json, detail=note) as advance:

        def tell(state: Progress) -> None:
            now.update(collected=state.collected, failed=state.failed)
            advance("Collecting", state.done, state.total)

        done = collect(
            sources,
            folder,
            settings,
            columns=Columns(url_column, label_column, id_column),
            on_progress=tell,
            on_reading=lambda rows: advance("Reading", rows, 0),
        )
    if as_json:
        print_json(done.as_json())
    else:
        _print(done, folder)
    if done.interrupted:
        return 130
    return 1 if done.photos == 0 or (strict and done.failed) else 0


def _print(done: Summary, folder: Path) -> None:
    rate = ""
    if done.collected and done.seconds > 0:
        rate = f", {done.bytes / 1e6:,.1f} MB, {done.collected / done.seconds:,.1f} photos/s"
    kept = f"{done.already:,} there already, " if done.already else ""
    click.echo(
        f"{kept}{done.collected:,} collected, {done.failed:,} failed "
        f"in {duration(done.seconds)}{rate}."
    )
    for outcome, rows in done.outcomes.items():
        if outcome in done.examples:
            click.echo(f"  {rows:>9,} {outcome:<11}  {done.examples[outcome][:54]}")
    if "not a public address" in done.examples.get("refused", ""):
        click.echo("             to fetch from private addresses all the same: --allow-private")
    if repeated := done.outcomes.get("repeated"):
        click.echo(f"  {repeated:>9,} repeated     same id, label and URL as a row before")
    if done.same_content:
        same = "is a copy" if done.same_content == 1 else "are copies"
        click.echo(f"{count(done.same_content, 'photo')} {same} of another, byte for byte.")
    if done.interrupted:
        click.echo("Interrupted. What was collected is kept; the same command goes on.", err=True)
        return
    labels = f" of {count(done.labels, 'label')}" if done.labels else ""
    click.echo(f"{count(done.rows, 'row')}{labels}: {shown(folder / 'collected.parquet')}")
    if done.photos:
        by = " --labels folders" if done.labels else ""
        click.echo(f"Next: veduta index {shown(folder)}{by}")
