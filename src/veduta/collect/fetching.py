"""One URL to the bytes of one answer, or to the reason why there are none."""

from __future__ import annotations

import re
import socket
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ClientResponse
from yarl import URL

from veduta.collect.addresses import PrivateAddress, public_socket
from veduta.collect.body import Body, Inflater, OverCap
from veduta.collect.outcome import Outcome
from veduta.collect.politeness import opts_out, retry_after
from veduta.collect.settings import Settings
from veduta.photos.formats import HEAD_BYTES, describe_bytes, sniff
from veduta.text import printable

__all__ = ["Client", "Failure", "Fetched", "host_of"]

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_PIECE = 1 << 16
_TELLING = 1024
"""Bytes after which an answer that is no photo is not read any further."""
_DNS_SECONDS = 300
_PLAIN_URL = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]+", re.ASCII | re.IGNORECASE)
_INFLATED = frozenset({"gzip", "x-gzip", "deflate"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer that begins like a photo."""

    body: Body
    status: int
    final_url: str | None
    """Where redirects led; None if there were none."""


class Failure(Exception):
    """There is no photo at this URL, at least not now."""

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        *,
        status: int | None = None,
        try_again: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = printable(reason)
        self.status = status
        self.final_url: str | None = None
        self.try_again = try_again
        """Whether another request in a moment may do better."""
        self.wait = wait
        """Seconds for which the server asked to be left alone."""


def host_of(url: str) -> str:
    """Return the host that a URL names, with its port; "" where it names none."""
    try:
        return urlsplit(url).netloc.lower().rpartition("@")[2]
    except ValueError:
        return ""


class Client:
    """Fetches. An asynchronous context manager; one for a whole run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        wanted = self._settings
        connector = aiohttp.TCPConnector(
            limit=wanted.connections,
            limit_per_host=wanted.per_host,
            ttl_dns_cache=_DNS_SECONDS,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=_any_socket if wanted.allow_private else public_socket(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=wanted.total_timeout,
                sock_connect=wanted.connect_timeout,
                sock_read=wanted.read_timeout,
            ),
            headers={
                "User-Agent": wanted.user_agent,
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def fetch(self, url: str, spill_to: Path) -> Fetched:
        """Fetch one URL. A large body goes to the file `spill_to`.

        Raises `Failure`; OSError where the disk does not take the body.
        """
        body = Body(spill_to, self._settings.max_bytes)
        at = start = _parsed(url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                async with self._session.get(at, allow_redirects=False) as response:
                    onward = response.headers.get("Location")
                    if response.status not in _REDIRECTS or onward is None:
                        await self._receive(response, body)
                        return Fetched(body, response.status, None if at is start else str(at))
                    at = _redirected(at, onward, response.status)
            raise Failure(Outcome.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects")
        except Failure as failure:
            body.drop()
            if at is not start:
                failure.final_url = str(at)
            raise
        except BaseException as error:
            body.drop()
            failure_of = self._explained(error)
            if failure_of is None:
                raise
            if at is not start:
                failure_of.final_url = str(at)
            raise failure_of from error

    async def _receive(self, response: ClientResponse, body: Body) -> None:
        status = response.status
        _check_status(response)
        if not self._settings.ignore_robots_tag:
            asked = opts_out(response.headers.getall("X-Robots-Tag", ()))
            if asked:
                raise Failure(Outcome.OPTED_OUT, f"X-Robots-Tag: {asked}", status=status)
        declared = response.content_length
        cap = self._settings.max_bytes
        if declared is not None and declared > cap:
            raise Failure(Outcome.TOO_LARGE, f"{declared:,} bytes declared, over {cap:,}")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        inflater = Inflater() if encoding in _INFLATED else None
        if inflater is None and encoding not in ("identity", ""):
            raise Failure(Outcome.NOT_A_PHOTO, f"Content-Encoding {encoding[:20]!r}, not asked for")
        try:
            await _read(response, inflater, body, cap)
        except OverCap:
            raise Failure(Outcome.TOO_LARGE, f"more than {cap:,} bytes", status=status) from None
        except zlib.error as error:
            why = f"the {encoding} data are damaged"
            raise Failure(Outcome.NOT_A_PHOTO, why, status=status) from error
        except Failure as failure:
            failure.status = status
            raise

    def _explained(self, error: BaseException) -> Failure | None:
        """Return what an exception of the client means for a row; None if it is no such thing."""
        asked = self._settings
        failure: Failure | None = None
        match error:
            case aiohttp.ConnectionTimeoutError():
                failure = _passing(f"no connection within {asked.connect_timeout:g} s")
            case aiohttp.SocketTimeoutError():
                failure = _passing(f"nothing came for {asked.read_timeout:g} s")
            case TimeoutError():
                failure = _passing(f"not complete within {asked.total_timeout:g} s")
            case aiohttp.ClientSSLError():
                why = str(error.__cause__ or error)[:200]
                failure = Failure(Outcome.TLS_ERROR, f"no trusted connection: {why}")
            case aiohttp.ClientConnectorDNSError():
                again = error.os_error.errno == socket.EAI_AGAIN
                failure = Failure(Outcome.UNREACHABLE, "no such host", try_again=again)
            case aiohttp.ClientConnectorError(os_error=PrivateAddress(address=address)):
                failure = Failure(Outcome.REFUSED, f"{address} is not a public address")
            case aiohttp.ClientConnectorError():
                why = str(error.os_error.strerror or error.os_error)[:160]
                failure = _passing(f"no connection: {why}")
            case aiohttp.InvalidURL() | UnicodeError():
                failure = Failure(Outcome.REFUSED, "not a URL")
            case ValueError():
                failure = Failure(Outcome.HTTP_ERROR, f"not understood: {_first_line(error)}")
            case aiohttp.ClientError() | ConnectionError():
                failure = _passing(f"the connection broke: {_first_line(error)}")
        return failure


def _passing(reason: str) -> Failure:
    return Failure(Outcome.UNREACHABLE, reason, try_again=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _any_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    return socket.socket(info[0], info[1], info[2])


def _parsed(url: str) -> URL:
    """Return a URL that may be fetched. One that is already fit for the wire stays as it is."""
    scheme, colon, _ = url.partition(":")
    if not url or not colon:
        raise Failure(Outcome.REFUSED, "not a URL" if url else "no URL")
    if scheme.strip().lower() not in ("http", "https"):
        raise Failure(Outcome.REFUSED, f"{scheme[:20]}: is not http: or https:")
    try:
        parsed = URL(url, encoded=_PLAIN_URL.fullmatch(url) is not None)
        host = parsed.host
        _ = parsed.port
    except ValueError as error:
        raise Failure(Outcome.REFUSED, f"not a URL ({error})"[:200]) from error
    if not host or parsed.scheme not in ("http", "https"):
        raise Failure(Outcome.REFUSED, "not a URL: it names no host")
    return parsed


def _redirected(at: URL, onward: str, status: int) -> URL:
    try:
        return _parsed(str(at.join(URL(onward, encoded=_PLAIN_URL.fullmatch(onward) is not None))))
    except Failure as failure:
        reason = f"redirected: {failure.reason}"
        raise Failure(failure.outcome, reason, status=status) from failure
    except ValueError as error:
        raise Failure(Outcome.HTTP_ERROR, "redirected to no URL", status=status) from error


def _check_status(response: ClientResponse) -> None:
    status = response.status
    if status == 200:
        return
    said = f"{status} {response.reason or ''}".strip()[:80]
    if status in _LATER:
        wait = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        raise Failure(Outcome.BUSY, said, status=status, try_again=True, wait=wait)
    raise Failure(Outcome.HTTP_ERROR, said, status=status)


async def _read(response: ClientResponse, inflater: Inflater | None, body: Body, cap: int) -> None:
    """Read an answer into `body`, no further than needed to see that it is no photo."""
    received = 0
    seen = False
    while chunk := await response.content.readany():
        received += len(chunk)
        if received > cap:
            raise OverCap
        for at in range(0, len(chunk), _PIECE):
            piece = chunk[at : at + _PIECE] if len(chunk) > _PIECE else chunk
            for plain in (piece,) if inflater is None else inflater.feed(piece):
                await body.add(plain)
                if not seen and body.size >= _TELLING:
                    seen = True
                    _check_head(body.head)
    if inflater is not None and received and not inflater.complete:
        raise Failure(Outcome.NOT_A_PHOTO, "the compressed data are cut short")
    if not seen:
        _check_head(body.head)
    await body.end()


def _check_head(head: bytes) -> None:
    if not head:
        raise Failure(Outcome.NOT_A_PHOTO, "the answer is empty")
    if sniff(head[:HEAD_BYTES]) is None:
        raise Failure(Outcome.NOT_A_PHOTO, describe_bytes(head))
