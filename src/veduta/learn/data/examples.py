"""What the training loop needs from its data: photos or descriptors, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Examples"]


class Examples(Protocol):
    """N examples to learn from, in rows: decoded photos, or descriptors of a frozen encoder."""

    @property
    def in_memory(self) -> bool:
        """Whether a batch is only copied, and nothing is decoded for it."""

    @property
    def encoder_identity(self) -> str:
        """Identity of the encoder of the descriptors; "" for photos."""

    def batch(self, rows: NDArray[np.intp] | Sequence[int]) -> Tensor:
        """Return the examples of n rows: (n, 3, H, W) uint8 photos or (n, D) float32 descriptors.

        Args:
            rows: numbers of the examples.

        Raises:
            LearnError: an example cannot be read.
        """

    def network_input(self, batch: Tensor) -> Tensor:
        """Return what the network takes of a batch: float32, same shape, on the same device."""
