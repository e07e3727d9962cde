"""Scrolling the page that shows the collection: the tasks of Chromium's main thread, from a trace.

The index is made as for `benchmarks.serving`. The window is scrolled by a wheel, slowly and fast,
and then by jumps to places far apart. A task is scripting if a script runs in it: timers, frames,
events, answers of the service. Needs playwright and Chromium.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.report import parser, publish, rows_with_targets, table
from benchmarks.serving import make_index, service

SCRIPTING = "longest scripting task while scrolling, milliseconds"
PROCESSOR = "most processor time of one, milliseconds"
TASK = "longest task of any kind, milliseconds"
TILES = "photos in the document at the same time"
MAX_SCRIPTING_MS = 50.0

WINDOW = {"width": 1280, "height": 800}
FLAGS = ["--no-sandbox", "--disable-gpu"]
CATEGORIES = [
    "devtools.timeline",
    "v8.execute",
    "toplevel",
    "disabled-by-default-devtools.timeline",
]
SCRIPTS = frozenset(
    {
        "EvaluateScript",
        "EventDispatch",
        "FireAnimationFrame",
        "FunctionCall",
        "RunMicrotasks",
        "TimerFire",
        "v8.callFunction",
    }
)
WHEELS = ((40, 240, 0.03), (40, 3_000, 0.03), (20, 60_000, 0.15))
"""How often the wheel turns, by how many CSS pixels, and the seconds between the turns."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or publish the figures."""
    options = parser("browsing", __doc__)
    options.add_argument("--photos", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args(arguments)

    index = chosen.work / "browsing-index"
    try:
        make_index(index, chosen.photos)
        figures: dict[str, list[float]] = {SCRIPTING: [], PROCESSOR: [], TASK: [], TILES: []}
        with service(index) as (_, connection):
            address = f"http://127.0.0.1:{connection.port}/browse"
            for _ in range(chosen.rounds):
                trace, tiles = scroll(address, chosen.photos)
                scripting = list(main_thread(trace, SCRIPTS))
                figures[SCRIPTING].append(max(task["dur"] for task in scripting) / 1e3)
                figures[PROCESSOR].append(max(task.get("tdur", 0) for task in scripting) / 1e3)
                tasks = main_thread(trace, frozenset({"RunTask", "ThreadControllerImpl::RunTask"}))
                figures[TASK].append(max(task["dur"] for task in tasks) / 1e3)
                figures[TILES].append(tiles)
    finally:
        shutil.rmtree(index, ignore_errors=True)
    body = table(
        ["what", "median (smallest–largest)", "target"],
        rows_with_targets(figures, {SCRIPTING: MAX_SCRIPTING_MS}),
    )
    note = f"{chosen.photos:,} photos, {chosen.rounds} rounds in a window of 1280 × 800 pixels."
    publish("browsing", f"{body}\n\n{note}", chosen.docs)


def scroll(address: str, photos: int) -> tuple[dict[str, Any], int]:
    """Scroll through the page in a new browser; return the trace and the most tiles at a time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=WINDOW)
        page.goto(address)
        page.get_by_text(f"{photos:,} photos").wait_for()
        page.locator("#grid .caption", has_text="label").first.wait_for()
        page.mouse.move(WINDOW["width"] / 2, WINDOW["height"] / 2)
        tiles = 0
        browser.start_tracing(page=page, categories=CATEGORIES)
        for turns, pixels, seconds in WHEELS:
            for _ in range(turns):
                page.mouse.wheel(0, pixels)
                time.sleep(seconds)
            tiles = max(tiles, page.locator("#grid li").count())
        trace: dict[str, Any] = json.loads(browser.stop_tracing())
        assert page.locator("#scroller").evaluate("one => one.scrollTop") > 100_000
        browser.close()
    return trace, tiles


def main_thread(trace: dict[str, Any], names: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield the events with some names of the threads that run the scripts of pages."""
    events = trace["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    for event in events:
        of_page = (event["pid"], event["tid"]) in threads
        if of_page and event["name"] in names and event.get("ph") == "X":
            yield event


if __name__ == "__main__":
    main()
