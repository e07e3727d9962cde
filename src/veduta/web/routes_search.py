"""The routes that compare photos: search, match, recognise and explain."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from veduta.search import Box, Hits
from veduta.search.pair import PICTURE_SIDE
from veduta.search.query import QueryPhoto
from veduta.search.timings import timings
from veduta.search.watching import watched
from veduta.web.access import needs, service_of
from veduta.web.api_types import (
    ExplainRequest,
    ExplanationAnswer,
    MatchAnswer,
    MatchRequest,
    RecognizeAnswer,
    RecognizeRequest,
    SearchAnswer,
    SearchRequest,
)
from veduta.web.cursors import read_search_cursor, search_cursor
from veduta.web.event_stream import EVENT_STREAM, EventStream, event_text, wants_events
from veduta.web.json_answers import explanation_json, hit_json
from veduta.web.photo_filters import read_options
from veduta.web.problems import PROBLEM_RESPONSES, Problem
from veduta.web.search_events import SearchEvents, TextOf, search_events
from veduta.web.served_index import ServedIndex
from veduta.web.service import Service
from veduta.web.uploads import Posted, form_schema, read_posted

__all__ = ["answered", "recognized", "router", "search_stream"]

router = APIRouter(dependencies=[needs("search")], responses=PROBLEM_RESPONSES, tags=["compare"])

_SEARCH = (
    "Find the photos that show what the query shows, best first. With `Accept: text/event-stream` "
    "the answer arrives in parts: an event `nearest` with the answer without re-ranking, events "
    "`verified` with numbers of photos, and at last `answer`, or `problem` if the search failed "
    "meanwhile."
)

_MAX_HITS = 10_000
"""The hits of one search, on all its pages."""

T = TypeVar("T")
Fields = TypeVar("Fields", SearchRequest, MatchRequest, RecognizeRequest, ExplainRequest)


async def answered(
    request: Request,
    model: type[Fields],
    answer: Callable[[Service, ServedIndex, Posted[Fields]], Coroutine[Any, Any, Response]],
) -> Response:
    """Read a request while it has a place, and answer it unless its client leaves.

    Args:
        request: with the fields of the model, and maybe photos.
        model: of the fields.
        answer: returns the answer to what was posted.
    """
    service = service_of(request)
    with service.admission.place():
        posted = await read_posted(request, model, service.settings.max_upload_bytes)
        index = service.index(posted.fields.index)
        return await service.for_client(request, answer(service, index, posted))


@router.post(
    "/search",
    response_model=SearchAnswer,
    description=_SEARCH,
    openapi_extra=form_schema(SearchRequest),
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def search(request: Request) -> Response:
    """Find the photos that show what the query shows, best first."""
    if not wants_events(request):
        return await answered(request, SearchRequest, _search)
    return await search_stream(request, event_text)


async def search_stream(request: Request, text_of: TextOf) -> Response:
    """Return the answer to a search in parts.

    Args:
        request: of a search.
        text_of: returns an event, with its name and data, as text.

    Raises:
        Problem: the search is not possible.
        VedutaError: likewise.
    """
    service = service_of(request)
    with ExitStack() as held:
        held.enter_context(service.admission.place())
        posted = await read_posted(request, SearchRequest, service.settings.max_upload_bytes)
        index = service.index(posted.fields.index)
        events = search_events(partial(_search_answer, service, index, posted), text_of)
        # Before the first event, a request that is not possible gets its own status.
        first = await service.for_client(request, _next(events))
        return EventStream(events, first, held.pop_all().close)


async def _next(events: AsyncGenerator[str]) -> str:
    return await anext(events)


async def _search(
    service: Service, index: ServedIndex, posted: Posted[SearchRequest]
) -> JSONResponse:
    return JSONResponse(await _search_answer(service, index, posted))


async def _search_answer(
    service: Service,
    index: ServedIndex,
    posted: Posted[SearchRequest],
    events: SearchEvents | None = None,
) -> dict[str, Any]:
    fields = posted.fields
    version, notice = await service.light(index.state)
    offset = read_search_cursor(fields.cursor, version)
    stop = min(offset + fields.limit, _MAX_HITS)
    # One more than is shown, to know whether there is a next page; and the query itself.
    options = read_options(
        fields.filters.model_dump(exclude_none=True),
        k=stop + (1 if fields.photo_id is None else 2),
        rerank=fields.rerank,
        verify=fields.verify,
        min_score=fields.min_score,
        fold_copies=fields.fold_copies,
        mark_copies=fields.mark_copies,
        not_ids=tuple(fields.not_ids),
        orientation=fields.orientation,
    )
    started = time.perf_counter()

    def answer(hits: Hits, seconds: dict[str, float]) -> dict[str, Any]:
        if fields.photo_id is not None:
            hits = Hits([hit for hit in hits if hit.id != fields.photo_id], hits.orientation)
        cursor = search_cursor(stop, min(len(hits), _MAX_HITS), version)
        return {
            "results": [hit_json(hit) for hit in hits[offset:stop]],
            "next": cursor,
            "orientation": hits.orientation.name,
            "timings": _rounded(seconds | {"total": time.perf_counter() - started}),
            "index": {"name": index.name, "version": version},
            "notice": notice,
        }

    if events is not None:
        # The next page belongs to the whole answer.
        events.answer_of = lambda hits: answer(hits, {}) | {"next": None}
    by_id = not posted.photos and fields.box is None
    queries: list[QueryPhoto] = []
    if not by_id:
        queries = await _queries(service, index, posted, fields.photo_id, fields.box)
    decoded = time.perf_counter() - started

    def work() -> Hits:
        with nullcontext() if events is None else watched(events):
            if by_id:
                return index.search_like(_required_id(fields.photo_id), options)
            return index.search(queries, options, fields.box)

    hits, seconds = await service.heavy(_timed, work)
    seconds["decode"] = seconds.get("decode", 0.0) + decoded
    return answer(hits, seconds)


@router.post("/match", response_model=MatchAnswer, openapi_extra=form_schema(MatchRequest))
async def match(request: Request) -> Response:
    """Say whether two photos show the same place, and why."""
    return await answered(request, MatchRequest, _match)


async def _match(
    service: Service, index: ServedIndex, posted: Posted[MatchRequest]
) -> JSONResponse:
    fields = posted.fields
    ids = [one for one in (fields.photo_id, fields.other_id) if one is not None]
    if len(posted.photos) + len(ids) != 2:
        raise Problem(
            422, "Name two photos: two in the form, or one and other_id, or photo_id and other_id."
        )
    side = max(PICTURE_SIDE, await service.heavy(index.long_side))
    first, second = photos = await _pair(service, index, posted, ids, at_least=side)
    found, seconds = await service.heavy(
        _timed,
        lambda: index.match(first, second, crop=fields.box, orientation=fields.orientation),
    )
    version = await service.light(lambda: index.version)
    answer = {
        **found.as_json(),
        "lines": found.lines[: fields.max_lines],
        "sizes": [[photo.width, photo.height] for photo in photos],
        "geometry": found.geometry,
        "timings": _rounded(seconds),
        "index": {"name": index.name, "version": version},
    }
    return JSONResponse(answer)


@router.post(
    "/recognize", response_model=RecognizeAnswer, openapi_extra=form_schema(RecognizeRequest)
)
async def recognize(request: Request) -> Response:
    """Name what a photo shows, or say that it is unknown. The first call learns first."""
    return await answered(request, RecognizeRequest, _recognize)


async def _recognize(
    service: Service, index: ServedIndex, posted: Posted[RecognizeRequest]
) -> JSONResponse:
    return JSONResponse(await recognized(service, index, posted))


async def recognized(
    service: Service, index: ServedIndex, posted: Posted[RecognizeRequest]
) -> dict[str, Any]:
    """Return a recognition as `RecognizeAnswer` describes it.

    Args:
        service: that answers.
        index: whose photos are known.
        posted: the query.
    """
    fields = posted.fields
    queries = await _queries(service, index, posted, fields.photo_id, fields.box)
    answer, seconds = await service.heavy(
        _timed,
        lambda: index.recognize(
            queries, crop=fields.box, precision=fields.precision, orientation=fields.orientation
        ),
    )
    version = await service.light(lambda: index.version)
    return {
        **answer.as_json(),
        "hits": [hit_json(hit) for hit in answer.hits],
        "timings": _rounded(seconds),
        "index": {"name": index.name, "version": version},
    }


@router.post(
    "/explain",
    response_model=ExplanationAnswer,
    openapi_extra=form_schema(ExplainRequest),
    responses={200: {"content": {"image/png": {}}}},
)
async def explain(request: Request) -> Response:
    """Say which regions make up a similarity. `Accept: image/png` asks for a picture."""
    as_picture = request.headers.get("accept", "").startswith("image/png")
    return await answered(request, ExplainRequest, partial(_explain, as_picture=as_picture))


async def _explain(
    service: Service, index: ServedIndex, posted: Posted[ExplainRequest], *, as_picture: bool
) -> Response:
    fields = posted.fields
    if len(posted.photos) + (fields.photo_id is not None) + (fields.hit_id is not None) != 2:
        raise Problem(
            422, "Name two photos: two in the form, or one and hit_id, or photo_id and hit_id."
        )
    if len(posted.photos) == 2:
        side = await service.heavy(index.long_side)
        queries = await _pair(service, index, posted, [], at_least=side)
    else:
        queries = await _queries(service, index, posted, fields.photo_id, fields.box)

    def work() -> Any:
        if fields.hit_id is None:
            explanation = index.explain_photos(*queries)
        else:
            explanation = index.explain(
                queries[0], fields.hit_id, orientation=fields.orientation, box=fields.box
            )
        if not as_picture:
            return explanation_json(explanation)
        from veduta.explanation.map_pictures import pair_picture

        stream = io.BytesIO()
        pair_picture(explanation, fields.side).save(stream, "PNG")
        return stream.getvalue()

    result, seconds = await service.heavy(_timed, work)
    if as_picture:
        return Response(result, media_type="image/png")
    version = await service.light(lambda: index.version)
    return JSONResponse(
        {
            **result,
            "timings": _rounded(seconds),
            "index": {"name": index.name, "version": version},
        }
    )


async def _pair(
    service: Service,
    index: ServedIndex,
    posted: Posted[Any],
    ids: Sequence[int],
    *,
    at_least: int,
) -> list[QueryPhoto]:
    """Return the pixels of two photos, those of the form first. A box is of the first photo."""
    found: list[QueryPhoto] = []
    for sent in posted.photos:
        box = None if found else posted.fields.box
        decoded = service.decoders.decode(sent.data, sent.name, at_least=at_least, box=box)
        found.append(await decoded)
    for photo_id in ids:
        box = None if found else posted.fields.box
        found.append(await _indexed(service, index, photo_id, at_least=at_least, box=box))
    return found


async def _queries(
    service: Service,
    index: ServedIndex,
    posted: Posted[Any],
    photo_id: int | None,
    box: Box | None,
) -> list[QueryPhoto]:
    """Return the pixels of the query: of the photos in the form, or of a photo of the index."""
    if posted.photos and photo_id is not None:
        raise Problem(422, "Name one query: photos in the form, or photo_id.")
    side = await service.heavy(index.long_side)
    if not posted.photos:
        return [await _indexed(service, index, _required_id(photo_id), at_least=side, box=box)]
    decoded: list[Awaitable[QueryPhoto]] = [
        service.decoders.decode(sent.data, sent.name, at_least=side, box=box)
        for sent in posted.photos
    ]
    return list(await asyncio.gather(*decoded))


async def _indexed(
    service: Service, index: ServedIndex, photo_id: int, *, at_least: int, box: Box | None
) -> QueryPhoto:
    file = await service.light(index.original, photo_id)
    return await service.decoders.decode(file.data, file.path, at_least=at_least, box=box)


def _required_id(photo_id: int | None) -> int:
    if photo_id is None:
        raise Problem(422, "There is no query: send a photo in a form, or name a photo_id.")
    return photo_id


def _timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Return a result, and the seconds of each step."""
    started = time.perf_counter()
    with timings() as seconds:
        result = work()
    return result, {**seconds, "total": time.perf_counter() - started}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {step: round(value, 6) for step, value in seconds.items()}
