"""From the name of an encoder to a model file on this machine."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from veduta.encoders.embedded import embedded_models, embedded_source
from veduta.encoders.presets import DEFAULT, PRESETS
from veduta.encoders.settings import Source, settings_beside
from veduta.errors import EncoderUnavailable, UnknownEncoder

__all__ = ["resolve"]


def resolve(name: str) -> Source:
    """Find the model that `name` stands for; fetch or export it where the name asks for that.

    `name` is a preset ("fast", "accurate"), an embedded model ("efficientnet-lite0"), the path of
    an `.onnx` file, `hub:owner/name[/file.onnx]` or `timm:name`.

    The source of a path is named by the absolute path, so that an index that remembers the name
    finds the file again from any folder.

    Raises:
        UnknownEncoder: the name is none of these.
        EncoderUnavailable: the model is neither on this machine nor to be had now.
        EncoderError: the settings beside the model do not read.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return embedded_source(name, preset.model, preset.sizes)
    if name in embedded_models():
        return embedded_source(name, name)
    if name.startswith("hub:"):
        from veduta.encoders.hub import hub_source

        return hub_source(name)
    if name.startswith("timm:"):
        from veduta.encoders.timm_export import timm_source

        return timm_source(name)
    if name.endswith(".onnx") or os.sep in name:
        path = Path(name).expanduser().absolute()
        if path.suffix != ".onnx":
            raise UnknownEncoder(f"{name}: an encoder's file must end in .onnx")
        if not path.is_file():
            raise EncoderUnavailable(
                f"{name}: there is no such file; {DEFAULT!r} is inside the package and always there"
            )
        return Source(str(path), path, settings_beside(path))
    raise UnknownEncoder(_unknown(name))


def _unknown(name: str) -> str:
    names = [*PRESETS, *embedded_models()]
    near = difflib.get_close_matches(name.lower(), names, n=1)
    question = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"no encoder is called {name!r}; {question}Known are {', '.join(names)}, "
        "a path to an .onnx file, hub:owner/name and timm:name"
    )
