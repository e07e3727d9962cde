"""Memory and time of judging the answers of other programs, at the sizes of large protocols.

The sets are synthetic, and no photo exists. Each run is a process of its own that opens the
protocol, opens the answers and judges all queries, as `veduta evaluate` does. Its peak stands
beside what a matrix of queries × gallery would take.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import process_memory, run_child
from benchmarks.report import format_number, parser, publish, table

BLOCK_ROWS = 8192
BLOCK_QUERIES = 64  # As in veduta.evaluation.given_answers.
RANKED_PHOTOS = 10
SAMPLE_SECONDS = 0.01
REVISITED, TREC_RUN, CSV, DESCRIPTORS = "revisited", "run", "csv", "descriptors"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the sets are.

    Attributes:
        revisited_queries: of the revisited set.
        revisited_gallery: its gallery, without the distractors.
        distractors: of the revisited set.
        queries: of the set with given rankings.
        gallery: of this set.
        described_queries: of the set with descriptors, which has the same gallery.
    """

    revisited_queries: int = 70
    revisited_gallery: int = 4_993
    distractors: int = 1_001_001
    queries: int = 100_000
    gallery: int = 1_000_000
    described_queries: int = 2_000


SMALL = Sizes(5, 200, 2_000, 300, 3_000, 20)
REVISITED_DIMENSION, DIMENSION = 256, 64
# Right photos of a query of the revisited set, and how far they are from it.
EASY, HARD, JUNK = 20, 20, 10
NOISE_OF_RIGHT = {"easy": 0.5, "hard": 2.5, "junk": 0.5}


def main(arguments: list[str] | None = None) -> None:
    options = parser("protocol_memory", __doc__)
    options.add_argument("--small", action="store_true", help="sizes that take seconds, for tests")
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(judge_here(chosen.child[0], Path(chosen.child[1]))))
        return

    sizes = SMALL if chosen.small else Sizes()
    folder = chosen.work / "protocol-memory"
    facts: dict[str, dict[str, Any]] = {}
    writers: dict[str, Callable[[Path, Sizes], None]] = {
        REVISITED: write_revisited,
        TREC_RUN: lambda put, sizes: write_ranked(put, sizes, as_csv=False),
        CSV: lambda put, sizes: write_ranked(put, sizes, as_csv=True),
        DESCRIPTORS: write_described,
    }
    for name, write in writers.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            write(folder, sizes)
            facts[name] = run_child("protocol_memory", "--child", name, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    publish("protocol_memory", page(sizes, facts), chosen.docs)


def judge_here(name: str, folder: Path) -> dict[str, Any]:
    """Judge a set in this process; return its memory in bytes and its processor time."""
    from veduta.datasets.protocols import open_protocol
    from veduta.evaluation import evaluate_protocol, evaluate_revisited

    start = process_memory("RssAnon")
    started = time.process_time()
    judged_at: list[float] = []

    def note(*_: object) -> None:
        judged_at.append(time.process_time())

    with largest_own_memory() as own:
        if name == REVISITED:
            revisited = evaluate_revisited(
                folder / "gnd_synthetic.pkl",
                descriptors=[folder / "queries.npy", folder / "gallery.npy"],
                on_progress=note,
            )
            queries, gallery = len(revisited.queries), revisited.gallery + revisited.distractors
            figure = f"mAP (medium) {revisited.setups['medium'].map:.3f}"
        else:
            judged = open_protocol(folder)
            files = [folder / "queries.npy", folder / "gallery.npy"]
            answers: dict[str, Any] = (
                {"descriptors": files}
                if name == DESCRIPTORS
                else {"ranking": folder / f"ranking.{name}"}
            )
            result = evaluate_protocol(judged, on_progress=note, **answers)
            queries, gallery = len(judged.queries), len(judged.gallery)
            figure = f"nDCG@10 {result.figures.figures['ndcg10'].value:.3f}"
    # From the end of a block of queries, because a block begins with reading the gallery.
    first = BLOCK_QUERIES if queries > BLOCK_QUERIES else 1
    return {
        "queries": queries,
        "gallery": gallery,
        "figure": figure,
        "seconds": time.process_time() - started,
        "of_query": (judged_at[-1] - judged_at[first - 1]) / (queries - first),
        "start": start,
        "own": max(own),
        "peak": process_memory("VmHWM"),
    }


@contextmanager
def largest_own_memory() -> Iterator[list[int]]:
    """Measure the anonymous memory of this process all the time; yield the list of figures."""
    figures = [process_memory("RssAnon")]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            figures[0] = max(figures[0], process_memory("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield figures
    finally:
        ended.set()
        thread.join()


def write_revisited(folder: Path, sizes: Sizes) -> None:
    """Write a protocol like revisited Oxford with its distractors, and descriptors of it."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((sizes.revisited_queries, REVISITED_DIMENSION), np.float32)
    names = [f"place_{number:06}" for number in range(sizes.revisited_gallery)]
    query_names = [f"query_{number:06}" for number in range(len(queries))]
    distractors = [f"{n % 256:02x}/{n:07}.jpg" for n in range(sizes.distractors)]
    truths, noise_of = [], {}
    for number in range(len(queries)):
        listed = rng.choice(len(names), min(EASY + HARD + JUNK, len(names)), replace=False)
        kinds = np.split(np.sort(listed), [EASY, EASY + HARD])
        truth = dict(zip(("easy", "hard", "junk"), kinds, strict=True))
        truths.append(
            {"bbx": [10.0, 10.0, 300.0, 200.0], **{k: v.tolist() for k, v in truth.items()}}
        )
        for kind, positions in truth.items():
            noise_of.update({int(at): (number, NOISE_OF_RIGHT[kind]) for at in positions})
    protocol = {"imlist": names, "qimlist": query_names, "gnd": truths}
    (folder / "gnd_synthetic.pkl").write_bytes(pickle.dumps(protocol))
    listing = folder / "revisitop1m" / "revisitop1m.txt"
    listing.parent.mkdir()
    listing.write_text("\n".join(distractors) + "\n", "utf-8")

    def near_queries(first: int, rows: NDArray[np.float32]) -> None:
        for at in range(first, min(first + len(rows), len(names))):
            if at in noise_of:
                number, noise = noise_of[at]
                rows[at - first] = queries[number] + noise * rows[at - first]

    write_descriptors(folder / "queries.npy", query_names, queries)
    gallery = [*names, *distractors]
    write_descriptors(folder / "gallery.npy", gallery, REVISITED_DIMENSION, near_queries)


def write_ranked(folder: Path, sizes: Sizes, *, as_csv: bool) -> None:
    """Write a set with judgements, and a ranking of the first photos of each query."""
    right = write_judged(folder, sizes.queries, sizes.gallery)
    rng = np.random.default_rng(1)
    with (folder / f"ranking.{CSV if as_csv else TREC_RUN}").open("w", encoding="utf-8") as sink:
        if as_csv:
            sink.write("query_id,reference_id,score\n")
        for query, positive in enumerate(right):
            steps = rng.integers(1, sizes.gallery // RANKED_PHOTOS, RANKED_PHOTOS)
            photos = (positive + steps.cumsum()) % sizes.gallery
            photos[rng.integers(RANKED_PHOTOS)] = positive
            for rank, photo in enumerate(photos.tolist(), start=1):
                score = 1 - rank / 100
                sink.write(
                    f"{query_id(query)},{photo_id(photo)},{score}\n"
                    if as_csv
                    else f"{query_id(query)} Q0 {photo_id(photo)} {rank} {score} synthetic\n"
                )


def write_described(folder: Path, sizes: Sizes) -> None:
    """Write a set with judgements, and descriptors of all photos."""
    right = write_judged(folder, sizes.described_queries, sizes.gallery)
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((len(right), DIMENSION), np.float32)
    query_of = {positive: number for number, positive in enumerate(right)}

    def near_queries(first: int, rows: NDArray[np.float32]) -> None:
        for at in range(first, first + len(rows)):
            if at in query_of:
                rows[at - first] = queries[query_of[at]] + rows[at - first]

    write_descriptors(folder / "queries.npy", [query_id(n) for n in range(len(right))], queries)
    gallery = [photo_id(number) for number in range(sizes.gallery)]
    write_descriptors(folder / "gallery.npy", gallery, DIMENSION, near_queries)


def write_judged(folder: Path, queries: int, gallery: int) -> list[int]:
    """Write corpus, queries and qrels with one right photo a query; return these photos."""
    right = np.random.default_rng(3).choice(gallery, queries, replace=False).tolist()
    for stem, id_of, count in (("corpus", photo_id, gallery), ("queries", query_id, queries)):
        with (folder / f"{stem}.jsonl").open("w", encoding="utf-8") as sink:
            for number in range(count):
                name = id_of(number)
                sink.write(f'{{"id": "{name}", "image": "{stem}/{name}.jpg"}}\n')
    with (folder / "qrels.txt").open("w", encoding="utf-8") as sink:
        for query, photo in enumerate(right):
            sink.write(f"{query_id(query)} 0 {photo_id(photo)} 1\n")
    return right


def query_id(number: int) -> str:
    return f"q{number:06}"


def photo_id(number: int) -> str:
    return f"g{number:07}"


def write_descriptors(
    file: Path,
    ids: list[str],
    rows: NDArray[np.float32] | int,
    change: Callable[[int, NDArray[np.float32]], None] = lambda first, rows: None,
) -> None:
    """Write float16 descriptors and their ids.

    Args:
        file: `.npy`.
        ids: (N,) ids, which go into a file beside it.
        rows: (N, d), or d: they are drawn, block after block.
        change: is called with the first row of each block that is drawn, and changes the block.
    """
    file.with_suffix(".txt").write_text("\n".join(ids) + "\n", "utf-8")
    dimension = rows if isinstance(rows, int) else rows.shape[1]
    written = np.lib.format.open_memmap(file, "w+", np.float16, (len(ids), dimension))
    rng = np.random.default_rng(4)
    for start in range(0, len(ids), BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, len(ids))
        if isinstance(rows, int):
            block = rng.standard_normal((end - start, rows), np.float32)
            change(start, block)
        else:
            block = rows[start:end]
        written[start:end] = block
    written.flush()


def page(sizes: Sizes, facts: dict[str, dict[str, Any]]) -> str:
    names = {
        REVISITED: f"revisited, descriptors of {REVISITED_DIMENSION} float16",
        TREC_RUN: f"TREC run of the first {RANKED_PHOTOS}",
        CSV: f"CSV of the first {RANKED_PHOTOS}",
        DESCRIPTORS: f"descriptors of {DIMENSION} float16",
    }
    rows = []
    for name, fact in facts.items():
        matrix = 4 * fact["queries"] * fact["gallery"]
        rows.append(
            [
                names[name],
                f"{fact['queries']:,}",
                f"{fact['gallery']:,}",
                format_number(matrix / 1e6),
                format_number(fact["peak"] / 1e6),
                format_number(fact["own"] / 1e6),
                format_number(fact["seconds"]),
                format_number(1e3 * fact["of_query"]),
                fact["figure"],
            ]
        )
    head = [
        "answers",
        "queries",
        "gallery",
        "queries × gallery in float32, MB",
        "peak, MB",
        "of it own, MB",
        "processor time, s",
        "of it ms a query",
        "a figure, as a check",
    ]
    described = facts[DESCRIPTORS]
    hours = described["of_query"] * sizes.queries / 3600
    matrix_gb = 4 * sizes.queries * described["gallery"] / 1e9
    note = (
        "“Peak” is the resident memory of the whole process. “Own” is its largest anonymous part, "
        f"measured every {1000 * SAMPLE_SECONDS:g} ms; it starts at "
        f"{format_number(described['start'] / 1e6)} MB with the imports. The rest is mapped from "
        "the files of descriptors, and the kernel takes it back when it needs it. The own memory "
        "does not grow with queries × gallery: it is the ids of the protocol and of the files, the "
        f"results, and with descriptors the scores of {BLOCK_QUERIES} queries "
        f"({format_number(4e-6 * BLOCK_QUERIES * described['gallery'])} MB). With few queries it "
        "is more than a matrix would be. "
        "Processor time is that "
        "of one core, for opening the protocol, reading and checking the answers, judging and "
        "intervals; “ms a query” is for scoring and judging alone.\n\n"
        f"{sizes.queries:,} queries by descriptors were not run. At the time a query of the last "
        f"row they would take {format_number(hours)} hours on one core, and queries × gallery "
        f"would be {format_number(matrix_gb)} GB. Their results would be held as those of the "
        f"rankings of {sizes.queries:,} queries are."
    )
    return f"{table(head, rows)}\n\n{note}"


if __name__ == "__main__":
    main()
