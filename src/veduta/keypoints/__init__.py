"""Photo → keypoints: places in a photo that other photos of the same thing show too.

`load_extractor` opens an extractor by its name (XFeat, SIFT, ORB, SURF). `Extractor.extract` finds
the `Keypoints` of a photo, and `Keypoints.pack` makes about 37 kB of them for storage.
`Extractor.matching` matches the keypoints of two photos, `verify` looks for the geometric model on
which the matches agree, `overlap` returns the regions that the matches cover, and `draw_matches`
draws them. `draw_keypoints` draws the keypoints of one photo. `extract_reduced` finds those of a
photo at half its size.
"""

from veduta.keypoints.drawing import draw_matches
from veduta.keypoints.features import Keypoints
from veduta.keypoints.keypoint_picture import draw_keypoints
from veduta.keypoints.loading import (
    DEFAULT_KEYPOINTS,
    KINDS,
    Extractor,
    extractor_class,
    keypoints_option,
    load_extractor,
)
from veduta.keypoints.matching import Matching, MutualMatching, RatioMatching, mutual, ratio
from veduta.keypoints.reduced import extract_reduced
from veduta.keypoints.regions import overlap
from veduta.keypoints.verification import (
    MIN_FUNDAMENTAL_GAIN,
    MIN_INLIERS,
    Verification,
    agrees_with_any,
    verify,
    verify_many,
)

__all__ = [
    "DEFAULT_KEYPOINTS",
    "KINDS",
    "MIN_FUNDAMENTAL_GAIN",
    "MIN_INLIERS",
    "Extractor",
    "Keypoints",
    "Matching",
    "MutualMatching",
    "RatioMatching",
    "Verification",
    "agrees_with_any",
    "draw_keypoints",
    "draw_matches",
    "extract_reduced",
    "extractor_class",
    "keypoints_option",
    "load_extractor",
    "mutual",
    "overlap",
    "ratio",
    "verify",
    "verify_many",
]
