"""The routes of the service itself: health, version, indexes, sessions, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from veduta._version import __version__
from veduta.devices import device_named
from veduta.web.access import forget_key, keep_key, needs, scope_of, service_of
from veduta.web.api_types import (
    Health,
    IndexList,
    SentKey,
    ServiceFacts,
    SessionAnswer,
)
from veduta.web.metrics import metric_name
from veduta.web.problems import PROBLEM_RESPONSES, Problem
from veduta.web.uploads import json_schema, read_json

__all__ = ["router"]

router = APIRouter(responses=PROBLEM_RESPONSES, tags=["service"])


@router.get("/health", response_model=Health)
async def read_health() -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", response_model=Health)
async def read_ready(request: Request) -> Response:
    """Say whether all indexes are open; 503 until then, and when one of them is gone."""
    service = service_of(request)
    if not service.ready:
        raise Problem(503, "The indexes are being opened.", headers={"Retry-After": "1"})
    for index in service.indexes.values():
        await service.light(index.open)
    return JSONResponse({"status": "ready"})


@router.get("/version", response_model=ServiceFacts)
async def read_version(request: Request) -> Response:
    """Say which version this is, on which device it runs, and what the key of a request allows."""
    settings = service_of(request).settings
    return JSONResponse(
        {
            "version": __version__,
            "api": "v1",
            "scope": scope_of(request),
            "read_only": settings.read_only,
            "originals": settings.originals,
            "max_upload_bytes": settings.max_upload_bytes,
            "max_upload_pixels": settings.max_upload_pixels,
            "device": device_named().name,
        }
    )


@router.get("/indexes", dependencies=[needs("search")], response_model=IndexList)
async def list_indexes(request: Request) -> Response:
    """List the indexes of this server."""
    service = service_of(request)
    facts = [await service.light(index.facts) for index in service.indexes.values()]
    return JSONResponse({"indexes": facts})


@router.get("/indexes/{name}", dependencies=[needs("search")])
async def read_index(request: Request, name: str) -> dict[str, Any]:
    """Return everything that `veduta status` says of an index."""
    service = service_of(request)
    status: dict[str, Any] = await service.light(service.index(name).status)
    return {**status, "name": name}


@router.post("/session", response_model=SessionAnswer, openapi_extra=json_schema(SentKey))
async def open_session(request: Request) -> Response:
    """Keep a key in a cookie of this browser, which no script can read."""
    keys = service_of(request).keys
    sent = await read_json(request, SentKey)
    scope = "admin" if keys is None else keys.scope_of(sent.key)
    if scope is None:
        raise Problem(401, "This key is not valid.", kind="KeyNeeded")
    answer = JSONResponse({"scope": scope})
    keep_key(request, answer, sent.key if keys is not None else "")
    return answer


@router.delete("/session", status_code=204)
async def close_session(request: Request) -> Response:
    """Forget the key in the cookie."""
    answer = Response(status_code=204)
    forget_key(request, answer)
    return answer


@router.get("/metrics", response_class=PlainTextResponse)
async def read_metrics(request: Request) -> Response:
    """Return numbers for Prometheus, of the process that answers, if the server has --metrics."""
    service = service_of(request)
    if not service.settings.metrics:
        raise Problem(404, "Metrics are off: start the server with --metrics.", kind="NoMetrics")
    gauges: dict[str, float] = {
        "requests_at_work": service.admission.taken,
        "requests_refused": service.admission.refused,
    }
    for index in service.indexes.values():
        if index.encoder is not None:
            gauges[metric_name("encoder_batches", index.name)] = index.encoder.batches
            gauges[metric_name("encoded_photos", index.name)] = index.encoder.photos
    return PlainTextResponse(
        service.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
