"""The pages that show the collection: its photos by label, folder and month, and its groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.explore.groups_report import dates_text, size_text
from veduta.web.access import needs, service_of
from veduta.web.cursors import read_search_cursor, search_cursor
from veduta.web.formed_groups import formed_groups
from veduta.web.pages_frame import Page, framed, shown_index

if TYPE_CHECKING:
    from veduta.explore.photo_groups import PhotoGroup

__all__ = ["PAGE", "router"]

PAGE = Page("Browse", "/browse")

router = APIRouter(prefix="/browse", dependencies=[needs("search")], include_in_schema=False)

_GROUPS_AT_ONCE = 60


@dataclass(frozen=True, slots=True)
class _GroupCard:
    """A group: the number and the name of its best photo, its label, its size and dates."""

    id: int
    name: str
    label: str | None
    size: str
    dates: str

    @classmethod
    def of(cls, group: PhotoGroup) -> _GroupCard:
        best = group.best
        return cls(best.id, best.path, group.label, size_text(group), dates_text(group))


@dataclass(frozen=True, slots=True)
class _GroupsPart:
    """Some groups: whether they are the first ones, those of all, and where the next begin."""

    groups: Sequence[_GroupCard]
    is_first: bool
    total: int
    grouped: int
    next: str | None


@router.get("")
async def show(request: Request) -> Response:
    """Show the page of the photos. Its scripts ask the API for them."""
    facts = await service_of(request).light(shown_index(request).facts)
    return framed(request, "browse.html", facts)


@router.get("/groups")
async def show_groups(request: Request) -> Response:
    """Show the page of the groups. It asks for them itself, because that may take long."""
    return framed(request, "groups.html")


@router.get("/groups/part")
async def show_part(request: Request) -> Response:
    """Show some groups, the largest first."""
    service = service_of(request)
    served = shown_index(request)
    version, groups = await formed_groups(request, service, served)
    start = read_search_cursor(request.query_params.get("cursor"), version)
    stop = start + _GROUPS_AT_ONCE
    part = _GroupsPart(
        groups=[_GroupCard.of(group) for group in groups[start:stop]],
        is_first=start == 0,
        total=len(groups),
        grouped=sum(len(group.photos) for group in groups),
        next=search_cursor(stop, len(groups), version),
    )
    return framed(request, "groups_part.html", part)
