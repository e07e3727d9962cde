"""The keypoints of one photo, and their compact form for storage."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Keypoints", "quantised"]

# Version, kind of descriptor, descriptor's width in bytes, count, CRC-32 of all that follows.
_HEADER = struct.Struct("<BBHII")
_VERSION = 1
_KINDS: dict[int, type[np.generic]] = {0: np.int8, 1: np.uint8}
_STEPS = 65535


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one photo, best score first."""

    xy: NDArray[np.float32]
    """(n, 2): x, y in pixels of the upright photo at its full size; (0, 0) is the middle of the
    first pixel, (width - 1, height - 1) that of the last."""
    descriptors: NDArray[Any]
    """(n, d) int8: unit rows times 127, rounded. Or (n, bytes) uint8: bits, compared by Hamming."""
    width: int
    """Of the upright photo, in pixels."""
    height: int
    """Of the upright photo, in pixels."""

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def binary(self) -> bool:
        """Whether the descriptors are bits."""
        return bool(self.descriptors.dtype == np.uint8)

    def pack(self) -> bytes:
        """Return the compact form: 12 bytes, then 4 + d a keypoint.

        Positions are kept in steps of max(width, height) / 65535 pixels, descriptors as they are.
        """
        steps = np.rint(self.xy / _step(self.width, self.height))
        positions = np.clip(steps, 0, _STEPS).astype("<u2")
        body: bytes = positions.tobytes() + self.descriptors.tobytes()
        columns = self.descriptors.shape[1]
        header = _HEADER.pack(_VERSION, self.binary, columns, len(self), zlib.crc32(body))
        return header + body

    @staticmethod
    def unpack(data: bytes, width: int, height: int) -> Keypoints:
        """Read what `pack` wrote of a photo of `width` × `height` pixels.

        The descriptors share the memory of `data` and are not to be written to.

        Raises:
            ValueError: the bytes are not whole and unchanged.
        """
        if len(data) < _HEADER.size:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, fewer than the {_HEADER.size} of the header"
            )
        version, kind, columns, count, checksum = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise ValueError(
                f"stored keypoints: written in format {version}, this version of veduta reads "
                f"format {_VERSION}"
            )
        if kind not in _KINDS:
            raise ValueError(f"stored keypoints: damaged, {kind} is no kind of descriptor")
        whole = _HEADER.size + count * (4 + columns)
        if len(data) != whole:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, but {count} keypoints with {columns} bytes "
                f"of descriptor take {whole}"
            )
        if zlib.crc32(memoryview(data)[_HEADER.size :]) != checksum:
            raise ValueError("stored keypoints: damaged, the checksum differs")
        steps = np.frombuffer(data, "<u2", 2 * count, _HEADER.size).reshape(count, 2)
        descriptors = np.frombuffer(data, _KINDS[kind], count * columns, _HEADER.size + 4 * count)
        xy = steps * np.float32(_step(width, height))
        return Keypoints(xy, descriptors.reshape(count, columns), width, height)


def quantised(rows: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """Return rows (n, d), brought to length one, as int8: times 127, rounded. Zero rows stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    rounded: NDArray[np.int8] = np.rint(rows * (127 / lengths)).astype(np.int8)
    return rounded


def _step(width: int, height: int) -> float:
    return max(width, height) / _STEPS
