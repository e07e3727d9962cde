"""The frame of the pages: navigation, sign-in, errors, scripts and styles."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from page_browser import Visit, Window, every_window
from service_server import Server, made_index, serving

from veduta.pages.app_page import static_files
from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

FORM = "application/x-www-form-urlencoded"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("frame")
    made_index(home, scenes=1, views=2)
    shutil.copytree(home / "places.veduta", home / "<b>& other.veduta")
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return KeyFile(home / "keys.json").create("search")


@pytest.fixture(scope="module")
def server(home: Path, key: str) -> Iterator[Server]:
    """A service below a path, which needs a key, with two indexes."""
    indexes = home / "places.veduta", home / "<b>& other.veduta"
    keys = "--require-key", "--keys", home / "keys.json"
    with serving(*indexes, *keys, "--root-path", "/my/photos") as server:
        yield server


def form(**fields: str) -> dict[str, str | bytes]:
    return {"body": urlencode(fields).encode(), "content_type": FORM}


@every_window
def test_the_pages_fit_every_window_and_everyone(
    visit: Visit, server: Server, key: str, window: Window
) -> None:
    visitor = visit(server, **window)
    page = visitor.go("/sign-in")
    visitor.check()
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Search").wait_for()
    visitor.check()
    page.goto(visitor.root + "/nothing")
    assert visitor.complaints.pop().startswith("console: Failed to load")
    assert visitor.complaints.pop() == f"404 {visitor.root}/nothing"
    visitor.check()


def test_a_browser_without_a_key_signs_in_and_goes_on(
    visit: Visit, server: Server, key: str
) -> None:
    visitor = visit(server)
    page = visitor.go("/?index=places&from=a%26b")
    page.get_by_label("Key").fill("veduta_wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("This key is not valid.").wait_for()
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Search").wait_for()
    assert page.url == f"{visitor.root}/?index=places&from=a%26b"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Key").wait_for()
    page = visitor.go("/")
    page.get_by_label("Key").wait_for()


def test_the_index_is_chosen_in_the_frame(visit: Visit, server: Server, key: str) -> None:
    visitor = visit(server, extra_http_headers={"Authorization": f"Bearer {key}"})
    page = visitor.go("/")
    page.get_by_text("places", exact=True).first.click()
    page.get_by_role("link", name="<b>& other").click()
    page.locator(".menu summary", has_text="<b>& other").wait_for()
    assert page.evaluate("document.documentElement.dataset.index") == "<b>& other"
    assert page.locator("nav a[aria-current=page]").get_attribute("href") == (
        "/my/photos/?index=%3Cb%3E%26+other"
    )
    assert visitor.complaints == []


def test_the_keyboard_reaches_the_content_at_once(visit: Visit, server: Server, key: str) -> None:
    visitor = visit(server, extra_http_headers={"Authorization": f"Bearer {key}"})
    page = visitor.go("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_programs_get_problem_documents_and_browsers_pages(server: Server) -> None:
    for path in ("//", "//nothing"):
        answer = server.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
    assert server.get("//").status == 401
    words = server.get("//nothing").json["detail"]
    answer = server.get("//nothing", **HTML)
    assert answer.status == 404 and words in answer.body.decode()
    assert server.get("/photos", **HTML).headers["content-type"] == "application/problem+json"


def test_a_part_that_a_script_asks_for_without_a_key_leads_to_the_sign_in(server: Server) -> None:
    answer = server.get("//", HX_Request="true")
    assert answer.status == 401 and answer.headers["hx-redirect"] == "/my/photos/sign-in"


def test_an_unknown_index_is_named(server: Server, key: str) -> None:
    answer = server.get("//?index=gone", Authorization=f"Bearer {key}", **HTML)
    assert answer.status == 404 and "There is no index &#39;gone&#39;." in answer.body.decode()


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_leads_nowhere_else(server: Server, key: str, elsewhere: str) -> None:
    answer = server.ask("POST", "//sign-in", **form(key=key, next=elsewhere))
    assert answer.status == 303 and answer.headers["location"] == "/my/photos/"


def test_the_cookie_is_the_one_of_the_api(server: Server, key: str) -> None:
    answer = server.ask("POST", "//sign-in", **form(key=key, next="/?a=b"))
    assert answer.headers["location"] == "/my/photos/?a=b"
    cookie = answer.headers["set-cookie"]
    assert cookie == server.post("/session", {"key": key}).headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/my/photos"):
        assert part in cookie
    assert server.get("//", Cookie=cookie.partition(";")[0]).status == 200
    assert server.ask("POST", "//sign-in", b"x" * 9000, content_type=FORM).status == 413


def test_a_link_of_another_site_is_asked_for_again(server: Server) -> None:
    """The cookie is not sent at first, because another site led here."""
    sent = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", **HTML}
    answer = server.get("//", **sent)
    assert answer.status == 200 and b'http-equiv="refresh"' in answer.body
    sent["Sec-Fetch-Site"] = "same-origin"
    answer = server.get("//?a=b", **sent)
    assert answer.status == 303
    assert answer.headers["location"] == "/my/photos/sign-in?next=%2F%3Fa%3Db"


def test_files_are_kept_by_browsers_as_long_as_they_are_the_same(server: Server) -> None:
    text = server.get("//sign-in").body.decode()
    (address,) = re.findall(r'"/my/photos(/static/\w+/app/app.css)"', text)
    answer = server.get(f"/{address}")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    again = server.get(f"/{address}", If_None_Match=answer.headers["etag"])
    assert again.status == 304 and again.body == b""
    older = server.get("//static/older/app/app.css")
    assert older.headers["cache-control"] == "no-cache" and older.body == answer.body
    for path in ("app", "app/../app/app.css", "%2e%2e/html.py", "../html.py", "app/none.js"):
        assert server.get(f"//static/older/{path}").status == 404


def test_scripts_of_others_are_named(home: Path) -> None:
    """Each vendored script stands in NOTICE with its version and licence."""
    notice = (Path(__file__).parents[1] / "NOTICE").read_text()
    script = static_files()["app/htmx.min.js"].data.decode()
    (version,) = re.findall(r'version:"([\d.]+)"', script)
    assert f"htmx {version}" in notice and "Zero-Clause BSD" in notice


def test_without_keys_there_is_nothing_to_sign_in_to(home: Path) -> None:
    with serving(home / "places.veduta") as server:
        assert server.get("//sign-in").headers["location"] == "/"
        page = server.get("//").body.decode()
        assert "Sign out" not in page and 'data-root=""' in page and "Indexes" not in page
