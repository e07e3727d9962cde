"""The frame of the pages of a service: what each of them shows around its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from veduta.pages.html import PAGES, render_page

__all__ = [
    "API",
    "AppPage",
    "Link",
    "StaticFile",
    "render_app_page",
    "static_digest",
    "static_files",
]

API = "/api/v1"
"""Below the root: where the API of the service begins."""

_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the navigation.

    Attributes:
        name: that is shown.
        href: where it leads.
        current: whether that is the page that shows it.
    """

    name: str
    href: str
    current: bool = False


@dataclass(frozen=True, slots=True)
class AppPage:
    """What a template of `templates/app` calls `page`.

    Attributes:
        root: prefix of all addresses of the service, such as "/photos"; empty for none.
        pages: links to the pages.
        indexes: links to this page with each index.
        index: name of the index that is shown.
        is_default: whether it is the one that is shown when none is named.
        can_sign_out: whether this browser has sent a key.
        scope: what this browser may do; None: nothing.
        read_only: whether the server refuses all changes.
        content: what the page itself shows; its template knows it.
    """

    root: str
    pages: Sequence[Link]
    indexes: Sequence[Link]
    index: str
    is_default: bool
    can_sign_out: bool
    scope: str | None
    read_only: bool
    content: Any = None

    @property
    def static(self) -> str:
        """Prefix of the addresses of scripts and styles. It changes when one of them does."""
        return f"{self.root}/static/{static_digest()}"

    @property
    def may_edit(self) -> bool:
        """Whether this browser may change labels and remove photos."""
        return self.scope in ("edit", "admin") and not self.read_only

    @property
    def may_index(self) -> bool:
        """Whether this browser may start indexing runs."""
        return self.scope == "admin" and not self.read_only

    def link(self, path: str, **values: Any) -> str:
        """Return the address of a page of the service, with the index that is shown.

        Args:
            path: below the root, with a slash at its start.
            **values: of the query. None is left out.
        """
        if not self.is_default:
            values = {"index": self.index, **values}
        given = {name: value for name, value in values.items() if value is not None}
        return f"{self.root}{quote(path)}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    def api(self, path: str, **values: Any) -> str:
        """Return an address of the API, as `link` does."""
        return self.link(f"{API}{path}", **values)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A script, a style or an icon.

    Attributes:
        data: its bytes.
        media_type: of them.
        tag: a hash of them.
    """

    data: bytes
    media_type: str
    tag: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Read what the pages load: path below `static` → file."""
    folder = PAGES / "static"
    files = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in _MEDIA_TYPES:
            data = file.read_bytes()
            tag = hashlib.sha256(data).hexdigest()[:32]
            name = file.relative_to(folder).as_posix()
            files[name] = StaticFile(data, _MEDIA_TYPES[file.suffix], tag)
    return files


@cache
def static_digest() -> str:
    """Return a hash of all static files. Scripts import each other, so one hash is for all."""
    tags = "".join(f"{name}{file.tag}" for name, file in static_files().items())
    return hashlib.sha256(tags.encode()).hexdigest()[:16]


def render_app_page(template: str, page: AppPage) -> str:
    """Return a page, or a part of one, as HTML.

    Args:
        template: name of a file in `templates/app`.
        page: for the template.
    """
    return render_page(f"app/{template}", page)
