"""Ctrl-C during a command, also where a library takes the interrupt for an error of its own."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

__all__ = ["Interrupts"]


class Interrupts:
    """A context manager that notes each Ctrl-C and raises `KeyboardInterrupt`, as Python does.

    A library that is interrupted while it loads may raise another error, or go on half loaded.
    `happened` tells the cause.

    Attributes:
        happened: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.happened = False
        self._is_caught = False

    def __enter__(self) -> Self:
        is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._is_caught = is_default and threading.current_thread() is threading.main_thread()
        if self._is_caught:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_caught:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        signal.default_int_handler(number, frame)
