"""One file on its way into the index: from its bytes to its descriptor and keypoints."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from veduta import photos
from veduta.encoders import Encoder
from veduta.encoders.region_codes import codes_of
from veduta.encoders.region_descriptors import RegionEncoder
from veduta.errors import EncoderError, PhotoError, PhotoUnreadable
from veduta.index import region_codes
from veduta.index.columns import EncodedPhoto, exif_values, photo_values
from veduta.index.decoding_turns import Turn, Turns
from veduta.keypoints import Extractor


@dataclass(frozen=True, slots=True)
class Described:
    """A file that was read and encoded.

    Attributes:
        candidate: the file.
        row: the values of the columns that are computed from the photo.
        keypoints: packed; None if the index stores none.
        regions: the codes of its regions, packed; None if the index stores none.
    """

    candidate: photos.Candidate
    row: dict[str, Any]
    keypoints: bytes | None = None
    regions: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownContent:
    """A file with the content of a row: a copy, a moved file, or one with a new time only.

    Attributes:
        candidate: the file.
        content: its content hash.
        id: of the row with the same content.
        exif: the values of the columns of Exif data, if they were read again.
    """

    candidate: photos.Candidate
    content: bytes
    id: int
    exif: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file whose bytes give no photo. The index stores that, until the file changes.

    Attributes:
        candidate: the file.
        reason: why, in a few words.
    """

    candidate: photos.Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class NotRead:
    """A file that was not read or encoded now, for a reason that is not in its bytes.

    Nothing is stored, so the next update tries again. A photo that the index has keeps its row.

    Attributes:
        candidate: the file.
        error: why.
    """

    candidate: photos.Candidate
    error: PhotoUnreadable | EncoderError | MemoryError

    @property
    def reason(self) -> str:
        """Why, in a few words."""
        if isinstance(self.error, PhotoUnreadable):
            return self.error.reason
        return str(self.error) or "there is not enough memory now"


@dataclass(frozen=True, slots=True)
class KnownElsewhere:
    """A file with the content of a photo that another index has. Nothing is stored.

    Attributes:
        candidate: the file.
    """

    candidate: photos.Candidate


StoredOutcome = Described | KnownContent | Unreadable
Outcome = StoredOutcome | NotRead | KnownElsewhere


def describe_file(
    candidate: photos.Candidate,
    encoder: Encoder,
    extractor: Extractor | None,
    id_of_content: Mapping[bytes, int],
    *,
    region_encoder: RegionEncoder | None = None,
    accept_truncated: bool = False,
    reread: bool = False,
    decoding: Turns | None = None,
    known_elsewhere: Container[bytes] = (),
) -> Outcome:
    """Read one file and compute its descriptor and keypoints. Worker threads run this.

    Args:
        candidate: the file.
        encoder: makes the descriptor.
        extractor: finds the keypoints; None for none.
        id_of_content: content hash → id of a row whose descriptor can be used again.
        region_encoder: describes the regions of the photo too; None for none.
        accept_truncated: use a photo that is cut short if most of it is there.
        reread: read the Exif data of known content again.
        decoding: the turns of the threads that decode; None: all threads may decode at once.
        known_elsewhere: content hashes of photos that another index has.

    Returns:
        The outcome.
    """
    with Turn(decoding) as turn:
        try:
            data = photos.read_bytes(candidate.path)
            content = photos.content_hash(data)
            if (row_id := id_of_content.get(content)) is not None:
                exif = _exif_again(data, candidate) if reread else {}
                return KnownContent(candidate, content, row_id, exif)
            if content in known_elsewhere:
                return KnownElsewhere(candidate)
            long_side = max(encoder.long_side, extractor.long_side if extractor else 0)
            photo = photos.decode(
                data, path=candidate.path, at_least=long_side, accept_truncated=accept_truncated
            )
            del data
            prepared = encoder.prepare(photo.pixels)
            turn.end_if_small(photo.pixels.nbytes)
            regions = None
            if region_encoder is None:
                descriptor = encoder.encode([prepared])[0].astype(np.float16)
            else:
                of_photo, of_regions = region_encoder.describe(prepared)
                descriptor = of_photo.astype(np.float16)
                regions = region_codes.pack(codes_of(of_regions))
            if not np.isfinite(descriptor).all():
                raise EncoderError(
                    "the encoder gave a descriptor with infinite or undefined numbers"
                )
            keypoints = None
            if extractor is not None:
                keypoints = extractor.extract(photo.pixels, photo.width, photo.height).pack(
                    extractor.stored_bits
                )
        except (PhotoUnreadable, EncoderError, MemoryError) as error:
            return NotRead(candidate, error)
        except PhotoError as error:
            return Unreadable(candidate, error.reason)
        row = photo_values(EncodedPhoto(content, photo, descriptor))
        return Described(candidate, row, keypoints, regions)


def _exif_again(data: bytes, candidate: photos.Candidate) -> dict[str, Any]:
    """Return the values of the columns of Exif data of a photo that the index has."""
    try:
        photo = photos.decode(data, path=candidate.path, at_least=1, accept_truncated=True)
    except PhotoError:  # Decoders may be missing now. What the index has stays.
        return {}
    return exif_values(photo)
