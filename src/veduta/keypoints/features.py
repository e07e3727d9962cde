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

# Version, kind of descriptor, its width in numbers (of bits: in bytes), number of keypoints, CRC-32
# of all other bytes.
_HEADER = struct.Struct("<BBHII")
_CHECKED_HEADER_BYTES = 8
_VERSION = 2
_VERSION_OF_FOUR_BITS = 3
_VERSION_OF_0_1_0 = 1
"""Its CRC-32 does not cover the header."""
_INT8, _BITS, _FOUR_BITS = 0, 1, 2
_SMALLEST_CODE, _LARGEST_CODE = -8, 7
"""The whole numbers that four bits hold. They are stored with 8 added."""

_CODES_OF_BYTE = (
    np.stack([np.arange(256) % 16, np.arange(256) // 16], axis=1).astype(np.float32)
    + _SMALLEST_CODE
).view(np.uint64)[:, 0]
"""The two float32 codes in a byte, as one number of eight bytes, so that one look-up finds both."""

_STEP_DEVIATIONS = 0.4
"""The step between two codes, as a share of the standard deviation of the numbers of a row. Rows of
XFeat have a mean cosine of 0.993 with what is read."""
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

    def best(self, count: int | None) -> Keypoints:
        """Return the first keypoints, which have the best scores.

        Args:
            count: their largest number; None: all.
        """
        if count is None or len(self) <= count:
            return self
        return Keypoints(self.xy[:count], self.descriptors[:count], self.width, self.height)

    @property
    def binary(self) -> bool:
        """Whether the descriptors are bits."""
        return bool(self.descriptors.dtype == np.uint8)

    def pack(self, bits: int = 8) -> bytes:
        """Return the compact form: 12 bytes, then 4 + d for each keypoint, or 4 + d / 2.

        Positions are rounded to steps of max(width, height) / 65535 pixels.

        Args:
            bits: of each number of an int8 descriptor. With 8 descriptors lose nothing. With 4
                each row is rounded to sixteen steps first, and scaled to its length when it is
                read. Binary descriptors are stored as they are.

        Raises:
            ValueError: `bits` is neither 4 nor 8, or rows of odd width are to take 4.
        """
        if bits not in (4, 8):
            raise ValueError(f"descriptors are stored with 4 or 8 bits a number, not {bits}")
        columns = self.descriptors.shape[1]
        version, kind, stored = _VERSION, _INT8, self.descriptors
        if self.binary:
            kind = _BITS
        elif bits == 4:
            version, kind, stored = _VERSION_OF_FOUR_BITS, _FOUR_BITS, _four_bit_codes(stored)
        steps = np.rint(self.xy / _step_pixels(self.width, self.height))
        positions = np.clip(steps, 0, _POSITION_STEPS).astype("<u2")
        body: bytes = positions.tobytes() + stored.tobytes()
        facts = (version, kind, columns, len(self))
        start = _HEADER.pack(*facts, 0)[:_CHECKED_HEADER_BYTES]
        return _HEADER.pack(*facts, zlib.crc32(body, zlib.crc32(start))) + body

    @staticmethod
    def unpack(data: bytes, width: int, height: int) -> Keypoints:
        """Read the compact form that `pack` returns.

        Descriptors of 8 bits share the memory of `data`. Do not write to them.

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
        if version not in (_VERSION, _VERSION_OF_FOUR_BITS, _VERSION_OF_0_1_0):
            raise ValueError(
                f"stored keypoints: written in format {version}, this version of veduta reads "
                f"formats up to {_VERSION_OF_FOUR_BITS}"
            )
        four_bits = version == _VERSION_OF_FOUR_BITS
        if kind not in ((_FOUR_BITS,) if four_bits else (_INT8, _BITS)):
            raise ValueError(f"stored keypoints: damaged, {kind} is no kind of descriptor")
        width_bytes = columns // 2 if four_bits else columns
        expected = _HEADER.size + count * (4 + width_bytes)
        if len(data) != expected:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, but {count} keypoints with {width_bytes} "
                f"bytes of descriptor take {expected}"
            )
        start = b"" if version == _VERSION_OF_0_1_0 else data[:_CHECKED_HEADER_BYTES]
        if zlib.crc32(memoryview(data)[_HEADER.size :], zlib.crc32(start)) != checksum:
            raise ValueError("stored keypoints: damaged, the checksum differs")
        steps = np.frombuffer(data, "<u2", 2 * count, _HEADER.size).reshape(count, 2)
        dtype = np.int8 if kind == _INT8 else np.uint8
        stored = np.frombuffer(data, dtype, count * width_bytes, _HEADER.size + 4 * count)
        stored = stored.reshape(count, width_bytes)
        descriptors: NDArray[Any] = stored
        if four_bits:
            descriptors = _from_four_bit_codes(stored.view(np.uint8))
        xy = steps * np.float32(_step_pixels(width, height))
        return Keypoints(xy, descriptors, width, height)


def _four_bit_codes(descriptors: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return rows (n, d) with 4 bits a number, two numbers a byte, the first in the lower half."""
    if descriptors.shape[1] % 2:
        raise ValueError(f"rows of {descriptors.shape[1]} numbers do not fill whole bytes")
    step = np.float32(127 * _STEP_DEVIATIONS / np.sqrt(descriptors.shape[1]))
    codes = np.rint(descriptors / step).clip(_SMALLEST_CODE, _LARGEST_CODE)
    unsigned = (codes - _SMALLEST_CODE).astype(np.uint8)
    return np.bitwise_or(unsigned[:, 0::2], np.left_shift(unsigned[:, 1::2], 4), dtype=np.uint8)


def _from_four_bit_codes(pairs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return rows of length one times 127, (n, d), from those that `_four_bit_codes` returned."""
    codes = _CODES_OF_BYTE.take(pairs).view(np.float32)
    # Of whole numbers, so this is exact, and faster than `np.linalg.norm`.
    return _scaled(codes, np.sqrt(np.einsum("nd,nd->n", codes, codes)))


def quantised(rows: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """Return rows (n, d), scaled to length one, as int8: times 127, rounded. Zero rows stay."""
    return _scaled(rows, np.linalg.norm(rows, axis=1))


def _scaled(
    rows: NDArray[np.floating[Any]], lengths: NDArray[np.floating[Any]]
) -> NDArray[np.int8]:
    lengths[lengths == 0] = 1
    rounded: NDArray[np.int8] = np.rint(rows * (127 / lengths[:, None])).astype(np.int8)
    return rounded


def _step_pixels(width: int, height: int) -> float:
    return max(width, height) / _POSITION_STEPS
