"""The page of a review in the frame of a service. Its routes are those of `veduta review`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.pages.review_page import ReviewPage
from veduta.web.access import needs, service_of
from veduta.web.open_review import OpenReview
from veduta.web.pages_frame import Page, framed
from veduta.web.routes_review import review_routes

__all__ = ["PAGE", "review_router"]

PAGE = Page("Review", "/review")


def review_router(review: OpenReview) -> APIRouter:
    """Return the page, and the routes that it asks.

    Args:
        review: that is shown.
    """
    router = APIRouter(prefix=PAGE.path, dependencies=[needs("edit")], include_in_schema=False)

    @router.get("")
    def show(request: Request) -> Response:
        root = service_of(request).settings.root_path
        return framed(request, "review.html", ReviewPage(review.name, base=f"{root}{PAGE.path}/"))

    router.include_router(review_routes(review))
    return router
