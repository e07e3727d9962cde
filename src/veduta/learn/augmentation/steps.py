"""Steps as recipes and command lines write them, checked against the catalogue; without torch."""

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
"""What the image search competition's report does to its photos, five times each."""

_PROBABILITY = "probability"


@dataclass(frozen=True, slots=True)
class Step:
    """A word with its value, and the probability that a photo is changed by it."""

    word: Word
    value: float | str
    probability: float

    @property
    def text(self) -> str:
        """The step as a command line has it."""
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.word.name}={value}"

    def as_json(self) -> dict[str, Any]:
        """Return the step as a table of a recipe."""
        return {self.word.name: self.value, _PROBABILITY: self.probability}


def read_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Check the tables of a recipe's `augment`.

    Raises:
        RecipeError: a table has not one word; there is no such word (the nearest is named); a value
            is out of range (which is said).
    """
    return tuple(_step(step, f"augment.{place}") for place, step in enumerate(steps))


def parse_steps(text: str) -> list[dict[str, Any]]:
    """Read steps from a command line: "rotation=40,flip=horizontal@0.3,grey".

    A word without a value has its usual one; `@` is followed by the probability. What the words and
    values are is for `read_steps` to check.

    Raises:
        RecipeError: a step is empty, or a probability is no number.
    """
    steps = []
    for part in text.split(","):
        written, at, chance = part.strip().partition("@")
        name, equals, value = (piece.strip() for piece in written.partition("="))
        if not name or (equals and not value) or (at and not chance.strip()):
            raise RecipeError(
                f"--steps: {part.strip()!r} is no step; wanted is WORD, WORD=VALUE or "
                "WORD=VALUE@PROBABILITY, with commas between steps"
            )
        step: dict[str, Any] = {name: _number_or_text(value) if equals else True}
        if at:
            step[_PROBABILITY] = _number_or_text(chance.strip())
        steps.append(step)
    return steps


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _step(step: Mapping[str, Any], at: str) -> Step:
    if not isinstance(step, Mapping):
        raise RecipeError(f"{at}: a table such as {{rotation = 40}} is wanted, not {step!r}")
    names = [name for name in step if name != _PROBABILITY]
    for name in names:
        if name not in WORDS:
            advice = did_you_mean(str(name), WORDS) or f"known are {', '.join(WORDS)}"
            raise RecipeError(f"{at}: no augmentation is called {str(name)!r}; {advice}")
    if len(names) != 1:
        found = " and ".join(names) or "none"
        raise RecipeError(
            f"{at}: one word a table is wanted, such as {{rotation = 40}}, and beside it at most "
            f"{_PROBABILITY}; found {found}"
        )
    word = WORDS[names[0]]
    value = _value(word, step[word.name], f"{at}.{word.name}")
    chance = step.get(_PROBABILITY, word.probability)
    if not _is_number(chance) or not 0 <= chance <= 1:
        raise RecipeError(
            f"{at}.{_PROBABILITY}: a number from 0 to 1 is wanted, not {_said(chance)}"
        )
    return Step(word, value, float(chance))


def _value(word: Word, value: Any, at: str) -> float | str:
    if value is True:
        return word.default
    if word.name == "flip":
        if value not in FLIPS:
            raise RecipeError(f"{at}: {_said(value)} is none of {', '.join(FLIPS)}")
        return str(value)
    if not _is_number(value) or not word.low <= value <= word.high:
        raise RecipeError(
            f"{at}: a number from {word.low:g} to {word.high:g} ({word.unit}) is wanted, "
            f"not {_said(value)}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
