"""A descriptor divided up: how much of it comes from each position of the network's feature map.

A descriptor is pooled over the positions of a feature map. The value that a generalised mean (GeM)
gives a channel is a sum over the positions: position i has the share x_i^p / Σ x^p of it, by
Euler's theorem for homogeneous functions. A mean is such a sum by itself. Subtracting a centre,
adding the descriptors of several sizes, a projection and a division by the length keep a sum a sum
if the lengths of this photo are taken as fixed. So a descriptor is exactly a sum of one vector for
each position and of one constant vector, and every linear function of it is a map and a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.encoders.placement import place
from veduta.encoders.pooling import unit
from veduta.encoders.position_shares import no_positions, pooled_vector, require_positions
from veduta.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders.encoder import Encoder
    from veduta.encoders.projection import Projection

__all__ = ["DescriptorParts", "descriptor_parts", "has_parts", "require_parts"]


@dataclass(frozen=True, slots=True, eq=False)
class DescriptorParts:
    """A descriptor as a sum over h × w positions and a constant.

    The vector x = `parts.sum((0, 1)) + constant` is the descriptor of the encoder, but for the
    rounding of 32 bits. A projection makes `(x - mean) @ matrix * scale` of it. So for every vector
    v of d numbers, `map(v).sum() + constant_of(v)` is `descriptor @ v`.

    Attributes:
        parts: (h, w, D) float32: what each position adds to the descriptor of the encoder. Position
            (0, 0) is at the top left.
        constant: (D,) float64: what belongs to no position.
        descriptor: (d,) float32 of length one, as the encoder and the projection give it.
        box: x, y, width, height in pixels of the photo: the part of it that the positions cover.
        layer: name of the network's output whose positions these are.
        projection: of the descriptor; None if there is none, then d = D.
        scale: 1 / the length of the projected descriptor before it is scaled to length one; 0 if
            that length is 0.
    """

    parts: NDArray[np.float32]
    constant: NDArray[np.float64]
    descriptor: NDArray[np.float32]
    box: tuple[int, int, int, int]
    layer: str
    projection: Projection | None = None
    scale: float = 1.0

    def projected(self, projection: Projection) -> DescriptorParts:
        """Return the parts of the projected descriptor.

        Args:
            projection: for descriptors of this encoder.

        Raises:
            EncoderError: the projection is for descriptors of another dimension.
        """
        (descriptor,) = projection.apply(self.descriptor[None])
        length = float(np.linalg.norm((self.descriptor - projection.mean) @ projection.matrix))
        if length == 0:  # `unit` then gives a vector of equal numbers, which no position changes.
            return replace(self, descriptor=descriptor, projection=projection, scale=0.0)
        return replace(self, descriptor=descriptor, projection=projection, scale=1 / length)

    def map(self, direction: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return what each position adds to the scalar product with a vector, (h, w) float32.

        Args:
            direction: (d,) the vector, such as the descriptor of another photo.
        """
        return np.asarray(self.parts @ self._before_projection(direction), np.float32)

    def constant_of(self, direction: NDArray[np.floating]) -> float:
        """Return what belongs to no position in the scalar product with a vector.

        Args:
            direction: (d,) the vector.
        """
        if self.scale == 0:
            return float(self.descriptor.astype(np.float64) @ direction)
        mean = 0.0 if self.projection is None else self.projection.mean
        return float((self.constant - mean) @ self._before_projection(direction))

    def of_positions(self, weights: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what some positions add to the descriptor, with their share of the constant.

        The constant is divided among all positions by area, so that what two halves of a photo add
        is the descriptor.

        Args:
            weights: (h, w) the share of each position that is taken, in [0, 1].

        Returns:
            (d,) float64.
        """
        area = float(weights.mean())
        if self.scale == 0:
            return area * self.descriptor.astype(np.float64)
        taken: NDArray[np.float64] = np.einsum("yx,yxd->d", weights, self.parts, dtype=np.float64)
        taken += area * self.constant
        if self.projection is None:
            return taken
        centred = (taken - area * self.projection.mean).astype(np.float32)
        return self.scale * (centred @ self.projection.matrix).astype(np.float64)

    def _before_projection(self, direction: NDArray[np.floating]) -> NDArray[np.float64]:
        """(d,) → (D,): the vector whose product with the encoder's descriptor is the same."""
        if self.projection is None:
            return direction.astype(np.float64)
        product = self.projection.matrix @ direction.astype(np.float32)
        return self.scale * product.astype(np.float64)


def require_parts(encoder: Encoder) -> OnnxEncoder:
    """Return the encoder if its descriptors are sums over positions. The network does not run.

    Args:
        encoder: any encoder.

    Raises:
        EncoderError: they are not. The message names the methods that work.
    """
    encoder = getattr(encoder, "wrapped", encoder)  # A service shares its runs among threads.
    if not isinstance(encoder, OnnxEncoder):
        raise no_positions(encoder, "it is no ONNX model that Veduta runs")
    require_positions(encoder)
    return encoder


def has_parts(encoder: Encoder) -> bool:
    """Return whether the descriptors of an encoder are sums over positions.

    Args:
        encoder: any encoder.
    """
    try:
        require_parts(encoder)
    except EncoderError:
        return False
    return True


def descriptor_parts(encoder: Encoder, pixels: NDArray[np.uint8]) -> DescriptorParts:
    """Return the parts of the descriptor of a photo. The network runs once for each of its sizes.

    If the encoder has several sizes, all parts are on the finest of their grids: what a coarser
    position adds is divided among the finer ones by area.

    Args:
        encoder: an ONNX encoder that pools a feature map by "gem", "average" or "mean_tokens", or
            a model of the package.
        pixels: (H, W, 3) uint8 RGB, upright.

    Raises:
        EncoderError: the descriptor is no sum over positions, the array is no photo, or the network
            fails.
    """
    encoder = require_parts(encoder)
    spec = encoder.spec
    levels = [pooled_vector(encoder, photo) for photo in encoder.prepare(pixels)]
    height = max(level.parts.shape[0] for level in levels)
    width = max(level.parts.shape[1] for level in levels)
    parts = np.zeros((height, width, encoder.dimension), np.float32)
    constant = np.zeros(encoder.dimension)
    descriptor = np.zeros(encoder.dimension, np.float32)
    for level, (_, weight) in zip(levels, spec.sizes, strict=True):
        level_parts, level_constant = _of_length_one(level.parts, level.constant)
        parts += np.float32(weight) * _on_grid(level_parts, height, width)
        constant += weight * level_constant
        descriptor += np.float32(weight) * level.direction
    parts, constant = _of_length_one(parts, constant)
    area = place(pixels.shape[1], pixels.shape[0], spec.sizes[0][0], spec)
    return DescriptorParts(
        parts=parts,
        constant=constant,
        descriptor=unit(descriptor[None])[0],
        box=(area.left, area.top, area.right - area.left, area.bottom - area.top),
        layer=levels[0].layer,
    )


def _of_length_one(
    parts: NDArray[np.float32], constant: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Divide a sum by its length. A sum of zero becomes what `unit` makes of it."""
    total = parts.sum(axis=(0, 1), dtype=np.float64) + constant
    largest = float(np.abs(total).max())
    if largest == 0:
        return np.zeros_like(parts), unit(total[None])[0].astype(np.float64)
    # The length itself may be larger than float32 can hold.
    length = float(np.linalg.norm(total / largest))
    return parts / np.float32(largest) / np.float32(length), constant / largest / length


def _on_grid(parts: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(h, w, D) → (height, width, D) with the same sum: each position is divided up by area."""
    rows, columns = parts.shape[:2]
    if (rows, columns) == (height, width):
        return parts
    resampled = np.einsum(
        "yr,rcd,xc->yxd", _overlaps(height, rows), parts, _overlaps(width, columns), optimize=True
    )
    return np.asarray(resampled, np.float32)


def _overlaps(fine: int, coarse: int) -> NDArray[np.float32]:
    """(fine, coarse): the share of each coarse interval of [0, 1] that lies in each fine one."""
    starts, ends = np.arange(fine)[:, None] / fine, np.arange(1, fine + 1)[:, None] / fine
    first, last = np.arange(coarse) / coarse, np.arange(1, coarse + 1) / coarse
    common = np.minimum(ends, last) - np.maximum(starts, first)
    return np.asarray(np.maximum(common, 0) * coarse, np.float32)
