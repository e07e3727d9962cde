"""The command `veduta models`: list the encoders."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, say


@click.command("models")
@click.option(
    "--fetch", metavar="NAME", help="Fetch hub:owner/name or export timm:name, and describe it."
)
@json_option
def command(fetch: str | None, as_json: bool) -> None:
    """List the encoders: size, dimension, licence, and what is on this machine.

    Besides these, an encoder is any .onnx file, the folder of a run of `veduta train`,
    hub:owner/name or timm:name.
    """
    from veduta.encoders import DEFAULT, list_encoders, load_encoder

    if fetch is not None:
        facts = load_encoder(fetch).describe()
        if as_json:
            print_json(facts)
        else:
            model = f"  {facts['dimension']} dimensions, {facts['identity']}, on this machine"
            say("", model, bold=str(facts["name"]))
        return
    encoders = list_encoders()
    if as_json:
        print_json([{**encoder, "default": encoder["name"] == DEFAULT} for encoder in encoders])
        return
    for encoder in encoders:
        _print(encoder, default=encoder["name"] == DEFAULT)
    say(
        "",
        "Also: the path of an .onnx file, the folder of a run of `veduta train`,",
        "hub:owner/name, timm:name.",
    )


def _print(encoder: dict[str, Any], *, default: bool) -> None:
    where = "on this machine" if encoder["available"] else "to be downloaded"
    suffix = "  (default)" if default else ""
    say(suffix, bold=encoder["name"])
    facts = f"{encoder['dimension']} dimensions, {encoder['size'] / 1e6:.0f} MB"
    for line in (f"{facts}, {encoder['licence']}, {where}", str(encoder["source"])):
        say(*wrap(line, 78, initial_indent="  ", subsequent_indent="  "))
