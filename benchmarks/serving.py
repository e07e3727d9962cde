"""A service (`veduta serve`): seconds until it is ready, and of a search by `photo_id`.

The rows of the index are made, not read from photos: random descriptors, twenty of each place with
a similarity of about 0.5, as photos of landmarks30 have it; one small thumbnail. The encoder of the
index is the default one, which the service loads.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks.processes import ROOT
from benchmarks.report import parser, publish, rows_with_targets, table
from veduta import photos
from veduta.encoders import load_encoder
from veduta.index import Manifest, create_index
from veduta.index.cell_files import update_cells
from veduta.index.columns import descriptor_checksum, schema
from veduta.index.snapshot import build_snapshot
from veduta.index.table import open_table_to_write

READY, PROCESSOR = "seconds until ready", "of these, processor seconds"
SEARCH, SCAN = "search by photo_id, milliseconds", "of these, the search by descriptor"
MAX_READY_SECONDS = 2.0
MAX_SEARCH_MS = 20.0
ROWS_A_COMMIT = 5_000
PHOTOS_A_PLACE = 20


def main(arguments: list[str] | None = None) -> None:
    options = parser("serving", __doc__)
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--searched-photos", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--searches", type=int, default=100)
    chosen = options.parse_args(arguments)

    index = chosen.work / "serving-index"
    figures: dict[str, list[float]] = {READY: [], PROCESSOR: [], SEARCH: [], SCAN: []}
    try:
        make_index(index, chosen.photos)
        start(index, chosen.rounds, figures)
        make_index(index, chosen.searched_photos)
        with service(index) as (_, connection):
            wait_until_ready(connection)
            search(connection, chosen.searches, figures)
    finally:
        shutil.rmtree(index, ignore_errors=True)
    targets = {READY: MAX_READY_SECONDS, SEARCH: MAX_SEARCH_MS}
    body = table(
        ["what", "median (smallest–largest)", "target"], rows_with_targets(figures, targets)
    )
    note = (
        f"{chosen.rounds} starts with {chosen.photos:,} photos; {chosen.searches} searches in "
        f"{chosen.searched_photos:,}, one after the other, without verification."
    )
    publish("serving", f"{body}\n\n{note}", chosen.docs)


def make_index(index: Path, count: int) -> None:
    """Make an index of random descriptors, without keypoints."""
    import pyarrow as pa

    shutil.rmtree(index, ignore_errors=True)
    encoder = load_encoder()
    create_index(index, encoder)
    table = open_table_to_write(index)
    random = np.random.default_rng(0)
    thumbnail = photos.thumbnail(np.full((32, 32, 3), 90, np.uint8))
    columns = schema(encoder.dimension)
    for start in range(0, count, ROWS_A_COMMIT):
        rows = []
        for number in range(start, min(start + ROWS_A_COMMIT, count)):
            if number % PHOTOS_A_PLACE == 0:
                place = random.normal(size=encoder.dimension)
            descriptor = place + random.normal(size=encoder.dimension)
            stored = (descriptor / np.linalg.norm(descriptor)).astype(np.float16)
            rows.append(
                {
                    "id": number,
                    "path": f"/photos/{number // 100}/{number}.jpg".encode(),
                    "size": 1,
                    "mtime_ns": number,
                    "content": hashlib.sha256(str(number).encode()).digest(),
                    "label": f"label {number % 50}",
                    "format": "JPEG",
                    "width": 640,
                    "height": 480,
                    "perceptual_hash": int(random.integers(2**63)),
                    "descriptor": stored,
                    "checksum": descriptor_checksum(stored),
                    "thumbnail": thumbnail,
                }
            )
        table.append(pa.Table.from_pylist(rows, schema=columns))
    manifest = Manifest.read(index)
    update_cells(index, manifest, build_snapshot(index, manifest, table))


def start(index: Path, rounds: int, figures: dict[str, list[float]]) -> None:
    """Start a service several times."""
    for turn in range(rounds + 1):
        started = time.perf_counter()
        with service(index) as (process, connection):
            wait_until_ready(connection)
            if turn:  # The first start reads the files from the disk.
                figures[READY].append(time.perf_counter() - started)
                spent = psutil.Process(process.pid).cpu_times()
                figures[PROCESSOR].append(spent.user + spent.system)


def wait_until_ready(connection: http.client.HTTPConnection) -> None:
    while ask(connection, "GET", "/ready")[0] != http.client.OK:
        time.sleep(0.01)


@contextmanager
def service(
    index: Path, module: str = "veduta", *options: str
) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """Run a service on a free port until the end of the block. `module` runs the command line."""
    command = [sys.executable, "-m", module, "serve", str(index), "--port", "0", "--json", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = ""
        while not told.rstrip().endswith("}"):
            told += process.stdout.readline()
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(json.loads(told)["url"]).port)
        try:
            yield process, connection
        finally:
            connection.close()
            process.terminate()


def search(
    connection: http.client.HTTPConnection, searches: int, figures: dict[str, list[float]]
) -> None:
    """Search by the numbers of photos, one after the other, without verification."""
    for number in range(searches + 3):
        started = time.perf_counter()
        status, answer = ask(
            connection, "POST", "/search", {"photo_id": number, "rerank": "none", "limit": 10}
        )
        took = time.perf_counter() - started
        assert status == http.client.OK, answer
        if number >= 3:  # A warm-up.
            figures[SEARCH].append(1e3 * took)
            figures[SCAN].append(1e3 * answer["timings"]["scan"])


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, fields: object = None
) -> tuple[int, dict[str, dict[str, float]]]:
    """Send one request; return the status and the JSON of the answer."""
    body = None if fields is None else json.dumps(fields)
    connection.request(method, f"/api/v1{path}", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


if __name__ == "__main__":
    main()
