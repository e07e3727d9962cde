"""The page that searches: a photo, and the photos that show the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.pages.photo_card import PhotoCard
from veduta.pages.shelves import SearchAnswers
from veduta.search import SearchOptions
from veduta.web.access import needs, service_of
from veduta.web.event_stream import event_text
from veduta.web.json_answers import photo_json
from veduta.web.pages_frame import Page, framed, framed_text, shown_index
from veduta.web.photo_filters import PhotoFilters
from veduta.web.routes_search import search_stream

__all__ = ["PAGE", "router"]

PAGE = Page("Search", "/")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)

_FIRST_PHOTOS = 12


@dataclass(frozen=True, slots=True)
class _SearchPage:
    photos: int
    verifies: bool
    first: list[PhotoCard]


@router.get("/")
async def show(request: Request) -> Response:
    """Show the page."""
    service = service_of(request)
    index = shown_index(request)
    facts = await service.light(index.facts)
    newest = await service.light(
        index.page, PhotoFilters(SearchOptions()), "taken", _FIRST_PHOTOS, None
    )
    first = [PhotoCard.of(photo_json(photo)) for photo in newest.photos]
    return framed(request, "search.html", _SearchPage(facts["photos"], facts["verifies"], first))


@router.post("/search/answers")
async def show_answers(request: Request) -> Response:
    """Answer a request of the API for a search with the events of the API, as parts of the page."""

    def text_of(name: str, data: dict[str, Any]) -> str:
        if "results" not in data:
            return event_text(name, data)
        content = SearchAnswers.of(data)
        shown = {
            "html": framed_text(request, "answers.html", content),
            "next": data["next"],
            "photos": len(data["results"]),
        }
        return event_text(name, shown)

    return await search_stream(request, text_of)
