"""What `veduta collect` says in a request and to whom: headers, the referer, a proxy, hints."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from collecting import QUICK
from photo_server import PhotoServer, photo, serving

from veduta.cli.main import run
from veduta.collect import Settings, collect
from veduta.collect.request_headers import parse_headers
from veduta.errors import DatasetError


class TestHeaders:
    def test_they_are_sent(self, gather, server: PhotoServer) -> None:
        gather(
            {"a": "photo/1"},
            headers=("X-Api-Key: abc", "Accept-Language:  de, en;q=0.5 "),
            referer="https://example.org/page",
            user_agent="my-study/1.0",
        )
        sent = server.headers["photo/1"]
        assert sent["x-api-key"] == "abc"
        assert sent["accept-language"] == "de, en;q=0.5"
        assert sent["referer"] == "https://example.org/page"
        assert sent["user-agent"] == "my-study/1.0"
        assert "cookie" not in sent and "authorization" not in sent

    def test_they_do_not_follow_a_redirect_to_another_host(self, gather, server) -> None:
        headers = ("Authorization: Bearer abc", "Cookie: s=1", "X-Api-Key: k")
        with serving() as other:
            gather({"a": f"to/{other.url('photo/1')}"}, headers=headers)
            assert server.headers[f"to/{other.url('photo/1')}"]["authorization"] == "bearer abc"
            assert not {"authorization", "cookie", "x-api-key"} & other.headers["photo/1"].keys()

    def test_they_follow_a_redirect_on_the_same_host(self, gather, server: PhotoServer) -> None:
        gather({"a": "to//photo/1"}, headers=("Authorization: Bearer abc",))
        assert server.headers["photo/1"]["authorization"] == "bearer abc"

    def test_a_password_is_not_sent_to_two_hosts(self, gather, server: PhotoServer) -> None:
        wanted = {"a": "photo/1", "b": "http://127.0.0.2:9/b.jpg"}
        with pytest.raises(DatasetError, match="collect each host by itself"):
            gather(wanted, headers=("cookie: s=1",))
        assert server.connections == 0

    def test_line_breaks_are_refused(self) -> None:
        for line in ("X: a\r\nY: b", "X: a\nb", "X\n: a", "X: \0", "X: \x1b[2J", ": a", "X"):
            with pytest.raises(ValueError, match="not of the form"):
                parse_headers([line])


class TestHints:
    @pytest.mark.parametrize("status", [401, 403, 429])
    def test_a_denied_row_is_told_once_with_the_options(
        self, server: PhotoServer, tmp_path: Path, capsys: Any, status: int
    ) -> None:
        file = tmp_path / "a.txt"
        urls = [server.url("photo/1"), *(server.url(f"status/{status}/99?{n}") for n in range(3))]
        file.write_text("\n".join(urls))
        arguments = ["collect", str(file), "--out", str(tmp_path / "out"), "--allow-private"]
        assert run([*arguments, "--retries", "0"]) == 0
        printed = capsys.readouterr().out
        assert printed.count("--user-agent") == 1
        assert "3 rows denied (status 401, 403 or 429)" in printed
        for option in ("--user-agent", "--referer", "--header"):
            assert option in printed
        assert all(len(line) <= 80 for line in printed.splitlines()[:-3])

    def test_nothing_is_told_without_need(self, server, tmp_path: Path, capsys: Any) -> None:
        file = tmp_path / "a.txt"
        file.write_text(f"{server.url('photo/1')}\n{server.url('gone')}")
        run(["collect", str(file), "--out", str(tmp_path / "out"), "--allow-private"])
        assert "--user-agent" not in capsys.readouterr().out


class Proxy:
    """A proxy that answers every request with a photo, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                proxy.headers.append({name.lower(): text for name, text in self.headers.items()})
                if self.path.endswith("/inside"):
                    self.send_response(302)
                    self.send_header("Location", "http://inside.example/a.jpg")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(photo(1))))
                self.end_headers()
                self.wfile.write(photo(1))

            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                self.send_error(407)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://me:secret@127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


ADDRESSES = {"photos.example": "8.8.8.8", "inside.example": "10.0.0.1", "127.1": "127.0.0.1"}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    def lookup(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESSES[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    running = Proxy()
    yield running
    running.close()


class TestProxy:
    def test_it_makes_the_connections_and_private_hosts_stay_refused(self, gather, proxy) -> None:
        done = gather(
            {
                "good": "http://photos.example/a.jpg",
                "literal": "http://127.1/a.jpg",
                "private": "http://inside.example/a.jpg",
                "redirected": "http://photos.example/inside",
                "unknown": "http://nobody.example/a.jpg",
            },
            proxy=proxy.url,
            allow_private=False,
        )
        assert done.outcomes() == {
            "good": "collected",
            "literal": "refused",
            "private": "refused",
            "redirected": "refused",
            "unknown": "unreachable",
        }
        assert done["private"]["error"] == "10.0.0.1 is not a public address"
        assert done["unknown"]["error"] == "no such host"
        assert sorted(proxy.asked) == [
            "http://photos.example/a.jpg",
            "http://photos.example/inside",
        ]
        assert proxy.headers[0]["proxy-authorization"].startswith("Basic ")

    def test_allow_private_leaves_the_names_to_the_proxy(self, gather, proxy) -> None:
        done = gather({"a": "http://nobody.example/a.jpg"}, proxy=proxy.url)
        assert done["a"]["outcome"] == "collected"

    def test_a_proxy_that_refuses_or_is_not_there(self, gather, proxy) -> None:
        wanted = {"a": "https://photos.example/a.jpg"}
        row = gather(wanted, proxy=proxy.url, retries=0)["a"]
        assert (row["outcome"], row["error"]) == (
            "unreachable",
            "the proxy refused, with status 407",
        )
        port = proxy.url.rpartition(":")[2]
        proxy.close()
        row = gather(wanted, proxy=f"http://me:secret@127.0.0.1:{port}", retries=0)["a"]
        assert row["outcome"] == "unreachable"
        assert row["error"].startswith("no connection to the proxy: ")
        row = gather(wanted, proxy="http://nobody.example:9", retries=0)["a"]
        assert row["error"] == "no connection to the proxy: no such host"

    def test_the_password_of_the_proxy_is_never_written(self, gather, proxy, tmp_path) -> None:
        gather({"a": "https://photos.example/a.jpg"}, proxy=proxy.url, retries=0)
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert written and not any(b"secret" in data for data in written)

    def test_the_environment_names_no_proxy(
        self, gather, monkeypatch: pytest.MonkeyPatch, server: PhotoServer
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert gather({"a": "photo/1"})["a"]["outcome"] == "collected"


class TestMinSize:
    def test_small_photos_are_told_and_not_kept(self, gather, server: PhotoServer) -> None:
        done = gather({"small": "photo/1", "large": "png"}, min_size=17)
        assert done.outcomes() == {"small": "too-small", "large": "collected"}
        row = done["small"]
        assert row["error"] == "24 × 16 pixels, the short side is below 17"
        assert (row["width"], row["height"], row["path"]) == (24, 16, None)
        assert done.summary.outcomes == {"too-small": 1, "collected": 1}
        assert not list(done.folder.rglob("small.*"))

    def test_the_size_is_that_of_the_photo_before_it_is_scaled_down(self, gather) -> None:
        done = gather({"large": "png", "small": "photo/1"}, min_size=300, resize=20)
        assert done.outcomes() == {"large": "collected", "small": "too-small"}
        assert (done["large"]["width"], done["large"]["height"]) == (20, 19)

    def test_a_lower_limit_lets_the_next_run_try_again(self, gather, server) -> None:
        for limit, requests, outcome in (
            (100, 1, "too-small"),
            (17, 1, "too-small"),
            (16, 2, "collected"),
        ):
            done = gather({"a": "photo/1"}, min_size=limit)
            assert done["a"]["outcome"] == outcome
            assert server.requests["photo/1"] == requests


def test_a_state_folder_that_is_a_link_is_refused(server: PhotoServer, tmp_path: Path) -> None:
    """Its drafts are removed at the start, which must not happen elsewhere."""
    (tmp_path / "victim/drafts").mkdir(parents=True)
    (tmp_path / "victim/drafts/mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.veduta-collect").symlink_to(tmp_path / "victim")
    (tmp_path / "a.txt").write_text(server.url("photo/1"))
    with pytest.raises(DatasetError, match="a link, not a folder of collect"):
        collect([tmp_path / "a.txt"], tmp_path / "out", Settings(**QUICK))
    assert (tmp_path / "victim/drafts/mine.txt").read_text() == "mine"
