"""Which weights of a file a network begins with: a record for messages and for the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MatchedWeights"]

MAX_LISTED_PARTS = 6


@dataclass(frozen=True, slots=True)
class MatchedWeights:
    """The first weights of a network that come from a file.

    Attributes:
        digest: 16 hex digits, BLAKE3 of the file.
        used: the number of tensors of the network that come from the file.
        tensors: the number of tensors of the network.
        new: the parts of the network that begin with other weights, as "layers.6 (dense, 5 x 32)".
        unused: the parts of the file that the network does not take.
        new_classes: the layer that names the classes is new because the classes differ.
        class_layer: the layer that names the classes comes from the file.
    """

    digest: str
    used: int
    tensors: int
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    new_classes: bool = False
    class_layer: bool = False

    def text(self) -> str:
        """Return the record as one sentence without its full stop."""
        text = f"{self.used} of {self.tensors} tensors"
        if self.new:
            because = "; the last layer is new because the classes differ" * self.new_classes
            text += f"; new: {_listed(self.new)}{because}"
        if self.unused:
            text += f"; not used: {_listed(self.unused)}"
        return text


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - MAX_LISTED_PARTS
    listed = ", ".join(parts[:MAX_LISTED_PARTS])
    return f"{listed} and {more} more" if more > 0 else listed
