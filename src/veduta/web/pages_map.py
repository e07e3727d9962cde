"""The page that shows on a map where photos were taken."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.web.access import needs
from veduta.web.pages_frame import Page, framed

__all__ = ["PAGE", "router"]

PAGE = Page("Map", "/map")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)


@router.get("/map")
async def show(request: Request) -> Response:
    """Show the page. Its scripts ask the API for the places."""
    return framed(request, "map.html")
