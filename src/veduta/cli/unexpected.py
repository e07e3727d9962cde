"""Errors that Veduta does not raise itself: one line for the user, and an exit code."""

from __future__ import annotations

import os

from veduta.errors import readable
from veduta.files import is_disk_full
from veduta.text import veduta_command

__all__ = ["FAULT_EXIT_CODE", "explanation"]

FAULT_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: a fault of the program itself."""

_INPUT_EXIT_CODE = 3
_MAX_LENGTH = 300


def explanation(error: Exception, arguments: list[str]) -> tuple[str, int]:
    """Return what to tell the user about an error that is none of `veduta.errors`.

    Args:
        error: the error.
        arguments: of the command that met it.

    Returns:
        One line, and the exit code: 3 if the machine does not give what the command needs, and 70
        if it is a fault of Veduta.
    """
    if isinstance(error, MemoryError):
        return (
            "there is not enough memory. End other programs, or use a machine with more memory.",
            _INPUT_EXIT_CODE,
        )
    if isinstance(error, OSError) and error.filename is None and is_disk_full(error):
        return f"the output cannot be written: {error.strerror or error}.", _INPUT_EXIT_CODE
    if isinstance(error, OSError) and error.errno is not None:
        place = "" if error.filename is None else f"{readable(error.filename)}: "
        return f"{place}{error.strerror or os.strerror(error.errno)}.", _INPUT_EXIT_CODE
    what = " ".join(str(error).split())[:_MAX_LENGTH]
    kind = type(error).__name__
    fault = f"{kind}: {what}" if what else kind
    command = veduta_command("--debug", *arguments)
    return (
        f"this is a fault of Veduta: {fault}. Please report it to the maintainers, with all that "
        f"this command prints: {command}",
        FAULT_EXIT_CODE,
    )
