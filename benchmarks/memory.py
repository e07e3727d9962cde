"""Memory while indexing collections of growing size.

Each run is a process of its own. It indexes a folder of small JPEGs into a fresh index and reports
its peak memory. For large collections a fake encoder replaces the network, because only the
reading, the rows and the commits can grow with the collection. The real encoder runs on smaller
ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks import photo_sets
from benchmarks.processes import process_memory, run_child
from benchmarks.report import check_target, format_number, parser, publish, table

FAKE = "fake encoder"
MAX_GROWTH = 1.1


def main(arguments: list[str] | None = None) -> None:
    options = parser("memory", __doc__)
    options.add_argument("--photos", nargs="+", type=int, default=[1_000, 5_000, 20_000])
    options.add_argument("--encoder", default="fast", help="the real encoder")
    options.add_argument("--real-photos", nargs="*", type=int, default=[1_000, 2_000])
    options.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(index_here(chosen.child[0], chosen.child[1:], chosen.work)))
        return

    lines: list[list[object]] = []
    for encoder, sizes in ((FAKE, chosen.photos), (chosen.encoder, chosen.real_photos)):
        smallest_peak = None
        for count in sizes:
            folders = photo_sets.folders_of_a_thousand(chosen.work, count, 160)
            facts = run_child("memory", "--work", chosen.work, "--child", encoder, *folders)
            peak = facts["peak"]
            smallest_peak = smallest_peak or peak
            lines.append(
                [
                    f"{encoder}, {count:,} photos",
                    format_number(facts["start"] / 1e6),
                    format_number(facts["reading"] / 1e6),
                    format_number(peak / 1e6),
                    f"{peak / smallest_peak:.2f}",
                    check_target(peak / smallest_peak, MAX_GROWTH, at_least=False)
                    if count > min(sizes)
                    else "",
                    format_number(facts["rate"]),
                ]
            )
    body = table(
        [
            "run",
            "with the encoder loaded, MB",
            "peak while reading, MB",
            "peak, MB",
            "growth",
            "flat",
            "photos/s",
        ],
        lines,
    )
    note = (
        "Resident memory of the whole process, mapped files included. “Flat” means: at most "
        f"{MAX_GROWTH:g} × the peak of the smallest run. The number of photos in memory is "
        "bounded. After reading comes the snapshot that searches map; it is written from the table "
        "in batches."
    )
    publish("memory", f"{body}\n\n{note}", chosen.docs)


def index_here(name: str, folders: list[str], work: Path) -> dict[str, float]:
    """Index `folders` in this process; return its memory in bytes and photos a second."""
    from benchmarks.fake_encoder import FakeEncoder
    from veduta.encoders import load_encoder
    from veduta.index import UpdateProgress, create_index, update_index

    real = load_encoder()
    encoder = FakeEncoder(real.dimension) if name == FAKE else load_encoder(name)
    built = work / "memory-index"
    shutil.rmtree(built, ignore_errors=True)
    create_index(built, encoder)
    start = process_memory("VmRSS")
    peaks_while_reading: list[int] = []

    def after_commit(progress: UpdateProgress) -> None:
        if progress.paths:
            peaks_while_reading.append(process_memory("VmHWM"))

    report = update_index(
        built, [Path(folder) for folder in folders], encoder, on_progress=after_commit
    )
    shutil.rmtree(built)
    return {
        "start": start,
        "reading": peaks_while_reading[-1],
        "peak": process_memory("VmHWM"),
        "rate": report.encoded / report.seconds,
    }


if __name__ == "__main__":
    main()
