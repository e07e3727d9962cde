"""The page of the review, used with the keyboard, the mouse and a finger."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from review_server import EVIL, STATIC, ReviewServer, findings_file, rows_of
from tiny import pixels, save

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("uvicorn", reason="the extra veduta[web] is not installed")


class Reader:
    """Someone at the page, with or without a mouse."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.strangers: list[str] = []
        origin = url.partition("/?")[0]
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith(origin) else self.strangers.append(request.url)
            ),
        )
        self.page.goto(url)
        self.page.wait_for_selector("#grid li.current")

    def until(self, condition: str, seconds: float = 10) -> None:
        # Playwright's own waiting evaluates a string in the page, which the page forbids.
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.01)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> None:
        self.until("document.getElementById('saved').textContent === 'Saved'")

    def loaded(self) -> None:
        self.until(
            "[...document.querySelectorAll('#grid img')].every("
            "image => image.hidden || (image.complete && image.naturalWidth))"
        )

    def tiles(self) -> dict[str, str]:
        """Return name → class of the tiles that there are."""
        found = self.page.evaluate(
            "[...document.querySelectorAll('#grid li')].map(tile => "
            "[tile.querySelector('.tile').title, tile.className])"
        )
        return {name.rsplit("/", 1)[-1]: kind for name, kind in found}

    def left(self) -> str:
        text: str = self.page.inner_text("#left")
        return text.partition(";")[0]

    def current(self) -> str:
        name: str = self.page.inner_text("#about-name")
        return name.rsplit("/", 1)[-1]

    def close(self) -> None:
        self.context.close()
        assert self.strangers == [], "nothing is loaded from anywhere else"


@pytest.fixture
def towers(tmp_path: Path) -> Path:
    """Twelve towers, three of them suspected, and two gates."""
    folder = tmp_path / "towers"
    for number in range(12):
        save(folder / f"tower/t{number:02}.png", number)
    for number in range(2):
        save(folder / f"gate/g{number}.png", 50 + number)
    findings_file(
        folder,
        "tower/t07.png,mislabelled,0.9,looks like a gate,relabel:gate,tower",
        "tower/t03.png,near-copy,0.8,saved again,drop,tower",
        "tower/t05.png,dark,0.4,black nearly,keep,tower",
    )
    return folder


@pytest.mark.slow
def test_a_class_with_the_keyboard_alone(
    towers: Path, browser: Any, served: Callable[..., ReviewServer]
) -> None:
    server = served(towers, findings=towers / "findings.csv", label="tower")
    reader = Reader(browser, server.access.url)
    assert reader.left() == "0 of 12 decided, 12 left"
    assert list(reader.tiles())[:4] == ["t07.png", "t03.png", "t05.png", "t00.png"]
    assert reader.tiles()["t03.png"] == "drop suggested"
    reader.press("Enter")  # what is suggested: a gate
    reader.press("d")  # t03
    reader.press("k")  # t05
    assert reader.current() == "t00.png"
    reader.press("r")
    reader.page.keyboard.type("GAT")
    reader.press("Enter")
    reader.press("1")  # t01: the label used before
    reader.press("r")
    reader.page.keyboard.type("old tower")
    reader.press("Enter")  # t02: a new label
    reader.press("r", "Escape")
    assert reader.current() == "t04.png"
    reader.press("Shift+ArrowRight", "d")  # t04, t06
    reader.press("ArrowLeft", "k")  # t06 after all
    assert reader.left() == "8 of 12 decided, 4 left"
    reader.press("u", "u", "u")
    reader.until("document.getElementById('left').textContent.startsWith('5 of')")
    assert reader.current() == "t02.png"
    reader.press("2", "Shift+Enter")
    reader.saved()
    assert reader.left() == "12 of 12 decided, 0 left"
    assert reader.tiles()["t02.png"].split() == ["relabel", "decided"]
    assert "tower is done" in reader.page.inner_text("#toast")
    reader.press("?")
    assert reader.page.is_visible("#help")
    assert "keep, and go to the next" in reader.page.inner_text("#help")
    reader.press("Escape")
    assert reader.complaints == []
    reader.page.focus("#finish-button")
    reader.press("Enter")
    reader.page.focus("#finish-stop")
    reader.press("Enter")
    reader.until("document.body.innerText.includes('The review has ended')")
    server.thread.join(10)
    rows = {row[0]: row[1:] for row in rows_of(server.files.decisions)[1:]}
    assert len(rows) == 12
    changed = {path: row[1:] for path, row in rows.items() if row[1] != "keep"}
    assert changed == {
        "tower/t07.png": ["relabel", "gate"],
        "tower/t03.png": ["drop", ""],
        "tower/t00.png": ["relabel", "gate"],
        "tower/t01.png": ["relabel", "gate"],
        "tower/t02.png": ["relabel", "old tower"],
    }
    names = dict(rows_of(server.files.labels)[1:])
    assert len(names) == 13 and names["tower/t02.png"] == "old tower"
    assert names["gate/g0.png"] == "gate", "classes that were not reviewed stay"
    reader.close()


@pytest.mark.slow
def test_the_space_bar_takes_what_is_seen(
    tmp_path: Path, browser: Any, served: Callable[..., ReviewServer]
) -> None:
    for number in range(60):
        save(tmp_path / f"many/p{number:02}.png", number)
    found = findings_file(
        tmp_path, "many/p59.png,off-topic,0.9,r,drop,", "many/p58.png,dark,0.2,r,,"
    )
    reader = Reader(browser, served(tmp_path, findings=found).access.url)
    reader.loaded()
    first, last = reader.page.evaluate(
        "(() => { const box = document.getElementById('scroller').getBoundingClientRect();"
        "const seen = [...document.querySelectorAll('#grid li')].filter(tile => {"
        "const frame = tile.querySelector('.tile-photo').getBoundingClientRect();"
        "return frame.top >= box.top && frame.bottom <= box.bottom; });"
        "return [+seen[0].dataset.position, +seen.at(-1).dataset.position]; })()"
    )
    assert first == 0 and 8 <= last < 59
    reader.press("ArrowRight", "d", " ")
    assert reader.left() == f"{last + 1} of 60 decided, {59 - last} left"
    tiles = reader.tiles()
    assert tiles["p59.png"] == "drop decided", "as suggested"
    assert tiles["p58.png"] == "drop decided", "what was decided stays"
    assert tiles["p00.png"] == "keep decided"
    assert "current" in tiles[f"p{last - 1:02}.png"], "the next one is current"
    reader.press("u")
    reader.until("document.getElementById('left').textContent.startsWith('1 of')")
    for _ in range(10):
        reader.loaded()
        reader.press(" ")
    reader.saved()
    assert reader.left() == "60 of 60 decided, 0 left"
    assert reader.complaints == []
    reader.close()


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_reload_and_kill_lose_nothing(
    towers: Path, tmp_path: Path, browser: Any, request: pytest.FixtureRequest
) -> None:
    command = [
        sys.executable,
        "-m",
        "veduta",
        "review",
        str(towers),
        "--no-open",
        "--label",
        "tower",
        "--out",
        str(tmp_path / "k.csv"),
    ]

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        request.addfinalizer(process.kill)
        assert process.stderr is not None
        return process, process.stderr.readline().split()[-1]

    process, url = start()
    reader = Reader(browser, url)
    reader.press("d", "k", "d")
    reader.saved()
    reader.page.reload()
    reader.page.wait_for_selector("#grid li.current")
    assert reader.current() == "t03.png", "goes on behind the last one decided"
    assert reader.tiles()["t00.png"] == reader.tiles()["t02.png"] == "drop decided"
    reader.press("k")
    reader.saved()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    reader.press("d")  # nobody acknowledges this one
    reader.until("!document.getElementById('trouble').hidden")
    assert "not saved" in reader.page.inner_text("#saved")
    reader.press("d")
    assert reader.left() == "5 of 12 decided, 7 left", "no more is taken in"
    reader.close()

    process, url = start()
    reader = Reader(browser, url)
    assert reader.left() == "4 of 12 decided, 8 left"
    assert reader.current() == "t04.png"
    reader.press("u", "u")
    reader.until("document.getElementById('left').textContent.startsWith('2 of')")
    assert reader.current() == "t02.png"
    reader.saved()
    reader.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "12 photos: 1 kept, 1 dropped, 0 relabelled, 10 undecided" in out
    assert "Traceback" not in err
    assert [row[:1] + row[2:3] for row in rows_of(tmp_path / "k.csv")[1:]] == [
        ["tower/t00.png", "drop"],
        ["tower/t01.png", "keep"],
    ]


@pytest.mark.slow
def test_with_the_mouse(towers: Path, browser: Any, served: Callable[..., ReviewServer]) -> None:
    server = served(towers, findings=towers / "findings.csv")
    reader = Reader(browser, server.access.url)
    page = reader.page
    assert page.inner_text("#class-name") == "gate"
    page.click("#next-class")
    reader.until("document.getElementById('class-name').textContent === 'tower'")
    tiles = page.locator("#grid li .tile")
    tiles.nth(4).click()
    assert reader.current() == "t01.png"
    page.click(".under [data-do=drop]")
    assert reader.current() == "t02.png"
    tiles.nth(7).click(modifiers=["Shift"])  # t02, t04, t06
    assert "3 photos marked" in page.inner_text("#about-name")
    page.click(".under [data-do=keep]")
    page.hover("#grid li:nth-child(2)")
    page.click("#grid li:nth-child(2) [data-quick=drop]")
    page.click(".under [data-do=relabel]")
    page.click("#labels-list li:has-text('gate')")
    assert reader.left() == "6 of 12 decided, 6 left"
    kinds = reader.tiles()
    assert [kinds[f"t{number:02}.png"].split()[0] for number in (1, 2, 4, 6, 3, 5)] == [
        "drop",
        "keep",
        "keep",
        "keep",
        "drop",
        "relabel",
    ]
    tiles.nth(0).dblclick()
    assert page.is_visible("#viewer")
    assert "looks like a gate" in page.inner_text("#viewer-why")
    assert "suggested: gate?" in page.inner_text("#viewer-state")
    page.click("#viewer [data-do=keep]")
    page.click("#viewer [data-close]")
    page.click(".under [data-do=undo]")
    reader.until("document.getElementById('left').textContent.startsWith('6 of')")
    page.select_option("#filter", "drop")
    assert list(reader.tiles()) == ["t03.png", "t01.png"]
    page.select_option("#filter", "suspected")
    assert list(reader.tiles()) == ["t07.png", "t03.png", "t05.png"]
    page.click("#class-button")
    page.click("#classes-list li:has-text('gate')")
    reader.until("document.getElementById('class-name').textContent === 'gate'")
    assert page.inner_text("#empty").startswith("No photo of this class is like that.")
    page.click("#empty button")
    assert len(reader.tiles()) == 2
    page.click(".under [data-do=undo]")  # of the other class: it goes there
    reader.until("document.getElementById('class-name').textContent === 'tower'")
    reader.until("document.getElementById('left').textContent.startsWith('5 of')")
    reader.saved()
    assert reader.complaints == []
    reader.close()


@pytest.mark.slow
def test_with_a_finger(towers: Path, browser: Any, served: Callable[..., ReviewServer]) -> None:
    server = served(towers, label="tower")
    reader = Reader(
        browser,
        server.access.url,
        viewport={"width": 360, "height": 740},
        has_touch=True,
        is_mobile=True,
    )
    page = reader.page
    tiles = page.locator("#grid li .tile")
    tiles.nth(1).tap()
    assert reader.current() == "t01.png" and not page.is_visible("#viewer")
    page.tap(".under [data-do=drop]")
    assert reader.current() == "t02.png"
    tiles.nth(2).tap()  # the current one: enlarged
    assert page.is_visible("#viewer")
    reader.until("document.getElementById('viewer-photo').naturalWidth > 0")
    page.evaluate(
        "(() => { const area = document.querySelector('.picture');"
        "const touch = (x) => new Touch({identifier: 1, target: area, clientX: x, clientY: 300});"
        "const send = (type, x, touches) => area.dispatchEvent(new TouchEvent(type, "
        "{touches, changedTouches: [touch(x)], bubbles: true}));"
        "send('touchstart', 300, [touch(300)]); send('touchend', 100, []); })()"
    )
    assert "t03.png" in page.inner_text("#viewer-name")
    page.tap("#viewer [data-do=keep]")
    assert "t04.png" in page.inner_text("#viewer-name")
    page.tap("#viewer [data-close]")
    for button in page.locator(".under .actions button, .over button:visible").all():
        box = button.bounding_box()
        assert box["width"] >= 34 and box["height"] >= 36, "large enough for a finger"
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.tap(".under [data-do=undo]")
    page.tap(".under [data-do=undo]")
    reader.until("document.getElementById('left').textContent.startsWith('0 of')")
    page.tap(".under [data-do=screen]")
    reader.saved()
    assert re.match(r"([4-9]|1[0-2]) of 12 decided", reader.left())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert reader.complaints == []
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_only_text(
    hostile_dataset: Path,
    browser: Any,
    served: Callable[..., ReviewServer],
    width: int,
    scheme: str,
) -> None:
    found = hostile_dataset / "findings.csv"
    with found.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["photo", "kind", "score", "reason", "suggestion"])
        table.writerow(
            [f"tower/{EVIL}", "<b>odd</b>", "1", "</script><script>x()", "relabel:<i>g</i>"]
        )
    server = served(hostile_dataset, findings=found, label="tower")
    reader = Reader(
        browser,
        server.access.url,
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 740},
    )
    page = reader.page
    reader.until("document.querySelector('.photo-error:not(:empty)') !== null")
    assert "JPEG" in page.inner_text(".photo-error:not(:empty)")
    assert page.title() == "Review: small"
    assert "<img src=x" in page.inner_text("#about-name")
    assert "\\u202e" in page.inner_text("#about-name"), "marks of direction are shown, not obeyed"
    assert "<b>odd</b> </script><script>x()" in page.inner_text("#about-why")
    assert "<i>g</i>?" in page.inner_text("#grid .badge")
    reader.press("Enter", "r")
    assert "<i>g</i>" in page.inner_text("#labels-list")
    reader.press("Escape", "e")
    assert page.is_visible("#viewer")
    reader.press("Escape", "c", "Escape")
    assert page.locator("#grid img").count() == 4 and page.locator("i, b i").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(
        "getComputedStyle(document.querySelector('.tile-photo img')).transition"
    ) in (
        "all",
        "none",
        "all 0s ease 0s",
    )
    # A photo that cannot be decoded is told to the console by the browser itself.
    assert [text for text in reader.complaints if "422" not in text] == []
    reader.close()


@pytest.mark.slow
def test_every_control_has_a_name_and_focus_is_seen(
    towers: Path, browser: Any, served: Callable[..., ReviewServer]
) -> None:
    reader = Reader(browser, served(towers).access.url)
    page = reader.page
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, progress, dialog')].filter(one => "
        "!(one.ariaLabel || one.textContent.trim() || one.labels?.length || "
        "one.getAttribute('aria-labelledby'))).map(one => one.outerHTML)"
    )
    assert nameless == []
    label = page.locator("#grid li .tile").first.get_attribute("aria-label")
    assert label.startswith("gate/g0.png. undecided")
    assert page.locator("#grid .tile[tabindex='0']").count() == 1
    seen = []
    for _ in range(9):
        reader.press("Tab")
        seen.append(
            page.evaluate(
                "(() => { const one = document.activeElement; return [one.tagName, "
                "getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]; })()"
            )
        )
    for tag, style, width in seen:
        if tag not in ("BODY", "MAIN"):
            assert style == "solid" and float(width.removesuffix("px")) >= 2.9
    assert len({tag for tag, *_ in seen}) >= 2
    reader.close()


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_in_both_schemes() -> None:
    """By the formula of WCAG 2.2: 4.5 for text, 3 for the edges of controls."""
    css = (STATIC / "colours.css").read_text("utf-8")
    schemes = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in css.split("}")[:2]]
    for colours in schemes:

        def contrast(one: str, other: str, colours: dict[str, str] = colours) -> float:
            low, high = sorted(_luminance(colours[name]) for name in (one, other))
            return (high + 0.05) / (low + 0.05)

        for text in ("ink", "muted", "accent", "right", "wrong"):
            for ground in ("paper", "card"):
                assert contrast(text, ground) >= 4.5, (text, ground)
        assert contrast("muted", "well") >= 4.5
        for ground in ("accent", "right", "wrong"):
            assert contrast("on-colour", ground) >= 4.5, ground
        assert contrast("edge", "card") >= 3


@pytest.mark.slow
def test_five_thousand_photos_stay_few_tiles(
    tmp_path: Path, browser: Any, served: Callable[..., ReviewServer]
) -> None:
    folder = tmp_path / "big/class"
    folder.mkdir(parents=True)
    Image.fromarray(pixels(1)).save(folder / "p0000.png")
    for number in range(1, 5000):
        os.link(folder / "p0000.png", folder / f"p{number:04}.png")
    reader = Reader(browser, served(tmp_path / "big").access.url)
    count = "document.querySelectorAll('#grid li').length"
    assert reader.page.evaluate(count) < 120
    reader.press("End")
    reader.until("document.querySelector('#grid li.current img').naturalWidth > 0")
    assert reader.current() == "p4999.png"
    assert reader.page.evaluate(count) < 120
    reader.page.evaluate("document.getElementById('scroller').scrollTop = 50000")
    reader.until(
        "[...document.querySelectorAll('#grid li')].some(tile => { const box = "
        "tile.getBoundingClientRect(); return box.top > 200 && box.top < 600 && "
        "tile.querySelector('img').naturalWidth > 0; })"
    )
    assert reader.page.evaluate(count) < 120
    reader.press("Shift+Enter")
    reader.saved()
    assert reader.left() == "5,000 of 5,000 decided, 0 left"
    reader.press("u")
    reader.until("document.getElementById('left').textContent.startsWith('0 of')")
    assert reader.complaints == []
    reader.close()
