"""The page that shows the collection: scrolling, filters, one photo, selection, labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from page_browser import Visit, Visitor, Window, every_window
from PIL import Image
from service_server import Server, made_index, serving
from tiny import save

import veduta
from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

EVIL = "<img src=x onerror=alert(1)>"
DATE_TAKEN, EXIF_FOLDER = 0x9003, 0x8769
DOMES, TOWERS, HILLS = 12, 12, 216


def dated(path: Path, seed: int, month: int) -> Path:
    """Write a photo that was taken in a month of 2014."""
    exif = Image.Exif()
    exif.get_ifd(EXIF_FOLDER)[DATE_TAKEN] = f"2014:{month:02}:05 10:20:00"
    return save(path, seed, exif=exif)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("browse")
    for number in range(DOMES):
        dated(home / f"photos/dome/{number:03}.jpg", number, 1 + number % 3)
    for number in range(TOWERS):
        save(home / f"photos/tower/{number:03}.png", 100 + number)
    save(home / f"photos/{EVIL.replace('/', '')}/{EVIL}.png", 999, format="png")
    for number in range(HILLS):
        save(home / f"photos/zone/hills/{number:03}.png", 200 + number)
    with veduta.create(home / "all.veduta", encoder="fast", keypoints=None) as index:
        index.add(home / "photos", labels="folders")
    made_index(home / "grouped", scenes=2)
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[str, str]:
    """Return a key for each scope."""
    file = KeyFile(home / "keys.json")
    return {"search": file.create("search"), "edit": file.create("edit")}


@pytest.fixture(scope="module")
def server(home: Path, keys: dict[str, str]) -> Iterator[Server]:
    options = "--require-key", "--keys", home / "keys.json", "--root-path", "/my"
    indexes = home / "all.veduta", home / "grouped/places.veduta"
    with serving(*indexes, *options) as server:
        server.key = keys["edit"]
        yield server


@pytest.fixture
def open_as(visit: Visit, server: Server, keys: dict[str, str]) -> Callable[..., Visitor]:
    """Return `open_as(scope, …)`: a window of someone who has a key."""

    def opened(scope: str, **options: Any) -> Visitor:
        return visit(
            server, extra_http_headers={"Authorization": f"Bearer {keys[scope]}"}, **options
        )

    return opened


def labels(server: Server, index: str = "all") -> dict[str, int]:
    facets = server.get(f"//my/api/v1/facets?index={index}").json
    return {one["label"]: one["photos"] for one in facets["labels"]}


def asked(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def tile(page: Any, name: str) -> Any:
    """Return the link of a photo."""
    return page.locator("#grid").get_by_role("link", name=name)


def loaded(page: Any) -> None:
    """Wait until the pictures and names of all tiles are there."""
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('#grid li')];"
        " return all.length && all.every((one) => one.querySelector('img').naturalWidth"
        " && one.querySelector('.caption').textContent); }"
    )


def choose(page: Any, typed: str, option: str) -> None:
    """Type in the dialog that opens, and choose the name that is first then."""
    page.locator("dialog[open] input:focus").wait_for()
    page.keyboard.type(typed)
    page.get_by_role("option", name=option, selected=True).wait_for()
    page.keyboard.press("Enter")


@every_window
def test_the_page_fits_every_window_and_everyone(
    open_as: Callable[..., Visitor], window: Window
) -> None:
    visitor = open_as("edit", **window)
    page = visitor.go("/browse")
    loaded(page)
    page.get_by_label("Select 001.jpg").check()
    visitor.check()
    page.keyboard.press("l")
    page.get_by_role("option", name="tower").wait_for()
    visitor.check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear").click()
    tile(page, "002.jpg").click()
    page.get_by_text("5 March 2014").wait_for()
    page.wait_for_function("() => document.getElementById('viewer-photo').src.includes('preview')")
    visitor.check()


def test_rows_come_and_go_and_the_address_knows_the_place(
    open_as: Callable[..., Visitor],
) -> None:
    page = open_as("search").go("/browse")
    page.get_by_text("241 photos").wait_for()
    loaded(page)
    tiles = page.locator("#grid li")
    assert tiles.count() < 120
    page.locator("#scroller").evaluate("(one) => { one.scrollTop = one.scrollHeight / 2; }")
    page.wait_for_url(re.compile("at="))
    loaded(page)
    assert tiles.count() < 120
    place = asked(page)["at"]
    page.reload()
    loaded(page)
    top = page.evaluate(
        "() => { const top = document.getElementById('scroller').getBoundingClientRect().top;"
        " return [...document.querySelectorAll('#grid li')]"
        ".find((one) => one.getBoundingClientRect().top >= top - 8)"
        ".querySelector('img').dataset.number; }"
    )
    assert asked(page)["at"] == place == [top]
    page.locator("#grid a[tabindex='0']").focus()
    page.keyboard.press("End")
    tile(page, "215.png").wait_for()
    assert page.evaluate("document.activeElement.ariaLabel").startswith("215.png")
    assert tile(page, "000.jpg").count() == 0


def test_photos_are_chosen_by_label_folder_and_month(open_as: Callable[..., Visitor]) -> None:
    visitor = open_as("search")
    page = visitor.go("/browse")
    for button, typed, name, count in (
        ("Month", "feb", "February 2014 4", 4),
        ("Label", "dome", "dome 12", 4),
        ("Month", "no date", f"No date {TOWERS + HILLS + 1}", 0),
    ):
        page.get_by_role("button", name=re.compile(f"^{button}")).click()
        choose(page, typed, name)
        page.get_by_text(f"{count} photos", exact=True).wait_for()
    page.get_by_text("No photo of the index is like that.").wait_for()
    page.go_back()
    page.get_by_text("4 photos", exact=True).wait_for()
    assert asked(page) == {"month": ["2014-02"], "label": ["dome"]}
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("241 photos").wait_for()
    page.get_by_role("button", name="Folder").click()
    page.get_by_role("option", name=re.compile("hills 216$")).click()
    page.get_by_text("216 photos", exact=True).wait_for()
    assert visitor.complaints == []


def test_the_newest_come_first_if_asked(open_as: Callable[..., Visitor]) -> None:
    page = open_as("search").go("/browse?label=dome")
    loaded(page)
    page.get_by_label("Order").select_option("newest first")
    page.wait_for_url(re.compile("order=taken"))
    # The photos of before stay until the others are known.
    page.wait_for_function("() => parseInt(document.querySelector('#grid a')?.ariaLabel) % 3 === 2")
    months = [
        int(one[:3]) % 3
        for one in page.locator("#grid a").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    ]
    assert months == sorted(months, reverse=True)


def test_a_photo_opens_large_and_leads_on(open_as: Callable[..., Visitor]) -> None:
    visitor = open_as("search")
    page = visitor.go("/browse?label=dome")
    loaded(page)
    tile(page, "010.jpg").click()
    page.get_by_role("heading", name="010.jpg").wait_for()
    page.get_by_text("11 of 12").wait_for()
    photo = asked(page)["photo"]
    link = page.get_by_role("link", name="Search with this photo").get_attribute("href")
    assert urlsplit(link).path == "/my/" and parse_qs(urlsplit(link).query)["photo_id"] == photo
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="011.jpg").wait_for()
    assert page.get_by_role("button", name="Next photo").is_disabled()
    page.reload()
    page.get_by_role("heading", name="011.jpg").wait_for()
    page.get_by_role("button", name="Previous photo").click()
    page.get_by_role("heading", name="010.jpg").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "photo=" not in url)
    page.wait_for_function("() => document.activeElement.ariaLabel === '010.jpg, dome'")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="010.jpg").wait_for()
    page.go_back()
    page.locator("#viewer").wait_for(state="hidden")
    assert asked(page) == {"label": ["dome"]}
    assert visitor.complaints == []


def test_hostile_names_are_text(open_as: Callable[..., Visitor]) -> None:
    visitor = open_as("search")
    page = visitor.go("/browse")
    page.get_by_role("button", name="Label").click()
    page.get_by_role("option", name=EVIL).click()
    page.get_by_text("1 photo", exact=True).wait_for()
    loaded(page)
    page.locator("#grid a").click()
    page.get_by_role("heading", name=EVIL).wait_for()
    visitor.check()


def test_a_photo_whose_file_is_gone_is_shown_small_with_the_reason(
    open_as: Callable[..., Visitor], home: Path
) -> None:
    file = home / "photos/tower/003.png"
    data = file.read_bytes()
    visitor = open_as("search")
    page = visitor.go("/browse?label=tower")
    loaded(page)
    try:
        file.unlink()
        tile(page, "003.png").click()
        page.get_by_text("This is the small picture in the index.").wait_for()
    finally:
        file.write_bytes(data)


def test_selected_photos_get_a_label_and_their_old_one_back(
    open_as: Callable[..., Visitor], server: Server
) -> None:
    visitor = open_as("edit")
    page = visitor.go("/browse?label=dome&label=tower")
    loaded(page)
    before = labels(server)
    tile(page, "001.jpg").click(modifiers=["Control"])
    tile(page, "004.jpg").click(modifiers=["Shift"])
    page.get_by_text("4 selected").wait_for()
    tile(page, "002.jpg").click()  # With a selection, a click takes one more or less.
    page.get_by_text("3 selected").wait_for()
    page.get_by_role("button", name="Label them").click()
    choose(page, "tow", "tower 12")
    page.get_by_text("3 photos: “tower”.").wait_for()
    assert labels(server) == before | {"dome": DOMES - 3, "tower": TOWERS + 3}
    tile(page, "001.jpg, tower").wait_for()

    tile(page, "001.jpg").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("2 selected").wait_for()
    page.keyboard.press("l")
    choose(page, "old gate", "old gate new")
    page.get_by_text("2 photos: “old gate”.").wait_for()
    assert labels(server)["old gate"] == 2
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("2 photos: the label before.").wait_for()
    page.keyboard.press("Control+z")
    page.get_by_text("3 photos: the label before.").wait_for()
    assert labels(server) == before
    page.keyboard.press("Control+z")
    page.get_by_text("Nothing to undo.").wait_for()
    tile(page, "001.jpg").focus()
    page.keyboard.press("Control+a")
    page.get_by_text(f"{DOMES + TOWERS} selected").wait_for()
    assert visitor.complaints == []


def test_the_label_of_an_open_photo_is_taken_away_and_undone(
    open_as: Callable[..., Visitor], server: Server
) -> None:
    visitor = open_as("edit")
    page = visitor.go("/browse?label=tower")
    loaded(page)
    tile(page, "005.png").click()
    page.get_by_role("button", name="Label…").click()
    page.get_by_role("option", name="No label").click()
    page.get_by_text("1 photo: no label now.").wait_for()
    page.get_by_role("heading", name="006.png").wait_for()  # 005 is no tower any more.
    assert labels(server)["tower"] == TOWERS - 1
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("1 photo: the label before.").wait_for()
    assert labels(server)["tower"] == TOWERS
    assert visitor.complaints == []


def test_a_group_is_named_as_a_whole(open_as: Callable[..., Visitor], server: Server) -> None:
    visitor = open_as("edit")
    page = visitor.go("/browse?index=places")
    page.get_by_role("link", name="Groups").click()
    page.get_by_text("2 groups of 8 photos").wait_for()
    visitor.check()
    page.locator(".photo-card a").first.click()
    page.get_by_text("4 photos of one group").wait_for()
    loaded(page)
    (label,) = {one.text_content() for one in page.locator("#grid .caption").all()}
    page.get_by_role("button", name="Name this group").click()
    choose(page, "old gate", "old gate new")
    page.get_by_text("4 photos: “old gate”.").wait_for()
    assert labels(server, "places")["old gate"] == 4
    page.keyboard.press("Control+z")
    page.get_by_text("4 photos: the label before.").wait_for()
    assert labels(server, "places")[label] == 4
    page.locator("#grid a").first.click()
    assert page.get_by_role("link", name="Its group").get_attribute("href") == (
        f"/my/browse?index=places&group={asked(page)['photo'][0]}"
    )
    assert visitor.complaints == []


def test_an_index_without_keypoints_says_why_it_has_no_groups(
    open_as: Callable[..., Visitor],
) -> None:
    page = open_as("search").go("/browse/groups")
    page.get_by_role("alert").get_by_text("keypoints").wait_for()


def test_a_finger_selects_with_a_long_press(open_as: Callable[..., Visitor]) -> None:
    visitor = open_as("edit", viewport={"width": 360, "height": 740}, has_touch=True)
    page = visitor.go("/browse?label=dome")
    loaded(page)
    box = tile(page, "001.jpg").bounding_box()
    point = {"x": box["x"] + 80, "y": box["y"] + 60}
    touch = visitor.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    page.get_by_text("1 selected").wait_for()
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tile(page, "002.jpg").tap()
    page.get_by_text("2 selected").wait_for()
    page.get_by_role("button", name="Clear").tap()
    tile(page, "002.jpg").tap()
    page.get_by_role("heading", name="002.jpg").wait_for()


def test_photos_leave_the_index_only_after_a_question(
    open_as: Callable[..., Visitor], server: Server, home: Path
) -> None:
    file = save(home / "photos/extra/000.png", 5000)
    with veduta.open(home / "all.veduta") as index:
        index.add()
    visitor = open_as("edit")
    page = visitor.go("/browse?label=extra")
    loaded(page)
    tile(page, "000.png").focus()
    page.keyboard.press("Delete")
    page.get_by_text("The files stay").wait_for()
    page.keyboard.press("Enter")  # The focus is on the answer that changes nothing.
    assert labels(server)["extra"] == 1
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Take out of the index", exact=True).click()
    page.get_by_text("1 photo taken out of the index.").wait_for()
    page.get_by_text("No photo of the index is like that.").wait_for()
    assert "extra" not in labels(server) and file.exists()
    assert visitor.complaints == []


def test_who_may_not_edit_sees_no_editing(open_as: Callable[..., Visitor]) -> None:
    visitor = open_as("search")
    page = visitor.go("/browse?label=dome")
    loaded(page)
    assert page.locator("input[type=checkbox]").count() == 0
    tile(page, "003.jpg").focus()
    for key in ("Space", "Delete", "l", "Control+a", "Control+z"):
        page.keyboard.press(key)
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="003.jpg").wait_for()
    assert page.locator("#viewer").get_by_role("button", name="Label").count() == 0
    assert visitor.complaints == []
