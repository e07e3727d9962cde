"""Memory while indexing collections of growing size.

Each run is a process of its own that indexes a folder of small JPEGs into a fresh index and tells
its peak. A stand-in takes the network's place for the large ones: what may grow with the
collection is the reading, the rows and the commits. The real encoder runs on smaller ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import photo_sets
from benchmarks.report import ROOT, number, parser, publish, status, table, verdict

STAND_IN = "stand-in"


def main(arguments: list[str] | None = None) -> None:
    options = parser("memory", str(__doc__).splitlines()[0])
    options.add_argument("--photos", nargs="+", type=int, default=[1_000, 5_000, 20_000])
    options.add_argument("--encoder", default="fast", help="the real one")
    options.add_argument("--real-photos", nargs="*", type=int, default=[1_000, 2_000])
    options.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(index_alone(chosen.child[0], chosen.child[1:], chosen.work)))
        return

    lines: list[list[object]] = []
    for encoder, sizes in ((STAND_IN, chosen.photos), (chosen.encoder, chosen.real_photos)):
        least = None
        for count in sizes:
            folders = photo_sets.thousands(chosen.work, count, 160)
            facts = run_alone(encoder, folders, chosen.work)
            peak = facts["peak"]
            least = least or peak
            lines.append(
                [
                    f"{encoder}, {count:,} photos",
                    number(facts["start"] / 1e6),
                    number(facts["reading"] / 1e6),
                    number(peak / 1e6),
                    f"{peak / least:.2f}",
                    verdict(peak / least, 1.1, at_least=False) if count > min(sizes) else "",
                    number(facts["rate"]),
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
        "Resident memory of the whole process, mapped files included. “Flat” is read as: at most "
        "1.1 × the peak of the smallest run. The photos in memory are a bounded number; what comes "
        "after reading is the snapshot that searches map, written from the table in batches."
    )
    publish("memory", f"{body}\n\n{note}", chosen.docs)


def run_alone(encoder: str, folders: list[Path], work: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--work", str(work)]
    command += ["--child", encoder, *map(str, folders)]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    facts: dict[str, float] = json.loads(result.stdout)
    return facts


def index_alone(name: str, folders: list[str], work: Path) -> dict[str, float]:
    """Index `folders` in this process and return its peak memory, bytes."""
    from benchmarks.fake_encoder import StandIn
    from veduta.encoders import load_encoder
    from veduta.index import UpdateProgress, create_index, update_index

    real = load_encoder()
    encoder = StandIn(real.dimension) if name == STAND_IN else load_encoder(name)
    built = work / "memory-index"
    shutil.rmtree(built, ignore_errors=True)
    create_index(built, encoder)
    start = status("VmRSS")
    reading: list[int] = []

    def after_commit(progress: UpdateProgress) -> None:
        if progress.paths:
            reading.append(status("VmHWM"))

    report = update_index(
        built, [Path(folder) for folder in folders], encoder, on_progress=after_commit
    )
    shutil.rmtree(built)
    return {
        "start": start,
        "reading": reading[-1],
        "peak": status("VmHWM"),
        "rate": report.encoded / report.seconds,
    }


if __name__ == "__main__":
    main()
