"""The page that compares two photos: their matches, what both show, the map of the similarity."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.web.access import needs
from veduta.web.pages_frame import Page, framed

__all__ = ["PAGE", "router"]

PAGE = Page("Compare", "/evidence")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)


@router.get("/evidence")
async def show(request: Request) -> Response:
    """Show the page. Its script reads from the address which photos are compared."""
    return framed(request, "evidence.html")
