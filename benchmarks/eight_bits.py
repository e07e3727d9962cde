"""What eight bits cost and gain: descriptors, rankings, time, and processors without VNNI.

    python -m benchmarks.eight_bits --data ../shared/data

The encoder "accurate-int8" is compared with the same networks in 32 bits. Times are processor time,
so that other work on the machine matters little. `--before REVISION` compares `veduta index` with
that of an older revision of the repository and its default encoder.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import veduta
from benchmarks import photo_sets
from benchmarks.avx2_only import can_hide, descriptors
from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.processes import ROOT
from benchmarks.report import format_number, parser, publish, ratios, rotated, table
from veduta import photos
from veduta.encoders import PRESETS
from veduta.photos import resize

EIGHT, FULL = "accurate-int8", "accurate"
SIDE = PRESETS[EIGHT].sizes[0][0]
ALL_SETS = (*SETS, "scenes")
PARTS = ("accuracy", "descriptors", "indexing")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("eight_bits", __doc__)
    add_data_option(options)
    options.add_argument("--photos", type=int, default=24, help="of each set, for the descriptors")
    options.add_argument("--rounds", type=int, default=3, help="of indexing")
    options.add_argument("--before", help="a revision: index with its default encoder, too")
    options.add_argument("--sets", nargs="+", choices=ALL_SETS, default=ALL_SETS)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    chosen = options.parse_args(arguments)
    sets = present_sets(options, chosen.data, chosen.sets)
    parts = {
        "accuracy": lambda: accuracy_part(chosen.data, sets),
        "descriptors": lambda: descriptor_part(sample(chosen.data, sets, chosen.photos)),
        "indexing": lambda: indexing_part(chosen.work, chosen.rounds, chosen.before),
    }
    publish("eight_bits", "\n\n".join(parts[name]() for name in chosen.parts), chosen.docs)


def accuracy_part(data: Path, sets: Sequence[str]) -> str:
    """Return top-1 and mAP of both encoders."""
    head = ["encoder", *(f"{name}{how}" for name in sets for how in (", alone", ""))]
    rows = table(head, [accuracy_row(encoder, data, sets) for encoder in (EIGHT, FULL)])
    return f"Top-1 / mAP, of the descriptor alone and with keypoints and graph:\n\n{rows}"


def accuracy_row(encoder: str, data: Path, sets: Sequence[str]) -> list[str]:
    row = [f"`{encoder}`"]
    for name in sets:
        for rerank in ("none", "geometry"):
            print(encoder, name, rerank, flush=True)
            figures = veduta.evaluate(data / name, encoder=encoder, rerank=rerank).summary
            row.append(f"{figures.top1:.3f} / {figures.map:.3f}")
    return row


def sample(data: Path, sets: Sequence[str], count: int) -> NDArray[np.uint8]:
    """Return photos of all sets, (N, H, W, 3) with a long side of `SIDE` and the shape 4:3."""
    files = []
    for name in sets:
        of_set = sorted(file for file in (data / name).rglob("*.jpg"))
        files += of_set[:: max(len(of_set) // count, 1)][:count]
    loaded = [photos.load(file, at_least=SIDE).pixels for file in files]
    return np.stack([resize(pixels, SIDE, SIDE * 3 // 4) for pixels in loaded])


def descriptor_part(pixels: NDArray[np.uint8]) -> str:
    """Return cosines to the descriptors of 32 bits, and times, with and without newer chips."""
    ways = {"all instructions of this processor": False}
    if can_hide():
        ways["AVX2 and nothing newer"] = True
    rows = []
    here = None
    for way, avx2_only in ways.items():
        eight, eight_ms = descriptors(pixels, PRESETS[EIGHT].model, SIDE, avx2_only=avx2_only)
        full, full_ms = descriptors(pixels, PRESETS[FULL].model, SIDE, avx2_only=avx2_only)
        here = eight if here is None else here
        cosines = (eight * full).sum(axis=1)
        rows.append(
            [
                way,
                f"{np.median(cosines):.4f} ({cosines.min():.4f})",
                format_number(full_ms),
                format_number(eight_ms),
                f"{full_ms / eight_ms:.2f} ×",
                f"{(eight == here).all(axis=1).sum()} of {len(here)}",
            ]
        )
    head = [
        "instructions",
        "cosine to 32 bits, median (least)",
        "32 bits, ms",
        "8 bits, ms",
        "faster",
        "same bytes as in the first row",
    ]
    return f"{len(pixels)} photos of 384 × 288 pixels:\n\n{table(head, rows)}"


def indexing_part(work: Path, rounds: int, before: str | None) -> str:
    """Return the time of `veduta index` with keypoints and graph, in turns."""
    sets = {
        "12 megapixels": photo_sets.twelve_megapixels(work, 24),
        "640 pixels": photo_sets.small(work, 72, 640),
    }
    now = ROOT / "src"
    contenders = (
        {f"revision {before}": (source_of(before, work), "default"), "now": (now, EIGHT)}
        if before
        else {"32 bits": (now, FULL), "8 bits": (now, EIGHT)}
    )
    rows = []
    for kind, folder in sets.items():
        count = len(list(folder.iterdir()))
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for turn in range(rounds):
            for name in rotated(list(contenders), turn):
                seconds[name].append(timed_index(folder, work / "index", *contenders[name]))
        for clock, unit in enumerate(("processor time", "wall time")):
            times = [[each[clock] for each in seconds[name]] for name in contenders]
            rows.append(
                [
                    f"{kind}, {unit}",
                    *(format_number(1000 * statistics.median(each) / count) for each in times),
                    f"{ratios(*times)} ×",
                ]
            )
    head = ["photos", *(f"{name}, ms a photo" for name in contenders), "faster"]
    return f"`veduta index` with keypoints and graph:\n\n{table(head, rows)}"


def source_of(revision: str, work: Path) -> Path:
    """Return the source of an older revision, in a folder below `work`."""
    folder = work / f"revision-{revision}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", revision, "src"], check=True, cwd=ROOT, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], check=True, input=archive.stdout)
    return folder / "src"


def timed_index(folder: Path, index: Path, source: Path, encoder: str) -> tuple[float, float]:
    """Index a folder with one version in a process, and return its seconds and those passed."""
    command = [sys.executable, "-m", "benchmarks.timed_index", str(folder), str(index), encoder]
    done = subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        text=True,
    )
    shutil.rmtree(index)
    of_process, passed = map(float, done.stdout.split()[-2:])
    return of_process, passed


if __name__ == "__main__":
    main()
