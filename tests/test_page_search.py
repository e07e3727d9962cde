"""The search page, used as people do: with the mouse, with keys, and with what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_browser import Visit, Visitor, Window, every_window
from PIL import Image
from service_server import Server, made_index, serving

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("search-page")
    made_index(home, scenes=4, views=8)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta", "--max-upload-mb", "1") as server:
        yield server


@pytest.fixture
def searcher(visit: Visit, server: Server) -> Searcher:
    return Searcher(visit(server))


class Searcher:
    """Someone at the search page."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.page = visitor.page

    def go(self, path: str = "/") -> None:
        self.visitor.go(path)

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#pick", files)

    def found(self) -> None:
        """Wait for the whole answer."""
        self.page.locator("#status", has_text=re.compile(r"^\d+ photos?, ")).wait_for()

    def names(self, shelf: str) -> list[str]:
        return self.page.locator(f"[data-shelf={shelf}] .photo-card img").evaluate_all(
            "images => images.map(image => image.alt)"
        )

    def card(self, name: str) -> Any:
        return self.page.locator(".photo-card").filter(has=self.page.get_by_alt_text(name))

    def address(self) -> str:
        return self.page.url.removeprefix(self.visitor.root)


def photo(home: Path, name: str) -> Path:
    return home / f"photos/place{name[0]}/{name}.png"


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, window: Window
) -> None:
    visitor = visit(server, **window)
    searcher = Searcher(visitor)
    searcher.go("/")
    visitor.check()
    searcher.go("/?photo_id=1&box=4,4,30,20&label=place0&after=2001-01-01&not=3")
    searcher.found()
    visitor.check()


def test_a_chosen_photo_finds_its_place_and_its_copy(searcher: Searcher, home: Path) -> None:
    searcher.go()
    searcher.choose(photo(home, "2-3"))
    searcher.found()
    assert searcher.names("copies") == ["2-3.png"]
    same = searcher.names("same")
    assert same and all(name.startswith("2-") for name in same)
    assert searcher.page.get_by_role("heading", name="2-3.png").is_visible()
    card = searcher.card(same[0])
    assert "same place" in card.inner_text() and re.search(r"\d+ inliers", card.inner_text())
    assert re.search(r"0\.\d{3} probability", card.inner_text())
    assert searcher.page.title().startswith("2-3.png · Search")
    assert searcher.visitor.complaints == []


def test_the_nearest_photos_come_before_they_are_verified(searcher: Searcher) -> None:
    searcher.go()
    searcher.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => {
            const kinds = [...document.querySelectorAll('[data-shelf]')].map(s => s.dataset.shelf);
            if (kinds.length) window.seen.push(kinds.join());
        }).observe(document.getElementById('answers'), {childList: true}); }"""
    )
    searcher.page.locator("#first a").first.click()
    searcher.found()
    seen = searcher.page.evaluate("window.seen")
    assert seen[0] == "alike" and seen[-1].startswith("same")


def test_a_photo_is_dropped_or_pasted(searcher: Searcher, home: Path) -> None:
    searcher.go()
    data = list(photo(home, "1-2").read_bytes())
    send = """([kind, data]) => {
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(data)], kind + ".png", {type: "image/png"}));
        const event = kind === "drop"
            ? new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: files, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        searcher.page.evaluate(send, [kind, data])
        searcher.page.get_by_role("heading", name=f"{kind}.png").wait_for()
        searcher.found()
        assert searcher.names("copies") == ["1-2.png"]


def test_a_box_is_drawn_moved_and_resized_with_the_mouse(searcher: Searcher) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    frame = page.locator("#query-photo").bounding_box()

    def drag(start: tuple[float, float], stop: tuple[float, float]) -> list[int]:
        before = page.url
        page.mouse.move(*_at(frame, start))
        page.mouse.down()
        page.mouse.move(*_at(frame, stop), steps=3)
        page.mouse.up()
        page.wait_for_url(lambda url: url != before)
        searcher.found()
        return _box(page.url)

    width, height = _size(page)
    assert drag((0.1, 0.1), (0.5, 0.6)) == pytest.approx(
        [0.1 * width, 0.1 * height, 0.4 * width, 0.5 * height], abs=1.5
    )
    assert drag((0.3, 0.3), (0.4, 0.4)) == pytest.approx(
        [0.2 * width, 0.2 * height, 0.4 * width, 0.5 * height], abs=2.5
    )
    assert drag((0.6, 0.7), (0.9, 1.5))[2:] == pytest.approx([0.7 * width, 0.8 * height], abs=2.5)
    page.go_back()
    searcher.found()
    assert _box(page.url)[2:] == pytest.approx([0.4 * width, 0.5 * height], abs=2.5)
    page.get_by_role("button", name="Whole photo").click()
    page.wait_for_url(lambda url: "box" not in url)


def test_a_box_is_set_with_keys_and_by_numbers(searcher: Searcher) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    width, height = _size(page)
    page.get_by_role("button", name="Add a box").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "box" in url)
    assert _box(page.url) == pytest.approx([width / 4, height / 4, width / 2, height / 2], abs=1)
    box = page.get_by_role("group", name="Box at")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    # Each key may change the address by itself, if the machine is slow.
    page.wait_for_url(lambda url: _box(url)[0] > width / 4 and _box(url)[3] > height / 2)
    x = _box(page.url)[0]
    assert box.get_attribute("aria-label").startswith(f"Box at {x}, ")
    page.get_by_text("The box in numbers").click()
    page.get_by_label("Width").fill("20")
    page.keyboard.press("Tab")
    page.wait_for_url(lambda url: _box(url)[2] == 20)
    box.focus()
    page.keyboard.press("Delete")
    page.wait_for_url(lambda url: "box" not in url)
    searcher.found()
    assert searcher.visitor.complaints == []


def test_several_photos_of_one_thing_are_one_query(searcher: Searcher, home: Path) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    page.set_input_files("#add", [photo(home, "0-4"), photo(home, "0-5")])
    page.get_by_role("heading", name="and 2 more").wait_for()
    searcher.found()
    assert set(searcher.names("copies")) == {"0-1.png", "0-4.png", "0-5.png"}
    assert page.locator("#box-fields").is_hidden()
    page.get_by_role("button", name="Remove 0-4.png").click()
    page.get_by_role("heading", name="and 1 more").wait_for()
    many = [photo(home, f"1-{number}") for number in range(8)]
    page.set_input_files("#add", many)
    page.get_by_text("A query has at most 8 photos. The others are left out.").wait_for()
    page.get_by_role("heading", name="and 7 more").wait_for()
    searcher.found()


def test_more_like_this_and_the_way_back(searcher: Searcher) -> None:
    searcher.go("/?photo_id=1&label=place0")
    searcher.found()
    page = searcher.page
    names = searcher.names("same")
    searcher.card(names[0]).get_by_role("link", name="More like this").click()
    page.get_by_role("heading", name=names[0]).wait_for()
    searcher.found()
    assert "label=place0" in page.url and "photo_id=1&" not in page.url
    assert page.evaluate("document.activeElement.id") == "query-name"
    with page.expect_event("framenavigated"):
        page.go_back()
    page.get_by_role("heading", name="0-1.png").wait_for()
    searcher.found()
    assert searcher.names("same") == names


def test_a_click_on_an_answer_says_why_it_was_found(searcher: Searcher, home: Path) -> None:
    searcher.go()
    searcher.choose(photo(home, "2-3"))
    searcher.found()
    name = searcher.names("same")[0]
    searcher.card(name).locator("a.frame").click()
    searcher.page.wait_for_url("**/evidence?upload=*&hit=*")
    searcher.page.get_by_role("heading", name="Query: 2-3.png").wait_for()
    searcher.page.get_by_role("heading", name=f"Photo: {name}").wait_for()


def test_not_this_one_leaves_until_it_is_undone(searcher: Searcher) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    wrong = searcher.names("same")[0]
    searcher.card(wrong).get_by_role("button", name="Not this one").click()
    page.get_by_text(f"{wrong} is left out.").wait_for()
    searcher.found()
    assert searcher.card(wrong).count() == 0 and "not=" in page.url
    page.reload()
    searcher.found()
    assert searcher.card(wrong).count() == 0
    page.get_by_role("button", name="Remove the condition: without 1 photo").click()
    searcher.card(wrong).wait_for()


def test_the_collection_is_filtered(searcher: Searcher, home: Path) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    page.get_by_text("Filters", exact=True).click()
    page.locator("#filter-labels option").first.wait_for(state="attached")
    page.get_by_label("Label", exact=True).fill("nowhere")
    page.keyboard.press("Enter")
    page.get_by_text("No photo has the label nowhere.").wait_for()
    page.get_by_label("Label", exact=True).fill("place2")
    page.keyboard.press("Enter")
    page.wait_for_url("**label=place2*")
    searcher.found()
    assert all(name.startswith("2-") for name in searcher.names("alike"))
    page.get_by_role("button", name="Remove the condition: place2").click()
    page.get_by_label("Folder").select_option(label="place3 (8)")
    page.wait_for_url("**folder=*")
    searcher.found()
    assert all(name.startswith("3-") for name in searcher.names("alike"))
    page.get_by_label("to", exact=True).fill("1999-12-31")
    page.wait_for_url("**before=2000-01-01*")
    page.get_by_text("No photo fits.").wait_for()
    assert page.get_by_text("to 1999-12-31").is_visible()


def test_the_next_page_is_added(searcher: Searcher) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    page = searcher.page
    before = page.locator(".photo-card").count()
    page.get_by_role("button", name="Show more").click()
    page.locator("#more").wait_for(state="hidden")
    searcher.found()
    names = page.locator(".photo-card img").evaluate_all("all => all.map(image => image.alt)")
    assert before == 24 and len(names) == len(set(names)) == 31
    assert page.evaluate("document.activeElement.closest('.photo-card') !== null")


def test_an_uploaded_photo_outlives_a_reload_and_no_more(
    searcher: Searcher, home: Path, visit: Visit, server: Server
) -> None:
    searcher.go()
    page = searcher.page
    searcher.choose(photo(home, "3-1"))
    searcher.found()
    assert page.get_by_text("This photo is in this browser only.").is_visible()
    page.reload()
    page.get_by_role("heading", name="3-1.png").wait_for()
    searcher.found()
    address = searcher.address()
    stranger = Searcher(visit(server))
    stranger.go(address)
    alert = stranger.page.get_by_role("alert")
    alert.get_by_text("The photo of this search is not in this browser.").wait_for()
    alert.get_by_role("button", name="Choose another photo").click()
    stranger.page.locator("#start").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.locator("#start").wait_for()
    assert searcher.address() == "/"
    searcher.go(address)
    page.get_by_text("The photo of this search is not in this browser.").wait_for()


def test_a_turned_photo_says_so(searcher: Searcher, home: Path, tmp_path: Path) -> None:
    with Image.open(photo(home, "2-2")) as upright:
        upright.rotate(90, expand=True).save(tmp_path / "turned.png")
    searcher.go()
    searcher.choose(tmp_path / "turned.png")
    searcher.found()
    words = searcher.page.get_by_text("The query was turned by 90° clockwise to be compared.")
    assert words.is_visible()
    assert searcher.names("same")


def test_a_busy_server_is_asked_again(searcher: Searcher) -> None:
    page = searcher.page
    busy = {"detail": "The server is busy.", "status": 429}
    refusals = []

    def refuse(route: Any) -> None:
        if refusals:
            route.continue_()
            return
        refusals.append(route)
        route.fulfill(
            status=429,
            headers={"Retry-After": "2", "Content-Type": "application/problem+json"},
            body=json.dumps(busy),
        )

    page.route("**/search/answers*", refuse)
    searcher.go("/?photo_id=1")
    page.get_by_role("alert").get_by_text("The server is busy. Trying again in 2 s.").wait_for()
    searcher.found()
    assert page.get_by_role("alert").count() == 0 or not page.locator("#trouble").inner_text()


def test_a_server_that_is_gone_is_named(searcher: Searcher) -> None:
    page = searcher.page
    page.route("**/search/answers*", lambda route: route.abort())
    searcher.go("/?photo_id=1")
    alert = page.get_by_role("alert")
    alert.get_by_text("The server does not answer. Is it still running?").wait_for()
    page.unroute("**/search/answers*")
    alert.get_by_role("button", name="Try again").click()
    searcher.found()


def test_a_slow_search_says_so_and_is_left(searcher: Searcher) -> None:
    page = searcher.page
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/search/answers*", hold)
    page.clock.install()
    searcher.go("/?photo_id=1")
    page.get_by_text("Searching…").wait_for()
    page.clock.run_for(7000)
    page.get_by_text("The server is busy, or it still loads its network.").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.locator("#start").wait_for()
    assert held[0].request.failure == "net::ERR_ABORTED"
    assert page.locator("#trouble").inner_text() == ""


def test_a_photo_that_is_none_or_too_large_is_named(
    searcher: Searcher, tmp_path: Path, home: Path
) -> None:
    page = searcher.page
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (tmp_path / "notes.txt").write_text("no photo")
    noise = Image.effect_noise((1400, 1400), 90)
    noise.save(tmp_path / "large.png")
    searcher.go()
    searcher.choose(tmp_path / "broken.jpg")
    page.get_by_role("alert").get_by_text("broken.jpg").wait_for()
    page.get_by_text("This browser cannot show this kind of photo.").wait_for()
    searcher.choose(tmp_path / "large.png")
    page.get_by_role("alert").get_by_text("are more than the cap of 1.0 MB").wait_for()
    page.get_by_role("button", name="Choose another photo").click()
    searcher.choose(tmp_path / "notes.txt")
    page.get_by_text("notes.txt is no photo.").wait_for()
    assert page.locator("#start").is_visible()


def test_a_photo_that_is_gone_from_the_index_is_named(searcher: Searcher) -> None:
    searcher.go("/?photo_id=999")
    alert = searcher.page.get_by_role("alert")
    alert.get_by_text("The index places has no photo number 999 (any more).").wait_for()


def test_an_index_that_changed_is_searched_again(searcher: Searcher, server: Server) -> None:
    searcher.go("/?photo_id=1")
    searcher.found()
    assert server.ask("PATCH", "/photos/9", {"label": "other"}).status == 200
    page = searcher.page
    page.get_by_role("button", name="Show more").click()
    alert = page.get_by_role("alert")
    alert.get_by_text("The index has changed since the first page of this search.").wait_for()
    alert.get_by_role("button", name="Search again").click()
    page.locator("#more:not([hidden])").wait_for()
    searcher.found()


def test_the_page_is_small(server: Server) -> None:
    """Without photos: the page, its scripts and its styles."""
    page = server.get("//").body
    names = re.findall(rb'(?:src|href)="(/static/[^"]+)"', page)
    scripts = {
        *("address", "answers", "api", "box", "filters", "messages", "query", "trouble", "uploads")
    }
    prefix = names[0].decode().rpartition("/")[0]
    paths = {name.decode() for name in names} | {f"{prefix}/app/{name}.js" for name in scripts}
    size = len(page) + sum(len(server.get(f"/{path}").body) for path in paths)
    assert size <= 150_000


def _at(frame: dict[str, float], place: tuple[float, float]) -> tuple[float, float]:
    return frame["x"] + place[0] * frame["width"], frame["y"] + place[1] * frame["height"]


def _box(url: str) -> list[int]:
    found = re.search(r"box=([\d%2C]+)", url)
    return [int(number) for number in found[1].split("%2C")] if found else [0, 0, 0, 0]


def _size(page: Any) -> list[int]:
    text = page.locator("#query-facts").inner_text()
    return [int(number) for number in re.findall(r"\d+", text.rpartition("·")[2])]
