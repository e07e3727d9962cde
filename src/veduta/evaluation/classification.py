"""Classification figures: accuracy, precision, recall, F1, averages, and the confusion matrix.

The rules:

- A photo may show none of the classes, and a photo may get no answer. Both are `None`, and
  "unknown" on the matrix. Unknown is no class: it has no precision or recall and is in no average.
  If a photo of none of the classes is given a class, it counts against the precision of that class.
- The classes are those that are shown or answered. A class that is answered and never shown counts
  in the macro average with zeros.
- A division by zero gives 0: the precision of a class that is never answered, the recall of a class
  that is never shown, the F1 of either. scikit-learn does the same with `zero_division=0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.evaluation.bootstrap import Statistic

__all__ = [
    "Averages",
    "ClassFigures",
    "Classification",
    "classification_figures",
    "classification_statistic",
]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The figures of one class.

    Attributes:
        label: the class.
        precision: share of right answers among the photos that were given the class, in [0, 1].
        recall: share of the photos of the class that were given it, in [0, 1].
        f1: harmonic mean of the two.
        support: how many photos show the class.
        answered: how many photos were given it.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    answered: int


@dataclass(frozen=True, slots=True)
class Averages:
    """Precision, recall and F1 over all classes, in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The figures of a classification.

    Attributes:
        accuracy: share of right answers. For a photo of none of the classes, no answer is right.
        balanced_accuracy: mean recall of the classes that are shown.
        macro: mean over the classes.
        weighted: mean over the classes, weighted by support.
        micro: all classes together: right answers over all answers, and over all photos that show
            a class.
        classes: in the order of their labels.
        photos: how many there are.
        unanswered: how many got no answer.
        cells: (P, 3) int64: the entries of the confusion matrix that are not zero, as rows of
            (number of the class shown, number of the class answered, photos). C, the number of
            classes, stands for unknown.
    """

    accuracy: float
    balanced_accuracy: float
    macro: Averages
    weighted: Averages
    micro: Averages
    classes: tuple[ClassFigures, ...]
    photos: int
    unanswered: int
    cells: NDArray[np.int64]

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Return (C + 1, C + 1): how many photos of the row's class were given the column's class.

        Rows and columns are in the order of `classes`. The last row is for photos of none of them,
        the last column for photos without an answer. With many classes this is large, unlike
        `cells`.
        """
        matrix = np.zeros((len(self.classes) + 1,) * 2, np.int64)
        matrix[self.cells[:, 0], self.cells[:, 1]] = self.cells[:, 2]
        return matrix

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, as JSON types.

        `confusion` is a list of objects with the keys `label`, `answer` and `photos`, one for each
        pair that occurs. Null stands for unknown.
        """
        names = [*(row.label for row in self.classes), None]
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "micro": asdict(self.micro),
            "classes": [asdict(row) for row in self.classes],
            "photos": self.photos,
            "unanswered": self.unanswered,
            "confusion": [
                {"label": names[shown], "answer": names[answer], "photos": photos}
                for shown, answer, photos in self.cells.tolist()
            ],
        }


def classification_figures(
    labels: Sequence[str | None], answers: Sequence[str | None]
) -> Classification:
    """Return the figures of N photos.

    Args:
        labels: (N,) the class that each photo shows; None for none of the classes.
        answers: (N,) the class that each photo was given; None for no answer.

    Returns:
        The figures.

    Raises:
        ValueError: lengths differ, there is no photo, or all labels and answers are None.
    """
    if len(labels) != len(answers) or not labels:
        raise ValueError(f"{len(labels)} labels and {len(answers)} answers")
    names = sorted({name for name in (*labels, *answers) if name is not None})
    if not names:
        raise ValueError("no photo shows a class, and none was given one")
    number: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    number[None] = len(names)
    shown = np.array([number[label] for label in labels], np.int64)
    given = np.array([number[answer] for answer in answers], np.int64)
    right = shown == given

    count = len(names) + 1
    support = np.bincount(shown, minlength=count)[:-1]
    answered = np.bincount(given, minlength=count)[:-1]
    hits = np.bincount(shown[right], minlength=count)[:-1]
    precision = _ratio(hits, answered)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + answered)
    of_class = np.stack([precision, recall, f1], axis=1)
    total = int(hits.sum())
    pairs, times = np.unique(shown * count + given, return_counts=True)
    return Classification(
        accuracy=float(right.mean()),
        balanced_accuracy=float(recall[support > 0].mean()) if support.any() else 0.0,
        macro=Averages(*of_class.mean(axis=0).tolist()),
        weighted=Averages(*_ratio(support @ of_class, np.full(3, support.sum())).tolist()),
        micro=Averages(
            *_ratio(
                np.array([total, total, 2 * total]),
                np.array([answered.sum(), support.sum(), answered.sum() + support.sum()]),
            ).tolist()
        ),
        classes=tuple(
            ClassFigures(
                label=name,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                support=int(support[i]),
                answered=int(answered[i]),
            )
            for i, name in enumerate(names)
        ),
        photos=len(labels),
        unanswered=int(np.count_nonzero(given == len(names))),
        cells=np.stack([pairs // count, pairs % count, times], axis=1),
    )


def classification_statistic(
    labels: Sequence[str | None], answers: Sequence[str | None]
) -> Statistic:
    """Return the accuracy and the macro F1 of draws of N photos, for a bootstrap.

    A class that a draw neither shows nor answers is in no mean of that draw.

    Args:
        labels: (N,), as in `classification_figures`.
        answers: (N,), as in `classification_figures`.

    Returns:
        A function from (B, N) counts to (B, 2).
    """
    names = sorted({name for name in (*labels, *answers) if name is not None})
    number = {name: i for i, name in enumerate(names)}
    right = np.array([a == b for a, b in zip(labels, answers, strict=True)], np.bool_)
    # A photo counts once for the class that it shows and once for the class that it was given.
    shown = [(number[name], row) for row, name in enumerate(labels) if name is not None]
    given = [(number[name], row) for row, name in enumerate(answers) if name is not None]
    times = np.array(sorted(shown + given), np.int64).reshape(-1, 2)
    starts = np.searchsorted(times[:, 0], np.arange(len(names)))
    hits = np.array([(i, row) for i, row in sorted(shown) if right[row]], np.int64).reshape(-1, 2)
    hit, hit_starts = np.unique(hits[:, 0], return_index=True)

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        below = np.add.reduceat(counts[:, times[:, 1]], starts, axis=1)
        above = np.zeros_like(below)
        if len(hit):
            above[:, hit] = 2 * np.add.reduceat(counts[:, hits[:, 1]], hit_starts, axis=1)
        classes_drawn = (below > 0).sum(axis=1)
        f1 = np.divide(above, below, out=np.zeros_like(below), where=below > 0).sum(axis=1)
        macro = np.divide(
            f1, classes_drawn, out=np.full(len(counts), np.nan), where=classes_drawn > 0
        )
        return np.stack([counts @ right / counts.sum(axis=1), macro], axis=1)

    return figures


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Return `above` / `below`, 0 over 0."""
    ratio = np.zeros(above.shape)
    np.divide(above, below, out=ratio, where=below != 0)
    return ratio
