"""The routes of the photos of an index: lists, files, labels."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from veduta.errors import readable
from veduta.web.access import needs, service_of
from veduta.web.api_types import (
    MAX_INT64,
    MAX_LIMIT,
    MAX_TEXT_LETTERS,
    ChangedLabels,
    Facets,
    LabelChanges,
    NewLabel,
    PhotoAnswer,
    PhotoId,
    PhotoIds,
    PhotoList,
    PlaceList,
    PreviewSide,
)
from veduta.web.cursors import read_photo_cursor
from veduta.web.formed_groups import formed_groups
from veduta.web.json_answers import photo_json
from veduta.web.photo_filters import PhotoFilters, Text, photo_filters
from veduta.web.problems import PROBLEM_RESPONSES, Problem
from veduta.web.served_index import ServedIndex
from veduta.web.service import Service
from veduta.web.uploads import json_schema, read_json

__all__ = ["facets", "router"]

router = APIRouter(prefix="/photos", responses=PROBLEM_RESPONSES, tags=["photos"])

facets = APIRouter(responses=PROBLEM_RESPONSES, tags=["photos"])

Number = Annotated[int, Path(ge=0, le=MAX_INT64, description="`id` of a photo.")]
IndexName = Annotated[str | None, Query(max_length=MAX_TEXT_LETTERS, description="An index.")]
Filters = Annotated[PhotoFilters, Depends(photo_filters)]
Order = Literal["path", "taken", "id"]

_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "JP2": "image/jp2",
    "JXL": "image/jxl",
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("", dependencies=[needs("search")], response_model=PhotoList)
async def list_photos(
    request: Request,
    filters: Filters,
    index: IndexName = None,
    order: Order = "path",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Text = None,
) -> Response:
    """List photos, page by page."""
    service = service_of(request)
    served = await _listed(request, index, filters)
    page = await service.light(served.page, filters, order, limit, read_photo_cursor(cursor))
    answer = {
        "photos": [photo_json(photo) for photo in page.photos],
        "total": page.total,
        "next": page.next.text() if page.next else None,
        "index": await _version(service, served),
    }
    return JSONResponse(answer)


@router.get("/ids", dependencies=[needs("search")], response_model=PhotoIds)
async def list_ids(
    request: Request, filters: Filters, index: IndexName = None, order: Order = "path"
) -> Response:
    """List the numbers of all photos that meet the conditions, in one answer."""
    served = await _listed(request, index, filters)

    def answer() -> bytes:
        version, ids = served.ids(filters, order)
        return msgspec.json.encode({"ids": ids, "index": {"name": served.name, "version": version}})

    return Response(await service_of(request).light(answer), media_type="application/json")


@router.delete("", dependencies=[needs("edit")], status_code=204)
async def remove_photos(
    request: Request,
    id: Annotated[list[PhotoId], Query(min_length=1, max_length=MAX_LIMIT)],  # noqa: A002
    index: IndexName = None,
) -> Response:
    """Take several photos out of the index, as for one. If one is missing, none goes."""
    return await _remove(service_of(request), index, id)


@router.patch(
    "",
    dependencies=[needs("edit")],
    response_model=ChangedLabels,
    openapi_extra=json_schema(LabelChanges),
)
async def label_photos(request: Request, index: IndexName = None) -> Response:
    """Give several photos other labels. Later indexing runs keep them."""
    changes = await read_json(request, LabelChanges)
    labels = {change.id: change.label for change in changes.changes}
    if len(labels) < len(changes.changes):
        raise Problem(422, "A photo is named twice.")
    return await _edit(service_of(request), index, labels)


@facets.get("/places", dependencies=[needs("search")], response_model=PlaceList)
async def list_places(request: Request, filters: Filters, index: IndexName = None) -> Response:
    """List where the photos were taken that meet the conditions, in one answer."""
    served = await _listed(request, index, filters)

    def answer() -> bytes:
        places = served.places(filters)
        return msgspec.json.encode(
            {
                "points": places.points,
                "without": places.without,
                "stored": places.stored,
                "index": {"name": served.name, "version": places.version},
            }
        )

    return Response(await service_of(request).light(answer), media_type="application/json")


@facets.get("/facets", dependencies=[needs("search")], response_model=Facets)
async def list_facets(request: Request, index: IndexName = None) -> Response:
    """List the labels, folders and months of the photos, with their numbers."""
    service = service_of(request)
    served = service.index(index)
    facets = await service.light(served.facets)
    return JSONResponse({**facets, "index": await _version(service, served)})


@router.get("/{photo_id}", dependencies=[needs("search")], response_model=PhotoAnswer)
async def read_photo(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Describe one photo."""
    service = service_of(request)
    photo = await service.light(service.index(index).photo, photo_id)
    return JSONResponse(photo_json(photo))


@router.patch(
    "/{photo_id}",
    dependencies=[needs("edit")],
    response_model=ChangedLabels,
    openapi_extra=json_schema(NewLabel),
)
async def label_photo(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Give a photo another label. Later indexing runs keep it."""
    sent = await read_json(request, NewLabel)
    return await _edit(service_of(request), index, {photo_id: sent.label})


@router.delete("/{photo_id}", dependencies=[needs("edit")], status_code=204)
async def remove_photo(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Take a photo out of the index. Its file stays. Later indexing runs leave it out."""
    return await _remove(service_of(request), index, [photo_id])


@router.get(
    "/{photo_id}/thumbnail",
    dependencies=[needs("search")],
    response_class=Response,
    responses=_JPEG,
)
async def read_thumbnail(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Return the stored small picture of a photo."""
    service = service_of(request)
    data = await service.light(service.index(index).thumbnail, photo_id)
    return _cached(request, data, "image/jpeg")


@router.get(
    "/{photo_id}/preview", dependencies=[needs("search")], response_class=Response, responses=_JPEG
)
async def read_preview(
    request: Request,
    photo_id: Number,
    index: IndexName = None,
    side: PreviewSide = PreviewSide.MEDIUM,
) -> Response:
    """Return a photo as an upright JPEG without metadata, which every browser shows."""
    service = service_of(request)
    with service.admission.place():
        file = await service.light(service.index(index).original, photo_id)
        data = await service.for_client(request, service.decoders.jpeg(file.data, file.path, side))
    return _cached(request, data, "image/jpeg")


@router.get(
    "/{photo_id}/original",
    dependencies=[needs("search")],
    response_class=Response,
    responses={200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def read_original(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Return the file of a photo as it is, with its metadata, where the server allows it."""
    service = service_of(request)
    if not service.settings.originals:
        raise Problem(
            403,
            "This server does not send original files: start it with --originals.",
            kind="NoOriginals",
        )
    file = await service.light(service.index(index).original, photo_id)
    kind = _MEDIA_TYPES.get(file.format, "application/octet-stream")
    answer = _cached(request, file.data, kind)
    name = quote(readable(file.path).rpartition("/")[2], safe="")
    answer.headers["Content-Disposition"] = f"inline; filename*=UTF-8''{name}"
    return answer


async def _listed(request: Request, name: str | None, filters: PhotoFilters) -> ServedIndex:
    """Return an index whose photos are listed, with its groups formed if a condition needs them."""
    service = service_of(request)
    served = service.index(name)
    if filters.group is not None:
        await formed_groups(request, service, served)
    return served


async def _remove(service: Service, index: str | None, ids: list[int]) -> Response:
    with service.admission.place():
        await service.heavy(service.index(index).remove, ids)
    return Response(status_code=204)


async def _edit(service: Service, index: str | None, labels: dict[int, str | None]) -> Response:
    served = service.index(index)
    with service.admission.place():
        changes = await service.heavy(served.edit_labels, labels)
    answer = {
        "changes": [
            {"id": one.id, "label": one.label, "previous": one.previous} for one in changes
        ],
        "index": await _version(service, served),
    }
    return JSONResponse(answer)


async def _version(service: Service, index: ServedIndex) -> dict[str, str]:
    return {"name": index.name, "version": await service.light(lambda: index.version)}


def _cached(request: Request, data: bytes, media_type: str) -> Response:
    """Return bytes that a browser keeps, and asks about again when it shows them again."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)
