"""The command `veduta keys`: who may use a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, say, shown

if TYPE_CHECKING:
    from veduta.web.keys import KeyFile


def _keys_option(function: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--keys",
        "file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File of the keys.  [default: $VEDUTA_KEYS, or in the user's data folder]",
    )(function)


def _opened(file: Path | None) -> KeyFile:
    from veduta.web.keys import KeyFile, default_key_file

    return KeyFile(file or default_key_file())


@click.group("keys")
def command() -> None:
    """Make, list and revoke the keys of `veduta serve`.

    A running server sees a change at once.
    """


@command.command("create")
@click.argument("scope", type=click.Choice(("search", "edit", "admin")))
@_keys_option
@json_option
def create(scope: str, file: Path | None, as_json: bool) -> None:
    """Make a key and print it. It is shown only once.

    A key for search reads and compares. One for edit also changes labels and removes photos from an
    index. One for admin also starts indexing runs.
    """
    from veduta.web.keys import SCOPES

    keys = _opened(file)
    key = keys.create(SCOPES[SCOPES.index(scope)])
    if as_json:
        print_json({"key": key, "scope": scope, "file": str(keys.file)})
    else:
        say(key)
        say(f"It is not shown again. A hash of it is in {shown(keys.file)}.", err=True)


@command.command("list")
@_keys_option
@json_option
def list_keys(file: Path | None, as_json: bool) -> None:
    """List the keys by their number, scope and date."""
    keys = _opened(file)
    if as_json:
        print_json([{"id": k.id, "scope": k.scope, "created": k.created} for k in keys.known()])
        return
    for key in keys.known():
        say(f"{key.id}  {key.scope:<6}  {key.created}")
    if not keys.known():
        say(f"There is no key in {shown(keys.file)}.", err=True)


@command.command("revoke")
@click.argument("number")
@_keys_option
@json_option
def revoke(number: str, file: Path | None, as_json: bool) -> None:
    """Remove the key with this NUMBER. A running server refuses it from then on."""
    key = _opened(file).revoke(number)
    if as_json:
        print_json({"revoked": key.id, "scope": key.scope})
    else:
        say(f"Revoked {key.id}, which was for {key.scope}.")
