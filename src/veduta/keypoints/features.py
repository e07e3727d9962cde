"""The keypoints of one photo, and their compact form for storage."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.keypoints.codebook import CODE_BYTES, COLUMNS, codes_of, rows_of_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Keypoints", "quantised"]

# Version, kind of descriptor, its width in numbers (of bits: in bytes), number of keypoints, CRC-32
# of all other bytes.
_HEADER = struct.Struct("<BBHII")
_CHECKED_HEADER_BYTES = 8
_VERSION = 2
_VERSION_OF_FOUR_BITS = 3
_VERSION_OF_CODES = 4
_VERSION_OF_0_1_0 = 1
"""Its CRC-32 does not cover the header."""
_INT8, _BITS, _FOUR_BITS, _CODES = 0, 1, 2, 3
_KINDS = {
    _VERSION_OF_0_1_0: (_INT8, _BITS),
    _VERSION: (_INT8, _BITS),
    _VERSION_OF_FOUR_BITS: (_FOUR_BITS,),
    _VERSION_OF_CODES: (_CODES,),
}
"""The kinds of descriptors that each version has."""

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
_COARSE_POSITION_STEPS = 4095
"""Of the positions beside codes. XFeat finds keypoints on a grid of 640 steps."""

_POSITION_BYTES, _COARSE_POSITION_BYTES = 4, 3


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
        """Return the compact form: 12 bytes, then 4 + d for each keypoint, or 4 + d / 2, or 19.

        Positions are rounded to steps of max(width, height) / 65535 pixels, or 4095 with 2 bits.

        Args:
            bits: of each number of an int8 descriptor. With 8 descriptors lose nothing. With 4
                each row is rounded to sixteen steps first, and scaled to its length when it is
                read. With 2, rows of 64 numbers of XFeat are stored as 16 bytes of a codebook
                (`veduta.keypoints.codebook`). Binary descriptors are stored as they are.

        Raises:
            ValueError: `bits` is none of 2, 4 and 8, or the rows have a width that does not go
                with it.
            EncoderUnavailable: the package came without the codebook, or it is damaged.
        """
        if bits not in (2, 4, 8):
            raise ValueError(f"descriptors are stored with 2, 4 or 8 bits a number, not {bits}")
        columns = self.descriptors.shape[1]
        version, kind, stored = _VERSION, _INT8, self.descriptors
        if self.binary:
            kind = _BITS
        elif bits == 4:
            version, kind, stored = _VERSION_OF_FOUR_BITS, _FOUR_BITS, _four_bit_codes(stored)
        elif bits == 2:
            version, kind, stored = _VERSION_OF_CODES, _CODES, codes_of(stored)
        largest = _COARSE_POSITION_STEPS if kind == _CODES else _POSITION_STEPS
        steps = np.rint(self.xy / (max(self.width, self.height) / largest))
        positions = np.clip(steps, 0, largest).astype("<u2")
        body: bytes = _packed_positions(positions, kind) + stored.tobytes()
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
        if version not in _KINDS:
            raise ValueError(
                f"stored keypoints: written in format {version}, this version of veduta reads "
                f"formats up to {max(_KINDS)}"
            )
        if kind not in _KINDS[version] or (kind == _CODES and columns != COLUMNS):
            raise ValueError(f"stored keypoints: damaged, {kind} is no kind of descriptor")
        width_bytes = {_FOUR_BITS: columns // 2, _CODES: CODE_BYTES}.get(kind, columns)
        position_bytes = _COARSE_POSITION_BYTES if kind == _CODES else _POSITION_BYTES
        expected = _HEADER.size + count * (position_bytes + width_bytes)
        if len(data) != expected:
            raise ValueError(
                f"stored keypoints: {len(data)} bytes, but {count} keypoints with {width_bytes} "
                f"bytes of descriptor take {expected}"
            )
        start = b"" if version == _VERSION_OF_0_1_0 else data[:_CHECKED_HEADER_BYTES]
        if zlib.crc32(memoryview(data)[_HEADER.size :], zlib.crc32(start)) != checksum:
            raise ValueError("stored keypoints: damaged, the checksum differs")
        dtype = np.int8 if kind == _INT8 else np.uint8
        rows_at = _HEADER.size + position_bytes * count
        stored = np.frombuffer(data, dtype, count * width_bytes, rows_at)
        stored = stored.reshape(count, width_bytes)
        descriptors: NDArray[Any] = stored
        if kind == _FOUR_BITS:
            descriptors = _from_four_bit_codes(stored.view(np.uint8))
        elif kind == _CODES:
            descriptors = _scaled_whole(rows_of_codes(stored.view(np.uint8)).astype(np.float32))
        largest = _COARSE_POSITION_STEPS if kind == _CODES else _POSITION_STEPS
        steps = _unpacked_positions(data[_HEADER.size : rows_at], kind)
        xy = steps * np.float32(max(width, height) / largest)
        return Keypoints(xy, descriptors, width, height)


def _packed_positions(steps: NDArray[np.uint16], kind: int) -> bytes:
    """Return positions (n, 2) as bytes. Those beside codes take 12 bits a number."""
    if kind != _CODES:
        return steps.tobytes()
    x, y = steps.T
    packed = np.stack([x & 255, x >> 8 | (y & 15) << 4, y >> 4], axis=1)
    return packed.astype(np.uint8).tobytes()


def _unpacked_positions(data: bytes, kind: int) -> NDArray[np.uint16]:
    """Return the positions (n, 2) that `_packed_positions` packed."""
    if kind != _CODES:
        return np.frombuffer(data, "<u2").reshape(-1, 2)
    low, middle, high = np.frombuffer(data, np.uint8).reshape(-1, 3).T.astype(np.uint16)
    return np.stack([low | (middle & 15) << 8, middle >> 4 | high << 4], axis=1)


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
    return _scaled_whole(_CODES_OF_BYTE.take(pairs).view(np.float32))


def quantised(rows: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """Return rows (n, d), scaled to length one, as int8: times 127, rounded. Zero rows stay."""
    return _scaled(rows, np.linalg.norm(rows, axis=1))


def _scaled_whole(rows: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return `quantised` of rows of whole numbers, faster and the same on every processor."""
    return _scaled(rows, np.sqrt(np.einsum("nd,nd->n", rows, rows)))


def _scaled(
    rows: NDArray[np.floating[Any]], lengths: NDArray[np.floating[Any]]
) -> NDArray[np.int8]:
    lengths[lengths == 0] = 1
    rounded: NDArray[np.int8] = np.rint(rows * (127 / lengths[:, None])).astype(np.int8)
    return rounded
