"""The page that recognises, used as people do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_browser import Visit, Window, every_window
from service_server import Server, made_index, serving
from tiny import save_view

import veduta
from veduta.cli.main import run
from veduta.errors import QueryError
from veduta.web.served_index import ServedIndex

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recognize-page")
    made_index(home, scenes=3, views=6)
    save_view(home / "known.png", 1, 20, noise=0.3)
    save_view(home / "unknown.png", 55, 1)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta") as server:
        server.post("/recognize", {"photo_id": 1})  # Learn once.
        yield server


Printed = Callable[[str], list[str]]


@pytest.fixture
def printed(home: Path, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return `printed(photo)`: what `veduta recognize` prints of a photo, without its name."""

    def lines(photo: str) -> list[str]:
        index = str(home / "places.veduta")
        assert run(["recognize", str(home / photo), "--index", index, "--precision", "0.95"]) == 0
        return [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]

    return lines


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, window: Window
) -> None:
    visitor = visit(server, **window)
    page = visitor.go("/recognize?photo_id=7")
    page.get_by_role("heading", name="place1").wait_for()
    visitor.check()
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("It gets one of the 3 labels of this collection").wait_for()
    visitor.check()


def test_a_known_place_is_named_as_on_the_command_line(
    visit: Visit, server: Server, home: Path, printed: Printed
) -> None:
    name, confidence = printed("known.png")[0].split("  ")
    visitor = visit(server)
    page = visitor.go("/recognize")
    page.set_input_files("#pick", home / "known.png")
    page.get_by_role("heading", name=name, exact=True).wait_for()
    assert page.locator(".confidence").inner_text() == f"{confidence} confidence"
    shown = page.locator(".photo-card img").evaluate_all("all => all.map(image => image.alt)")
    assert shown and all(photo.startswith("1-") for photo in shown)
    page.locator(".photo-card a.frame").first.click()
    page.wait_for_url("**/evidence?upload=*&hit=*")
    page.go_back()
    page.get_by_role("heading", name=name, exact=True).wait_for()
    page.get_by_role("link", name="Search with it").click()
    page.locator("[data-shelf=same] .photo-card").first.wait_for()
    assert page.get_by_role("heading", name="known.png").is_visible()
    page.get_by_role("link", name="What is it?").click()
    page.get_by_role("heading", name=name, exact=True).wait_for()
    assert visitor.complaints == []


def test_a_stranger_is_unknown_with_the_reason_and_the_nearest(
    visit: Visit, server: Server, home: Path, printed: Printed
) -> None:
    (first, *_) = printed("unknown.png")
    assert first.startswith("unknown: ")
    visitor = visit(server)
    page = visitor.go("/recognize")
    page.set_input_files("#pick", home / "unknown.png")
    page.get_by_role("heading", name="Not a place I know").wait_for()
    assert page.get_by_text(first).is_visible()
    page.get_by_role("heading", name="The nearest photos").wait_for()
    assert page.locator(".photo-card").count() > 0


def test_a_part_of_a_photo_is_recognised(visit: Visit, server: Server) -> None:
    visitor = visit(server)
    page = visitor.go("/recognize?photo_id=7")
    page.locator(".named").wait_for()
    with page.expect_response("**/recognize/answer") as answer:
        page.get_by_role("button", name="Add a box").click()
    assert answer.value.ok and "box=" in page.url
    page.locator(".named").wait_for()
    page.go_back()
    page.wait_for_url(lambda url: "box=" not in url)
    page.locator(".named").wait_for()


def test_a_failure_is_named_and_tried_again(visit: Visit, server: Server) -> None:
    visitor = visit(server)
    visitor.page.route("**/recognize/answer", lambda route: route.abort())
    page = visitor.go("/recognize?photo_id=7")
    page.get_by_role("alert").get_by_text("The server does not answer.").wait_for()
    page.unroute("**/recognize/answer")
    page.get_by_role("button", name="Try again").click()
    page.locator(".named").wait_for()
    page = visitor.go("/recognize?photo_id=99")
    page.get_by_role("alert").get_by_text("has no photo number 99").wait_for()


def test_a_long_wait_says_how_much_is_learned(visit: Visit, server: Server) -> None:
    assert server.ask("GET", "//recognize/learned").json == {"photos": None, "of": None}
    visitor = visit(server)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visitor.page.route("**/recognize/answer", hold)
    learned = {"photos": 3, "of": 12}
    visitor.page.route("**/recognize/learned", lambda route: route.fulfill(json=learned))
    page = visitor.go("/recognize?photo_id=7")
    page.get_by_text("the labels of the collection are learned: 25 %.").wait_for()
    held[0].continue_()
    page.locator(".named").wait_for()
    page.get_by_text("are learned").wait_for(state="detached")


def test_an_index_tells_how_much_it_has_learned(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = ServedIndex("places", home / "places.veduta")
    seen: list[tuple[int, int] | None] = []

    def recognizer(_: veduta.Index, on_progress: Callable[[int, int], None]) -> None:
        on_progress(1, 4)
        seen.append(served.learned)
        raise QueryError("It learns no more.")

    monkeypatch.setattr(veduta.Index, "recognizer", recognizer)
    with pytest.raises(QueryError):
        served.recognize([])
    assert seen == [(1, 4)] and served.learned is None
