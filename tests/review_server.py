"""A review that is served on a thread, as the page talks to it, and its files."""

from __future__ import annotations

import csv
import http.client
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veduta.web import ReviewFiles, review
from veduta.web.review_access import ReviewAccess

EVIL = "<img src=x onerror=document.title='owned'>, \"'\n=1+1\N{RIGHT-TO-LEFT OVERRIDE}.png"
STATIC = Path(__file__).parents[1] / "src/veduta/pages/static"


def findings_file(folder: Path, *lines: str, header: str | None = None) -> Path:
    file = folder / "findings.csv"
    head = header or "photo,kind,score,reason,suggestion,label"
    file.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    return file


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


@dataclass
class ReviewServer:
    """A review that is served on a thread."""

    access: ReviewAccess
    files: ReviewFiles
    thread: threading.Thread
    cookie: str = ""

    def ask(
        self, path: str, body: Any = None, *, folder: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask as the page does; a header given as "" is left out."""
        sent = {
            "Host": f"127.0.0.1:{self.access.port}",
            "Cookie": self.cookie,
            "X-Veduta-Page": self.access.page_key,
        }
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.access.port, timeout=10)
        try:
            inside = (
                path if path.startswith("/?") else (folder or self.access.path_prefix) + path[1:]
            )
            connection.putrequest(
                "GET" if data is None else "POST", inside, skip_host=True, skip_accept_encoding=True
            )
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            content = answer.read()
            got = {name.lower(): value for name, value in answer.getheaders()}
            if "json" in got.get("content-type", ""):
                return answer.status, json.loads(content), got
            return answer.status, content, got
        finally:
            connection.close()

    def enter(self) -> None:
        _, _, headers = self.ask(f"/?token={self.access.token}")
        self.cookie = headers["set-cookie"].split(";")[0]

    def stop(self) -> None:
        if self.thread.is_alive():
            self.cookie = ""
            self.enter()
            self.ask("/api/finish", {"stop": True})
            self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def review_servers(folder: Path) -> Iterator[Callable[..., ReviewServer]]:
    """Yield `serve(dataset, …)`, which serves a review until the end of the block."""
    running: list[ReviewServer] = []

    def serve(dataset: Path, **options: Any) -> ReviewServer:
        ready: queue.Queue[Any] = queue.Queue()
        options.setdefault("out", folder / "out.csv")

        def body() -> None:
            try:
                review(dataset, on_ready=lambda *told: ready.put(told), **options)
            except BaseException as error:
                ready.put(error)
                raise

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        told = ready.get(timeout=20)
        if isinstance(told, BaseException):
            raise told
        running.append(ReviewServer(*told, thread))
        return running[-1]

    yield serve
    for server in running:
        server.stop()
