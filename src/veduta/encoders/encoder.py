"""What the rest of Veduta asks of an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Encoder"]


class Encoder(Protocol):
    """Turns photos into global descriptors. Any number of threads may use one encoder at once.

    `veduta.encoders.load_encoder` gives one that runs an ONNX model. Any object with these members
    works, too.

    Attributes:
        name: what the user asks for, such as "accurate".
        identity: a text that changes with everything that changes the descriptors. Descriptors of
            two identities must not be compared.
        dimension: length D of a descriptor.
        long_side: pixels. A photo that is decoded with at least this long side loses nothing.
    """

    name: str
    identity: str
    dimension: int
    long_side: int

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        """Resize a photo to what the network takes.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright.

        Returns:
            One array (h, w, 3) uint8 for each size at which the network runs.

        Raises:
            EncoderError: the array is no such photo.
        """
        ...

    def encode(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
        """Return the descriptors (N, D) float32 of N prepared photos, rows of length one.

        Args:
            prepared: results of `prepare`.

        Raises:
            EncoderError: the network fails, or returns infinite or undefined numbers.
        """
        ...

    def describe(self) -> dict[str, object]:
        """Return what a manifest or a report says of this encoder, as JSON types.

        The keys "name", "identity" and "dimension" are always there.
        """
        ...
