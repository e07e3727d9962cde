"""Write the results of a benchmark: figures, targets, tables, and the section of a page.

A page keeps each section between `<!-- name:begin -->` and `<!-- name:end -->`. Its tables come
from `results/NAME.csv` (`benchmarks/results.py`).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.results import (
    cells_of,
    csv_of,
    measured_version,
    read_cells,
    rendered,
    results_file,
)
from veduta.processor_cores import processor_cores

REPORTED_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "pillow",
    "simplejpeg",
    "numkong",
    "pylance",
    "opencv-python-headless",
    "poselib",
    "matplotlib",
    "torch",
    "faiss-cpu",
    "usearch",
    "scikit-learn",
    "ray",
)
MAX_BUSY_PERCENT = 10


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class MedianAndRange:
    """The median of repeated measurements, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> MedianAndRange:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        median, low, high = map(format_number, (self.median, self.low, self.high))
        return f"{median} ({low}–{high})"


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> MedianAndRange:
    """Return the ratio of two things that were measured in the same rounds, round by round."""
    return MedianAndRange.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def rotated(items: Sequence[Item], turn: int) -> list[Item]:
    """Return the items in an order that starts with another one in each turn."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def format_number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def check_target(value: float, target: float, *, at_least: bool) -> str:
    """Return the target, and whether it is reached, in words."""
    reached = value >= target if at_least else value <= target
    return f"{'≥' if at_least else '≤'} {target:g}: {'reached' if reached else '**missed**'}"


def rows_with_targets(
    values: Mapping[str, Sequence[float]], largest: Mapping[str, float]
) -> list[list[object]]:
    """Return a row for each name: the name, its median and range, and its target if it has one."""
    rows: list[list[object]] = []
    for name, measured in values.items():
        figure = MedianAndRange.of(measured)
        target = largest.get(name)
        said = "" if target is None else check_target(figure.median, target, at_least=False)
        rows.append([name, figure, said])
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table. The first column has words, the others have figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine_description() -> str:
    """Return the machine and the versions of the packages, in one sentence."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for package in REPORTED_PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{_processor()}, {processor_cores()} cores, {memory_gib:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}; {', '.join(versions)}."
    )


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*: (.+)$", info, re.MULTILINE)
    name = model[1] if model else platform.machine()
    reported_flags = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    flags = [flag for flag in reported_flags if flag in info.split()]
    return f"{name} ({', '.join(flags)})" if flags else name


def parser(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser with the common options; its description is the docstring's first line."""
    options = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}", description=str(docstring).splitlines()[0]
    )
    options.add_argument("--docs", type=Path, help="page whose section is written")
    options.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "veduta-benchmarks",
        help="folder for test photos, which are kept, and for indexes, which are removed",
    )
    return options


def publish(name: str, body: str, docs: Path | None, *, section: str | None = None) -> None:
    """Print a result and, with `docs`, write it into a section of that page: by default `name`."""
    today = datetime.datetime.now(datetime.UTC).date()
    text = f"{body.strip()}\n\n{today}. {machine_description()}\n\n    {_command(name)}"
    print(text)
    if docs is not None:
        write_section(docs, section or name, text)


def write_section(page: Path, name: str, text: str) -> None:
    """Write the tables of a section to its CSV file, and the section from this file to its page.

    Args:
        page: a Markdown file.
        name: of the section.
        text: of the section: prose, tables, date, machine and command.

    Raises:
        ValueError: the page does not have exactly one section of this name, or a table has no date,
            machine and command.
    """
    whole = page.read_text("utf-8")
    replace_section(whole, name, text)
    cells = cells_of(text, name, measured_version())
    if cells:
        file = results_file(page, name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(csv_of(cells), "utf-8")
        text = rendered(text, read_cells(file))
    page.write_text(replace_section(whole, name, text), "utf-8")


def sections_of(page: str) -> dict[str, str]:
    """Return the text of each section of a page, by name.

    Raises:
        ValueError: a section has no end.
    """
    sections = {}
    for begin in re.finditer(r"<!-- ([\w-]+):begin -->\n", page):
        end = page.find(f"<!-- {begin[1]}:end -->", begin.end())
        if end < 0:
            raise ValueError(f"the section {begin[1]!r} has no end")
        sections[begin[1]] = page[begin.end() : end].strip("\n")
    return sections


def replace_section(page: str, name: str, text: str) -> str:
    """Return `page` with the section `name` replaced.

    Args:
        page: the Markdown page.
        name: of the section.
        text: its new content.

    Raises:
        ValueError: the page does not have exactly one section of this name.
    """
    section = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    page, count = section.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} sections {name!r}, not one")
    return page


def _command(name: str) -> str:
    arguments = sys.argv[1:]
    kept = [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if not {"--docs", "--work"} & {before, argument}
    ]
    return shlex.join(["python", "-m", f"benchmarks.{name}", *kept])


def busy_share() -> float:
    """Return how much of the processor other processes use now, in percent."""
    import psutil

    return float(psutil.cpu_percent(interval=2))


def busy_warning() -> str | None:
    """Return a warning if other processes use the processor now.

    Threads of PyTorch then wait for each other.
    """
    busy_percent = busy_share()
    if busy_percent < MAX_BUSY_PERCENT:
        return None
    return (
        f"Other processes use {busy_percent:.0f} % of the processor: "
        "the figures will not be reliable."
    )
