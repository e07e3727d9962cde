"""Values from files, checked against a declared type by msgspec.

Declare the type as a frozen dataclass or as a `msgspec.Struct`, with ranges as
`Annotated[int, msgspec.Meta(ge=1)]`. Unknown keys are ignored, unless a struct has
`forbid_unknown_fields=True`.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["InvalidValue", "choices", "convert", "expected", "read_json"]

T = TypeVar("T")

_MESSAGE = re.compile(r"^(?P<what>.*) - at `(?P<key>[^`]*)`(?P<rest>.*)$", re.DOTALL)

_WORDS = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "a text",
    inspect.LiteralType: "a text",
    inspect.NoneType: "null",
}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


class InvalidValue(ValueError):
    """A value is not of the declared type. The message names the key and says what was expected.

    Attributes:
        key: of the wrong value, such as `training.epochs` or `input.mean.1`; empty if the whole
            value is wrong.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


def read_json(file: str | os.PathLike[str], kind: type[T]) -> T:
    """Read a JSON file as a value of a declared type.

    Args:
        file: the file.
        kind: the type, for example a `msgspec.Struct`, a dataclass or `dict[str, int]`.

    Returns:
        The value.

    Raises:
        OSError: the file cannot be read.
        InvalidValue: it is not JSON, or not of that type.
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
    """Convert a value of builtin types, as `tomllib` and `json` return it, to a declared type.

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
        raise _invalid(error) from error


def expected(kind: Any, key: str = "") -> str:
    """Return in words what a declared type expects: "a whole number of at least 1".

    Args:
        kind: the declared type of the whole value.
        key: of a part of the value, as in `InvalidValue.key`.
    """
    return _words(_declared(kind, key))


def choices(kind: Any, key: str = "") -> tuple[str, ...]:
    """Return the words that a declared type allows; none if it is no `Literal`.

    Args:
        kind: the declared type of the whole value.
        key: of a part of the value, as in `InvalidValue.key`.
    """
    declared = _declared(kind, key)
    one_or_more = declared.types if isinstance(declared, inspect.UnionType) else (declared,)
    literals = [one for one in one_or_more if isinstance(one, inspect.LiteralType)]
    return tuple(str(value) for one in literals for value in one.values)


def _declared(kind: Any, key: str) -> inspect.Type:
    declared = inspect.type_info(kind)
    for part in key.split(".") if key else ():
        declared = _item_type(declared, part)
    return declared


def _item_type(kind: inspect.Type, key: str) -> inspect.Type:
    """Return the declared type of an item of a table or list."""
    if isinstance(kind, inspect.UnionType):
        kind = next(one for one in kind.types if type(one) not in _WORDS)
    match kind:
        case inspect.StructType(fields=fields) | inspect.DataclassType(fields=fields):
            return next(one.type for one in fields if one.encode_name == key)
        case inspect.DictType(value_type=item):
            return item
        case inspect.TupleType(item_types=items):
            return items[int(key)]
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return item
    return inspect.AnyType()


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            return " or ".join(map(_words, types))
        case inspect.LiteralType(values=values):
            return f"{'one of ' if len(values) > 1 else ''}{', '.join(map(str, values))}"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)} values"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
    limits = [
        f"{words} {getattr(kind, name):g}"
        for name, words in _LIMITS.items()
        if getattr(kind, name, None) is not None
    ]
    words = _WORDS.get(type(kind), "a table")
    return f"{words} of {' and '.join(limits)}" if limits else words


def _invalid(error: msgspec.ValidationError) -> InvalidValue:
    """Return the error with the key in front: `training.epochs: Expected …`."""
    match = _MESSAGE.match(str(error))
    if match is None:
        return InvalidValue(str(error))
    key = match["key"].removeprefix("$").removeprefix(".")
    what = f"{match['what']}{match['rest']}"
    dotted = key.replace("[", ".").replace("]", "").removeprefix(".")
    return InvalidValue(f"{key}: {what}" if key else what, dotted)
