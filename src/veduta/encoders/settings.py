"""What is known of a model before it is opened, and the files beside it that say so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from veduta.encoders.spec import Fit, Pooling, Triple
from veduta.errors import EncoderError, readable
from veduta.text import did_you_mean
from veduta.validation import InvalidValue, convert, expected, read_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings", "Source", "settings_beside", "settings_file"]

HUB_CONFIG = "preprocessor_config.json"
"""The settings of a model from a hub."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields of `EncoderSpec` that are known.

    Attributes:
        sizes: pairs (pixels, weight).
        fit: how a photo gets the shape that the network takes.
        stride: of both sides, in pixels.
        keep: share of the short side that `crop` keeps.
        scale: factor on the bytes.
        mean: of each channel.
        std: of each channel.
        pooling: how the output becomes a vector.
        gem_p: the power of `gem`.
        output: name of the graph's output.

    A field is None if the model itself must say it. `EncoderSpec` documents the fields.
    """

    sizes: tuple[tuple[int, float], ...] | None = None
    fit: Fit | None = None
    stride: int | None = None
    keep: float | None = None
    scale: float | None = None
    mean: Triple | None = None
    std: Triple | None = None
    pooling: Pooling | None = None
    gem_p: float | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A model file on this machine, and what is known of it.

    Attributes:
        name: what the user asks for.
        path: the ONNX file.
        settings: what is known of it.
        sha256: the digest that the file must have, hex; None if any file will do.
    """

    name: str
    path: Path
    settings: Settings = Settings()
    sha256: str | None = None


def settings_beside(model: Path) -> Settings:
    """Read the settings beside an ONNX file.

    The first of these files is read:

    1. `MODEL.json` beside `MODEL.onnx`: an object whose keys are the fields of `Settings`, such as
       `{"sizes": [320, [448, 0.5]], "pooling": "gem"}`. A size is a number of pixels or a pair
       [pixels, weight].
    2. `preprocessor_config.json` of model hubs, in the same folder or the one above.

    Args:
        model: the ONNX file.

    Returns:
        The settings; empty ones if there is no such file.

    Raises:
        EncoderError: the file does not read, or a value in it is wrong.
    """
    file = settings_file(model)
    if file is None:
        return Settings()
    return _from_hub_config(file) if file.name == HUB_CONFIG else _from_sidecar(file)


def settings_file(model: Path) -> Path | None:
    """Return the file that `settings_beside` reads; None if there is none.

    Args:
        model: the ONNX file.
    """
    folders = (model.parent, model.parent.parent)
    files = (model.with_suffix(".json"), *(folder / HUB_CONFIG for folder in folders))
    return next((file for file in files if file.is_file()), None)


def _from_sidecar(file: Path) -> Settings:
    values = _read(file)
    known = [field.name for field in fields(Settings)]
    for key in values:
        if key not in known:
            advice = did_you_mean(key, known) or f"known are {', '.join(known)}"
            raise EncoderError(f"{readable(file)}: unknown key {key!r}; {advice}")
    sizes = values.get("sizes")
    if isinstance(sizes, list):
        values["sizes"] = [size if isinstance(size, list) else [size, 1.0] for size in sizes]
    return _convert(file, values, Settings)


class _HubConfig(msgspec.Struct):
    """The keys of a `preprocessor_config.json` that are read."""

    size: int | dict[str, int | None] | None = None
    crop_size: int | dict[str, int | None] | None = None
    do_center_crop: bool | None = None
    do_rescale: bool | None = None
    rescale_factor: float | None = None
    do_normalize: bool | None = None
    image_mean: Triple | None = None
    image_std: Triple | None = None


def _from_hub_config(file: Path) -> Settings:
    """Read the settings of the image processors of CLIP, SigLIP, DINOv2, DINOv3, ViT and others."""
    config = _convert(file, _read(file), _HubConfig)
    cropped = bool(config.do_center_crop)
    resized_side = _side(file, "size", config.size)
    side = _side(file, "crop_size", config.crop_size) if cropped else resized_side
    normalised = config.do_normalize is not False
    return Settings(
        sizes=((side, 1.0),) if side else None,
        fit="crop" if cropped else "squash",
        keep=min(1.0, side / resized_side) if cropped and side and resized_side else 1.0,
        scale=1.0 if config.do_rescale is False else config.rescale_factor or 1 / 255,
        mean=config.image_mean or (0.5, 0.5, 0.5) if normalised else (0.0, 0.0, 0.0),
        std=config.image_std or (0.5, 0.5, 0.5) if normalised else (1.0, 1.0, 1.0),
    )


def _side(file: Path, key: str, size: int | dict[str, int | None] | None) -> int | None:
    """Return the side of a size: 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if not isinstance(size, dict):
        return size
    sides = {side for edge, side in size.items() if edge != "longest_edge"}
    if len(sides) != 1:
        raise EncoderError(f"{readable(file)}: {key}: expected a square or a shortest edge")
    return sides.pop()


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, dict[str, Any])
    except (OSError, InvalidValue) as error:
        raise EncoderError(f"{readable(file)}: the settings do not read ({error})") from error


def _convert(file: Path, values: dict[str, Any], kind: type[T]) -> T:
    try:
        return convert(values, kind)
    except InvalidValue as error:
        key = error.key
        raise EncoderError(f"{readable(file)}: {key}: expected {expected(kind, key)}") from error
