"""The figures that a row of a table may have."""

from __future__ import annotations

from dataclasses import dataclass

from veduta.evaluation.metrics import METRICS

__all__ = ["FIGURES", "RETRIEVAL_KEYS", "Figure", "Value"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a row.

    Attributes:
        key: its name in files.
        title: its name on a page.
        explanation: what it means, in a few words.
    """

    key: str
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Value:
    """A measured figure.

    Attributes:
        value: the figure.
        low: the lower end of the 95 % interval over the queries; None where there is none.
        high: the upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


RETRIEVAL_KEYS = frozenset(metric.key for metric in METRICS)
"""The figures of the search for the queries in the gallery."""

FIGURES = {
    figure.key: figure
    for figure in (
        *(Figure(one.key, one.title, one.explanation) for one in METRICS),
        Figure("test_accuracy", "test accuracy", "share of the data set's test photos named right"),
        Figure("gap", "GAP", "global average precision of the names of the test photos"),
        Figure("val_accuracy", "val accuracy", "share of the validation photos named right"),
        Figure("train_accuracy", "train accuracy", "share of the training photos named right"),
        Figure("val_loss", "val loss", "loss of the validation photos"),
        Figure("train_loss", "train loss", "loss of the training photos"),
    )
}
"""All figures by their keys. Those of validation and training are of the epoch that was kept."""
