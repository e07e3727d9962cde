"""From the name of an encoder to its model file on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from veduta.encoders.embedded import embedded_models, embedded_source
from veduta.encoders.presets import DEFAULT, PRESETS
from veduta.encoders.settings import Source, settings_beside
from veduta.errors import EncoderUnavailable, UnknownEncoder, readable
from veduta.text import did_you_mean

__all__ = ["RUN_MODEL", "name_without_folders", "resolve"]

RUN_MODEL = "model.onnx"
"""The file of the encoder in the folder of a run of `veduta train`."""


def resolve(name: str, *, fetch: bool = True) -> Source:
    """Find the model of an encoder. Hub models are fetched and timm models exported if needed.

    The source of a path is named by the absolute path. So an index that stores the name finds the
    file again from any folder.

    Args:
        name: a preset ("fast", "accurate"), an embedded model ("efficientnet-lite0"), the path of
            an `.onnx` file, the folder of a run of `veduta train`, `hub:owner/name[/file.onnx]` or
            `timm:name`.
        fetch: whether a model may be fetched. It may if the user has named it, but not if a file
            names it.

    Raises:
        UnknownEncoder: the name is none of these.
        EncoderUnavailable: the model is not on this machine and cannot be fetched now.
        EncoderError: the settings beside the model do not read.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return embedded_source(name, preset.model, preset.sizes)
    if name in embedded_models():
        return embedded_source(name, name)
    if name.startswith("hub:"):
        from veduta.encoders.hub import hub_source

        return hub_source(name, fetch=fetch)
    if name.startswith("timm:"):
        from veduta.encoders.timm_export import timm_source

        return timm_source(name, fetch=fetch)
    path = Path(os.path.expanduser(name)).absolute()
    if path.is_dir() and any((path / file).is_file() for file in (RUN_MODEL, "recipe.toml")):
        return _run_source(path)
    if name.endswith(".onnx") or os.sep in name:
        if path.suffix != ".onnx":
            raise UnknownEncoder(
                f"{name}: neither an .onnx file nor the folder of a run, which has a {RUN_MODEL}"
            )
        if not path.is_file():
            raise EncoderUnavailable(
                f"{name}: there is no such file; {DEFAULT!r} is inside the package"
            )
        return Source(str(path), path, settings_beside(path))
    raise _unknown_encoder(name)


def name_without_folders(name: str) -> str:
    """Return the name of an encoder for a report, which is given to others.

    Args:
        name: as that of the encoder: of a path it is the absolute path.

    Returns:
        The name of the run or of the file, or the name itself.
    """
    path = Path(name)
    if not path.is_absolute():
        return name
    return f"{path.parent.name}/{path.name}" if path.name == RUN_MODEL else path.name


def _run_source(run: Path) -> Source:
    model = run / RUN_MODEL
    if not model.is_file():
        raise EncoderUnavailable(
            f"{readable(run)}: the run has no {RUN_MODEL} yet; the same `veduta train` continues it"
        )
    return Source(str(run), model, settings_beside(model))


def _unknown_encoder(name: str) -> UnknownEncoder:
    names = [*PRESETS, *embedded_models()]
    advice = did_you_mean(name, names) or (
        f"known are {', '.join(names)}, a path to an .onnx file, the folder of a run of "
        "`veduta train`, hub:owner/name and timm:name"
    )
    return UnknownEncoder(f"no encoder is called {name!r}; {advice}")
