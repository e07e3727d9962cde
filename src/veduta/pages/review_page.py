"""The page of a review, and the files that it loads: `web` serves both."""

from __future__ import annotations

from dataclasses import dataclass

from veduta.pages.html import PAGES, render_page

__all__ = ["ReviewPage", "review_page", "static_files"]

_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """The content of the page: the name of the dataset, and the key that its requests carry."""

    dataset: str
    page_key: str


def review_page(page: ReviewPage) -> str:
    """Return the page as HTML."""
    return render_page("review.html", page)


def static_files() -> dict[str, tuple[bytes, str]]:
    """Read the scripts, styles and icons of the page: file name → (bytes, media type)."""
    return {
        file.name: (file.read_bytes(), _MEDIA_TYPES[file.suffix])
        for file in sorted((PAGES / "static").iterdir())
        if file.suffix in _MEDIA_TYPES
    }
