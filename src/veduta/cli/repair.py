"""`veduta repair`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veduta.cli.options import index_option, json_option
from veduta.cli.printing import print_json
from veduta.text import count


@click.command("repair")
@index_option
@json_option
def command(index_path: Path, as_json: bool) -> None:
    """Make a damaged index whole again from what is readable in it.

    Goes back to the last version that opens, and drops what does not read back. No photo is
    touched: `veduta index` reads again what was dropped.
    """
    from veduta.index import repair_index

    done = repair_index(index_path)
    if as_json:
        print_json(asdict(done))
        return
    if done.went_back:
        click.echo(f"Went back to version {done.version}, the last that opens.")
    if done.lost_fragments:
        click.echo(f"Dropped {count(done.lost_fragments, 'data file')} that did not read back.")
    if done.removed_rows:
        click.echo(f"Removed {count(done.removed_rows, 'row')} that did not match the checksum.")
    if done.went_back or done.lost_fragments or done.removed_rows:
        click.echo("Run veduta index to read again the photos of what is gone.")
    else:
        click.echo("Nothing was damaged.")
    click.echo(f"{count(done.photos, 'photo')} in the index.")
