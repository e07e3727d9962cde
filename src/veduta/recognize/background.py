"""Descriptors of other things, which every collection can be told from: the background.

A collection of one or two labels holds nothing that shows how photos of other things look to its
encoder. The background does: 100 of the 1,000 classes that the embedded networks were trained on,
each as the descriptor of a typical photo. It was computed from the weights of the networks, not
from photos, by `tools/make_background.py`.

A background belongs to the networks of an encoder. Other encoders have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.embedded import embedded_models
from veduta.encoders.presets import PRESETS
from veduta.index import Manifest
from veduta.index.projection_file import read_projection
from veduta.npz_file import read_all_arrays

__all__ = ["BACKGROUND_FILE", "background_of", "background_of_index"]

BACKGROUND_FILE = Path(__file__).with_name("background.npz")
"""For each network an array (100, C) int8; its rows have any length."""


def background_of(encoder: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """Return the background of an encoder.

    Args:
        encoder: facts about it, as `veduta.encoders.Encoder.describe` gives them.

    Returns:
        (b, d) float32, unit rows; None if the encoder is not one of Veduta's own.
    """
    name = str(encoder.get("name"))
    preset = PRESETS.get(name)
    model = embedded_models().get(preset.model if preset else name)
    if model is None or model.sha256 != encoder.get("sha256"):
        return None
    known = _classes_of_networks()
    if not all(network in known for network in model.networks):
        return None
    joined = np.concatenate([known[network] for network in model.networks], axis=1)
    return _unit(joined)


def background_of_index(index: Path) -> NDArray[np.float32] | None:
    """Return the background as the descriptors of an index are searched: after its projection.

    Args:
        index: the folder of the index.

    Returns:
        (b, d) float32, unit rows; None if the encoder of the index has no background.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: its projection is missing or damaged.
    """
    manifest = Manifest.read(index)
    background = background_of(manifest.encoder)
    projection = read_projection(index, manifest)
    if background is None or projection is None:
        return background
    return _unit(projection.apply(background))


@cache
def _classes_of_networks() -> dict[str, NDArray[np.float32]]:
    return {
        network: _unit(rows.astype(np.float32))
        for network, rows in read_all_arrays(BACKGROUND_FILE).items()
    }


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
