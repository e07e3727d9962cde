"""Read the commands of the pages in docs/reports, run them, and put their output into the pages.

A command stands in a `console` block, on a line that begins with `$ `. A line that ends with a
backslash continues on the next one. What follows, up to the next command, is its output.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PAGES",
    "Command",
    "named_files",
    "read_commands",
    "run_command",
    "shortened",
    "with_outputs",
    "without_progress",
]

PAGES = (
    "two-monuments",
    "landmark-capstone",
    "query-and-gallery",
    "image-search-engine",
    "seventeen-networks",
)
"""The pages of docs/reports, in the order of the reports."""

FIRST_LINES, LAST_LINES = 12, 6
"""Lines of an output that a page shows, if it has more."""

TIMEOUT_SECONDS = 3600

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRESS = re.compile(r"^[\w ]+: [\d,]+(?: of [\d,]+)? [\w ]+, .*/s(?:, .* left)?\n", re.MULTILINE)
_FINDS = ("clean", "split")  # commands that end with 1 if they found something
_FOLDERS = ("charts", "more", "photos", "query", "gallery", "reports", "runs", "study", "table")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page.

    Attributes:
        text: as it stands on the page, without `$ ` and without the continuation of lines.
    """

    text: str

    @property
    def name(self) -> str:
        """The command of `veduta`, such as `train`."""
        return self.words[0]

    @property
    def words(self) -> list[str]:
        """The arguments after `veduta`, as a shell reads them, but with patterns such as `runs/*`.

        Raises:
            ValueError: the line is no call of `veduta`.
        """
        program, *words = shlex.split(self.text)
        if program != "veduta":
            raise ValueError(f"{self.text}: pages show only commands of veduta")
        return words

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """What the command may end with."""
        return (0, 1) if self.name in _FINDS else (0,)

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments, with the files that patterns stand for in `folder`."""
        found: list[str] = []
        for word in self.words:
            matches = sorted(folder.glob(word)) if "*" in word and not word.startswith("*") else []
            found += [str(match.relative_to(folder)) for match in matches] or [word]
        return found


def read_commands(page: str) -> list[Command]:
    """Return the commands of a page, in their order."""
    return [command for block in _BLOCK.findall(page) for command, _ in _entries(block)]


def with_outputs(page: str, outputs: Sequence[str]) -> str:
    """Return `page` with the output of each command replaced.

    Args:
        page: Markdown.
        outputs: one for each command, in their order.

    Raises:
        ValueError: there are not as many outputs as commands.
    """
    left = list(outputs)
    if len(left) != len(read_commands(page)):
        raise ValueError(f"{len(left)} outputs for {len(read_commands(page))} commands")

    def renewed(block: re.Match[str]) -> str:
        parts = [lines + shortened(left.pop(0)) for _, lines in _entries(block[1])]
        return "```console\n" + "".join(parts) + "```"

    return _BLOCK.sub(renewed, page)


def shortened(output: str) -> str:
    """Return the lines of an output that a page shows, each with its line break."""
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if len(lines) > FIRST_LINES + LAST_LINES + 1:
        lines = [*lines[:FIRST_LINES], "…", *lines[-LAST_LINES:]]
    return "".join(f"{line}\n" for line in lines)


def named_files(page: str) -> list[str]:
    """Return the files and folders that the text of a page says a command writes."""
    text = _BLOCK.sub("", page)
    spans = re.findall(r"`([\w./-]+)`", text)
    return sorted({span for span in spans if span.partition("/")[0] in _FOLDERS and "/" in span})


def run_command(
    command: Command,
    folder: Path,
    *,
    added: Sequence[str] = (),
    environment: Mapping[str, str],
) -> str:
    """Run a command in a process of its own and return what it printed, without its progress.

    Args:
        command: of a page.
        folder: the working folder. Its path is left out of the output.
        added: further arguments.
        environment: of the process.

    Raises:
        RuntimeError: the command ended with an exit code that it should not have.
    """
    done = subprocess.run(
        [sys.executable, "-m", "veduta", *command.arguments(folder), *added],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode not in command.exit_codes:
        raise RuntimeError(f"{command.text} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return without_progress(done.stdout).replace(f"{folder}/", "")


def without_progress(output: str) -> str:
    """Return what a command printed without the lines that say how far it was."""
    return _PROGRESS.sub("", output)


def _entries(block: str) -> list[tuple[Command, str]]:
    """Return each command of a block, and its lines with their line breaks."""
    entries: list[tuple[Command, str]] = []
    continued = ""
    for line in block.splitlines(keepends=True):
        if continued or line.startswith("$ "):
            continued += line
            if not line.rstrip("\n").endswith("\\"):
                text = continued.removeprefix("$ ").replace("\\\n", " ")
                entries.append((Command(" ".join(text.split())), continued))
                continued = ""
    return entries
