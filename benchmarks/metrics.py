"""Judge many rankings of a large gallery: queries a second, and memory.

Each ranking is another rotation of the labels of one gallery, a view, so that it costs nothing. It
has no scores. Timed is what an evaluation does with each ranking: it compares the labels, finds the
positives and computes all figures. Each run is a process of its own that reports its peak memory.
Then the value and the time of AP are compared with scikit-learn's and with the textbook formula,
which computes precision at every rank.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import process_memory, run_child
from benchmarks.report import (
    MedianAndRange,
    check_target,
    format_number,
    parser,
    publish,
    ratios,
    rotated,
    table,
)
from veduta.evaluation.metrics import judge_ranked
from veduta.evaluation.summary import summarise

OURS = "Veduta, all figures"
SKLEARN, TEXTBOOK = "scikit-learn, AP", "NumPy, precision at every rank"
MAX_AP_DIFFERENCE = 1e-9


def main(arguments: list[str] | None = None) -> None:
    options = parser("metrics", __doc__)
    options.add_argument("--queries", type=int, default=100_000)
    options.add_argument("--gallery", type=int, default=1_000_000)
    options.add_argument("--classes", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=25, help="queries that the peers judge too")
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(judge_all(chosen.queries, chosen.gallery, chosen.classes)))
        return

    runs = [
        run_child(
            "metrics",
            "--child",
            *("--queries", queries),
            *("--gallery", chosen.gallery),
            *("--classes", chosen.classes),
        )
        for queries in sorted({max(1, chosen.queries // 10), chosen.queries})
    ]
    seconds, differences = time_peers(chosen.rounds, chosen.gallery, chosen.classes)
    text = page(chosen.gallery, chosen.classes, runs, seconds, differences)
    publish("metrics", text, chosen.docs)


def rankings(queries: int, gallery: int, classes: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the label of each query and the labels of the ranked gallery, (G,) int32."""
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=gallery, dtype=np.int32)
    twice = np.concatenate([labels, labels])
    for start in generator.integers(gallery, size=queries).tolist():
        # The first hit is right, as in a good search.
        yield int(twice[start]), twice[start : start + gallery]


def judge_all(queries: int, gallery: int, classes: int) -> dict[str, float]:
    """Judge all queries in this process."""
    relevant = np.empty(gallery, np.bool_)
    results = []
    started = memory_before = 0.0
    for row, (label, ranked) in enumerate(rankings(queries, gallery, classes)):
        if row == 0:  # The gallery exists by now.
            memory_before = process_memory("VmRSS")
            started = time.perf_counter()
        np.equal(ranked, label, out=relevant)
        results.append(judge_ranked(f"{row:06}.jpg", str(label), relevant))
    judged = time.perf_counter()
    peak = process_memory("VmHWM") - memory_before
    summary = summarise(results, gallery=gallery)
    return {
        "queries": queries,
        "rate": queries / (judged - started),
        "summary": time.perf_counter() - judged,
        "peak": peak,
        "peak_with_summary": process_memory("VmHWM") - memory_before,
        "map": summary.map,
    }


def time_peers(
    rounds: int, gallery: int, classes: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each contender for each query, and how far its AP is from ours."""
    from sklearn.metrics import average_precision_score

    descending = -np.arange(gallery)  # Scores that give the same ranking.
    ranks = np.arange(1, gallery + 1)
    contenders: dict[str, Callable[[NDArray[np.bool_]], float]] = {
        OURS: lambda relevant: judge_ranked("", None, relevant).ap,
        SKLEARN: lambda relevant: average_precision_score(relevant, descending),
        TEXTBOOK: lambda relevant: (np.cumsum(relevant) / ranks)[relevant].mean(),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    differences: dict[str, float] = dict.fromkeys(contenders, 0.0)
    for turn, (label, ranked) in enumerate(rankings(rounds + 1, gallery, classes)):
        relevant = ranked == label
        our_ap = contenders[OURS](relevant)
        for name in rotated(list(contenders), turn):
            started = time.perf_counter()
            ap = contenders[name](relevant)
            elapsed = time.perf_counter() - started
            differences[name] = max(differences[name], abs(ap - our_ap))
            if turn:  # The first round is a warm-up.
                seconds[name].append(elapsed)
    return seconds, differences


def page(
    gallery: int,
    classes: int,
    runs: list[dict[str, float]],
    seconds: dict[str, list[float]],
    differences: dict[str, float],
) -> str:
    milliseconds = {name: [1000 * one for one in times] for name, times in seconds.items()}
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
                format_number(run["rate"]),
                format_number(run["peak_with_summary"] / 1e6),
                format_number(run["peak"] / run["queries"]),
                format_number(run["queries"] * gallery / 1e6),
                format_number(run["summary"]),
            ]
            for run in runs
        ],
    )
    peers = table(
        ["one query", "ms", "ratio", "AP differs by at most", "target"],
        [
            [OURS, str(MedianAndRange.of(milliseconds[OURS])), "", "", ""],
            *(
                [
                    name,
                    str(MedianAndRange.of(milliseconds[name])),
                    f"{ratios(milliseconds[name], milliseconds[OURS])} × Veduta's time",
                    f"{differences[name]:.0e}",
                    check_target(differences[name], MAX_AP_DIFFERENCE, at_least=False),
                ]
                for name in (SKLEARN, TEXTBOOK)
            ),
        ],
    )
    note = (
        f"{gallery:,} gallery photos of {classes:,} classes. Queries/s includes comparing the "
        "labels. The milliseconds below do not; those of the peers are for AP alone. Peak memory "
        "is that of the process that judges, with all results, means and intervals. Bytes a query "
        "are without means and intervals. "
        f"Median (smallest–largest) of {len(seconds[OURS])}. scikit-learn is version "
        f"{version('scikit-learn')}."
    )
    return f"{speed}\n\n{peers}\n\n{note}"


if __name__ == "__main__":
    main()
