"""How a benchmark tells what it found: ratios with their spread, targets, and a section of a page.

A page keeps each section between `<!-- name:begin -->` and `<!-- name:end -->`.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "numpy",
    "onnxruntime",
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
)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of repeated measurements, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The ratio of two things measured in the same rounds, round by round."""
    return Spread.of([a / b for a, b in zip(over, under, strict=True)])


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(value: float, target: float, *, at_least: bool) -> str:
    """Say the target, and whether it is reached."""
    reached = value >= target if at_least else value <= target
    return f"{'≥' if at_least else '≤'} {target:g}: {'reached' if reached else '**missed**'}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column holds words, the others figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine() -> str:
    """The machine and the versions, in a sentence."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}; {', '.join(versions)}."
    )


def _processor() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*: (.+)$", facts, re.MULTILINE)
    name = model[1] if model else platform.machine()
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    found = [flag for flag in known if flag in facts.split()]
    return f"{name} ({', '.join(found)})" if found else name


def parser(module: str, text: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=text)
    options.add_argument("--docs", type=Path, help="page whose section is written")
    options.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "veduta-benchmarks",
        help="folder for test photos, which are kept, and for indexes, which are removed",
    )
    return options


def publish(name: str, body: str, docs: Path | None) -> None:
    """Print what was found and, with `docs`, put it into the section `name` of that page."""
    today = datetime.datetime.now(datetime.UTC).date()
    text = f"{body.strip()}\n\n{today}. {machine()}\n\n    {_command(name)}"
    print(text)
    if docs is not None:
        docs.write_text(with_section(docs.read_text("utf-8"), name, text), "utf-8")


def with_section(page: str, name: str, text: str) -> str:
    """Return `page` with the section `name` replaced. Raises ValueError if it has none."""
    section = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    page, count = section.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} sections {name!r}, not one")
    return page


def _command(name: str) -> str:
    shown = [
        argument
        for before, argument in zip(["", *sys.argv[1:]], sys.argv[1:], strict=False)
        if not {"--docs", "--work"} & {before, argument}
    ]
    return shlex.join(["python", "-m", f"benchmarks.{name}", *shown])


def status(field: str) -> int:
    """A figure of this process in bytes, from the kernel: `VmHWM`, `VmRSS`, `RssAnon`, `RssFile`.

    Unlike `ru_maxrss`, `VmHWM` knows nothing of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def busy() -> str | None:
    """A warning if others use the processor now: threads of PyTorch then wait for each other."""
    import psutil

    share = psutil.cpu_percent(interval=2)
    if share < 10:
        return None
    return f"Other processes use {share:.0f} % of the processor: the figures will be worth little."
