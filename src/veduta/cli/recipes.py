"""`veduta recipes`."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, say
from veduta.text import count

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

# Recipes of this source are listed first.
_OWN_SOURCE = "Veduta"

# The name of a report ends before one of these.
_END_OF_REPORT_NAME = re.compile(r" ?[(,.:]")

NAME_CHARACTERS = 18


@click.command("recipes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes of `veduta train`, or print the one called NAME.

    \b
    veduta recipes
    veduta recipes cnn-1 > mine.toml      to change it, and train it by its path
    """
    from veduta.learn.recipe import open_recipe, recipe_file, recipe_names

    if name is None:
        recipes = [open_recipe(recipe_name) for recipe_name in recipe_names()]
        if as_json:
            print_json([_facts(recipe) for recipe in recipes])
        else:
            _print(recipes)
    elif as_json:
        recipe = open_recipe(name)
        print_json({"name": recipe.name, "digest": recipe.digest(), **recipe.as_json()})
    else:
        # The file itself, with its comments, is the one to copy.
        text = recipe_file(name).read_bytes().decode("utf-8", "surrogateescape")
        say(*text.replace("\r\n", "\n").removesuffix("\n").expandtabs(4).split("\n"))


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "about": recipe.about,
        "source": recipe.source,
        "network": _network(recipe),
        # An encoder decides the size itself.
        "size": None if recipe.network.encoder else recipe.input.size,
        "loss": recipe.loss.name,
        "tunable": sorted(recipe.tune.space),
        "digest": recipe.digest(),
    }


def _print(recipes: list[Recipe]) -> None:
    by_report: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        by_report.setdefault(_report(recipe)[0], []).append(recipe)
    for report in sorted(by_report, key=lambda name: (name != _OWN_SOURCE, name)):
        say(bold=report)
        for recipe in by_report[report]:
            say(*_recipe_lines(recipe))
        say()
    say(
        "`veduta recipes NAME` prints one, to copy and change.",
        "`veduta train NAME DATASET` trains it; --summary shows its layers.",
    )


def _report(recipe: Recipe) -> tuple[str, str]:
    """Return the name of the report in a recipe's source, and the rest of the source."""
    name = _END_OF_REPORT_NAME.split(recipe.source, maxsplit=1)[0]
    rest = recipe.source[len(name) :]
    return name or "Others", re.sub(r"^ ?\([^)]*\)", "", rest).lstrip(",.: ")


def _recipe_lines(recipe: Recipe) -> list[str]:
    first = f"  {recipe.name:{NAME_CHARACTERS}}  "
    text = f"{recipe.about.rstrip('.')}. " if recipe.about else ""
    if rest := _report(recipe)[1].rstrip("."):
        text += f"{rest[0].upper()}{rest[1:]}. "
    size = "" if recipe.network.encoder else f", {recipe.input.size} pixels"
    indent = " " * (NAME_CHARACTERS + 4)
    wrapped = wrap(
        f"{text}[{_network(recipe)}{size}]",
        80,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    if len(recipe.name) > NAME_CHARACTERS:
        return [f"  {recipe.name}", *wrapped]
    return [first + wrapped[0][len(indent) :], *wrapped[1:]]


def _network(recipe: Recipe) -> str:
    """Return the parts of the network in a few words."""
    network = recipe.network
    parts = [network.backbone.partition(":")[2]] if network.backbone else []
    if network.layers:
        parts.append(count(len(network.layers), "layer"))
    if network.decoder:
        parts.append("decoder")
    return " + ".join(parts) or "no layers"
