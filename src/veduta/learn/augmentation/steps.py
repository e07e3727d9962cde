"""Steps from recipes and command lines, checked against the catalogue. Does not need torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from veduta.errors import RecipeError
from veduta.learn.augmentation.catalogue import FLIPS, WORDS, Word
from veduta.text import did_you_mean

__all__ = ["REPORTED", "Step", "parse_steps", "read_steps"]

REPORTED: tuple[Mapping[str, Any], ...] = (
    {"rotation": 40},
    {"shift": 0.2},
    {"shear": 20},
    {"zoom": 0.2},
    {"flip": "horizontal"},
)
"""The augmentation of the image search competition's report, which makes five copies of a photo."""

_PROBABILITY = "probability"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an augmentation.

    Attributes:
        word: the transform.
        value: its strength, or the direction of a flip.
        probability: of a photo to be changed.
    """

    word: Word
    value: float | str
    probability: float

    @property
    def text(self) -> str:
        """The step as on a command line."""
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.word.name}={value}"

    def as_json(self) -> dict[str, Any]:
        """Return the step as a table of a recipe."""
        return {self.word.name: self.value, _PROBABILITY: self.probability}


def read_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Check the tables of a recipe's `augment`.

    Args:
        steps: tables of one word and its value, and perhaps a probability.

    Returns:
        The steps in their order.

    Raises:
        RecipeError: a table does not have exactly one word; there is no such word (a similar one is
            named); or a value is out of range (which is named).
    """
    return tuple(_step(step, f"augment.{number}") for number, step in enumerate(steps))


def parse_steps(text: str) -> list[dict[str, Any]]:
    """Read steps from a command line: "rotation=40,flip=horizontal@0.3,grey".

    A word without a value gets its usual one. The probability follows after `@`. `read_steps`
    checks the words and values.

    Args:
        text: the steps, with commas between them.

    Returns:
        The tables for `read_steps`.

    Raises:
        RecipeError: a step is empty, or a value or probability is missing after its sign.
    """
    steps = []
    for part in text.split(","):
        word, at_sign, probability = part.strip().partition("@")
        name, equals_sign, value = (piece.strip() for piece in word.partition("="))
        if not name or (equals_sign and not value) or (at_sign and not probability.strip()):
            raise RecipeError(
                f"--steps: {part.strip()!r} is not a step; expected WORD, WORD=VALUE or "
                "WORD=VALUE@PROBABILITY, with commas between steps"
            )
        step: dict[str, Any] = {name: _number_or_text(value) if equals_sign else True}
        if at_sign:
            step[_PROBABILITY] = _number_or_text(probability.strip())
        steps.append(step)
    return steps


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _step(step: Mapping[str, Any], place: str) -> Step:
    if not isinstance(step, Mapping):
        raise RecipeError(f"{place}: expected a table such as {{rotation = 40}}, not {step!r}")
    names = [name for name in step if name != _PROBABILITY]
    for name in names:
        if name not in WORDS:
            advice = did_you_mean(str(name), WORDS) or f"known are {', '.join(WORDS)}"
            raise RecipeError(f"{place}: unknown augmentation {str(name)!r}; {advice}")
    if len(names) != 1:
        found = " and ".join(names) or "none"
        raise RecipeError(
            f"{place}: expected one word in each table, such as {{rotation = 40}}, and perhaps "
            f"{_PROBABILITY}; found {found}"
        )
    word = WORDS[names[0]]
    value = _value(word, step[word.name], f"{place}.{word.name}")
    probability = step.get(_PROBABILITY, word.probability)
    if not _is_number(probability) or not 0 <= probability <= 1:
        raise RecipeError(
            f"{place}.{_PROBABILITY}: expected a number from 0 to 1, not {_as_text(probability)}"
        )
    return Step(word, value, float(probability))


def _value(word: Word, value: Any, place: str) -> float | str:
    if value is True:
        return word.default
    if word.name == "flip":
        if value not in FLIPS:
            raise RecipeError(f"{place}: expected one of {', '.join(FLIPS)}, not {_as_text(value)}")
        return str(value)
    if not _is_number(value) or not word.low <= value <= word.high:
        raise RecipeError(
            f"{place}: expected a number from {word.low:g} to {word.high:g} ({word.unit}), "
            f"not {_as_text(value)}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
