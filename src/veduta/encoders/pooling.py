"""From a network's output to one vector for each photo, of length one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders.spec import Pooling

__all__ = ["pool", "unit"]

# The least activation in GeM, as in the authors' code. A power of zero has no gradient. A photo
# without any activation still gets a direction.
GEM_FLOOR = 1e-6

OUTPUT_RANKS = {"graph": 2, "gem": 4, "average": 4, "cls": 3, "mean_tokens": 3}


def pool(output: NDArray[np.float32], pooling: Pooling, gem_p: float) -> NDArray[np.float32]:
    """Reduce a network's output to vectors (N, D) float32, not yet of length one.

    GeM is the generalised mean of Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with
    No Human Annotation", 2018.

    Args:
        output: (N, D) or (N, D, 1, 1) for `graph`; a feature map (N, C, h, w) for `gem` and
            `average`; tokens (N, T, C) for `cls` and `mean_tokens`.
        pooling: how to reduce it.
        gem_p: the power of `gem`.

    Raises:
        EncoderError: the output has another rank.
    """
    if pooling == "graph" and output.ndim > 2 and output[0].size == output.shape[1]:
        output = output.reshape(len(output), -1)
    if output.ndim != OUTPUT_RANKS[pooling]:
        raise EncoderError(
            f"pooling {pooling!r} wants an output of rank {OUTPUT_RANKS[pooling]}, "
            f"the model gave one of shape {output.shape}"
        )
    if pooling == "gem":
        with np.errstate(over="ignore"):  # `unit` refuses what is infinite.
            powers = np.maximum(output, np.float32(GEM_FLOOR)) ** np.float32(gem_p)
            return _float32(powers.mean(axis=(2, 3)) ** np.float32(1 / gem_p))
    if pooling == "average":
        return _float32(output.mean(axis=(2, 3)))
    if pooling == "cls":
        return _float32(output[:, 0])
    if pooling == "mean_tokens":
        if output.shape[1] < 2:
            raise EncoderError("pooling 'mean_tokens' wants tokens after the first, there are none")
        return _float32(output[:, 1:].mean(axis=1))
    return _float32(output)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale the rows of `vectors` (N, D) to Euclidean length one, float32.

    A network may return a row of zeros for a blank photo. It becomes the vector with all components
    equal, which is also the result of GeM. So no row is ever NaN.

    Args:
        vectors: (N, D).

    Raises:
        EncoderError: a component is infinite or not a number.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise EncoderError("the model gave infinite or undefined numbers: its weights are damaged")
    # The division by the largest component keeps the squares of tiny numbers above zero.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = np.where(largest > 0, rows / np.where(largest > 0, largest, 1.0), 1.0)
    return _float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
