"""The page that searches: a photo, and the photos that show the same."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.web.access import needs, service_of
from veduta.web.pages_frame import Page, framed

__all__ = ["PAGE", "router"]

PAGE = Page("Search", "/")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)


@router.get("/")
async def show(request: Request) -> Response:
    """Show the page."""
    service = service_of(request)
    index = service.index(request.query_params.get("index"))
    return framed(request, "search.html", await service.light(index.facts))
