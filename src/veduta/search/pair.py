"""Two photos by themselves: do they show the same place or object, and on what evidence?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder
from veduta.index.calibration import calibration_of, has_own_calibration, probability
from veduta.keypoints import Extractor, Keypoints, Verification, draw_matches, overlap, verify
from veduta.search.hit import Polygon, polygon
from veduta.search.query import PhotoSource, photo_name, read_photo
from veduta.search.verdict import reason_for, verdict_on

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PICTURE_SIDE", "Match", "compare"]

PICTURE_SIDE = 800
"""Long side in pixels to which a photo is decoded for a picture of matches."""


@dataclass(frozen=True, slots=True)
class Match:
    """What two photos have in common.

    Attributes:
        verdict: "same place", "unsure" or "different", see `veduta.search.verdict`.
        reason: what decides the verdict, in a few words.
        probability: that both show the same place or object, in [0, 1], by the similarity and the
            matches. None: it is not known.
        similarity: cosine similarity of their descriptors, in [-1, 1].
        inliers: how many matches of keypoints agree on one geometric model.
        matches: the number of matches.
        model: "homography" or "fundamental". None: too few matches agree.
        spread: the share of the photos that the inliers cover, in [0, 1]
            (`veduta.keypoints.Verification.inlier_coverage`).
        regions: corners of the region that both photos show, in pixels of the first and of the
            second upright photo. None without a model.
        notes: sentences on evidence that is missing.
    """

    verdict: str
    reason: str
    probability: float | None
    similarity: float
    inliers: int
    matches: int
    model: str | None
    spread: float
    regions: tuple[Polygon, Polygon] | None
    notes: tuple[str, ...]
    _photos: tuple[_EncodedPhoto, _EncodedPhoto] = field(repr=False, compare=False)
    _verification: Verification = field(repr=False, compare=False)
    _pairs: NDArray[np.intp] = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the match as JSON types."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "probability": None if self.probability is None else round(self.probability, 6),
            "similarity": round(self.similarity, 6),
            "inliers": self.inliers,
            "matches": self.matches,
            "model": self.model,
            "spread": round(self.spread, 3),
            "regions": self.regions,
            "notes": self.notes,
        }

    def picture(self, width: int = 1600) -> Image.Image:
        """Draw both photos with their matches and the region that both show.

        Args:
            width: the largest width of the picture in pixels, at least 200.
        """
        a, b = self._photos
        return draw_matches(
            a.pixels,
            b.pixels,
            a.keypoints,
            b.keypoints,
            self._verification,
            matches=self._pairs,
            width=width,
        )


@dataclass(frozen=True, slots=True)
class _EncodedPhoto:
    """One of the two photos, and what it is compared by."""

    name: str
    pixels: NDArray[np.uint8]
    keypoints: Keypoints
    descriptor: NDArray[np.float32]


def compare(a: PhotoSource, b: PhotoSource, encoder: Encoder, extractor: Extractor) -> Match:
    """Compare two photos.

    The probability is that of `Calibration.pair_logit`: it depends on how far the similarity of the
    descriptors stands out, and on the geometry on which the keypoints agree. It is known for
    encoders and keypoints on which a calibration was fitted. For others geometry alone decides.

    Args:
        a: a path or an (H, W, 3) uint8 RGB array, upright.
        b: the other photo.
        encoder: makes the descriptors.
        extractor: finds and matches the keypoints.

    Raises:
        PhotoError: a photo cannot be read.
        QueryError: an array is not a photo.
    """
    photos = (
        _encoded(a, "the first photo", encoder, extractor),
        _encoded(b, "the second photo", encoder, extractor),
    )
    keypoints = photos[0].keypoints, photos[1].keypoints
    similarity = float(photos[0].descriptor @ photos[1].descriptor)
    pairs = extractor.matching.pairs(*keypoints)
    verification = verify(*keypoints, pairs)
    likelihood, note = _probability(similarity, verification, encoder, extractor)
    featureless = dict.fromkeys(photo.name for photo in photos if not len(photo.keypoints))
    notes = [f"There are no keypoints in {name}." for name in featureless]
    shared = overlap(*keypoints, verification)
    judged = (likelihood, verification.model, verification.inlier_coverage)
    return Match(
        verdict=verdict_on(*judged),
        reason=reason_for(*judged),
        probability=likelihood,
        similarity=similarity,
        inliers=len(verification.inliers),
        matches=verification.matches,
        model=verification.model,
        spread=verification.inlier_coverage,
        regions=(polygon(shared[0]), polygon(shared[1])) if shared else None,
        notes=(*notes, note) if note else tuple(notes),
        _photos=photos,
        _verification=verification,
        _pairs=pairs,
    )


def _encoded(
    photo: PhotoSource, default_name: str, encoder: Encoder, extractor: Extractor
) -> _EncodedPhoto:
    read = read_photo(photo, max(encoder.long_side, extractor.long_side, PICTURE_SIDE))
    return _EncodedPhoto(
        photo_name(photo, default_name),
        read.pixels,
        extractor.extract(read.pixels, read.width, read.height),
        encoder.encode([encoder.prepare(read.pixels)])[0],
    )


def _probability(
    similarity: float, verification: Verification, encoder: Encoder, extractor: Extractor
) -> tuple[float | None, str | None]:
    """Return the probability that both photos show the same; or None, and a note that says why.

    The generic calibration does not help here. It needs the similarities that are usual for the
    encoder, which a search takes from its collection.
    """
    calibration = calibration_of(encoder.identity, extractor.calibration)
    if not calibration.geometry_is_calibrated:
        unknown = f"{extractor.name} keypoints"
    elif not has_own_calibration(encoder.identity):
        unknown = f"encoder '{encoder.name}'"
    else:
        background = calibration.background
        logit = calibration.pair_logit(
            np.array((similarity - background.mean) / background.std),
            np.array(float(verification.consistent_matches)),
        )
        return float(probability(logit)), None
    return None, f"No probability is known for {unknown}: geometry alone decides."
