"""Who may ask for what: the key of a request, and the scope that a route needs."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from fastapi import Depends, Request
from fastapi.responses import Response

from veduta.web.keys import Scope, allows
from veduta.web.problems import Problem
from veduta.web.service import Service

__all__ = [
    "KEY_COOKIE",
    "forget_key",
    "keep_key",
    "key_of",
    "needs",
    "scope_of",
    "service_of",
]

KEY_COOKIE = "veduta-key"
"""Set by `POST /session` for pages. Programs send `Authorization: Bearer KEY`."""


def service_of(request: Request) -> Service:
    """Return the service that answers a request."""
    service: Service = request.app.state.service
    return service


def key_of(request: Request) -> str | None:
    """Return the key that a request carries, or None."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and key:
        return key.strip()
    try:
        morsel = SimpleCookie(request.headers.get("cookie", "")).get(KEY_COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def scope_of(request: Request) -> Scope | None:
    """Return what a request may do; None without a valid key, if one is needed."""
    keys = service_of(request).keys
    if keys is None:
        return "admin"
    key = key_of(request)
    return None if key is None else keys.scope_of(key)


def needs(scope: Scope) -> Any:
    """Return a dependency of routes that need a scope.

    It refuses others with 401 or 403. It also refuses changes on a server that is read-only.

    Args:
        scope: the least one.
    """

    def check(request: Request) -> None:
        has = scope_of(request)
        if has is None:
            raise Problem(
                401,
                "This server needs a key: send it as `Authorization: Bearer KEY`. Its owner makes "
                "one with `veduta keys create`.",
                kind="KeyNeeded",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not allows(has, scope):
            raise Problem(
                403, f"This key allows to {has}, and this needs one for {scope}.", kind="Scope"
            )
        if scope != "search" and service_of(request).settings.read_only:
            raise Problem(403, "This server was started with --read-only.", kind="ReadOnly")

    checked: Callable[[Request], None] = check
    return Depends(checked)


def keep_key(request: Request, response: Response, key: str) -> None:
    """Let the browser keep a key in a cookie, which no script can read."""
    response.set_cookie(
        KEY_COOKIE,
        key,
        path=request.scope.get("root_path") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def forget_key(request: Request, response: Response) -> None:
    """Let the browser forget the key in its cookie."""
    response.delete_cookie(KEY_COOKIE, path=request.scope.get("root_path") or "/")
