"""The names that stand for a choice made by measurement: a model and the sizes it runs at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "PRESETS", "Preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """An embedded model and the long sides (pixels, weight) it runs at."""

    model: str
    sizes: tuple[tuple[int, float], ...]


PRESETS = {
    "accurate": Preset("efficientnet-lite0-lite2", ((384, 1.0),)),
    "fast": Preset("efficientnet-lite0", ((320, 1.0),)),
}

DEFAULT = "accurate"
