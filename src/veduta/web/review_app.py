"""The web application of a review alone: the page, its files, and the routes of the review."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from veduta.pages.app_page import static_files
from veduta.pages.review_page import ReviewPage, review_page
from veduta.web.fastapi_telemetry import NO_TELEMETRY
from veduta.web.open_review import OpenReview
from veduta.web.problems import Problem, explain_errors
from veduta.web.review_access import AccessControl, ReviewAccess
from veduta.web.routes_review import review_routes

__all__ = ["review_app"]


def review_app(review: OpenReview, access: ReviewAccess, stop: Callable[[], None]) -> AccessControl:
    """Return the application.

    Args:
        review: that is shown.
        access: the secrets of the server.
        stop: ends the server.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=NO_TELEMETRY)
    page = review_page(ReviewPage(review.name, access.page_key))

    @app.get("/")
    def read_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{file}")
    def read_static_file(file: str) -> Response:
        found = static_files().get(file)
        if found is None:
            raise Problem(404, "There is no such file.")
        return Response(found.data, media_type=found.media_type)

    app.include_router(review_routes(review, stop))
    explain_errors(app, lambda _request, problem: problem.as_response())
    return AccessControl(app, access)
