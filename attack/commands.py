"""Run `veduta` and judge how it ends, in the same way in every attack."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.case import Case, PromiseBroken

DONE, FOUND, WRONG_CALL, INPUT, INDEX, ENCODER = range(6)
"""The exit codes that `veduta` documents."""

FAULT = 70
"""The exit code of an error that nobody thought of."""

ANY = (DONE, FOUND, WRONG_CALL, INPUT, INDEX, ENCODER)
ERRORS = (WRONG_CALL, INPUT, INDEX, ENCODER)

# A command above this is killed, so that the attack does not harm the machine.
MAX_COMMAND_BYTES = 6_000_000_000
_POLL_SECONDS = 0.01
_SHOWN_CHARACTERS = 3000

# Everything that can steer a terminal: C0 without tab and newline, DEL, C1, and bidi controls.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

Argument = str | bytes | Path


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended.

    Attributes:
        arguments: of `veduta`.
        code: its exit code; negative: the signal that killed it.
        output: what it wrote to stdout.
        errors: what it wrote to stderr.
        processor_seconds: of all its threads.
        peak_bytes: the most memory that it held; 0 if it ran in this process.
    """

    arguments: tuple[Argument, ...]
    code: int
    output: bytes
    errors: bytes
    processor_seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def text(self) -> str:
        """All that it wrote."""
        return (self.output + b"\n" + self.errors).decode("utf-8", "replace")

    def __str__(self) -> str:
        call = " ".join(["veduta", *(os.fsdecode(argument) for argument in self.arguments)])
        return f"{call}: exit code {self.code}\n{self.text[-_SHOWN_CHARACTERS:]}"


def inside(case: Case, *arguments: Argument, codes: Collection[int] = ANY) -> Ran:
    """Run a command in this process, which saves the start of Python, and judge it."""
    ran = _run(arguments)
    if ran.code == FAULT:
        case.note(f"Given again: {_run(('--debug', *arguments))}")
    return _judged(case, ran, codes)


def _run(arguments: tuple[Argument, ...]) -> Ran:
    from veduta.cli.main import run

    call = [os.fsdecode(argument) for argument in arguments]
    output, errors = io.BytesIO(), io.BytesIO()
    streams = [io.TextIOWrapper(stream, "utf-8", "backslashreplace") for stream in (output, errors)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            code = run(call)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except Exception:
            traceback.print_exc()  # Judged like the traceback of the real command.
            code = FAULT
    for stream in streams:
        stream.flush()
    return Ran(arguments, code, output.getvalue(), errors.getvalue())


def outside(
    case: Case,
    *arguments: Argument,
    codes: Collection[int] = ANY,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "veduta"),
    folder: Path | None = None,
) -> Ran:
    """Run the real command in a process of its own, and judge it.

    Args:
        case: whose folder is the working folder.
        arguments: of `veduta`.
        codes: the exit codes that are right here.
        environment: variables to add.
        program: what Python runs.
        folder: another working folder.
    """
    command = [sys.executable, *program, *arguments]
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context((case.folder / name).open("w+b"))
            for name in ("stdout.txt", "stderr.txt")
        ]
        process = subprocess.Popen(
            command,
            cwd=folder or case.folder,
            stdin=subprocess.DEVNULL,
            stdout=files[0],
            stderr=files[1],
            env={**os.environ, **(environment or {})},
        )
        peak = 0
        try:
            while True:
                peak = max(peak, _peak_bytes(process.pid))
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                if ended:
                    break
                if peak > MAX_COMMAND_BYTES:
                    process.kill()
                time.sleep(_POLL_SECONDS)
        except PromiseBroken:  # It is out of time.
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in files:
            file.seek(0)
        ran = Ran(
            arguments,
            process.returncode,
            *(file.read() for file in files),
            processor_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=peak,
        )
    return _judged(case, ran, codes)


def _peak_bytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _judged(case: Case, ran: Ran, codes: Collection[int]) -> Ran:
    """Return what ran if it ended as every command must; else raise `PromiseBroken`."""
    case.note(str(ran))
    if ran.code < 0:
        raise PromiseBroken(f"killed by {signal.Signals(-ran.code).name}: {ran}")
    if "Traceback (most recent call last)" in ran.text:
        raise PromiseBroken(f"a traceback: {ran}")
    if ran.code not in codes:
        raise PromiseBroken(f"not one of the exit codes {tuple(codes)}: {ran}")
    if ran.code in ERRORS and not ran.errors.strip():
        raise PromiseBroken(f"an exit code without a message: {ran}")
    if controls := _CONTROLS.search(ran.text):
        raise PromiseBroken(f"the control character {controls[0]!r} in what it wrote: {ran}")
    return ran


def succeeds(case: Case, *arguments: Argument, **options: Any) -> Ran:
    """Run a command in this process that must do what it is asked."""
    return inside(case, *arguments, codes=(DONE,), **options)
