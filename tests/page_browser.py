"""A browser at the pages of a service, and what must hold on each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from service_server import Server

Window = dict[str, Any]
"""Options of a browser context."""

every_window = pytest.mark.parametrize(
    "window",
    [
        pytest.param(
            {"viewport": {"width": width, "height": 800}, "color_scheme": scheme},
            id=f"{width}-{scheme}",
        )
        for width, scheme in ((360, "light"), (360, "dark"), (1280, "light"), (2560, "dark"))
    ],
)
"""A test gets each `window`: a phone, light and dark, a laptop and a large screen."""


class Visitor:
    """Someone at a page of a service. What the page does wrong is noted.

    Attributes:
        page: of Playwright.
        complaints: messages of the console, errors of scripts, requests that failed, and requests
            to anywhere else.
    """

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        """Open a window. `options` are those of a browser context."""
        options.setdefault("viewport", {"width": 1280, "height": 800})
        self.server = server
        self.root = server.url.rstrip("/")
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        note = self.complaints.append
        self.page.on("console", lambda message: note(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: note(f"script: {error}"))
        self.page.on("response", self._note_refusal)
        self.page.on("request", self._note_stranger)

    def _note_refusal(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def _note_stranger(self, request: Any) -> None:
        if not request.url.startswith((self.root, "blob:")):
            self.complaints.append(f"elsewhere: {request.url}")

    def go(self, path: str = "/") -> Any:
        """Open a page of the service, and return the page of Playwright."""
        self.page.goto(self.root + path)
        return self.page

    def check(self) -> None:
        """Fail if the page does not fit its window, complains, or shuts anyone out."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"the page is {wide} pixels wider than its window"
        assert self.complaints == [], "; ".join(self.complaints)
        violations = accessibility_violations(self.page)
        assert violations == [], "\n".join(violations)

    def close(self) -> None:
        self.context.close()


Visit = Callable[..., Visitor]
"""The type of the fixture `visit`."""


def accessibility_violations(page: Any) -> list[str]:
    """Return what axe finds against a page, one line for each rule."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: " + "; ".join(node["html"][:200] for node in rule["nodes"])
        for rule in found
    ]
