"""The command `veduta forget`: take folders out of an index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veduta.cli.options import changed_index_option, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.text import count


@click.command("forget")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@changed_index_option
@json_option
def command(folders: tuple[Path, ...], index_path: Path, as_json: bool) -> None:
    """Take FOLDERS, with all photos below them, out of an index.

    The folders need not exist any more. If they do, no file in them is changed. A photo that was
    indexed by its own name can be named, too.
    """
    from veduta.index import forget_folders

    report = forget_folders(index_path, folders)
    if as_json:
        print_json(asdict(report))
        return
    names = ", ".join(map(shown, folders))
    say(f"Removed {count(report.removed, 'photo')} of {names} from {shown(index_path)}.")
    for folder in report.still_read:
        say(
            f"The index still reads {shown(folder)}. The next update adds the photos again that "
            "are there now."
        )
