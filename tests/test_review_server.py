"""The server of the review lets nobody else in, and answers the page."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from review_server import STATIC, ReviewServer, findings_file
from tiny import save

from veduta.cli.main import run
from veduta.errors import DatasetError, VedutaError
from veduta.web import review

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("uvicorn", reason="the extra veduta[web] is not installed")


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "t/a.png", 1)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["review", str(tmp_path), "--no-open"]) == 3
    assert "pip install 'veduta[web]'" in capsys.readouterr().err


def test_outputs_do_not_overwrite_inputs(tmp_path: Path) -> None:
    save(tmp_path / "t/a.png", 1)
    found = findings_file(tmp_path)
    with pytest.raises(DatasetError, match="the review reads it"):
        review(tmp_path / "t/..", findings=found, out=found)
    with pytest.raises(DatasetError, match="not a folder; make it first"):
        review(tmp_path, out=tmp_path / "no/out.csv")
    (tmp_path / "x-labels.csv").write_text("path,label\nt/a.png,t\n")
    with pytest.raises(DatasetError, match=r"x-labels\.csv: the review reads it"):
        review(tmp_path / "x-labels.csv", out=tmp_path / "x.csv")


def test_a_taken_port_is_told(tmp_path: Path, served: Callable[..., ReviewServer]) -> None:
    save(tmp_path / "t/a.png", 1)
    port = served(tmp_path).access.port
    with pytest.raises(VedutaError, match=f"port {port}: .*name another with --port"):
        review(tmp_path, out=tmp_path / "other.csv", port=port)


def test_nothing_of_the_server_is_loaded_before_it_runs() -> None:
    code = (
        "import sys, veduta.web, veduta.cli.review; print({'fastapi', 'uvicorn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_only_who_has_the_address_gets_in(
    hostile_dataset: Path, served: Callable[..., ReviewServer]
) -> None:
    server = served(hostile_dataset)
    paths = ["/", "/static/review.js", "/api/classes", "/api/classes/0", "/photo/small/0"]
    for path in [*paths, "/?token=", "/?token=wrong", "/?"]:
        status, body, headers = server.ask(path)
        assert status == 403, path
        assert b"address" in body and "set-cookie" not in headers
    for path in ("/api/step", "/api/undo", "/api/finish"):
        assert server.ask(path, {"decisions": []})[0] == 403
    assert not server.files.decisions.exists()

    status, _, headers = server.ask(f"/?token={server.access.token}")
    assert status == 200
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    assert server.access.token not in headers["set-cookie"]
    assert server.access.page_key not in headers["set-cookie"]
    assert f"Path={server.access.path_prefix};" in headers["set-cookie"]
    server.cookie = headers["set-cookie"].split(";")[0]
    assert all(server.ask(path)[0] == 200 for path in paths)
    assert server.ask("/static/review.js", folder="/")[0] == 403
    assert server.ask("/", folder="/another/")[0] == 403
    server.cookie += "x"
    assert server.ask("/")[0] == 403


def test_a_ticket_is_good_for_one(
    hostile_dataset: Path, served: Callable[..., ReviewServer]
) -> None:
    server = served(hostile_dataset)
    path = server.access.single_use_url().partition(f":{server.access.port}")[2]
    assert server.ask(path)[0] == 200
    assert server.ask(path)[0] == 403
    assert server.ask(f"/?token={server.access.token}")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": ""}, 400),
        ({"Host": "[::1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"X_Veduta_Page": "", "X-Veduta-Page": ""}, 403),
        ({"X-Veduta-Page": "wrong"}, 403),
        ({"Cookie": "a=b; ;;=\x7f"}, 403),
        ({"Transfer-Encoding": "chunked", "Content-Length": ""}, 413),
    ],
)
def test_other_pages_cannot_act(
    hostile_dataset: Path, served: Callable[..., ReviewServer], headers: dict[str, str], status: int
) -> None:
    server = served(hostile_dataset)
    server.enter()
    body = {"decisions": [{"photo": 0, "verdict": "drop"}]}
    journal = server.files.journal.read_bytes()
    assert server.ask("/api/step", body, **headers)[0] == status
    assert server.files.journal.read_bytes() == journal
    assert server.ask("/api/step", body)[0] == 200, "the page itself can"
    assert server.ask("/api/step", body, Host=f"localhost:{server.access.port}")[0] == 200


def test_headers_shut_the_page_in(
    hostile_dataset: Path, served: Callable[..., ReviewServer]
) -> None:
    server = served(hostile_dataset)
    server.enter()
    for path in ("/", "/static/review.js", "/api/classes", "/nothing", "/photo/small/0"):
        _, _, headers = server.ask(path)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    page = server.ask("/")[1].decode()
    assert not re.search(r"\son\w+=|<script>|style=|https?:", page)
    for file in filter(Path.is_file, STATIC.iterdir()):
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|innerHTML|eval\(|@import", text), file.name


def test_no_path_gets_out(hostile_dataset: Path, served: Callable[..., ReviewServer]) -> None:
    server = served(hostile_dataset)
    server.enter()
    for path in (
        "/static/../review.py",
        "/static/..%2freview.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/etc/passwd",
        "//etc/passwd",
        "/photo/small/..%2f..%2fetc",
        "/photo/small/-1",
        "/photo/small/999999",
        f"/photo/small/{10**30}",
        "/photo/huge/0",
        "/photo/other/small/0",
        "/api/classes/-1",
        "/api/classes/9",
        "/docs",
        "/openapi.json",
    ):
        assert server.ask(path)[0] in (404, 422), path


@pytest.mark.slow
@pytest.mark.parametrize(
    "decisions",
    [
        [{"photo": 99, "verdict": "drop"}],
        [{"photo": -1, "verdict": "drop"}],
        [{"photo": 0, "verdict": "drop"}, {"photo": 99, "verdict": "drop"}],
        [{"photo": "0", "verdict": "drop"}],
        [{"photo": 0, "verdict": "burn"}],
        [{"photo": 0, "verdict": "relabel"}],
        [{"photo": 0, "verdict": "relabel", "label": " a\n"}],
        [{"photo": 0, "verdict": "keep", "label": "a"}],
        [{"photo": 0, "verdict": "keep", "path": "/etc"}],
        [{"photo": 0}],
        {},
    ],
)
def test_steps_that_make_no_sense_change_nothing(
    hostile_dataset: Path, served: Callable[..., ReviewServer], decisions: Any
) -> None:
    server = served(hostile_dataset)
    server.enter()
    before = server.files.journal.read_bytes()
    assert server.ask("/api/step", {"decisions": decisions})[0] in (404, 422)
    assert server.ask("/api/step", b"{")[0] == 422
    for value in (
        b"1e400",
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b"9" * 5000,
        b"[[[]]]",
        b'"\\u0000"',
    ):
        for body in (
            b'{"decisions": [{"photo": %s, "verdict": "keep"}]}' % value,
            b'{"decisions": [{"photo": 0, "verdict": %s}]}' % value,
            b'{"decisions": [{"photo": 0, "verdict": "relabel", "label": %s}]}' % value,
            b'{"decisions": %s}' % value,
            value,
        ):
            status, answer, _ = server.ask("/api/step", body)
            assert status in (400, 422) and "detail" in answer, (body, status, answer)
        for path in ("/api/undo", "/api/finish"):
            body = b'{"step": %s, "stop": %s}' % (value, value)
            status, answer, _ = server.ask(path, body)
            assert status in (400, 422) and "detail" in answer, (body, status, answer)
    assert server.ask("/api/step", b"[" * 100_000)[0] in (400, 422)
    assert server.ask("/api/step", b" " * (8 * 2**20 + 1))[0] == 413
    assert server.files.journal.read_bytes() == before


def test_photos_are_made_anew(hostile_dataset: Path, served: Callable[..., ReviewServer]) -> None:
    server = served(hostile_dataset)
    server.enter()
    gate, tower = (server.ask(f"/api/classes/{number}")[1]["photos"] for number in (0, 1))
    assert [photo["name"] for photo in gate] == ["gate/g.jpg"]
    assert b"secret" in (hostile_dataset / "gate/g.jpg").read_bytes()
    for size in ("small", "large"):
        status, jpeg, headers = server.ask(f"/photo/{size}/{gate[0]['number']}")
        assert status == 200 and headers["content-type"] == "image/jpeg"
        assert b"secret" not in jpeg
        assert Image.open(io.BytesIO(jpeg)).size == (48, 32)
    broken = next(photo for photo in tower if "broken" in photo["name"])
    status, body, _ = server.ask(f"/photo/small/{broken['number']}")
    assert status == 422 and "JPEG" in body["detail"]
    assert str(hostile_dataset) not in body["detail"]


def test_undo_twice_at_once_takes_back_one(
    hostile_dataset: Path, served: Callable[..., ReviewServer]
) -> None:
    server = served(hostile_dataset)
    server.enter()
    for number in (0, 1):
        server.ask("/api/step", {"decisions": [{"photo": number, "verdict": "drop"}]})
    assert server.ask("/api/undo", {"step": 2})[1]["steps"] == 1
    assert server.ask("/api/undo", {"step": 2})[1] == {"steps": 1, "changed": []}


def test_a_full_disk_is_told(
    hostile_dataset: Path, served: Callable[..., ReviewServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(hostile_dataset)
    server.enter()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, body, _ = server.ask("/api/step", {"decisions": [{"photo": 0, "verdict": "drop"}]})
    assert status == 507 and "No space left on device" in body["detail"]
    assert server.ask("/api/classes")[1]["steps"] == 0


def test_it_listens_on_this_machine_alone(
    hostile_dataset: Path, served: Callable[..., ReviewServer]
) -> None:
    port = served(hostile_dataset).access.port
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [place for _, place, _, state, *_ in rows if state == "0A"]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [
        f"0100007F:{port:04X}"
    ]
