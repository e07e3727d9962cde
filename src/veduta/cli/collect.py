"""The command `veduta collect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import (
    FiniteFloat,
    OutputFolder,
    json_option,
)
from veduta.cli.printing import print_json, quoted, say, shown
from veduta.cli.progress import stages
from veduta.collect.settings import Settings
from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.collect import Progress, Summary

_DEFAULTS = Settings()
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COLUMNS = 80
_INDENT = " " * 22
_MAX_LISTED_REASONS = 12


class BytesType(click.ParamType[int]):
    """A number of bytes: 500000, 500k, 64M, 1.5G."""

    name = "bytes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse a number, with k, M or G (powers of 1000) behind it or not."""
        text = str(value).strip().lower().removesuffix("b")
        unit = text[-1:] if text[-1:] in _UNITS else ""
        try:
            number = int(float(text.removesuffix(unit)) * _UNITS[unit])
        except (ValueError, OverflowError):
            number = 0
        if number < 1:
            self.fail(f"'{value}' is not a number of bytes like 500k, 64M or 1G.", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of the command, under the names that click gives them."""

    sources: tuple[Path, ...]
    folder: Path
    url_column: str | None
    label_column: str | None
    id_column: str | None
    min_size: int | None
    resize: int | None
    form: str | None
    no_decode: bool
    max_bytes: int
    connections: int
    per_host: int
    connect_timeout: float
    read_timeout: float
    timeout: float
    retries: int
    retry_failed: bool
    user_agent: str | None
    referer: str | None
    headers: tuple[str, ...]
    proxy: str | None
    ignore_robots_tag: bool
    allow_private: bool
    strict: bool
    as_json: bool

    def settings(self) -> Settings:
        """Return the settings of the download."""
        if self.no_decode and (self.form or self.resize or self.min_size):
            raise click.UsageError(
                "--resize, --format and --min-size need decoded photos: drop --no-decode."
            )
        try:
            return Settings(
                connections=self.connections,
                per_host=self.per_host,
                connect_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
                total_timeout=self.timeout,
                retries=self.retries,
                max_bytes=self.max_bytes,
                allow_private=self.allow_private,
                ignore_robots_tag=self.ignore_robots_tag,
                decode=not self.no_decode,
                min_size=self.min_size,
                resize=self.resize,
                jpeg=self.form == "jpeg",
                retry_failed=self.retry_failed,
                user_agent=self.user_agent or _DEFAULTS.user_agent,
                referer=self.referer,
                headers=self.headers,
                proxy=self.proxy,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error


_MAX_COUNT = 10_000  # Each connection and each waiting host takes memory.


def _count_option(name: str, default: int, text: str, *, least: int = 1) -> Callable[[Any], Any]:
    return click.option(
        name,
        type=click.IntRange(least, _MAX_COUNT),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )


def _seconds_option(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return click.option(
        name,
        type=FiniteFloat(min=0, min_open=True),
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
    type=OutputFolder(),
    help="Folder for the photos, with one folder for each label.",
)
@click.option("--url-column", metavar="NAME", help="Column of the URLs.  [default: url]")
@click.option(
    "--label-column", metavar="NAME", help="Column of the labels.  [default: label, landmark_id]"
)
@click.option("--id-column", metavar="NAME", help="Column of the file names.  [default: id]")
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep no photo whose short side has fewer than N pixels.",
)
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
@click.option("--no-decode", is_flag=True, help="Check only the format, do not decode photos.")
@click.option(
    "--max-bytes",
    type=BytesType(),
    default="64M",
    show_default=True,
    metavar="N[k|M|G]",
    help="Largest photo that is fetched.",
)
@_count_option("--connections", _DEFAULTS.connections, "Requests at a time.")
@_count_option("--per-host", _DEFAULTS.per_host, "Requests at a time to one host.")
@_seconds_option("--connect-timeout", _DEFAULTS.connect_timeout, "Longest time to connect.")
@_seconds_option("--read-timeout", _DEFAULTS.read_timeout, "Between two pieces of a response.")
@_seconds_option("--timeout", _DEFAULTS.total_timeout, "For one whole request.")
@_count_option(
    "--retries",
    _DEFAULTS.retries,
    "Further requests after 429, 5xx or a lost connection.",
    least=0,
)
@click.option(
    "--retry-failed", is_flag=True, help="Try again what failed permanently in an earlier run."
)
@click.option("--user-agent", metavar="TEXT", help="Say who collects, with an address to write to.")
@click.option("--referer", metavar="URL", help="The page that the photos are linked from.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Send this header too (repeatable). It does not follow a redirect to another host.",
)
@click.option(
    "--proxy",
    metavar="URL",
    help="Connect through this proxy, http://host:port. HTTP_PROXY of the environment is not used.",
)
@click.option("--ignore-robots-tag", is_flag=True, help="Collect in spite of X-Robots-Tag.")
@click.option(
    "--allow-private", is_flag=True, help="Also fetch from private and loopback addresses."
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a row has no photo at the end.")
@json_option
def command(**options: Any) -> int:
    """Fetch the photos that SOURCE names into DIR/label/id.ext.

    \b
    photos.csv     id,url,landmark_id as in Google Landmarks, or any CSV
    eiffel.txt     URLs, one per line; the file's name is the label

    Photos that were collected before are not fetched again, so the same command continues after
    an interruption. DIR/collected.parquet has the outcome of each row, and DIR/collected.failed.csv
    lists the rows without a photo and why. The exit code is 1 if there is no photo at all.
    """
    return _collect(_Options(**options))


def _collect(options: _Options) -> int:
    settings = options.settings()
    from veduta.collect import Columns, collect

    now = {"collected": 0, "failed": 0}

    def detail() -> str:
        return (
            f"{now['collected']:,} collected, {now['failed']:,} failed" if any(now.values()) else ""
        )

    with stages("rows", quiet=options.as_json, detail=detail) as advance:

        def on_progress(state: Progress) -> None:
            now.update(collected=state.collected, failed=state.failed)
            advance("Collecting", state.done, state.total)

        summary = collect(
            options.sources,
            options.folder,
            settings,
            columns=Columns(options.url_column, options.label_column, options.id_column),
            on_progress=on_progress,
            on_reading=lambda rows: advance("Reading", rows, 0),
        )
    if options.as_json:
        print_json(summary.as_json())
    else:
        _print(summary, options.folder)
    if summary.interrupted:
        return 130
    return 1 if summary.photos == 0 or (options.strict and summary.failed) else 0


def _print(summary: Summary, folder: Path) -> None:
    rate = ""
    if summary.collected and summary.seconds > 0:
        per_second = summary.collected / summary.seconds
        rate = f", {summary.bytes / 1e6:,.1f} MB, {per_second:,.1f} photos/s"
    kept = f"{summary.already:,} there already, " if summary.already else ""
    say(
        f"{kept}{summary.collected:,} collected, {summary.failed:,} failed "
        f"in {duration(summary.seconds)}{rate}."
    )
    _print_reasons(summary)
    if repeated := summary.outcomes.get("repeated"):
        say(f"{count(repeated, 'row')} repeated: the same id, label and URL as a row before.")
    if summary.same_content:
        same = "is a copy" if summary.same_content == 1 else "are copies"
        say(f"{count(summary.same_content, 'photo')} {same} of another, byte for byte.")
    if summary.interrupted:
        say("Interrupted. What was collected is kept. Run the same command to continue.", err=True)
        return
    labels = f" of {count(summary.labels, 'label')}" if summary.labels else ""
    say(f"{count(summary.rows, 'row')}{labels}: {shown(folder / 'collected.parquet')}")
    if summary.photos:
        from veduta.datasets.labels_csv import LABELS_FILE

        by = ""
        if summary.labels_file and Path(summary.labels_file).name != LABELS_FILE:
            by = f" --labels {quoted(Path(summary.labels_file).name)}"
        say(f"Next: veduta clean {quoted(folder)}{by}")


def _print_reasons(summary: Summary) -> None:
    """Print why rows have no photo, each reason with the URL of its first row."""
    if not summary.reasons:
        return
    say("Rows without a photo:")
    from veduta.collect.failed_file import NOT_PUBLIC

    listed = summary.reasons[:_MAX_LISTED_REASONS]
    for one in listed:
        start = f"{one.rows:>7,}  {one.outcome:<11}  "
        for line in wrap(printable(one.reason), _COLUMNS - len(_INDENT)):
            say(start + line)
            start = _INDENT
        say(_INDENT + _shortened(printable(one.url), _COLUMNS - len(_INDENT)))
    if len(summary.reasons) > len(listed):
        rest = summary.reasons[len(listed) :]
        rows = count(sum(one.rows for one in rest), "row")
        say(f"{_INDENT}and {rows} for {count(len(rest), 'other reason')}")
    if any(one.reason.endswith(NOT_PUBLIC) for one in summary.reasons):
        say("To fetch from private addresses all the same: --allow-private.")
    if summary.denied:
        denied = count(summary.denied, "row")
        say(f"{denied} denied (status 401, 403 or 429). A site may want")
        say("  --user-agent 'my-study/1.0 (me@example.org)', --referer or --header.")
    if summary.failed_file:
        say(f"The whole list: {shown(summary.failed_file)}")


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
