"""The models that are inside the package, as their manifest lists them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from veduta.encoders.settings import Settings, Source
from veduta.encoders.spec import Triple
from veduta.errors import EncoderUnavailable, readable
from veduta.npz_file import read_arrays
from veduta.validation import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CENTRED",
    "FEATURES",
    "GEM",
    "EmbeddedModel",
    "centre_of",
    "embedded_models",
    "embedded_source",
]

FOLDER = Path(__file__).parent / "models"

CENTRED = "centred"
"""The output that is the descriptor (tools/export_models.py describes it)."""

GEM = "descriptor"
"""The output that is the generalised mean of each channel."""

FEATURES = "features"
"""The output that is the feature map before pooling."""

LONG_SIDE = 448
"""Pixels at which a model runs if the user names the model and no preset."""


class GeneralisedMean(msgspec.Struct, frozen=True):
    """The pooling of the networks (GeM).

    Attributes:
        p: the power.
        eps: the least activation. A smaller one counts as this.
    """

    p: float
    eps: float


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model inside the package.

    Attributes:
        name: of the model.
        path: the ONNX file.
        sha256: of the file, hex.
        size: of the file, in bytes.
        dimension: length D of a descriptor.
        stride: multiple of pixels that both sides of a photo get.
        licence: of the weights.
        source: package and version that the weights come from.
        trained_on: the photos that the weights were trained on.
        mean: of each channel, in bytes. The graph subtracts it.
        std: of each channel, in bytes. The graph divides by it.
        networks: names of the networks whose channels it joins.
        pooling: the generalised mean of the output "descriptor".
        root: the output "centred" has this root of the mean power of a channel, not the p-th.
    """

    name: str
    path: Path
    sha256: str
    size: int
    dimension: int
    stride: int
    licence: str
    source: str
    trained_on: str
    mean: Triple
    std: Triple
    networks: tuple[str, ...]
    pooling: GeneralisedMean
    root: float


class _Centring(msgspec.Struct):
    root: float


class _Input(msgspec.Struct):
    mean: Triple
    std: Triple


class _Entry(msgspec.Struct):
    """The facts about one model that are read from the manifest. There are more in the file."""

    file: str
    sha256: str
    bytes: int
    channels: int
    stride: int
    license: str
    source_package: str
    source_version: str
    trained_on: str
    input: _Input
    networks: tuple[str, ...]
    outputs: dict[str, Any]
    pooling: GeneralisedMean
    centring: _Centring


class _ModelsManifest(msgspec.Struct):
    models: dict[str, _Entry]


@cache
def embedded_models() -> dict[str, EmbeddedModel]:
    """Read the manifest and return the embedded models by name.

    Raises:
        EncoderUnavailable: the manifest is missing or does not read.
    """
    file = FOLDER / "manifest.json"
    try:
        entries = read_json(file, _ModelsManifest).models
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(
            f"{readable(file)}: the list of the package's own models does not read ({error}); "
            "install veduta again"
        ) from error
    return {
        name: EmbeddedModel(
            name=name,
            path=FOLDER / entry.file,
            sha256=entry.sha256,
            size=entry.bytes,
            dimension=entry.channels,
            stride=entry.stride,
            licence=entry.license,
            source=f"{entry.source_package} {entry.source_version}",
            trained_on=entry.trained_on,
            mean=entry.input.mean,
            std=entry.input.std,
            networks=entry.networks,
            pooling=entry.pooling,
            root=entry.centring.root,
        )
        for name, entry in entries.items()
        if GEM in entry.outputs
    }


@cache
def centre_of(network: str) -> NDArray[np.float32]:
    """Return what the output "centred" subtracts from the channels of a network, (C,) float32.

    Args:
        network: one of the `networks` of a model.

    Raises:
        EncoderUnavailable: the file is missing or does not read.
    """
    file = FOLDER / "centres.npz"
    try:
        (centre,) = read_arrays(file, network)
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(
            f"{readable(file)}: the centres of the package's own models do not read ({error}); "
            "install veduta again"
        ) from error
    return np.asarray(centre, np.float32)


def embedded_source(
    name: str, model: str, sizes: tuple[tuple[int, float], ...] = ((LONG_SIDE, 1.0),)
) -> Source:
    """Return an embedded model as an encoder.

    Args:
        name: of the encoder.
        model: name of the embedded model.
        sizes: pairs (pixels of the long side, weight) at which it runs.

    Raises:
        EncoderUnavailable: this installation lacks the file.
    """
    entry = embedded_models().get(model)
    if entry is None or not entry.path.is_file():
        raise EncoderUnavailable(
            f"the encoder {name!r} needs the file {model}.onnx, which this installation of veduta "
            "lacks; install veduta again"
        )
    settings = Settings(
        sizes=sizes, fit="aspect", stride=entry.stride, pooling="graph", output=CENTRED
    )
    return Source(name, entry.path, settings, entry.sha256)
