"""The command `veduta models`: list the encoders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
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
    """List the encoders: size, licence, origin, input, figures, and what is on this machine.

    The last line names the devices on which the installed ONNX Runtime can run them.

    Besides these, an encoder is any .onnx file, the folder of a run of `veduta train`,
    hub:owner/name or timm:name.
    """
    from veduta.devices import available_devices, device_named
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
        "",
        f"They run on the device {device_named().name}. Devices that the installed ONNX Runtime "
        f"knows: {', '.join(available_devices())}.",
    )


def _print(encoder: dict[str, Any], *, default: bool) -> None:
    where = "on this machine" if encoder["available"] else "to be downloaded"
    suffix = "  (default)" if default else ""
    say(suffix, bold=encoder["name"])
    facts = f"{encoder['dimension']} dimensions, {encoder['size'] / 1e6:.0f} MB"
    lines = [
        f"{facts}, {encoder['licence']}, {where}",
        str(encoder["source"]),
        f"Weights: {encoder['origin']}.",
        f"Paper: {encoder['paper']}.",
        f"Input: {_input(encoder['input'])}.",
        *_measured(encoder["measured"]),
    ]
    for line in lines:
        say(*wrap(line, 78, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def _input(rule: dict[str, Any] | None) -> str:
    """Return in words what a photo becomes before the network."""
    if rule is None:
        return "as its preprocessor_config.json says, which could not be read here"
    sides = " and ".join(map(str, rule["sizes"]))
    if rule["fit"] == "aspect":
        shape = f"long side {sides} pixels, shape kept, both sides multiples of {rule['stride']}"
    elif rule["fit"] == "crop":
        shape = f"the middle square, {rule['keep']:.3g} of the short side, at {sides} pixels"
    else:
        shape = f"made square, {sides} pixels"
    scale = "RGB" if rule["scale"] == 1 else f"RGB / {1 / rule['scale']:.3g}"
    return f"{shape}; ({scale} - {_channels(rule['mean'])}) / {_channels(rule['std'])}"


def _channels(values: Sequence[float]) -> str:
    """Return one number if all channels have it."""
    texts = [f"{value:.3g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _measured(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each way to rank: top-1 and mAP on each set."""
    lines = []
    for by, rows in groupby(figures, lambda figure: str(figure["by"])):
        sets = ", ".join(f"{row['set']} {row['top1']:.3f} / {row['map']:.3f}" for row in rows)
        lines.append(f"Top-1 / mAP by {by}: {sets}.")
    return lines
