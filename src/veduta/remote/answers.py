"""The answers of a service as the objects of a local index."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from veduta.index import IndexedPhoto, UpdateReport
from veduta.photos import PassedOver
from veduta.photos.orientation import orientation_named
from veduta.recognize import Recognition
from veduta.search import Evidence, Hit
from veduta.search.hit import Polygon

__all__ = ["hit_of", "photo_of", "recognition_of", "report_of"]

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
