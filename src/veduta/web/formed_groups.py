"""The groups of an index, formed once for all requests that ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request

from veduta.web.served_index import ServedIndex
from veduta.web.service import Service

if TYPE_CHECKING:
    from veduta.explore.photo_groups import PhotoGroup

__all__ = ["formed_groups"]


async def formed_groups(
    request: Request, service: Service, served: ServedIndex
) -> tuple[str, list[PhotoGroup]]:
    """Return the version of an index and its groups. Searches and lists go on meanwhile.

    Args:
        request: whose client waits.
        service: that does the work.
        served: the index.

    Raises:
        VedutaError: as `veduta.api.Index.groups`.
        Problem: as `ServedIndex.groups`, or the client left.
    """
    with service.admission.place():
        version = await service.light(lambda: served.version)
        work = service.shared(("groups", served.name, version), served.groups)
        return await service.for_client(request, work)
