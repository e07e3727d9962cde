"""Counting the classes of a CSV file of millions of rows.

The file is Google Landmarks' in form: `id,url,landmark_id`, one row a photo, class sizes with a
long tail. Each run is a process of its own that counts how many rows each class has, largest first,
and tells its peak memory. The peers read the whole file: Arrow's and pandas' readers, the latter
also with the one column named that is needed. Python's csv module with a Counter streams it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.report import ROOT, Spread, number, parser, publish, ratios, status, table, verdict

VEDUTA, ARROW = "Veduta", "Arrow, whole file"
PANDAS, COLUMN = "pandas, whole file", "pandas, one column"
CSV = "csv and Counter"
_CLASSES = 200_000  # as Google Landmarks v2 has
_AT_ONCE = 100_000


def main(arguments: list[str] | None = None) -> None:
    options = parser("explore", str(__doc__).splitlines()[0])
    options.add_argument("--rows", nargs="+", type=int, default=[500_000, 5_000_000])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(count(chosen.child[0], Path(chosen.child[1]))))
        return

    chosen.work.mkdir(parents=True, exist_ok=True)
    who = [VEDUTA, ARROW, CSV, *([PANDAS, COLUMN] if find_spec("pandas") else [])]
    lines: list[list[object]] = []
    least = None
    for rows in chosen.rows:
        file = landmarks(chosen.work, rows)
        try:
            found = measure(who, file, chosen.rounds)
        finally:
            file.unlink()
        for name, runs in found.items():
            seconds = [run["seconds"] for run in runs]
            peak = max(run["peak"] for run in runs)
            own = [run["seconds"] for run in found[VEDUTA]]
            flat = ""
            if name == VEDUTA:
                least = least or peak
                if rows > min(chosen.rows):
                    flat = verdict(round(peak / least, 2), 1.1, at_least=False)
            lines.append(
                [
                    f"{rows:,} rows: {name}",
                    Spread.of(seconds),
                    number(rows / Spread.of(seconds).median / 1e6),
                    "" if name == VEDUTA else f"{ratios(seconds, own)} ×",
                    number(peak / 1e6),
                    number(max(run["peak"] - run["start"] for run in runs) / 1e6),
                    flat,
                ]
            )
    head = ["who", "seconds", "million rows/s", "to Veduta's time", "peak, MB", "added, MB", "flat"]
    note = (
        "Processes in turns; imports are not timed. “Peak” is the resident memory of the whole "
        "process, “added” what counting added to it. “Flat” is read as: at most 1.1 × the "
        "peak of the smallest file. All agree on every class."
    )
    publish("explore", f"{table(head, lines)}\n\n{note}", chosen.docs)


def landmarks(work: Path, rows: int) -> Path:
    """Write a file in the form of Google Landmarks' train.csv, the same at every run."""
    rng = np.random.default_rng(rows)
    file = work / f"landmarks-{rows}.csv"
    with file.open("w", encoding="ascii", newline="") as out:
        out.write("id,url,landmark_id\n")
        for start in range(0, rows, _AT_ONCE):
            some = min(_AT_ONCE, rows - start)
            ids = rng.integers(0, 2**63, some).tolist()
            classes = (rng.pareto(0.6, some) * 3).astype(np.int64) % _CLASSES
            if start < _CLASSES:  # each once, so that files of any length have the same classes
                classes = np.arange(start, start + some)
            out.writelines(
                f"{i:016x},https://upload.example.org/commons/{i % 16:x}/{i % 256:02x}/"
                f"Some_place_{i % 100_000}.jpg,{label}\n"
                for i, label in zip(ids, classes.tolist(), strict=True)
            )
    return file


def measure(who: list[str], file: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    answers = set()
    for _ in range(rounds):
        for name in who:
            command = [sys.executable, "-m", "benchmarks.explore", "--child", name, str(file)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            facts = json.loads(done.stdout)
            answers.add(facts.pop("answer"))
            found[name].append(facts)
    if len(answers) != 1:
        raise RuntimeError(f"they do not agree: {sorted(answers)}")
    return found


def count(name: str, file: Path) -> dict[str, float | str]:
    """Count in this process; `answer` is a digest of the counts."""
    counting = {VEDUTA: veduta, ARROW: arrow, PANDAS: pandas, COLUMN: one_column, CSV: counter}
    counted = counting[name](file)
    start = status("VmRSS")
    began = time.perf_counter()
    sizes = counted()
    seconds = time.perf_counter() - began
    peak = status("VmHWM")
    answer = f"{len(sizes)} classes, {sum(sizes.values())} photos, {hash_of(sizes)}"
    return {"seconds": seconds, "start": start, "peak": peak, "answer": answer}


def hash_of(sizes: dict[str, int]) -> str:
    from blake3 import blake3

    return blake3(repr(sorted(sizes.items())).encode()).hexdigest()[:16]


# Each imports what it needs and returns what is timed.


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
