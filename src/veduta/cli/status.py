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
    encoder = state["encoder"]
    say(f"{shown(index_path)}: {count(state['photos'], 'photo')}, version {state['version']}")
    if state["notice"]:
        say(f"  {state['notice']}")
    say(f"  encoder     {encoder['name']} ({encoder['identity']})")
    projected = f", searched with {state['dimension']}" if state["projection"] else ""
    say(f"  dimensions  {encoder['dimension']}{projected}")
    keypoints = state["keypoints"]
    stored = f"{keypoints['name']}, {keypoints['count']} a photo" if keypoints else "none"
    say(f"  keypoints   {stored}")
    if state["linked"]:
        say("  links       made and verified")
    else:
        say("  links       none, or not all verified")
    say(
        f"  labels      {state['labels'] or 'none'} ({count(state['classes'], 'label')}, "
        f"{count(state['labelled'], 'labelled photo')})"
    )
    for pattern in state["exclude"]:
        say(f"  excluded    {pattern}")
    if state["undated"]:
        say(f"  undated     {count(state['undated'], 'photo')} without a date of exposure")
    say(f"  on disk     {state['bytes'] / 1e6:,.1f} MB")
    say(f"  writing     {'another process, now' if state['locked'] else 'nobody'}")
    for folder in state["folders"]:
        gone = "" if Path(folder).is_dir() else "  (missing)"
        say(f"  folder      {shown(folder)}{gone}")
    if state["unreadable"]:
        say(f"  {count(len(state['unreadable']), 'file')} could not be read:")
        for problem in state["unreadable"]:
            say(f"    {shown(problem['path'])}: {problem['reason']}")
