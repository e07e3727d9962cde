"""The frame of the pages: navigation, sign-in, scripts and styles, and errors as pages.

Each page is a module `pages_*.py` with a `router` and a `PAGE`. `PAGES` of `api_app.py` lists them
in the order of the navigation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from veduta.pages.app_page import (
    API,
    AppPage,
    Link,
    render_app_page,
    static_digest,
    static_files,
)
from veduta.web.access import forget_key, keep_key, key_of, scope_of, service_of
from veduta.web.problems import Problem
from veduta.web.served_index import ServedIndex
from veduta.web.service import Service

__all__ = ["Page", "framed", "framed_text", "problem_response", "router", "shown_index"]

router = APIRouter(include_in_schema=False)

_STAYS = "public, max-age=31536000, immutable"
_MAX_FORM_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the navigation.

    Attributes:
        name: that is shown.
        path: below the root.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class _SignIn:
    next: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _ShownProblem:
    title: str
    detail: str
    retry_after: str | None


def shown_index(request: Request) -> ServedIndex:
    """Return the index that a page shows.

    Args:
        request: of the browser. `index` of its address names the index; without it, the first one.

    Raises:
        Problem: 404, there is no such index.
    """
    return service_of(request).index(request.query_params.get("index"))


def framed(request: Request, template: str, content: Any = None, status: int = 200) -> HTMLResponse:
    """Return a page.

    Args:
        request: as for `shown_index`.
        template: in `templates/app`.
        content: what the template calls `page.content`.
        status: of the answer.

    Raises:
        Problem: 404, there is no such index.
    """
    return HTMLResponse(framed_text(request, template, content), status)


def framed_text(request: Request, template: str, content: Any = None) -> str:
    """Return a page, or a part of one that a script asked for, as HTML.

    Args:
        request: as for `shown_index`.
        template: in `templates/app`.
        content: what the template calls `page.content`.

    Raises:
        Problem: 404, there is no such index.
    """
    return _text(request, shown_index(request).name, template, content)


def problem_response(request: Request, problem: Problem) -> Response:
    """Return why a request is not answered: a page for a browser, else a problem document."""
    root = request.scope.get("root_path", "")
    of_script = request.headers.get("hx-request") == "true"
    wants_page = of_script or "text/html" in request.headers.get("accept", "")
    if not wants_page or request.url.path.startswith(f"{root}{API}/"):
        return problem.as_response()
    if problem.status_code == 401:
        return _to_sign_in(request, of_script=of_script)
    headers = problem.headers or {}
    content = _ShownProblem(problem.title, problem.detail, headers.get("Retry-After"))
    template = "problem_part.html" if of_script else "problem.html"
    response = _default_framed(request, template, content, problem.status_code)
    response.headers.update(headers)
    return response


@router.get("/static/{digest}/{path:path}")
async def read_static_file(request: Request, digest: str, path: str) -> Response:
    """Return a script, a style or an icon."""
    file = static_files().get(path)
    if file is None:
        raise Problem(404, "There is no such file.")
    # An address with the hash of what this version has never means anything else.
    headers = {
        "ETag": f'"{file.tag}"',
        "Cache-Control": _STAYS if digest == static_digest() else "no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """Ask for a key."""
    following = _local(request.query_params.get("next"))
    if scope_of(request) is not None:
        return _redirect(request, following)
    return _default_framed(request, "sign_in.html", _SignIn(following), 200)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Keep the key of the form in a cookie, and go on to the page that needed it."""
    form = await _form(request)
    following = _local(form.get("next"))
    key = form.get("key", "").strip()
    keys = service_of(request).keys
    if keys is not None and keys.scope_of(key) is None:
        content = _SignIn(following, "This key is not valid.")
        return _default_framed(request, "sign_in.html", content, 401)
    response = _redirect(request, following)
    if keys is not None:
        keep_key(request, response, key)
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Forget the key of this browser."""
    response = _redirect(request, "/sign-in" if service_of(request).keys else "/")
    forget_key(request, response)
    return response


def _default_framed(request: Request, template: str, content: Any, status: int) -> HTMLResponse:
    """Return a page that shows the first index: the one in the address may not exist."""
    default = next(iter(service_of(request).indexes))
    return HTMLResponse(_text(request, default, template, content), status)


def _text(request: Request, index: str, template: str, content: Any) -> str:
    service = service_of(request)
    scope = scope_of(request)
    root = request.scope.get("root_path", "")
    names = list(service.indexes)
    page = AppPage(
        root=root,
        pages=_links(request, service, index) if scope else (),
        indexes=[
            Link(name, "?" + urlencode({"index": name}), name == index) for name in names if scope
        ],
        index=index,
        is_default=index == names[0],
        can_sign_out=service.keys is not None and key_of(request) is not None,
        scope=scope,
        read_only=service.settings.read_only or service.indexes[index].url is not None,
        content=content,
    )
    return render_app_page(template, page)


def _links(request: Request, service: Service, index: str) -> list[Link]:
    root = request.scope.get("root_path", "")
    here = request.url.path.removeprefix(root)
    chosen = "" if index == next(iter(service.indexes)) else "?" + urlencode({"index": index})
    pages: tuple[Page, ...] = request.app.state.pages
    return [
        Link(page.name, f"{root}{page.path}{chosen}", _is_within(here, page.path)) for page in pages
    ]


def _is_within(here: str, path: str) -> bool:
    return here == path or here.startswith(f"{path}/")


def _to_sign_in(request: Request, *, of_script: bool) -> Response:
    root = request.scope.get("root_path", "")
    if of_script:
        return Response(status_code=401, headers={"HX-Redirect": f"{root}/sign-in"})
    here = request.url.path.removeprefix(root)
    if request.url.query:
        here += f"?{request.url.query}"
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        # A browser keeps the cookie back when a page of another site leads here. This page asks
        # for the same address once more, and then the browser sends it.
        return _again()
    address = f"{root}/sign-in?{urlencode({'next': here})}"
    return RedirectResponse(address, 303)


def _again() -> HTMLResponse:
    """Return a page that loads its own address again."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>Veduta</title>'
        '<meta http-equiv="refresh" content="0"></html>'
    )


def _local(following: str | None) -> str:
    """Return a path of this service; "/" for what may lead elsewhere."""
    if following is None or not following.startswith("/") or following[1:2] in ("/", "\\"):
        return "/"
    return following


def _redirect(request: Request, path: str) -> Response:
    root = request.scope.get("root_path", "")
    return RedirectResponse(root + quote(path, safe="/?&=%+,:;@!$'()*~"), 303)


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a small form without files."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MAX_FORM_BYTES:
            raise Problem(413, "The form is too large.")
    fields = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}
