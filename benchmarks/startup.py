"""Seconds of whole commands, from the start of the process to its end.

The index is of small photos. A fake encoder, which passes for the default one, describes them, so
that the index is built quickly. The real encoder describes the query. Commands run in turns.
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
from benchmarks.fake_encoder import FakeEncoder
from benchmarks.peers.process import peer_settings
from benchmarks.processes import ROOT
from benchmarks.report import parser, publish, ratios, rows_with_targets, table
from veduta.encoders import OnnxEncoder, load_encoder
from veduta.index import create_index, open_snapshot, update_index

HELP, SEARCH, UPDATE = "veduta --help", "veduta search", "veduta index, nothing changed"
PYTHON, PEER = "python, doing nothing", "PyTorch and FAISS, the same search"
MAX_SECONDS = {HELP: 0.3, SEARCH: 1.0, UPDATE: 2.0}
VEDUTA = Path(sys.executable).with_name("veduta")


def main(arguments: list[str] | None = None) -> None:
    options = parser("startup", __doc__)
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args(arguments)

    encoder = load_encoder()
    assert isinstance(encoder, OnnxEncoder)
    folders = photo_sets.folders_of_a_thousand(chosen.work, chosen.photos, 160)
    query = min(photo_sets.small(chosen.work, 1, 640).iterdir())
    index, flat = chosen.work / "startup-index", chosen.work / "flat.faiss"
    try:
        build(encoder, folders, index, flat)
        seconds = measure(commands(encoder, folders, query, index, flat), chosen.rounds)
    finally:
        shutil.rmtree(index, ignore_errors=True)
        flat.unlink(missing_ok=True)
    body = table(["command", "seconds", "target"], rows_with_targets(seconds, MAX_SECONDS))
    note = (
        f"{chosen.photos:,} photos, files in the page cache; median (smallest–largest) of "
        f"{chosen.rounds}. The PyTorch process takes {ratios(seconds[PEER], seconds[SEARCH])} × as "
        "long as `veduta search`."
    )
    publish("startup", f"{body}\n\n{note}", chosen.docs)


def build(encoder: OnnxEncoder, folders: list[Path], index: Path, flat: Path) -> None:
    """Build Veduta's index and the peer's from the same descriptors."""
    import faiss

    shutil.rmtree(index, ignore_errors=True)
    fake = FakeEncoder(encoder.dimension, encoder)
    create_index(index, fake)
    update_index(index, folders, fake)
    flat_index = faiss.IndexFlatIP(encoder.dimension)
    flat_index.add(open_snapshot(index).descriptors.astype(np.float32))
    faiss.write_index(flat_index, str(flat))


def commands(
    encoder: OnnxEncoder, folders: list[Path], query: Path, index: Path, flat: Path
) -> dict[str, list[str]]:
    veduta = str(VEDUTA)
    peer = [sys.executable, "-m", "benchmarks.peers.torch_query"]
    return {
        HELP: [veduta, "--help"],
        SEARCH: [veduta, "search", str(query), "--index", str(index)],
        UPDATE: [veduta, "index", *map(str, folders), "--index", str(index)],
        PYTHON: [sys.executable, "-c", "pass"],
        PEER: [*peer, json.dumps(peer_settings(encoder)), str(flat), str(query)],
    }


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each command in each round, after one round as a warm-up."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for name, command in commands.items():
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
