"""Recognition where some queries show nothing that the gallery knows.

Each query has a label, or none when it shows no place of the gallery; a guess, which is the best
label found, with the confidence in it; and an answer, which is the guess or "unknown". What ranks
queries against each other (GAP, risk and coverage, the area under the ROC curve) goes by guesses
and confidences, whatever was answered; the shares of named and rejected queries go by the answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.evaluation.bootstrap import (
    RESAMPLES,
    Statistic,
    bootstrap_statistic,
    percentile_intervals,
)
from veduta.evaluation.summary import Interval

__all__ = [
    "OPEN_SET_FIGURES",
    "OpenSetFigures",
    "RiskCoverage",
    "gap_statistic",
    "global_average_precision",
    "open_set_figures",
    "open_set_statistic",
    "risk_coverage",
]

OPEN_SET_FIGURES = (
    "gap",
    "known_named",
    "named_right",
    "named_right_overall",
    "unknown_rejected",
    "auroc",
    "guess_right",
)
"""The figures that have an interval, in the order of the columns of `open_set_statistic`."""


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
        A number in [0, 1]; NaN when no query shows a landmark.

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
    """What answering only the surest share of the queries costs.

    `confidence`: (N,) descending. `coverage`: (N,), i / N. `risk`: (N,), the share of wrong answers
    among the first i. `area`: the mean risk (AURC). `optimal_area`: that of a confidence which puts
    every right answer before every wrong one. `excess_area`: the first minus the second (E-AURC).
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

    `confidences`: (N,). `right`: (N,) bool.

    Raises `ValueError` for shapes that differ, for NaN and for no answer.
    """
    values, correct = _checked(confidences, right)
    if not len(values):
        raise ValueError("there are no answers")
    order = np.argsort(-values, kind="stable")
    values, wrong = values[order], ~correct[order]
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    sizes = np.diff([*starts, len(values)])
    spread = np.repeat(np.add.reduceat(wrong.astype(np.float64), starts) / sizes, sizes)
    answered = np.arange(1, len(values) + 1)
    risk = np.cumsum(spread) / answered
    best = np.maximum(0, answered - int(correct.sum())) / answered
    area, optimal = float(risk.mean()), float(best.mean())
    return RiskCoverage(values, answered / len(values), risk, area, optimal, area - optimal)


@dataclass(frozen=True, slots=True)
class OpenSetFigures:
    """Shares in [0, 1]; NaN where there is nothing to take a share of.

    `gap`
        Global Average Precision of the guesses, answered or not.
    `known_named`
        of the queries that show a place of the gallery, how many got a name, right or wrong.
    `named_right`
        of those, how many the right one.
    `named_right_overall`
        of all named queries, those that show no place of the gallery included, how many have the
        right name: the precision that a user meets.
    `unknown_rejected`
        of the queries that show no place of the gallery, how many were answered "unknown".
    `auroc`
        how often a query that shows a place has more confidence in its guess than one that does
        not; equal confidences count half.
    `guess_right`
        of the queries that show a place, how many are guessed right, answered or not.
    `*_interval`
        lower and upper end of the 95 % bootstrap interval over queries.
    `known`, `unknown`
        how many queries show a place of the gallery, and how many do not.
    `named`
        how many queries got a name.
    `resamples`, `seed`
        of the bootstrap.
    """

    gap: float
    known_named: float
    named_right: float
    named_right_overall: float
    unknown_rejected: float
    auroc: float
    guess_right: float
    gap_interval: Interval
    known_named_interval: Interval
    named_right_interval: Interval
    named_right_overall_interval: Interval
    unknown_rejected_interval: Interval
    auroc_interval: Interval
    guess_right_interval: Interval
    known: int
    unknown: int
    named: int
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, for `json.dump`; NaN as null."""
        return {
            name: [_plain(end) for end in value] if isinstance(value, tuple) else _plain(value)
            for name, value in asdict(self).items()
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
        guesses: (Q,) the best label found, whatever the confidence in it; None if there is none.
        answered: (Q,) bool: whether the guess was given as the answer; "unknown" otherwise.
        confidences: (Q,) in the guess. Not looked at without a guess, which is ranked last.
        resamples, seed: of the bootstrap.

    Raises:
        ValueError: no query, lengths that differ, a confidence that is NaN, or a query answered
            without a guess.
    """
    statistic = open_set_statistic(labels, guesses, answered, confidences)
    drawn = bootstrap_statistic(statistic, len(labels), resamples=resamples, seed=seed)
    figures = dict(
        zip(OPEN_SET_FIGURES, statistic(np.ones((1, len(labels))))[0].tolist(), strict=True)
    )
    intervals: dict[str, Interval] = {
        name: (low, high)
        for name, (low, high) in zip(
            OPEN_SET_FIGURES, percentile_intervals(drawn).tolist(), strict=True
        )
    }
    known = sum(label is not None for label in labels)
    return OpenSetFigures(
        gap=figures["gap"],
        known_named=figures["known_named"],
        named_right=figures["named_right"],
        named_right_overall=figures["named_right_overall"],
        unknown_rejected=figures["unknown_rejected"],
        auroc=figures["auroc"],
        guess_right=figures["guess_right"],
        gap_interval=intervals["gap"],
        known_named_interval=intervals["known_named"],
        named_right_interval=intervals["named_right"],
        named_right_overall_interval=intervals["named_right_overall"],
        unknown_rejected_interval=intervals["unknown_rejected"],
        auroc_interval=intervals["auroc"],
        guess_right_interval=intervals["guess_right"],
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
) -> Statistic:
    """Return what gives the `OPEN_SET_FIGURES` of draws of the queries, for a bootstrap.

    The arguments and the errors are those of `open_set_figures`. The statistic takes (B, Q) counts
    and returns (B, 7).
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

    gap = gap_statistic(values, right, known, guessed)
    # Of the queries in the second column, the share that is in the first too.
    shares = {
        "known_named": (known & named, known),
        "named_right": (right & named, known & named),
        "named_right_overall": (right & named, named),
        "unknown_rejected": (~known & ~named, ~known),
        "guess_right": (right, known),
    }
    over = np.stack([part for part, _ in shares.values()], axis=1).astype(np.float64)
    under = np.stack([whole for _, whole in shares.values()], axis=1).astype(np.float64)

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = dict(zip(shares, _ratio(counts @ over, counts @ under).T, strict=True))
        columns["gap"] = gap(counts)[:, 0]
        columns["auroc"] = _auroc(counts, values, known)
        return np.stack([columns[name] for name in OPEN_SET_FIGURES], axis=1)

    return figures


def gap_statistic(
    confidences: NDArray[np.float64],
    right: NDArray[np.bool_],
    answerable: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
) -> Statistic:
    """Return what gives the GAP of draws of Q queries, for a bootstrap: (B, Q) counts to (B, 1).

    `confidences`, `right`: (Q,), not looked at where nothing is predicted. `answerable`: (Q,),
    which queries show a landmark. `predicted`: (Q,), which have a prediction. Equal confidences
    keep the order of the rows, as in `global_average_precision`.
    """
    rows = np.flatnonzero(predicted)
    rows = rows[np.argsort(-confidences[rows], kind="stable")]
    correct = right[rows]
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, len(predicted) + 1))])

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = counts[:, rows]
        # A right prediction drawn c times, after n others of which w are wrong, adds
        # Σ (n − w + t) / (n + t) over t = 1 … c, which is c − w (H(n + c) − H(n)).
        upto = np.cumsum(drawn, axis=1)[:, correct].astype(np.int64)
        wrong = np.cumsum(drawn * ~correct, axis=1)[:, correct]
        times = drawn[:, correct]
        before = upto - times.astype(np.int64)
        added = times - wrong * (harmonic[upto] - harmonic[before])
        return _ratio(added.sum(axis=1), counts @ answerable.astype(np.float64))[:, None]

    return figures


def _auroc(
    counts: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (B,): the probability that a known query outranks an unknown one, ties by half."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    starts = np.concatenate([[0], np.flatnonzero(ascending[1:] != ascending[:-1]) + 1])
    drawn = counts[:, order]
    ours = np.add.reduceat(drawn * known[order], starts, axis=1)
    others = np.add.reduceat(drawn * ~known[order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others
    pairs = ours.sum(axis=1) * others.sum(axis=1)
    return _ratio((ours * (below + others / 2)).sum(axis=1), pairs)


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `over` / `under`, NaN over 0."""
    ratio = np.full(over.shape, np.nan)
    np.divide(over, under, out=ratio, where=under > 0)
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


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
