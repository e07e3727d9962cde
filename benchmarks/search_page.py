"""The first page of a service: seconds until its first paint on loopback, and its bytes.

Each visit has an empty cache. Photos are not counted. The index is made as for
`benchmarks.serving`. Needs playwright and Chromium.
"""

from __future__ import annotations

import shutil
from typing import Any

from benchmarks.browsing import FLAGS, WINDOW
from benchmarks.report import parser, publish, rows_with_targets, table
from benchmarks.serving import make_index, service, wait_until_ready

PAINT = "seconds until the first paint"
KILOBYTES = "kilobytes of the page, its scripts and styles"
MAX_PAINT_SECONDS, MAX_KILOBYTES = 0.5, 150.0
FIRST_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  const first = list.getEntriesByName("first-contentful-paint")[0];
  if (first) done(first.startTime);
}).observe({ type: "paint", buffered: true }))"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or publish the figures."""
    from playwright.sync_api import sync_playwright

    options = parser("search_page", __doc__)
    options.add_argument("--photos", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args(arguments)
    index = chosen.work / "search-page-index"
    figures: dict[str, list[float]] = {PAINT: [], KILOBYTES: []}
    try:
        make_index(index, chosen.photos)
        with service(index) as (_, connection), sync_playwright() as play:
            wait_until_ready(connection)
            chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for turn in range(chosen.rounds + 1):
                seen = visit(chromium, f"http://127.0.0.1:{connection.port}/")
                if turn:  # The first one starts the processes of the browser.
                    for name, value in zip(figures, seen, strict=True):
                        figures[name].append(value)
            chromium.close()
    finally:
        shutil.rmtree(index, ignore_errors=True)
    targets = {PAINT: MAX_PAINT_SECONDS, KILOBYTES: MAX_KILOBYTES}
    body = table(
        ["what", "median (smallest–largest)", "target"], rows_with_targets(figures, targets)
    )
    note = f"{chosen.photos:,} photos, {chosen.rounds} visits, {WINDOW['width']} pixels wide."
    publish("search_page", f"{body}\n\n{note}", chosen.docs)


def visit(chromium: Any, url: str) -> tuple[float, float]:
    """Return the seconds until the first paint, and the kilobytes that are no photos."""
    context = chromium.new_context(viewport=WINDOW)
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    kinds: dict[str, str] = {}
    received: list[float] = []
    devtools.on(
        "Network.responseReceived", lambda one: kinds.update({one["requestId"]: one["type"]})
    )

    def note_end(one: dict[str, Any]) -> None:
        if kinds.get(one["requestId"]) != "Image":
            received.append(one["encodedDataLength"])

    devtools.on("Network.loadingFinished", note_end)
    page.goto(url, wait_until="networkidle")
    paint = page.evaluate(FIRST_PAINT) / 1e3
    context.close()
    return paint, sum(received) / 1e3


if __name__ == "__main__":
    main()
