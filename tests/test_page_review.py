"""The review in the frame of a service: the page of `veduta review`, for those who may edit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import Visit, Visitor, Window, every_window
from review_server import EVIL, findings_file, rows_of
from service_server import Server, made_index, serving
from tiny import save

from veduta.cli.main import run
from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reviewed")
    made_index(home, scenes=1, views=2)
    for number in range(4):
        save(home / f"towers/tower/t{number}.png", number)
    save(home / "towers/gate" / EVIL, 9, format="png")
    findings_file(home / "towers", "tower/t2.png,near-copy,0.8,saved again,drop,tower")
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[str, str]:
    return {scope: KeyFile(home / "keys.json").create(scope) for scope in ("search", "edit")}


@pytest.fixture(scope="module")
def server(home: Path, keys: dict[str, str]) -> Iterator[Server]:
    towers = home / "towers"
    review = "--review", towers, "--findings", towers / "findings.csv"
    files = "--keys", home / "keys.json", "--decisions", home / "out.csv"
    options = "--require-key", "--root-path", "/my/photos"
    with serving(home / "places.veduta", *review, *files, *options) as server:
        yield server


def reviewer(visit: Visit, server: Server, key: str, **options: object) -> Visitor:
    visitor = visit(server, extra_http_headers={"Authorization": f"Bearer {key}"}, **options)
    visitor.go("/review").wait_for_selector("#grid li.current img")
    return visitor


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, keys: dict[str, str], window: Window
) -> None:
    visitor = reviewer(visit, server, keys["edit"], **window)
    visitor.check()


def test_the_same_keys_decide_and_the_frame_stays(
    visit: Visit, server: Server, keys: dict[str, str], home: Path
) -> None:
    visitor = reviewer(visit, server, keys["edit"])
    page = visitor.page
    assert page.get_by_role("link", name="Review").get_attribute("aria-current") == "page"
    page.keyboard.press("c")
    page.keyboard.type("tower")
    page.keyboard.press("Enter")
    page.get_by_text("0 of 4 decided").wait_for()
    page.keyboard.press("Enter")  # what is suggested for t2: drop
    page.keyboard.press("r")
    page.keyboard.type("old tower")
    page.keyboard.press("Enter")
    page.keyboard.press("k")
    page.get_by_text("3 of 4 decided").wait_for()
    page.keyboard.press("u")
    page.get_by_text("2 of 4 decided").wait_for()
    page.keyboard.press("e")
    page.locator("#viewer[open]").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Finish").click()
    assert page.get_by_role("button", name="Write and end the review").count() == 0
    page.get_by_role("button", name="Write the files").click()
    page.get_by_text("Wrote ").wait_for()
    written = {path: verdict for path, _, verdict, *_ in rows_of(home / "out.csv")[1:]}
    assert written == {"tower/t2.png": "drop", "tower/t0.png": "relabel"}
    page.get_by_role("button", name="Back").click()
    page.get_by_role("link", name="Index").focus()
    page.keyboard.press("Enter")  # On a link it decides nothing.
    page.get_by_role("heading", name="What it holds").wait_for()
    assert visitor.complaints == []
    page = visitor.go("/review")
    page.get_by_text("2 of 4 decided").wait_for()
    page.keyboard.press("k")
    page.get_by_text("3 of 4 decided").wait_for()
    page.locator("#saved").get_by_text("Saved").wait_for()


def test_it_needs_a_key_to_edit_and_its_own_page(server: Server, keys: dict[str, str]) -> None:
    search = {"Authorization": f"Bearer {keys['search']}"}
    edit = {"Authorization": f"Bearer {keys['edit']}"}
    step = {"decisions": [{"photo": 0, "verdict": "drop"}]}
    for path in ("", "/api/classes", "/api/classes/0", "/photo/small/0"):
        assert server.get(f"//review{path}").status == 401
        assert server.get(f"//review{path}", **search).status == 403
        assert server.get(f"//review{path}", **edit).status == 200
    before = server.get("//review/api/classes", **edit).json
    for path, body in (("step", step), ("undo", {"step": 1}), ("finish", {"stop": False})):
        assert server.post(f"//review/api/{path}", body).status == 401
        assert server.post(f"//review/api/{path}", body, **search).status == 403
        other = {"Sec_Fetch_Site": "cross-site", **edit}
        assert server.post(f"//review/api/{path}", body, **other).status == 403
    refused = server.post("//review/api/finish", {"stop": True}, **edit)
    assert refused.status == 422 and "does not end" in refused.json["detail"]
    for path in ("/photo/small/99", "/photo/small/..%2f..%2fetc", "/api/classes/9", "/static/x"):
        assert server.get(f"//review{path}", **edit).status in (404, 422)
    assert server.get("//review/api/classes", **edit).json == before
    assert server.process.poll() is None


def test_the_end_of_the_service_writes_what_was_decided(home: Path, tmp_path: Path) -> None:
    """As that of `veduta review` does."""
    out = tmp_path / "out.csv"
    review = "--review", home / "towers", "--decisions", out
    with serving(home / "places.veduta", *review) as server:
        step = {"decisions": [{"photo": number, "verdict": "keep"} for number in range(3)]}
        assert server.post("//review/api/step", step).status == 200
    assert len(rows_of(out)) == 1 + 3


def test_a_service_without_a_review_has_no_such_page(home: Path) -> None:
    with serving(home / "places.veduta") as server:
        assert server.get("//review").status == 404
        assert "/review" not in server.get("//", Accept="text/html").body.decode()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--findings", "x.csv"], "--review DATASET"),
        (["--review", ".", "--read-only"], "--read-only forbids"),
        (["--review", ".", "--workers", "2"], "Only one process"),
        (["--review", "no-such"], "no-such"),
    ],
)
def test_options_that_do_not_go_together(
    home: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(home / "places.veduta"), "--port", "0", *options]) == 2
    assert said in capsys.readouterr().err
