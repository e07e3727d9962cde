"""Verified pairs of photos, kept in the user's cache folder.

So a command that is interrupted goes on where it stopped, and a second one starts at once. A pair
is known by the contents of its photos. When photos come or go, only new pairs are verified.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta._version import __version__
from veduta.files import atomic_file
from veduta.index import Manifest
from veduta.index.graph import keypoint_facts
from veduta.npz_file import read_arrays
from veduta.photos import content_hash
from veduta.stored_index.names import source_of

__all__ = ["PairGeometries", "cache_file", "pair_names", "read_geometries", "write_geometries"]

_PAIR_BYTES = 64
_NAME_LETTERS = 20
_MODEL_TYPE = "U11"  # as long as "fundamental"


@dataclass(frozen=True, slots=True)
class PairGeometries:
    """What geometry says about p pairs.

    Attributes:
        models: (p,) text, `veduta.keypoints.Verification.model`; "" without one.
        inliers: (p,) int64, of the model.
        coverages: (p,) float64, `veduta.keypoints.Verification.inlier_coverage`.
    """

    models: NDArray[np.str_]
    inliers: NDArray[np.int64]
    coverages: NDArray[np.float64]

    @classmethod
    def of_none(cls, count: int) -> PairGeometries:
        """Return p pairs without a model."""
        return cls(np.zeros(count, _MODEL_TYPE), np.zeros(count, np.int64), np.zeros(count))


def cache_file(index: Path, manifest: Manifest) -> Path:
    """Return the file for the pairs of an index. Another way to verify has another file.

    Args:
        index: its folder.
        manifest: of the index.
    """
    from platformdirs import user_cache_path

    # All versions of an index in an object store share what was verified.
    key = (source_of(index), manifest.keypoints, keypoint_facts(manifest), __version__)
    name = content_hash(os.fsencode(repr(key))).hex()[:_NAME_LETTERS]
    return user_cache_path("veduta", appauthor=False) / "groups" / f"{name}.npz"


def pair_names(contents: NDArray[np.bytes_], pairs: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Return the two content hashes of each pair as one value.

    Args:
        contents: (m,) S32, of the photos.
        pairs: (p, 2) numbers of photos.

    Returns:
        (p,) S64.
    """
    both = np.ascontiguousarray(contents[pairs])
    return both.view(f"S{_PAIR_BYTES}").reshape(len(pairs))


def read_geometries(
    file: Path, names: NDArray[np.bytes_]
) -> tuple[NDArray[np.bool_], PairGeometries]:
    """Return which pairs the cache knows, and what it knows about them.

    Args:
        file: of the cache. If it is missing or damaged, nothing is known.
        names: (p,) from `pair_names`.

    Returns:
        (p,) bool, and p pairs; those that are not known have no model.
    """
    found = PairGeometries.of_none(len(names))
    known = np.zeros(len(names), np.bool_)
    try:
        kept, models, inliers, coverages = read_arrays(
            file, "pairs", "models", "inliers", "coverages"
        )
    except (OSError, ValueError):
        return known, found
    lengths = {len(kept), len(models), len(inliers), len(coverages)}
    if kept.shape != (len(kept), _PAIR_BYTES) or kept.dtype != np.uint8 or len(lengths) != 1:
        return known, found
    kept_names = np.ascontiguousarray(kept).view(f"S{_PAIR_BYTES}").reshape(len(kept))
    order = np.argsort(kept_names)
    if not len(order) or not len(names):
        return known, found
    places = order[np.searchsorted(kept_names, names, sorter=order).clip(max=len(order) - 1)]
    known = kept_names[places] == names
    found.models[known] = models[places[known]]
    found.inliers[known] = inliers[places[known]]
    found.coverages[known] = coverages[places[known]]
    return known, found


def write_geometries(file: Path, names: NDArray[np.bytes_], geometries: PairGeometries) -> None:
    """Replace the cache, if its folder can be written. Without it, pairs are verified again.

    Args:
        file: of the cache.
        names: (p,) from `pair_names`.
        geometries: of the p pairs.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as draft, draft.open("wb") as out:
            np.savez(
                out,
                # As numbers, because NumPy leaves out zero bytes at the end of a text.
                pairs=np.ascontiguousarray(names).view(np.uint8).reshape(-1, _PAIR_BYTES),
                models=geometries.models,
                inliers=geometries.inliers,
                coverages=geometries.coverages,
            )
    except OSError:
        return
