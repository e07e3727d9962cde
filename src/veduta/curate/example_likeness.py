"""How similar photos are to a few good examples: a filter for a collection with many bad photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MIN_EXAMPLES",
    "MIN_KEPT_LIKENESS",
    "MIN_KEPT_LIKENESS_IF_MATCHED",
    "MIN_MATCHES",
    "example_likeness",
]

MIN_EXAMPLES = 3

MIN_KEPT_LIKENESS = 0.77
"""The likeness from which on keeping a photo is suggested: the lowest that rejects 95 % of the
photos of the most similar other things in objects20 and scenes (benchmarks/piles.py)."""

MIN_MATCHES = 20
"""How many locally consistent matches of keypoints with one example show that a photo has the same
details, see `veduta.keypoints.Verification`. Of the photos of objects20 that are somewhat alike, a
fifth of the right ones have so many, and less than 1 % of the strangers."""

MIN_KEPT_LIKENESS_IF_MATCHED = MIN_KEPT_LIKENESS - 0.3
"""The likeness from which on keeping a photo with so many matches is suggested."""

_NEAREST_SHARE = 0.3
"""Weight of the nearest example; that of the mean of all examples is the rest."""


def example_likeness(
    examples: NDArray[np.floating], photos: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the likeness (N,) of photos to examples; 1 is the likeness among the examples.

    The similarity of a photo is 0.7 times its mean cosine similarity to the examples plus 0.3 times
    that to the nearest one. The likeness is this similarity, divided by the mean similarity of each
    example to the others, and at least 0. So one threshold fits both a uniform and a varied class.

    Args:
        examples: (E, d) descriptors of unit length, of at least `MIN_EXAMPLES` photos.
        photos: (N, d) descriptors of unit length.

    Raises:
        QueryError: there are too few examples, or they have nothing in common.
    """
    count = len(examples)
    if count < MIN_EXAMPLES:
        raise QueryError(
            f"{count} of the examples can be read, which is too few: give at least {MIN_EXAMPLES}"
        )
    cosines = examples.astype(np.float64) @ examples.T
    to_others = cosines[~np.eye(count, dtype=np.bool_)].reshape(count, count - 1)
    among = float(_similarities(to_others).mean())
    if among <= 0:
        raise QueryError("The examples have nothing in common: give photos of one thing.")
    similarities = _similarities(photos.astype(np.float64) @ examples.T)
    return np.asarray(np.maximum(similarities, 0.0) / among)


def _similarities(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) similarities to the examples of which (n, e) are the cosines."""
    mean, nearest = cosines.mean(axis=1), cosines.max(axis=1)
    return np.asarray((1 - _NEAREST_SHARE) * mean + _NEAREST_SHARE * nearest)
