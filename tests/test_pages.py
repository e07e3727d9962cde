"""The pages in a real browser: they show what they should, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import pixels, save

from veduta.curate.leaks_report import leaks_page
from veduta.curate.splitting import Leak
from veduta.datasets.dataset import Dataset, as_table
from veduta.pages.hit import HitTile, Outline
from veduta.pages.leaks_page import write_leaks_page
from veduta.pages.results_page import (
    Figure,
    ResultRow,
    ResultsPage,
    write_results_page,
)
from veduta.photos import thumbnail

EVIL = "<script>document.title='owned'</script>\"'>\N{CASTLE}.jpg"


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    def tile(number: int) -> HitTile:
        name = EVIL if number == 3 else f"photo{number}.jpg"
        return HitTile(
            name, "tower", 0.9 - number / 20, number % 3 != 1, thumbnail(pixels(number, 320, 240))
        )

    rows = [
        ResultRow(
            name="query.jpg",
            label="tower",
            photo=thumbnail(pixels(100 + row, 640, 480), 640),
            tiles=[tile(10 * row + number) for number in range(10)],
            note="first right at rank 1",
        )
        for row in range(2)
    ]
    page = ResultsPage(
        title="Results & <more>",
        rows=rows,
        figures=[Figure("mAP", 0.5, (0.4, 0.6))],
        explains_marks=True,
    )
    write_results_page(tmp_path / "page.html", page)
    return tmp_path / "page.html"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page(browser: Any, page_file: Path, width: int, height: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    assert complaints == []
    assert page.title() == "Results & <more>"
    images = page.locator("img")
    assert images.count() == 22
    for number in range(images.count()):
        image = images.nth(number)
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert image.get_attribute("alt")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "no sideways scrolling"
    )
    assert "<script>document.title" in page.inner_text("body"), "shown as text, not run"
    assert "0.900" in page.inner_text("body") or "0.90" in page.inner_text("body")
    contrast = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; }"
    )
    assert contrast[0] != contrast[1]
    context.close()


@pytest.fixture
def evidence_file(tmp_path: Path) -> Path:
    """A page with three hits: verified, not enough in common, not looked at."""
    corners = [(100, 100), (500, 100), (500, 900), (100, 900)]
    tiles = [
        HitTile(
            EVIL,
            "tower",
            0.97,
            thumbnail=thumbnail(pixels(1, 300, 500)),
            verdict="same place",
            inliers=143,
            outline=Outline(600, 1000, corners),
            matches=thumbnail(pixels(2, 1200, 800), 1200),
        ),
        HitTile(
            "b.jpg",
            None,
            0.4,
            verdict="unsure",
            inliers=1,
            thumbnail=thumbnail(pixels(3, 320, 240)),
        ),
        HitTile("c.jpg", None, 0.1, thumbnail=thumbnail(pixels(4, 320, 240))),
    ]
    row = ResultRow("query.jpg", None, thumbnail(pixels(5, 640, 480), 640), tiles)
    write_results_page(tmp_path / "evidence.html", ResultsPage("Evidence", [row]))
    return tmp_path / "evidence.html"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_evidence(browser: Any, evidence_file: Path, width: int, height: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": height}, java_script_enabled=False, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(evidence_file.as_uri())
    lines = page.locator(".verdict").all_inner_texts()
    assert [line.split() for line in lines] == [
        ["same", "place", "143", "inliers"],
        ["unsure", "1", "inlier"],
    ]
    # The thumbnail, 3:5, is fitted into its frame; the outline leaves a sixth and a tenth free.
    frame = page.locator(".hits .frame").first.bounding_box()
    outline = page.locator("polygon").last.bounding_box()
    wide = frame["height"] * 0.6
    left = frame["x"] + (frame["width"] - wide) / 2
    assert outline["x"] == pytest.approx(left + wide / 6, abs=4)
    assert outline["width"] == pytest.approx(wide * 4 / 6, abs=8)
    assert outline["y"] == pytest.approx(frame["y"] + frame["height"] / 10, abs=4)
    assert outline["height"] == pytest.approx(frame["height"] * 0.8, abs=8)

    button, picture = page.get_by_text("Show matches"), page.locator("dialog img")
    assert button.count() == picture.count() == 1
    assert not picture.is_visible()
    button.click()
    assert picture.is_visible()
    seen = picture.bounding_box()
    assert seen["x"] >= 0 and seen["x"] + seen["width"] <= width
    assert seen["y"] >= 0 and seen["y"] + seen["height"] <= height
    assert seen["width"] > 0.8 * width
    assert "<script>" in (picture.get_attribute("alt") or "")
    page.get_by_text("Close").click()
    assert not picture.is_visible()
    button.press("Enter")
    page.keyboard.press("Escape")
    assert not picture.is_visible()
    assert complaints == []
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_leaks(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / EVIL.replace("/", "-"), 2)
    table = as_table(
        ["a.png", EVIL.replace("/", "-"), "gone.png"], ["tower"] * 3, ["train", "test", "test"]
    )
    dataset = Dataset(tmp_path, table)
    leaks = [Leak(0, 1, "mirrored", 0.98), Leak(0, 2, "same bytes", 1.0)]
    file = tmp_path / "leaks.html"
    write_leaks_page(file, leaks_page(dataset, dataset.splits, leaks, "test and train: 2 leaks"))
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    assert complaints == []
    assert page.title() == f"Leaks of {tmp_path.name}"
    assert page.locator(".pair").count() == 2
    sizes = page.evaluate("() => [...document.images].map(one => one.naturalWidth)")
    assert len(sizes) == 3 and min(sizes) > 0
    body = page.inner_text("body")
    assert "mirrored, 0.980" in body and "no preview" in body
    assert "<script>document.title" in body, "shown as text, not run"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    first, second = (page.locator(".pair").first.locator("figure").nth(at) for at in (0, 1))
    assert first.bounding_box()["y"] == second.bounding_box()["y"], "side by side"
    context.close()
