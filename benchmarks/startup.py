"""Whole commands, from the start of the process to its end.

Over an index of small photos that a stand-in encoder described in the name of the default one, so
that building it takes little time; the query is described by the real encoder. Commands run in
turns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import photo_sets
from benchmarks.fake_encoder import StandIn
from benchmarks.peers.process import settings
from benchmarks.report import ROOT, Spread, parser, publish, ratios, table, verdict
from veduta.encoders import Encoder, load_encoder
from veduta.index import create_index, open_snapshot, update_index

HELP, SEARCH, AGAIN = "veduta --help", "veduta search", "veduta index, nothing changed"
PYTHON, PEER = "python, doing nothing", "PyTorch and FAISS, the same search"
TARGETS = {HELP: 0.3, SEARCH: 1.0, AGAIN: 2.0}
VEDUTA = Path(sys.executable).with_name("veduta")


def main(arguments: list[str] | None = None) -> None:
    options = parser("startup", str(__doc__).splitlines()[0])
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args(arguments)

    encoder = load_encoder()
    folders = photo_sets.thousands(chosen.work, chosen.photos, 160)
    query = min(photo_sets.small(chosen.work, 1, 640).iterdir())
    built, flat = chosen.work / "startup-index", chosen.work / "flat.faiss"
    try:
        build(encoder, folders, built, flat)
        seconds = measure(commands(encoder, folders, query, built, flat), chosen.rounds)
    finally:
        shutil.rmtree(built, ignore_errors=True)
        flat.unlink(missing_ok=True)
    lines = [
        [
            name,
            Spread.of(took),
            verdict(Spread.of(took).median, TARGETS[name], at_least=False)
            if name in TARGETS
            else "",
        ]
        for name, took in seconds.items()
    ]
    body = table(["command", "seconds", "target"], lines)
    note = (
        f"{chosen.photos:,} photos, files in the page cache; median (smallest–largest) of "
        f"{chosen.rounds}. The PyTorch process takes {ratios(seconds[PEER], seconds[SEARCH])} × as "
        "long as `veduta search`."
    )
    publish("startup", f"{body}\n\n{note}", chosen.docs)


def build(encoder: Encoder, folders: list[Path], built: Path, flat: Path) -> None:
    """Make both sides' indexes of the same descriptors."""
    import faiss

    shutil.rmtree(built, ignore_errors=True)
    stand_in = StandIn(encoder.dimension, encoder)
    create_index(built, stand_in)
    update_index(built, folders, stand_in)
    index = faiss.IndexFlatIP(encoder.dimension)
    index.add(open_snapshot(built).descriptors.astype(np.float32))
    faiss.write_index(index, str(flat))


def commands(
    encoder: Encoder, folders: list[Path], query: Path, built: Path, flat: Path
) -> dict[str, list[str]]:
    veduta = str(VEDUTA)
    peer = [sys.executable, "-m", "benchmarks.peers.torch_query"]
    return {
        HELP: [veduta, "--help"],
        SEARCH: [veduta, "search", str(query), "--index", str(built)],
        AGAIN: [veduta, "index", *map(str, folders), "--index", str(built)],
        PYTHON: [sys.executable, "-c", "pass"],
        PEER: [*peer, json.dumps(settings(encoder)), str(flat), str(query)],
    }


def measure(chosen: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each command in each round; the first round, unmeasured, warms up."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for name, command in chosen.items():
            started = time.perf_counter()
            result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
            took = time.perf_counter() - started
            if result.returncode:
                raise RuntimeError(f"{name} ended with {result.returncode}:\n{result.stderr}")
            if turn:
                seconds[name].append(took)
    return seconds


if __name__ == "__main__":
    main()
