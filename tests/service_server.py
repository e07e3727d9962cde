"""A service that the real command serves, and a client that sends what a test asks for."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiny import save_view

import veduta

API = "/api/v1"
JSON = "application/json"


def made_index(home: Path, *, scenes: int = 3, views: int = 4) -> Path:
    """Index photos of a few scenes, each in a folder of its own, and return the index."""
    for scene in range(scenes):
        for view in range(views):
            file = home / f"photos/place{scene}/{scene}-{view}.png"
            save_view(file, scene, view, noise=0.3)
    with veduta.create(home / "places.veduta", encoder="fast") as index:
        index.add(home / "photos", labels="folders")
    return home / "places.veduta"


def form(photos: list[bytes], options: Any = None, name: str = "q.png") -> tuple[bytes, str]:
    """Return the body and the content type of a form with photos."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + photo
        + b"\r\n"
        for photo in photos
    ]
    if options is not None:
        text = options if isinstance(options, str) else json.dumps(options)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\n\r\n'
        parts.append(f"{head}{text}\r\n".encode())
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


@dataclass
class Answer:
    """What the service answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running service."""

    url: str
    process: subprocess.Popen[str]
    key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        **headers: str,
    ) -> Answer:
        """Send one request. `path` is below the API unless it begins with `//`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = content_type
        target = path[1:] if path.startswith("//") else API + path
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, data, sent)
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, got, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def post_form(
        self, path: str, *photos: bytes, options: Any = None, name: str = "q.png"
    ) -> Answer:
        body, content_type = form(list(photos), options, name)
        return self.ask("POST", path, body, content_type=content_type)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[Server]:
    """Run `veduta serve` on a free port until the end of the block."""
    command = [
        sys.executable,
        "-m",
        "veduta",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        "--json",
    ]
    with tempfile.TemporaryFile(mode="w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not line.rstrip().endswith("}"):
            line += process.stdout.readline()
        try:
            if line:
                told = json.loads(line)
                yield Server(told["url"], process, told["key"])
        finally:
            process.terminate()
            process.communicate(timeout=20)
        log.seek(0)
        assert (logged := log.read()) == "", logged
        assert line
