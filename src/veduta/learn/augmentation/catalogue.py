"""The words: what each does to a photo, the values it takes, and which report had it.

Strengths are shares of the photo's sides, so that a word does the same to a photo of any size: a
blur of 0.02 spans 5 pixels where the shorter side has 256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["FLIPS", "KINDS", "WORDS", "Word", "as_json", "named"]

FLIPS = ("horizontal", "vertical", "both")
"""`both`: each direction by its own chance."""

_MONUMENTS, _CAPSTONE = "monument pair report", "landmark capstone"
_CHALLENGE, _COMPETITION = "retrieval challenge", "image search competition"
_AML = "AML report"

_SIDE, _SHORT = "share of the side", "share of the shorter side"


@dataclass(frozen=True, slots=True)
class Word:
    """One transform.

    `drawn`: how each photo's strength follows from the value: "both ways" (evenly from -value to
    value), "up to" (evenly from 0 to value), "exactly". `low`, `high`: the range of the value, in
    `unit`; a flip has `FLIPS` instead. `probability`: of a photo to be changed, where a step says
    none: 1 where small strengths leave the photo what it is, else 0.5. `source`: the reports.
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
        """The values that the word takes, as text."""
        return ", ".join(FLIPS) if self.name == "flip" else f"{self.low:g} to {self.high:g}"


KINDS = ("geometry", "colour", "noise", "blur", "morphology", "edges", "framing")

_TABLE = (
    Word(
        "rotation",
        "geometry",
        "turned",
        "degrees",
        0,
        180,
        40.0,
        "both ways",
        1,
        (_CAPSTONE, _COMPETITION),
    ),
    Word(
        "shift",
        "geometry",
        "moved, across and down by its own draw each",
        _SIDE,
        0,
        1,
        0.2,
        "both ways",
        1,
        (_MONUMENTS, _COMPETITION),
    ),
    Word(
        "shear",
        "geometry",
        "sheared: level lines slope, as Keras does it",
        "degrees",
        0,
        80,
        20.0,
        "both ways",
        1,
        (_MONUMENTS, _COMPETITION),
    ),
    Word(
        "zoom",
        "geometry",
        "stretched, width and height by its own draw each",
        _SIDE,
        0,
        0.9,
        0.2,
        "both ways",
        1,
        (_MONUMENTS, _CAPSTONE, _COMPETITION),
    ),
    Word(
        "flip",
        "geometry",
        "mirrored",
        "direction",
        0,
        0,
        "horizontal",
        "exactly",
        0.5,
        (_CAPSTONE, _COMPETITION, _AML),
    ),
    Word(
        "brightness",
        "colour",
        "all values multiplied by 1 + strength",
        "share",
        0,
        1,
        0.2,
        "both ways",
        1,
        (_MONUMENTS,),
    ),
    Word(
        "light",
        "colour",
        "strength × white added to all values",
        "share of white",
        0,
        1,
        0.2,
        "both ways",
        1,
        (_AML,),
    ),
    Word(
        "contrast",
        "colour",
        "distance from the mean grey multiplied by 1 + strength",
        "share",
        0,
        1,
        0.4,
        "both ways",
        1,
        (_AML,),
    ),
    Word(
        "saturation",
        "colour",
        "distance from grey multiplied by 1 + strength",
        "share",
        0,
        1,
        0.5,
        "both ways",
        1,
        (_AML,),
    ),
    Word(
        "sharpness",
        "colour",
        "distance from a smoothed photo multiplied by 1 + strength",
        "share",
        0,
        1,
        1.0,
        "both ways",
        1,
        (_AML,),
    ),
    Word(
        "grey",
        "colour",
        "so much of the colour taken away",
        "share",
        0,
        1,
        1.0,
        "exactly",
        0.5,
        (_AML,),
    ),
    Word(
        "gaussian-noise",
        "noise",
        "normal noise of that standard deviation added",
        "share of white",
        0,
        1,
        0.1,
        "up to",
        0.5,
        (_CHALLENGE, _AML),
    ),
    Word(
        "salt-and-pepper",
        "noise",
        "pixels made white or black",
        "share of the pixels",
        0,
        1,
        0.05,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "pepper",
        "noise",
        "pixels made black",
        "share of the pixels",
        0,
        1,
        0.05,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "paper-noise",
        "noise",
        "the texture of paper multiplied on",
        "share",
        0,
        1,
        0.5,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "average-blur",
        "blur",
        "mean of a square of that side",
        _SHORT,
        0,
        0.1,
        0.03,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "median-blur",
        "blur",
        "median of a square of that side",
        _SHORT,
        0,
        0.1,
        0.03,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "gaussian-blur",
        "blur",
        "Gaussian of that standard deviation",
        _SHORT,
        0,
        0.1,
        0.01,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "bilateral-blur",
        "blur",
        "blur of that diameter that keeps edges",
        _SHORT,
        0,
        0.05,
        0.04,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "black-hat",
        "morphology",
        "dark details alone: closing less photo",
        _SHORT,
        0,
        0.1,
        0.06,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "top-hat",
        "morphology",
        "bright details alone: photo less opening",
        _SHORT,
        0,
        0.1,
        0.06,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "erosion",
        "morphology",
        "darkest value of a square of that side",
        _SHORT,
        0,
        0.1,
        0.02,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "dilation",
        "morphology",
        "brightest value of a square of that side",
        _SHORT,
        0,
        0.1,
        0.02,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "opening",
        "morphology",
        "erosion, then dilation",
        _SHORT,
        0,
        0.1,
        0.03,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "gradient",
        "morphology",
        "outlines alone: dilation less erosion",
        _SHORT,
        0,
        0.1,
        0.02,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "canny",
        "edges",
        "Canny's edges drawn on in white, that opaque",
        "share",
        0,
        1,
        0.8,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "edges",
        "edges",
        "the slope of the brightness (Sobel) added",
        "share",
        0,
        1,
        0.8,
        "up to",
        0.5,
        (_AML,),
    ),
    Word(
        "crop",
        "framing",
        "a part somewhere, enlarged; the strength is cut away",
        _SIDE,
        0,
        0.9,
        0.3,
        "up to",
        1,
        (_AML,),
    ),
    Word(
        "pad",
        "framing",
        "a black border of that width on all sides",
        _SIDE,
        0,
        1,
        0.15,
        "up to",
        1,
        (_AML,),
    ),
    Word(
        "resize",
        "framing",
        "made smaller by that and large again: detail lost",
        _SIDE,
        0,
        0.95,
        0.75,
        "up to",
        1,
        (_AML,),
    ),
    Word(
        "superpixels",
        "framing",
        "patches of one colour (SLIC), about so many; slow",
        "patches",
        2,
        5000,
        300.0,
        "exactly",
        0.5,
        (_AML,),
    ),
)

WORDS = {word.name: word for word in _TABLE}
"""Name → word, those of a kind together."""


def named(kind: str) -> list[Word]:
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
