"""Project searches by cells to collections that are larger than the measured ones.

How many codes a query has to compare for a recall is measured at several sizes, and grows about as
a power of the number of photos. The other bound is that it grows as the number itself. The time of
a query is a constant, a part for each code that is compared, and a part for each cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.unit_costs import Searched

__all__ = ["Projection", "codes_for_recall"]


def codes_for_recall(searched: Sequence[Searched], recall: float) -> dict[int, float]:
    """Return photos → codes that a query compares for a recall, between the measured ones.

    Sizes at which it was not reached, or at which the fewest codes were more than enough, are left
    out.
    """
    found = {}
    for photos in sorted({one.photos for one in searched}):
        own = sorted((one for one in searched if one.photos == photos), key=lambda x: x.compared)
        for low, high in pairwise(own):
            if low.recall < recall <= high.recall:
                share = (recall - low.recall) / (high.recall - low.recall)
                found[photos] = low.compared * (high.compared / low.compared) ** share
                break
    return found


@dataclass(frozen=True, slots=True)
class Projection:
    """Codes and time of a query, for any number of photos.

    Attributes:
        exponent: of the number of photos, with which the codes grow.
        factor: codes for one photo, by this power.
        largest: the largest number of photos that was measured.
        share: of the codes that a query compared there.
        milliseconds: constant, for a code and for a cell.
    """

    exponent: float
    factor: float
    largest: int
    share: float
    milliseconds: tuple[float, float, float]

    @classmethod
    def of(cls, searched: Sequence[Searched], recall: float) -> Projection:
        """Fit the measured searches.

        Raises:
            ValueError: the recall was reached at fewer than two sizes.
        """
        needed = codes_for_recall(searched, recall)
        if len(needed) < 2:
            raise ValueError(
                f"the recall {recall} was reached between two measurements at {len(needed)} sizes. "
                "Measure at least two sizes: python -m benchmarks.pipeline_costs --searched …"
            )
        exponent, factor = np.polyfit(np.log(list(needed)), np.log(list(needed.values())), 1)
        largest = max(needed)
        return cls(
            float(exponent),
            math.exp(factor),
            largest,
            needed[largest] / largest,
            _milliseconds(searched),
        )

    def codes(self, photos: float) -> tuple[float, float]:
        """Return the codes that a query compares: by the power, and at most."""
        return min(photos, self.factor * photos**self.exponent), photos * self.share

    def photos_for(self, codes: float) -> float:
        """Return the number of photos for which so many codes are enough, by the power."""
        return float((codes / self.factor) ** (1 / self.exponent))

    def time(self, codes: float, cells: int) -> float:
        """Return the milliseconds of a query whose descriptors are in memory."""
        constant, of_code, of_cell = self.milliseconds
        return constant + of_code * codes + of_cell * cells


def _milliseconds(searched: Sequence[Searched]) -> tuple[float, float, float]:
    """Fit the time by least squares, without negative parts."""
    terms = np.array([[1.0, one.compared, one.cells] for one in searched])
    times = np.array([one.milliseconds for one in searched])
    kept = [0, 1, 2]
    while True:
        fitted = np.linalg.lstsq(terms[:, kept], times, rcond=None)[0]
        if (fitted >= 0).all():
            break
        kept.pop(int(fitted.argmin()))
    result = np.zeros(3)
    result[kept] = fitted
    constant, of_code, of_cell = result.tolist()
    return constant, of_code, of_cell
