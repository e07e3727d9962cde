"""The page of an index: what it holds, and an indexing run from its start to its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import Visit, Window, every_window
from service_server import Server, made_index, serving
from tiny import save_view

from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

HTML = {"Accept": "text/html"}

PHOTOS_TO_ADD = 160
"""So many that no machine has read them before the run is cancelled."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with photos to add, and a file that is no photo."""
    home = tmp_path_factory.mktemp("index")
    made_index(home, scenes=1, views=2)
    for view in range(PHOTOS_TO_ADD):
        save_view(home / f"more/<b>x/{view}.png", 50 + view, 1, noise=0.3)
    (home / "photos/place0/<i>broken.jpg").write_text("no photo")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta", "--root-path", "/my/photos") as server:
        number = server.post("/jobs/index", {}).json["id"]
        server.get(f"/jobs/{number}/events")
        yield server


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, window: Window
) -> None:
    visitor = visit(server, **window)
    page = visitor.go("/index")
    for summary in page.locator("main summary").all():
        summary.click()
    visitor.check()


def test_it_says_what_the_index_holds_and_what_not(visit: Visit, server: Server) -> None:
    page = visit(server).go("/index")
    holds = page.locator("#holds").inner_text()
    assert "2 photos" in holds
    assert "folders (1 label, 2 labelled photos)" in holds
    assert "nobody" in holds and str(Path("photos")) in holds
    page.get_by_text("Which, and why").click()
    row = page.locator("#holds tbody tr").inner_text()
    assert "<i>broken.jpg" in row and "not a photo in a supported format but text" in row
    last = page.locator(".last li").first.inner_text()
    assert last.startswith("done") and "2 unchanged" in last


def test_a_run_is_started_watched_found_again_and_cancelled(
    visit: Visit, server: Server, home: Path
) -> None:
    visitor = visit(server)
    page = visitor.go("/index")
    page.get_by_label("Another folder").check()
    page.get_by_label("Folder, as the server sees it").fill(str(home / "no-such"))
    page.get_by_role("button", name="Start").click()
    failed = page.locator(".last li").first
    failed.get_by_text("failed").wait_for()
    assert "no-such" in failed.inner_text()

    page.get_by_label("Folder, as the server sees it").fill(str(home / "more"))
    page.get_by_label("Labels").select_option("the names of the class folders")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Indexing now").wait_for()
    page.get_by_text(f"of {PHOTOS_TO_ADD} photos").wait_for()
    page.reload()
    page.get_by_text(f"of {PHOTOS_TO_ADD} photos").wait_for()
    visitor.check()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("alert").get_by_text("another process is writing to this index").wait_for()
    assert visitor.complaints.pop().startswith("console: Failed to load")
    assert visitor.complaints.pop().startswith("409 ")
    page.get_by_text("photos/s").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#messages").get_by_text("The indexing run was cancelled.").wait_for()
    cancelled = page.locator(".last li").first
    cancelled.get_by_text("cancelled").wait_for()
    assert str(home / "more") in cancelled.inner_text()
    assert visitor.complaints == []

    # What was read stays, and the next run goes on there. The page says what it did.
    shutil.rmtree(home / "more/<b>x")
    save_view(home / "more/<b>x/new.png", 99, 1, noise=0.3)
    page.get_by_label("Another folder").check()
    page.get_by_label("Folder, as the server sees it").fill(str(home / "more"))
    page.get_by_role("button", name="Start").click()
    page.get_by_role("status").get_by_text("The indexing run is done.").wait_for()
    page.locator("#holds").get_by_text("3 photos", exact=True).wait_for()
    assert "2 labels" in page.locator("#holds").inner_text()
    assert "1 added" in page.locator(".last li").first.inner_text()
    visitor.check()


def test_others_see_the_status_alone(server: Server, home: Path) -> None:
    keys = KeyFile(home / "keys.json")
    search, admin = keys.create("search"), keys.create("admin")
    with serving(home / "places.veduta", "--require-key", "--keys", keys.file) as locked:
        shown = locked.get("//index", Authorization=f"Bearer {search}", **HTML).body.decode()
        assert "What it holds" in shown and "Your key allows to search." in shown
        assert "Last runs" not in shown and 'id="start"' not in shown
        shown = locked.get("//index", Authorization=f"Bearer {admin}", **HTML).body.decode()
        assert "Last runs" in shown and 'id="start"' in shown
    with serving(home / "places.veduta", "--read-only") as locked:
        shown = locked.get("//index", **HTML).body.decode()
        assert "--read-only" in shown and 'id="start"' not in shown and "Last runs" not in shown
