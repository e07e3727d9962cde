"""The application of a service: its routes, its pages, and the checks around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from veduta._version import __version__
from veduta.pages.app_page import API
from veduta.web import (
    pages_browse,
    pages_evidence,
    pages_frame,
    pages_index,
    pages_map,
    pages_recognize,
    pages_search,
    routes_groups,
    routes_jobs,
    routes_photos,
    routes_search,
    routes_service,
)
from veduta.web.api_types import (
    ExplainRequest,
    IndexRequest,
    LabelChanges,
    MatchRequest,
    NewLabel,
    RecognizeRequest,
    SearchRequest,
    SentKey,
)
from veduta.web.asgi import Application
from veduta.web.fastapi_telemetry import NO_TELEMETRY
from veduta.web.metrics import CountedRequests
from veduta.web.problems import ProblemBody, explain_errors
from veduta.web.request_checks import RequestChecks
from veduta.web.service import Service
from veduta.web.settings import ServeSettings
from veduta.web.slow_clients import ConnectionLimits

__all__ = ["API", "PAGES", "api_app"]

PAGES: tuple[ModuleType, ...] = (
    pages_search,
    pages_recognize,
    pages_evidence,
    pages_browse,
    pages_map,
    pages_index,
)
"""The modules of the pages, in the order of the navigation. One without a `PAGE` is not in it."""

_READ_BY_HAND = (
    SearchRequest,
    MatchRequest,
    RecognizeRequest,
    ExplainRequest,
    LabelChanges,
    NewLabel,
    IndexRequest,
    SentKey,
    ProblemBody,
)
"""Bodies that FastAPI does not know of, because `veduta.web.uploads` reads them."""


def api_app(service: Service) -> Application:
    """Return the application.

    Args:
        service: that answers.
    """
    settings = service.settings

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        service.close()

    app = FastAPI(
        title="Veduta",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    app.state.service = service
    for router in (
        routes_service.router,
        routes_search.router,
        routes_photos.router,
        routes_photos.facets,
        routes_groups.router,
        routes_jobs.router,
    ):
        app.include_router(router, prefix=API)
    for module in (pages_frame, *PAGES):
        app.include_router(module.router)
    shown = [module.PAGE for module in PAGES if hasattr(module, "PAGE")]
    if service.review is not None:
        from veduta.web import pages_review

        app.include_router(pages_review.review_router(service.review))
        shown.append(pages_review.PAGE)
    app.state.pages = tuple(shown)
    explain_errors(app, pages_frame.problem_response)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    counted = CountedRequests(app, service.metrics)
    return ConnectionLimits(RequestChecks(counted, settings), settings)


def _openapi(app: FastAPI, settings: ServeSettings) -> dict[str, Any]:
    """Return the OpenAPI document: that of FastAPI, with our bodies, problems and keys."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary="Find which photos of a collection show the same place or object.",
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        for kind in _READ_BY_HAND:
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[kind.__name__] = schema
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # That of FastAPI has another form.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        if settings.key_file is not None:
            document["components"]["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"}
            }
            document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
