"""Who may use the review server: the browser that was given its address, and no other web page.

The address holds a token, for which the browser gets a cookie. Four others are refused:

- Another user of this machine does not have the token.
- A server of that user on 127.0.0.1 would get our cookie from the browser, but the cookie is valid
  only below a secret path prefix.
- A page of another site in the same browser sends the cookie, but cannot send the header that our
  page sets. Browsers also say where such a request comes from.
- Such a page under a name that resolves to 127.0.0.1 sends this name in its Host header.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from veduta.web.asgi import Application, Message, Receive, Send, headers_of, with_headers

__all__ = ["PAGE_KEY_HEADER", "AccessControl", "ReviewAccess"]

PAGE_KEY_HEADER = "x-veduta-page"
MAX_REQUEST_BYTES = 8 * 2**20  # A step over 50,000 photos takes a tenth of it.

_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
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
# After a link from another site, a redirect would still count as a request of that site, and the
# browser would not send the strict cookie. A page that loads the next one is of our own site.
_ENTRY_PAGE = """<!doctype html><title>Veduta</title>
<link rel="icon" href="{0}static/icon.svg"><meta http-equiv="refresh" content="0;url={0}">
"""


class ReviewAccess:
    """The secrets of one server. They are new each time it starts.

    Attributes:
        port: of 127.0.0.1.
        token: in the address that is printed.
        page_key: in the page, for the header of its requests.
        path_prefix: begins the path of everything but the entry. The cookie is sent nowhere else,
            and a browser does not take cached photos of another run for those of this one.
        cookie_name: one for each port.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self.page_key = secrets.token_urlsafe(32)
        self.path_prefix = f"/{secrets.token_urlsafe(16)}/"
        self.cookie_name = f"veduta-{port}"
        self._cookie = secrets.token_urlsafe(32)
        self._single_use_tokens: set[str] = set()

    @property
    def url(self) -> str:
        """The address for the user."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def single_use_url(self) -> str:
        """Return an address that works once: other users can see how a browser was started."""
        token = secrets.token_urlsafe(32)
        self._single_use_tokens.add(token)
        return f"http://127.0.0.1:{self.port}/?token={token}"

    def accepts(self, token: str) -> bool:
        """Return whether a token is valid. A single-use token is not valid again."""
        if _equal(token, self.token):
            return True
        used = {known for known in self._single_use_tokens if _equal(token, known)}
        self._single_use_tokens -= used
        return bool(used)

    def has_cookie(self, cookie_header: str) -> bool:
        """Return whether a Cookie header has the cookie of this server."""
        try:
            morsel = SimpleCookie(cookie_header).get(self.cookie_name)
        except CookieError:
            return False
        return morsel is not None and _equal(morsel.value, self._cookie)

    def set_cookie_header(self) -> str:
        """Return the value of a Set-Cookie header."""
        return (
            f"{self.cookie_name}={self._cookie}; Path={self.path_prefix}; HttpOnly; SameSite=Strict"
        )


class AccessControl:
    """An ASGI application around another one. It refuses requests and adds security headers."""

    def __init__(self, app: Application, access: ReviewAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        headers = headers_of(scope)
        send = with_headers(send, _SECURITY_HEADERS)
        refusal = self._refuse_any(headers)
        if refusal is None and scope["path"] == "/" and scope["method"] == "GET":
            token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._access.accepts(token):
                page = _ENTRY_PAGE.format(self._access.path_prefix).encode()
                await _answer(send, 200, page, self._access.set_cookie_header())
                return
            refusal = 403, "This address is of a review that has ended, or was used before."
        if refusal is None:
            refusal = self._refuse_others(scope, headers)
        if refusal is None:
            path = scope["path"].removeprefix(self._access.path_prefix[:-1])
            await self._app({**scope, "path": path}, receive, send)
            return
        status, reason = refusal
        await _answer(send, status, reason.encode())

    def _refuse_any(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return the status and the reason why a request is refused, whoever sends it."""
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
        except ValueError:
            host = None
        if host not in _HOSTS:
            return 421, "Open the address that `veduta review` printed; it begins with 127.0.0.1."
        length = headers.get("content-length", "0")
        too_large = not length.isdecimal() or int(length) > MAX_REQUEST_BYTES
        if "transfer-encoding" in headers or too_large:
            return 413, "The request is too large."
        return None

    def _refuse_others(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return why a request is refused that is not of our page in the browser of the user."""
        prefix = self._access.path_prefix
        has_cookie = self._access.has_cookie(headers.get("cookie", ""))
        if not scope["path"].startswith(prefix) or not has_cookie:
            return 403, "Open the address that `veduta review` printed: it has the key in it."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Only the page of the review may ask for this."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            return 403, "Only the page of the review may ask for this."
        # An <img> or a <script> cannot send a header of ours.
        is_part = scope["method"] == "GET" and not scope["path"].startswith(f"{prefix}api/")
        if not is_part and not _equal(headers.get(PAGE_KEY_HEADER, ""), self._access.page_key):
            return 403, "Only the page of the review may ask for this: load it again."
        return None


async def _answer(send: Send, status: int, body: bytes, cookie: str | None = None) -> None:
    kind = b"text/html; charset=utf-8" if cookie else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if cookie:
        headers.append((b"set-cookie", cookie.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _equal(first: str, second: str) -> bool:
    """Compare two secrets in constant time."""
    return secrets.compare_digest(first.encode(), second.encode())
