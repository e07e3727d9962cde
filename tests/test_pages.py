"""Pages in a real browser: they show what they should on a desktop and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import pixels, save

from veduta.curate.leaks_report import leaks_page
from veduta.curate.splitting import Leak
from veduta.datasets.dataset import Dataset, as_table
from veduta.pages.findings_page import (
    FindingKind,
    FindingsPage,
    FindingTile,
    write_findings_page,
)
from veduta.pages.hit import HitTile, Outline
from veduta.pages.leaks_page import write_leaks_page
from veduta.pages.results_page import (
    Figure,
    ResultRow,
    ResultsPage,
    write_results_page,
)
from veduta.photos import thumbnail

OpenPage = Callable[..., Any]

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


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page(open_page: OpenPage, page_file: Path, width: int, height: int, scheme: str) -> None:
    page = open_page(page_file, width, height, color_scheme=scheme)
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
            map=thumbnail(pixels(6, 1200, 500), 1200),
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
def test_evidence(open_page: OpenPage, evidence_file: Path, width: int, height: int) -> None:
    page = open_page(evidence_file, width, height, java_script_enabled=False)
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

    pictures = page.locator("dialog img")
    assert pictures.count() == 2
    for number, text in enumerate(("Show matches", "Show map")):
        button, picture = page.get_by_text(text), pictures.nth(number)
        assert button.count() == 1
        assert not picture.is_visible()
        button.click()
        assert picture.is_visible()
        assert not pictures.nth(1 - number).is_visible()
        seen = picture.bounding_box()
        assert seen["x"] >= 0 and seen["x"] + seen["width"] <= width
        assert seen["y"] >= 0 and seen["y"] + seen["height"] <= height
        assert seen["width"] > 0.8 * width
        assert "<script>" in (picture.get_attribute("alt") or "")
        page.get_by_text("Close").nth(number).click()
        assert not picture.is_visible()
        button.press("Enter")
        page.keyboard.press("Escape")
        assert not picture.is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_leaks(open_page: OpenPage, tmp_path: Path, width: int, scheme: str) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / EVIL.replace("/", "-"), 2)
    table = as_table(
        ["a.png", EVIL.replace("/", "-"), "gone.png"], ["tower"] * 3, ["train", "test", "test"]
    )
    dataset = Dataset(tmp_path, table)
    leaks = [Leak(0, 1, "mirrored", 0.98), Leak(0, 2, "same bytes", 1.0)]
    file = tmp_path / "leaks.html"
    write_leaks_page(file, leaks_page(dataset, dataset.splits, leaks, "test and train: 2 leaks"))
    page = open_page(file, width, 800, color_scheme=scheme)
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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_findings(open_page: OpenPage, tmp_path: Path, width: int, scheme: str) -> None:
    name = EVIL.replace("/", "-")
    save(tmp_path / "a.png", 1)
    save(tmp_path / name, 2)
    copy = FindingTile(("a.png", name), 1.0, "drop", f"same bytes; {EVIL} stays")
    wrong = FindingTile(("gone.png",), 0.75, "relabel", "looks like another", EVIL)
    content = FindingsPage(
        title="set",
        root=tmp_path,
        photos=1200,
        readable=1199,
        drops=61,
        kinds=[
            FindingKind("exact-copy", "drop", "the same bytes as another photo", 61, [copy]),
            FindingKind("mislabelled", "relabel", "shows what another class shows", 1, [wrong]),
        ],
        notes=["blurred photos: too few"],
    )
    file = tmp_path / "findings.html"
    write_findings_page(file, content)
    page = open_page(file, width, 800, color_scheme=scheme)
    assert page.title() == "set: what to clean"
    body = page.inner_text("body")
    assert "1,200 photos, 1,199 readable. 62 findings; 61 photos would go" in body
    assert "61 found, the 1 surest are shown" in body and "no preview" in body
    assert body.count("<script>document.title") == 3, "shown as text, not run"
    sizes = page.evaluate("() => [...document.images].map(one => one.naturalWidth)")
    assert len(sizes) == 2 and min(sizes) > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    heading = page.get_by_role("link", name="mislabelled")
    assert heading.bounding_box()["height"] < 40, "the name of a kind stays on one line"


def test_a_page_without_findings(open_page: OpenPage, tmp_path: Path) -> None:
    write_findings_page(tmp_path / "page.html", FindingsPage("set", tmp_path, 3, 3, 0, []))
    assert "Nothing is odd." in open_page(tmp_path / "page.html", 360, 800).inner_text("body")
