"""The page that shows the collection: its photos by label, folder, month and group."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.web.access import needs, service_of
from veduta.web.pages_frame import Page, framed

__all__ = ["PAGE", "router"]

PAGE = Page("Browse", "/browse")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)


@router.get("/browse")
async def show(request: Request) -> Response:
    """Show the page. Its scripts ask the API for the photos."""
    service = service_of(request)
    index = service.index(request.query_params.get("index"))
    return framed(request, "browse.html", await service.light(index.facts))
