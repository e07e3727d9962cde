"""Count the classes of a CSV file of millions of rows.

The file has the form of Google Landmarks: `id,url,landmark_id`, one row a photo, class sizes with a
long tail. Each run is a process of its own. It counts how many rows each class has, largest first,
and reports its peak memory. The readers of Arrow and pandas read the whole file; pandas also runs
with the one column that is needed. Python's csv module with a Counter streams the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.processes import process_memory, run_child
from benchmarks.report import (
    MedianAndRange,
    check_target,
    format_number,
    parser,
    publish,
    ratios,
    table,
)

VEDUTA, ARROW = "Veduta", "Arrow, whole file"
PANDAS, COLUMN = "pandas, whole file", "pandas, one column"
CSV = "csv and Counter"
CLASS_COUNT = 200_000  # About as many as Google Landmarks v2 has.
BLOCK_ROWS = 100_000
MAX_GROWTH = 1.1


def main(arguments: list[str] | None = None) -> None:
    options = parser("explore", __doc__)
    options.add_argument("--rows", nargs="+", type=int, default=[500_000, 5_000_000])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(count(chosen.child[0], Path(chosen.child[1]))))
        return

    chosen.work.mkdir(parents=True, exist_ok=True)
    contenders = [VEDUTA, ARROW, CSV, *([PANDAS, COLUMN] if find_spec("pandas") else [])]
    lines: list[list[object]] = []
    smallest_peak = None
    for rows in chosen.rows:
        file = write_landmarks(chosen.work, rows)
        try:
            results = measure(contenders, file, chosen.rounds)
        finally:
            file.unlink()
        for name, runs in results.items():
            seconds = [run["seconds"] for run in runs]
            peak = max(run["peak"] for run in runs)
            our_seconds = [run["seconds"] for run in results[VEDUTA]]
            flat = ""
            if name == VEDUTA:
                smallest_peak = smallest_peak or peak
                if rows > min(chosen.rows):
                    growth = round(peak / smallest_peak, 2)
                    flat = check_target(growth, MAX_GROWTH, at_least=False)
            lines.append(
                [
                    f"{rows:,} rows: {name}",
                    MedianAndRange.of(seconds),
                    format_number(rows / MedianAndRange.of(seconds).median / 1e6),
                    "" if name == VEDUTA else f"{ratios(seconds, our_seconds)} ×",
                    format_number(peak / 1e6),
                    format_number(max(run["peak"] - run["start"] for run in runs) / 1e6),
                    flat,
                ]
            )
    head = ["who", "seconds", "million rows/s", "to Veduta's time", "peak, MB", "added, MB", "flat"]
    note = (
        "The processes take turns. Imports are not timed. “Peak” is the resident memory of the "
        "whole process, “added” is what counting added to it. “Flat” means: at most "
        f"{MAX_GROWTH:g} × the peak of the smallest file. All agree on every class."
    )
    publish("explore", f"{table(head, lines)}\n\n{note}", chosen.docs)


def write_landmarks(work: Path, rows: int) -> Path:
    """Write a file in the form of Google Landmarks' train.csv. It is the same in every run."""
    rng = np.random.default_rng(rows)
    file = work / f"landmarks-{rows}.csv"
    with file.open("w", encoding="ascii", newline="") as out:
        out.write("id,url,landmark_id\n")
        for start in range(0, rows, BLOCK_ROWS):
            block_rows = min(BLOCK_ROWS, rows - start)
            ids = rng.integers(0, 2**63, block_rows).tolist()
            classes = (rng.pareto(0.6, block_rows) * 3).astype(np.int64) % CLASS_COUNT
            if start < CLASS_COUNT:
                # Each class comes once at first, so that long files have the same classes.
                classes = np.arange(start, start + block_rows)
            out.writelines(
                f"{i:016x},https://upload.example.org/commons/{i % 16:x}/{i % 256:02x}/"
                f"Some_place_{i % 100_000}.jpg,{label}\n"
                for i, label in zip(ids, classes.tolist(), strict=True)
            )
    return file


def measure(names: list[str], file: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return the result of `count` for each contender and round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    answers = set()
    for _ in range(rounds):
        for name in names:
            result = run_child("explore", "--child", name, file)
            answers.add(result.pop("answer"))
            results[name].append(result)
    if len(answers) != 1:
        raise RuntimeError(f"the counts differ: {sorted(answers)}")
    return results


def count(name: str, file: Path) -> dict[str, float | str]:
    """Count in this process; `answer` is a digest of the counts."""
    contenders = {VEDUTA: veduta, ARROW: arrow, PANDAS: pandas, COLUMN: one_column, CSV: counter}
    run = contenders[name](file)
    start = process_memory("VmRSS")
    started = time.perf_counter()
    sizes = run()
    seconds = time.perf_counter() - started
    peak = process_memory("VmHWM")
    answer = f"{len(sizes)} classes, {sum(sizes.values())} photos, {digest(sizes)}"
    return {"seconds": seconds, "start": start, "peak": peak, "answer": answer}


def digest(sizes: dict[str, int]) -> str:
    from blake3 import blake3

    return blake3(repr(sorted(sizes.items())).encode()).hexdigest()[:16]


# Each of these functions imports a reader and returns the function that is timed.


def veduta(file: Path) -> Callable[[], dict[str, int]]:
    import pyarrow.acero
    import pyarrow.csv  # noqa: F401

    from veduta.explore import describe

    def run() -> dict[str, int]:
        sizes = describe(file).sizes
        return dict(zip(sizes.names, sizes.sizes.tolist(), strict=True))

    return run


def arrow(file: Path) -> Callable[[], dict[str, int]]:
    import pyarrow.compute
    from pyarrow import csv

    def run() -> dict[str, int]:
        counts = pyarrow.compute.value_counts(csv.read_csv(file)["landmark_id"])
        return {str(row["values"]): row["counts"] for row in counts.to_pylist()}

    return run


def pandas(file: Path) -> Callable[[], dict[str, int]]:
    import pandas

    def run() -> dict[str, int]:
        counts = pandas.read_csv(file)["landmark_id"].value_counts()
        return {str(label): int(photos) for label, photos in counts.items()}

    return run


def one_column(file: Path) -> Callable[[], dict[str, int]]:
    import pandas

    def run() -> dict[str, int]:
        counts = pandas.read_csv(file, usecols=["landmark_id"])["landmark_id"].value_counts()
        return {str(label): int(photos) for label, photos in counts.items()}

    return run


def counter(file: Path) -> Callable[[], dict[str, int]]:
    import csv
    from collections import Counter

    def run() -> dict[str, int]:
        with file.open(encoding="utf-8", newline="") as lines:
            counts = Counter(row["landmark_id"] for row in csv.DictReader(lines))
        return dict(counts.most_common())

    return run


if __name__ == "__main__":
    main()
