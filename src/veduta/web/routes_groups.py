"""The routes of groups: photos of one place or object, without any label."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from veduta.explore.photo_groups import PhotoGroup
from veduta.web.access import needs, service_of
from veduta.web.api_types import MAX_LIMIT, GroupAnswer, GroupList
from veduta.web.cursors import read_search_cursor, search_cursor
from veduta.web.formed_groups import formed_groups
from veduta.web.json_answers import photo_json
from veduta.web.photo_filters import Text
from veduta.web.problems import PROBLEM_RESPONSES
from veduta.web.routes_photos import IndexName, Number

__all__ = ["router"]

router = APIRouter(
    prefix="/groups", dependencies=[needs("search")], responses=PROBLEM_RESPONSES, tags=["groups"]
)


@router.get("", response_model=GroupList)
async def list_groups(
    request: Request,
    index: IndexName = None,
    min_size: Annotated[int, Query(ge=2, le=2**31)] = 2,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Text = None,
) -> Response:
    """List the groups, the largest first. The first request for a version may take long."""
    service = service_of(request)
    served = service.index(index)
    version, groups = await formed_groups(request, service, served)
    start = read_search_cursor(cursor, version)
    large = [group for group in groups if group.size >= min_size]
    stop = start + limit
    answer = {
        "groups": [_json(group) for group in large[start:stop]],
        "total": len(large),
        "next": search_cursor(stop, len(large), version),
        "index": {"name": served.name, "version": version},
    }
    return JSONResponse(answer)


@router.get("/{photo_id}", response_model=GroupAnswer)
async def read_group(request: Request, photo_id: Number, index: IndexName = None) -> Response:
    """Describe the group that a photo is in."""
    service = service_of(request)
    served = service.index(index)
    await service.light(served.photo, photo_id)
    await formed_groups(request, service, served)
    _, group = await service.light(served.group_of, photo_id)
    return JSONResponse(_json(group))


def _json(group: PhotoGroup) -> dict[str, Any]:
    """Return a group as `GroupAnswer` describes it."""
    first, last = group.first_taken, group.last_taken
    return {
        "id": group.best.id,
        "name": group.name,
        "label": group.label,
        "size": group.size,
        "best": photo_json(group.best),
        "photo_ids": [photo.id for photo in group.photos],
        "copy_ids": [photo.id for photo in group.copies],
        "first_taken": first.isoformat() if first else None,
        "last_taken": last.isoformat() if last else None,
    }
