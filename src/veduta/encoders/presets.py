"""The presets: names for a model and the sizes at which it runs, chosen by measurement."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "PRESETS", "Preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A choice of a model.

    Attributes:
        model: name of an embedded model.
        sizes: pairs (pixels of the long side, weight) at which it runs.
    """

    model: str
    sizes: tuple[tuple[int, float], ...]


PRESETS = {
    "accurate": Preset("efficientnet-lite0-lite2", ((384, 1.0),)),
    "accurate-int8": Preset("efficientnet-lite0-lite2-int8", ((384, 1.0),)),
    "fast": Preset("efficientnet-lite0", ((320, 1.0),)),
}

DEFAULT = "accurate-int8"
