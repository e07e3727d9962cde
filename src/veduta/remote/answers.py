"""The answers of a service as the objects of a local index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import IndexedPhoto, UpdateReport
from veduta.photos import PassedOver
from veduta.photos.orientation import orientation_named
from veduta.photos.resizing import resize
from veduta.recognize import Recognition
from veduta.search import Evidence, Hit
from veduta.search.hit import Polygon

if TYPE_CHECKING:
    from veduta.explanation import Explanation
    from veduta.explore.photo_groups import PhotoGroup

__all__ = ["explanation_of", "group_of", "hit_of", "photo_of", "recognition_of", "report_of"]

_NO_NAME = 2.0
"""The threshold of a recogniser that never gives a name: above every confidence."""


def photo_of(answer: dict[str, Any]) -> IndexedPhoto:
    """Return a photo of the index."""
    taken = answer["taken"]
    names = ("path", "label", "width", "height", "id")
    return IndexedPhoto(
        **{name: answer[name] for name in names},
        taken=None if taken is None else datetime.fromisoformat(taken),
    )


def hit_of(answer: dict[str, Any]) -> Hit:
    """Return a hit with its evidence."""
    photo = photo_of(answer)
    evidence = None
    if answer["verdict"] is not None:
        evidence = Evidence(
            probability=answer["probability"],
            inliers=answer["inliers"],
            matches=answer["matches"],
            model=answer["model"],
            spread=answer["spread"],
            region=_polygon(answer["region"]),
            query_region=_polygon(answer["query_region"]),
            found_in=tuple(answer["found_in"]) if answer["found_in"] else None,
        )
    return Hit(
        path=photo.path,
        score=answer["score"],
        similarity=answer["similarity"],
        label=photo.label,
        width=photo.width,
        height=photo.height,
        taken=photo.taken,
        id=photo.id,
        evidence=evidence,
        score_kind=answer["score_kind"],
        copies=None if answer["copies"] is None else tuple(answer["copies"]),
        copy_of=answer["copy_of"],
        orientation=orientation_named(answer["orientation"]),
    )


def explanation_of(
    answer: dict[str, Any], query: NDArray[np.uint8], hit: NDArray[np.uint8]
) -> Explanation:
    """Return the explanation of a similarity.

    Args:
        answer: of the service.
        query: (H, W, 3) uint8 RGB, the part of the query that is explained.
        hit: likewise, the hit.
    """
    against = _map_of(answer["against"], hit)
    return replace(_map_of(answer, query), against=against)


def _map_of(answer: dict[str, Any], pixels: NDArray[np.uint8]) -> Explanation:
    from veduta.explanation import Explanation

    width, height = answer["size"]
    return Explanation(
        photo=answer["photo"],
        pixels=resize(pixels, width, height),
        map=np.array(answer["map"], np.float32),
        box=tuple(answer["box"]),
        method=answer["method"],
        layer=answer["layer"],
        similarity=answer["similarity"],
        constant=answer["constant"],
        seconds=answer["seconds"],
        notes=tuple(answer["notes"]),
    )


def group_of(answer: dict[str, Any], photos: Mapping[int, IndexedPhoto]) -> PhotoGroup:
    """Return a group.

    Args:
        answer: of the service.
        photos: of the index, by their id.
    """
    from veduta.explore.photo_groups import PhotoGroup

    members = tuple(photos[number] for number in answer["photo_ids"])
    copies = tuple(photos[number] for number in answer["copy_ids"])
    return PhotoGroup(answer["name"], members, copies)


def recognition_of(answer: dict[str, Any]) -> Recognition:
    """Return what a photo shows."""
    threshold = answer["threshold"]
    return Recognition(
        label=answer["label"],
        guess=answer["guess"],
        confidence=answer["confidence"],
        threshold=_NO_NAME if threshold is None else threshold,
        reason=answer["reason"],
        runners_up=tuple((one["label"], one["confidence"]) for one in answer["runners_up"]),
        hits=tuple(map(hit_of, answer["hits"])),
        orientation=orientation_named(answer["orientation"]),
    )


def report_of(answer: dict[str, Any]) -> UpdateReport:
    """Return what an indexing run did. Of files that were passed over it has numbers alone."""
    known = {one.name for one in fields(UpdateReport)} - {"passed_over"}
    values = {name: value for name, value in answer.items() if name in known}
    for name in ("unreadable", "not_read"):
        values[name] = [(one["path"], one["reason"]) for one in answer[name]]
    passed_over = PassedOver()
    passed = answer["passed_over"]
    for extensions in (passed["unread_images"], passed["other_files"]):
        passed_over.extensions.update(extensions)
    passed_over.hidden, passed_over.excluded = passed["hidden_files"], passed["excluded_files"]
    return UpdateReport(**values, passed_over=passed_over)


def _polygon(corners: list[list[float]] | None) -> Polygon | None:
    return None if corners is None else tuple((x, y) for x, y in corners)
