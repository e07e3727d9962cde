"""`veduta recipes`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

_OWN = "Veduta"  # whose recipes come first
_REPORT = re.compile(r" ?[(,.:]")  # what ends its name
_NAME = 18  # characters


@click.command("recipes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes that `veduta train` knows, or print the one called NAME.

    \b
    veduta recipes
    veduta recipes cnn-1 > mine.toml      to change it, and train it by its path
    """
    from veduta.learn.recipe import open_recipe, recipe_file, recipe_names

    if name is None:
        recipes = [open_recipe(one) for one in recipe_names()]
        if as_json:
            print_json([_facts(recipe) for recipe in recipes])
        else:
            for line in _lines(recipes):
                click.echo(line)
    elif as_json:
        recipe = open_recipe(name)
        print_json({"name": recipe.name, "digest": recipe.digest(), **recipe.as_json()})
    else:
        click.echo(recipe_file(name).read_bytes(), nl=False)  # as it is, to copy


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "about": recipe.about,
        "source": recipe.source,
        "network": _network(recipe),
        # An encoder has a size of its own.
        "size": None if _of_encoder(recipe) else recipe.input.size,
        "loss": recipe.loss.name,
        "tunable": sorted(recipe.tune.space),
        "digest": recipe.digest(),
    }


def _lines(recipes: list[Recipe]) -> Iterator[str]:
    groups: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        groups.setdefault(_report(recipe)[0], []).append(recipe)
    for report in sorted(groups, key=lambda one: (one != _OWN, one)):
        yield click.style(report, bold=True)
        for recipe in groups[report]:
            yield _line(recipe)
        yield ""
    yield "`veduta recipes NAME` prints one, to copy and change."
    yield "`veduta train NAME DATASET` trains it; --summary shows its layers."


def _report(recipe: Recipe) -> tuple[str, str]:
    """Return the report that a source names, and what else it says."""
    name = _REPORT.split(recipe.source, maxsplit=1)[0]
    rest = recipe.source[len(name) :]
    return name or "Others", re.sub(r"^ ?\([^)]*\)", "", rest).lstrip(",.: ")


def _line(recipe: Recipe) -> str:
    first = f"  {recipe.name:{_NAME}}  "
    if len(recipe.name) > _NAME:
        first = f"  {recipe.name}\n{' ' * (_NAME + 4)}"
    text = f"{recipe.about.rstrip('.')}. " if recipe.about else ""
    if rest := _report(recipe)[1].rstrip("."):
        text += f"{rest[0].upper()}{rest[1:]}. "
    side = "" if _of_encoder(recipe) else f", {recipe.input.size} pixels"
    indent = " " * (_NAME + 4)
    wrapped = fill(
        f"{text}[{_network(recipe)}{side}]",
        80,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return first + wrapped[len(indent) :]


def _of_encoder(recipe: Recipe) -> bool:
    return bool(recipe.network.encoder)


def _network(recipe: Recipe) -> str:
    """Say in a few words what the network is made of."""
    network = recipe.network
    layers = len(network.layers)
    parts = [network.backbone.partition(":")[2]] if network.backbone else []
    if layers:
        parts.append(f"{layers} layer{'s' if layers > 1 else ''}")
    if network.decoder:
        parts.append("decoder")
    return " + ".join(parts) or "no layers"
