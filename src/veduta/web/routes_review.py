"""The routes of a review: its photos, and the steps that its page sends.

A request names photos, classes and files by a number or by a known name. No text of a request
becomes a path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from veduta.curate.review_decisions import Decision, Verdict
from veduta.curate.review_files import count_decisions
from veduta.curate.review_journal import Change
from veduta.curate.review_set import ReviewClass, ReviewPhoto
from veduta.errors import PhotoError, readable
from veduta.processor_cores import processor_cores
from veduta.text import printable
from veduta.web.open_review import OpenReview
from veduta.web.problems import Problem

__all__ = ["PHOTO_SIDES", "review_routes"]

PHOTO_SIDES = {"small": 320, "large": 1600}
"""Pixels of the long side of the photos that the page shows."""

_MAX_DECODERS = 4  # Decoding one photo can take hundreds of megabytes.


class _PhotoDecision(BaseModel):
    """The page's decision on one photo. Without a verdict the photo is undecided again."""

    model_config = ConfigDict(strict=True, extra="forbid")

    photo: int
    verdict: Verdict | None
    label: str | None = None


class _Step(BaseModel):
    """Decisions that are saved, and undone, together."""

    model_config = ConfigDict(strict=True, extra="forbid")

    decisions: list[_PhotoDecision]


class _Undo(BaseModel):
    """The number of the step to undo, so that a request that is sent twice undoes one step."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: int


class _Finish(BaseModel):
    """Write the results; `stop` also ends the server."""

    model_config = ConfigDict(strict=True, extra="forbid")

    stop: bool


def review_routes(review: OpenReview, stop: Callable[[], None] | None = None) -> APIRouter:
    """Return the routes of a review.

    Args:
        review: that is shown.
        stop: ends the server; None: the page cannot end it.
    """
    router = APIRouter(include_in_schema=False)
    _add_photos(router, review)
    _add_steps(router, review)

    @router.post("/api/finish")
    def finish(request: _Finish) -> dict[str, Any]:
        if request.stop and stop is None:
            raise Problem(422, "This server does not end with the review.")
        with review.lock:
            try:
                outcome = review.write()
            except OSError as error:
                raise _not_written(error, review.files.decisions) from error
        if request.stop and stop is not None:
            stop()
        return outcome.as_json()

    return router


def _add_photos(router: APIRouter, review: OpenReview) -> None:
    decoders = BoundedSemaphore(min(_MAX_DECODERS, processor_cores()))

    @router.get("/photo/{size}/{number}")
    def read_photo(size: Literal["small", "large"], number: int) -> Response:
        from veduta.photos import load, thumbnail

        photo = _photo(review, number)
        side = PHOTO_SIDES[size]
        try:
            with decoders:
                jpeg = thumbnail(
                    load(review.review_set.root / photo.path, at_least=side).pixels, side
                )
        except PhotoError as error:
            raise Problem(422, printable(error.reason)) from error
        # The address is valid for this run only, and photos seldom change during a run.
        cache = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(jpeg, media_type="image/jpeg", headers=cache)


def _add_steps(router: APIRouter, review: OpenReview) -> None:
    review_set, journal = review.review_set, review.journal

    # Both return a ready JSONResponse: the conversion of FastAPI takes ten times as long over
    # 5,000 photos.
    @router.get("/api/classes")
    def read_classes() -> JSONResponse:
        with review.lock:
            answer = {
                "classes": [_class_json(review, group) for group in review_set.classes],
                "labels": review_set.labels,
                "problems": [printable(problem) for problem in review_set.problems],
                "steps": journal.steps,
                **_last_decided(review),
            }
        return JSONResponse(answer)

    @router.get("/api/classes/{number}")
    def read_class(number: int) -> JSONResponse:
        if not 0 <= number < len(review_set.classes):
            raise Problem(404, "There is no such class.")
        with review.lock:
            photos = [_photo_json(review, photo) for photo in review_set.classes[number].photos]
            answer = {"steps": journal.steps, "photos": photos}
        return JSONResponse(answer)

    @router.post("/api/step")
    def save_step(request: _Step) -> dict[str, Any]:
        with review.lock:
            changes = [_change(review, decision) for decision in request.decisions]
            try:
                journal.set(changes)
            except OSError as error:
                raise _not_written(error, journal.file) from error
            return {"steps": journal.steps}

    @router.post("/api/undo")
    def undo_step(request: _Undo) -> dict[str, Any]:
        with review.lock:
            if request.step != journal.steps:
                return {"steps": journal.steps, "changed": []}
            try:
                changes = journal.undo()
            except OSError as error:
                raise _not_written(error, journal.file) from error
            changed = [
                {"photo": numbers[0], "class": numbers[1], "decision": _decision_json(decision)}
                for key, decision in changes
                if (numbers := review.numbers.get(key)) is not None
            ]
            return {"steps": journal.steps, "changed": changed}


def _photo(review: OpenReview, number: int) -> ReviewPhoto:
    if not 0 <= number < len(review.review_set.photos):
        raise Problem(404, "There is no such photo.")
    return review.review_set.photos[number]


def _change(review: OpenReview, requested: _PhotoDecision) -> Change:
    photo = _photo(review, requested.photo)
    try:
        decision = (
            None if requested.verdict is None else Decision(requested.verdict, requested.label)
        )
    except ValueError as error:
        raise Problem(422, printable(str(error))) from error
    return (photo.path, photo.label), decision


def _last_decided(review: OpenReview) -> dict[str, int | None]:
    """Return the photo that was decided last, and its class."""
    last = review.journal.last
    photo, group = (None, None) if last is None else review.numbers.get(last, (None, None))
    return {"class": group, "photo": photo}


def _class_json(review: OpenReview, group: ReviewClass) -> dict[str, Any]:
    decisions = review.journal.decisions
    counts = count_decisions(review.review_set, decisions, group.photos)
    photos = (review.review_set.photos[number] for number in group.photos)
    return {
        "label": group.label,
        "shown": printable(group.label or "no label"),
        "photos": len(group.photos),
        "suspected": sum(
            bool(photo.suspicions) and (photo.path, photo.label) not in decisions
            for photo in photos
        ),
        "keep": counts["keep"],
        "drop": counts["drop"],
        "relabel": counts["relabel"],
    }


def _photo_json(review: OpenReview, number: int) -> dict[str, Any]:
    photo = review.review_set.photos[number]
    return {
        "number": number,
        "name": printable(photo.path),
        "suspicions": [
            {
                "kind": printable(suspicion.kind),
                "score": suspicion.score,
                "reason": printable(suspicion.reason),
                "other": review.photo_of_path.get(suspicion.other or ""),
                "otherName": printable(suspicion.other or ""),
            }
            for suspicion in photo.suspicions
        ],
        "suggestion": _decision_json(photo.suggestion),
        "decision": _decision_json(review.journal.decisions.get((photo.path, photo.label))),
    }


def _decision_json(decision: Decision | None) -> dict[str, str | None] | None:
    return None if decision is None else {"verdict": decision.verdict, "label": decision.label}


def _not_written(error: OSError, file: Path) -> Problem:
    reason = error.strerror or str(error)
    return Problem(507, printable(f"{readable(error.filename or file)}: {reason}"))
