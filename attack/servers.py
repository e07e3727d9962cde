"""Answers of hostile Web servers to `veduta collect`."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from collections.abc import Iterable
from pathlib import Path

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, FOUND, INPUT, outside
from attack.material import contents, encoded, photo
from attack.raw_server import RawServer, whole

ROWS = 8
MAX_PHOTO_BYTES = 1_000_000
MAX_PEAK_BYTES = 600_000_000
NAMES = (
    "../../outside",
    "/outside",
    "..\\..\\outside",
    "C:outside",
    "con",
    "a/b",
    ".",
    "..",
    "x" * 400,
    "nul\0byte",
    "\u202egpj",
    "-rf",
    "~root",
    "new\nline",
    "\x1b[31mred",
    "collected.parquet",
    ".veduta-collect",
)
_STATUSES = (
    "200 OK", "200", "999 What", "100 Continue", "204 No Content", "206 Partial Content",
    "301 Moved", "302 Found", "304 Not Modified", "401 No", "403 No", "404 No", "429 Slow",
    "500 No", "503 No", "-1 No", "99999999999 No", "200 \x1b[31mred\x07",
)  # fmt: skip
_HEADERS = (
    "Content-Type: text/html",
    "Content-Type: image/jpeg; charset=\x1b[2J",
    "Content-Disposition: attachment; filename=../../outside.jpg",
    "Content-Encoding: gzip",
    "Content-Encoding: none",
    "Content-Encoding: gzip, gzip, gzip",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Retry-After: 99999999999999999999",
    "Retry-After: -1",
    "Retry-After: Thu, 99 Foo 0000",
    "X-Robots-Tag: noindex\x1b[31m",
    "Set-Cookie: a=b; Domain=.",
    "Link: <file:///etc/passwd>; rel=next",
    "X-Long: " + "y" * 7_000,
    "X-Longer: " + "y" * 70_000,
    ": no name",
    "no colon",
    "Folded: a\r\n b",
    "Content-Length: -5",
    "Content-Length: 99999999999999999999",
    "Content-Length: 10, 20",
    "Content-Length: 0x10",
)


def body(rng: random.Random) -> Iterable[bytes | float]:
    """Yield the body of an answer."""
    jpeg = encoded(photo(rng.randrange(100), (96, 72)), "JPEG")
    kind = rng.randrange(9)
    match kind:
        case 0:
            yield jpeg
        case 1:
            yield jpeg[: rng.randrange(len(jpeg))]
        case 2:  # Slower than the timeout.
            for byte in jpeg[:60]:
                yield bytes([byte])
                yield 0.2
        case 3:  # Without end.
            yield jpeg
            while True:
                yield bytes(1 << 16)
        case 4:
            yield gzip.compress(jpeg + bytes(50_000_000), 9)
        case 5:
            packed = zlib.compress(bytes(10_000_000), 9)
            yield gzip.compress(gzip.compress(packed))
        case 6:
            yield b"ffffffffffffffff\r\n" + jpeg
        case 7:
            yield b"10\r\n" + jpeg + b"\r\nzz\r\n"
        case _:
            yield rng.randbytes(3000)


def answer(seed: str) -> Iterable[bytes | float]:
    """Yield a whole answer, which follows from the seed."""
    rng = random.Random(seed)
    if rng.random() < 0.1:
        yield rng.choice((b"", b"\r\n" * 1000, b"SSH-2.0-x\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n"))
        return
    lines = [f"HTTP/1.{rng.choice('01')} {rng.choice(_STATUSES[:1] * 10 + _STATUSES)}"]
    lines += rng.sample(_HEADERS, rng.randrange(4))
    if rng.random() < 0.2:
        target = rng.choice(
            ("file:///etc/passwd", "ftp://x/", "//", "http://", "http://[::1", "/x" * 5000,
             "javascript:1", "data:image/png;base64,AA", "\r\nX: y", "\x1b[31m", "/loop", "")
        )  # fmt: skip
        lines[0] = "HTTP/1.1 302 Found"
        lines.append(f"Location: {target}")
    yield "\r\n".join([*lines, "Connection: close"]).encode("latin-1") + b"\r\n\r\n"
    yield from body(rng)


def run(case: Case) -> None:
    case.kind = "answers"
    case.tries = ROWS
    good = encoded(photo(case.number), "JPEG")

    def serve(path: str) -> Iterable[bytes | float]:
        if path.startswith("/good"):
            return [whole(good)]
        return answer(f"{case.seed} {case.number} {path}")

    sentinel = case.folder / "sentinel"
    sentinel.mkdir()
    out = sentinel / "a" / "b" / "out"
    out.parent.mkdir(parents=True)
    with RawServer(serve) as server:
        rows = ["id,url,label", f'good,"{server.url("good")}",good']
        for number in range(ROWS):
            name, label = case.rng.choice(NAMES), case.rng.choice((*NAMES, "good"))
            row = [f"{number}{name}" if case.rng.random() < 0.5 else name]
            row += [server.url(f"{number}"), label]
            rows.append(",".join(f'"{cell}"' for cell in row))
        source = case.folder / "list.csv"
        source.write_text("\n".join(rows), encoding="utf-8", errors="surrogatepass")
        ran = outside(
            case, "collect", source, "--out", out, "--allow-private", "--retries", "1",
            "--connect-timeout", "2", "--read-timeout", "2", "--timeout", "5",
            "--max-bytes", str(MAX_PHOTO_BYTES), codes=(DONE, FOUND, INPUT),
        )  # fmt: skip
    if ran.peak_bytes > MAX_PEAK_BYTES:
        raise PromiseBroken(f"it held {ran.peak_bytes / 1e6:,.0f} MB: {ran}")
    stayed_inside(sentinel, out)
    if ran.code == INPUT:
        case.outcome = "the list is refused"
        return
    if ran.code != DONE or not any(file.read_bytes() == good for file in out.rglob("*.jpg")):
        raise PromiseBroken(f"the good photo is not there: {ran}")
    case.outcome = "only photos, in their folder"


def stayed_inside(sentinel: Path, out: Path) -> None:
    """Raise `PromiseBroken` if there are files outside the folder, or that are no photos in it."""
    from veduta.errors import PhotoError
    from veduta.photos import load

    for name in contents(sentinel):
        file = sentinel / name
        if out not in file.parents:
            raise PromiseBroken(f"a file outside: {name}")
        relative = file.relative_to(out)
        if relative.parts[0] == ".veduta-collect" or len(relative.parts) == 1:
            continue
        if file.stat().st_size > MAX_PHOTO_BYTES:
            raise PromiseBroken(f"larger than allowed: {name}")
        try:
            load(file)
        except PhotoError as error:
            raise PromiseBroken(f"no photo: {error}") from error
    if outside_files := [name for name in os.listdir("/") if name.startswith("outside")]:
        raise PromiseBroken(f"files outside: {outside_files}")


ATTACK = Attack(
    inputs=f"{ROWS} hostile answers a case to `collect`: wrong lengths and encodings, bombs, "
    "endless and slow bodies, odd headers; and names that lead out of the folder",
    promise=f"only photos, only in the folder, with at most {MAX_PEAK_BYTES / 1e6:g} MB of memory",
    run=run,
    cases=30,
    seconds=120,
)
