"""The page that shows where photos were taken, and the outline of the world behind it."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from page_browser import Visit, Window, every_window
from PIL import Image
from service_server import Server, serving
from tiny import save

import veduta
from veduta.pages.app_page import static_files

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

GPS_FOLDER = 0x8825
DELHI, AGRA, RIO = (28.61, 77.21), (27.17, 78.04), (-22.95, -43.21)
PLACES = {"a.jpg": DELHI, "b.jpg": DELHI, "c.jpg": AGRA, "d.jpg": RIO}


def degrees(value: float) -> tuple[float, float, float]:
    return float(int(value)), float(int(value * 60) % 60), round(value * 3600 % 60, 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("map")
    for number, (name, (lat, lon)) in enumerate(PLACES.items()):
        exif = Image.Exif()
        sides = ("S" if lat < 0 else "N"), ("W" if lon < 0 else "E")
        place = {1: sides[0], 2: degrees(abs(lat)), 3: sides[1], 4: degrees(abs(lon))}
        exif.get_ifd(GPS_FOLDER).update(place)
        save(home / "photos" / name, number, exif=exif)
    save(home / "photos/without.png", 99)
    with veduta.create(home / "places.veduta", encoder="fast", keypoints=None) as index:
        index.add(home / "photos")
    with serving(home / "places.veduta", "--root-path", "/my") as server:
        yield server


def ready(page: Any) -> Any:
    page.get_by_text("4 photos, 1 without a place").wait_for()
    page.locator("#places li").first.wait_for()
    return page


def listed(page: Any, count: int) -> list[str]:
    """Return the places beside the map, when there are so many."""
    page.wait_for_function(f"() => document.querySelectorAll('#places li').length === {count}")
    texts: list[str] = page.locator("#places li").all_text_contents()
    return texts


@every_window
def test_the_page_fits_every_window_and_everyone(
    visit: Visit, server: Server, window: Window
) -> None:
    visitor = visit(server, **window)
    page = ready(visitor.go("/map"))
    visitor.check()
    page.locator("#places button").first.click()
    page.get_by_role("link", name="a.jpg").wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#chosen img')].every((one) => one.naturalWidth)"
    )
    visitor.check()


def test_places_come_apart_as_the_map_is_zoomed_by_keys(visit: Visit, server: Server) -> None:
    visitor = visit(server)
    page = ready(visitor.go("/map"))
    assert listed(page, 2)[0].startswith("3 photos near 2")
    page.locator("#places button").first.click()
    page.get_by_role("button", name="Zoom in", exact=True).last.click()
    page.locator("#places li", has_text="2 photos near 28.6").wait_for()
    texts = listed(page, 2)
    assert "° N, 77.2" in texts[0] and "° E" in texts[0] and texts[1].startswith("1 photo near 27")
    page.wait_for_url(re.compile("at="))
    page.reload()
    assert listed(ready(page), 2) == texts
    page.locator("#map").focus()
    page.keyboard.press("0")
    page.locator("#places li", has_text=re.compile("1 photo near 2[23].*° S, 43.*° W")).wait_for()
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    assert visitor.complaints == []


def test_a_place_shows_its_photos_and_leads_to_them(visit: Visit, server: Server) -> None:
    visitor = visit(server)
    page = ready(visitor.go("/map"))
    page.locator(".marker", has_text="3").click()
    page.get_by_role("heading", name="3 photos near").wait_for()
    for name in "abc":
        page.get_by_role("link", name=f"{name}.jpg").wait_for()
    assert page.get_by_role("link", name="d.jpg").count() == 0
    page.get_by_role("button", name="Close").click()
    page.get_by_role("heading", name="3 photos near").wait_for(state="hidden")
    page.locator(".marker", has_text="3").click()
    page.get_by_role("link", name="Browse them").click()
    page.get_by_text("3 photos of a part of the map").wait_for()
    page.go_back()
    ready(page).locator(".marker", has_text="3").click()
    page.get_by_role("link", name="b.jpg").click()
    page.get_by_role("heading", name="b.jpg").wait_for()
    assert visitor.complaints == []


def test_a_mouse_moves_the_map_and_the_wheel_zooms_at_its_place(
    visit: Visit, server: Server
) -> None:
    visitor = visit(server)
    page = ready(visitor.go("/map"))
    page.wait_for_url(re.compile("at="))
    marker = page.locator(".marker", has_text="3")
    before = marker.bounding_box()
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(340, 330, steps=3)
    page.mouse.up()
    page.wait_for_function(
        "(left) => [...document.querySelectorAll('.marker')].some((one) =>"
        " Math.abs(one.getBoundingClientRect().x - left) < 2)",
        arg=before["x"] + 40,
    )
    moved = marker.bounding_box()
    assert (moved["x"] - before["x"], moved["y"] - before["y"]) == pytest.approx((40, 30), abs=2)
    middle = moved["x"] + moved["width"] / 2, moved["y"] + moved["height"] / 2
    page.mouse.move(*middle)
    scale = float(parse_qs(urlsplit(page.url).query)["at"][0].split(",")[2])
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"() => +location.search.split('%2C')[2] > {1.2 * scale}")
    zoomed = marker.bounding_box()
    # Only the middle of the place may move, as another photo is counted to it.
    assert (zoomed["x"], zoomed["y"]) == pytest.approx((moved["x"], moved["y"]), abs=12)


def test_every_photo_is_in_one_marker_and_no_marker_covers_another(
    visit: Visit, server: Server
) -> None:
    page = ready(visit(server).go("/map"))
    script = page.locator("script[src*='map.js']").get_attribute("src")
    chance = random.Random(0)
    points = [{"id": number, "x": chance.random(), "y": chance.random()} for number in range(2000)]
    clusters = page.evaluate(
        "async ([script, points]) => (await import(script)).clustersOf(points, 1500)",
        [script.replace("map.js", "clusters.js"), points],
    )
    numbers = [point["id"] for cluster in clusters for point in cluster["points"]]
    assert sorted(numbers) == list(range(2000))
    sizes = [len(cluster["points"]) for cluster in clusters]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 100
    places = [complex(one["x"], one["y"]) * 1500 for one in clusters]
    nearest = min(abs(a - b) for n, a in enumerate(places) for b in places[:n])
    assert nearest >= 52


def on_land(lat: float, lon: float, rings: list[list[tuple[float, float]]]) -> bool:
    """Count how often a line to the east crosses a border (even-odd rule)."""
    crossings = 0
    for ring in rings:
        for (x, y), (next_x, next_y) in itertools.pairwise(ring):
            if (y > lat) != (next_y > lat):
                crossings += lon < x + (lat - y) / (next_y - y) * (next_x - x)
    return crossings % 2 == 1


def test_the_outline_is_that_of_the_world() -> None:
    world = json.loads(static_files()["app/world.json"].data)
    rings = []
    for steps in world["rings"]:
        x = y = 0
        ring = []
        for dx, dy in zip(steps[::2], steps[1::2], strict=True):
            x, y = x + dx, y + dy
            ring.append((x / world["stepsPerDegree"], y / world["stepsPerDegree"]))
        assert ring[0] == ring[-1] and len(ring) >= 4
        for (x, y), (next_x, next_y) in itertools.pairwise(ring):
            assert abs(next_x - x) < 180 or y == next_y == -90, "a line across the whole map"
        rings.append(ring)
    land = {
        "Delhi": DELHI,
        "Paris": (48.85, 2.35),
        "Brasília": (-15.8, -47.9),
        "Alice Springs": (-23.7, 133.9),
        "Chukotka, east of 180°": (66.5, -173.5),
        "Chukotka, west of 180°": (67.5, 178),
        "the South Pole, nearly": (-89, 10),
        "Antarctica near 180°": (-85, 179),
    }
    water = {
        "the Atlantic": (30, -40),
        "the Pacific": (0, -150),
        "the Caspian Sea": (42, 50.5),
        "the Arctic": (85, 0),
        "south of Chukotka": (55, 179.5),
    }
    for name, (lat, lon) in land.items():
        assert on_land(lat, lon, rings), name
    for name, (lat, lon) in water.items():
        assert not on_land(lat, lon, rings), name
    notice = (Path(__file__).parents[1] / "NOTICE").read_text()
    assert "world-atlas 2.0.2" in notice and "world-atlas 2.0.2" in world["source"]
