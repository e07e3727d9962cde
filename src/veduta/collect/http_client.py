"""The HTTP client: one URL to the bytes of one response, or to the reason why there are none."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ClientResponse
from yarl import URL

from veduta.collect.content_encoding import DamagedData, Decoder, decoder_of, is_known
from veduta.collect.outcome import Outcome
from veduta.collect.politeness import opts_out, retry_after
from veduta.collect.proxy import HostGuard
from veduta.collect.public_addresses import PrivateAddress, public_socket
from veduta.collect.request_headers import may_follow, parse_headers
from veduta.collect.response_body import ResponseBody, TooManyBytes
from veduta.collect.settings import Settings
from veduta.photos.formats import HEAD_BYTES, describe_bytes, sniff
from veduta.text import printable

__all__ = ["FetchFailed", "Fetched", "HttpClient", "host_of"]

MAX_REDIRECTS = 10
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_READ_BYTES = 1 << 16
# A response that is not a photo is not read further than this.
_FORMAT_CHECK_BYTES = 1024
_DNS_CACHE_SECONDS = 300
# A URL of these characters needs no percent-encoding.
_ENCODED_URL = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]+", re.ASCII | re.IGNORECASE)

_MAX_STATUS_LETTERS = 80
_MAX_REASON_LETTERS = 160
_MAX_LONG_REASON_LETTERS = 200
_MAX_WORD_LETTERS = 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete response that begins like a photo.

    Attributes:
        body: its bytes.
        status: the HTTP status.
        final_url: where redirects led; None if there were none.
    """

    body: ResponseBody
    status: int
    final_url: str | None


class FetchFailed(Exception):
    """A URL gave no photo.

    Attributes:
        outcome: of the row.
        reason: in a few words, printable.
        status: the HTTP status; None if there was no response.
        final_url: where redirects led; None if there were none.
        temporary: whether another request may succeed.
        wait_seconds: how long the server asked to wait; None if it did not ask.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        *,
        status: int | None = None,
        temporary: bool = False,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = printable(reason)
        self.status = status
        self.final_url: str | None = None
        self.temporary = temporary
        self.wait_seconds = wait_seconds


def host_of(url: str) -> str:
    """Return the host of a URL with its port; an empty text if the URL names none."""
    try:
        return urlsplit(url).netloc.lower().rpartition("@")[2]
    except ValueError:
        return ""


class HttpClient:
    """Fetches URLs. It is an asynchronous context manager, and one serves a whole run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        settings = self._settings
        # With a proxy, all connections go to the proxy, which the user has named.
        any_address = settings.allow_private or settings.proxy is not None
        connector = aiohttp.TCPConnector(
            limit=settings.connections,
            limit_per_host=settings.per_host,
            ttl_dns_cache=_DNS_CACHE_SECONDS,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=_any_socket if any_address else public_socket(),
        )
        headers = {
            "User-Agent": settings.user_agent,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
        }
        if settings.referer is not None:
            headers["Referer"] = settings.referer
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=settings.total_timeout,
                sock_connect=settings.connect_timeout,
                sock_read=settings.read_timeout,
            ),
            headers=headers,
            proxy=settings.proxy,
        )
        self._guard = None if settings.allow_private or not settings.proxy else HostGuard()
        self._own_headers = parse_headers(settings.headers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def fetch(self, url: str, overflow_file: Path) -> Fetched:
        """Fetch one URL.

        Args:
            url: the URL, as a stranger wrote it.
            overflow_file: the file that takes a large body.

        Raises:
            FetchFailed: there is no photo.
            OSError: the file cannot be written.
        """
        body = ResponseBody(overflow_file, self._settings.max_bytes)
        current = start = _parsed(url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                if self._guard is not None:
                    await self._guard.check(current)
                headers = self._own_headers if may_follow(start, current) else None
                async with self._session.get(
                    current, allow_redirects=False, headers=headers
                ) as response:
                    location = response.headers.get("Location")
                    if response.status not in _REDIRECT_STATUSES or location is None:
                        await self._receive(response, body)
                        final_url = None if current is start else str(current)
                        return Fetched(body, response.status, final_url)
                    current = _redirected(current, location, response.status)
            raise FetchFailed(Outcome.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects")
        except FetchFailed as failure:
            body.discard()
            if current is not start:
                failure.final_url = str(current)
            raise
        except BaseException as error:
            body.discard()
            failure_of_row = self._failure(error)
            if failure_of_row is None:
                raise
            if current is not start:
                failure_of_row.final_url = str(current)
            raise failure_of_row from error

    async def _receive(self, response: ClientResponse, body: ResponseBody) -> None:
        status = response.status
        _check_status(response)
        if not self._settings.ignore_robots_tag:
            directive = opts_out(response.headers.getall("X-Robots-Tag", ()))
            if directive:
                raise FetchFailed(Outcome.OPTED_OUT, f"X-Robots-Tag: {directive}", status=status)
        declared = response.content_length
        limit = self._settings.max_bytes
        if declared is not None and declared > limit:
            raise FetchFailed(Outcome.TOO_LARGE, f"{declared:,} bytes declared, over {limit:,}")
        try:
            await _read(response, body, limit)
        except TooManyBytes:
            reason = f"more than {limit:,} bytes"
            raise FetchFailed(Outcome.TOO_LARGE, reason, status=status) from None
        except DamagedData as error:
            raise FetchFailed(Outcome.NOT_A_PHOTO, str(error), status=status) from error
        except FetchFailed as failure:
            failure.status = status
            raise

    def _failure(self, error: BaseException) -> FetchFailed | None:
        """Return the failure of a row for an exception of aiohttp; None for other exceptions."""
        settings = self._settings
        failure: FetchFailed | None = None
        match error:
            case aiohttp.ConnectionTimeoutError():
                failure = _unreachable(f"no connection within {settings.connect_timeout:g} s")
            case aiohttp.SocketTimeoutError():
                failure = _unreachable(f"nothing came for {settings.read_timeout:g} s")
            case TimeoutError():
                failure = _unreachable(f"not complete within {settings.total_timeout:g} s")
            case aiohttp.ClientSSLError():
                cause = str(error.__cause__ or error)[:_MAX_LONG_REASON_LETTERS]
                failure = FetchFailed(Outcome.TLS_ERROR, f"no trusted connection: {cause}")
            case aiohttp.ClientHttpProxyError(status=status):
                failure = _unreachable(f"the proxy refused, with status {status}")
            case aiohttp.ClientConnectorError(os_error=cause):
                failure = _no_connection(error, cause, by_proxy=settings.proxy is not None)
            case PrivateAddress() | socket.gaierror():
                failure = _no_connection(error, error, by_proxy=False)
            case aiohttp.InvalidURL() | UnicodeError():
                failure = FetchFailed(Outcome.REFUSED, "not a URL")
            case ValueError():
                failure = FetchFailed(Outcome.HTTP_ERROR, f"not understood: {_first_line(error)}")
            case aiohttp.ClientPayloadError():
                failure = _unreachable("the connection broke before the answer was complete")
            case aiohttp.ClientError() | ConnectionError():
                failure = _unreachable(f"the connection broke: {_first_line(error)}")
        return failure


def _unreachable(reason: str) -> FetchFailed:
    return FetchFailed(Outcome.UNREACHABLE, reason, temporary=True)


def _no_connection(error: BaseException, cause: OSError, *, by_proxy: bool) -> FetchFailed:
    if isinstance(cause, PrivateAddress):
        return FetchFailed(Outcome.REFUSED, f"{cause.address} is not a public address")
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        if by_proxy:
            return _unreachable("no connection to the proxy: no such host")
        temporary = cause.errno == socket.EAI_AGAIN
        return FetchFailed(Outcome.UNREACHABLE, "no such host", temporary=temporary)
    to_proxy = " to the proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    # The text of asyncio has the address, which would be another reason for each host.
    number = cause.errno or 0
    reason = os.strerror(number) if number > 0 else str(cause)[:_MAX_REASON_LETTERS]
    return _unreachable(f"no connection{to_proxy}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:_MAX_REASON_LETTERS]


def _any_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    return socket.socket(info[0], info[1], info[2])


def _parsed(url: str) -> URL:
    """Return a URL that may be fetched. A URL that needs no encoding stays unchanged."""
    scheme, colon, _ = url.partition(":")
    if not url or not colon:
        raise FetchFailed(Outcome.REFUSED, "not a URL" if url else "no URL")
    if scheme.strip().lower() not in ("http", "https"):
        reason = f"{scheme[:_MAX_WORD_LETTERS]}: is not http: or https:"
        raise FetchFailed(Outcome.REFUSED, reason)
    try:
        parsed = URL(url, encoded=_ENCODED_URL.fullmatch(url) is not None)
        host = parsed.host
        _ = parsed.port
    except ValueError as error:
        reason = f"not a URL ({error})"[:_MAX_LONG_REASON_LETTERS]
        raise FetchFailed(Outcome.REFUSED, reason) from error
    if not host or parsed.scheme not in ("http", "https"):
        raise FetchFailed(Outcome.REFUSED, "not a URL: it names no host")
    return parsed


def _redirected(current: URL, location: str, status: int) -> URL:
    try:
        target = URL(location, encoded=_ENCODED_URL.fullmatch(location) is not None)
        return _parsed(str(current.join(target)))
    except FetchFailed as failure:
        reason = f"redirected: {failure.reason}"
        raise FetchFailed(failure.outcome, reason, status=status) from failure
    except ValueError as error:
        reason = "redirected to no URL"
        raise FetchFailed(Outcome.HTTP_ERROR, reason, status=status) from error


def _check_status(response: ClientResponse) -> None:
    status = response.status
    if status == 200:
        return
    reason = f"{status} {response.reason or ''}".strip()[:_MAX_STATUS_LETTERS]
    if status in _TEMPORARY_STATUSES:
        wait = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        raise FetchFailed(Outcome.BUSY, reason, status=status, temporary=True, wait_seconds=wait)
    raise FetchFailed(Outcome.HTTP_ERROR, reason, status=status)


async def _read(response: ClientResponse, body: ResponseBody, limit: int) -> None:
    """Read a response into `body`, but not further than it takes to see that it is no photo."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    decoder: Decoder | None = None
    head = b""
    received = 0
    checked = False
    while chunk := await response.content.readany():
        received += len(chunk)
        if received > limit:
            raise TooManyBytes
        if decoder is None:
            head += chunk
            if len(head) < HEAD_BYTES:
                continue
            decoder, chunk, head = decoder_of(encoding, head), head, b""
        for start in range(0, len(chunk), _READ_BYTES):
            piece = chunk[start : start + _READ_BYTES] if len(chunk) > _READ_BYTES else chunk
            for plain in decoder.feed(piece):
                await body.add(plain)
                if not checked and body.size >= _FORMAT_CHECK_BYTES:
                    checked = True
                    _check_format(body.head, encoding)
    if decoder is None:
        decoder = decoder_of(encoding, head)
        for plain in decoder.feed(head):
            await body.add(plain)
    if received:
        decoder.finish()
    if not checked:
        _check_format(body.head, encoding)
    await body.finish()


def _check_format(head: bytes, encoding: str) -> None:
    if not head:
        raise FetchFailed(Outcome.NOT_A_PHOTO, "the answer is empty")
    if sniff(head[:HEAD_BYTES]) is not None:
        return
    reason = describe_bytes(head)
    if not is_known(encoding):
        reason = f"Content-Encoding {encoding[:_MAX_WORD_LETTERS]!r}, not asked for"
    raise FetchFailed(Outcome.NOT_A_PHOTO, reason)
