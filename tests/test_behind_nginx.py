"""A real nginx passes requests on with the documented configuration, under a path and with TLS."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from service_server import JSON, Answer, Server, form, made_index, serving
from tiny import save_view

from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")
pytestmark = [
    pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")
    for program in ("nginx", "openssl")
]

CONFIGURATION = Path(__file__).resolve().parents[1] / "deploy/nginx.conf"
NAME = "photos.example"
# What a distribution has around the file of a site.
AROUND = """
pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/site.conf;
}}
"""


@dataclass
class Proxy:
    """A running nginx, and the service behind it."""

    port: int
    home: Path
    server: Server
    key: str

    @contextmanager
    def asked(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request as a browser at https://photos.example does."""
        sent = {"Host": NAME, "Authorization": f"Bearer {self.key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        unchecked = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=60, context=unchecked
        )
        with closing(connection):
            connection.request(method, path, body, sent)
            with connection.getresponse() as answer:
                yield answer

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request and return the answer."""
        with self.asked(method, path, body, **headers) as answer:
            got = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, got, answer.read())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("nginx")
    made_index(home, scenes=2, views=2)
    return home


@pytest.fixture(scope="module")
def proxy(home: Path) -> Iterator[Proxy]:
    key = KeyFile(home / "keys.json").create("admin")
    arguments = ["--root-path", "/photos", "--host-name", NAME, "--trust-proxy", "127.0.0.1"]
    with serving(home / "places.veduta", "--keys", home / "keys.json", *arguments) as server:
        port = configure(home, server)
        command = ["nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-g", "daemon off;"]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            try:
                wait_for(port)
                yield Proxy(port, home, server, key)
            finally:
                process.terminate()


def configure(home: Path, server: Server) -> int:
    """Write the documented configuration for free ports and a new certificate; return the port."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", f"/CN={NAME}", "-keyout", str(home / "key"), "-out"),
            str(home / "certificate"),
        ],
        check=True,
        capture_output=True,
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    site = CONFIGURATION.read_text("utf-8")
    for documented, here in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/certs/photos.example.pem": str(home / "certificate"),
        "/etc/ssl/private/photos.example.key": str(home / "key"),
        "http://127.0.0.1:8642": f"http://127.0.0.1:{server.port}",
    }.items():
        assert site.count(documented) == 1, documented
        site = site.replace(documented, here)
    (home / "site.conf").write_text(site)
    (home / "nginx.conf").write_text(AROUND.format(home=home))
    return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


def test_it_answers_under_the_path(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/photos/api/v1/ready").json == {"status": "ready"}
    assert proxy.ask("GET", "/photos/api/v1/photos", Authorization="").status == 401
    assert proxy.ask("GET", "/photos/api/v1/photos").json["total"] == 4
    assert proxy.ask("GET", "/photos/api/v1/metrics").status == 404


def test_pages_and_what_they_load_lie_under_the_path(proxy: Proxy) -> None:
    page = proxy.ask("GET", "/photos/evidence", Accept="text/html")
    assert page.status == 200
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.body.decode())
    assert all(address.startswith("/photos/") for address in loaded)
    for address in loaded:
        assert proxy.ask("GET", address).status == 200, address
    assert proxy.ask("GET", "/photos").headers["location"].endswith("/photos/")
    strange = proxy.ask("GET", "/photos/", Accept="text/html", Authorization="")
    assert strange.headers["location"] == "/photos/sign-in?next=%2F"


def test_a_page_keeps_its_key_for_this_path_and_for_https_only(proxy: Proxy) -> None:
    sent = json.dumps({"key": proxy.key}).encode()
    answer = proxy.ask("POST", "/photos/api/v1/session", sent, Content_Type=JSON)
    cookie = answer.headers["set-cookie"]
    assert answer.status == 200
    assert {"Path=/photos", "Secure", "HttpOnly"} <= {part.strip() for part in cookie.split(";")}


def test_a_large_photo_is_searched_with_and_leaves_nothing_on_the_disk_of_nginx(
    proxy: Proxy,
) -> None:
    save_view(proxy.home / "query.png", 1, 7, noise=0.3)
    # A PNG ends at IEND; what follows makes the upload longer than what nginx keeps in memory.
    photo = (proxy.home / "query.png").read_bytes() + bytes(8_000_000)
    body, content_type = form([photo], {"limit": 1})
    found = proxy.ask("POST", "/photos/api/v1/search", body, Content_Type=content_type).json
    assert found["results"][0]["label"] == "place1"
    assert "temporary file" not in (proxy.home / "error.log").read_text()
    body, content_type = form([bytes(32 * 2**20 + 1)])
    refused = proxy.ask("POST", "/photos/api/v1/search", body, Content_Type=content_type).json
    assert (refused["status"], refused["type"]) == (413, "urn:veduta:problem:PhotoTooLarge")


def test_events_of_an_indexing_run_come_one_by_one(proxy: Proxy) -> None:
    job = proxy.ask("POST", "/photos/api/v1/jobs/index", b"{}", Content_Type=JSON).json
    came: list[float] = []
    states = []
    with proxy.asked("GET", f"/photos/api/v1/jobs/{job['id']}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        while line := events.readline():
            if line.startswith(b"data:"):
                came.append(time.monotonic())
                states.append(json.loads(line[5:])["state"])
    assert (states[0], states[-1]) == ("waiting", "done")
    # A run is a process of its own, and starts no faster.
    assert came[-1] - came[0] > 0.1


def test_what_a_client_says_of_its_own_address_is_not_passed_on(proxy: Proxy) -> None:
    sent = json.dumps({"key": proxy.key}).encode()
    lies = {"X_Forwarded_Proto": "http", "X_Forwarded_For": "127.0.0.1"}
    answer = proxy.ask("POST", "/photos/api/v1/session", sent, Content_Type=JSON, **lies)
    assert "Secure" in answer.headers["set-cookie"]
    assert proxy.ask("GET", "/photos/api/v1/ready", Host="other.example").status == 421
