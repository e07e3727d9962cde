"""Collect from a server on the loopback, with Veduta and with a bare asynchronous client.

The server is a process of its own. It answers each request with a photo of a few kilobytes. The
bare client is aiohttp with as many workers as connections. Each worker reads an answer whole and
writes it to `folder/name.jpg`. Veduta runs with `--no-decode`. It also checks addresses, limits and
content, computes BLAKE3, writes to a draft first, keeps a journal, and writes `collected.parquet`
at the end, which counts. The two take turns.

Memory is measured on a CSV of a million rows, none of which has to be fetched. In the first run all
are refused: half are ftp: addresses, half loopback addresses. In the second run the journal knows
all of them: half are collected, half are refused. Their rows share a thousand files.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT, process_memory, run_child
from benchmarks.report import (
    MedianAndRange,
    check_target,
    format_number,
    parser,
    publish,
    ratios,
    table,
)

VEDUTA, BARE = "Veduta", "bare aiohttp"
SERVED_PHOTOS = 200
CLASS_COUNT = 50
SHARED_FILES = 1000
MIN_FILES_PER_SECOND = 500
MIN_SPEED_RATIO = 0.9


def main(arguments: list[str] | None = None) -> None:
    options = parser("collect", __doc__)
    options.add_argument("--files", type=int, default=5_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000])
    options.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        print(json.dumps(child(*chosen.child)))
        return
    work = chosen.work / f"collect-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        rates = speed(work, chosen.files, chosen.rounds, chosen.connections)
        peaks = memory(work, chosen.rows)
    finally:
        shutil.rmtree(work)
    ratio = ratios(rates[VEDUTA], rates[BARE])
    our_rate = statistics.median(rates[VEDUTA])
    lines = [
        [
            VEDUTA,
            MedianAndRange.of(rates[VEDUTA]),
            ratio,
            check_target(our_rate, MIN_FILES_PER_SECOND, at_least=True),
            check_target(round(ratio.median, 2), MIN_SPEED_RATIO, at_least=True),
        ],
        [BARE, MedianAndRange.of(rates[BARE]), "", "", ""],
    ]
    head = ["who", "files/s", "to the bare client", "target", "target of the ratio"]
    first_rows, _, first = peaks[0]
    memory_lines = [
        [
            f"{rows:,} rows: {what}",
            format_number(facts["seconds"]),
            format_number(facts["peak"] / 1e6),
            format_number((facts["peak"] - facts["start"]) / 1e6),
            format_number((facts["peak"] - first["peak"]) / (rows - first_rows))
            if rows > first_rows
            else "",
        ]
        for rows, what, facts in peaks
    ]
    memory_head = ["what", "seconds", "peak, MB", "added, MB", "bytes for each further row"]
    body = (
        f"{chosen.files:,} files, {chosen.connections} connections, server and client on the same "
        f"cores.\n\n{table(head, lines)}\n\n{table(memory_head, memory_lines)}"
    )
    publish("collect", body, chosen.docs)


def speed(work: Path, files: int, rounds: int, connections: int) -> dict[str, list[float]]:
    """Return files a second of both clients in each round."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.collect", "--child", "serve"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    rates: dict[str, list[float]] = {VEDUTA: [], BARE: []}
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        source = work / "photos.csv"
        source.write_text(
            "id,url,landmark_id\n"
            + "".join(
                f"{number:08x},http://127.0.0.1:{port}/{number}.jpg,{number % CLASS_COUNT}\n"
                for number in range(files)
            )
        )
        for turn in range(rounds + 1):
            for name in (VEDUTA, BARE):
                out = work / "out"
                facts = run_child("collect", "--child", "fetch", name, source, out, connections)
                written = sum(1 for path in out.glob("*/*.jpg") if path.stat().st_size)
                shutil.rmtree(out)
                if written != files:
                    raise RuntimeError(f"{name}: {written} of {files} files")
                if turn:  # The first round is a warm-up.
                    rates[name].append(files / facts["seconds"])
    finally:
        server.kill()
        server.wait()
    return rates


def memory(work: Path, sizes: list[int]) -> list[tuple[int, str, dict[str, float]]]:
    """Return (rows, what the run is, its seconds and memory) of two runs for each size."""
    peaks = []
    for rows in sizes:
        out = work / "out"
        refused = run_child("collect", "--child", "refuse", rows, work / "rows.csv", out)
        peaks.append((rows, "all refused", refused))
        journaled = run_child("collect", "--child", "journal", rows, work / "rows.csv", out)
        peaks.append((rows, "all known", journaled))
        shutil.rmtree(out)
    return peaks


def child(task: str, *arguments: str) -> object:
    """Run one task in this process."""
    if task == "serve":
        return asyncio.run(serve())
    if task == "fetch":
        name, source, out, connections = arguments
        client = veduta if name == VEDUTA else bare
        return client(Path(source), Path(out), int(connections))
    rows, source, out = arguments
    run = collect_refused if task == "refuse" else collect_journaled
    return run(int(rows), Path(source), Path(out))


class _PhotoServer(asyncio.Protocol):
    """Answers each request with one write."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1]
        number = int(path[1:].split(b".")[0]) % len(self._answers)
        self._transport.write(self._answers[number])  # type: ignore[attr-defined]


async def serve() -> None:
    """Print the port and serve until the process is killed."""
    from PIL import Image

    answers = []
    for seed in range(SERVED_PHOTOS):
        rng = np.random.default_rng(seed)
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = io.BytesIO()
        noise.resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        body = file.getvalue()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        answers.append(head.encode() + body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _PhotoServer(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def veduta(source: Path, out: Path, connections: int) -> dict[str, float]:
    import pyarrow as pa
    import pyarrow.parquet

    from veduta.collect import Settings, collect

    # Imports are not timed. This call imports pandas if it is installed.
    pa.table({"a": ["b"]})

    settings = Settings(
        connections=connections, per_host=connections, allow_private=True, decode=False
    )
    started = time.perf_counter()
    summary = collect([source], out, settings)
    if summary.failed:
        raise RuntimeError(str(summary.examples))
    return {"seconds": time.perf_counter() - started}


def bare(source: Path, out: Path, connections: int) -> dict[str, float]:
    import csv

    import aiohttp

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            with source.open(newline="") as lines:
                rows = csv.reader(lines)
                next(rows)

                async def work() -> None:
                    for name, url, label in rows:
                        async with session.get(url) as response:
                            response.raise_for_status()
                            data = await response.read()
                        folder = out / label
                        folder.mkdir(parents=True, exist_ok=True)
                        (folder / f"{name}.jpg").write_bytes(data)

                await asyncio.gather(*(work() for _ in range(connections)))

    started = time.perf_counter()
    asyncio.run(run())
    return {"seconds": time.perf_counter() - started}


def collect_refused(rows: int, source: Path, out: Path) -> dict[str, float]:
    """Write a CSV whose rows are all refused, and collect it."""
    with source.open("w") as lines:
        lines.write("id,url,landmark_id\n")
        for row in range(rows):
            url = f"ftp://h/{row}.jpg" if row % 2 else f"http://127.0.0.1/some/place/{row}.jpg"
            lines.write(f"{row:016x},{url},{row % (1 + rows // 20)}\n")
    return collect_without_fetching(source, out, rows)


def collect_journaled(rows: int, source: Path, out: Path) -> dict[str, float]:
    """Collect the rows of `collect_refused` again; the journal says every second is collected."""
    for number in range(SHARED_FILES):
        (out / f"{number}.jpg").write_bytes(b"photo")
    journal = out / ".veduta-collect/journal"
    draft = journal.with_name("draft")
    with journal.open("rb") as lines, draft.open("wb") as changed:
        changed.write(next(lines))
        for row, line in enumerate(lines):
            entry = json.loads(line[34:])
            content = 0
            if not row % 2:
                content = row
                entry |= {
                    "outcome": "collected",
                    "error": None,
                    "height": 480,
                    "format": "JPEG",
                    "hash": f"{row:016x}" + "5" * 48,
                    "path": f"{row % SHARED_FILES}.jpg",
                    "bytes": 5,
                    "width": 640,
                }
            text = json.dumps({name: value for name, value in entry.items() if value is not None})
            changed.write(line[:17] + f"{content:016x} {text}\n".encode())
    draft.replace(journal)
    return collect_without_fetching(source, out, rows)


def collect_without_fetching(source: Path, out: Path, rows: int) -> dict[str, float]:
    """Collect rows none of which has to be fetched; return seconds and memory."""
    import pyarrow.parquet  # noqa: F401

    from veduta.collect import collect

    start = process_memory("VmRSS")
    started = time.perf_counter()
    summary = collect([source], out)
    seconds = time.perf_counter() - started
    if summary.failed + summary.already != rows or summary.collected:
        raise RuntimeError(str(summary))
    return {"seconds": seconds, "start": start, "peak": process_memory("VmHWM")}


if __name__ == "__main__":
    main()
