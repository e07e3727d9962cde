"""Descriptors of XFeat in 16 bytes: product quantisation, after a rotation that was learned.

H. Jégou, M. Douze, C. Schmid, Product quantization for nearest neighbor search, TPAMI 2011; T. Ge,
K. He, Q. Ke, J. Sun, Optimized product quantization for approximate nearest neighbor search, CVPR
2013. A row is rotated. Each four of its numbers become a byte: the nearest of 256 centroids.

`tools/make_codebook.py` learns the rotation and the centroids, and says from which photos.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import EncoderUnavailable, readable
from veduta.npz_file import read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CODEBOOK_FILE", "CODE_BYTES", "COLUMNS", "codebook_digest", "codes_of", "rows_of_codes"]

CODEBOOK_FILE = Path(__file__).parent / "models" / "xfeat-codebook.npz"

COLUMNS = 64
"""The numbers of a row."""

CODE_BYTES = 16
"""The bytes of a code, one for each `COLUMNS` / `CODE_BYTES` numbers."""

_STEPS = 1024
"""What a rotated centroid is multiplied by before it is rounded. So a row is a sum of whole
numbers, the same on every processor."""

_BLOCK_ROWS = 64
"""The products of so many rows stay in the cache of a core. All rows at once take longer."""


def codes_of(rows: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return the nearest centroids of some descriptors.

    Args:
        rows: (n, 64) of any length.

    Returns:
        (n, 16) numbers of centroids.

    Raises:
        ValueError: the rows have another width.
        EncoderUnavailable: the package came without the codebook, or it is damaged.
    """
    if rows.shape[1] != COLUMNS:
        raise ValueError(f"the codebook is for rows of {COLUMNS} numbers, not {rows.shape[1]}")
    rotation, centroids = _codebook()
    lengths = np.maximum(np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True), 1)
    halves = np.einsum("pkd,pkd->pk", centroids, centroids) / 2
    codes = np.empty((len(rows), CODE_BYTES), np.uint8)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        parts = (rows[block] / lengths[block] @ rotation).reshape(-1, *centroids.shape[::2])
        for part, of_part in enumerate(centroids):
            # The largest product minus half of the squared length is the smallest distance.
            codes[block, part] = (parts[:, part] @ of_part.T - halves[part]).argmax(axis=1)
    return codes


def rows_of_codes(codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the descriptors that codes stand for.

    Args:
        codes: (n, 16), from `codes_of`.

    Returns:
        (n, 64) of about length one times 1024, rounded.

    Raises:
        EncoderUnavailable: the package came without the codebook, or it is damaged.
    """
    table = _table()
    columns = codes.T.astype(np.intp)
    total: NDArray[np.int16] = table[0].take(columns[0], axis=0)
    one = np.empty_like(total)
    for part in range(1, CODE_BYTES):
        # Bytes are in range. With another mode than "raise", take writes into `out` at once.
        table[part].take(columns[part], axis=0, out=one, mode="clip")
        total += one
    return total


def codebook_digest() -> str:
    """Return the SHA-256 digest of the arrays of the codebook.

    Raises:
        EncoderUnavailable: the package came without the codebook, or it is damaged.
    """
    return hashlib.sha256(b"".join(array.tobytes() for array in _codebook())).hexdigest()


@cache
def _codebook() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the rotation (64, 64) and the centroids (16, 256, 4)."""
    try:
        rotation, centroids = read_arrays(CODEBOOK_FILE, "rotation", "centroids")
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(
            f"{readable(CODEBOOK_FILE)}: the codebook of the keypoints 'xfeat' cannot be read "
            f"({error}); install veduta again"
        ) from error
    return rotation.astype(np.float32), centroids.astype(np.float32)


@cache
def _table() -> NDArray[np.int16]:
    """Return what each byte adds to a row, (16, 256, 64)."""
    rotation, centroids = _codebook()
    back = rotation.T.reshape(CODE_BYTES, -1, COLUMNS).astype(np.float64)
    table: NDArray[np.int16] = np.rint(centroids @ back * _STEPS).astype(np.int16)
    return table
