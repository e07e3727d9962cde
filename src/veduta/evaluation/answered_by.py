"""What the answers of an evaluation come from, in words: the descriptor alone, or more than that.

A figure is one of the encoder only if its answers come from the descriptor alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from veduta.recognize.methods import GEOMETRIC

__all__ = ["DESCRIPTOR_ALONE", "KEYPOINTS_ALONE", "NETWORK_ALONE", "recognised_by", "retrieved_by"]

DESCRIPTOR_ALONE = "descriptor alone"
KEYPOINTS_ALONE = "keypoints alone"
NETWORK_ALONE = "network alone"

_OF_RERANK_MODE = {
    "none": DESCRIPTOR_ALONE,
    "global": "descriptor, graph",
    "geometry": "descriptor, keypoints, graph",
    "expansion": "descriptor, keypoints, expansion",
    "augmentation": "descriptor, augmentation",
    "superglobal": "descriptor, superglobal",
}


def retrieved_by(settings: Mapping[str, Any]) -> str:
    """Return what the ranking of a retrieval comes from.

    Args:
        settings: of the evaluation: `rerank`, the `method` of a ranking by keypoints, or `answers`
            that are those of another program.
    """
    if "answers" in settings:
        return str(settings["answers"])
    mode = settings.get("rerank")
    return KEYPOINTS_ALONE if mode is None else _OF_RERANK_MODE.get(mode, f"descriptor, {mode}")


def recognised_by(settings: Mapping[str, Any]) -> str:
    """Return what the names of a recognition come from.

    Args:
        settings: of the evaluation: its `method`, and `model` if a trained network gave the names.
    """
    if settings.get("method") == "network":
        return NETWORK_ALONE
    is_geometric = settings.get("method") in GEOMETRIC
    return "descriptor, keypoints, graph" if is_geometric else DESCRIPTOR_ALONE
