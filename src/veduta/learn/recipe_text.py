"""A recipe as the text of a TOML file that reads back as the same recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

__all__ = ["as_toml", "toml_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def as_toml(recipe: Recipe) -> str:
    """Return the text of a file that `open_recipe` reads as `recipe`, but for its name.

    Defaults are written too, so that the file means the same to a version with others; only what
    is empty is left out.
    """
    usual = type(recipe)(recipe.name).as_json()
    values = {
        key: one for key, one in recipe.as_json().items() if key != "tune" or one != usual[key]
    }
    tables = {key: table for key, table in values.items() if isinstance(table, Mapping)}
    lines = list(_lines({key: values[key] for key in values if key not in tables}, usual))
    for key, table in tables.items():
        space = table.get("space")
        lines += [
            f"\n[{key}]",
            *_lines({one: table[one] for one in table if one != "space"}, usual[key]),
        ]
        if space:
            lines += [f"\n[{key}.space]", *_lines(space, {})]
    return "\n".join(lines).lstrip("\n") + "\n"


def toml_value(value: Any) -> str:
    """Return a text, number, truth, list or table of those as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return f"[{', '.join(toml_value(one) for one in value)}]"


def _lines(table: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key, unless its value is empty and usually is."""
    for key, value in table.items():
        if value not in ("", []) or value != usual.get(key):
            yield _line(key, value)


def _line(key: str, value: Any) -> str:
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        inside = "".join(f"    {toml_value(one)},\n" for one in value)
        return f"{_key(key)} = [\n{inside}]"
    return f"{_key(key)} = {toml_value(value)}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _shown(char) for char in text) + '"'


def _shown(char: str) -> str:
    """Return a character, or its escape where it would not show."""
    code = ord(char)
    if char.isprintable():
        return char
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
