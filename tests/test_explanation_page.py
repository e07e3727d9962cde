"""The page of `veduta explain` in a real browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veduta.cli.explain_files import write_files
from veduta.explanation import Explanation

HOSTILE = "/p/<img src=x onerror=alert(1)>\u202e.jpg"


def explained(method: str, name: str = HOSTILE, **changes: Any) -> Explanation:
    rng = np.random.default_rng(len(method))
    shape = changes.pop("shape", (90, 120, 3))
    pixels = changes.pop("pixels", rng.integers(0, 256, shape, np.uint8))
    known = {
        "photo": name,
        "pixels": pixels,
        "map": rng.random((9, 12), np.float32),
        "box": (0, 0, shape[1], shape[0]),
        "method": method,
        "class_name": "<b>gate</b>",
        "score": 3.25,
        "seconds": 0.5,
        "notes": ("A note & <i>more</i>.",),
    }
    return Explanation(**{**known, **changes})


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = explained("grad-cam")
    by_method = [first, explained("occlusion", pixels=first.pixels, map=first.map - 0.5)]
    pair: dict[str, Any] = {"class_name": None, "score": None, "similarity": 0.75, "constant": 0.5}
    other = explained("shares", "/p/b.jpg", shape=(160, 40, 3), **pair)
    both = explained("shares", "/p/" + "a_long_name" * 20 + ".jpg", against=other, **pair)
    file = tmp_path_factory.mktemp("page") / "why.html"
    write_files([by_method, [both]], class_sheet=False, png=None, html=file, npy=None)
    return file


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(
    page_file: Path, open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    page = open_page(page_file, width, 900, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("section").count() == 2
    maps = page.locator("figure.map")
    assert maps.count() == 3 + 2
    assert maps.locator("h3").all_text_contents()[1:3] == ["grad-cam", "occlusion"]
    assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    assert page.locator("section b, section i, [onerror]").count() == 0  # of the names
    assert "<b>gate</b>" in page.locator("section").first.inner_text()
    numbers = maps.nth(2).locator(".numbers span").all_text_contents()
    assert numbers[1] == "0" and numbers[0].replace("-", "+") == numbers[2]


def test_the_box_shows_the_photos_alone(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file, 1280, 900)
    opacity = "one => getComputedStyle(one).opacity"
    covered = page.locator("figure.over img").first
    assert covered.evaluate(opacity) == "1"
    page.get_by_label("Photos without maps").check()
    assert covered.evaluate(opacity) == "0"
    frame = page.locator("figure.over .frame").first
    assert "data:image/jpeg" in frame.evaluate("one => getComputedStyle(one).backgroundImage")
    assert page.locator("figure:not(.over) img").first.evaluate(opacity) == "1"


def test_a_photo_is_in_the_page_once(page_file: Path) -> None:
    text = page_file.read_text("utf-8")
    assert text.count("--photo-0:url(") == 2 and text.count("--photo-1:url(") == 1
    assert "<script" not in text and "http://" not in text.replace("http://www.w3.org", "")


def test_the_files_of_a_class_sheet(tmp_path: Path) -> None:
    groups = [[explained("grad-cam", f"/p/{number}.jpg")] for number in range(5)]
    png, html = tmp_path / "why.png", tmp_path / "why.html"
    write_files(groups, class_sheet=True, png=png, html=html, npy=None)
    assert html.read_text("utf-8").count("<figure") == 5
    assert png.stat().st_size > 10_000


def test_the_numbers_of_both_maps(tmp_path: Path) -> None:
    one = explained("shares", "/p/a.jpg", similarity=0.5, class_name=None)
    both = replace(one, against=explained("shares", "/p/b.jpg", map=one.map.T.copy()))
    write_files([[both]], class_sheet=False, png=None, html=None, npy=tmp_path / "map.npy")
    assert (np.load(tmp_path / "map.npy") == one.map).all()
    assert (np.load(tmp_path / "map-against.npy") == one.map.T).all()
