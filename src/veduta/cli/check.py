"""The command `veduta check`: compare an index with its photos and checksums."""

from __future__ import annotations

import os
from pathlib import Path

import click

from veduta.cli.options import index_option, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.cli.progress import progress
from veduta.text import veduta_command

# A remedy for each kind of `veduta.index.findings`, which is not imported for `--help`. The words
# in braces stand for the commands in `_commands`.
_REPAIR_ROWS = "to remove the row: {repair} and then, to read the photo again: {index}"
REMEDIES = {
    "photo missing": "to bring the index up to date: {index}",
    "photo changed": "to read all photos again: {reread}",
    "photo unreadable": "make the photo readable, or remove it and run: {index}",
    "descriptor damaged": _REPAIR_ROWS,
    "keypoints damaged": _REPAIR_ROWS,
    "table damaged": "to drop what is lost: {repair} and then, to read its photos again: {index}",
    "snapshot damaged": "the next search builds it again from the table; to build it now: {repair}",
    "cells damaged": "to make them again: {index}",
    "graph damaged": "to make it again: {index}",
    "projection damaged": "to restore it from its copy, or drop it if there is none: {repair}",
    "recogniser damaged": "the next recognition learns it again; to remove it now: {repair}",
}


@click.command("check")
@index_option
@json_option
def command(index_path: Path, as_json: bool) -> int:
    """Compare every row of an index with its photo, and its files with their checksums.

    This reads every photo and every file of the index. The exit code is 1 if something does not
    match.
    """
    from veduta.index import check_index

    with progress("Checking", quiet=as_json) as advance:
        findings = list(check_index(index_path, advance))
    if as_json:
        print_json(
            [
                {"path": os.fsdecode(finding.path), "kind": finding.kind, "detail": finding.detail}
                for finding in findings
            ]
        )
    else:
        for finding in findings:
            say(f"{finding.kind}: {shown(finding.path)}: {finding.detail}")
        for kind in sorted({finding.kind for finding in findings}):
            number = sum(finding.kind == kind for finding in findings)
            remedy = REMEDIES[kind].format(**_commands(index_path))
            say(f"{kind} ({number}): {remedy}")
        if not findings:
            say("Every row matches its photo, and every file its checksum.")
    return 1 if findings else 0


def _commands(index_path: Path) -> dict[str, str]:
    return {
        "index": veduta_command("index", "--index", index_path),
        "reread": veduta_command("index", "--reread", "--index", index_path),
        "repair": veduta_command("repair", "--index", index_path),
    }
