"""How commands print: JSON for programs, 80 columns for people."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from veduta.errors import readable


def print_json(value: Any) -> None:
    """Print `value` as JSON; names that are not UTF-8 come as escapes that parse back."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=not _is_plain(value)))


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as people read it: relative to the current folder if that is shorter.

    Only for paths that a command prints. `veduta.errors.readable` does not change the folder.

    Args:
        path: any path, absolute or not.
    """
    whole = os.fsdecode(path)
    try:
        near = os.path.relpath(whole)
    except ValueError:  # another drive
        near = whole
    return readable(near if len(near) < len(whole) and not near.startswith("../..") else whole)


def command_line() -> str:
    """Return the command that is running, as one types it in a shell."""
    return str(click.get_current_context().find_root().obj)


def bounds(corners: Sequence[tuple[float, float]]) -> str:
    """Return the box around a polygon as "x,y,width,height" in whole pixels, as `--crop` has it."""
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    return f"{left:.0f},{top:.0f},{right - left:.0f},{bottom - top:.0f}"


def file_url(path: Path) -> str:
    """Return the address under which a browser opens `path`."""
    return path.resolve().as_uri()
