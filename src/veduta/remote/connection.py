"""Requests to a service, and its problems as the errors of Veduta."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from veduta import errors
from veduta.errors import PhotoError, QueryError, ServiceError, VedutaError

__all__ = ["Connection"]

_API = "/api/v1"
_TIMEOUT_SECONDS = 120.0
_MAX_TRIES = 5
_MAX_WAIT_SECONDS = 30.0
_BUSY = 429


class Connection:
    """A service at an address. Several threads may use it at the same time.

    Attributes:
        url: the address, without a slash at its end.
    """

    def __init__(self, url: str, key: str | None) -> None:
        """Connect at the first request.

        Args:
            url: `http://host:port` or `https://host`, maybe with the path of a proxy.
            key: of the service; None: it needs none.

        Raises:
            QueryError: it is no such address.
        """
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r} is no address of a service. Write it like http://host:8642.")
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port, self._root = parts.hostname, parts.port, parts.path
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._idle: list[http.client.HTTPConnection] = []  # Its methods are safe in threads.

    def get(self, *path: object, **query: Any) -> Any:
        """Return the JSON at a path."""
        return json.loads(self._answer("GET", path, query))

    def get_bytes(self, *path: object, **query: Any) -> bytes:
        """Return the bytes at a path."""
        return self._answer("GET", path, query)

    def send(self, method: str, *path: object, fields: Any = None, **query: Any) -> Any:
        """Send JSON and return the JSON of the answer; None if it is empty."""
        data = None if fields is None else json.dumps(fields).encode()
        body = self._answer(method, path, query, data, {"Content-Type": "application/json"})
        return json.loads(body) if body else None

    def post_photos(
        self, *path: object, photos: Sequence[tuple[str, bytes]], fields: Any, accept: str
    ) -> bytes:
        """Post photos in a form, with JSON, and return the bytes of the answer.

        Args:
            path: parts of the path.
            photos: (name, bytes) of each.
            fields: the JSON.
            accept: media type of the answer.
        """
        boundary = uuid.uuid4().hex
        body = b"".join(_form(photos, fields, boundary))
        kind = f"multipart/form-data; boundary={boundary}"
        return self._answer("POST", path, {}, body, {"Content-Type": kind, "Accept": accept})

    def events(self, *path: object) -> Iterator[dict[str, Any]]:
        """Yield the server-sent events at a path until they end."""
        connection = self._kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        try:
            answer = self._ask(connection, "GET", self._target(path, {}), None, {})
            if answer.status >= http.client.BAD_REQUEST:
                raise _error_of(answer, answer.read())
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _target(self, path: Sequence[object], query: Mapping[str, Any]) -> str:
        target = self._root + _API + "".join(f"/{quote(str(part), safe='')}" for part in path)
        given = {name: value for name, value in query.items() if value is not None}
        return f"{target}?{urlencode(given, doseq=True)}" if given else target

    def _answer(
        self,
        method: str,
        path: Sequence[object],
        query: Mapping[str, Any],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the body of an answer. A service that is busy is asked again, as it says."""
        target = self._target(path, query)
        for tries in range(1, _MAX_TRIES + 1):
            answer, data = self._kept_connection(method, target, body, headers or {})
            if answer.status != _BUSY or tries == _MAX_TRIES:
                break
            time.sleep(min(_MAX_WAIT_SECONDS, float(answer.headers.get("Retry-After", "1"))))
        if answer.status >= http.client.BAD_REQUEST:
            raise _error_of(answer, data)
        return data

    def _kept_connection(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask over a connection that was kept. The service may have closed it meanwhile."""
        try:
            connection = self._idle.pop()
            is_new = False
        except IndexError:
            connection = self._kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
            is_new = True
        try:
            answer = self._ask(connection, method, target, body, headers)
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if is_new or isinstance(error, TimeoutError) or method not in ("GET", "POST"):
                raise self._unreachable(error) from error
        else:
            self._idle.append(connection)
            return answer, data
        return self._kept_connection(method, target, body, headers)

    def close(self) -> None:
        """Close the connections that are kept. A later request opens a new one."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):
            self.close()

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        connection.request(method, target, body, {**self._headers, **headers})
        return connection.getresponse()

    def _unreachable(self, error: Exception) -> ServiceError:
        reason = str(error) or type(error).__name__
        return ServiceError(
            f"{self.url} cannot be reached: {reason}. Is `veduta serve` running there?"
        )


def _form(photos: Sequence[tuple[str, bytes]], fields: Any, boundary: str) -> Iterator[bytes]:
    for name, data in photos:
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; '
            f'filename="{quote(name, safe=" ")}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        yield data + b"\r\n"
    yield (
        f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\n\r\n'
        f"{json.dumps(fields)}\r\n--{boundary}--\r\n"
    ).encode()


def _error_of(answer: http.client.HTTPResponse, body: bytes) -> VedutaError:
    """Return the problem of an answer as the error that it was on the other machine."""
    try:
        problem = json.loads(body)
        kind, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        return ServiceError(f"The service answered {answer.status} {answer.reason}.")
    error = getattr(errors, kind, None)
    if not (isinstance(error, type) and issubclass(error, VedutaError)):
        return ServiceError(detail)
    if issubclass(error, PhotoError):
        name, _, reason = detail.partition(": ")
        return error(name, reason or detail)
    if issubclass(error, OSError):  # It has the form of an error of this machine.
        return ServiceError(detail)
    return error(detail)
