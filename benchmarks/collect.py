"""Collecting from a server on the loopback, beside a bare asynchronous client.

The server (a process of its own, as plain as can be) answers each request with a photo of a few
kilobytes. The bare client is aiohttp with as many workers as connections: each reads an answer
whole and writes it to `folder/name.jpg` with one `write`, nothing else. Veduta does what it always
does, with `--no-decode`: addresses checked, caps, content looked at, BLAKE3, a rename, a journal,
and at the end `collected.parquet`, which counts. They take turns.

Memory: a CSV of a million rows of which none has to be fetched, since all are refused (first run:
half of them ftp:, half loopback addresses), or known from an earlier run to be collected or refused
(second run). The files of that second run are a thousand that many rows share.
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

from benchmarks.report import ROOT, Spread, number, parser, publish, ratios, status, table, verdict

VEDUTA, BARE = "Veduta", "bare aiohttp"
_PHOTOS = 200
_LABELS = 50


def main(arguments: list[str] | None = None) -> None:
    options = parser("collect", str(__doc__).splitlines()[0])
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
    share = ratios(rates[VEDUTA], rates[BARE])
    own = statistics.median(rates[VEDUTA])
    lines = [
        [
            VEDUTA,
            Spread.of(rates[VEDUTA]),
            share,
            verdict(own, 500, at_least=True),
            verdict(round(share.median, 2), 0.9, at_least=True),
        ],
        [BARE, Spread.of(rates[BARE]), "", "", ""],
    ]
    head = ["who", "files/s", "to the bare client", "target", "target of the ratio"]
    least = peaks[0][2]["peak"]
    memory_lines = [
        [
            f"{rows:,} rows: {what}",
            number(facts["seconds"]),
            number(facts["peak"] / 1e6),
            number((facts["peak"] - facts["start"]) / 1e6),
            number((facts["peak"] - least) / (rows - peaks[0][0])) if rows > peaks[0][0] else "",
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
                f"{each:08x},http://127.0.0.1:{port}/{each}.jpg,{each % _LABELS}\n"
                for each in range(files)
            )
        )
        for turn in range(rounds + 1):
            for name in (VEDUTA, BARE):
                out = work / "out"
                facts = started("fetch", name, source, out, connections)
                found = sum(1 for path in out.glob("*/*.jpg") if path.stat().st_size)
                shutil.rmtree(out)
                if found != files:
                    raise RuntimeError(f"{name}: {found} of {files} files")
                if turn:  # the first is for the caches
                    rates[name].append(files / facts["seconds"])
    finally:
        server.kill()
        server.wait()
    return rates


def memory(work: Path, sizes: list[int]) -> list[tuple[int, str, dict[str, float]]]:
    peaks = []
    for rows in sizes:
        out = work / "out"
        refused = started("refuse", rows, work / "rows.csv", out)
        peaks.append((rows, "all refused", refused))
        known = started("know", rows, work / "rows.csv", out)
        peaks.append((rows, "all known", known))
        shutil.rmtree(out)
    return peaks


def started(*arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.collect", "--child", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def child(what: str, *arguments: str) -> object:
    if what == "serve":
        return asyncio.run(serve())
    if what == "fetch":
        name, source, out, connections = arguments
        who = veduta if name == VEDUTA else bare
        return who(Path(source), Path(out), int(connections))
    rows, source, out = arguments
    return (refuse if what == "refuse" else know)(int(rows), Path(source), Path(out))


class _Answering(asyncio.Protocol):
    """One write for each request: as little as a server can do."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1]
        which = int(path[1:].split(b".")[0]) % len(self._answers)
        self._transport.write(self._answers[which])  # type: ignore[attr-defined]


async def serve() -> None:
    from PIL import Image

    answers = []
    for seed in range(_PHOTOS):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        body = file.getvalue()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        answers.append(head.encode() + body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def veduta(source: Path, out: Path, connections: int) -> dict[str, float]:
    import pyarrow as pa
    import pyarrow.parquet

    from veduta.collect import Settings, collect

    pa.table({"a": ["b"]})  # imports are not timed, and this imports pandas where it is installed

    settings = Settings(
        connections=connections, per_host=connections, allow_private=True, decode=False
    )
    began = time.perf_counter()
    done = collect([source], out, settings)
    if done.failed:
        raise RuntimeError(str(done.examples))
    return {"seconds": time.perf_counter() - began}


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

    began = time.perf_counter()
    asyncio.run(run())
    return {"seconds": time.perf_counter() - began}


def refuse(rows: int, source: Path, out: Path) -> dict[str, float]:
    with source.open("w") as lines:
        lines.write("id,url,landmark_id\n")
        for each in range(rows):
            url = f"ftp://h/{each}.jpg" if each % 2 else f"http://127.0.0.1/some/place/{each}.jpg"
            lines.write(f"{each:016x},{url},{each % (1 + rows // 20)}\n")
    return measured(source, out, rows)


def know(rows: int, source: Path, out: Path) -> dict[str, float]:
    """As `refuse`, and every other row stands in the journal as collected."""
    for each in range(1000):
        (out / f"{each}.jpg").write_bytes(b"photo")
    journal = out / ".veduta-collect/journal"
    draft = journal.with_name("draft")
    with journal.open("rb") as lines, draft.open("wb") as changed:
        changed.write(next(lines))
        for each, line in enumerate(lines):
            facts = json.loads(line[34:])
            content = 0
            if not each % 2:
                digest = f"{each:016x}" + "5" * 48
                content = each
                more = {"hash": digest, "path": f"{each % 1000}.jpg", "bytes": 5, "width": 640}
                facts |= {"outcome": "collected", "error": None, "height": 480, "format": "JPEG"}
                facts |= more
            text = json.dumps({name: value for name, value in facts.items() if value is not None})
            changed.write(line[:17] + f"{content:016x} {text}\n".encode())
    draft.replace(journal)
    return measured(source, out, rows)


def measured(source: Path, out: Path, rows: int) -> dict[str, float]:
    import pyarrow.parquet  # noqa: F401

    from veduta.collect import collect

    start = status("VmRSS")
    began = time.perf_counter()
    done = collect([source], out)
    seconds = time.perf_counter() - began
    if done.failed + done.already != rows or done.collected:
        raise RuntimeError(str(done))
    return {"seconds": seconds, "start": start, "peak": status("VmHWM")}


if __name__ == "__main__":
    main()
