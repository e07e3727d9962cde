"""The page of `veduta describe` in a real browser, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import pixels, save

from veduta.cli.main import run
from veduta.explore import describe
from veduta.explore.description_report import description_page
from veduta.pages.description_page import write_description_page

OpenPage = Callable[..., Any]

EVIL = "<script>document.title='owned'</script>\"'>\N{CASTLE}".replace("/", "\N{DIVISION SLASH}")
SCREENS = pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 780)])


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with evil and long names, copies across splits and labels, a broken photo."""
    root = tmp_path_factory.mktemp("page") / "a & b"
    names = [EVIL, "a_very_long_class_name_" * 6, "tower"]
    for split, first in (("train", 0), ("test", 100)):
        for number in range(12):
            file = root / split / names[number % 3] / f"{EVIL[:20]}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(first + number, 120, 80)).save(file)
    copies = root / "test" / "tower"
    Image.fromarray(pixels(2, 120, 80)).save(copies / "copy.jpg", quality=80)
    Image.fromarray(pixels(1, 120, 80)).save(copies / "mislabelled.png")
    save(root / "train" / "only in train" / "x.png", 7777)
    (root / "train" / "tower" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    file = root.parent / "page.html"
    assert run(["describe", str(root), "--html", str(file)]) == 0
    return file


@pytest.mark.slow
@SCREENS
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page(open_page: OpenPage, page_file: Path, width: int, height: int, scheme: str) -> None:
    page = open_page(page_file, width, height, color_scheme=scheme)
    assert page.title() == "a & b"
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "no sideways scrolling"
    )
    text = page.inner_text("body")
    assert "<script>document.title" in text, "shown as text, not run"
    assert "photos of test have a copy in train" in text
    assert "only in train" in text and "broken.jpg: the JPEG data are damaged" in text
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert image.get_attribute("alt")
    assert page.locator(".pair").count() == 2, "the copy and the mislabelled one, once each"

    charts = page.locator(".chart svg")
    assert charts.count() >= 9
    ink = page.evaluate("getComputedStyle(document.body).color")
    for chart in charts.all():
        box = chart.bounding_box()
        assert 0 < box["width"] <= width and box["height"] > 60
        assert chart.get_attribute("aria-label")
        words = chart.locator("text")
        assert words.first.evaluate("text => getComputedStyle(text).fill") == ink
        for word in words.all():
            place = word.bounding_box()
            assert place["x"] >= box["x"] - 1, "no letter outside its chart"
            assert place["x"] + place["width"] <= box["x"] + box["width"] + 1


@pytest.mark.slow
@SCREENS
def test_page_without_photos(open_page: OpenPage, tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "train.csv").write_text(
        "id,url,landmark_id\n" + "".join(f"{n},u,{int(40_000 / (n + 1))}\n" for n in range(40_000))
    )
    write_description_page(
        tmp_path / "page.html", description_page(describe(tmp_path / "train.csv"))
    )
    page = open_page(tmp_path / "page.html", width, height)
    assert page.locator(".chart svg").count() == 5
    assert page.locator("img").count() == 0
    assert "Duplicates" not in page.inner_text("body")
    page.locator("summary").click()
    classes = {int(40_000 / (n + 1)) for n in range(40_000)}
    assert page.locator("tbody tr").count() == len(classes)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_a_page_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "set" / "c" / "a.png", 1)
    done = describe(tmp_path / "set")
    target = tmp_path / "page.html"
    target.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_description_page(target, description_page(done))
    assert target.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html", "set"]
    write_description_page(target, description_page(done))
    assert target.read_text().startswith("<!doctype html>")
    (tmp_path / "set" / "c" / "a.png").unlink()
    write_description_page(target, description_page(done))
    assert "no preview" in target.read_text(), "a photo that has gone since"
