"""The words of augmentation: what each does to a photo, its values, and the reports that use it.

Strengths are shares of the photo's sides, so a word has the same effect on photos of any size: a
blur of 0.02 spans 5 pixels if the shorter side has 256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["FLIPS", "KINDS", "WORDS", "Word", "as_json", "words_of"]

FLIPS = ("horizontal", "vertical", "both")
"""`both`: each direction with its own draw."""

_MONUMENTS, _CAPSTONE = "monument pair report", "landmark capstone"
_CHALLENGE, _COMPETITION = "retrieval challenge", "image search competition"
_AML = "AML report"

_OF_SIDE, _OF_SHORTER_SIDE = "share of the side", "share of the shorter side"


@dataclass(frozen=True, slots=True)
class Word:
    """One transform of photos.

    Attributes:
        name: as in recipes and on the command line.
        kind: one of `KINDS`.
        about: what it does.
        unit: of its value.
        low: the smallest value.
        high: the largest value. A flip has one of `FLIPS` instead of a number.
        default: the usual value.
        drawn: how the strength for a photo follows from the value: "both ways" (uniform from -value
            to value), "up to" (uniform from 0 to value), or "exactly".
        probability: of a photo to be changed, if a step names none: 1 if small strengths change
            little, else 0.5.
        source: the reports that use it.
    """

    name: str
    kind: str
    about: str
    unit: str
    low: float
    high: float
    default: float | str
    drawn: Literal["both ways", "up to", "exactly"]
    probability: float
    source: tuple[str, ...]

    @property
    def range(self) -> str:
        """The possible values, as text."""
        return ", ".join(FLIPS) if self.name == "flip" else f"{self.low:g} to {self.high:g}"


KINDS = ("geometry", "colour", "noise", "blur", "morphology", "edges", "framing")

_TABLE = (
    Word(
        name="rotation",
        kind="geometry",
        about="turns the photo",
        unit="degrees",
        low=0,
        high=180,
        default=40.0,
        drawn="both ways",
        probability=1,
        source=(_CAPSTONE, _COMPETITION),
    ),
    Word(
        name="shift",
        kind="geometry",
        about="moves the photo, with separate draws for both directions",
        unit=_OF_SIDE,
        low=0,
        high=1,
        default=0.2,
        drawn="both ways",
        probability=1,
        source=(_MONUMENTS, _COMPETITION),
    ),
    Word(
        name="shear",
        kind="geometry",
        about="shears the photo: horizontal lines tilt, as in Keras",
        unit="degrees",
        low=0,
        high=80,
        default=20.0,
        drawn="both ways",
        probability=1,
        source=(_MONUMENTS, _COMPETITION),
    ),
    Word(
        name="zoom",
        kind="geometry",
        about="stretches the photo, with separate draws for width and height",
        unit=_OF_SIDE,
        low=0,
        high=0.9,
        default=0.2,
        drawn="both ways",
        probability=1,
        source=(_MONUMENTS, _CAPSTONE, _COMPETITION),
    ),
    Word(
        name="flip",
        kind="geometry",
        about="mirrors the photo",
        unit="direction",
        low=0,
        high=0,
        default="horizontal",
        drawn="exactly",
        probability=0.5,
        source=(_CAPSTONE, _COMPETITION, _AML),
    ),
    Word(
        name="brightness",
        kind="colour",
        about="multiplies all values by 1 + strength",
        unit="share",
        low=0,
        high=1,
        default=0.2,
        drawn="both ways",
        probability=1,
        source=(_MONUMENTS,),
    ),
    Word(
        name="light",
        kind="colour",
        about="adds strength × white to all values",
        unit="share of white",
        low=0,
        high=1,
        default=0.2,
        drawn="both ways",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="contrast",
        kind="colour",
        about="multiplies the distance from the mean grey by 1 + strength",
        unit="share",
        low=0,
        high=1,
        default=0.4,
        drawn="both ways",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="saturation",
        kind="colour",
        about="multiplies the distance from grey by 1 + strength",
        unit="share",
        low=0,
        high=1,
        default=0.5,
        drawn="both ways",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="sharpness",
        kind="colour",
        about="multiplies the distance from a smoothed photo by 1 + strength",
        unit="share",
        low=0,
        high=1,
        default=1.0,
        drawn="both ways",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="grey",
        kind="colour",
        about="removes this share of the colour",
        unit="share",
        low=0,
        high=1,
        default=1.0,
        drawn="exactly",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="gaussian-noise",
        kind="noise",
        about="adds normal noise of this standard deviation",
        unit="share of white",
        low=0,
        high=1,
        default=0.1,
        drawn="up to",
        probability=0.5,
        source=(_CHALLENGE, _AML),
    ),
    Word(
        name="salt-and-pepper",
        kind="noise",
        about="makes pixels white or black",
        unit="share of the pixels",
        low=0,
        high=1,
        default=0.05,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="pepper",
        kind="noise",
        about="makes pixels black",
        unit="share of the pixels",
        low=0,
        high=1,
        default=0.05,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="paper-noise",
        kind="noise",
        about="darkens by the texture of paper",
        unit="share",
        low=0,
        high=1,
        default=0.5,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="average-blur",
        kind="blur",
        about="mean of a square of this side",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.03,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="median-blur",
        kind="blur",
        about="median of a square of this side",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.03,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="gaussian-blur",
        kind="blur",
        about="Gaussian of this standard deviation",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.01,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="bilateral-blur",
        kind="blur",
        about="blur of this diameter that keeps edges",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.05,
        default=0.04,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="black-hat",
        kind="morphology",
        about="only dark details: closing minus photo",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.06,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="top-hat",
        kind="morphology",
        about="only bright details: photo minus opening",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.06,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="erosion",
        kind="morphology",
        about="darkest value of a square of this side",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.02,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="dilation",
        kind="morphology",
        about="brightest value of a square of this side",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.02,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="opening",
        kind="morphology",
        about="erosion, then dilation",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.03,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="gradient",
        kind="morphology",
        about="only outlines: dilation minus erosion",
        unit=_OF_SHORTER_SIDE,
        low=0,
        high=0.1,
        default=0.02,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="canny",
        kind="edges",
        about="draws Canny's edges in white with this opacity",
        unit="share",
        low=0,
        high=1,
        default=0.8,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="edges",
        kind="edges",
        about="adds the slope of the brightness (Sobel)",
        unit="share",
        low=0,
        high=1,
        default=0.8,
        drawn="up to",
        probability=0.5,
        source=(_AML,),
    ),
    Word(
        name="crop",
        kind="framing",
        about="enlarges a part at a random place; the strength is cut off",
        unit=_OF_SIDE,
        low=0,
        high=0.9,
        default=0.3,
        drawn="up to",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="pad",
        kind="framing",
        about="adds a black border of this width on all sides",
        unit=_OF_SIDE,
        low=0,
        high=1,
        default=0.15,
        drawn="up to",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="resize",
        kind="framing",
        about="shrinks the photo by this share and enlarges it: loses detail",
        unit=_OF_SIDE,
        low=0,
        high=0.95,
        default=0.75,
        drawn="up to",
        probability=1,
        source=(_AML,),
    ),
    Word(
        name="superpixels",
        kind="framing",
        about="about this number of patches of one colour (SLIC); slow",
        unit="patches",
        low=2,
        high=5000,
        default=300.0,
        drawn="exactly",
        probability=0.5,
        source=(_AML,),
    ),
)

WORDS = {word.name: word for word in _TABLE}
"""Name → word. Words of a kind are neighbours."""


def words_of(kind: str) -> list[Word]:
    """Return the words of a kind, in order."""
    return [word for word in WORDS.values() if word.kind == kind]


def as_json() -> list[dict[str, Any]]:
    """Return the catalogue as JSON types."""
    return [
        {
            "word": word.name,
            "kind": word.kind,
            "about": word.about,
            "unit": word.unit,
            "values": list(FLIPS) if word.name == "flip" else [word.low, word.high],
            "default": word.default,
            "drawn": word.drawn,
            "probability": word.probability,
            "source": list(word.source),
        }
        for word in WORDS.values()
    ]
