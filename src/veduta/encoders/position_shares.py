"""What each position of a network's output adds to the vector that is pooled from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.embedded import CENTRED, FEATURES, GEM, centre_of, embedded_models
from veduta.encoders.pooling import GEM_FLOOR, pool, unit
from veduta.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders.embedded import EmbeddedModel
    from veduta.encoders.onnx_encoder import OnnxEncoder

__all__ = ["PooledVector", "no_positions", "pooled_vector", "require_positions"]

_MAX_REGISTERS = 16
"""Tokens that stand before those of the positions (Darcet et al., "Vision Transformers Need
Registers", ICLR 2024). Published networks have 4."""


@dataclass(frozen=True, slots=True, eq=False)
class PooledVector:
    """A vector of D numbers as a sum over h × w positions and a constant.

    Attributes:
        parts: (h, w, D) float32: what each position adds.
        constant: (D,) float64: what belongs to no position.
        direction: (D,) float32: the vector scaled to length one, as the encoder does it.
        layer: name of the network's output whose positions these are.
    """

    parts: NDArray[np.float32]
    constant: NDArray[np.float64]
    direction: NDArray[np.float32]
    layer: str


def pooled_vector(encoder: OnnxEncoder, photo: NDArray[np.uint8]) -> PooledVector:
    """Run the network on a photo, and return its pooled vector with what each position adds to it.

    Args:
        encoder: the encoder.
        photo: (h, w, 3) uint8, one of the arrays that `encoder.prepare` returns.

    Raises:
        EncoderError: the vector is no sum over positions, or the network fails or gives infinite
            or undefined numbers.
    """
    require_positions(encoder)
    spec = encoder.spec
    model = embedded_model(encoder)
    if model is not None:
        return _centred(encoder, photo, model)
    (output,) = encoder.outputs_of(photo, spec.output)
    (pooled,) = pool(output[None], spec.pooling, spec.gem_p)
    (direction,) = unit(pooled[None])
    if spec.pooling == "mean_tokens":
        parts, constant = _parts_of_tokens(encoder, output[1:], photo.shape[0], photo.shape[1])
    elif spec.pooling == "gem":
        parts = _shares(output, GEM_FLOOR, spec.gem_p) * pooled
        constant = np.zeros(len(pooled))
    else:
        parts = output.transpose(1, 2, 0) / np.float32(output[0].size)
        constant = np.zeros(len(pooled))
    return PooledVector(parts, constant, direction, spec.output)


def require_positions(encoder: OnnxEncoder) -> None:
    """Check that the descriptors of an encoder are sums over positions. The network does not run.

    Args:
        encoder: the encoder.

    Raises:
        EncoderError: they are not.
    """
    if encoder.spec.pooling == "cls":
        raise no_positions(encoder, "its descriptor is one token of the network")
    if encoder.spec.pooling == "graph" and embedded_model(encoder) is None:
        raise no_positions(encoder, "its network gives one vector for the whole photo")


def no_positions(encoder: object, reason: str) -> EncoderError:
    """Return the error for an encoder whose descriptor is no sum over positions.

    Args:
        encoder: of any class.
        reason: why there are no positions.
    """
    name = getattr(encoder, "name", type(encoder).__name__)
    return EncoderError(
        f"encoder {name!r} has no map of its descriptor: {reason}. "
        "The methods occlusion and rise work with every encoder."
    )


def embedded_model(encoder: OnnxEncoder) -> EmbeddedModel | None:
    """Return the model of the package whose centred descriptor an encoder gives, or None."""
    wanted = (encoder.spec.sha256.lower(), encoder.spec.output)
    models = embedded_models().values()
    return next((model for model in models if (model.sha256, CENTRED) == wanted), None)


def _centred(encoder: OnnxEncoder, photo: NDArray[np.uint8], model: EmbeddedModel) -> PooledVector:
    """Divide up the descriptor of a model of the package, as tools/export_models.py defines it."""
    features, generalised_mean, centred = encoder.outputs_of(photo, FEATURES, GEM, CENTRED)
    (descriptor,) = unit(centred[None])
    shares = _shares(features, model.pooling.eps, model.pooling.p)
    peaks = generalised_mean.astype(np.float64) ** (model.pooling.p / model.root)
    centres = [centre_of(network).astype(np.float64) for network in model.networks]
    ends = np.cumsum([len(centre) for centre in centres])
    factors, constants = [], []
    for of_network, centre in zip(np.split(peaks, ends[:-1]), centres, strict=True):
        direction = of_network / np.linalg.norm(of_network)
        length = np.linalg.norm(direction - centre)
        factors.append(direction / length)
        constants.append(-centre / length)
    parts = shares * np.concatenate(factors).astype(np.float32)
    return PooledVector(parts, np.concatenate(constants), descriptor, FEATURES)


def _shares(features: NDArray[np.float32], floor: float, power: float) -> NDArray[np.float32]:
    """(C, h, w) → (h, w, C): the share of each position in the mean power of a channel."""
    values = np.maximum(features, np.float32(floor))
    # A power of values up to 1 does not overflow.
    powers = (values / values.max(axis=(1, 2), keepdims=True)) ** np.float32(power)
    shares = powers / powers.sum(axis=(1, 2), keepdims=True)
    return np.ascontiguousarray(shares.transpose(1, 2, 0))


def _parts_of_tokens(
    encoder: OnnxEncoder, tokens: NDArray[np.float32], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(T, C) → (h, w, C) and (C,): the tokens of the positions, and the sum of those before."""
    count = len(tokens)
    sides = [
        side
        for side in range(1, math.gcd(height, width) + 1)
        if height % side == 0
        and width % side == 0
        and _is_grid(count, (height // side) * (width // side))
    ]
    if not sides:
        raise no_positions(
            encoder, f"its {count} tokens are no grid over {width} × {height} pixels"
        )
    rows, columns = height // sides[0], width // sides[0]
    registers = count - rows * columns
    shares = tokens / np.float32(count)
    return (
        shares[registers:].reshape(rows, columns, -1),
        shares[:registers].sum(axis=0, dtype=np.float64),
    )


def _is_grid(tokens: int, positions: int) -> bool:
    registers = tokens - positions
    return 0 <= registers <= min(_MAX_REGISTERS, positions - 1)
