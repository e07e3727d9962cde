"""The command `veduta merge`: make one index of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.index_argument import IndexPath, local_index
from veduta.cli.options import changed_index_option, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.cli.progress import stages
from veduta.text import count, duration, veduta_command

if TYPE_CHECKING:
    from veduta.index import MergeReport


@click.command("merge")
@click.argument("parts", nargs=-1, required=True, type=IndexPath(), metavar="PART…")
@changed_index_option
@click.option(
    "--allow-missing", is_flag=True, help="Merge the shards that are there if some are missing."
)
@json_option
def command(
    parts: tuple[Path | str, ...], index_path: Path, allow_missing: bool, as_json: bool
) -> int:
    """Make one index of several PARTS, such as shards, or add them to an index.

    Nothing is read or encoded again. The parts are not changed. The index is as it was before until
    all rows are merged, also if the command is killed. Of a file that two indexes have with
    different contents, the newer one stays.
    """
    from veduta import api

    folders = [local_index(part, quiet=as_json) for part in parts]
    with stages(quiet=as_json) as advance:
        report = api.merge(
            *folders, index=index_path, allow_missing=allow_missing, on_progress=advance
        )
    if as_json:
        print_json({"index": str(index_path), **report.as_json()})
    else:
        say(*_lines(report, index_path))
        if report.interrupted:
            say("Interrupted. The rows are merged. Link the photos with:", err=True)
            say(f"  {veduta_command('index', '--index', index_path)}", err=True)
    return 130 if report.interrupted else 0


def _lines(report: MergeReport, index_path: Path) -> Iterator[str]:
    """Yield what a merge did, in lines of at most 80 columns."""
    kinds = ("added", "changed", "known", "kept")
    changes = [f"{getattr(report, kind):,} {kind}" for kind in kinds if getattr(report, kind)]
    yield (
        f"{count(report.parts, 'part')} merged: {', '.join(changes) or 'no files'} in "
        f"{duration(report.seconds)}."
    )
    if report.copies:
        yield f"{count(report.copies, 'copy', 'copies')} of other photos, stored once."
    if report.unreadable:
        yield f"{count(report.unreadable, 'file')} that could not be read."
    if report.conflicts:
        yield f"{count(report.conflicts, 'file')} with two contents: the newer one stays."
    if report.label_conflicts:
        yield f"{count(report.label_conflicts, 'label')} not used: the first index has another."
    if report.left_out:
        yield f"{count(report.left_out, 'file')} left out: removed from one of the indexes by hand."
    if report.missing_shards:
        missing = report.missing_shards
        yield f"{count(len(missing), 'shard')} missing: their photos are not in the index."
    yield from report.notes
    yield f"{count(report.total, 'photo')} in {shown(index_path)}"
