"""Who may talk to the server: the browser that was given the address, and no web page.

The address holds a secret, which becomes a cookie. Four things must not get past it: another user
of this machine (has no secret), that user's own server on 127.0.0.1 (a browser would send it our
cookie, but for the folder that only we have), a page of some other site in the same browser (its
requests carry the cookie, but not the header that only our page can set; browsers also say where
they come from), and such a page under a name that suddenly means 127.0.0.1 (the Host header says
that name).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["HEADER", "Access", "Guard"]

HEADER = "x-veduta-page"
MOST_BYTES = 8 * 2**20  # of a request; a step over 50,000 photos is a tenth of it

_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# A redirect would keep the mark of the site that a link was followed from, and with it the cookie
# out; a page that moves on by itself is at home here.
_WELCOME = """<!doctype html><title>Veduta</title>
<link rel="icon" href="{0}static/icon.svg"><meta http-equiv="refresh" content="0;url={0}">
"""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Access:
    """The secrets of one server: new ones each time it starts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        """In the address that is printed."""
        self.page = secrets.token_urlsafe(32)
        """In the page, for the header of its requests."""
        self.folder = f"/{secrets.token_urlsafe(16)}/"
        """What the paths of all else begin with. The cookie goes nowhere else, and photos that a
        browser keeps are not mistaken for those of another run."""
        self.cookie_name = f"veduta-{port}"
        self._cookie = secrets.token_urlsafe(32)
        self._tickets: set[str] = set()

    @property
    def url(self) -> str:
        """The address for the reader."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def ticket_url(self) -> str:
        """Return an address that works once: other users see how a browser was started."""
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket)
        return f"http://127.0.0.1:{self.port}/?token={ticket}"

    def admits(self, token: str) -> bool:
        """Whether `token` is the one of the address, or a ticket, which is then spent."""
        if _same(token, self.token):
            return True
        spent = {ticket for ticket in self._tickets if _same(token, ticket)}
        self._tickets -= spent
        return bool(spent)

    def knows(self, cookies: str) -> bool:
        """Whether a Cookie header is of a browser that was let in."""
        try:
            morsel = SimpleCookie(cookies).get(self.cookie_name)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._cookie)

    def set_cookie(self) -> str:
        """Return the value of a Set-Cookie header."""
        return f"{self.cookie_name}={self._cookie}; Path={self.folder}; HttpOnly; SameSite=Strict"


class Guard:
    """An ASGI application around another one: lets in, refuses, and adds headers."""

    def __init__(self, app: Application, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = {"Cache-Control": "no-store", **_HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in more.items()
                        if name.lower().encode() not in given
                    ),
                ]
            await send(message)

        refusal = self._strange(headers)
        if refusal is None and scope["path"] == "/" and scope["method"] == "GET":
            token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._access.admits(token):
                page = _WELCOME.format(self._access.folder).encode()
                await _answer(send_with_headers, 200, page, self._access.set_cookie())
                return
            refusal = 403, "This address is of a review that has ended, or was used before."
        if refusal is None:
            refusal = self._uninvited(scope, headers)
        if refusal is None:
            inner = scope["path"].removeprefix(self._access.folder[:-1])
            await self._app({**scope, "path": inner}, receive, send_with_headers)
            return
        status, why = refusal
        await _answer(send_with_headers, status, why.encode())

    def _strange(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Say what is wrong with a request whoever sends it."""
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname
        except ValueError:
            name = None
        if name not in _HOSTS:
            return 421, "Open the address that `veduta review` printed; it begins with 127.0.0.1."
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > MOST_BYTES:
            return 413, "The request is too large."
        return None

    def _uninvited(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Say why a request is not of our page in a browser that was let in."""
        inside = scope["path"].startswith(self._access.folder)
        if not inside or not self._access.knows(headers.get("cookie", "")):
            return 403, "Open the address that `veduta review` printed: it has the key in it."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Only the page of the review may ask for this."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            return 403, "Only the page of the review may ask for this."
        # What an <img> or a <script> fetches cannot carry a header of ours.
        shown = scope["method"] == "GET" and not scope["path"].startswith(
            f"{self._access.folder}api/"
        )
        if not shown and not _same(headers.get(HEADER, ""), self._access.page):
            return 403, "Only the page of the review may ask for this: load it again."
        return None


async def _answer(send: Send, status: int, body: bytes, cookie: str | None = None) -> None:
    kind = b"text/html; charset=utf-8" if cookie else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if cookie:
        headers.append((b"set-cookie", cookie.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
