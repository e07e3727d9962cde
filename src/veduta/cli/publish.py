"""The command `veduta publish`: put an index into an object store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.index_argument import default_index
from veduta.cli.options import json_option
from veduta.cli.printing import print_json, say
from veduta.cli.progress import stages
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.stored_index import Published


@click.command("publish")
@click.argument("url", metavar="ADDRESS")
@click.option(
    "--index",
    "index_path",
    type=click.Path(path_type=Path),
    default=default_index,
    show_default="$VEDUTA_INDEX, or the user's data folder",
    metavar="PATH",
    help="Folder of the index.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Accept that the store holds another index or a newer version, and send all files again.",
)
@json_option
def command(url: str, index_path: Path, replace: bool, as_json: bool) -> None:
    """Put an index into an object store, so that other machines search it.

    \b
    veduta publish s3://bucket/places           the index on this machine
    veduta search photo.jpg --index s3://bucket/places

    ADDRESS is s3://bucket/path, gs://bucket/path, az://container/path, or file:///folder for a
    shared disk. Credentials come from the environment, as AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY. Only what is new is sent. Those who search see the version before until
    all of it is there.
    """
    from veduta.stored_index import publish

    with stages("MB", quiet=as_json) as advance:

        def on_progress(done: int, total: int) -> None:
            advance("Publishing", done // 1_000_000, total // 1_000_000)

        report = publish(index_path, url, replace=replace, on_progress=on_progress)
    if as_json:
        print_json(report.as_json())
    else:
        say(_line(report))
    if report.note:
        say(f"veduta: {report.note}", err=True)


def _line(report: Published) -> str:
    if not report.is_new:
        return f"Nothing is new: version {report.version} of {report.url} holds this index."
    sent, size = (f"{number / 1e6:,.1f}" for number in (report.sent_bytes, report.bytes))
    return (
        f"Published version {report.version} of {report.url}: {count(report.files, 'file')}, sent "
        f"{sent} of {size} MB in {duration(report.seconds)}."
    )
