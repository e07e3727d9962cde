"""Figures of an evaluation: each a value with its interval, read by its name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Figures", "Interval", "Measured", "json_value", "measured"]

Interval = tuple[float, float]
"""The lower and the upper end."""


class Measured(NamedTuple):
    """A value with its 95 % interval; NaN if it is undefined."""

    value: float
    interval: Interval


class Figures:
    """Base of the summaries, which declares each figure only once, in a table of metrics.

    The value of the figure "map" is `summary.map`, its interval `summary.map_interval`.

    Attributes:
        figures: name → value and interval, in the order of the table.
    """

    __slots__ = ()
    figures: Mapping[str, Measured]

    def __getattr__(self, name: str) -> Any:
        """Return the value of a figure by its name, or its interval by `NAME_interval`."""
        if name != "figures":
            if name in self.figures:
                return self.figures[name].value
            if (figure := self.figures.get(name.removesuffix("_interval"))) is not None:
                return figure.interval
        raise AttributeError(f"{type(self).__name__} has no figure {name!r}", name=name, obj=self)

    def figures_as_json(self) -> dict[str, object]:
        """Return all values by their names, then all intervals, as JSON types."""
        values = {name: figure.value for name, figure in self.figures.items()}
        intervals = {f"{name}_interval": figure.interval for name, figure in self.figures.items()}
        return {name: json_value(value) for name, value in {**values, **intervals}.items()}


def measured(
    names: Iterable[str], values: Iterable[float], intervals: Iterable[Sequence[float]]
) -> dict[str, Measured]:
    """Return figures by their names, from M names, M values and (M, 2) ends of intervals."""
    return {
        name: Measured(value, (low, high))
        for name, value, (low, high) in zip(names, values, intervals, strict=True)
    }


def json_value(value: Any) -> Any:
    """Return a value with lists for tuples, and None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
