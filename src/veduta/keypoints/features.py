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

# Version, kind of descriptor, its width in bytes, number of keypoints, CRC-32 of all other bytes.
_HEADER = struct.Struct("<BBHII")
_CHECKED_HEADER_BYTES = 8
_VERSION = 2
_VERSION_OF_0_1_0 = 1
"""Its CRC-32 does not cover the header."""
_DESCRIPTOR_DTYPES: dict[int, type[np.generic]] = {0: np.int8, 1: np.uint8}
_POSITION_STEPS = 65535


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one photo, best score first.

    Attributes:
        xy: (n, 2) float32: x, y in pixels of the upright photo at its full size. (0, 0) is the
            middle of the first pixel, (width - 1, height - 1) that of the last.
        descriptors: (n, d) int8: rows of length one times 127, rounded. Or (n, bytes) uint8: bits,
            compared by their Hamming distance.
        width: of the upright photo, in pixels.
        height: of the upright photo, in pixels.
        diameters: (n,) float32: of the part of the photo that each keypoint stands for, in pixels
            of the photo at its full size. They are for pictures, and `pack` leaves them out. None:
            this kind has no scale, or the keypoints were stored.
        directions: (n,) float32: degrees in [0, 360), clockwise from the right, in which the photo
            becomes brighter there. None as with `diameters`.
    """

    xy: NDArray[np.float32]
    descriptors: NDArray[Any]
    width: int
    height: int
    diameters: NDArray[np.float32] | None = None
    directions: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def binary(self) -> bool:
        """Whether the descriptors are bits."""
        return bool(self.descriptors.dtype == np.uint8)

    def pack(self) -> bytes:
        """Return the compact form: 12 bytes, then 4 + d for each keypoint.

        Positions are rounded to steps of max(width, height) / 65535 pixels. Descriptors lose
        nothing.
        """
        steps = np.rint(self.xy / _step_pixels(self.width, self.height))
        positions = np.clip(steps, 0, _POSITION_STEPS).astype("<u2")
        body: bytes = positions.tobytes() + self.descriptors.tobytes()
        columns = self.descriptors.shape[1]
        facts = (_VERSION, self.binary, columns, len(self))
        start = _HEADER.pack(*facts, 0)[:_CHECKED_HEADER_BYTES]
        return _HEADER.pack(*facts, zlib.crc32(body, zlib.crc32(start))) + body

    @staticmethod
    def unpack(data: bytes, width: int, height: int) -> Keypoints:
        """Read the compact form that `pack` returns.

        The descriptors share the memory of `data`. Do not write to them.

        Args:
            data: the compact form.
            width: of the upright photo, in pixels.
            height: of the upright photo, in pixels.

        Raises:
            ValueError: the bytes are incomplete or changed, or of another version.
        """
        if len(data) < _HEADER.size:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, fewer than the {_HEADER.size} of the header"
            )
        version, kind, columns, count, checksum = _HEADER.unpack_from(data)
        if version not in (_VERSION, _VERSION_OF_0_1_0):
            raise ValueError(
                f"stored keypoints: written in format {version}, this version of veduta reads "
                f"format {_VERSION}"
            )
        if kind not in _DESCRIPTOR_DTYPES:
            raise ValueError(f"stored keypoints: damaged, {kind} is no kind of descriptor")
        expected = _HEADER.size + count * (4 + columns)
        if len(data) != expected:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, but {count} keypoints with {columns} bytes "
                f"of descriptor take {expected}"
            )
        start = b"" if version == _VERSION_OF_0_1_0 else data[:_CHECKED_HEADER_BYTES]
        if zlib.crc32(memoryview(data)[_HEADER.size :], zlib.crc32(start)) != checksum:
            raise ValueError("stored keypoints: damaged, the checksum differs")
        steps = np.frombuffer(data, "<u2", 2 * count, _HEADER.size).reshape(count, 2)
        descriptors = np.frombuffer(
            data, _DESCRIPTOR_DTYPES[kind], count * columns, _HEADER.size + 4 * count
        )
        xy = steps * np.float32(_step_pixels(width, height))
        return Keypoints(xy, descriptors.reshape(count, columns), width, height)


def quantised(rows: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """Return rows (n, d), scaled to length one, as int8: times 127, rounded. Zero rows stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    rounded: NDArray[np.int8] = np.rint(rows * (127 / lengths)).astype(np.int8)
    return rounded


def _step_pixels(width: int, height: int) -> float:
    return max(width, height) / _POSITION_STEPS
