"""The command `veduta status`: print what an index holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from veduta.cli.options import index_option, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.text import count


@click.command("status")
@index_option
@json_option
def command(index_path: Path, as_json: bool) -> None:
    """Print what an index holds: photos, labels, encoder, folders, unreadable files, disk space."""
    from veduta.index import read_status

    state = read_status(index_path)
    if as_json:
        print_json(state)
    else:
        _print(state, index_path)


def _print(state: dict[str, Any], index_path: Path) -> None:
    from veduta.index.status import status_lines

    say(f"{shown(index_path)}: {count(state['photos'], 'photo')}, version {state['version']}")
    if state["notice"]:
        say(f"  {state['notice']}")
    for name, words in status_lines(state):
        say(f"  {name:11} {words}")
    for folder in state["folders"]:
        gone = "" if Path(folder).is_dir() else "  (missing)"
        say(f"  folder      {shown(folder)}{gone}")
    if state["unreadable"]:
        say(f"  {count(len(state['unreadable']), 'file')} could not be read:")
        for problem in state["unreadable"]:
            say(f"    {shown(problem['path'])}: {problem['reason']}")
