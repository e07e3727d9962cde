"""The contents of an index, in little memory: many workers of a machine share one copy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["KnownContents"]

_HASH_BYTES = 32


class KnownContents:
    """A set of content hashes, as one sorted array."""

    def __init__(self, hashes: NDArray[np.void]) -> None:
        """Take hashes that `packed` has packed.

        Args:
            hashes: (n,) of 32 bytes each, ascending.
        """
        self._hashes = hashes

    @staticmethod
    def packed(hashes: Iterable[bytes]) -> NDArray[np.void]:
        """Return hashes as an array for `KnownContents`.

        Args:
            hashes: of 32 bytes each.

        Returns:
            (n,) of 32 bytes each, ascending.
        """
        joined = b"".join(sorted(set(hashes)))
        return np.frombuffer(joined, dtype=np.dtype((np.void, _HASH_BYTES)))

    def __contains__(self, content: object) -> bool:
        """Tell whether a content hash is among them."""
        if not isinstance(content, bytes) or len(content) != _HASH_BYTES:
            return False
        low, high = 0, len(self._hashes)
        while low < high:
            middle = (low + high) // 2
            value = self._hashes[middle].tobytes()
            if value == content:
                return True
            if value < content:
                low = middle + 1
            else:
                high = middle
        return False
