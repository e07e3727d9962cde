"""The page that recognises: the name of what a photo shows, or that it is unknown."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from veduta.pages.recognized_photo import RecognizedPhoto
from veduta.web.access import needs, service_of
from veduta.web.api_types import RecognizeRequest
from veduta.web.pages_frame import Page, framed, shown_index
from veduta.web.routes_search import answered, recognized
from veduta.web.served_index import ServedIndex
from veduta.web.service import Service
from veduta.web.uploads import Posted

__all__ = ["PAGE", "router"]

PAGE = Page("Recognise", "/recognize")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)


@router.get("/recognize")
async def show(request: Request) -> Response:
    """Show the page."""
    facts = await service_of(request).light(shown_index(request).facts)
    return framed(request, "recognize.html", facts)


@router.get("/recognize/learned")
async def show_learned(request: Request) -> JSONResponse:
    """Say how many photos of how many are learned; null if nothing is learned now."""
    done, total = shown_index(request).learned or (None, None)
    return JSONResponse({"photos": done, "of": total})


@router.post("/recognize/answer")
async def show_answer(request: Request) -> Response:
    """Answer a request of the API for a recognition with a part of the page."""

    async def answer(
        service: Service, index: ServedIndex, posted: Posted[RecognizeRequest]
    ) -> Response:
        found = RecognizedPhoto.of(await recognized(service, index, posted))
        return framed(request, "recognized.html", found)

    return await answered(request, RecognizeRequest, answer)
