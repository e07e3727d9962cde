"""The program `veduta`; `python -m veduta` is the same."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with the code of `veduta.cli.main.run`.

    While modules load and while the process ends, Ctrl-C ends it at once with the code 130. An
    exception would print a traceback there.
    """
    _use_utf8_for_names()
    sys.meta_path.insert(0, _NoPandas())
    is_caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_caught:
        signal.signal(signal.SIGINT, _end)
        # Registered first, called last: after that Python drops its handlers, and Ctrl-C would end
        # by the signal a command whose work is done.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from veduta.cli.main import run

    if is_caught:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    if is_caught:
        signal.signal(signal.SIGINT, _end)
    # Python remembers an interrupt of code in a text, such as that of a dataclass, even if it was
    # caught, and then ends by the signal and not with the code. Other code in a text resets that.
    exec("")  # noqa: S102
    sys.exit(code)


def _end(*_: object) -> NoReturn:
    os._exit(130)


class _NoPandas:
    """Lets the import of pandas fail, as where it is not installed.

    pyarrow imports it with the first array that it makes. That takes a fifth of the time of a short
    command, and no command uses it.
    """

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find pandas here, and nothing else."""
        return ModuleSpec(name, self) if name == "pandas" else None  # type: ignore[arg-type]

    def create_module(self, _: ModuleSpec) -> None:
        """Let Python make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fail."""
        raise ImportError(f"The commands of Veduta do not use {module.__name__}.")


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
