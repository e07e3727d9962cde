"""The routes of indexing runs: start, watch, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from veduta.errors import IndexLocked
from veduta.index.table import is_locked
from veduta.pages.app_page import API
from veduta.web.access import needs, service_of
from veduta.web.api_types import MAX_TEXT_LETTERS, IndexRequest, JobAnswer
from veduta.web.event_stream import EVENT_STREAM, EventStream
from veduta.web.problems import PROBLEM_RESPONSES
from veduta.web.uploads import json_schema, read_json

__all__ = ["router"]

router = APIRouter(
    prefix="/jobs", dependencies=[needs("admin")], responses=PROBLEM_RESPONSES, tags=["jobs"]
)


@router.post(
    "/index",
    status_code=202,
    response_model=JobAnswer,
    openapi_extra=json_schema(IndexRequest),
    responses={202: {"headers": {"Location": {"schema": {"type": "string"}}}}},
)
async def start_indexing(request: Request) -> Response:
    """Start an indexing run. `Location` is its address."""
    service = service_of(request)
    wanted = await read_json(request, IndexRequest)
    index = service.index(wanted.index)
    index.require_own()
    if await service.light(is_locked, index.path):
        raise IndexLocked(
            f"{index.name}: another process is writing to this index. Wait until it ends. Searches "
            "go on meanwhile."
        )
    fields = wanted.model_dump(exclude={"index"})
    number = await service.light(service.jobs.start, index.name, fields)
    state = await service.light(service.jobs.state, number)
    location = f"{request.scope.get('root_path', '')}{API}/jobs/{number}"
    return JSONResponse(state, 202, headers={"Location": location})


@router.get("", response_model=list[JobAnswer])
async def list_jobs(
    request: Request, index: Annotated[str | None, Query(max_length=MAX_TEXT_LETTERS)] = None
) -> Response:
    """List the last indexing runs of an index, or of all, the newest first."""
    service = service_of(request)
    name = None if index is None else service.index(index).name
    return JSONResponse(await service.light(service.jobs.all, name))


@router.get("/{number}", response_model=JobAnswer)
async def read_job(request: Request, number: str) -> Response:
    """Say what an indexing run is doing; at its end, with its report."""
    service = service_of(request)
    return JSONResponse(await service.light(service.jobs.state, number))


@router.delete("/{number}", status_code=202, response_model=JobAnswer)
async def cancel_job(request: Request, number: str) -> Response:
    """Cancel an indexing run. What it has read stays in the index."""
    service = service_of(request)
    return JSONResponse(await service.light(service.jobs.cancel, number), 202)


@router.get(
    "/{number}/events",
    response_class=EventStream,
    status_code=200,
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def watch_job(
    request: Request,
    number: str,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    last_event_id: Annotated[int, Header(ge=0, le=2**53)] = 0,
) -> Response:
    """Watch an indexing run from the `position` of a state on: server-sent events until it ends."""
    service = service_of(request)
    await service.light(service.jobs.state, number)
    return EventStream(service.jobs.events(number, max(after, last_event_id)))
