"""Judging many rankings of a large gallery: queries a second, and the memory that takes.

The rankings have labels and no scores, and cost nothing to make: each is another rotation of the
labels of one gallery, a view. What is timed is what a real evaluation does with each: compare the
labels, find the positives, take all figures. Every process that judges is one of its own and tells
its peak memory. AP is then compared, value by value and second by second, with scikit-learn's and
with the formula as most programs have it, precision at every rank.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import ROOT, Spread, number, parser, publish, ratios, status, table, verdict
from veduta.evaluation.metrics import judge_ranked
from veduta.evaluation.summary import summarise

OURS = "Veduta, all figures"
SKLEARN, TEXTBOOK = "scikit-learn, AP", "NumPy, precision at every rank"
CLOSE = 1e-9


def main(arguments: list[str] | None = None) -> None:
    options = parser("metrics", str(__doc__).splitlines()[0])
    options.add_argument("--queries", type=int, default=100_000)
    options.add_argument("--gallery", type=int, default=1_000_000)
    options.add_argument("--classes", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=25, help="queries that the peers judge too")
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.alone:
        print(json.dumps(judge_all(chosen.queries, chosen.gallery, chosen.classes)))
        return

    runs = [
        run_alone(queries, chosen.gallery, chosen.classes)
        for queries in sorted({max(1, chosen.queries // 10), chosen.queries})
    ]
    seconds, apart = time_peers(chosen.rounds, chosen.gallery, chosen.classes)
    publish("metrics", page(chosen.gallery, chosen.classes, runs, seconds, apart), chosen.docs)


def rankings(queries: int, gallery: int, classes: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the label of each query and the labels of the ranked gallery, (G,) int32."""
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=gallery, dtype=np.int32)
    twice = np.concatenate([labels, labels])
    for start in generator.integers(gallery, size=queries).tolist():
        # A good search: the first answer is right.
        yield int(twice[start]), twice[start : start + gallery]


def judge_all(queries: int, gallery: int, classes: int) -> dict[str, float]:
    """Judge all queries in this process."""
    every = rankings(queries, gallery, classes)
    relevant = np.empty(gallery, np.bool_)
    results = []
    started = before = 0.0
    for row, (label, ranked) in enumerate(every):
        if not row:  # the gallery is made by now
            before = status("VmRSS")
            started = time.perf_counter()
        np.equal(ranked, label, out=relevant)
        results.append(judge_ranked(f"{row:06}.jpg", str(label), relevant))
    judged = time.perf_counter()
    peak = status("VmHWM") - before
    summary = summarise(results, gallery=gallery)
    return {
        "queries": queries,
        "rate": queries / (judged - started),
        "summary": time.perf_counter() - judged,
        "peak": peak,
        "peak_with_summary": status("VmHWM") - before,
        "map": summary.map,
    }


def run_alone(queries: int, gallery: int, classes: int) -> dict[str, float]:
    sizes = {"queries": queries, "gallery": gallery, "classes": classes}
    command = [sys.executable, "-m", "benchmarks.metrics", "--alone"]
    command += [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    facts: dict[str, float] = json.loads(result.stdout)
    return facts


def time_peers(
    rounds: int, gallery: int, classes: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of all for each query, and how far AP is from ours at most."""
    from sklearn.metrics import average_precision_score

    descending = -np.arange(gallery)  # a score that ranks as the ranking does
    ranks = np.arange(1, gallery + 1)
    contenders: dict[str, Callable[[NDArray[np.bool_]], float]] = {
        OURS: lambda relevant: judge_ranked("", None, relevant).ap,
        SKLEARN: lambda relevant: average_precision_score(relevant, descending),
        TEXTBOOK: lambda relevant: (np.cumsum(relevant) / ranks)[relevant].mean(),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    apart: dict[str, float] = dict.fromkeys(contenders, 0.0)
    names = list(contenders)
    for turn, (label, ranked) in enumerate(rankings(rounds + 1, gallery, classes)):
        relevant = ranked == label
        ours = contenders[OURS](relevant)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            value = contenders[name](relevant)
            took = time.perf_counter() - started
            apart[name] = max(apart[name], abs(value - ours))
            if turn:  # the first round warms up
                seconds[name].append(took)
    return seconds, apart


def page(
    gallery: int,
    classes: int,
    runs: list[dict[str, float]],
    seconds: dict[str, list[float]],
    apart: dict[str, float],
) -> str:
    milliseconds = {name: [1000 * took for took in turns] for name, turns in seconds.items()}
    speed = table(
        [
            "queries",
            "queries/s",
            "peak memory above the gallery's, MB",
            "bytes a query",
            "queries × gallery would take, MB",
            "means and intervals, s",
        ],
        [
            [
                f"{run['queries']:,}",
                number(run["rate"]),
                number(run["peak_with_summary"] / 1e6),
                number(run["peak"] / run["queries"]),
                number(run["queries"] * gallery / 1e6),
                number(run["summary"]),
            ]
            for run in runs
        ],
    )
    peers = table(
        ["one query", "ms", "ratio", "AP differs by at most", "target"],
        [
            [OURS, str(Spread.of(milliseconds[OURS])), "", "", ""],
            *(
                [
                    name,
                    str(Spread.of(milliseconds[name])),
                    f"{ratios(milliseconds[name], milliseconds[OURS])} × Veduta's time",
                    f"{apart[name]:.0e}",
                    verdict(apart[name], CLOSE, at_least=False),
                ]
                for name in (SKLEARN, TEXTBOOK)
            ),
        ],
    )
    note = (
        f"{gallery:,} gallery photos of {classes:,} classes. Queries/s is with comparing the "
        "labels; the milliseconds below are without, and for AP alone on the side of the peers. "
        "Peak memory is that of the process that judges, with all results, means and intervals; "
        "bytes a query are before those two. "
        f"Median (smallest–largest) of {len(seconds[OURS])}. scikit-learn is version "
        f"{version('scikit-learn')}."
    )
    return f"{speed}\n\n{peers}\n\n{note}"


if __name__ == "__main__":
    main()
