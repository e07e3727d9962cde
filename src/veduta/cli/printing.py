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
    """Return `path` as people read it: from here if that is shorter, any byte printable."""
    whole = os.fsdecode(path)
    try:
        near = os.path.relpath(whole)
    except ValueError:  # another drive
        near = whole
    return readable(near if len(near) < len(whole) and not near.startswith("../..") else whole)


def command_line() -> str:
    """Return the command that is running, as one types it in a shell."""
    return str(click.get_current_context().find_root().obj)


def count(number: int, what: str) -> str:
    """Return "1 photo", "2 photos", "12,000 photos"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def duration(seconds: float) -> str:
    """Return "0.8 s", "42 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def bounds(corners: Sequence[tuple[float, float]]) -> str:
    """Return the box around a polygon as "x,y,width,height" in whole pixels, as `--crop` has it."""
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    return f"{left:.0f},{top:.0f},{right - left:.0f},{bottom - top:.0f}"


def file_url(path: Path) -> str:
    """Return the address under which a browser opens `path`."""
    return path.resolve().as_uri()
