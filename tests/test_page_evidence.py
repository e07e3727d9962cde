"""The page that compares two photos: what it says, draws and zooms, and how photos come to it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from page_browser import Visit, Visitor, Window, every_window
from PIL import Image
from service_server import Server, made_index, serving
from tiny import save_view

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

EVIL = "<img src=x onerror=document.title='owned'>.png"
PAIR = "/evidence?query=0&hit=1"
LAST_FACT = "Counts most, in the photo"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evidence")
    made_index(home, scenes=2, views=2)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta", "--root-path", "/my") as server:
        yield server


@pytest.fixture(scope="module")
def match(server: Server) -> Any:
    return server.post("/match", {"photo_id": 0, "other_id": 1, "max_lines": 2000}).json


def fact(page: Any, name: str) -> str:
    text: str = page.locator(f"dt:text-is('{name}') + dd").inner_text()
    return text


def opened(visitor: Visitor, path: str = PAIR) -> Any:
    page = visitor.go(path)
    page.get_by_text(LAST_FACT).wait_for()
    return page


def scaled_width(page: Any, number: int) -> float:
    width: float = page.evaluate(
        f"document.querySelectorAll('.window img')[{number}].getBoundingClientRect().width"
    )
    return width


def drawing(page: Any) -> str:
    """Return the canvas after the frame that is under way."""
    picture: str = page.evaluate(
        "new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
        "() => done(document.getElementById('drawing').toDataURL()))))"
    )
    return picture


def on_page(page: Any, number: int, x: float, y: float, size: list[int]) -> tuple[float, float]:
    """Return where in the browser's window a pixel of a whole photo is."""
    frame = page.locator(".window").nth(number).bounding_box()
    scale = min(frame["width"] / size[0], frame["height"] / size[1])
    left = frame["x"] + (frame["width"] - size[0] * scale) / 2
    top = frame["y"] + (frame["height"] - size[1] * scale) / 2
    return left + x * scale, top + y * scale


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, window: Window
) -> None:
    visitor = visit(server, **window)
    page = visitor.go("/evidence")
    page.get_by_text("Choose two photos").wait_for()
    visitor.check()
    page = opened(visitor)
    page.get_by_text("The points as a table").click()
    page.get_by_label("Map of the similarity").check()
    page.get_by_role("button", name="Next point").click()
    visitor.check()


def test_it_says_what_the_api_says(visit: Visit, server: Server, match: Any) -> None:
    page = opened(visit(server))
    assert match["verdict"] == "same place"
    assert page.locator("#verdict").inner_text() == match["verdict"]
    assert page.locator("#reason").inner_text() == match["reason"]
    assert fact(page, "Points") == f"{match['geometry']}."
    assert fact(page, "Probability").startswith(f"{match['probability']:.3f} ")
    assert fact(page, "Similarity") == f"{match['similarity']:.3f}"
    x, y = zip(*match["regions"][0], strict=True)
    size = f"{round(max(x)) - round(min(x))} × {round(max(y)) - round(min(y))} pixels"
    assert fact(page, "Both show, in the query").startswith(size)
    explained = server.post("/explain", {"photo_id": 0, "hit_id": 1}).json
    assert fact(page, "Counts most, in the query") == explained["strongest"]
    assert fact(page, "Counts most, in the photo") == explained["against"]["strongest"]
    page.get_by_text("The points as a table").click()
    rows = page.locator("#point-rows tr").all_inner_texts()
    assert [[int(cell) for cell in row.split()] for row in rows] == [
        [number, *(int(value + 0.5) for value in line)]
        for number, line in enumerate(match["lines"], 1)
    ]
    assert "Copy" not in page.locator("#facts").inner_text()
    assert page.title().startswith("0-0.png and 0-1.png")


def test_only_a_part_of_the_query_is_compared(visit: Visit, server: Server, match: Any) -> None:
    box = [4, 2, 40, 28]
    visitor = visit(server)
    page = opened(visitor, f"{PAIR}&box={','.join(map(str, box))}")
    assert fact(page, "Compared").endswith("at x 4, y 2, 40 × 28 pixels")
    boxed = server.post("/match", {"photo_id": 0, "other_id": 1, "box": box}).json
    assert boxed["similarity"] != match["similarity"]
    assert fact(page, "Similarity") == f"{boxed['similarity']:.3f}"
    explained = server.post("/explain", {"photo_id": 0, "hit_id": 1, "box": box}).json
    assert fact(page, "Counts most, in the query") == explained["strongest"]
    page.get_by_label("Map of the similarity").check()
    drawn = drawing(page)
    whole = opened(visitor)
    whole.get_by_label("Map of the similarity").check()
    assert drawing(whole) != drawn
    visitor.check()


def test_both_photos_zoom_in_step(visit: Visit, server: Server, match: Any) -> None:
    visitor = visit(server)
    page = opened(visitor)
    whole = [scaled_width(page, number) for number in (0, 1)]
    u, v = match["lines"][0][2:]
    page.locator(".window").first.focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    drawing(page)
    larger = [scaled_width(page, number) for number in (0, 1)]
    assert larger[0] / whole[0] == pytest.approx(larger[1] / whole[1], rel=1e-3)
    assert larger[0] / whole[0] == pytest.approx(1.4**2, rel=1e-3)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    page.keyboard.press("0")
    drawing(page)
    assert [scaled_width(page, number) for number in (0, 1)] == pytest.approx(whole)

    # What is under the pointer stays there, and the other window shows the same part.
    x, y = match["lines"][0][:2]
    exact = on_page(page, 0, x, y, match["sizes"][0])
    pointer = [float(int(one)) for one in exact]  # Browsers know whole pixels.
    page.mouse.move(*pointer)
    page.mouse.wheel(0, -1400)
    drawing(page)
    zoom = scaled_width(page, 0) / whole[0]
    assert zoom > 6
    image = page.locator(".window img").first.bounding_box()
    shown = image["x"] + x / match["sizes"][0][0] * image["width"]
    assert shown == pytest.approx(pointer[0] + zoom * (exact[0] - pointer[0]), abs=1)
    frames = [page.locator(".window").nth(number).bounding_box() for number in (0, 1)]
    other = page.evaluate(
        """([x, y, width, height]) => {
          const window = document.querySelectorAll(".window")[1].getBoundingClientRect();
          const image = document.querySelectorAll(".window img")[1].getBoundingClientRect();
          return [image.left + (x / width) * image.width - window.left,
                  image.top + (y / height) * image.height - window.top];
        }""",
        [u, v, *match["sizes"][1]],
    )
    assert 0 <= other[0] <= frames[1]["width"] and 0 <= other[1] <= frames[1]["height"]
    page.get_by_role("button", name="Whole photos").click()
    drawing(page)
    assert scaled_width(page, 1) == pytest.approx(whole[1])
    assert visitor.complaints == []


def test_a_point_is_chosen_by_a_click_and_by_buttons(
    visit: Visit, server: Server, match: Any
) -> None:
    page = opened(visit(server))
    page.get_by_role("button", name="Next point").click()
    number = len(match["lines"])
    assert page.locator("#chosen").inner_text().startswith(f"Point 1 of {number}: at ")
    page.get_by_role("button", name="Point before").click()
    assert page.locator("#chosen").inner_text().startswith(f"Point {number} of {number}: at ")
    x, y = match["lines"][4][2:]
    page.mouse.click(*on_page(page, 1, x, y, match["sizes"][1]))
    near = re.search(r"at (\d+), (\d+) in the photo", page.locator("#chosen").inner_text())
    assert near is not None
    assert (int(near[1]), int(near[2])) == pytest.approx((x, y), abs=1.5)
    page.locator(".window").first.focus()
    page.keyboard.press("Escape")
    assert page.locator("#chosen").inner_text() == ""


def test_each_part_of_the_drawing_can_be_hidden(visit: Visit, server: Server) -> None:
    page = opened(visit(server))
    pictures = [drawing(page)]
    for name in ("Lines", "Points", "Outline of what both show"):
        page.get_by_label(name, exact=True).uncheck()
        pictures.append(drawing(page))
    blank = pictures[-1]
    page.get_by_label("Map of the similarity").check()
    pictures.append(drawing(page))
    page.get_by_label("Strength of the map").fill("20")
    pictures.append(drawing(page))
    assert len(set(pictures)) == len(pictures)
    page.get_by_label("Map of the similarity").uncheck()
    assert drawing(page) == blank
    seen = Image.open(io.BytesIO(base64.b64decode(blank.partition(",")[2])))
    assert seen.getbbox() is None, "nothing is drawn"


def test_two_photos_that_are_chosen_by_hand(
    visit: Visit, server: Server, home: Path, tmp_path: Path
) -> None:
    query, copy = tmp_path / EVIL, tmp_path / "smaller.jpg"
    save_view(query, 1, 7, noise=0.3)
    with Image.open(query) as photo:
        photo.convert("RGB").save(copy, quality=92)
    visitor = visit(server)
    page = visitor.go("/evidence")
    page.get_by_label("Choose the first photo").set_input_files(query)
    page.get_by_role("heading", name=EVIL).wait_for()
    page.get_by_label("Choose the second photo").set_input_files(copy)
    page.get_by_text(LAST_FACT).wait_for()
    assert fact(page, "Copy") == "Both are the same picture."
    assert page.title().startswith(f"{EVIL} and smaller.jpg")
    assert set(parse_qs(urlsplit(page.url).query)) == {"upload", "other"}
    page.reload()
    page.get_by_text(LAST_FACT).wait_for()
    page.locator("#hit .other").click()
    page.get_by_text("Choose two photos").wait_for()
    page.go_back()
    page.get_by_text(LAST_FACT).wait_for()
    assert visitor.complaints == []


def test_a_photo_is_dropped_beside_one_of_the_index(
    visit: Visit, server: Server, home: Path
) -> None:
    visitor = visit(server)
    page = visitor.go("/evidence?query=0")
    page.get_by_role("heading", name="0-0.png").wait_for()
    data = base64.b64encode((home / "photos/place1/1-1.png").read_bytes()).decode()
    dropped = page.evaluate_handle(
        """data => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
          return transfer;
        }""",
        data,
    )
    page.dispatch_event("#hit .window", "drop", {"dataTransfer": dropped})
    page.get_by_text(LAST_FACT).wait_for()
    # A form sends its photos first, so the photo of this browser is the query now.
    assert page.locator("#query .name").inner_text() == "dropped.png"
    assert page.locator("#hit .name").inner_text() == "0-0.png"
    sent = (home / "photos/place1/1-1.png").read_bytes()
    told = server.post_form("/match", sent, options={"other_id": 0}).json
    assert told["verdict"] != "same place"
    assert page.locator("#verdict").inner_text() == told["verdict"]
    assert visitor.complaints == []


def test_one_of_several_photos_of_a_query_is_chosen(
    visit: Visit, server: Server, home: Path
) -> None:
    visitor = visit(server)
    page = visitor.go("/")
    photos = [home / f"photos/place{scene}/{scene}-1.png" for scene in (0, 1)]
    page.get_by_label("Choose photos").set_input_files(photos)
    page.locator(".photo-card[data-photo='0'] a.frame").click()
    page.get_by_text(LAST_FACT).wait_for()
    assert page.locator("#query .name").inner_text() == "0-1.png"
    assert page.locator("#verdict").inner_text() == "same place"
    page.locator("#query-which").select_option("1-1.png")
    page.get_by_role("heading", name="1-1.png").wait_for()
    page.locator("#verdict:not(.same)").wait_for()
    assert urlsplit(page.url).query.endswith("&n=1")
    assert visitor.complaints == []


def test_fingers_choose_and_zoom(visit: Visit, server: Server, match: Any) -> None:
    visitor = visit(server, viewport={"width": 360, "height": 900}, has_touch=True)
    page = opened(visitor)
    page.locator(".window").nth(1).scroll_into_view_if_needed()
    x, y = match["lines"][0][:2]
    page.touchscreen.tap(*on_page(page, 0, x, y, match["sizes"][0]))
    assert page.locator("#chosen").inner_text().startswith("Point ")
    whole = scaled_width(page, 1)
    frame = page.locator(".window").first.bounding_box()
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    devtools = visitor.context.new_cdp_session(page)

    def touch(kind: str, *apart: float) -> None:
        points = [{"x": middle[0] + one, "y": middle[1], "id": at} for at, one in enumerate(apart)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20, 20)
    for half in (30, 40):
        touch("touchMove", -half, half)
    touch("touchEnd")
    drawing(page)
    assert scaled_width(page, 1) / whole == pytest.approx(2, rel=0.05)
    assert visitor.complaints == []


def test_what_goes_wrong_is_told_in_the_words_of_the_api(
    visit: Visit, server: Server, home: Path
) -> None:
    visitor = visit(server)
    page = visitor.go("/evidence?query=99&hit=0")
    words = server.get("/photos/99").json["detail"]
    page.get_by_role("alert").get_by_text(words).wait_for()
    page = visitor.go("/evidence?upload=00aa&hit=0")
    page.get_by_role("alert").get_by_text("in this browser no more").wait_for()
    moved = home / "photos/place1/1-0.png"
    away = moved.rename(moved.with_suffix(".away"))
    try:
        page = visitor.go("/evidence?query=0&hit=2")
        page.get_by_role("alert").get_by_text("1-0.png").wait_for()
    finally:
        away.rename(moved)
    assert {complaint.split()[0] for complaint in visitor.complaints} <= {"404", "410", "console:"}


def test_a_server_that_is_busy_can_be_asked_again(visit: Visit, server: Server) -> None:
    visitor = visit(server)
    problem = {"title": "Too Many Requests", "detail": "The server is busy.", "status": 429}

    def busy(route: Any) -> None:
        kind = "application/problem+json"
        route.fulfill(status=429, content_type=kind, body=json.dumps(problem))

    visitor.page.route("**/api/v1/match*", busy, times=1)
    page = visitor.go(PAIR)
    page.get_by_role("alert").get_by_text("The server is busy.").wait_for()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text(LAST_FACT).wait_for()
    assert page.get_by_role("alert").inner_text() == ""
