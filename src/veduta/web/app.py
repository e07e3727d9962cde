"""The web application of a review: the page, its photos, and the steps that it sends.

A request names photos, classes and files of the page by number or by a known name; no text of a
request becomes a path. The page's own files are read when the server starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict

from veduta.curate.review_classes import Album, AlbumClass, AlbumPhoto
from veduta.curate.review_decisions import Decision, Verdict
from veduta.curate.review_files import ReviewFiles, ReviewOutcome, count_decisions
from veduta.curate.review_journal import Change, Journal
from veduta.errors import PhotoError, readable
from veduta.pages.html import PAGES, environment
from veduta.text import printable
from veduta.web.guard import Access, Guard

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

__all__ = ["SIDES", "review_app"]

SIDES = {"small": 320, "large": 1600}
"""The long side of the photos that the page shows, in pixels."""

# FastAPI would report each request, with its path, to whatever the environment has set up.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

_KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _Mark(BaseModel):
    """What the page decides about one photo: nothing, without a verdict."""

    model_config = ConfigDict(strict=True, extra="forbid")

    photo: int
    verdict: Verdict | None
    label: str | None = None


class _Step(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    marks: list[_Mark]


class _Undo(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    step: int
    """The step that the page means: it is not taken back twice."""


class _Finish(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    stop: bool


@dataclass(frozen=True, slots=True)
class _Review:
    """What the routes share. `lock` is held while decisions are read or changed."""

    album: Album
    journal: Journal
    lock: Lock
    places: Mapping[tuple[str, str | None], tuple[int, int]]
    """Of a photo and its label: its number and that of its class."""
    numbers: Mapping[str, int]
    """Of a path: the number of its photo."""


def review_app(
    album: Album,
    journal: Journal,
    files: ReviewFiles,
    access: Access,
    *,
    write: Callable[[], ReviewOutcome],
    stop: Callable[[], None],
) -> Guard:
    """Return the application.

    `write` writes the results, `stop` ends the server; the page calls them at the end.
    """
    places = {
        (album.photos[number].path, album.photos[number].label): (number, group)
        for group, members in enumerate(album.classes)
        for number in members.photos
    }
    numbers = {photo.path: number for number, photo in enumerate(album.photos)}
    state = _Review(album, journal, Lock(), places, numbers)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_NO_TELEMETRY)
    _serve_page(app, state, access)
    _serve_photos(app, state)
    _serve_steps(app, state)

    @app.post("/api/finish")
    def finish(wish: _Finish) -> dict[str, Any]:
        with state.lock:
            try:
                outcome = write()
            except OSError as error:
                raise _not_written(error, files.decisions) from error
        if wish.stop:
            stop()
        return outcome.as_json()

    @app.exception_handler(HTTPException)
    def refused(_request: Any, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    return Guard(app, access)


def _serve_page(app: FastAPI, state: _Review, access: Access) -> None:
    name = printable(readable(os.path.abspath(state.album.root)))
    template = environment().get_template("review.html")
    page = template.render(dataset=os.path.basename(name) or name, access=access)
    static = {
        file.name: (file.read_bytes(), _KINDS[file.suffix])
        for file in sorted((PAGES / "static").iterdir())
        if file.suffix in _KINDS
    }

    @app.get("/")
    def show() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{file}")
    def part(file: str) -> Response:
        if file not in static:
            raise HTTPException(404, "There is no such file.")
        body, kind = static[file]
        return Response(body, media_type=kind)


def _serve_photos(app: FastAPI, state: _Review) -> None:
    # Each decodes a photo, which can take hundreds of megabytes.
    at_a_time = BoundedSemaphore(min(4, os.cpu_count() or 1))

    @app.get("/photo/{size}/{number}")
    def picture(size: Literal["small", "large"], number: int) -> Response:
        from veduta.photos import load, thumbnail

        photo = _photo(state, number)
        side = SIDES[size]
        try:
            with at_a_time:
                jpeg = thumbnail(load(state.album.root / photo.path, at_least=side).pixels, side)
        except PhotoError as error:
            raise HTTPException(422, printable(error.reason)) from error
        # The address is of this run alone, and photos seldom change under the reader's eyes.
        keep = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(jpeg, media_type="image/jpeg", headers=keep)


def _serve_steps(app: FastAPI, state: _Review) -> None:
    album, journal = state.album, state.journal

    # Ready-made answers: FastAPI's own conversion takes ten times as long over 5,000 photos.
    @app.get("/api/classes")
    def classes() -> JSONResponse:
        with state.lock:
            answer = {
                "classes": [_class_json(state, group) for group in album.classes],
                "labels": album.labels,
                "problems": [printable(problem) for problem in album.problems],
                "steps": journal.steps,
                **_place(state),
            }
        return JSONResponse(answer)

    @app.get("/api/classes/{number}")
    def members(number: int) -> JSONResponse:
        if not 0 <= number < len(album.classes):
            raise HTTPException(404, "There is no such class.")
        with state.lock:
            photos = [_photo_json(state, photo) for photo in album.classes[number].photos]
            answer = {"steps": journal.steps, "photos": photos}
        return JSONResponse(answer)

    @app.post("/api/step")
    def step(wish: _Step) -> dict[str, Any]:
        with state.lock:
            changes = [_change(state, mark) for mark in wish.marks]
            try:
                journal.set(changes)
            except OSError as error:
                raise _not_written(error, journal.file) from error
            return {"steps": journal.steps}

    @app.post("/api/undo")
    def undo(wish: _Undo) -> dict[str, Any]:
        with state.lock:
            if wish.step != journal.steps:
                return {"steps": journal.steps, "changed": []}
            try:
                changes = journal.undo()
            except OSError as error:
                raise _not_written(error, journal.file) from error
            changed = [
                {"photo": place[0], "class": place[1], "decision": _decision_json(decision)}
                for key, decision in changes
                if (place := state.places.get(key)) is not None
            ]
            return {"steps": journal.steps, "changed": changed}


def _photo(state: _Review, number: int) -> AlbumPhoto:
    if not 0 <= number < len(state.album.photos):
        raise HTTPException(404, "There is no such photo.")
    return state.album.photos[number]


def _change(state: _Review, mark: _Mark) -> Change:
    photo = _photo(state, mark.photo)
    try:
        decision = None if mark.verdict is None else Decision(mark.verdict, mark.label)
    except ValueError as error:
        raise HTTPException(422, printable(str(error))) from error
    return (photo.path, photo.label), decision


def _place(state: _Review) -> dict[str, int | None]:
    """Return the photo that was decided last, and its class."""
    last = state.journal.last
    number, group = (None, None) if last is None else state.places.get(last, (None, None))
    return {"class": group, "photo": number}


def _class_json(state: _Review, group: AlbumClass) -> dict[str, Any]:
    decisions = state.journal.decisions
    counts = count_decisions(state.album, decisions, group.photos)
    photos = (state.album.photos[number] for number in group.photos)
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


def _photo_json(state: _Review, number: int) -> dict[str, Any]:
    photo = state.album.photos[number]
    return {
        "number": number,
        "name": printable(photo.path),
        "why": [
            {
                "kind": printable(one.kind),
                "score": one.score,
                "reason": printable(one.reason),
                "other": state.numbers.get(one.other or ""),
                "otherName": printable(one.other or ""),
            }
            for one in photo.suspicions
        ],
        "suggestion": _decision_json(photo.suggestion),
        "decision": _decision_json(state.journal.decisions.get((photo.path, photo.label))),
    }


def _decision_json(decision: Decision | None) -> dict[str, str | None] | None:
    return None if decision is None else {"verdict": decision.verdict, "label": decision.label}


def _not_written(error: OSError, file: Path) -> HTTPException:
    why = error.strerror or str(error)
    return HTTPException(507, printable(f"{readable(error.filename or file)}: {why}"))
