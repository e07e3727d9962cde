"""Two photos by themselves: do they show the same place or object, and on what evidence?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder
from veduta.errors import readable
from veduta.index.calibration import GENERIC, Calibration, calibration_of, probability
from veduta.keypoints import (
    Extractor,
    Keypoints,
    Verification,
    draw_matches,
    mutual,
    overlap,
    ratio,
    verify,
)
from veduta.search.hit import Polygon, polygon
from veduta.search.query import PhotoSource, read_photo
from veduta.search.verdict import verdict_on

if TYPE_CHECKING:
    from PIL import Image

_CALIBRATED = "xfeat"  # the keypoints whose inliers `veduta.index.calibration` was fitted on
PICTURE_SIDE = 800
"""Long side in pixels to which a photo is decoded for a picture of matches."""


@dataclass(frozen=True, slots=True)
class Match:
    """What two photos have in common.

    Attributes:
        verdict: "same place", "unsure" or "different", see `veduta.search.verdict`.
        probability: that both show the same place or object, in [0, 1]; None where none is known.
        similarity: cosine similarity of their descriptors, in [-1, 1].
        inliers: matches of keypoints that agree on one geometric model.
        matches: how many matches there were to agree.
        model: "homography" or "fundamental"; None: too few agree.
        spread: [0, 1], how much of the photos the inliers cover.
        regions: corners of what both show, in pixels of the first and of the second upright photo;
            None without a model.
        notes: sentences on what the verdict could not rest on.
    """

    verdict: str
    probability: float | None
    similarity: float
    inliers: int
    matches: int
    model: str | None
    spread: float
    regions: tuple[Polygon, Polygon] | None
    notes: tuple[str, ...]
    _looks: tuple[_Look, _Look] = field(repr=False, compare=False)
    _verification: Verification = field(repr=False, compare=False)
    _pairs: NDArray[np.intp] = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the match as JSON types."""
        return {
            "verdict": self.verdict,
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
            width: pixels, at most; at least 200.
        """
        a, b = self._looks
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
class _Look:
    """One photo as it is compared."""

    name: str
    pixels: NDArray[np.uint8]
    keypoints: Keypoints
    descriptor: NDArray[np.float32]


def compare(a: PhotoSource, b: PhotoSource, encoder: Encoder, extractor: Extractor) -> Match:
    """Compare two photos.

    The probability is that of `Calibration.pair_logit`: how far the similarity of the descriptors
    stands out, and the geometry that the keypoints agree on. It is known for XFeat keypoints and
    for encoders that a calibration was fitted for; otherwise geometry alone decides.

    Args:
        a, b: paths or (H, W, 3) uint8 RGB arrays, upright.
        encoder: makes the descriptors.
        extractor: finds the keypoints.

    Raises:
        PhotoError: a photo cannot be read.
        QueryError: an array is no photo.
    """
    looks = (
        _look(a, "the first photo", encoder, extractor),
        _look(b, "the second photo", encoder, extractor),
    )
    similarity = float(looks[0].descriptor @ looks[1].descriptor)
    pairs = _matched(looks[0].keypoints, looks[1].keypoints, extractor)
    found = verify(looks[0].keypoints, looks[1].keypoints, pairs)
    likely = None
    featureless = dict.fromkeys(look.name for look in looks if not len(look.keypoints))
    notes = [f"There are no keypoints in {name}." for name in featureless]
    calibration = _calibration(encoder)
    if extractor.name != _CALIBRATED:
        notes.append(
            f"No probability is known for {extractor.name} keypoints: geometry alone decides."
        )
    elif calibration is None:
        notes.append(
            f"No probability is known for encoder '{encoder.name}': geometry alone decides."
        )
    else:
        likely = _probability(calibration, similarity, found)
    shared = overlap(looks[0].keypoints, looks[1].keypoints, found)
    return Match(
        verdict=verdict_on(likely, found.model, found.spread),
        probability=likely,
        similarity=similarity,
        inliers=len(found.inliers),
        matches=found.matches,
        model=found.model,
        spread=found.spread,
        regions=(polygon(shared[0]), polygon(shared[1])) if shared else None,
        notes=tuple(notes),
        _looks=looks,
        _verification=found,
        _pairs=pairs,
    )


def _look(photo: PhotoSource, called: str, encoder: Encoder, extractor: Extractor) -> _Look:
    read = read_photo(photo, max(encoder.long_side, extractor.long_side, PICTURE_SIDE))
    return _Look(
        called if isinstance(photo, np.ndarray) else readable(photo),
        read.pixels,
        extractor.extract(read.pixels, read.width, read.height),
        encoder.encode([encoder.prepare(read.pixels)])[0],
    )


def _matched(a: Keypoints, b: Keypoints, extractor: Extractor) -> NDArray[np.intp]:
    """Match as suits the keypoints: a fixed least similarity is for XFeat descriptors only."""
    return mutual(a, b) if extractor.name == _CALIBRATED else ratio(a, b)


def _calibration(encoder: Encoder) -> Calibration | None:
    """Return the encoder's own calibration.

    Without a collection there is nothing to tell what similarity is usual for another encoder, so
    the generic one, which a search can use, says nothing here.
    """
    found = calibration_of(encoder.identity)
    return None if found is calibration_of(GENERIC) else found


def _probability(calibration: Calibration, similarity: float, found: Verification) -> float:
    background = calibration.background
    logit = calibration.pair_logit(
        np.array((similarity - background.mean) / background.spread),
        np.array(float(found.agreeing)),
    )
    return float(probability(logit))
