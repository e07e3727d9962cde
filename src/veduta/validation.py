"""Values that were read from a file, checked against a declared type by msgspec.

Declare a type once, with ranges as `Annotated[int, msgspec.Meta(ge=1)]`: as a frozen dataclass, or
as a `msgspec.Struct` with `forbid_unknown_fields=True` where unknown keys are wrong too.
"""

from __future__ import annotations

import json
import os
import re
from typing import TypeVar

import msgspec

__all__ = ["InvalidValue", "convert", "read_json"]

T = TypeVar("T")

_PLACE = re.compile(r"^(?P<what>.*) - at `(?P<key>[^`]*)`(?P<rest>.*)$", re.DOTALL)


class InvalidValue(ValueError):
    """A value is not of the declared type. The message names the key and says what was expected."""


def read_json(file: str | os.PathLike[str], kind: type[T]) -> T:
    """Read a JSON file as a value of a declared type.

    Args:
        file: the file.
        kind: the type, for example a `msgspec.Struct`, a dataclass or `dict[str, int]`.

    Returns:
        The value.

    Raises:
        OSError: the file cannot be read.
        InvalidValue: it is no JSON, or not of that type.
    """
    with open(file, "rb") as stream:
        data = stream.read()
    # msgspec refuses the surrogate escapes of file names that are not UTF-8, so `json` decodes.
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"not valid JSON: {error}") from error
    return convert(value, kind)


def convert(value: object, kind: type[T]) -> T:
    """Return a value of builtin types, as `tomllib` and `json` make them, as a declared type.

    Args:
        value: dictionaries, lists, texts, numbers, booleans or None.
        kind: the type that is wanted.

    Returns:
        The value as `kind`.

    Raises:
        InvalidValue: the value is not of that type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidValue(_plain(str(error))) from error


def _plain(message: str) -> str:
    """Return a message of msgspec with the key in front: `training.epochs: Expected …`."""
    found = _PLACE.match(message)
    if found is None:
        return message
    key = found["key"].removeprefix("$").removeprefix(".")
    return f"{key}: {found['what']}{found['rest']}" if key else f"{found['what']}{found['rest']}"
