"""What a tuning may try: keys of a recipe, each with a range or with choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from veduta.errors import RecipeError
from veduta.learn.recipe import Recipe, parse_value, with_values
from veduta.learn.recipe_text import toml_value
from veduta.text import did_you_mean

__all__ = ["Axis", "Choices", "Range", "flat_space", "read_space", "space_of_text"]

_WORDS = ("low", "high", "step", "log", "choices")

# Another figure would be compared, or nothing would change.
_FIXED = {
    "training.monitor": "it is what trials are compared by",
    "training.validation": "trials would be compared on different photos",
    "network.classes": "the dataset says how many there are",
}

# Penalties are part of the loss of the validation too.
_OF_THE_LOSS = ("loss.", "training.l1", "training.l2")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included.

    `step`: between two of them; None: any. `log`: as likely from 0.001 to 0.01 as from 0.01 to 0.1.
    `whole`: whole numbers only.
    """

    key: str
    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def distribution(self) -> Any:
        """Return what Optuna calls it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, drawn: Any) -> Any:
        """Return the recipe's value of what Optuna drew."""
        return drawn


@dataclass(frozen=True, slots=True)
class Choices:
    """One of `values`, by the text that names it: any TOML value can be one."""

    key: str
    values: Mapping[str, Any]

    def distribution(self) -> Any:
        """Return what Optuna calls it: a choice between the names."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(tuple(self.values))

    def value(self, drawn: Any) -> Any:
        """Return the recipe's value of what Optuna drew."""
        return self.values[drawn]


Axis = Range | Choices


def read_space(recipe: Recipe) -> tuple[Axis, ...]:
    """Return what the recipe's `tune.space` says, in its order.

    Both ends of each range and each choice are tried on the recipe.

    Raises:
        RecipeError: there is none, or a key, a range or a value of it is wrong.
    """
    tables = flat_space(recipe.tune.space)
    if not tables:
        raise RecipeError(
            f"{recipe.name}: nothing to tune; its [tune.space] should say what, such as "
            "training.learning_rate = { low = 1e-4, high = 1e-2, log = true }, or --space"
        )
    for key in tables:
        if recipe.training.monitor == "val_loss" and key.startswith(_OF_THE_LOSS):
            raise RecipeError(
                f"{recipe.name}: tune.space: {key} changes what val_loss means, so that trials do "
                "not compare; with training.monitor = val_accuracy they do"
            )
    axes = tuple(_axis(recipe, key, table) for key, table in tables.items())
    if recipe.tune.trials < 1:
        raise RecipeError(f"{recipe.name}: tune.trials: 1 or more, not {recipe.tune.trials}")
    return axes


def space_of_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return the key and table that a text such as "training.batch=16:64:16" means.

    "key=low:high", "key=low:high:step", "key=low:high:log", or "key=one,other,third".

    Raises:
        RecipeError: it is none of these.
    """
    key, _, rest = (part.strip() for part in text.partition("="))
    parts = rest.split(",")
    if key and len(parts) > 1:
        return key, {"choices": [parse_value(part) for part in parts]}
    values = [parse_value(part) for part in rest.split(":")]
    numbers = [value for value in values if _is_number(value)]
    if key and len(values) == 2 and len(numbers) == 2:
        return key, {"low": values[0], "high": values[1]}
    if key and len(values) == 3 and len(numbers) == 3:
        return key, {"low": values[0], "high": values[1], "step": values[2]}
    if key and len(values) == 3 and len(numbers) == 2 and values[2] == "log":
        return key, {"low": values[0], "high": values[1], "log": True}
    raise RecipeError(
        f"--space {text}: wanted is KEY=LOW:HIGH, KEY=LOW:HIGH:STEP, KEY=LOW:HIGH:log or "
        "KEY=ONE,OTHER,…"
    )


def flat_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ranges by whole keys; TOML nests those of training.epochs unless it is quoted."""
    found: dict[str, Any] = {}
    for key, value in space.items():
        # A table of tables is a way to keys; a range holds numbers and lists.
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            found |= {f"{key}.{inner}": one for inner, one in flat_space(value).items()}
        else:
            found[key] = value
    return found


def _axis(recipe: Recipe, key: str, table: Any) -> Axis:
    at = f"{recipe.name}: tune.space: {key}"
    if key in _FIXED:
        raise RecipeError(f"{at}: cannot be tuned: {_FIXED[key]}")
    now = _present(recipe, key, at)
    if not isinstance(table, Mapping):
        raise RecipeError(f"{at}: wanted is {{ low = …, high = … }} or {{ choices = […] }}")
    for word in table:
        if word not in _WORDS:
            advice = did_you_mean(word, _WORDS) or f"known are {', '.join(_WORDS)}"
            raise RecipeError(f"{at}: unknown word {word}; {advice}")
    axis = _choices(key, table, at) if "choices" in table else _range(key, table, now, at)
    tried = axis.values.values() if isinstance(axis, Choices) else (axis.low, axis.high)
    for value in tried:
        whole = isinstance(axis, Range) and axis.whole
        try:
            with_values(recipe, {key: int(value) if whole else value})
        except RecipeError as error:
            raise RecipeError(f"tune.space: {error}") from error
    return axis


def _present(recipe: Recipe, key: str, at: str) -> Any:
    """Return the value that the recipe has at the key: a misspelt one of a layer has none."""
    where: Any = recipe.as_json()
    for part in key.split("."):
        if isinstance(where, Mapping) and part in where:
            where = where[part]
        elif isinstance(where, list) and part.isdecimal() and int(part) < len(where):
            where = where[int(part)]
        else:
            known = list(where) if isinstance(where, Mapping) else []
            if isinstance(where, list):
                advice = f"{part!r} is no place in a list of {len(where)}; the first one is 0"
            elif known:
                advice = did_you_mean(part, known) or f"known are {', '.join(known)}"
            else:
                advice = "it has no keys inside"
            raise RecipeError(f"{at}: the recipe has no {part!r} there; {advice}")
    return where


def _choices(key: str, table: Mapping[str, Any], at: str) -> Choices:
    others = [word for word in table if word != "choices"]
    if others:
        raise RecipeError(f"{at}: either choices or {others[0]}")
    given = table["choices"]
    if not isinstance(given, list | tuple) or not given:
        raise RecipeError(f"{at}: choices: a list of one value or more is wanted, not {given!r}")
    values = {one if isinstance(one, str) else toml_value(one): one for one in given}
    if len(values) < len(given):
        raise RecipeError(f"{at}: choices: a value is there twice")
    return Choices(key, values)


def _range(key: str, table: Mapping[str, Any], now: Any, at: str) -> Range:
    for word in ("low", "high"):
        if word not in table:
            raise RecipeError(f"{at}: {word} is missing")
    low: Any = table["low"]
    high: Any = table["high"]
    step, log = table.get("step"), table.get("log")
    for word, value in (("low", low), ("high", high), ("step", step)):
        if not _is_number(value) and not (word == "step" and value is None):
            raise RecipeError(f"{at}: {word}: a number is wanted, not {value!r}")
    if not (log is None or isinstance(log, bool)):
        raise RecipeError(f"{at}: log: true or false is wanted, not {log!r}")
    if not low < high:
        raise RecipeError(f"{at}: low must be less than high, but {low} is not less than {high}")
    if log and low <= 0:
        raise RecipeError(f"{at}: with log = true, low must be greater than 0, not {low}")
    if log and step is not None:
        raise RecipeError(f"{at}: either step or log = true")
    if step is not None and not _divides(step, low, high):
        raise RecipeError(f"{at}: no number of steps of {step} leads from {low} to {high}")
    numbers = [one for one in (low, high, step) if one is not None]
    whole = not isinstance(now, float) and all(isinstance(one, int) for one in numbers)
    made = Range(key, low, high, step, bool(log), whole)
    return made if whole else replace(made, low=float(low), high=float(high))


def _divides(step: float, low: float, high: float) -> bool:
    """Tell whether steps lead from low to high, as written: 0.05 is 1/20 here."""
    return step > 0 and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) == 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
