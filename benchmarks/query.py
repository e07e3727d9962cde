"""Seconds of one query in an open index for each way of ranking, and the size of keypoints.

The photos have 640 pixels and are different parts of real photos. The ways of ranking take turns.
The time is from the query's file to the hits.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path

import veduta
from benchmarks import photo_sets
from benchmarks.report import MedianAndRange, check_target, parser, publish, ratios, table
from veduta import photos
from veduta.keypoints import load_extractor

RERANK_METHODS = {
    "none": "descriptors alone",
    "global": "descriptors and the graph",
    "geometry": "50 photos verified, and the graph (the default)",
}
WARM_UP_ROUNDS = 2
MAX_QUERY_SECONDS = 0.3
MAX_KEYPOINT_BYTES = 40_000  # A photo.


def main(arguments: list[str] | None = None) -> None:
    options = parser("query", __doc__)
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=40)
    chosen = options.parse_args(arguments)
    folders = photo_sets.folders_of_a_thousand(chosen.work, chosen.photos, 640)
    built = chosen.work / "query-index"
    shutil.rmtree(built, ignore_errors=True)
    try:
        index = veduta.create(built)
        index.add(*folders)
        total = len(index)
        queries = sorted(photo_sets.queries(chosen.work, 20, 640).iterdir())
        seconds = measure(index, queries, chosen.rounds)
        size = sum(file.stat().st_size for file in (built / "keypoints").iterdir()) / total
    finally:
        shutil.rmtree(built, ignore_errors=True)
    publish("query", page(seconds, size, total, folders[0]), chosen.docs)


def measure(index: veduta.Index, queries: list[Path], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + WARM_UP_ROUNDS):
        for method in RERANK_METHODS:
            started = time.perf_counter()
            index.search(queries[turn % len(queries)], k=10, rerank=method)
            elapsed = time.perf_counter() - started
            if turn >= WARM_UP_ROUNDS:
                seconds[method].append(elapsed)
    return seconds


def page(seconds: dict[str, list[float]], size: float, total: int, folder: Path) -> str:
    lines = [
        [
            f"`--rerank {method}`: {RERANK_METHODS[method]}",
            MedianAndRange.of(times),
            ratios(times, seconds["none"]),
            check_target(MedianAndRange.of(times).median, MAX_QUERY_SECONDS, at_least=False)
            if method == "geometry"
            else "",
        ]
        for method, times in seconds.items()
    ]
    extraction = extraction_seconds(folder)
    return "\n\n".join(
        [
            table(["one query", "seconds", "× descriptors alone", "target"], lines),
            f"{total:,} photos in an open index; median (smallest–largest) of "
            f"{len(seconds['none'])}. Keypoints take {size:,.0f} bytes a photo "
            f"({check_target(size, MAX_KEYPOINT_BYTES, at_least=False)}). To find them takes "
            f"{extraction * 1e3:.0f} ms of one core.",
        ]
    )


def extraction_seconds(folder: Path) -> float:
    """Return the median seconds of finding the keypoints of a photo."""
    extractor = load_extractor()
    times = []
    for path in sorted(folder.iterdir())[:30]:
        photo = photos.load(path, at_least=extractor.long_side)
        started = time.perf_counter()
        extractor.extract(photo.pixels, photo.width, photo.height)
        times.append(time.perf_counter() - started)
    return MedianAndRange.of(times).median


if __name__ == "__main__":
    main()
