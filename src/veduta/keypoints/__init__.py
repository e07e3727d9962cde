"""Photo → keypoints: places in a photo that other photos of the same thing show too.

`load_extractor` opens a method by name (XFeat, SIFT, ORB, SURF); `Extractor.extract` gives the
`Keypoints` of a photo, which `pack` into about 35 kB for storage. `mutual` and `ratio` match the
keypoints of two photos, `verify` looks for the geometric model on which the matches agree,
`overlap` says which regions they cover, and `draw_matches` shows it.
"""

from veduta.keypoints.drawing import draw_matches
from veduta.keypoints.features import Keypoints
from veduta.keypoints.loading import KINDS, Extractor, load_extractor
from veduta.keypoints.matching import LEAST, mutual, mutual_many, ratio
from veduta.keypoints.regions import overlap
from veduta.keypoints.verification import CLEARLY_MORE, ENOUGH, Verification, verify, verify_many

__all__ = [
    "CLEARLY_MORE",
    "ENOUGH",
    "KINDS",
    "LEAST",
    "Extractor",
    "Keypoints",
    "Verification",
    "draw_matches",
    "load_extractor",
    "mutual",
    "mutual_many",
    "overlap",
    "ratio",
    "verify",
    "verify_many",
]
