"""Recognition where some queries show nothing that the gallery has.

Each query has a label, or none if it shows no place of the gallery. It has a guess, the best label
that was found, with the confidence in it. Its answer is the guess or "unknown". Figures that rank
queries against each other (GAP, risk and coverage, the area under the ROC curve) use guesses and
confidences, whatever was answered. The shares of named and rejected queries use the answers.

A new figure is one entry of `OPEN_SET_METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.evaluation.bootstrap import (
    RESAMPLES,
    Statistic,
    bootstrap_statistic,
    percentile_intervals,
)
from veduta.evaluation.figures import Figures, Measured, measured

__all__ = [
    "OPEN_SET_METRICS",
    "OpenSetFigures",
    "OpenSetMetric",
    "RiskCoverage",
    "gap_statistic",
    "global_average_precision",
    "open_set_figures",
    "open_set_statistic",
    "risk_coverage",
]


@dataclass(frozen=True, slots=True)
class AnsweredQueries:
    """Q queries with their guesses and answers; all arrays are (Q,).

    Attributes:
        known: bool, whether a query shows a place of the gallery.
        guessed: bool, whether there is a guess.
        right: bool, whether the guess is the label.
        named: bool, whether the guess was given as the answer.
        confidences: float64 in the guess, -inf without one.
    """

    known: NDArray[np.bool_]
    guessed: NDArray[np.bool_]
    right: NDArray[np.bool_]
    named: NDArray[np.bool_]
    confidences: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OpenSetMetric:
    """A figure of open-set recognition.

    Attributes:
        key: its name in JSON files, in `veduta compare` and on the command line.
        title: its name on a page.
        explanation: what it means, in a few words.
        display_order: its place on a page and on the command line. In JSON files and in `veduta
            compare` it has the place of the table.
        statistic: returns the statistic of queries, for a bootstrap: (B, Q) counts to (B, 1).
    """

    key: str
    title: str
    explanation: str
    display_order: int
    statistic: Callable[[AnsweredQueries], Statistic]


def global_average_precision(confidences: ArrayLike, right: ArrayLike, answerable: int) -> float:
    """Return the Global Average Precision (GAP, also micro-AP or µAP) of a list of predictions.

    All predictions go into one list, highest confidence first; precision at each right one is
    summed, over the number of queries that show a landmark (Perronnin, Liu, Renders, "A family of
    contextual measures of similarity between distributions with application to image retrieval",
    CVPR 2009; Weyand et al., "Google Landmarks Dataset v2", CVPR 2020).

    Equal confidences keep the order of the rows, so that the figure can be reproduced; Google's
    rule is the order of the queries' names, which is the order of rows sorted by name. scikit-learn
    instead takes all predictions of one confidence as a single step, and the mean over all orders
    of a tie is a third figure: with many ties the three differ, with none they are one.

    Args:
        confidences: (N,) of the predictions, any real numbers or infinities. A query without a
            prediction is not in the list.
        right: (N,) bool. A prediction for a query that shows no landmark is wrong, and costs those
            below it.
        answerable: how many queries show a landmark, predicted or not.

    Returns:
        A number in [0, 1]; NaN if no query shows a landmark.

    Raises:
        ValueError: shapes that differ, NaN, more right predictions than answerable queries.
    """
    values, correct = _checked(confidences, right)
    if (count := int(correct.sum())) > answerable:
        raise ValueError(f"{count} predictions are right, but only {answerable} queries can be")
    if not answerable:
        return math.nan
    ranks = np.flatnonzero(correct[np.argsort(-values, kind="stable")]) + 1
    return float(np.sum(np.arange(1, count + 1) / ranks) / answerable)


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The price of answering more queries, from the surest to the least sure.

    Attributes:
        confidence: (N,) descending.
        coverage: (N,), i / N.
        risk: (N,), the share of wrong answers among the first i.
        area: the mean risk (AURC).
        optimal_area: that of a confidence which puts every right answer before every wrong one.
        excess_area: `area` minus `optimal_area` (E-AURC).
    """

    confidence: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    area: float
    optimal_area: float
    excess_area: float


def risk_coverage(confidences: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """Return the risk-coverage curve of N answers and the areas under it.

    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010; the
    excess area is that of Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation", 2019.
    Within equal confidences the risk is the mean over all orders, so that the order of the rows
    does not matter.

    Args:
        confidences: (N,).
        right: (N,) bool.

    Returns:
        The curve.

    Raises:
        ValueError: shapes that differ, NaN, or no answer.
    """
    values, correct = _checked(confidences, right)
    if not len(values):
        raise ValueError("there are no answers")
    order = np.argsort(-values, kind="stable")
    values, wrong = values[order], ~correct[order]
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    sizes = np.diff([*starts, len(values)])
    wrong_share = np.repeat(np.add.reduceat(wrong.astype(np.float64), starts) / sizes, sizes)
    answered = np.arange(1, len(values) + 1)
    risk = np.cumsum(wrong_share) / answered
    best = np.maximum(0, answered - int(correct.sum())) / answered
    area, optimal = float(risk.mean()), float(best.mean())
    return RiskCoverage(values, answered / len(values), risk, area, optimal, area - optimal)


@dataclass(frozen=True, slots=True)
class OpenSetFigures(Figures):
    """The figures of open-set recognition: shares in [0, 1]; NaN if a share is of nothing.

    Each metric of `OPEN_SET_METRICS` is an attribute by its key: `figures.gap`,
    `figures.gap_interval`.

    Attributes:
        figures: of each metric, the value and the 95 % bootstrap interval over queries.
        known: how many queries show a place of the gallery.
        unknown: how many do not.
        named: how many queries got a name.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
    """

    figures: Mapping[str, Measured]
    known: int
    unknown: int
    named: int
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return all figures, intervals and counts by their names, as JSON types."""
        return {
            **self.figures_as_json(),
            "known": self.known,
            "unknown": self.unknown,
            "named": self.named,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def open_set_figures(
    labels: Sequence[str | None],
    guesses: Sequence[str | None],
    answered: ArrayLike,
    confidences: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OpenSetFigures:
    """Return the figures of Q queries, with intervals.

    Args:
        labels: (Q,) what each query shows; None if it shows no place of the gallery.
        guesses: (Q,) the best label that was found, whatever the confidence in it; None without.
        answered: (Q,) bool: whether the guess was given as the answer; "unknown" otherwise.
        confidences: (Q,) in the guess. Ignored without a guess, which is ranked last.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The figures.

    Raises:
        ValueError: no query, lengths that differ, a confidence that is NaN, or a query answered
            without a guess.
    """
    statistic = open_set_statistic(labels, guesses, answered, confidences)
    drawn = bootstrap_statistic(statistic, len(labels), resamples=resamples, seed=seed)
    known = sum(label is not None for label in labels)
    return OpenSetFigures(
        figures=measured(
            [metric.key for metric in OPEN_SET_METRICS],
            statistic(np.ones((1, len(labels))))[0].tolist(),
            percentile_intervals(drawn).tolist(),
        ),
        known=known,
        unknown=len(labels) - known,
        named=int(np.count_nonzero(answered)),
        resamples=resamples,
        seed=seed,
    )


def open_set_statistic(
    labels: Sequence[str | None],
    guesses: Sequence[str | None],
    answered: ArrayLike,
    confidences: ArrayLike,
    *,
    only: Collection[str] | None = None,
) -> Statistic:
    """Return the statistic of `OPEN_SET_METRICS`, for a bootstrap over queries.

    Args:
        labels: as in `open_set_figures`.
        guesses: as in `open_set_figures`.
        answered: as in `open_set_figures`.
        confidences: as in `open_set_figures`.
        only: keys of the metrics; None: all.

    Returns:
        A function from (B, Q) counts to (B, M), one column a metric, in the order of the table.

    Raises:
        ValueError: as `open_set_figures`.
    """
    named = np.asarray(answered, dtype=np.bool_)
    values = np.array(confidences, dtype=np.float64)
    if not len(labels):
        raise ValueError("there are no queries")
    if named.shape != values.shape or (len(labels),) != named.shape or len(guesses) != len(labels):
        raise ValueError(
            f"{len(labels)} labels, {len(guesses)} guesses, {named.shape} answers and "
            f"{values.shape} confidences"
        )
    guessed = np.array([guess is not None for guess in guesses], np.bool_)
    known = np.array([label is not None for label in labels], np.bool_)
    right = known & np.array(
        [guess == label for guess, label in zip(guesses, labels, strict=True)], np.bool_
    )
    if (named & ~guessed).any():
        raise ValueError(f"query {int(np.argmax(named & ~guessed))} is answered without a guess")
    values[~guessed] = -math.inf
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} confidences are NaN")
    queries = AnsweredQueries(known, guessed, right, named, values)
    statistics = [
        metric.statistic(queries)
        for metric in OPEN_SET_METRICS
        if only is None or metric.key in only
    ]
    return lambda counts: np.concatenate([figure(counts) for figure in statistics], axis=1)


def gap_statistic(
    confidences: NDArray[np.float64],
    right: NDArray[np.bool_],
    answerable: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
) -> Statistic:
    """Return the GAP of draws of Q queries, for a bootstrap.

    Equal confidences keep the order of the rows, as in `global_average_precision`.

    Args:
        confidences: (Q,), ignored where nothing is predicted.
        right: (Q,), ignored where nothing is predicted.
        answerable: (Q,), which queries show a landmark.
        predicted: (Q,), which have a prediction.

    Returns:
        A function from (B, Q) counts to (B, 1).
    """
    rows = np.flatnonzero(predicted)
    rows = rows[np.argsort(-confidences[rows], kind="stable")]
    correct = right[rows]
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, len(predicted) + 1))])

    def gap(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = counts[:, rows]
        # A right prediction drawn c times, after n others of which w are wrong, adds
        # Σ (n − w + t) / (n + t) over t = 1 … c, which is c − w (H(n + c) − H(n)).
        up_to = np.cumsum(drawn, axis=1)[:, correct].astype(np.int64)
        wrong = np.cumsum(drawn * ~correct, axis=1)[:, correct]
        times = drawn[:, correct]
        before = up_to - times.astype(np.int64)
        added = times - wrong * (harmonic[up_to] - harmonic[before])
        return _ratio(added.sum(axis=1), counts @ answerable.astype(np.float64))[:, None]

    return gap


def _auroc_statistic(queries: AnsweredQueries) -> Statistic:
    """Return the probability that a known query outranks an unknown one, ties by half."""
    order = np.argsort(queries.confidences, kind="stable")
    ascending = queries.confidences[order]
    starts = np.concatenate([[0], np.flatnonzero(ascending[1:] != ascending[:-1]) + 1])
    known = queries.known[order]

    def auroc(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = counts[:, order]
        known_here = np.add.reduceat(drawn * known, starts, axis=1)
        unknown_here = np.add.reduceat(drawn * ~known, starts, axis=1)
        unknown_below = np.cumsum(unknown_here, axis=1) - unknown_here
        pairs = known_here.sum(axis=1) * unknown_here.sum(axis=1)
        outranked = known_here * (unknown_below + unknown_here / 2)
        return _ratio(outranked.sum(axis=1), pairs)[:, None]

    return auroc


def _share(
    part: Callable[[AnsweredQueries], NDArray[np.bool_]],
    whole: Callable[[AnsweredQueries], NDArray[np.bool_]],
) -> Callable[[AnsweredQueries], Statistic]:
    """Return the statistic of a share: of the queries in `whole`, those that are in `part` too."""

    def statistic(queries: AnsweredQueries) -> Statistic:
        below = whole(queries).astype(np.float64)
        above = below * part(queries)
        return lambda counts: _ratio(counts @ above, counts @ below)[:, None]

    return statistic


OPEN_SET_METRICS: tuple[OpenSetMetric, ...] = (
    OpenSetMetric(
        key="gap",
        title="GAP",
        explanation="global average precision of the guesses, surest first, in one list",
        display_order=0,
        statistic=lambda q: gap_statistic(q.confidences, q.right, q.known, q.guessed),
    ),
    OpenSetMetric(
        key="known_named",
        title="Known named",
        explanation="of the queries that show a place of the gallery, those that got a name",
        display_order=1,
        statistic=_share(lambda q: q.named, lambda q: q.known),
    ),
    OpenSetMetric(
        key="named_right",
        title="Named right",
        explanation="of those, the share that got the right one",
        display_order=2,
        statistic=_share(lambda q: q.right, lambda q: q.known & q.named),
    ),
    OpenSetMetric(
        key="named_right_overall",
        title="Precision of names",
        explanation="of all names given, also to queries that show no place, the share that is "
        "right",
        display_order=4,
        statistic=_share(lambda q: q.right, lambda q: q.named),
    ),
    OpenSetMetric(
        key="unknown_rejected",
        title="Unknown rejected",
        explanation="of the queries that show no place of the gallery, those answered “unknown”",
        display_order=3,
        statistic=_share(lambda q: ~q.named, lambda q: ~q.known),
    ),
    OpenSetMetric(
        key="auroc",
        title="AUROC",
        explanation="how often a query that shows a place is surer than one that does not",
        display_order=6,
        statistic=_auroc_statistic,
    ),
    OpenSetMetric(
        key="guess_right",
        title="Guessed right",
        explanation="of the queries that show a place, those whose likeliest label is right, "
        "named or not",
        display_order=5,
        statistic=_share(lambda q: q.right, lambda q: q.known),
    ),
)
"""All metrics of open-set recognition, in the order of JSON files."""


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `above` / `below`, NaN over 0."""
    ratio = np.full(above.shape, np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio


def _checked(
    confidences: ArrayLike, right: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(confidences, dtype=np.float64)
    correct = np.asarray(right, dtype=np.bool_)
    if values.ndim != 1 or values.shape != correct.shape:
        raise ValueError(f"{values.shape} confidences but {correct.shape} judgements")
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} confidences are NaN")
    return values, correct
