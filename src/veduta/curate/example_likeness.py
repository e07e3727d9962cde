"""How much photos look like a few good examples: search as a filter for a noisy pile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ENOUGH_EXAMPLES", "LIKE", "likeness"]

ENOUGH_EXAMPLES = 3
LIKE = 0.6
"""The likeness from which a photo is proposed to be kept; docs/clean.md has what that gives."""


def likeness(examples: NDArray[np.floating], photos: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N,) how much each photo looks like the examples: 1 is as they look like each other.

    It is the mean cosine to the examples over the mean cosine among them, at least 0. Measured in
    that unit, one threshold serves a class of uniform photos and a varied one.

    Args:
        examples: (E, d) descriptors of unit length, of at least `ENOUGH_EXAMPLES` photos.
        photos: (N, d) likewise.

    Raises:
        QueryError: there are too few examples, or they have nothing in common.
    """
    count = len(examples)
    if count < ENOUGH_EXAMPLES:
        raise QueryError(
            f"{count} of the examples can be read, which is too few: "
            f"give at least {ENOUGH_EXAMPLES}"
        )
    among = examples.astype(np.float64) @ examples.T
    usual = (among.sum() - np.trace(among)) / (count * (count - 1))
    if usual <= 0:
        raise QueryError("The examples have nothing in common: give photos of one thing.")
    cosines = (photos.astype(np.float64) @ examples.T).mean(axis=1)
    return np.asarray(np.maximum(cosines, 0.0) / usual)
