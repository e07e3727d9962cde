"""Which requests are answered at all: by their Host header, and by the page that sends them.

- A page of another site can use a name that resolves to this server (DNS rebinding). Its requests
  have that name in their Host header. An address cannot be rebound, so addresses are accepted, and
  names only as the user told them.
- A page of another site can send requests to this address. Browsers then say so in Sec-Fetch-Site
  and in Origin. Programs that are no browsers send neither.
- A proxy that the server does not know of would lend its own address to strangers.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from veduta.web.asgi import Application, Message, Receive, Send, headers_of, with_headers
from veduta.web.problems import Problem
from veduta.web.settings import ServeSettings

__all__ = ["RequestChecks"]

_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; manifest-src 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_OWN_PAGES = ("same-origin", "none")


class RequestChecks:
    """An ASGI application around another one. It refuses requests and adds security headers."""

    def __init__(self, app: Application, settings: ServeSettings) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in settings.host_names)}
        self._root = settings.root_path
        self._trusts_proxy = bool(settings.proxies)
        self._needs_key = settings.key_file is not None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(send, _SECURITY_HEADERS)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.as_response()(scope, receive, send)
            return
        await self._app(self._below_root(scope), receive, send)

    def _below_root(self, scope: Message) -> Message:
        """Return the request with its path as applications expect it: with the root path.

        Some proxies take the root path away before they pass a request on, others do not.
        """
        path = scope["path"]
        if self._root and path != self._root and not path.startswith(f"{self._root}/"):
            path = self._root + path
        return {**scope, "root_path": self._root, "path": path}

    def _refusal(self, scope: Message) -> Problem | None:
        headers = headers_of(scope)
        if not self._is_own_name(headers.get("host", "")):
            return Problem(
                421,
                "This server does not answer to the name in the address. Start it with "
                "--host-name NAME to allow a name, or use its address.",
                kind="UnknownHost",
            )
        if not self._trusts_proxy and any(name in headers for name in _FORWARDING):
            return Problem(
                403,
                "The request came through a proxy that this server does not know of. Start it with "
                "--trust-proxy ADDRESS.",
                kind="UnknownProxy",
            )
        if self._is_of_other_site(scope, headers):
            return Problem(403, "Only pages of this server may ask for this.", kind="OtherSite")
        return None

    def _is_own_name(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True

    def _is_of_other_site(self, scope: Message, headers: dict[str, str]) -> bool:
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        site = headers.get("sec-fetch-site")
        if site is not None and site not in _OWN_PAGES:
            # A link on another site may lead here. It changes nothing, and its site sees nothing.
            return changes or headers.get("sec-fetch-mode") != "navigate"
        origin = headers.get("origin")
        if origin is None or site is not None:
            return False
        # An older browser. Behind a proxy the scheme may differ, so only the host is compared.
        return urlsplit(origin).netloc != headers.get("host")
