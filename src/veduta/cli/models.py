"""`veduta models`."""

from __future__ import annotations

from typing import Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json


@click.command("models")
@json_option
def command(as_json: bool) -> None:
    """List the encoders: size, dimension, licence, and what is on this machine."""
    from veduta.encoders import list_encoders

    encoders = list_encoders()
    if as_json:
        print_json(encoders)
        return
    for encoder in encoders:
        _print(encoder)


def _print(encoder: dict[str, Any]) -> None:
    click.echo(encoder)
