"""Values from files, checked against a declared type by msgspec.

Anyone may have written a file, so each way to read one has a single error, `InvalidValue`, for all
that can be wrong with its content: the encoding, the syntax, the depth, the size, the numbers and
the types.

Declare the type as a frozen dataclass or as a `msgspec.Struct`, with ranges as
`Annotated[int, msgspec.Meta(ge=1)]`. Unknown keys are ignored, unless a struct has
`forbid_unknown_fields=True`.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from veduta.files import open_regular

__all__ = [
    "InvalidValue",
    "choices",
    "convert",
    "expected",
    "parse_json",
    "parse_toml",
    "read_json",
    "read_toml",
    "read_whole",
]

MAX_BYTES = 512 * 2**20
"""The limit for a file that is read as a whole."""

MAX_WHOLE_NUMBER = 2**64
"""The limit for whole numbers, positive or negative."""

MAX_DEPTH = 64
"""The limit for lists and tables in each other. Code that walks through values may recurse."""

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
        OSError: the file cannot be read, or is a pipe or a device.
        InvalidValue: it is not JSON, or not of that type.
    """
    return convert(parse_json(read_whole(file)), kind)


def read_toml(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        file: the file.

    Returns:
        Its tables.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device.
        InvalidValue: it is not TOML in UTF-8.
    """
    data = read_whole(file)
    try:
        return parse_toml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidValue(f"not UTF-8: {error.reason}") from error


def parse_json(data: str | bytes, *, finite: bool = True) -> Any:
    """Return the value of a JSON text.

    Very large whole numbers are refused. So is what is nested too deeply.

    Args:
        data: the text. As bytes it is UTF-8, UTF-16 or UTF-32.
        finite: refuse NaN and infinity too.

    Raises:
        InvalidValue: it is not JSON.
    """
    # msgspec refuses the surrogate escapes of file names that are not UTF-8, so `json` decodes.
    try:
        value = json.loads(
            data,
            parse_constant=_refuse_number if finite else None,
            parse_float=_finite if finite else None,
            parse_int=_whole,
        )
    except InvalidValue:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"not valid JSON: {_short(error)}") from error
    return _not_too_deep(value)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Args:
        text: the text.

    Raises:
        InvalidValue: it is not TOML.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"not valid TOML: {_short(error)}") from error
    return _not_too_deep(values)


def read_whole(file: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file.

    Args:
        file: the file.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device, which may never end.
        InvalidValue: it is larger than `MAX_BYTES`, or its name has a NUL character.
    """
    if "\0" in os.fspath(file):
        raise InvalidValue("no file can have this name: it has a NUL character")
    with open_regular(file) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidValue(f"larger than {MAX_BYTES // 2**20} MB")
    return data


def _refuse_number(text: str) -> NoReturn:
    raise InvalidValue(f"{text[:40]} is no finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_number(text)
    return number


def _whole(text: str) -> int:
    # 20 digits hold each number below 2**64. More are not converted, which would take long.
    if len(text) > 21 or abs(number := int(text)) >= MAX_WHOLE_NUMBER:
        raise InvalidValue(f"{text[:40]} is too large a number")
    return number


def _not_too_deep(value: T) -> T:
    """Return the value, or raise `InvalidValue` if it is nested more than `MAX_DEPTH` deep."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return value
    raise InvalidValue(f"nested more than {MAX_DEPTH} deep")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


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
    except OverflowError as error:
        raise InvalidValue("a number is too large") from error
    except UnicodeEncodeError as error:  # msgspec looks into a text where it expects a number.
        raise InvalidValue("a text has a character that is not valid Unicode") from error


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
    # msgspec does not say which item of a table is wrong.
    named = key.replace("[...]", "[*]")
    dotted = named.replace("[", ".").replace("]", "").removeprefix(".")
    return InvalidValue(f"{key}: {what}" if key else what, dotted)
