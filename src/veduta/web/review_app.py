"""The web application of a review: the page, its photos, and the steps that it sends.

A request names photos, classes and files by a number or by a known name. No text of a request
becomes a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as AnyHTTPException

from veduta.curate.review_decisions import Decision, Verdict
from veduta.curate.review_files import ReviewFiles, ReviewOutcome, count_decisions
from veduta.curate.review_journal import Change, ReviewJournal
from veduta.curate.review_set import ReviewClass, ReviewPhoto, ReviewSet
from veduta.errors import PhotoError, readable
from veduta.pages.review_page import ReviewPage, review_page, static_files
from veduta.text import printable
from veduta.web.fastapi_telemetry import NO_TELEMETRY
from veduta.web.review_access import AccessControl, ReviewAccess

__all__ = ["PHOTO_SIDES", "review_app"]

PHOTO_SIDES = {"small": 320, "large": 1600}
"""Pixels of the long side of the photos that the page shows."""

_MAX_DECODERS = 4  # Decoding one photo can take hundreds of megabytes.

_MAX_REASON_LETTERS = 500


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


@dataclass(frozen=True, slots=True)
class _ReviewState:
    """What all routes share.

    Attributes:
        review_set: the photos.
        journal: the decisions.
        lock: held while decisions are read or changed.
        numbers: (path, label) → number of the photo and of its class.
        photo_of_path: path → number of the photo.
    """

    review_set: ReviewSet
    journal: ReviewJournal
    lock: Lock
    numbers: Mapping[tuple[str, str | None], tuple[int, int]]
    photo_of_path: Mapping[str, int]


def review_app(
    review_set: ReviewSet,
    journal: ReviewJournal,
    files: ReviewFiles,
    access: ReviewAccess,
    *,
    write: Callable[[], ReviewOutcome],
    stop: Callable[[], None],
) -> AccessControl:
    """Return the application.

    Args:
        review_set: the photos to review.
        journal: takes the decisions.
        files: the results are written to.
        access: the secrets of the server.
        write: writes the results.
        stop: ends the server.
    """
    state = _ReviewState(
        review_set,
        journal,
        Lock(),
        numbers={
            (review_set.photos[photo].path, review_set.photos[photo].label): (photo, group)
            for group, members in enumerate(review_set.classes)
            for photo in members.photos
        },
        photo_of_path={photo.path: number for number, photo in enumerate(review_set.photos)},
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=NO_TELEMETRY)
    _serve_page(app, state, access)
    _serve_photos(app, state)
    _serve_steps(app, state)

    @app.post("/api/finish")
    def finish(request: _Finish) -> dict[str, Any]:
        with state.lock:
            try:
                outcome = write()
            except OSError as error:
                raise _not_written(error, files.decisions) from error
        if request.stop:
            stop()
        return outcome.as_json()

    # FastAPI would repeat the request, which may hold what JSON cannot: NaN or a surrogate.
    @app.exception_handler(RequestValidationError)
    def refuse(_request: Any, error: RequestValidationError) -> JSONResponse:
        places = (".".join(map(str, one["loc"])) + ": " + one["msg"] for one in error.errors())
        return JSONResponse({"error": printable("; ".join(places)[:_MAX_REASON_LETTERS])}, 422)

    # Those that FastAPI and Starlette raise by themselves are of this class, too.
    @app.exception_handler(AnyHTTPException)
    def explain(_request: Any, error: AnyHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    return AccessControl(app, access)


def _serve_page(app: FastAPI, state: _ReviewState, access: ReviewAccess) -> None:
    root = printable(readable(os.path.abspath(state.review_set.root)))
    page = review_page(ReviewPage(os.path.basename(root) or root, access.page_key))
    static = static_files()

    @app.get("/")
    def read_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{file}")
    def read_static_file(file: str) -> Response:
        if file not in static:
            raise HTTPException(404, "There is no such file.")
        body, media_type = static[file]
        return Response(body, media_type=media_type)


def _serve_photos(app: FastAPI, state: _ReviewState) -> None:
    decoders = BoundedSemaphore(min(_MAX_DECODERS, os.cpu_count() or 1))

    @app.get("/photo/{size}/{number}")
    def read_photo(size: Literal["small", "large"], number: int) -> Response:
        from veduta.photos import load, thumbnail

        photo = _photo(state, number)
        side = PHOTO_SIDES[size]
        try:
            with decoders:
                jpeg = thumbnail(
                    load(state.review_set.root / photo.path, at_least=side).pixels, side
                )
        except PhotoError as error:
            raise HTTPException(422, printable(error.reason)) from error
        # The address is valid for this run only, and photos seldom change during a run.
        cache = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(jpeg, media_type="image/jpeg", headers=cache)


def _serve_steps(app: FastAPI, state: _ReviewState) -> None:
    review_set, journal = state.review_set, state.journal

    # Both return a ready JSONResponse: the conversion of FastAPI takes ten times as long over
    # 5,000 photos.
    @app.get("/api/classes")
    def read_classes() -> JSONResponse:
        with state.lock:
            answer = {
                "classes": [_class_json(state, group) for group in review_set.classes],
                "labels": review_set.labels,
                "problems": [printable(problem) for problem in review_set.problems],
                "steps": journal.steps,
                **_last_decided(state),
            }
        return JSONResponse(answer)

    @app.get("/api/classes/{number}")
    def read_class(number: int) -> JSONResponse:
        if not 0 <= number < len(review_set.classes):
            raise HTTPException(404, "There is no such class.")
        with state.lock:
            photos = [_photo_json(state, photo) for photo in review_set.classes[number].photos]
            answer = {"steps": journal.steps, "photos": photos}
        return JSONResponse(answer)

    @app.post("/api/step")
    def save_step(request: _Step) -> dict[str, Any]:
        with state.lock:
            changes = [_change(state, decision) for decision in request.decisions]
            try:
                journal.set(changes)
            except OSError as error:
                raise _not_written(error, journal.file) from error
            return {"steps": journal.steps}

    @app.post("/api/undo")
    def undo_step(request: _Undo) -> dict[str, Any]:
        with state.lock:
            if request.step != journal.steps:
                return {"steps": journal.steps, "changed": []}
            try:
                changes = journal.undo()
            except OSError as error:
                raise _not_written(error, journal.file) from error
            changed = [
                {"photo": numbers[0], "class": numbers[1], "decision": _decision_json(decision)}
                for key, decision in changes
                if (numbers := state.numbers.get(key)) is not None
            ]
            return {"steps": journal.steps, "changed": changed}


def _photo(state: _ReviewState, number: int) -> ReviewPhoto:
    if not 0 <= number < len(state.review_set.photos):
        raise HTTPException(404, "There is no such photo.")
    return state.review_set.photos[number]


def _change(state: _ReviewState, requested: _PhotoDecision) -> Change:
    photo = _photo(state, requested.photo)
    try:
        decision = (
            None if requested.verdict is None else Decision(requested.verdict, requested.label)
        )
    except ValueError as error:
        raise HTTPException(422, printable(str(error))) from error
    return (photo.path, photo.label), decision


def _last_decided(state: _ReviewState) -> dict[str, int | None]:
    """Return the photo that was decided last, and its class."""
    last = state.journal.last
    photo, group = (None, None) if last is None else state.numbers.get(last, (None, None))
    return {"class": group, "photo": photo}


def _class_json(state: _ReviewState, group: ReviewClass) -> dict[str, Any]:
    decisions = state.journal.decisions
    counts = count_decisions(state.review_set, decisions, group.photos)
    photos = (state.review_set.photos[number] for number in group.photos)
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


def _photo_json(state: _ReviewState, number: int) -> dict[str, Any]:
    photo = state.review_set.photos[number]
    return {
        "number": number,
        "name": printable(photo.path),
        "suspicions": [
            {
                "kind": printable(suspicion.kind),
                "score": suspicion.score,
                "reason": printable(suspicion.reason),
                "other": state.photo_of_path.get(suspicion.other or ""),
                "otherName": printable(suspicion.other or ""),
            }
            for suspicion in photo.suspicions
        ],
        "suggestion": _decision_json(photo.suggestion),
        "decision": _decision_json(state.journal.decisions.get((photo.path, photo.label))),
    }


def _decision_json(decision: Decision | None) -> dict[str, str | None] | None:
    return None if decision is None else {"verdict": decision.verdict, "label": decision.label}


def _not_written(error: OSError, file: Path) -> HTTPException:
    reason = error.strerror or str(error)
    return HTTPException(507, printable(f"{readable(error.filename or file)}: {reason}"))
