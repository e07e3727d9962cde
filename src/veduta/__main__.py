"""The program `veduta`; `python -m veduta` is the same."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with the code of `veduta.cli.main.run`.

    While modules load and while the process ends, Ctrl-C ends it at once with the code 130. An
    exception would print a traceback there.
    """
    _use_utf8_for_names()
    is_caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_caught:
        signal.signal(signal.SIGINT, _end)
    from veduta.cli.main import run

    if is_caught:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    if is_caught:
        signal.signal(signal.SIGINT, _end)
    sys.exit(code)


def _end(*_: object) -> NoReturn:
    os._exit(130)


def _use_utf8_for_names() -> None:
    """Start again in Python's UTF-8 mode where the locale gives file names another encoding.

    Datasets and indexes hold names as UTF-8. The streams keep the encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
