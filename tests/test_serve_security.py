"""A service answers only those it should, and no client can hold it up or get out of it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_server import API, Server, form, made_index, serving

from veduta.cli.main import run
from veduta.web.keys import SCOPES, KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

PARALLEL_UPLOADS = 1_000

EVIL = "<img src=x onerror=alert(1)>\"'\n\N{RIGHT-TO-LEFT OVERRIDE}.png"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("secure")
    photos = home / "photos"
    made_index(home, scenes=2, views=2)
    (photos / "place0/0-1.png").rename(photos / "place0" / EVIL)
    (home / "secret.txt").write_text("the secret")
    import veduta

    veduta.open(home / "places.veduta").add(photos)
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[str, str]:
    file = KeyFile(home / "keys.json")
    return {scope: file.create(scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def server(home: Path, keys: dict[str, str]) -> Iterator[Server]:
    arguments = ["--require-key", "--keys", home / "keys.json", "--queue", "12"]
    with serving(home / "places.veduta", *arguments, "--root-path", "/photos/") as server:
        server.url = server.url.rstrip("/")
        yield server


def as_(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


ROUTES = {
    ("GET", "/photos"): "search",
    ("GET", "/photos/ids"): "search",
    ("GET", "/facets"): "search",
    ("GET", "/groups"): "search",
    ("GET", "/places"): "search",
    ("GET", "/groups/0"): "search",
    ("GET", "/photos/0"): "search",
    ("GET", "/photos/0/thumbnail"): "search",
    ("GET", "/photos/0/preview"): "search",
    ("GET", "/photos/0/original"): "search",
    ("GET", "/indexes"): "search",
    ("GET", "/indexes/places"): "search",
    ("POST", "/search"): "search",
    ("POST", "/match"): "search",
    ("POST", "/recognize"): "search",
    ("POST", "/explain"): "search",
    ("PATCH", "/photos"): "edit",
    ("PATCH", "/photos/0"): "edit",
    ("DELETE", "/photos"): "edit",
    ("DELETE", "/photos/0"): "edit",
    ("GET", "/jobs"): "admin",
    ("POST", "/jobs/index"): "admin",
    ("GET", "/jobs/1"): "admin",
    ("GET", "/jobs/1/events"): "admin",
    ("DELETE", "/jobs/1"): "admin",
}
OPEN = {"/health", "/ready", "/version", "/session", "/metrics"}


def test_every_route_of_the_document_is_in_the_table(server: Server) -> None:
    document = server.get("/openapi.json").json
    names = {"/photos/0": "/photos/{photo_id}", "/jobs/1": "/jobs/{number}"}
    names |= {"/indexes/places": "/indexes/{name}", "/groups/0": "/groups/{photo_id}"}
    known = set(ROUTES)
    for example, name in names.items():
        known = {(method, path.replace(example, name)) for method, path in known}
    described = {
        (method.upper(), path.removeprefix(API))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert {route for route in described if route[1] not in OPEN} == known


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda one: one.replace("/", "_"))
def test_a_key_of_one_scope_opens_only_its_routes(
    server: Server, keys: dict[str, str], method: str, path: str
) -> None:
    needed = SCOPES.index(ROUTES[method, path])  # type: ignore[arg-type]
    # A body of no known kind: a route that is open refuses it before it does anything.
    body = b"{" if method in ("POST", "PATCH") else None
    for wrong in (None, "", "x", keys["admin"][:-1], keys["admin"] + "x"):
        refused = server.ask(method, path, body, **as_(wrong))
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    for scope, key in keys.items():
        allowed = SCOPES.index(scope) >= needed  # type: ignore[arg-type]
        if allowed and method == "DELETE":
            continue
        answer = server.ask(method, path, body, **as_(key))
        if allowed and path == "/photos/0/original":
            assert (answer.status, answer.json["type"][-11:]) == (403, "NoOriginals")
        elif allowed:
            assert answer.status not in (401, 403)
        else:
            assert answer.status == 403
            assert f"needs one for {ROUTES[method, path]}" in answer.json["detail"]


def test_a_page_keeps_a_key_in_a_cookie_that_no_script_reads(
    server: Server, keys: dict[str, str]
) -> None:
    assert server.post("/session", {"key": "wrong"}).status == 401
    opened = server.post("/session", {"key": keys["search"]})
    cookie = opened.headers["set-cookie"]
    assert opened.json == {"scope": "search"}
    for part in ("HttpOnly", "SameSite=strict", "Path=/photos"):
        assert part in cookie
    sent = {"Cookie": cookie.partition(";")[0]}
    assert server.get("/photos/0", **sent).status == 200
    assert server.ask("PATCH", "/photos/0", {"label": "x"}, **sent).status == 403
    crossed = server.get("/photos/0", **sent, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
    assert crossed.status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "192.168.7.7"}, 200),
        ({"Host": "[fe80::1]:80"}, 200),
        ({"X-Forwarded-For": "10.0.0.1"}, 403),
        ({"Forwarded": "for=10.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_names_sites_and_proxies_are_refused(
    server: Server, headers: dict[str, str], status: int
) -> None:
    answer = server.get("/version", **headers)
    assert answer.status == status
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "evil" not in answer.body.decode()


def test_a_link_of_another_site_changes_nothing(server: Server, keys: dict[str, str]) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", **as_(keys["admin"])}
    for method, path in (("POST", "/jobs/index"), ("DELETE", "/photos/0"), ("PATCH", "/photos/0")):
        body = {} if method != "DELETE" else None
        assert server.ask(method, path, body, **headers).status == 403
    assert server.get("/jobs", **as_(keys["admin"])).json == []


def test_it_answers_below_the_root_path_however_the_proxy_passes_it_on(server: Server) -> None:
    assert server.url.endswith("/photos")
    for path in ("//api/v1/health", "//photos/api/v1/health"):
        assert server.get(path).json == {"status": "ok"}
    assert server.get("//photos2/api/v1/health").status == 404


def test_hostile_names_and_paths_do_not_leave_the_index(
    server: Server, keys: dict[str, str]
) -> None:
    admin = as_(keys["admin"])
    listed = server.get("/photos", **admin)
    assert listed.headers["content-type"] == "application/json"
    names = [one["name"] for one in listed.json["photos"]]
    assert EVIL in names
    for path in ("/photos/..%2F..%2Fsecret.txt", "/photos/%00", "/photos/-1", "/photos/1e3"):
        for kind in ("", "/thumbnail", "/original", "/preview"):
            answer = server.get(path + kind, **admin)
            assert 400 <= answer.status < 500
            assert b"the secret" not in answer.body
    for name in ("..%2F..%2Fsecret.txt", "%2Fetc%2Fpasswd", "%00", "%ff"):
        assert server.get(f"/indexes/{name}", **admin).status == 404
        assert server.get(f"/photos?index={name}", **admin).status == 404
        assert server.get(f"/jobs/{name}", **admin).status == 404
        assert server.get(f"/photos?folder={name}&label={name}", **admin).json["total"] == 0
    answer = server.post_form("/search", b"x", name="\r\nSet-Cookie: a=b\r\n\x1b[31m")
    assert "set-cookie" not in answer.headers


def test_an_original_is_sent_only_as_it_was_indexed(home: Path) -> None:
    file = home / "photos/place1/1-1.png"
    kept = file.read_bytes()
    with serving(home / "places.veduta") as server:
        number = next(
            one["id"] for one in server.get("/photos").json["photos"] if one["path"] == str(file)
        )
        assert server.get(f"/photos/{number}/original").body == kept
        try:
            file.unlink()
            file.symlink_to(home / "secret.txt")
            for kind in ("original", "preview"):
                answer = server.get(f"/photos/{number}/{kind}")
                assert (answer.status, b"the secret" in answer.body) == (410, False)
            boxed = {"photo_id": number, "box": [0, 0, 8, 8]}
            assert server.post("/search", boxed).status == 410
        finally:
            file.unlink()
            file.write_bytes(kept)


def bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in some hundred bytes of header, with a short body."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def test_bombs_and_large_uploads_are_refused(server: Server, keys: dict[str, str]) -> None:
    def search(data: bytes) -> int:
        body, content_type = form([data])
        answer = server.ask(
            "POST", "/search", body, content_type=content_type, **as_(keys["search"])
        )
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status

    assert search(bomb()) == 413
    assert search(bytes(33 * 2**20)) == 413
    assert search(bytes(40 * 2**20)) == 413
    large = json.dumps({"photo_id": 1, "index": "x" * 2**21}).encode()
    assert server.ask("POST", "/search", large, **as_(keys["search"])).status == 413
    nested = ("[" * 100_000).encode()
    assert server.ask("POST", "/search", nested, **as_(keys["search"])).status == 422


async def answers_at_once(
    port: int, body: bytes, content_type: str, count: int, key: str | None = None
) -> Counter[int]:
    """Send the same search many times at once. A client with a thread for each is too slow."""
    head = {
        "Host": "localhost",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **as_(key),
    }
    lines = [f"POST {API}/search HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    request = "\r\n".join([*lines, "", ""]).encode() + body

    async def status() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        number = int(answer.split(maxsplit=2)[1])
        if number == 429:
            retry = next(line for line in answer.splitlines() if b"retry-after" in line.lower())
            assert int(retry.split(b":")[1]) >= 1
        return number

    return Counter(await asyncio.gather(*(status() for _ in range(count))))


@pytest.mark.slow
def test_many_uploads_at_once_are_answered_or_told_to_come_again(
    server: Server, home: Path, keys: dict[str, str]
) -> None:
    photo = (home / "photos/place0/0-0.png").read_bytes()
    body, content_type = form([photo], {"limit": 1, "rerank": "none"})
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(few, min(most, 4096)), most))
    statuses = asyncio.run(
        answers_at_once(server.port, body, content_type, PARALLEL_UPLOADS, keys["search"])
    )
    assert sum(statuses.values()) == PARALLEL_UPLOADS
    assert set(statuses) <= {200, 429}
    assert statuses[200] >= 1
    assert server.get("/health").status == 200


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


@pytest.mark.slow
def test_slow_headers_end_the_connection(server: Server) -> None:
    with connected(server) as silent, connected(server) as dripping:
        silent.sendall(b"GET /api/v1/health HTTP/1.1\r\n")
        started = time.monotonic()
        ended = False
        while not ended and time.monotonic() - started < 25:
            try:
                dripping.sendall(b"G" if time.monotonic() - started < 1 else b"x")
                time.sleep(0.5)
            except OSError:
                ended = True
        assert ended
        assert silent.recv(100) == b""
        assert 8 < time.monotonic() - started < 25
    assert server.get("/health").status == 200


def test_a_client_that_leaves_gives_its_place_back(server: Server, keys: dict[str, str]) -> None:
    head = (
        f"POST {API}/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {keys['search']}\r\nContent-Length: 100\r\n\r\n{{"
    )
    for _ in range(30):  # More than there are places.
        with connected(server) as client:
            client.sendall(head.encode())
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = server.post("/search", {"photo_id": 0, "limit": 1}, **as_(keys["search"]))
        if answer.status == 200:
            break
        time.sleep(0.2)
    assert answer.status == 200


def served_for_others(home: Path, keys: Path, stderr: int) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "veduta", "serve", str(home / "places.veduta"), "--port", "0"),
        *("--host", "0.0.0.0", "--keys", str(keys)),
    ]
    return subprocess.Popen(command, stderr=stderr, text=True)


def told_address(line: str) -> str:
    return line.rsplit(maxsplit=1)[-1].replace("0.0.0.0", "127.0.0.1")


def test_a_terminal_shows_the_first_key_and_the_file_holds_none(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    seen, terminal = os.openpty()
    with served_for_others(home, file, terminal) as process, os.fdopen(seen) as shown:
        lines = [shown.readline() for _ in range(4)]
        key = lines[1].split()[-1]
        server = Server(told_address(lines[0]), process, None)
        assert KeyFile(file).scope_of(key) == "admin"
        assert server.get("/photos").status == 401
        assert server.get("/photos", Authorization=f"Bearer {key}").status == 200
        assert server.get(f"/photos?key={key}").status == 401
        server.get("/health", Host="evil.example")
        process.terminate()
        process.wait()
        os.write(terminal, b"the end\n")
        assert shown.readline() == "the end\n", "no request is logged"
        os.close(terminal)
    assert key not in file.read_text()
    assert os.stat(file).st_mode & 0o077 == 0


def test_a_log_gets_no_key(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with served_for_others(home, file, subprocess.PIPE) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        server = Server(told_address(lines[0]), process, None)
        assert server.get("/photos").status == 401
        assert not file.exists()
        command = shlex.split(lines[1].partition(": ")[2])
        made = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, check=True
        )
        key = made.stdout.strip()
        assert server.get("/photos", Authorization=f"Bearer {key}").status == 200
        process.terminate()
        assert process.stderr.read() == ""
    assert key not in "".join(lines)


def test_read_only_changes_nothing(home: Path) -> None:
    with serving(home / "places.veduta", "--read-only", "--no-originals") as server:
        assert server.ask("PATCH", "/photos/0", {"label": "x"}).status == 403
        assert server.ask("DELETE", "/photos/0").status == 403
        assert server.post("/jobs/index", {}).json["type"] == "urn:veduta:problem:ReadOnly"
        assert server.post("/search", {"photo_id": 0}).status == 200
        assert server.get("/photos/0/original").status == 403


def test_keys_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEDUTA_KEYS", str(tmp_path / "keys.json"))
    assert run(["keys", "list"]) == 0
    assert "There is no key" in capsys.readouterr().err
    assert run(["keys", "create", "edit"]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyFile(tmp_path / "keys.json").scope_of(key) == "edit"
    assert run(["keys", "list", "--json"]) == 0
    (known,) = json.loads(capsys.readouterr().out)
    assert (known["scope"], set(known)) == ("edit", {"id", "scope", "created"})
    assert run(["keys", "revoke", known["id"]]) == 0
    assert KeyFile(tmp_path / "keys.json").scope_of(key) is None
    assert run(["keys", "revoke", known["id"]]) == 3
    assert run(["keys", "create", "everything"]) == 2
    (tmp_path / "keys.json").write_text("{")
    assert run(["keys", "list"]) == 3
    assert "keys cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such.veduta"], 4, "no-such.veduta"),
        (["--root-path", "a b"], 2, "write it like /photos"),
        (["--trust-proxy", "proxy.example"], 2, "write an address like"),
        (["--host", "203.0.113.7", "--port", "1"], 3, "name another with --host"),
    ],
)
def test_wrong_calls_are_told(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    first = [] if "no-such.veduta" in arguments else [str(home / "places.veduta")]
    assert run(["serve", *first, *arguments, "--keys", str(home / "k.json")]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_index_that_does_not_open_is_told_before_anything_is_served(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    damaged = tmp_path / "damaged.veduta"
    damaged.mkdir()
    for file in (home / "places.veduta").glob("*.json"):
        (damaged / file.name).write_bytes(file.read_bytes())
    keys = ["--keys", str(home / "k.json")]
    assert run(["serve", str(damaged), "--port", "0", "--workers", workers, *keys]) == 4
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "veduta repair --index" in told, told


@pytest.mark.slow
def test_several_processes_share_one_address_and_replace_the_dead(home: Path) -> None:
    with serving(home / "places.veduta", "--workers", "2") as server:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert server.get("/ready").status == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        import psutil

        workers = [
            child
            for child in psutil.Process(server.process.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        workers[0].kill()
        for _ in range(10):
            assert server.post("/search", {"photo_id": 0}).status == 200
        changed = server.ask("PATCH", "/photos/0", {"label": "seen by all"})
        assert changed.status == 200
        for _ in range(6):
            assert server.get("/photos/0").json["label"] == "seen by all"
        body, content_type = form([(home / "photos/place0/0-0.png").read_bytes()])
        statuses = asyncio.run(answers_at_once(server.port, body, content_type, 200))
        assert set(statuses) <= {200, 429} and sum(statuses.values()) == 200
    assert not any(worker.is_running() for worker in workers)


def test_a_trusted_proxy_tells_the_scheme_and_needs_a_key(home: Path, keys: dict[str, str]) -> None:
    arguments = ["--keys", home / "keys.json", "--host-name", "photos.example"]
    with serving(home / "places.veduta", *arguments, "--trust-proxy", "127.0.0.1") as server:
        proxied = {"X-Forwarded-For": "203.0.113.9", "Host": "photos.example"}
        assert server.get("/photos", **proxied).status == 401
        for scheme, is_secure in (("https", True), ("http", False)):
            opened = server.post(
                "/session", {"key": keys["search"]}, **proxied, X_Forwarded_Proto=scheme
            )
            assert ("Secure" in opened.headers["set-cookie"]) == is_secure
        assert server.get("/photos", **as_(keys["search"]), **proxied).status == 200
        assert server.get("/health", Host="other.example").status == 421
