"""What became of one file on its way into the index."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.encoders import Encoder
from veduta.errors import EncoderError, PhotoError
from veduta.keypoints import Extractor


@dataclass(frozen=True, slots=True)
class Described:
    """A photo that was read and encoded now. `row` lacks what the file alone does not tell.

    `keypoints` are packed; None when the index stores none.
    """

    candidate: photos.Candidate
    row: dict[str, Any]
    keypoints: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownContent:
    """A file with the content of row `id`: a copy, a moved file, or one that was only touched."""

    candidate: photos.Candidate
    content: bytes
    id: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that gives no photo, and why."""

    candidate: photos.Candidate
    reason: str


Outcome = Described | KnownContent | Unreadable


def describe_file(
    candidate: photos.Candidate,
    encoder: Encoder,
    extractor: Extractor | None,
    by_content: Mapping[bytes, int],
) -> Outcome:
    """Take one file from its bytes to its descriptor and keypoints. Runs in a worker thread.

    Args:
        candidate: the file.
        encoder: makes the descriptor.
        extractor: finds the keypoints; None: none.
        by_content: content hash → id of a row whose descriptor can be used again.
    """
    try:
        data = photos.read_bytes(candidate.path)
        content = photos.content_hash(data)
        if (known := by_content.get(content)) is not None:
            return KnownContent(candidate, content, known)
        long_side = max(encoder.long_side, extractor.long_side if extractor else 0)
        photo = photos.decode(data, path=candidate.path, at_least=long_side)
        del data
        descriptor = encoder.encode([encoder.prepare(photo.pixels)])[0]
        packed = None
        if extractor is not None:
            packed = extractor.extract(photo.pixels, photo.width, photo.height).pack()
    except (PhotoError, EncoderError) as error:
        return Unreadable(candidate, getattr(error, "reason", str(error)))
    stored = descriptor.astype(np.float16)
    row = {
        "content": content,
        "format": photo.format,
        "width": photo.width,
        "height": photo.height,
        "taken": photo.taken,
        "perceptual_hash": photos.perceptual_hash(photo.pixels),
        "descriptor": stored,
        "checksum": checksum(stored),
        "thumbnail": photos.thumbnail(photo.pixels),
        "problem": None,
    }
    return Described(candidate, row, packed)


def checksum(descriptor: NDArray[np.float16]) -> int:
    """Return the CRC-32 of a stored descriptor, (d,) float16, as `veduta check` compares it."""
    return zlib.crc32(descriptor.astype("<f2").tobytes())
