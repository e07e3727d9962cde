"""What is known of a model before it is opened, and the files beside it that say so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, get_args

from veduta.encoders.spec import Fit, Pooling, Triple
from veduta.errors import EncoderError, readable
from veduta.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Settings", "Source", "settings_beside"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields of `EncoderSpec` that are known; None where the model itself must tell."""

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
    """A model file on this machine and what is known of it.

    `sha256` is the digest that the file must have, None where any file will do.
    """

    name: str
    path: Path
    settings: Settings = Settings()
    sha256: str | None = None


def settings_beside(model: Path) -> Settings:
    """Read the settings that lie beside an ONNX file; empty settings where there are none.

    Looked for in this order: `MODEL.json` beside `MODEL.onnx`, an object whose keys are the
    fields of `Settings`, e.g. `{"sizes": [320, [448, 0.5]], "pooling": "gem"}`, where a size is a
    number of pixels or a pair [pixels, weight]; then the `preprocessor_config.json` of model hubs,
    in the same folder or the one above.

    Raises:
        EncoderError: such a file does not read, or a value in it is not understood.
    """
    sidecar = model.with_suffix(".json")
    if sidecar.is_file():
        return _from_sidecar(sidecar)
    for folder in (model.parent, model.parent.parent):
        config = folder / "preprocessor_config.json"
        if config.is_file():
            return _from_hub_config(config)
    return Settings()


def _from_sidecar(path: Path) -> Settings:
    values = _read_object(path)
    readers: dict[str, Callable[[object], object]] = {
        "sizes": _sizes,
        "fit": lambda value: _one_of(value, get_args(Fit)),
        "stride": _whole,
        "keep": _number,
        "scale": _number,
        "mean": _triple,
        "std": _triple,
        "pooling": lambda value: _one_of(value, get_args(Pooling)),
        "gem_p": _number,
        "output": _text,
    }
    known: dict[str, object] = {}
    for key, value in values.items():
        if key not in readers:
            advice = did_you_mean(key, readers) or f"known are {', '.join(readers)}"
            raise EncoderError(f"{readable(path)}: unknown key {key!r}; {advice}")
        known[key] = _read(path, key, value, readers[key])
    return Settings(**known)  # type: ignore[arg-type]


def _from_hub_config(path: Path) -> Settings:
    """Understand the image processors of CLIP, SigLIP, DINOv2, DINOv3, ViT and their kin."""
    values = _read_object(path)
    cropped = bool(values.get("do_center_crop", False))
    resized = _read(path, "size", values.get("size"), _side)
    side = _read(path, "crop_size", values.get("crop_size"), _side) if cropped else resized
    normalised = values.get("do_normalize") is not False
    mean = _read(path, "image_mean", values.get("image_mean") or [0.5] * 3, _triple)
    std = _read(path, "image_std", values.get("image_std") or [0.5] * 3, _triple)
    scale = _read(path, "rescale_factor", values.get("rescale_factor") or 1 / 255, _number)
    keep = min(1.0, side / resized) if cropped and side and resized else 1.0
    return Settings(
        sizes=((side, 1.0),) if side else None,
        fit="crop" if cropped else "squash",
        keep=keep,
        scale=scale if values.get("do_rescale") is not False else 1.0,
        mean=mean if normalised else (0.0, 0.0, 0.0),
        std=std if normalised else (1.0, 1.0, 1.0),
    )


def _read_object(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{readable(path)}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise EncoderError(f"{readable(path)}: a JSON object is wanted at the top")
    return values


def _read(path: Path, key: str, value: object, reader: Callable[[object], T]) -> T:
    try:
        return reader(value)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{readable(path)}: {key}: {error}, not {value!r}") from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number is wanted")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a whole number is wanted")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value


def _one_of(value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"one of {', '.join(choices)} is wanted")
    return str(value)


def _triple(value: object) -> Triple:
    if not isinstance(value, list) or len(value) != 3:
        raise TypeError("a list of three numbers is wanted")
    red, green, blue = (_number(part) for part in value)
    return red, green, blue


def _sizes(value: object) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, list):
        raise TypeError("a list of sizes is wanted")
    pairs = [part if isinstance(part, list) else [part, 1.0] for part in value]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("each size must be pixels or [pixels, weight]")
    return tuple((_whole(side), _number(weight)) for side, weight in pairs)


def _side(value: object) -> int | None:
    """The side of a hub's `size`: 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if value is None:
        return None
    if isinstance(value, dict):
        sides = {_whole(part) for key, part in value.items() if key != "longest_edge"}
        if len(sides) != 1:
            raise ValueError("a square size or a shortest edge is wanted")
        return sides.pop()
    return _whole(value)
