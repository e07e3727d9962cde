"""The page of a review: `web` serves it, alone or in the frame of a service."""

from __future__ import annotations

from dataclasses import dataclass

from veduta.pages.html import render_page

__all__ = ["ReviewPage", "review_page"]


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """The content of the page.

    Attributes:
        dataset: its name.
        page_key: that its requests carry; None in the frame of a service, which has other checks.
        base: prefix of the addresses that it asks.
    """

    dataset: str
    page_key: str | None = None
    base: str = ""


def review_page(page: ReviewPage) -> str:
    """Return the page of a review alone as HTML."""
    return render_page("review.html", page)
