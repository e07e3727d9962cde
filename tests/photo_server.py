"""A Web server on the loopback address. The path of a request says how it misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from time import time

import brotli
import numpy as np
from PIL import Image

MEGABYTE = 1 << 20


def photo(number: int, kind: str = "JPEG", side: int = 16) -> bytes:
    """Return a small photo, a different one for each number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pixel_bomb(side: int = 60_000) -> bytes:
    """Return a PNG of few bytes whose header claims `side` pixels in width and height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


class PhotoServer:
    """A server on its own thread, as a context manager. It counts the requests of each path."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.times: dict[str, list[float]] = {}
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.delay = 0.0
        self._photos: dict[int, bytes] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> PhotoServer:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._converse(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    path = head[0].split(" ")[1].lstrip("/")
                    self.headers[path] = dict(
                        line.lower().split(": ", 1) for line in head[1:] if line
                    )
                    self.requests[path] += 1
                    self.times.setdefault(path, []).append(time())
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                    try:
                        if self.delay:
                            await asyncio.sleep(self.delay)
                        again = await self._answer(path, writer)
                    finally:
                        self.at_once -= 1
                    if not again:
                        return
        finally:
            writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """Answer, and return whether the connection can be used again."""
        what, _, rest = path.partition("/")
        what = what.replace("-", "_")
        if what == "photo":
            return await self._send(path, writer, self._photo(int(rest.partition(".")[0])))
        how = getattr(self, f"_do_{what}", None)
        if how is not None:
            done = await how(path, rest, writer)
            return bool(done)
        return await self._send(path, writer, b"no such page", status="404 Not Found")

    def _photo(self, number: int) -> bytes:
        if number not in self._photos:
            self._photos[number] = photo(number)
        return self._photos[number]

    async def _send(
        self,
        path: str,
        writer: asyncio.StreamWriter,
        body: bytes,
        status: str = "200 OK",
        kind: str = "image/jpeg",
        length: int | None = None,
        **more: str,
    ) -> bool:
        declared = len(body) if length is None else length
        await self._head(writer, status, Content_Type=kind, Content_Length=str(declared), **more)
        await self._body(path, writer, body)
        return declared == len(body)

    async def _head(self, writer: asyncio.StreamWriter, status: str, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()

    async def _body(self, path: str, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent[path] += len(data)

    # One method for each kind of answer. It returns whether the connection can be used again.

    async def _do_slow(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        data = self._photo(1)
        await self._head(writer, "200 OK", Content_Length=str(len(data)))
        for at in range(0, len(data), 200):
            await self._body(path, writer, data[at : at + 200])
            await asyncio.sleep(0.01)
        return True

    async def _do_drip(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        await self._head(writer, "200 OK", Content_Length="100000")
        await self._body(path, writer, photo(1)[:100])
        while True:
            await self._body(path, writer, b"\0")
            await asyncio.sleep(0.02)

    async def _do_stall(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        data = self._photo(1)
        await self._head(writer, "200 OK", Content_Length=str(len(data)))
        await self._body(path, writer, data[:100])
        await asyncio.sleep(60)
        return False

    async def _do_silent(self, *_: object) -> bool:
        await asyncio.sleep(60)
        return False

    async def _do_broken(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Break off in the middle, the first `rest` times."""
        if self.requests[path] > int(rest):
            return await self._send(path, writer, self._photo(1))
        data = self._photo(1)
        await self._head(writer, "200 OK", Content_Length=str(len(data)))
        await self._body(path, writer, data[: len(data) // 2])
        writer.transport.abort()
        return False

    async def _do_huge(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        await self._head(writer, "200 OK", Content_Type="image/jpeg", Transfer_Encoding="chunked")
        piece = self._photo(1) + bytes(MEGABYTE // 4)
        while True:
            await self._body(path, writer, b"%x\r\n%s\r\n" % (len(piece), piece))

    async def _do_declared(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Declare `rest` bytes, send a few, and keep the connection open."""
        await self._head(writer, "200 OK", Content_Type="image/jpeg", Content_Length=rest)
        await self._body(path, writer, self._photo(1))
        await asyncio.sleep(60)
        return False

    async def _do_too_little(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        """Declare more bytes than are sent, and close."""
        data = self._photo(1)
        return await self._send(path, writer, data, length=len(data) + 100)

    async def _do_too_much(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        """Declare fewer bytes than are sent."""
        data = self._photo(1)
        return await self._send(path, writer, data, length=len(data) - 100)

    async def _do_as_text(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, self._photo(2), kind="text/html; charset=utf-8")

    async def _do_html(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        page = b"<!DOCTYPE html><title>Sorry</title>" + b"<p>not here any more</p>" * 1000
        return await self._send(path, writer, page)

    async def _do_svg(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, b"<svg xmlns='http://www.w3.org/2000/svg'/>")

    async def _do_video(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        await self._head(writer, "200 OK", Transfer_Encoding="chunked")
        piece = b"\x1aE\xdf\xa3" + bytes(MEGABYTE)
        while True:
            await self._body(path, writer, b"%x\r\n%s\r\n" % (len(piece), piece))

    async def _do_cut(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, photo(3, side=64)[:-300])

    async def _do_bomb(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, pixel_bomb())

    async def _do_empty(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, b"")

    async def _do_large(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Send a photo and `rest` megabytes of zeros, which a JPEG decoder ignores."""
        return await self._send(path, writer, self._photo(4) + bytes(int(rest) * MEGABYTE))

    async def _do_png(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, photo(5, "PNG", side=300))

    async def _do_chunked(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        data = self._photo(6)
        await self._head(writer, "200 OK", Transfer_Encoding="chunked")
        for at in range(0, len(data), 100):
            piece = data[at : at + 100]
            await self._body(path, writer, b"%x\r\n%s\r\n" % (len(piece), piece))
        await self._body(path, writer, b"0\r\n\r\n")
        return True

    async def _do_gzip(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        bomb = self._photo(7) + bytes((20 if rest == "bomb" else 0) * MEGABYTE)
        data = {
            "photo": gzip.compress(self._photo(7)),
            "zlib": zlib.compress(self._photo(8)),
            "bomb": gzip.compress(bomb),
            "cut": gzip.compress(self._photo(7))[:-20],
            "damaged": b"\x1f\x8b\x08\0" + bytes(range(256)) * 20,
        }[rest]
        encoding = "deflate" if rest == "zlib" else "gzip"
        return await self._send(path, writer, data, Content_Encoding=encoding)

    async def _do_brotli(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        bomb = self._photo(7) + bytes((20 if rest == "bomb" else 0) * MEGABYTE)
        data = brotli.compress(bomb, quality=1)
        data = {"damaged": b"whatever", "cut": data[:-20]}.get(rest, data)
        return await self._send(path, writer, data, Content_Encoding="br")

    async def _do_encoded(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Send a plain photo, one byte first, and call its Content-Encoding `rest`."""
        data = self._photo(12)
        encoding = rest.partition("?")[0]
        length = str(len(data))
        await self._head(writer, "200 OK", Content_Length=length, Content_Encoding=encoding)
        await self._body(path, writer, data[:1])
        await self._body(path, writer, data[1:])
        return True

    async def _do_raw_deflate(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        compressor = zlib.compressobj(wbits=-15)
        data = compressor.compress(self._photo(8)) + compressor.flush()
        return await self._send(path, writer, data, Content_Encoding="deflate")

    async def _do_text_as(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, b"whatever" * 20, Content_Encoding=rest)

    async def _do_status(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """For `status/503/2`, send that status twice and then a photo."""
        status, _, times = rest.partition("/")
        if self.requests[path] > int(times.partition("?")[0] or 10**9):
            return await self._send(path, writer, self._photo(9))
        return await self._send(path, writer, b"sorry", status=f"{status} Sorry")

    async def _do_later(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Send 429 with Retry-After the first time. `rest` is the seconds, or "date"."""
        if self.requests[path] > 1:
            return await self._send(path, writer, self._photo(10))
        when = formatdate(time() + 1.5, usegmt=True) if rest == "date" else rest
        return await self._send(path, writer, b"", status="429 Slow down", Retry_After=when)

    async def _do_robots(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        tag = rest.replace("_", " ")
        return await self._send(path, writer, self._photo(11), X_Robots_Tag=tag)

    async def _do_to(self, path: str, rest: str, writer: asyncio.StreamWriter) -> bool:
        """Redirect to the rest of the path."""
        return await self._send(path, writer, b"", status="302 Found", Location=rest)

    async def _do_loop(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        return await self._send(path, writer, b"", status="301 Moved", Location=f"/{path}")

    async def _do_garbage(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        await self._body(path, writer, b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        return False

    async def _do_escape(self, path: str, _: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 404 \x1b[31mred\xff\x07\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return True

    async def _do_reset(self, _: str, __: str, writer: asyncio.StreamWriter) -> bool:
        writer.transport.abort()
        return False


@contextlib.contextmanager
def serving() -> Iterator[PhotoServer]:
    """Yield a running server."""
    with PhotoServer() as server:
        yield server
