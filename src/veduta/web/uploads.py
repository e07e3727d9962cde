"""The query of a request: JSON, or a form with photos and the same JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from veduta.errors import PhotoTooLarge
from veduta.text import printable
from veduta.web.problems import Problem

__all__ = [
    "MAX_PHOTOS",
    "Posted",
    "SentPhoto",
    "form_schema",
    "json_schema",
    "read_json",
    "read_posted",
]

MAX_PHOTOS = 8
"""Of one query."""

_JSON = "application/json"
_MAX_NAME_LETTERS = 200

Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SentPhoto:
    """A photo that a client sent.

    Attributes:
        name: of its file, for messages only.
        data: its bytes.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Posted(Generic[Fields]):
    """What a client posted.

    Attributes:
        fields: the JSON.
        photos: the photos of the form; none with JSON alone.
    """

    fields: Fields
    photos: tuple[SentPhoto, ...]


async def read_posted(request: Request, kind: type[Fields], max_bytes: int) -> Posted[Fields]:
    """Read the body of a request.

    Args:
        request: with JSON, or with a form that has files `photo` and maybe JSON as `options`.
        kind: of the JSON.
        max_bytes: cap on the size of a photo.

    Raises:
        Problem: 415, it is neither; 422, it does not fit; 413, it is too large.
        PhotoTooLarge: a photo is too large.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_form(request, kind, max_bytes)
    if media_type != _JSON:
        raise Problem(
            415, "Send JSON (application/json), or a form with a photo (multipart/form-data)."
        )
    return Posted(_fields(await request.body(), kind), ())


async def read_json(request: Request, kind: type[Fields]) -> Fields:
    """Read the body of a request as JSON.

    FastAPI would read it before it looks at the key of the request.

    Args:
        request: with JSON.
        kind: of the JSON.

    Raises:
        Problem: 415, it is no JSON; 422, it does not fit; 413, it is too large.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _JSON:
        raise Problem(415, "Send JSON (application/json).")
    return _fields(await request.body(), kind)


async def _read_form(request: Request, kind: type[Fields], max_bytes: int) -> Posted[Fields]:
    parser = MultiPartParser(request.headers, request.stream(), max_files=MAX_PHOTOS, max_fields=2)
    parser.spool_max_size = max_bytes  # Nothing of a query goes to the disk.
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Problem(422, f"The form does not read: {error}") from error
    try:
        unknown = sorted(set(form) - {"photo", "options"})
        if unknown:
            raise Problem(422, f"The form has a field {unknown[0]!r}. Known: photo, options.")
        photos = []
        for item in form.getlist("photo"):
            if not isinstance(item, UploadFile):
                raise Problem(422, "The field photo is a file: give it a file name.")
            photos.append(await _read_photo(item, max_bytes))
        options = form.getlist("options") or ["{}"]
        if len(options) > 1 or not isinstance(options[0], str):
            raise Problem(422, "The field options is one JSON text.")
        return Posted(_fields(options[0].encode("utf-8", "replace"), kind), tuple(photos))
    finally:
        await form.close()


async def _read_photo(item: UploadFile, max_bytes: int) -> SentPhoto:
    # Some browsers send a whole path.
    name = printable(os.path.basename(item.filename or "").strip())[:_MAX_NAME_LETTERS]
    data = await item.read()
    if len(data) > max_bytes:
        raise PhotoTooLarge(
            name, f"{len(data) / 1e6:.1f} MB are more than the cap of {max_bytes / 1e6:.1f} MB"
        )
    return SentPhoto(name or "the query", data)


def _fields(data: bytes, kind: type[Fields]) -> Fields:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        places = (
            ".".join(map(str, one["loc"])) + ": " + one["msg"]
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise Problem(422, "; ".join(places)) from error


def json_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that `read_json` reads."""
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": reference}}}}


def form_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that `read_posted` reads."""
    body = json_schema(kind)
    content = body["requestBody"]["content"]
    reference = content[_JSON]["schema"]
    form = {
        "type": "object",
        "properties": {
            "photo": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "minItems": 1,
                "maxItems": MAX_PHOTOS,
            },
            "options": reference,
        },
        "required": ["photo"],
        "additionalProperties": False,
    }
    content["multipart/form-data"] = {
        "schema": form,
        "encoding": {"options": {"contentType": _JSON}},
    }
    return body
