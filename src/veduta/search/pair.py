"""Two photos by themselves: do they show the same place or object, and on what evidence?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder
from veduta.index.calibration import calibration_of, has_own_calibration, probability
from veduta.keypoints import Extractor, Keypoints, Verification, draw_matches, overlap, verify
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.hit import Polygon, polygon
from veduta.search.options import check_orientation
from veduta.search.query import Box, EncodedQuery, PhotoSource, photo_name, read_photo
from veduta.search.query_views import QueryViews
from veduta.search.same_pictures import Picture, same_pictures
from veduta.search.verdict import SAME_PLACE, reason_for, verdict_on

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
            second photo as they were given, upright by their Exif. None without a model.
        notes: sentences on evidence that is missing.
        orientation: how the first photo was turned to be compared with the second. In JSON it is
            the name of the orientation, one of `veduta.search.ORIENTATIONS`.
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
    orientation: Orientation
    _corner: tuple[int, int] = field(repr=False, compare=False)
    _pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]] = field(repr=False, compare=False)
    _keypoints: tuple[Keypoints, Keypoints] = field(repr=False, compare=False)
    _verification: Verification = field(repr=False, compare=False)
    _pairs: NDArray[np.intp] = field(repr=False, compare=False)

    @property
    def geometry(self) -> str:
        """On what the keypoints agree, such as "94 of 120 matches agree on a homography"."""
        if not self.matches:
            return "no keypoints match"
        agree = f"{self.inliers} of {self.matches} matches agree"
        if self.model is None:
            return f"{agree}, too few for a model"
        model = "fundamental matrix" if self.model == "fundamental" else self.model
        return f"{agree} on a {model}, over {self.spread:.0%} of the photos"

    @property
    def is_copy(self) -> bool:
        """Whether both are the same picture, such as a file and the same photo saved again."""
        return bool(same_pictures([Picture.of(one) for one in self._pixels], _no_thumbnails)[1])

    @property
    def lines(self) -> list[tuple[float, float, float, float]]:
        """The matches that agree on the model.

        x, y in the first and x, y in the second photo, in pixels of the photos as they were given,
        upright by their Exif. Empty without a model.
        """
        if self.model is None:
            return []
        inliers = self._verification.inliers
        first, second = self._keypoints
        query = EncodedQuery(
            np.empty(0, np.float32), corner=self._corner, orientation=self.orientation
        )
        given = query.in_given_photo(first.xy[inliers[:, 0]], first)
        points = np.concatenate([given, second.xy[inliers[:, 1]]], axis=1)
        return [(x, y, u, v) for x, y, u, v in points.astype(float).round(1).tolist()]

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
            "orientation": self.orientation.name,
            "is_copy": self.is_copy,
        }

    def picture(self, width: int = 1600) -> Image.Image:
        """Draw both photos with their matches and the region that both show.

        Of a photo that was compared with its `crop` alone, this region is drawn.

        Args:
            width: the largest width of the picture in pixels, at least 200.
        """
        return draw_matches(
            *self._pixels,
            *self._keypoints,
            self._verification,
            matches=self._pairs,
            width=width,
            note=f"first photo {self.orientation.words}" if self.orientation.is_turned else "",
        )


def compare(
    a: PhotoSource,
    b: PhotoSource,
    encoder: Encoder,
    extractor: Extractor,
    *,
    crop: Box | None = None,
    orientation: str = "auto",
) -> Match:
    """Compare two photos.

    The probability is that of `Calibration.pair_logit`: it depends on how far the similarity of the
    descriptors stands out, and on the geometry on which the keypoints agree. It is known for
    encoders and keypoints on which a calibration was fitted. For others geometry alone decides.

    Args:
        a: a path or an (H, W, 3) uint8 RGB array, upright.
        b: the other photo.
        encoder: makes the descriptors.
        extractor: finds and matches the keypoints.
        crop: compare only this region of the first photo: x, y, width, height in pixels of the
            upright photo.
        orientation: one of `veduta.search.ORIENTATIONS`: how the first photo is turned. If the
            verdict on it as it is is not "same place", `"auto"` tries others, and takes one that
            has this verdict.

    Raises:
        PhotoError: a photo cannot be read.
        QueryError: an array is not a photo, the region is not within the photo, or the orientation
            is unknown.
    """
    check_orientation(orientation)
    at_least = max(encoder.long_side, extractor.long_side, PICTURE_SIDE)
    photos = read_photo(a, at_least, crop), read_photo(b, at_least)
    corner = crop[:2] if crop else (0, 0)
    views = QueryViews(lambda: [photos[0]], encoder, extractor, corner=corner)
    other = QueryViews(lambda: [photos[1]], encoder, extractor).encoded(UPRIGHT)
    names = photo_name(a, "the first photo"), photo_name(b, "the second photo")

    def similarity(turn: Orientation) -> float:
        return float(views.descriptor(turn) @ other.descriptor)

    def attempt(turn: Orientation) -> Attempt[Match]:
        query = views.encoded(turn)
        keypoints = query.keypoints[0], other.keypoints[0]
        pairs = extractor.matching.pairs(*keypoints)
        verification = verify(*keypoints, pairs)
        likelihood, note = _probability(similarity(turn), verification, encoder, extractor)
        featureless = [name for name, found in zip(names, keypoints, strict=True) if not len(found)]
        notes = [f"There are no keypoints in {name}." for name in dict.fromkeys(featureless)]
        shared = overlap(*keypoints, verification)
        regions = None
        if shared is not None:
            given = query.in_given_photo(shared[0], keypoints[0])
            regions = polygon(given), polygon(shared[1])
        judged = (likelihood, verification.model, verification.inlier_coverage)
        match = Match(
            verdict=verdict_on(*judged),
            reason=reason_for(*judged),
            probability=likelihood,
            similarity=similarity(turn),
            inliers=len(verification.inliers),
            matches=verification.matches,
            model=verification.model,
            spread=verification.inlier_coverage,
            regions=regions,
            notes=(*notes, note) if note else tuple(notes),
            orientation=turn,
            _corner=corner,
            _pixels=(photos[0].turned(turn).pixels, photos[1].pixels),
            _keypoints=keypoints,
            _verification=verification,
            _pairs=pairs,
        )
        return Attempt(match, convincing=match.verdict == SAME_PLACE)

    # Two photos alone are too few to see by their similarity which way is up.
    return best_attempt(orientation, attempt, similarity, verified=True, min_gain=math.inf)


def _no_thumbnails(_ids: Sequence[int]) -> list[bytes]:
    return []


def _probability(
    similarity: float, verification: Verification, encoder: Encoder, extractor: Extractor
) -> tuple[float | None, str | None]:
    """Return the probability that both photos show the same; or None, and a note that says why.

    The generic calibration does not help here. It needs the similarities that are usual for the
    encoder, which a search takes from its collection.
    """
    calibration = calibration_of(encoder.identity, extractor.calibration, extractor.count)
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
