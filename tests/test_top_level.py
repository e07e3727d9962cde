"""What the command line does with any error: one line, an exit code, and no traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import environment, run_veduta
from tiny import save

from veduta.cli import models
from veduta.cli.main import COMMANDS, run
from veduta.cli.unexpected import FAULT_EXIT_CODE, explanation

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets `veduta models` end with an error."""

    def fail(error: BaseException) -> None:
        def callback(**_: object) -> None:
            raise error

        monkeypatch.setattr(models.command, "callback", callback)

    return fail


def test_an_unknown_error_is_one_line_with_code_70(failing: Any, capsys: Capture) -> None:
    failing(KeyError("a\nb"))
    assert run(["models", "--json"]) == FAULT_EXIT_CODE == 70
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "veduta: this is a fault of Veduta: KeyError: 'a\\nb'. Please report it to the "
        "maintainers, with all that this command prints: veduta --debug models --json\n"
    )


@pytest.mark.parametrize("arguments", [["--debug", "models"], ["models", "--debug"]])
def test_debug_shows_the_place(failing: Any, capsys: Capture, arguments: list[str]) -> None:
    failing(ZeroDivisionError("by nothing"))
    assert run(arguments) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("test_top_level.py" in line for line in lines)
    assert lines[-2] == "ZeroDivisionError: by nothing" and lines[-1].startswith("veduta: this is")


def test_a_variable_of_the_environment_shows_the_place(
    failing: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ZeroDivisionError())
    monkeypatch.setenv("VEDUTA_DEBUG", "1")
    assert run(["models"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_every_command_knows_debug(capsys: Capture) -> None:
    for name in COMMANDS:
        assert run([name, "--debug", "--help"]) == 0
    assert run(["--help"]) == 0
    assert "  --debug " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (MemoryError(), "there is not enough memory. End other programs", 3),
        (OSError(errno.EMFILE, "Too many open files", "/a/b"), "/a/b: Too many open files.", 3),
        (OSError(errno.ENOSPC, "No space"), "the output cannot be written: No space.", 3),
        (RecursionError("maximum depth"), "this is a fault of Veduta: RecursionError: maximum", 70),
        (ValueError("x" * 5000), f"this is a fault of Veduta: ValueError: {'x' * 300}.", 70),
        (RuntimeError(), "this is a fault of Veduta: RuntimeError.", 70),
    ],
)
def test_what_each_kind_of_error_says(error: Exception, line: str, code: int) -> None:
    message, exit_code = explanation(error, ["search"])
    assert message.startswith(line) and "\n" not in message
    assert exit_code == code


def test_an_interrupt_ends_with_130(failing: Any, capsys: Capture) -> None:
    failing(KeyboardInterrupt())
    assert run(["models"]) == 130
    assert capsys.readouterr().err.strip() == "veduta: interrupted."


def test_an_interrupt_that_a_library_takes_for_an_error_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def callback(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("partially initialized module") from None

    monkeypatch.setattr(models.command, "callback", callback)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(["models"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.strip() == "veduta: interrupted."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
class TestFullDisk:
    @pytest.mark.parametrize("arguments", [("models",), ("models", "--json"), ("--help",)])
    def test_output_onto_a_full_disk(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        with open("/dev/full", "w") as full:
            done = run_veduta(
                tmp_path, *arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE
            )
        assert done.returncode == 3
        stream = "the output" if arguments == ("--help",) else "standard output:"
        assert done.stderr.rstrip(".\n") == (
            f"veduta: {stream} cannot be written: No space left on device"
        )

    def test_errors_onto_a_full_disk_keep_their_code(self, tmp_path: Path) -> None:
        with open("/dev/full", "w") as full:
            done = run_veduta(
                tmp_path, "status", capture_output=False, stdout=subprocess.PIPE, stderr=full
            )
        assert done.returncode == 4 and done.stdout == ""


def test_a_reader_that_has_ended_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run_veduta(
        tmp_path, "models", capture_output=False, stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    script = f"exec {sys.executable} -m veduta models <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, check=False).returncode == 0


# Before its first handler, an interrupt meets Python, which prints a traceback.
_TELLS_WHEN_IT_CATCHES_INTERRUPTS = """
import signal
from veduta.__main__ import main

set_handler = signal.signal

def set_first_handler(number, handler):
    signal.signal = set_handler
    old = set_handler(number, handler)
    print("ready", flush=True)
    return old

signal.signal = set_first_handler
main()
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1])
def test_an_interrupt_at_any_time_leaves_no_traceback(tmp_path: Path, delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _TELLS_WHEN_IT_CATCHES_INTERRUPTS, "status"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # The command may have ended before: there is no index (4).
    assert process.returncode in (130, 4), err
    assert "Traceback" not in err


ENCODINGS = ("cp1252", "latin-1", "ascii", "utf-8")


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """Return a folder whose file names and classes no Western encoding holds."""
    for name in ("castle 🏰", "→"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.jpg").write_bytes(b"no photo")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"no photo")
    return tmp_path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_an_encoding_lacks_is_escaped(odd_names: Path, encoding: str) -> None:
    variables = {**environment(odd_names), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    arguments = ("search", "photos/→/→.jpg", "photos/castle 🏰/castle 🏰.jpg")
    done = run_veduta(odd_names, *arguments, env=variables, encoding=encoding)
    assert done.returncode == 4, "there is no index"
    done = run_veduta(odd_names, "describe", "photos/→/→.jpg", env=variables, encoding=encoding)
    assert done.returncode == 3
    assert ("→" if encoding == "utf-8" else "\\u2192") in done.stderr


@pytest.fixture(scope="module")
def latin_locale(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a locale whose encoding is Latin-1; it is made if it is absent."""
    folder = tmp_path_factory.mktemp("locales")
    name = "de_DE.ISO-8859-1"
    try:
        command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("localedef does not make a locale with Latin-1 here")
    return {"LOCPATH": str(folder), "LC_ALL": name, "PYTHONUTF8": "0"}


def test_names_are_utf8_in_a_latin_locale(odd_names: Path, latin_locale: dict[str, str]) -> None:
    save(odd_names / "photos/→/→.png", 1)
    variables = {**environment(odd_names), **latin_locale}
    done = run_veduta(odd_names, "describe", "photos", env=variables, encoding="latin-1")
    assert done.returncode == 0, done.stderr
    assert "read                  1, 2 unreadable" in done.stdout
    assert "\\u2192" in done.stdout and "no file can have this name" not in done.stdout


@pytest.mark.parametrize("locale", ["C", "POSIX"])
@pytest.mark.parametrize("utf8", ["0", "1"])
def test_any_locale_describes_any_name(odd_names: Path, locale: str, utf8: str) -> None:
    variables = {**environment(odd_names), "LC_ALL": locale, "PYTHONUTF8": utf8}
    variables |= {"PYTHONCOERCECLOCALE": "0"}
    done = run_veduta(
        odd_names, "describe", "photos", "--no-photos", "--json", env=variables, text=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == 2
