"""Draw the pictures of pages in README.md and docs/serve.md, from the photos of `make demo`.

    make demo
    python -m tools.page_pictures --demo .demo --out docs/images

It indexes the photos, opens the pages of a service in headless Chromium as a person would, and
writes a JPEG of each. It takes about two minutes. The photos are copied first, because pages show
where photos lie.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from benchmarks.serving import service
from PIL import Image
from playwright.sync_api import sync_playwright

import veduta

WINDOW = {"width": 1280, "height": 800}
JPEG_QUALITY = 85
QUERY = "queries/motorcycle"


def save(page: Any, file: Path) -> None:
    """Write what the window shows."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    print(file)


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path(".demo"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/demo"), help="an absent folder")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    shutil.copytree(options.demo / "photos", options.work / "photos")
    index = options.work / "index"
    with veduta.create(index) as new:
        new.add(options.work / "photos/gallery", labels="folders")
    query = next((options.work / "photos" / QUERY).iterdir())
    with service(index) as (_, connection), sync_playwright() as play:
        url = f"http://127.0.0.1:{connection.port}/"
        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(600_000)

        page.goto(url)
        page.set_input_files("input[type=file]", query)
        page.get_by_role("heading", name="Same place").wait_for()
        save(page, options.out / "page-search.jpg")

        page.locator("#answers a.frame").first.click()
        page.get_by_text("same place").first.wait_for()
        save(page, options.out / "page-compare.jpg")

        page.goto(f"{url}browse/groups")
        page.locator("a.frame img").first.wait_for()
        save(page, options.out / "page-groups.jpg")
        browser.close()


if __name__ == "__main__":
    main()
