"""How similar photos are to a few good examples: a filter for a collection with many bad photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MIN_EXAMPLES", "MIN_KEPT_LIKENESS", "example_likeness"]

MIN_EXAMPLES = 3

MIN_KEPT_LIKENESS = 0.6
"""The likeness from which on keeping a photo is suggested. docs/clean.md has the results."""


def example_likeness(
    examples: NDArray[np.floating], photos: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the likeness (N,) of photos to examples; 1 is the likeness among the examples.

    The likeness is the mean cosine similarity to the examples, divided by the mean similarity among
    the examples, and at least 0. So one threshold fits both a uniform and a varied class.

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
    among = examples.astype(np.float64) @ examples.T
    mean_among = (among.sum() - np.trace(among)) / (count * (count - 1))
    if mean_among <= 0:
        raise QueryError("The examples have nothing in common: give photos of one thing.")
    similarities = (photos.astype(np.float64) @ examples.T).mean(axis=1)
    return np.asarray(np.maximum(similarities, 0.0) / mean_among)
