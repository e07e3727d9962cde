"""Errors of the service, as RFC 9457 describes them, in the words of the command line."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from veduta import errors
from veduta.errors import VedutaError
from veduta.text import printable

__all__ = [
    "PROBLEM_RESPONSES",
    "Problem",
    "ProblemBody",
    "client_left",
    "explain_errors",
    "fault",
    "problem_of",
]

_MAX_REASON_LETTERS = 2000

_NO_ADDRESS = "There is nothing at this address."

# The first class that fits counts, so the more special ones stand first.
_STATUS_OF_ERROR: tuple[tuple[type[VedutaError], int], ...] = (
    (errors.UnsupportedFormat, 415),
    (errors.PhotoTooLarge, 413),
    (errors.PhotoUnreadable, 410),
    (errors.PhotoError, 422),
    (errors.QueryError, 422),
    (errors.DatasetError, 422),
    (errors.IndexLocked, 409),
    (errors.EncoderMismatch, 409),
    (errors.StorageFull, 507),
    (errors.CannotWrite, 507),
    (errors.CollectionError, 503),
    (errors.EncoderError, 503),
)


class ProblemBody(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "The request is not possible.",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
        },
    },
    "5XX": {
        "description": "The service cannot answer now.",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
        },
    },
}
"""What every route may answer instead, for the OpenAPI document."""


class Problem(HTTPException):
    """A request that is not answered.

    Attributes:
        kind: a short name of the kind of problem, for programs.
    """

    def __init__(
        self, status: int, detail: str, *, kind: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, printable(detail[:_MAX_REASON_LETTERS]), headers)
        self.kind = kind or HTTPStatus(status).phrase.replace(" ", "").replace("-", "")

    @property
    def title(self) -> str:
        """The meaning of the status."""
        return HTTPStatus(self.status_code).phrase

    def as_json(self) -> dict[str, Any]:
        """Return it as `ProblemBody` describes it."""
        body = ProblemBody(
            type=f"urn:veduta:problem:{self.kind}",
            title=self.title,
            status=self.status_code,
            detail=self.detail,
        )
        return body.model_dump()

    def as_response(self) -> Response:
        """Return the answer for a program."""
        return JSONResponse(
            self.as_json(),
            self.status_code,
            headers=self.headers,
            media_type="application/problem+json",
        )


def problem_of(error: VedutaError) -> Problem:
    """Return an error of Veduta as a problem, with its own words."""
    status = next((code for kind, code in _STATUS_OF_ERROR if isinstance(error, kind)), 500)
    headers = {"Retry-After": "5"} if isinstance(error, errors.IndexLocked) else None
    return Problem(status, str(error), kind=type(error).__name__, headers=headers)


def fault(error: Exception) -> Problem:
    """Return an error that should not be as a problem."""
    return Problem(
        500, f"a fault of Veduta: {type(error).__name__}. The server printed where it arose."
    )


def client_left() -> Problem:
    """Return why a request is not answered whose client is gone. Nobody reads it."""
    return Problem(400, "The client left before the answer was ready.", kind="ClientLeft")


def explain_errors(app: FastAPI, respond: Callable[[Request, Problem], Response]) -> None:
    """Let an application answer every error as a problem.

    Args:
        app: the application.
        respond: returns the answer to a request that has a problem.
    """

    @app.exception_handler(VedutaError)
    def explain_error(request: Request, error: VedutaError) -> Response:
        return respond(request, problem_of(error))

    # FastAPI would repeat the request, which may hold what JSON cannot: NaN or a surrogate.
    @app.exception_handler(RequestValidationError)
    def explain_fields(request: Request, error: RequestValidationError) -> Response:
        places = (".".join(map(str, one["loc"])) + ": " + one["msg"] for one in error.errors())
        return respond(request, Problem(422, "; ".join(places)))

    # Those that FastAPI and Starlette raise by themselves are of this class, too.
    @app.exception_handler(HTTPException)
    def explain_status(request: Request, error: HTTPException) -> Response:
        if not isinstance(error, Problem):
            detail = _NO_ADDRESS if error.status_code == HTTPStatus.NOT_FOUND else error.detail
            error = Problem(error.status_code, detail, headers=dict(error.headers or {}))
        return respond(request, error)

    @app.exception_handler(ClientDisconnect)
    def forget(_request: Request, _error: ClientDisconnect) -> Response:
        return client_left().as_response()

    @app.exception_handler(Exception)
    def explain_fault(request: Request, error: Exception) -> Response:
        return respond(request, fault(error))
