"""One query in an open index, by way of ranking, and what the keypoints cost an index.

A thousand photos of 640 pixels lie there under ten names each, so that indexing ten thousand takes
little time. Ways of ranking are asked in turns; the time is from the query's file to the hits.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path

import veduta
from benchmarks import photo_sets
from benchmarks.report import Spread, parser, publish, ratios, table, verdict
from veduta import photos
from veduta.keypoints import load_extractor

NAMES = 10  # of each photo, its own among them
WAYS = ("none", "global", "geometry")
TARGET = 0.4  # seconds
LARGEST = 40_000  # bytes of keypoints a photo


def main(arguments: list[str] | None = None) -> None:
    options = parser("query", str(__doc__).splitlines()[0])
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=40)
    chosen = options.parse_args(arguments)
    distinct = max(2, chosen.photos // NAMES)
    folder = photo_sets.small(chosen.work, distinct, 640)
    many = names(folder, chosen.work / "query-photos", chosen.photos - distinct)
    built = chosen.work / "query-index"
    shutil.rmtree(built, ignore_errors=True)
    try:
        index = veduta.create(built)
        index.add(folder)  # first, so that the other names are known by their content
        index.add(many)
        total = len(index)
        # Photos that are not in the index: other cuts of the same scenes.
        queries = sorted(photo_sets.small(chosen.work, 20, 640, series=1).iterdir())
        seconds = measure(index, queries, chosen.rounds)
        size = sum(file.stat().st_size for file in (built / "keypoints").iterdir()) / distinct
    finally:
        shutil.rmtree(built, ignore_errors=True)
        shutil.rmtree(many, ignore_errors=True)
    publish("query", page(seconds, size, total, folder), chosen.docs)


def names(folder: Path, into: Path, number: int) -> Path:
    """A folder with `number` names for the photos of `folder`."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    files = sorted(folder.iterdir())
    for position in range(number):
        (into / f"{position:06}.jpg").symlink_to(files[position % len(files)])
    return into


def measure(index: veduta.Index, queries: list[Path], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 2):
        for way in WAYS:
            started = time.perf_counter()
            index.search(queries[turn % len(queries)], k=10, rerank=way)
            took = time.perf_counter() - started
            if turn > 1:  # the first two load what is needed
                seconds[way].append(took)
    return seconds


def page(seconds: dict[str, list[float]], size: float, total: int, folder: Path) -> str:
    said = {
        "none": "descriptors alone",
        "global": "descriptors and the graph",
        "geometry": "50 photos verified, and the graph (the default)",
    }
    lines = [
        [
            f"`--rerank {way}`: {said[way]}",
            Spread.of(took),
            ratios(took, seconds["none"]),
            verdict(Spread.of(took).median, TARGET, at_least=False) if way == "geometry" else "",
        ]
        for way, took in seconds.items()
    ]
    rate = extraction(folder)
    return "\n\n".join(
        [
            table(["one query", "seconds", "× descriptors alone", "target"], lines),
            f"{total:,} photos under an open index; median (smallest–largest) of "
            f"{len(seconds['none'])}. Keypoints take {size:,.0f} bytes a photo "
            f"({verdict(size, LARGEST, at_least=False)}). Finding them takes {rate * 1e3:.0f} ms "
            "of one core.",
        ]
    )


def extraction(folder: Path) -> float:
    extractor = load_extractor()
    took = []
    for path in sorted(folder.iterdir())[:30]:
        photo = photos.load(path, at_least=extractor.long_side)
        started = time.perf_counter()
        extractor.extract(photo.pixels, photo.width, photo.height)
        took.append(time.perf_counter() - started)
    return Spread.of(took).median


if __name__ == "__main__":
    main()
