"""The command `veduta repair`: make a damaged index sound again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veduta.cli.options import json_option, verified_index_option
from veduta.cli.printing import print_json, say
from veduta.text import count, veduta_command

REBUILT = {
    "checksums": "The checksums of the table were damaged. They were made again from its files.",
    "approximate index": "The approximate index of an older Veduta was damaged. It was removed.",
    "snapshot": "The snapshot was damaged. It was made again.",
    "cells": "The cells of near photos were damaged. They were made again.",
    "graph": "The neighbour graph was damaged. It was made again.",
    "recogniser": "A recogniser was damaged. It is learned again when it is needed.",
}
PROJECTION = {
    "restored": "The projection was damaged. It was restored from its copy.",
    "dropped": "The projection was damaged, and there is no copy of it. Searches use the whole "
    "descriptors now. To fit one again: {project}",
}


@click.command("repair")
@verified_index_option
@json_option
def command(index_path: Path, as_json: bool) -> None:
    """Make a damaged index sound again from what is readable in it.

    This goes back to the last version that opens, and drops data that do not read back. No photo
    is touched. `veduta index` reads the photos of dropped data again.
    """
    from veduta.index import repair_index

    report = repair_index(index_path)
    if as_json:
        print_json(asdict(report))
        return
    if report.manifest_restored:
        say("Made index.json again from its copy.")
    if report.table_lost:
        say("No version of the table opens. The index is empty now.")
    if report.went_back:
        say(f"Went back to version {report.version}, the last that opens.")
    if report.lost_fragments:
        say(f"Dropped {count(report.lost_fragments, 'data file')} that did not read back.")
    if report.removed_rows:
        say(f"Removed {count(report.removed_rows, 'row')} that did not match the checksum.")
    for part in report.rebuilt:
        say(REBUILT[part])
    if report.projection:
        project = veduta_command("index", "--project", "DIM", "--index", index_path)
        say(PROJECTION[report.projection].format(project=project))
    rows_lost = report.table_lost or report.went_back or report.lost_fragments
    if rows_lost or report.removed_rows:
        again = veduta_command("index", "--index", index_path)
        say(f"To read the photos of removed rows again: {again}")
    elif not report.manifest_restored and not report.rebuilt and not report.projection:
        say("Nothing was damaged.")
    say(f"{count(report.photos, 'photo')} in the index.")
