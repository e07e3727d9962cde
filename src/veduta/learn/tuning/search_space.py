"""The search space of a tuning: keys of a recipe, each with a range or with choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec

from veduta.errors import RecipeError
from veduta.learn.recipe import Recipe, parse_value, with_values
from veduta.learn.recipe_text import toml_value
from veduta.text import did_you_mean
from veduta.validation import InvalidValue, convert

__all__ = [
    "Axis",
    "Choices",
    "Range",
    "compared_figure",
    "flatten_space",
    "parse_axis",
    "read_space",
]

# Key that cannot be tuned → why.
_FIXED_KEYS = {
    "training.monitor": "trials are compared by it",
    "training.validation": "trials would be compared on different photos",
    "training.epoch_chosen_by": "trials are compared by the validation photos",
    "network.classes": "the dataset decides it",
}

# Penalties are part of the validation loss too.
_LOSS_KEYS = ("loss.", "training.l1", "training.l2")


# A study stores the `repr` of its axes and compares it: these two classes keep their names and
# fields, or older studies cannot be continued.
@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        key: of the recipe.
        low: the smallest number.
        high: the largest number.
        step: distance of neighbouring numbers. None: any number is possible.
        log: a number from 0.001 to 0.01 is as likely as one from 0.01 to 0.1.
        whole: only whole numbers.
    """

    key: str
    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def distribution(self) -> Any:
        """Return Optuna's distribution of these numbers."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, drawn: Any) -> Any:
        """Return the recipe's value for a number that Optuna drew."""
        return drawn


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values. Any TOML value is possible.

    Attributes:
        key: of the recipe.
        values: name of a choice → its value.
    """

    key: str
    values: Mapping[str, Any]

    def distribution(self) -> Any:
        """Return Optuna's distribution of the names."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(tuple(self.values))

    def value(self, drawn: Any) -> Any:
        """Return the recipe's value for a name that Optuna drew."""
        return self.values[drawn]


Axis = Range | Choices


class _RangeTable(msgspec.Struct):
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


class _ChoicesTable(msgspec.Struct):
    choices: Annotated[list[Any], msgspec.Meta(min_length=1)]


_TABLE_KEYS = (*_RangeTable.__struct_fields__, *_ChoicesTable.__struct_fields__)

Table = TypeVar("Table", _RangeTable, _ChoicesTable)


def read_space(recipe: Recipe) -> tuple[Axis, ...]:
    """Return the axes of a recipe's `tune.space`, in their order.

    Both ends of each range and each choice are tried on the recipe.

    Args:
        recipe: the recipe.

    Raises:
        RecipeError: the space is empty, or a key, range or value of it is wrong, or without effect.
    """
    tables = flatten_space(recipe.tune.space)
    if not tables:
        raise RecipeError(
            f"{recipe.name}: nothing to tune; name keys in its [tune.space], such as "
            "training.learning_rate = { low = 1e-4, high = 1e-2, log = true }, or with --space"
        )
    _check_training(recipe)
    figure = compared_figure(recipe)
    for key in tables:
        if figure == "val_loss" and key.startswith(_LOSS_KEYS):
            raise RecipeError(
                f"{recipe.name}: tune.space: {key} changes the meaning of val_loss, so trials "
                "cannot be compared by it; set training.monitor = val_accuracy"
            )
    axes = tuple(_axis(recipe, key, table) for key, table in tables.items())
    if recipe.tune.trials < 1:
        raise RecipeError(f"{recipe.name}: tune.trials: 1 or more, not {recipe.tune.trials}")
    from veduta.learn.training.unused_settings import check_settings

    check_settings(recipe, tuple(tables))
    return axes


def compared_figure(recipe: Recipe) -> str:
    """Return the figure that trials of a recipe are compared by: "val_accuracy" or "val_loss".

    Args:
        recipe: the recipe that is tuned.
    """
    if recipe.training.monitor != "auto":
        return recipe.training.monitor
    from veduta.learn.training.losses import names_classes

    return "val_accuracy" if names_classes(recipe) else "val_loss"


def _check_training(recipe: Recipe) -> None:
    """Check that trials are compared by the validation photos."""
    training = recipe.training
    if training.epoch_chosen_by == "test":
        raise RecipeError(
            f'{recipe.name}: training.epoch_chosen_by is "test", but a study compares its trials '
            "by the validation photos and never uses the test photos; leave the setting out, and "
            "train the best recipe with it afterwards"
        )
    if training.monitor.startswith("train_"):
        raise RecipeError(
            f"{recipe.name}: training.monitor is {training.monitor}, but trials are compared by "
            "the validation photos; set training.monitor to val_accuracy or val_loss"
        )


def parse_axis(text: str) -> tuple[str, dict[str, Any]]:
    """Return the key and the table of an axis from the command line.

    Args:
        text: "key=low:high", "key=low:high:step", "key=low:high:log", or "key=one,other,third".

    Returns:
        The key, and a table as in `tune.space`, such as {"low": 16, "high": 64, "step": 16}.

    Raises:
        RecipeError: the text has another form.
    """
    key, _, rest = (part.strip() for part in text.partition("="))
    choices = rest.split(",")
    if key and len(choices) > 1:
        return key, {"choices": [parse_value(choice) for choice in choices]}
    values = [parse_value(part) for part in rest.split(":")]
    numbers = [value for value in values if _is_number(value)]
    if key and len(values) == 2 and len(numbers) == 2:
        return key, {"low": values[0], "high": values[1]}
    if key and len(values) == 3 and len(numbers) == 3:
        return key, {"low": values[0], "high": values[1], "step": values[2]}
    if key and len(values) == 3 and len(numbers) == 2 and values[2] == "log":
        return key, {"low": values[0], "high": values[1], "log": True}
    raise RecipeError(
        f"--space {text}: expected KEY=LOW:HIGH, KEY=LOW:HIGH:STEP, KEY=LOW:HIGH:log or "
        "KEY=ONE,OTHER,…"
    )


def flatten_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a search space by whole keys, such as "training.epochs".

    Args:
        space: as TOML reads it. Keys without quotes are nested tables there.
    """
    flat: dict[str, Any] = {}
    for key, value in space.items():
        # A table of tables is a part of keys. The table of an axis holds numbers and lists.
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            flat |= {f"{key}.{inner}": table for inner, table in flatten_space(value).items()}
        else:
            flat[key] = value
    return flat


def _axis(recipe: Recipe, key: str, table: Any) -> Axis:
    place = f"{recipe.name}: tune.space: {key}"
    if key in _FIXED_KEYS:
        raise RecipeError(f"{place}: cannot be tuned: {_FIXED_KEYS[key]}")
    current = _current_value(recipe, key, place)
    if not isinstance(table, Mapping):
        raise RecipeError(f"{place}: expected {{ low = …, high = … }} or {{ choices = […] }}")
    for name in table:
        if name not in _TABLE_KEYS:
            advice = did_you_mean(name, _TABLE_KEYS) or f"known are {', '.join(_TABLE_KEYS)}"
            raise RecipeError(f"{place}: unknown key {name}; {advice}")
    axis: Axis
    values: list[Any]
    if "choices" in table:
        axis = _choices(key, table, place)
        values = list(axis.values.values())
    else:
        axis = _range(key, table, place, is_float=isinstance(current, float))
        values = [int(end) if axis.whole else end for end in (axis.low, axis.high)]
    for value in values:
        try:
            with_values(recipe, {key: value})
        except RecipeError as error:
            raise RecipeError(f"tune.space: {error}") from error
    return axis


def _current_value(recipe: Recipe, key: str, place: str) -> Any:
    """Return the value of the recipe at a key, or raise if there is no such key."""
    value: Any = recipe.as_json()
    for part in key.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = list(value) if isinstance(value, Mapping) else []
            if isinstance(value, list):
                advice = f"the list has {len(value)} items, and the first one is 0"
            elif known:
                advice = did_you_mean(part, known) or f"known are {', '.join(known)}"
            else:
                advice = "it has no keys inside"
            raise RecipeError(f"{place}: the recipe has no {part!r} there; {advice}")
    return value


def _choices(key: str, table: Mapping[str, Any], place: str) -> Choices:
    others = [name for name in table if name != "choices"]
    if others:
        raise RecipeError(f"{place}: either choices or {others[0]}")
    choices = _converted(table, _ChoicesTable, place).choices
    values = {
        choice if isinstance(choice, str) else toml_value(choice): choice for choice in choices
    }
    if len(values) < len(choices):
        raise RecipeError(f"{place}: choices: a value occurs twice")
    return Choices(key, values)


def _range(key: str, table: Mapping[str, Any], place: str, *, is_float: bool) -> Range:
    """Return a range; `is_float` says that the recipe has a number with a decimal point there."""
    axis = _converted(table, _RangeTable, place)
    low, high, step = axis.low, axis.high, axis.step
    if not low < high:
        raise RecipeError(f"{place}: low must be less than high, but {low} is not less than {high}")
    if axis.log and low <= 0:
        raise RecipeError(f"{place}: with log = true, low must be greater than 0, not {low}")
    if axis.log and step is not None:
        raise RecipeError(f"{place}: either step or log = true")
    if step is not None and not _is_whole_number_of_steps(step, low, high):
        raise RecipeError(f"{place}: no number of steps of {step} leads from {low} to {high}")
    numbers = [number for number in (low, high, step) if number is not None]
    if not is_float and all(isinstance(number, int) for number in numbers):
        return Range(key, low, high, step, axis.log, whole=True)
    return Range(key, float(low), float(high), step, axis.log, whole=False)


def _converted(table: Mapping[str, Any], kind: type[Table], place: str) -> Table:
    try:
        return convert(dict(table), kind)
    except InvalidValue as error:
        raise RecipeError(f"{place}: {error}") from error


def _is_whole_number_of_steps(step: float, low: float, high: float) -> bool:
    """Tell whether steps lead from low to high, in decimals: 0.05 is exactly 1/20 here."""
    return step > 0 and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) == 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
