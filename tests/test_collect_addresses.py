"""`veduta collect` connects to public addresses only, in whatever way a URL leads there."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_server import PhotoServer

from veduta.collect import http_client
from veduta.collect.public_addresses import is_public, public_socket


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
        assert not server.requests

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
