"""Write the tables of the docs, and the figures inside the package, from results/*.csv.

The prose of the pages stays as it is. `--check` changes nothing, names what differs, and exits with
code 1 if anything does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measured import FILE, measured_csv
from benchmarks.report import replace_section, sections_of
from benchmarks.results import ROOT, Cell, cells_of, read_cells, rendered, results_file


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.pages", description=str(__doc__).splitlines()[0]
    )
    options.add_argument("--check", action="store_true", help="only name what differs")
    options.add_argument("--root", type=Path, default=ROOT, help="folder of docs and results")
    chosen = options.parse_args(arguments)
    differences = regenerate(chosen.root, write=not chosen.check)
    for difference in differences:
        print(difference)
    failed = [line for line in differences if chosen.check or not line.endswith(WRITTEN)]
    return 1 if failed else 0


WRITTEN = "written"
DIFFERS = "differs from its figures in results"


def regenerate(root: Path, *, write: bool) -> list[str]:
    """Return what differs from the figures in `root/results`, one line each.

    Args:
        root: the folder with `docs`, `results` and `src`.
        write: change what differs. What cannot be written is still named.
    """
    lines: list[str] = []
    results: dict[str, list[Cell]] = {}
    for page in sorted((root / "docs").glob("**/*.md")):
        name = page.relative_to(root).as_posix()
        before = text = page.read_text("utf-8")
        for section, body in sections_of(text).items():
            file = results_file(page, section)
            if section in results:
                lines.append(f"{name}: a page before it has a section {section}, too")
            elif not file.is_file():
                if cells_of(body, section, ""):
                    lines.append(f"{name}: the section {section} has no file {file.name}")
            else:
                try:
                    results[section] = read_cells(file)
                    new = rendered(body, results[section])
                except ValueError as error:
                    lines.append(f"{name}: the section {section}: {error}")
                    continue
                if new != body:
                    lines.append(f"{name}: the section {section} {WRITTEN if write else DIFFERS}")
                    text = replace_section(text, section, new)
        if write and text != before:
            page.write_text(text, "utf-8")
    for file in sorted((root / "results").glob("*.csv")):
        if file.stem not in results:
            lines.append(f"results/{file.name}: no page has a section {file.stem}")
    packaged = root / FILE
    figures = measured_csv(results)
    if not packaged.is_file() or packaged.read_text("utf-8") != figures:
        lines.append(f"{FILE}: {WRITTEN if write else DIFFERS}")
        if write:
            packaged.write_text(figures, "utf-8")
    return lines


if __name__ == "__main__":
    sys.exit(main())
