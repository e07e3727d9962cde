"""The models that the package carries, as its manifest lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from veduta.encoders.settings import Settings, Source
from veduta.errors import EncoderUnavailable, readable

__all__ = ["EmbeddedModel", "embedded_models", "embedded_source"]

FOLDER = Path(__file__).parent / "models"

# For a model asked for by its own name, not through a preset.
LONG_SIDE = 448


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One entry of the manifest. `size` is in bytes."""

    name: str
    path: Path
    sha256: str
    size: int
    dimension: int
    stride: int
    licence: str
    source: str


@cache
def embedded_models() -> dict[str, EmbeddedModel]:
    """Read the manifest: the embedded models by name.

    Raises:
        EncoderUnavailable: the manifest is missing or unreadable.
    """
    path = FOLDER / "manifest.json"
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {
            name: EmbeddedModel(
                name=name,
                path=FOLDER / entry["file"],
                sha256=entry["sha256"],
                size=entry["bytes"],
                dimension=entry["channels"],
                stride=entry["stride"],
                licence=entry["license"],
                source=f"{entry['source_package']} {entry['source_version']}",
            )
            for name, entry in entries.items()
            if "descriptor" in entry["outputs"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise EncoderUnavailable(
            f"{readable(path)}: the list of the package's own models does not read ({error}); "
            "install veduta again"
        ) from error


def embedded_source(
    name: str, model: str, sizes: tuple[tuple[int, float], ...] = ((LONG_SIDE, 1.0),)
) -> Source:
    """Return the embedded `model` as the encoder `name`.

    Raises:
        EncoderUnavailable: the package came without the file.
    """
    entry = embedded_models().get(model)
    if entry is None or not entry.path.is_file():
        raise EncoderUnavailable(
            f"the encoder {name!r} needs the file {model}.onnx, which this installation of veduta "
            "lacks; install veduta again"
        )
    settings = Settings(
        sizes=sizes, fit="aspect", stride=entry.stride, pooling="graph", output="centred"
    )
    return Source(name, entry.path, settings, entry.sha256)
