"""Writes a recipe as a TOML file that reads back as the same recipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

__all__ = ["recipe_toml", "toml_value"]


def recipe_toml(recipe: Recipe) -> str:
    """Return the text of a file that `open_recipe` reads as the same recipe, except for its name.

    Defaults are written too, so that the file keeps its meaning if a default changes. Empty values
    are left out where empty is the default.

    Args:
        recipe: the recipe.
    """
    import tomli_w

    defaults = type(recipe)(recipe.name).as_json()
    values = _without_empty(recipe.as_json(), defaults)
    if values["tune"] == defaults["tune"]:
        del values["tune"]
    tables = {
        key: _without_empty(table, defaults[key])
        for key, table in values.items()
        if isinstance(table, dict)
    }
    return tomli_w.dumps(values | tables)


def toml_value(value: Any) -> str:
    """Return a text, number, boolean, list or table as TOML on one line."""
    import tomli_w

    # tomli_w writes each item of a list on its own line. Elsewhere it writes no line breaks.
    text = tomli_w.dumps({"value": [[value]]})
    text = re.sub(r",\n *(?=\])", "", text)
    text = re.sub(r"(?<=\[)\n *", "", text)
    text = re.sub(r"\n *", " ", text.removesuffix("\n"))
    return text.removeprefix("value = [[").removesuffix("]]")


def _without_empty(table: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Leave out texts and lists that are empty and empty by default."""
    return {
        key: value
        for key, value in table.items()
        if value not in ("", []) or value != defaults.get(key)
    }
