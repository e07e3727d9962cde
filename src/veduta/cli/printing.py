"""What commands print: JSON for programs, paths and regions for people."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from veduta.api import Index

from veduta.cli.streams import discard_output
from veduta.errors import CannotWrite, readable
from veduta.text import UNSAFE_CHARACTERS, printable, shell_word


@dataclass(slots=True)
class Invocation:
    """The run of one command.

    Attributes:
        command_line: as a user types it in a shell, for reports and cards.
        debug: show where in the code an error arose.
    """

    command_line: str = ""
    debug: bool = field(default_factory=lambda: bool(os.environ.get("VEDUTA_DEBUG")))


def say(*lines: str, err: bool = False, bold: str = "") -> None:
    """Print lines of text. The commands print text with this function only.

    What strangers wrote (names, labels, reasons of servers) may be in any line: each character that
    would disturb a terminal becomes a visible escape, also a line break within a line.

    Args:
        lines: each becomes one line. None is an empty line.
        err: print on standard error.
        bold: text before the first line, in bold on a terminal.
    """
    first, *others = map(printable, map(_with_addresses, lines or ("",)))
    if bold:
        first = click.style(printable(bold), bold=True) + first
    _echo("\n".join([first, *others]), err=err)


def print_names(names: Sequence[str]) -> bool:
    """Print names for another program, each in its own bytes, which need not be UTF-8.

    Characters that would disturb a terminal are escaped.

    Args:
        names: with surrogate escapes for bytes that are not UTF-8.

    Returns:
        Whether all names are printed as they are.
    """
    harmless = [
        "".join(one if "\udc80" <= one <= "\udcff" else printable(one) for one in name)
        for name in names
    ]
    _echo(b"".join(os.fsencode(name) + b"\n" for name in harmless), newline=False)
    return harmless == list(names)


def print_json(value: Any) -> None:
    """Print `value` as JSON.

    Names that are not UTF-8 are written as escapes, and so are characters that would disturb a
    terminal.

    Args:
        value: of types that JSON has.
    """
    text = json.dumps(value, indent=2, ensure_ascii=not _is_printable_as_it_is(value))
    text = _with_addresses(text)
    _echo(_UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


# All but the line break, which JSON has only between its values.
_UNSAFE_IN_JSON = re.compile(f"(?!\n)[{UNSAFE_CHARACTERS}]")


def _with_addresses(text: str) -> str:
    """Name the copy of an index in an object store by the address that the user knows."""
    names = sys.modules.get("veduta.stored_index.names")  # Nothing was copied if it is not loaded.
    return text if names is None else str(names.with_addresses(text))


def _is_printable_as_it_is(value: Any) -> bool:
    """Return whether the standard output can show all texts."""
    try:
        json.dumps(value, ensure_ascii=False).encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _echo(text: str | bytes, *, err: bool = False, newline: bool = True) -> None:
    """Print text on a stream, and write it out.

    Raises:
        click.exceptions.Exit: the reader of the stream has ended (`| head`), which is no error.
        CannotWrite: the stream does not take it, for example because the disk is full.
    """
    # click would take another encoding than that of an ASCII stream.
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(text, file=stream, nl=newline)
    except OSError as error:
        discard_output()
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(0) from error
        raise CannotWrite("standard error" if err else "standard output", error) from error


def mark(correct: bool | None) -> str:
    """Return a circle for a right answer, a cross for a wrong one, a space if it is not known.

    Without UTF-8 they are the letters o and x.

    Args:
        correct: whether the answer is right.
    """
    if correct is None:
        return " "
    circle, cross = "○", "×"
    try:
        (circle + cross).encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        circle, cross = "o", "x"
    return circle if correct else cross


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as people read it: relative to the current folder if that is shorter.

    Only for paths that a command prints. `veduta.errors.readable` does not change the folder.

    Args:
        path: any path, absolute or not.
    """
    return readable(_shorter(path))


def _shorter(path: str | bytes | os.PathLike[str]) -> str:
    full = os.fsdecode(path)
    if (address := _with_addresses(full)) != full:
        return address
    try:
        relative = os.path.relpath(full)
    except ValueError:  # The path is on another drive.
        relative = full
    is_near = len(relative) < len(full) and not relative.startswith("../..")
    return relative if is_near else full


def quoted(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as a word of a command that a person can copy into a shell.

    Args:
        path: any path.
    """
    return shell_word(Path(_shorter(path)))


def print_notice(index: Index) -> None:
    """Print on standard error what the user must know about the state of an index, if anything."""
    if notice := index.notice:
        say(f"veduta: {notice}", err=True)


def without_folders(word: str) -> str:
    """Return a word of the command line for a report, which is given to others.

    Args:
        word: an argument or an option. An absolute path in it, also behind "=", becomes relative to
            the current folder if it is near, or else the name behind "…/".
    """
    starts = [0, *(number for number, one in enumerate(word, 1) if one == "=")]
    start = next((one for one in starts if os.path.isabs(word[one:])), None)
    if start is None:
        return word
    path = _shorter(word[start:])
    if os.path.isabs(path):
        path = f"…/{os.path.basename(os.path.normpath(path))}"
    return word[:start] + path


def command_line() -> str:
    """Return the command that is running, as a user types it in a shell, for reports and cards."""
    invocation = click.get_current_context().find_object(Invocation)
    return invocation.command_line if invocation else ""


def bounds(corners: Sequence[tuple[float, float]]) -> str:
    """Return the box around a polygon as `--crop` takes it: "x,y,width,height" in whole pixels."""
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    return f"{left:.0f},{top:.0f},{right - left:.0f},{bottom - top:.0f}"


def file_url(path: Path) -> str:
    """Return the address under which a browser opens `path`."""
    return path.resolve().as_uri()
