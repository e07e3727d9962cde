"""`veduta collect` against a server that misbehaves, names that try to escape, and kill -9."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from photo_server import MEGABYTE, PhotoServer, photo, serving
from PIL import Image
from tiny import TinyEncoder

from veduta import index
from veduta.cli import main
from veduta.cli.printing import shown
from veduta.collect import Columns, Progress, Settings, Summary, collect, http_client
from veduta.collect import save_photo as saving
from veduta.collect.file_names import FileNames, case_folded, safe_name
from veduta.collect.host_queues import HostQueues
from veduta.collect.journal import Journal
from veduta.collect.outcome import Outcome, Result
from veduta.collect.politeness import back_off, opts_out, retry_after
from veduta.collect.public_addresses import is_public, public_socket
from veduta.collect.response_body import Inflater
from veduta.collect.rows import Row, id_from_url, read_rows
from veduta.errors import DatasetError, StorageFull
from veduta.photos import content_hash, decode, find_photos

QUICK = {
    "allow_private": True,
    "first_wait": 0.01,
    "connect_timeout": 10.0,
    "read_timeout": 10.0,
    "total_timeout": 20.0,
    "retries": 2,
}


@pytest.fixture
def server() -> Iterator[PhotoServer]:
    with serving() as running:
        yield running


class Collected:
    """What a run left: its summary and its table, by id."""

    def __init__(self, summary: Summary, folder: Path) -> None:
        self.summary = summary
        self.folder = folder
        self.rows = pq.read_table(folder / "collected.parquet").to_pylist()

    def __getitem__(self, name: str) -> dict[str, Any]:
        return next(row for row in self.rows if row["id"] == name)

    def outcomes(self) -> dict[str, str]:
        return {row["id"]: row["outcome"] for row in self.rows}


@pytest.fixture
def gather(server: PhotoServer, tmp_path: Path) -> Callable[..., Collected]:
    """Collect {id: path on the server, or URL} with one label."""

    def call(wanted: dict[str, str], label: str = "x", **settings: Any) -> Collected:
        file = tmp_path / "rows.csv"
        lines = ["id,url,landmark_id"]
        for name, path in wanted.items():
            url = path if ":" in path.partition("/")[0] else server.url(path)
            lines.append(f'{name},"{url}",{label}')
        file.write_text("\n".join(lines), encoding="utf-8")
        folder = tmp_path / "out"
        done = collect([file], folder, Settings(**{**QUICK, **settings}))
        return Collected(done, folder)

    return call


class TestAnswers:
    def test_good_ones(self, gather, server: PhotoServer) -> None:
        paths = {
            "plain": "photo/1.jpg",
            "slow": "slow",
            "chunked": "chunked",
            "gzip": "gzip/photo",
            "zlib": "gzip/zlib",
            "text": "as-text",
            "png": "png",
            "large": "large/3",
        }
        done = gather(paths)
        assert set(done.outcomes().values()) == {"collected"}
        assert done["plain"]["path"] == "x/plain.jpg"
        assert done["png"]["path"] == "x/png.png", "the extension goes by the content"
        assert (done["png"]["width"], done["png"]["height"]) == (308, 300)
        expected = {"plain": photo(1), "chunked": photo(6), "gzip": photo(7), "zlib": photo(8)}
        for name, data in expected.items():
            row = done[name]
            assert (done.folder / row["path"]).read_bytes() == data
            assert row["hash"] == content_hash(data).hex()
            assert row["bytes"] == len(data)
            assert (row["width"], row["height"], row["format"]) == (24, 16, "JPEG")
            assert (row["status"], row["attempts"], row["error"]) == (200, 1, None)
        assert (done.folder / "x/large.jpg").stat().st_size == 3 * MEGABYTE + len(photo(4))
        assert done.summary.photos == done.summary.collected == len(paths)
        assert server.headers["photo/1.jpg"]["user-agent"].startswith("veduta/")
        left = [path.name for path in (done.folder / ".veduta-collect").iterdir()]
        assert sorted(left) == ["journal", "lock"]

    @pytest.mark.parametrize("decode", [True, False])
    def test_bad_ones(self, gather, server: PhotoServer, decode: bool) -> None:
        paths = {
            "html": ("html", "not-a-photo", "an HTML page"),
            "svg": ("svg", "not-a-photo", "an SVG drawing"),
            "video": ("video", "not-a-photo", "a Matroska or WebM video"),
            "empty": ("empty", "not-a-photo", "the answer is empty"),
            "gone": ("nothing-here", "http-error", "404 Not Found"),
            "loop": ("loop", "http-error", "more than 10 redirects"),
            "brotli": ("brotli", "not-a-photo", "Content-Encoding 'br', not asked for"),
            "bomb": ("gzip/bomb", "too-large", "more than 1,000,000 bytes"),
            "cut-gzip": ("gzip/cut", "not-a-photo", "the compressed data are cut short"),
            "bad-gzip": ("gzip/damaged", "not-a-photo", "the gzip data are damaged"),
            "huge": ("huge", "too-large", "more than 1,000,000 bytes"),
            "declared": (
                "declared/10000000000",
                "too-large",
                "10,000,000,000 bytes declared, over 1,000,000",
            ),
        }
        if decode:
            cut = "the JPEG data are cut short"
            paths |= {
                "cut": ("cut", "not-a-photo", cut),
                "pixels": (
                    "bomb",
                    "too-large",
                    "60000 × 60000 pixels are more than the cap of 250 megapixels",
                ),
            }
        began = time.monotonic()
        done = gather(
            {name: path for name, (path, _, _) in paths.items()}, decode=decode, max_bytes=1_000_000
        )
        assert time.monotonic() - began < 60
        for name, (path, outcome, reason) in paths.items():
            row = done[name]
            assert (row["outcome"], row["error"]) == (outcome, reason), name
            assert row["path"] is None and row["hash"] is None
            assert server.asked[path] == (11 if name == "loop" else 1), name
        assert not list(find_photos([done.folder]))
        # Endless answers were not read beyond the cap; what else was sent lies in buffers.
        assert server.sent["huge"] < 32 * MEGABYTE
        assert server.sent["video"] < 32 * MEGABYTE
        assert done.summary.photos == 0

    def test_more_than_was_declared_harms_no_other_row(self, gather) -> None:
        wanted = {"lying": "too-much"} | {f"p{number}": f"photo/{number}" for number in range(9)}
        outcomes = gather(wanted, per_host=1, retries=5).outcomes()
        # What the surplus bytes look like depends on which packet they arrive in.
        assert outcomes.pop("lying") in ("not-a-photo", "unreachable")
        assert set(outcomes.values()) == {"collected"}

    def test_passing_failures_are_tried_again_within_the_run(self, gather, server) -> None:
        paths = {
            "broken": "broken/2",
            "busy": "status/503/2",
            "stall": "stall",
            "drip": "drip",
            "silent": "silent",
            "reset": "reset",
            "garbage": "garbage",
            "down": "status/500",
            "little": "too-little",
            "forbidden": "status/403",
        }
        done = gather(paths, total_timeout=1.3, read_timeout=0.7)
        assert done.outcomes() == {
            "broken": "collected",
            "busy": "collected",
            "stall": "unreachable",
            "drip": "unreachable",
            "silent": "unreachable",
            "reset": "unreachable",
            "garbage": "unreachable",
            "down": "busy",
            "little": "unreachable",
            "forbidden": "http-error",
        }
        assert done["broken"]["attempts"] == done["busy"]["attempts"] == 3
        assert done["stall"]["error"] == "nothing came for 0.7 s"
        assert done["drip"]["error"] == "not complete within 1.3 s"
        assert done["down"]["error"] == "500 Sorry"
        assert (done["down"]["status"], done["down"]["attempts"]) == (500, 3)
        assert server.asked["status/403"] == 1, "that one will not pass"
        # The next run tries the passing ones again, and only them.
        before = server.asked.copy()
        gather(paths, total_timeout=0.5, retries=0)
        again = {path for path in server.asked if server.asked[path] > before[path]}
        passing = ("stall", "drip", "silent", "reset", "garbage", "down", "little")
        assert again == {paths[name] for name in passing}
        gather(paths, total_timeout=0.5, retries=0, retry_failed=True)
        assert server.asked["status/403"] == 2
        assert server.asked["broken/2"] == 3, "what is there stays"

    def test_retry_after_holds_for_the_whole_host(self, gather, server: PhotoServer) -> None:
        done = gather({"seconds": "later/1", "other": "photo/1"}, per_host=1, retries=1)
        assert set(done.outcomes().values()) == {"collected"}
        first, second = server.times["later/1"]
        assert 1.0 <= second - first < 3
        assert server.times["photo/1"][0] - first >= 1.0, "the host was left alone meanwhile"

    def test_retry_after_as_a_date_and_capped(self, gather, server: PhotoServer) -> None:
        assert gather({"date": "later/date"}, retries=1)["date"]["outcome"] == "collected"
        first, second = server.times["later/date"]
        assert second - first >= 0.4  # dates have whole seconds
        gather({"capped": "later/86400"}, retries=1, longest_wait=0.3)
        first, second = server.times["later/86400"]
        assert 0.3 <= second - first < 2

    def test_what_a_server_says_does_not_reach_the_terminal(self, gather) -> None:
        assert gather({"a": "escape"})["a"]["error"] == r"404 \x1b[31mred\xff\x07"

    def test_robots_tag(self, gather) -> None:
        paths = {
            "a": "robots/noai",
            "b": "robots/NoIndex,_nofollow",
            "c": "robots/veduta:_noimageai",
            "d": "robots/otherbot:_noai",
            "e": "robots/all",
        }
        outcomes = gather(paths).outcomes()
        assert outcomes == {
            "a": "opted-out",
            "b": "opted-out",
            "c": "opted-out",
            "d": "collected",
            "e": "collected",
        }
        assert set(gather(paths, ignore_robots_tag=True).outcomes().values()) == {"collected"}

    def test_redirects(self, gather, server: PhotoServer) -> None:
        paths = {
            "relative": "to//photo/1.jpg",
            "absolute": f"to/{server.url('photo/2.jpg')}",
            "twice": f"to//to//{'photo/3.jpg'}",
            "file": "to/file:///etc/passwd",
            "nonsense": "to/http://[",
        }
        done = gather(paths)
        assert done.outcomes() == {
            "relative": "collected",
            "absolute": "collected",
            "twice": "collected",
            "file": "refused",
            "nonsense": "http-error",
        }
        assert done["relative"]["final_url"] == server.url("photo/1.jpg")
        assert done["file"]["error"] == "redirected: file: is not http: or https:"

    def test_re_encoding(self, gather) -> None:
        done = gather({"a": "png", "b": "photo/1.jpg"}, resize=100)
        assert (done["a"]["path"], done["a"]["format"]) == ("x/a.jpg", "JPEG")
        assert (done["a"]["width"], done["a"]["height"]) == (100, 97)
        assert (done["b"]["width"], done["b"]["height"]) == (24, 16), "never enlarged"
        with Image.open(done.folder / "x/a.jpg") as image:
            assert (image.size, image.mode) == ((100, 97), "RGB")
            quality_90 = io.BytesIO()
            Image.new("RGB", (8, 8)).save(quality_90, "JPEG", quality=90)
            assert image.quantization == Image.open(quality_90).quantization
        assert (done.folder / "x/a.jpg").stat().st_size == done["a"]["bytes"]
        with pytest.raises(DatasetError, match=r"collected so far with --resize 100 --format jpeg"):
            gather({"a": "png"})

    def test_a_large_photo_is_re_encoded_too(self, gather) -> None:
        done = gather({"a": "large/3"}, jpeg=True)
        assert done["a"]["bytes"] < 10_000

    def test_decoding_holds_up_no_download(self, gather, server, monkeypatch) -> None:
        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.2)
            return decode(*arguments, **options)

        monkeypatch.setattr(saving, "decode", slow)
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        began = time.time()
        done = gather({f"p{number}": f"photo/{number}" for number in range(20)})
        assert done.summary.collected == 20
        asked = max(server.times[path][0] for path in server.times) - began
        assert time.time() - began > 1.9, "twenty photos on two threads"
        assert asked < 1.5

    def test_copies_are_told(self, gather) -> None:
        done = gather({"a": "photo/1.jpg", "b": "photo/2.jpg", "c": "photo/1.jpg?again"})
        assert done.summary.same_content == 1
        assert (done["a"]["same_as"], done["c"]["same_as"]) == (None, "x/a.jpg")


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.org/a.jpg",
            "file:///etc/passwd",
            "data:image/png;base64,AAAA",
            "javascript:alert(1)",
            "//example.org/a.jpg",
            "example.org/a.jpg",
            "",
            "http://",
            "http:///a.jpg",
            "http://[::1",
            "http://a:b:c/",
            "http://host:99999/a.jpg",
            "https:a.jpg",
            "gopher://example.org/",
            "http://a..b/",
            f"http://{'a' * 70}.org/",
        ],
    )
    def test_no_http_address(self, gather, url: str) -> None:
        done = gather({"a": url or ":"}, allow_private=False)
        assert done["a"]["outcome"] in ("refused", "unreachable")
        assert done["a"]["attempts"] == 1

    def test_a_name_that_nobody_knows(self, monkeypatch, gather) -> None:
        def unknown(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        row = gather({"a": "http://no.such.host/a.jpg"})["a"]
        assert (row["outcome"], row["error"], row["attempts"]) == ("unreachable", "no such host", 1)

    def test_a_certificate_that_nobody_vouches_for(self, gather, tmp_path: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificate")
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        command += f" -keyout {tmp_path}/key.pem -out {tmp_path}/certificate.pem"
        subprocess.run(command.split(), check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        with PhotoServer(context) as server:
            row = gather({"a": f"https://localhost:{server.port}/photo/1.jpg"})["a"]
        assert (row["outcome"], row["attempts"]) == ("tls-error", 1)
        assert "certificate verify failed" in row["error"]
        assert not server.asked

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "0.0.0.0",
            "127.0.0.1.",
        ],
    )
    def test_loopback_however_it_is_spelled(self, gather, server: PhotoServer, host: str) -> None:
        done = gather({"a": f"http://{host}:{server.port}/photo/1.jpg"}, allow_private=False)
        assert done["a"]["outcome"] in ("refused", "unreachable")
        assert server.connections == 0

    def test_a_redirect_into_a_private_network(self, monkeypatch, gather, server) -> None:
        # Only the first connection may go to the loopback.
        made = []

        def once(address: str) -> bool:
            made.append(address)
            return len(made) == 1

        monkeypatch.setattr(http_client, "public_socket", lambda: public_socket(once))
        target = f"http://localhost:{server.port}/photo/1.jpg"
        done = gather({"a": f"to/{target}"}, allow_private=False)
        assert done["a"]["outcome"] == "refused"
        assert done["a"]["error"].endswith("is not a public address")
        assert done["a"]["final_url"] == target
        assert server.connections == 1

    def test_a_name_that_answers_differently_the_second_time(
        self, monkeypatch, gather, server: PhotoServer
    ) -> None:
        answers = iter(["192.0.2.1", "127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1"])
        asked = []

        def rebinding(host: str, port: int, *args: Any, **more: Any) -> list[Any]:
            asked.append(host)
            address = next(answers, "127.0.0.1")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            where = (address, port, 0, 0) if ":" in address else (address, port)
            return [(family, socket.SOCK_STREAM, 6, "", where)]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        for name in "abcd":
            done = gather(
                {name: f"http://rebind.example:{server.port}/{name}"}, allow_private=False
            )
            assert done[name]["outcome"] == "refused", done[name]
        assert asked
        assert server.connections == 0

    @pytest.mark.parametrize(
        "address",
        [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001:db8::1",
            "::127.0.0.1",
            "100::1",
            "2001::1",
        ],
    )
    def test_private(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize(
        "address",
        [
            "8.8.8.8",
            "100.63.255.255",
            "172.32.0.1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
            "192.0.1.1",
        ],
    )
    def test_public(self, address: str) -> None:
        assert is_public(address)

    @given(st.ip_addresses())
    def test_never_more_than_python_calls_global(self, address) -> None:
        if is_public(str(address)) and address.version == 4:
            assert not (address.is_private or address.is_loopback or address.is_multicast)
            assert not (address.is_link_local or address.is_unspecified or address.is_reserved)


class TestRows:
    def rows(self, file: Path, text: str | bytes, columns: Columns | None = None) -> list[Row]:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list(read_rows([file], columns or Columns()))

    def test_google_landmarks(self, tmp_path: Path) -> None:
        text = '\ufeffid,url,landmark_id\r\n"a1", http://h/1.jpg ,7\r\nb2,None,8\r\n'
        assert self.rows(tmp_path / "train.CSV", text) == [
            Row("a1", "7", "http://h/1.jpg"),
            Row("b2", "8", "None"),
        ]

    def test_any_csv(self, tmp_path: Path) -> None:
        text = 'Name,Link,Place\nx,"http://h/a,b.jpg",Eiffel Tower\n'
        named = Columns(url="link", label="Place", id="name")
        assert self.rows(tmp_path / "a.csv", text, named) == [
            Row("x", "Eiffel Tower", "http://h/a,b.jpg")
        ]
        alone = self.rows(tmp_path / "a.csv", "url\nhttp://h/Some%20Photo.JPG\n")
        assert alone == [
            Row(id_from_url("http://h/Some%20Photo.JPG"), None, "http://h/Some%20Photo.JPG")
        ]
        assert alone[0].id.startswith("some-photo-")

    def test_a_list(self, tmp_path: Path) -> None:
        text = "\ufeff# my list\n\nhttp://h/a.jpg\r\n  http://h/b.jpg  \n\n#x\nhttp://h/a.jpg"
        rows = self.rows(tmp_path / "Notre Dame.txt", text)
        assert [row.url for row in rows] == ["http://h/a.jpg", "http://h/b.jpg", "http://h/a.jpg"]
        assert {row.label for row in rows} == {"Notre Dame"}
        assert rows[0].id == rows[2].id != rows[1].id

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "id,link\n1,http://h/\n", "no column 'url'; found 'id', 'link'"),
            ("a.csv", "id,url,landmark_id\n1,http://h/,\n", "line 2: the landmark_id is empty"),
            ("a.csv", "url,label\nhttp://h/,x\nhttp://i/, \n", "line 3: the label is empty"),
            ("a.csv", "url,id\nhttp://h/,\n", "line 2: the id is empty"),
            ("a.csv", 'url\n"http://h/\n', "line 2: not a CSV record"),
            ("a.csv", b"url\n\xff\n", "line 2: not UTF-8"),
            ("a.txt", b"http://h/\n\xff\n", "line 2: not UTF-8"),
            ("a.txt", b"\0" * 70_000, "line 1: longer than 65,536 bytes"),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, text: Any, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            self.rows(tmp_path / name, text)

    def test_refused_sources(self, tmp_path: Path) -> None:
        for source, message in ((tmp_path, "a folder"), (tmp_path / "no.csv", "not there")):
            with pytest.raises(DatasetError, match=message):
                collect([source], tmp_path / "out")
        (tmp_path / "list.txt").write_text("# nothing\n")
        with pytest.raises(DatasetError, match="no rows"):
            collect([tmp_path / "list.txt"], tmp_path / "out")
        with pytest.raises(DatasetError, match="rename it or leave out the names"):
            collect([tmp_path / "list.txt"], tmp_path / "out", columns=Columns(url="x"))
        assert not (tmp_path / "out").exists(), "nothing is written for sources that are refused"


TEXTS = st.text(max_size=150) | st.sampled_from(
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:\\x",
        "con",
        "NUL.txt",
        "aux",
        "COM1",
        "a\0b",
        "x" * 400,
        "é" * 100,
        "A",
        "a",
        "Straße",
        "STRASSE",
        " a",
        "a.",
        "a ",
        "e\u0301",
        "\u00e9",
        "a\u200db",
        "ab",
        "collected.parquet",
        ".veduta-collect",
        "-rf",
        "~",
        "a\ufe0f",
        "\ud800",
        "K",
        "\u212a",
        "ı",
        "I",
        "i",
    ]
)


def check_name(name: str) -> None:
    assert 0 < len(name.encode("utf-8")) <= 120
    assert not set(name) & set('/\\:*?"<>|\0') and name.isprintable()
    assert name not in (".", "..") and not name.startswith(".") and name.strip(" .") == name
    assert not is_device(name) and not is_device(f"{name}.jpg")
    assert case_folded(name) != case_folded("collected.parquet")


def is_device(name: str) -> bool:
    reserved = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    reserved |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
    return PureWindowsPath(name).name.partition(".")[0].strip().upper() in reserved


class TestNames:
    @given(TEXTS)
    def test_any_text_becomes_a_harmless_name(self, text: str) -> None:
        check_name(safe_name(text))
        assert safe_name(text) == safe_name(text)

    @given(
        st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.sampled_from(["u", "v"])), max_size=30),
        st.randoms(use_true_random=False),
    )
    @example([("a", "X", "u"), ("a", "x", "u"), ("A", "x", "u")], random.Random(1))
    def test_two_rows_two_files_in_any_order(
        self, wanted: list[tuple[str, str | None, str]], order: random.Random
    ) -> None:
        rows = [Row(*each) for each in wanted]
        files = self.files(rows)
        shuffled = rows.copy()
        order.shuffle(shuffled)
        assert self.files(shuffled) == files
        assert len({case_folded(file) for file in files.values()}) == len(files) == len(set(rows))
        folders: dict[str, str] = {}
        for row, file in files.items():
            parts = file.split("/")
            assert len(parts) == (1 if row.label is None else 2)
            for part in parts:
                check_name(part)
            if row.label is not None:
                assert folders.setdefault(case_folded(parts[0]), row.label) == row.label

    def files(self, rows: list[Row]) -> dict[Row, str]:
        names = FileNames()
        for row in rows:
            names.add(row)
        if rows:
            names.resolve_clashes()
        return {row: names.path_of(row) for row in rows}

    def test_ordinary_names_stay(self) -> None:
        for name in (
            "eiffel_tower",
            "Notre-Dame de Paris",
            "97c0a12e07ae8dd5",
            "東京タワー",
            "St. Peter's (Rome)",
            "ताज महल",
            "IMG_1234",
        ):
            assert safe_name(name) == name

    def test_a_repeated_row_keeps_the_plain_name(self) -> None:
        row = Row("a", "x", "u")
        assert self.files([row, row]) == {row: "x/a"}
        other = Row("a", "x", "v")
        assert all("~" in file for file in self.files([row, other]).values())

    def test_the_names_of_files_that_were_written(self, gather) -> None:
        wanted = {
            "../../up": "photo/1",
            "..": "photo/2",
            "a/b": "photo/3",
            "A": "photo/4",
            "a": "photo/5",
            "con": "photo/6",
            "x" * 300: "photo/7",
        }
        done = gather(wanted, label="../out2/..")
        assert set(done.outcomes().values()) == {"collected"}
        found = {Path(os.fsdecode(each.path)) for each in find_photos([done.folder])}
        assert found == {done.folder / row["path"] for row in done.rows}
        assert len(found) == len(wanted)
        outside = {path.name for path in done.folder.parent.iterdir()}
        assert outside == {"out", "rows.csv"}
        for row in done.rows:
            assert (done.folder / row["path"]).resolve().is_relative_to(done.folder.resolve())
            assert row["label"] == "../out2/.."


class TestResuming:
    def test_a_second_run_fetches_what_is_missing(self, gather, server: PhotoServer) -> None:
        wanted = {f"p{number}": f"photo/{number}" for number in range(20)}
        first = gather(wanted)
        assert (first.summary.collected, first.summary.already) == (20, 0)
        (first.folder / "x/p3.jpg").unlink()
        (first.folder / "x/p4.jpg").write_bytes(b"")  # as a power failure may leave it
        (first.folder / "x/p5.jpg").write_bytes(b"edited")
        second = gather({**wanted, "p20": "photo/20"})
        assert (second.summary.collected, second.summary.already) == (3, 18)
        asked = {path: times for path, times in server.asked.items() if times > 1}
        assert asked == {"photo/3": 2, "photo/4": 2}
        assert (first.folder / "x/p5.jpg").read_bytes() == b"edited"
        assert {row["outcome"] for row in second.rows} == {"collected"}
        assert [row["row"] for row in second.rows] == list(range(1, 22))

    def test_rows_may_move_and_repeat(self, gather, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "place.txt"
        urls = [server.url(f"photo/{number}") for number in range(5)]
        file.write_text("\n".join(urls))
        collect([file], tmp_path / "out", Settings(**QUICK))
        file.write_text("\n".join([urls[4], urls[4], *urls[:4]]))
        done = collect([file], tmp_path / "out", Settings(**QUICK))
        assert (done.collected, done.already) == (0, 5)
        assert dict(done.outcomes) == {"collected": 5, "repeated": 1}
        assert max(server.asked.values()) == 1
        rows = pq.read_table(tmp_path / "out/collected.parquet").to_pylist()
        assert (rows[1]["outcome"], rows[1]["error"]) == ("repeated", "the same as row 1")

    def test_kill_9_in_the_middle(self, server: PhotoServer, tmp_path: Path) -> None:
        number, connections = 400, 8
        server.delay = 0.02
        file = tmp_path / "place.txt"
        file.write_text("\n".join(server.url(f"photo/{each}") for each in range(number)))
        out = tmp_path / "out"
        command = [
            sys.executable,
            "-m",
            "veduta",
            "collect",
            str(file),
            "--out",
            str(out),
            "--allow-private",
            "--per-host",
            str(connections),
            "--json",
        ]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: len(list(out.glob("place/*"))) >= 60)
        running.send_signal(signal.SIGKILL)
        running.wait(10)
        there = {path.name: path.read_bytes() for path in out.glob("place/*")}
        assert 60 <= len(there) < number
        server.delay = 0.0
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        summary = json.loads(done.stdout)
        assert summary["photos"] == number
        assert summary["already"] >= len(there) - connections - 33  # those on their way
        assert sum(server.asked.values()) <= number + connections + 33 + 1
        for name, data in there.items():
            assert (out / "place" / name).read_bytes() == data
        hashes = {content_hash(path.read_bytes()) for path in out.glob("place/*")}
        assert hashes == {content_hash(photo(each)) for each in range(number)}
        assert not (out / ".veduta-collect/drafts").exists()

    @pytest.mark.usefixtures("interruptible")
    def test_ctrl_c_and_a_second_run(self, server: PhotoServer, tmp_path: Path) -> None:
        server.delay = 0.02
        file = tmp_path / "place.txt"
        file.write_text("\n".join(server.url(f"photo/{each}") for each in range(300)))
        out = tmp_path / "out"
        command = [
            sys.executable,
            "-m",
            "veduta",
            "collect",
            str(file),
            "--out",
            str(out),
            "--allow-private",
        ]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(list(out.glob("place/*"))) >= 30)
        running.send_signal(signal.SIGINT)
        text, errors = running.communicate(timeout=10)
        assert running.returncode == 130
        assert (
            "Interrupted. What was collected is kept. Run the same command to continue." in errors
        )
        assert "Traceback" not in errors
        kept = len(list(out.glob("place/*")))
        assert f"{kept:,} collected, 0 failed" in text
        server.delay = 0.0
        asked = sum(server.asked.values())
        done = collect([file], out, Settings(**QUICK))
        assert (done.collected, done.already) == (300 - kept, kept)
        assert sum(server.asked.values()) - asked == 300 - kept

    def test_one_process_at_a_time(self, gather, tmp_path: Path) -> None:
        from filelock import FileLock

        (tmp_path / "out/.veduta-collect").mkdir(parents=True)
        with (
            FileLock(tmp_path / "out/.veduta-collect/lock"),
            pytest.raises(DatasetError, match="another process is collecting into this folder"),
        ):
            gather({"a": "photo/1"})

    def test_a_full_disk(self, gather, server, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = {f"p{number}": f"photo/{number}" for number in range(50)}
        write = saving.write_by_draft
        room = threading.Semaphore(20)

        def until_full(file: str, data: bytes, draft: Path) -> None:
            if not room.acquire(blocking=False):
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data, draft)

        monkeypatch.setattr(saving, "write_by_draft", until_full)
        with pytest.raises(StorageFull, match=r"the disk is full\. What was collected is kept"):
            gather(wanted)
        monkeypatch.undo()
        done = gather(wanted)
        assert (done.summary.already, done.summary.collected) == (20, 30)

    def test_a_folder_that_cannot_be_written(self, gather, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(DatasetError, match="cannot be written"):
            gather({"a": "photo/1"})


class TestJournal:
    ROW = Row("a", "x", "http://h/a.jpg")

    def test_a_torn_line_is_cut_off(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        other = Row("b", None, "http://h/b.jpg")
        journal = Journal(file, {})
        done = Result(Outcome.COLLECTED, hash="ab" * 32, path="x/a.jpg", attempts=2)
        journal.append([(self.ROW, Result(Outcome.BUSY, status=503)), (self.ROW, done)])
        journal.append([(other, Result(Outcome.REFUSED, error="x" * 5000))])
        journal.close()
        whole = file.read_bytes()
        for cut in (1, 100, 5000):
            file.write_bytes(whole[:-cut])
            journal = Journal(file, {})
            found = journal.find([self.ROW, other, Row("a", "x", "http://other/")])
            assert found == [done, None, None], "the last line about a row counts"
            journal.append([(other, Result(Outcome.REFUSED))])
            journal.refresh()
            assert journal.find([other]) == [Result(Outcome.REFUSED)]
            journal.close()

    def test_zeros_and_nonsense_within(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        journal = Journal(file, {})
        journal.append([(self.ROW, Result(Outcome.REFUSED))])
        journal.close()
        head, line = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(head + bytes(4096) + b"\n" + line[:40] + b"\n" + line)
        journal = Journal(file, {})
        assert journal.find([self.ROW]) == [Result(Outcome.REFUSED)]
        journal.close()

    def test_a_full_disk_leaves_whole_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "journal", {})
        journal.append([(self.ROW, Result(Outcome.REFUSED))])
        write = os.write
        calls = iter(range(10))

        def half(descriptor: int, data: memoryview) -> int:
            if next(calls):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:20])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            journal.append([(Row("b", None, "u"), Result(Outcome.REFUSED))])
        monkeypatch.undo()
        journal.close()
        assert (tmp_path / "journal").read_bytes().count(b"\n") == 2
        assert (tmp_path / "journal").read_bytes().endswith(b"}\n")

    def test_not_a_journal(self, tmp_path: Path) -> None:
        (tmp_path / "journal").write_text("my diary\n")
        with pytest.raises(DatasetError, match="not a journal"):
            Journal(tmp_path / "journal", {})
        assert (tmp_path / "journal").read_text() == "my diary\n"


class TestHostQueues:
    def test_no_host_holds_up_another(self) -> None:
        async def run() -> tuple[int, list[str]]:
            queues: HostQueues[int] = HostQueues(per_host=2, max_jobs=50)
            at_once = {"slow": 0, "quick": 0}
            most = 0
            order: list[str] = []

            async def worker() -> None:
                nonlocal most
                while (taken := await queues.take()) is not None:
                    host, _ = taken
                    at_once[host] += 1
                    most = max(most, *at_once.values())
                    await asyncio.sleep(0.02 if host == "slow" else 0.0005)
                    at_once[host] -= 1
                    order.append(host)
                    queues.release_host(host)
                    queues.finish()

            jobs = [[("slow", number) for number in range(20)]]
            jobs += [[("quick", number)] for number in range(20)]
            await asyncio.gather(queues.feed(jobs), *(worker() for _ in range(8)))
            return most, order

        most, order = asyncio.run(run())
        assert most == 2
        assert len(order) == 40
        assert order[:30].count("quick") == 20, "the quick host is done while the slow one is not"

    def test_jobs_that_come_back(self) -> None:
        async def run() -> list[tuple[str, int]]:
            loop = asyncio.get_running_loop()
            queues: HostQueues[int] = HostQueues(per_host=1, max_jobs=2)
            seen: list[tuple[str, int]] = []

            async def worker() -> None:
                while (taken := await queues.take()) is not None:
                    host, job = taken
                    seen.append(taken)
                    if seen.count(taken) == 1 and job == 0:
                        queues.pause(host, 0.05)
                        began = loop.time()
                        queues.release_host(host)
                        queues.retry_later(host, job, 0.01)
                        continue
                    if job == 0:
                        assert loop.time() - began >= 0.05
                    queues.release_host(host)
                    queues.finish()

            await asyncio.gather(queues.feed([[("a", 0), ("b", 1)], [("b", 2)]]), worker())
            return seen

        assert asyncio.run(run()) == [("a", 0), ("b", 1), ("b", 2), ("a", 0)]

    def test_limits_hold_against_a_server(self, gather, server: PhotoServer) -> None:
        server.delay = 0.01
        wanted = {f"p{number}": f"photo/{number}" for number in range(60)}
        gather(wanted, per_host=3, connections=20)
        assert server.most_at_once == 3


class TestPoliteness:
    def test_back_off_doubles_and_is_capped(self) -> None:
        for attempt, most in ((1, 1), (2, 2), (5, 16), (9, 60), (4000, 60)):
            waits = [back_off(attempt, 1.0, 60.0) for _ in range(200)]
            assert most / 2 <= min(waits) < max(waits) <= most
            assert max(waits) - min(waits) > most / 4, "they spread"

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120),
            ("0", 0),
            ("Fri, 01 Jan 2027 00:01:00 GMT", 60),
            ("Fri, 01 Jan 2021 00:00:00 GMT", 0),
            ("-5", None),
            ("soon", None),
            ("", None),
            (None, None),
            ("1.5", None),
            ("9" * 50, None),
        ],
    )
    def test_retry_after(self, value: str | None, seconds: float | None) -> None:
        assert retry_after(value, datetime(2027, 1, 1, tzinfo=UTC)) == seconds

    @pytest.mark.parametrize(
        ("headers", "answer"),
        [
            (["noindex"], "noindex"),
            (["nofollow", "NOAI"], "noai"),
            (["none"], "none"),
            (["googlebot: noindex"], None),
            (["googlebot: nofollow, noindex"], None),
            (["veduta: noindex"], "noindex"),
            (["*: noai"], "noai"),
            ([], None),
            (["unavailable_after: 25 Jun 2010 15:00:00 PST"], None),
            (["index, noimageindex"], "noimageindex"),
            (["noindexed"], None),
        ],
    )
    def test_robots_tag(self, headers: list[str], answer: str | None) -> None:
        assert opts_out(headers) == answer

    @given(st.binary(max_size=5000), st.integers(1, 700))
    @hypothesis_settings(deadline=None)
    def test_inflating_in_pieces(self, data: bytes, size: int) -> None:
        import gzip

        packed = gzip.compress(data)
        inflater = Inflater()
        pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
        assert b"".join(out for piece in pieces for out in inflater.feed(piece)) == data
        assert inflater.complete


class TestCommand:
    def run(self, *arguments: object) -> Any:
        return CliRunner().invoke(
            main.veduta, ["collect", *map(str, arguments)], standalone_mode=False
        )

    def test_text_json_and_exit_codes(self, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "tower.txt"
        file.write_text("\n".join([server.url("photo/1"), server.url("html"), "ftp://h/a.jpg"]))
        options = (file, "--out", tmp_path / "out")
        refused = self.run(*options)
        assert refused.return_value == 1, "no photo at all"
        assert "to fetch from private addresses all the same: --allow-private" in refused.stdout
        done = self.run(*options, "--allow-private")
        assert done.return_value == 0
        lines = done.stdout.splitlines()
        assert lines[0].startswith("1 collected, 2 failed in ")
        assert "          1 not-a-photo  an HTML page" in lines
        assert "          1 refused      ftp: is not http: or https:" in lines
        assert lines[-2].startswith("3 rows of 1 label: ")
        assert lines[-1] == f"Next: veduta index {shown(tmp_path / 'out')} --labels folders"
        assert all(len(line) <= 80 for line in lines[:-2])
        again = self.run(*options, "--allow-private", "--json", "--strict")
        facts = json.loads(again.stdout)
        assert again.return_value == 1
        assert (facts["photos"], facts["already"], facts["failed"]) == (1, 1, 2)
        assert facts["outcomes"] == {"collected": 1, "not-a-photo": 1, "refused": 1}

    def test_wrong_calls(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        for options in (
            ["--no-decode", "--resize", "9"],
            ["--max-bytes", "0"],
            ["--max-bytes", "many"],
            ["--user-agent", "a\nb"],
        ):
            done = self.run(file, "--out", tmp_path, *options)
            assert done.exception.exit_code == 2
        assert main.run(["collect", str(file), "--out", str(tmp_path / "out")]) == 3

    def test_the_index_takes_it(self, server: PhotoServer, tmp_path: Path) -> None:
        sources = []
        for place in ("Tower", "bridge"):
            urls = (server.url(f"photo/{len(place) * 100 + number}") for number in range(3))
            sources.append(tmp_path / f"{place}.txt")
            sources[-1].write_text("\n".join(urls))
        out = tmp_path / "out"
        done = collect(sources, out, Settings(**QUICK))
        assert (done.labels, done.collected) == (2, 6)
        encoder = TinyEncoder()
        index.create_index(tmp_path / "index", encoder)
        report = index.update_index(tmp_path / "index", [out], encoder, labels="folders")
        assert (report.added, report.unreadable) == (6, [])
        rows = index.open_snapshot(tmp_path / "index").rows.to_pylist()
        labels = {os.fsdecode(row["path"]): row["label"] for row in rows}
        table = pq.read_table(out / "collected.parquet").to_pylist()
        assert labels == {str(out / row["path"]): row["label"] for row in table}

    def test_within_a_running_loop(self, server: PhotoServer, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text(server.url("photo/1"))

        async def notebook() -> Summary:
            return collect([tmp_path / "a.txt"], tmp_path / "out", Settings(**QUICK))

        assert asyncio.run(notebook()).collected == 1

    def test_reading_is_told(self, server: PhotoServer, tmp_path: Path) -> None:
        rows = [f"{number},ftp://example.org/{number},1" for number in range(9000)]
        source = tmp_path / "photos.csv"
        source.write_text("\n".join(["id,url,landmark_id", *rows]) + "\n", "utf-8")
        told: list[int] = []
        collect([source], tmp_path / "out", on_reading=told.append)
        assert told == [4096, 8192]

    def test_progress_counts_what_is_to_do(self, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        paths = [f"photo/{number}" for number in range(10)]
        file.write_text("\n".join(server.url(path) for path in [*paths, "html", paths[0]]))
        seen: list[Progress] = []
        collect([file], tmp_path / "out", Settings(**QUICK), on_progress=seen.append)
        assert [state.done for state in seen] == sorted(state.done for state in seen)
        assert seen[-1] == Progress(done=11, total=11, collected=10, failed=1)


@pytest.mark.slow
def test_ten_thousand_urls(server: PhotoServer, tmp_path: Path) -> None:
    number = 10_000
    file = tmp_path / "rows.csv"
    kinds = {0: "nothing-here/{}", 1: "html", 2: "status/503/1?{}"}
    with file.open("w") as out:
        out.write("id,url,landmark_id\n")
        for each in range(number):
            path = kinds.get(each % 100, "photo/{}").format(each)
            out.write(f"i{each},{server.url(path)},{each % 50}\n")
    began = time.monotonic()
    done = collect(
        [file],
        tmp_path / "out",
        Settings(**{**QUICK, "per_host": 64, "read_timeout": 20, "total_timeout": 60}),
    )
    assert dict(done.outcomes) == {"collected": 9800, "http-error": 100, "not-a-photo": 100}
    assert len(list(find_photos([tmp_path / "out"]))) == 9800
    assert time.monotonic() - began < 120
    began = time.monotonic()
    again = collect([file], tmp_path / "out", Settings(**QUICK))
    assert (again.already, again.collected) == (9800, 0)
    assert time.monotonic() - began < 10


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
