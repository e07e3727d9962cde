"""What is measured of a map, and the tables of it, for similarities and for classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import format_number, table
from veduta.evaluation.bootstrap import bootstrap_intervals, paired_bootstrap
from veduta.explanation import Explanation
from veduta.explanation.controls import centred_gaussian, random_map, sobel_edges
from veduta.explanation.faithfulness import (
    blurred_fill,
    deletion_and_insertion,
    mass_inside,
    noisy_linear_fill,
    on_pixels,
    points_inside,
    rank_correlation,
)
from veduta.explanation.scorers import Scorer

STEPS = 4
"""Equal steps of the curves of deletion and insertion."""

NOISE = 8.0
"""Standard deviation of the noise on a photo, of 255."""

CHECKED_PHOTOS = 2
"""Photos whose maps are computed again with noise and with random weights."""

CONTROLS = {"centred Gaussian": centred_gaussian, "Sobel edges": sobel_edges, "random": random_map}

AREAS = ("deletion, blur", "insertion, blur", "deletion, ROAD", "insertion, ROAD")
INSIDE = ("maximum inside", "mass inside")
LOWER_IS_BETTER = {"deletion, blur", "deletion, ROAD"}

Pixels = NDArray[np.uint8]
Maker = Callable[[Pixels], Explanation]


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one method: each list has one number a photo.

    Attributes:
        values: measure → figures.
        seconds: of each map.
        with_noise: rank correlation of the map with that of the photo with noise.
        with_random_weights: rank correlation with that of a network of random weights.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    with_noise: list[float] = field(default_factory=list)
    with_random_weights: list[float] = field(default_factory=list)

    def add(self, other: Measured) -> None:
        """Append the figures of other photos."""
        for name, figures in other.values.items():
            self.values.setdefault(name, []).extend(figures)
        self.seconds.extend(other.seconds)
        self.with_noise.extend(other.with_noise)
        self.with_random_weights.extend(other.with_random_weights)


def measure(
    found: Measured,
    ranking: NDArray[np.floating],
    pixels: Pixels,
    scorer: Scorer,
    region: NDArray[np.bool_] | None,
) -> None:
    """Add the figures of one map.

    Args:
        found: what they are added to.
        ranking: (h, w), the map at the size of the photo.
        pixels: (h, w, 3) of the photo.
        scorer: gives the score of changed copies of the photo.
        region: (h, w), where the map should be high, or None.
    """
    areas = [
        area
        for fill in (blurred_fill(pixels), noisy_linear_fill(pixels))
        for area in deletion_and_insertion(scorer, fill, ranking, steps=STEPS)
    ]
    figures = dict(zip(AREAS, areas, strict=True))
    if region is not None:
        figures["maximum inside"] = float(points_inside(ranking, region))
        figures["mass inside"] = mass_inside(ranking, region)
    for name, figure in figures.items():
        found.values.setdefault(name, []).append(figure)


def ranking_of(explanation: Explanation, pixels: Pixels) -> NDArray[np.float32]:
    """Return a map at the size of a photo, which may be larger than the explained copy of it."""
    height, width = explanation.pixels.shape[:2]
    x, y, box_width, box_height = explanation.box
    down, across = pixels.shape[0] / height, pixels.shape[1] / width
    left, top = round(x * across), round(y * down)
    right, bottom = round((x + box_width) * across), round((y + box_height) * down)
    return on_pixels(explanation.map, (left, top, right - left, bottom - top), pixels.shape)


def with_noise(pixels: Pixels) -> Pixels:
    """Return a photo with a little noise."""
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def measure_controls(
    found: dict[str, Measured], pixels: Pixels, scorer: Scorer, region: NDArray[np.bool_] | None
) -> None:
    """Add the figures of the maps that know nothing of the network."""
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    for name, control in CONTROLS.items():
        ranking = on_pixels(control(pixels), whole, pixels.shape)
        measure(found.setdefault(name, Measured()), ranking, pixels, scorer, region)


def measure_method(
    found: Measured,
    make: Maker,
    make_with_random_weights: Maker | None,
    pixels: Pixels,
    scorer: Scorer,
    region: NDArray[np.bool_] | None,
) -> None:
    """Add the figures of the map of a method.

    Args:
        found: what they are added to.
        make: explains a photo.
        make_with_random_weights: explains it with a network of random weights; None: leave this
            and the noise out.
        pixels: (h, w, 3) of the photo.
        scorer: gives the score of changed copies of the photo.
        region: (h, w), where the map should be high, or None.
    """
    explained = make(pixels)
    found.seconds.append(explained.seconds)
    measure(found, ranking_of(explained, pixels), pixels, scorer, region)
    if make_with_random_weights is not None:
        noisy, random = make(with_noise(pixels)), make_with_random_weights(pixels)
        found.with_noise.append(rank_correlation(explained.map, noisy.map))
        found.with_random_weights.append(rank_correlation(explained.map, random.map))


def faithfulness_score(found: Measured) -> float:
    """Return the mean of insertion minus deletion, over both fills."""
    means = [np.mean(found.values[name]) for name in AREAS]
    return float((means[1] - means[0] + means[3] - means[2]) / 2)


def measures_table(found: Mapping[str, Measured]) -> str:
    """Return a table with one row a method, best first, then the controls."""
    first = next(iter(found.values()))
    names = list(first.values)
    ordered = sorted(found, key=lambda name: (name in CONTROLS, -faithfulness_score(found[name])))
    rows = []
    for name in ordered:
        one = found[name]
        rows.append(
            [
                name,
                f"{faithfulness_score(one):.3f}",
                *(mean_and_interval(one.values[measure]) for measure in names),
                _mean(one.with_noise),
                _mean(one.with_random_weights),
                format_number(1000 * float(np.median(one.seconds))) if one.seconds else "",
            ]
        )
    head = ["map", "insertion − deletion", *names, "noise", "random weights", "ms"]
    return table(head, rows)


def comparison_table(found: Mapping[str, Measured], chosen: str, others: Sequence[str]) -> str:
    """Return a table of how much better one method is than others, photo by photo."""
    rows = []
    names = [name for name in found[chosen].values if name != "maximum inside"]
    for other in others:
        cells = []
        for name in names:
            sign = -1 if name in LOWER_IS_BETTER else 1
            a, b = (np.array(found[one].values[name])[:, None] for one in (other, chosen))
            ends = [bootstrap_intervals(one)[0] for one in (a, b)]
            apart = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
            result = paired_bootstrap(sign * a, sign * b)
            low, high = result.interval[0]
            verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            if apart and low * high > 0:
                verdict += ", intervals apart"
            cells.append(f"{result.difference[0]:+.3f} ({low:+.3f} to {high:+.3f}): {verdict}")
        rows.append([f"{chosen} against {other}", *cells])
    return table(["", *names], rows)


def mean_and_interval(values: Sequence[float]) -> str:
    """Return a mean with its bootstrap interval of 95 %."""
    low, high = bootstrap_intervals(np.array(values)[:, None])[0]
    return f"{np.mean(values):.2f} ({low:.2f}–{high:.2f})"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f}" if values else ""
